"""`from_step` makes a step and those after it again, with the same bytes; numbers out of bounds are named."""

from __future__ import annotations

from pathlib import Path

import pytest

import winnow
from flows.build import build
from flows.prefect.curate import matching_runs
from pipelines.errors import RunError, WinnowError

RECIPE = """
name: small
sources: [{name: sums, adapter: generated_arithmetic, rows: 300}]
near_duplicates: false
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 129}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("from") / "small.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    build(str(path), str(path.parent / "root"), "local", 1)
    return path


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in (root / "steps").rglob("*") if path.is_file()}


def test_the_steps_from_one_on_are_made_again_with_the_same_bytes(recipe: Path) -> None:
    root = recipe.parent / "root"
    before = files(root)
    shard = next(path for path in before if path.startswith("steps/tokens"))
    (root / shard).write_bytes(b"damaged")
    answer = build(str(recipe), str(root), "local", 1, from_step="tokenizer")
    made = [step.name for step in answer.steps if not step.reused]
    assert made == ["tokenizer", "tokens", "pack"]
    assert files(root) == before


def test_an_unknown_step_and_numbers_out_of_bounds_are_named(recipe: Path) -> None:
    root = str(recipe.parent / "root")
    with pytest.raises(WinnowError, match=r"from_step tokenz: .*did you mean 'tokens'|'tokenizer'"):
        build(str(recipe), root, "local", 1, from_step="tokenz")
    for workers in (0, -1):
        with pytest.raises(WinnowError, match=f"workers={workers}: must be at least 1"):
            winnow.build(str(recipe), root, workers=workers)


def test_patterns_of_earlier_runs_are_resolved_to_ids(recipe: Path) -> None:
    root = str(recipe.parent / "root")
    (run,) = (path.name for path in (recipe.parent / "root" / "runs").iterdir())
    assert matching_runs(root, ["small-*", run]) == [run]
    assert matching_runs(root, ["other-*"]) == []
    with pytest.raises(RunError, match="no run of this id"):
        matching_runs(root, ["other-1"])
