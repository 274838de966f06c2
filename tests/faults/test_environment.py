"""What the surroundings of a build must not change: hash seeds, locales, time zones, masks of files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import WinnowError
from pipelines.settings import parse_document
from tests.compare_roots import digests

BIN = Path(sys.executable).parent
RECIPE = """
name: surroundings
sources:
  - {name: sums, adapter: generated_arithmetic, rows: 600}
  - {name: web, adapter: generated_web, rows: 400}
stages: [{kind: repair}, {kind: strip_thinking}, {kind: length}, {kind: language}]
contamination: {benchmarks: [{name: generated, rows: 50}]}
tokenizer: {vocab_size: 600}
sampling: {epochs: 2, context: 129}
"""


def build(folder: Path, name: str, mask: int = 0o022, **environment: str) -> dict[str, str]:
    """The digests of the files of a build in this environment."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    command = [BIN / "winnow", "build", recipe, "--root", folder / name, "--engine", "local", "--workers", "1"]
    done = subprocess.run(
        command, env={**os.environ, **environment}, umask=mask, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return digests(folder / name)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return build(tmp_path_factory.mktemp("usual"), "root")


@pytest.mark.fault("another hash seed, locale, time zone, terminal or mask of files", "same bytes")
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONHASHSEED": "12345"},
        {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "tr_TR.UTF-8", "TZ": "Pacific/Chatham", "TERM": "dumb", "COLUMNS": "20"},
    ],
    ids=["hash seed", "C locale", "Turkish, Chatham"],
)
def test_the_surroundings_change_no_byte(tmp_path: Path, usual: dict[str, str], environment: dict[str, str]) -> None:
    assert build(tmp_path, "root", mask=0o077, **environment) == usual


@pytest.mark.fault("a YAML file whose aliases grow to gigabytes, or to no end", "refused at once")
@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
        "name: &loop [*loop]\n",
        "[" * 100_000,
    ],
    ids=["billion laughs", "a list in itself", "100,000 brackets"],
)
def test_a_yaml_bomb_is_refused(text: str) -> None:
    from pipelines.recipe import of_values

    with pytest.raises(WinnowError):
        of_values(parse_document(text.encode()).value)


@pytest.mark.fault("an input that is a named pipe, or a setting beyond all numbers", "refused at once, by name")
def test_what_cannot_be_read_or_counted_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    for words, told in (
        (["init", tmp_path / "pipe.jsonl"], "pipe.jsonl: not a file that can be read"),
        (["check", "demo", "--set", "seed=1e400"], "seed: expected a whole number"),
        (["check", "demo", "--set", "seed=-5"], "seed: expected a number of at least 0"),
    ):
        done = subprocess.run([BIN / "winnow", *words], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr
