"""The wheel, installed without the checkout: commands, recipes and the language model are in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WINNOW"))}
"""An environment without the paths of this process: the checkout must not be importable."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the files that git knows, built as a user builds it."""
    source = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (CHECKOUT / name).is_file() and not name.startswith("docs/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(CHECKOUT / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(source)], check=True, env=CLEAN
    )
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and the dependencies of this one by path. Returns its folder."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    libraries = sysconfig.get_path("purelib")
    target = sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    install = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install", "-q", "--no-deps"]
    subprocess.run([*install, str(wheel)], check=True, env=CLEAN)
    _reuse_kernels(Path(target))
    # A line in a .pth file adds the folder, but not the .pth files in it: the checkout stays invisible.
    Path(target, "dependencies.pth").write_text(libraries + "\n")
    return folder


def _reuse_kernels(target: Path) -> None:
    """Give the installed modules the kernels that are compiled for the checkout. Compiling them again takes minutes.

    Numba knows a compiled kernel by the time and size of its source.
    """
    for package in ("dedup", "filters", "pipelines", "training"):
        for module in (CHECKOUT / package).rglob("*.py"):
            copy = target / module.relative_to(CHECKOUT)
            kernels = [*(module.parent / "__pycache__").glob(f"{module.stem}.*.nb[ic]")]
            if kernels and copy.is_file() and copy.read_bytes() == module.read_bytes():
                times = module.stat()
                os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
                (copy.parent / "__pycache__").mkdir(exist_ok=True)
                for kernel in kernels:
                    shutil.copy2(kernel, copy.parent / "__pycache__")


def run(installed: Path, cwd: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the installation."""
    return subprocess.run(
        [str(installed / "bin" / command), *arguments], cwd=cwd, env=CLEAN, capture_output=True, text=True
    )


def test_the_wheel_has_the_language_model_and_the_recipes_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"filters/models/lid.176.ftz", "pipelines/recipes/demo.yaml", "pipelines/recipes/hrm_text.yaml"} <= set(
        names
    )
    assert not [name for name in names if name.startswith("tests")]


def test_the_installed_code_is_that_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "import flows, filters.language as l; print(flows.__file__); print(l.find_model(None))"
    done = run(installed, tmp_path, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(installed)) for line in done.stdout.splitlines())


def test_help_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "winnow", "--help")
    assert done.returncode == 0, done.stderr
    assert "build" in done.stdout


@pytest.mark.timeout(600)
def test_the_demo_is_built_by_name_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "winnow", "build", "demo", "--engine", "local", "--set", "sampling.epochs=1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "winnow-data" / "runs").is_dir()
    done = run(installed, tmp_path, "winnow", "plan", "hrm_text", "--set", "contamination=false")
    assert done.returncode == 0, done.stderr
