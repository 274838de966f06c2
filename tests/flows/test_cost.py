"""`winnow plan --train` prints the published figures for the published run, and names mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.render import training_cost_lines
from flows.cost import training_config, training_cost
from pipelines.errors import WinnowError
from pipelines.plan import plan
from pipelines.recipe import load

WINNOW = Path(sys.executable).parent / "winnow"
DEMO = Path(__file__).parents[2] / "pipelines" / "recipes" / "demo.yaml"


def winnow(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([WINNOW, "plan", *words], capture_output=True, text=True)


def test_the_cost_of_the_published_run_is_the_published_one() -> None:
    """XL on 16 H100: 1e21 operations and 46 hours (arXiv 2605.20613), 1,472 dollars at 2 an hour."""
    done = winnow("--train", "xl", "--gpus", "16", "--price", "2", "--json")
    cost = json.loads(done.stdout)["training"]
    assert (cost["tokens"], cost["parameters"]) == (60_070_000_000, 1_182_793_728)
    assert cost["flops"] == pytest.approx(1.05e21, rel=1e-3)
    assert cost["hours"] == pytest.approx(46, rel=5e-3) and cost["dollars"] == pytest.approx(1472, rel=5e-3)


def test_the_recipe_of_the_published_corpus_costs_what_the_published_run_did() -> None:
    """An epoch draws a part of the corpus: training reads the draws, not the whole corpus once per epoch."""
    done = winnow(str(DEMO.with_name("hrm_text.yaml")), "--train", "xl", "--gpus", "16", "--price", "2", "--json")
    cost = json.loads(done.stdout)["training"]
    assert cost["tokens"] == pytest.approx(60.07e9, rel=5e-3)
    assert cost["hours"] == pytest.approx(46, rel=1e-2) and cost["dollars"] == pytest.approx(1472, rel=1e-2)


def test_a_part_of_the_published_corpus_is_drawn_by_the_same_rules() -> None:
    """Without one source, or with the files of some at hand, an epoch still draws a fraction of the corpus."""
    recipe = load(str(DEMO.with_name("hrm_text.yaml")), ())
    fewer = recipe.model_copy(update={"sources": tuple(s for s in recipe.sources if s.name != "sudoku_extreme")})
    assert 12e9 < plan(fewer).drawn_tokens_per_epoch < plan(recipe).drawn_tokens_per_epoch
    whole = recipe.model_copy(update={"sampling": recipe.sampling.model_copy(update={"groups": ()})})
    assert plan(whole).drawn_tokens_per_epoch == plan(whole).tokens


def test_caps_and_repeats_of_present_files_count(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"instruction": "What is two and two?", "response": "four"}\n' * 20_000)
    text = f"name: own\nsources: [{{name: own, path: {file}}}]\nsampling: {{groups: [GROUP]}}\n"
    drawn = {}
    for group in ("{prefix: own, max_per_file: 100}", "{prefix: other, max_per_file: 100}", "{prefix: own, repeat: 3}"):
        path = tmp_path / "recipe.yaml"
        path.write_text(text.replace("GROUP", group))
        made = plan(load(str(path), ()))
        drawn[group] = made.drawn_tokens_per_epoch / made.tokens
    assert list(drawn.values()) == pytest.approx([100 / (made.text_bytes / 661), 1, 3], rel=0.01)


def test_a_recipe_gives_tokens_vocabulary_and_context() -> None:
    recipe = load(str(DEMO), ())
    tokens = plan(recipe).drawn_tokens_per_epoch
    cost = training_cost("tiny", recipe, tokens, None, 1, 2.0, None, None)
    assert cost.tokens == tokens * recipe.sampling.epochs
    assert cost.parameters == 4 * (5 * 128**2 + 3 * 128 * 512) + 2 * 2048 * 128
    assert "1,638,400 parameters" in training_cost_lines(training_config("tiny", recipe), cost)[0]
    faster = training_cost("tiny", recipe, tokens, 2 * cost.tokens, 1, 2.0, 0.8, 989.0)
    assert faster.hours == pytest.approx(cost.hours)  # twice the tokens at twice the utilisation


def test_mistakes_are_named() -> None:
    with pytest.raises(WinnowError, match="--train xll: did you mean 'xl'"):
        training_cost("xll", None, None, None, 1, 2.0, None, None)
    with pytest.raises(WinnowError, match="give the tokens: --tokens"):
        training_cost("xl", load(str(DEMO), ()), 0, None, 1, 2.0, None, None)
    done = winnow()
    assert done.returncode == 2 and "give a recipe, or --train" in done.stderr
