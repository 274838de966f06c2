"""What a build loads and prints: no Prefect without need, nothing heavy where every step is reused, a line at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = """
name: small
sources:
  - {name: sums, adapter: generated_arithmetic, rows: 400}
  - {name: problems, adapter: generated_word_problems, rows: 400}
stages: [{kind: strip_thinking}, {kind: length}]
tokenizer: {vocab_size: 600}
sampling: {epochs: 1, context: 257}
"""
LOADED = """
import contextlib, sys
from flows.cli.main import run
with contextlib.suppress(SystemExit):
    run()
print(*{name.partition(".")[0] for name in sys.modules})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe."""
    folder = tmp_path_factory.mktemp("folder")
    (folder / "small.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


def without_prefect(folder: Path) -> dict[str, str]:
    """The environment of a user who has configured no Prefect server."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return environment | {"PREFECT_HOME": str(folder / "prefect")}


def build(folder: Path, *words: str) -> tuple[list[str], set[str]]:
    """Build the recipe; returns the lines on stderr, and the top-level modules that were loaded."""
    command = [sys.executable, "-c", LOADED, "build", "small.yaml", "--root", "root", *words]
    done = subprocess.run(
        command, cwd=folder, env=without_prefect(folder), capture_output=True, text=True, timeout=300, check=True
    )
    return done.stderr.splitlines(), set(done.stdout.splitlines()[-1].split())


def test_the_local_engine_loads_no_prefect_and_a_reused_build_none_of_the_rest(folder: Path) -> None:
    lines, loaded = build(folder, "--engine", "local", "--workers", "1")
    assert lines[0] == "building small.yaml in root, engine local ..."
    assert not loaded & {"prefect", "ray", "torch"}
    lines, loaded = build(folder)
    assert lines[0] == "building small.yaml in root, engine ray ..." and sum("reused" in line for line in lines) == 7
    assert not loaded & {"prefect", "ray", "torch", "matplotlib", "datasets"}


def test_a_build_says_that_kernels_are_compiled_only_where_they_are(folder: Path, tmp_path: Path) -> None:
    lines, _ = build(folder, "--engine", "local", "--workers", "1", "--set", "stages.length.max_chars=3000")
    assert not any("compiling" in line for line in lines)
    command = [sys.executable, "-m", "flows.cli.main", "build", "small.yaml", "--engine", "local", "--root", tmp_path]
    environment = without_prefect(folder) | {"NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert "building" in process.stderr.readline() and "compiling kernels (once" in process.stderr.readline()
        process.terminate()
        assert process.wait(timeout=60) == 143
