"""What scenarios share: the running cluster, a root for each, plain local builds to compare with, and their rows."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.cluster.compose import ROOT
from tests.compare_roots import digests

RECIPE = "tests/cluster/small.yaml"
"""Path of the small recipe below the checkout, which is the folder of commands in containers."""


@dataclass(frozen=True)
class Row:
    """A line of the table. end: the state that was reached and checked."""

    fault: str
    end: str


@dataclass
class Bench:
    """What scenarios use beside the cluster: roots, and corpora of plain local builds to compare with."""

    cluster: Cluster
    _plain: dict[str, Path] = field(default_factory=dict)

    def root(self, name: str) -> tuple[Path, str]:
        """The root of a scenario on the shared volume: as this process and as the nodes see it."""
        return self.cluster.data / name, f"/data/{name}"

    def plain(self, recipe: str = RECIPE, *options: str) -> Path:
        """The root of a build by `--engine local` outside of the cluster, made once. options: `--set` and others."""
        key = " ".join((recipe, *options))
        if key not in self._plain:
            root = self.cluster.work / "plain" / str(len(self._plain))
            winnow("build", recipe, "--engine", "local", "--root", str(root), *options)
            self._plain[key] = root
        return self._plain[key]

    def check_same(self, root: Path, plain: Path | None = None) -> None:
        """Raises: AssertionError: unless a root has every file of a plain build, byte for byte, and passes `verify`."""
        expected, found = digests(plain or self.plain()), digests(root)
        different = [path for path, digest in expected.items() if found.get(path) != digest]
        assert not different, f"{root.name}: {len(different)} of {len(expected)} files differ: {different[:5]}"
        winnow("verify", "latest", "--root", str(root))


def winnow(*arguments: str, code: int = 0) -> str:
    """Run `winnow` beside the cluster; returns stdout. Raises: AssertionError: for another exit code."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PREFECT_"))}
    done = subprocess.run(
        [str(Path(sys.executable).parent / "winnow"), *arguments],
        cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, f"winnow {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr[-3000:]}"
    return done.stdout
