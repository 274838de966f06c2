"""`winnow score train`: the scores of a recipe by themselves, which a build then reuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.build import build
from flows.train_scores import SHARES, train_scores
from pipelines.errors import RecipeError

RECIPE = """
name: measured
sources: [{name: mine, path: rows.jsonl, columns: {instruction: q, response: a}, condition: direct}]
scores: [length, {kind: length, name: asked, on: instruction}]
stages: [{kind: score, name: length, top: 10 %}]
near_duplicates: false
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 129}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    rows = [{"q": f"Say the word {number} times.", "a": "word " * (number + 1)} for number in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "measured.yaml").write_text(RECIPE)
    return str(tmp_path / "measured.yaml")


def test_all_rows_are_measured_and_a_build_reuses_the_scores(recipe: str, tmp_path: Path) -> None:
    answer = train_scores(recipe, str(tmp_path / "root"), engine="local", workers=1)
    assert answer.rows == 40 and [score.name for score in answer.scores] == ["length", "asked"]
    quantiles = answer.scores[0].quantiles["score_length"]
    assert len(quantiles) == len(SHARES) and quantiles[2] == pytest.approx(5 * 20.5)
    built = build(recipe, str(tmp_path / "root"), engine="local", workers=1)
    reused = {step.name: step.reused for step in built.steps}
    assert reused["refine"] and reused["score-length"] and reused["score-asked"] and not reused["select"]
    assert built.rows_kept == 4 and built.run != answer.run


def test_a_recipe_without_scores_is_a_mistake(recipe: str, tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text("\n".join(line for line in RECIPE.splitlines() if not line.startswith(("scores", "stages"))))
    with pytest.raises(RecipeError, match="the recipe has no `scores`"):
        train_scores(str(path), str(tmp_path / "root"), engine="local")
