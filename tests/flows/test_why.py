"""`winnow why` follows a row to the training steps that read it and the checkpoints that have seen it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli.render import fate_text, why_lines
from flows.why import why
from pipelines.audit.why import Place, StepFate
from tests.trainings import train_on
from training.provenance import trace

RECIPE = """
name: followed
sources: [{name: generated_arithmetic, adapter: generated_arithmetic, rows: 300}]
exact_duplicates: false
near_duplicates: false
tokenizer: {vocab_size: 512}
sampling: {epochs: 2, context: 129, validation: 0.1}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A root with a run and a training of three steps on its packs, with checkpoints after steps 2 and 3."""
    folder = tmp_path_factory.mktemp("root")
    train_on(folder, RECIPE)
    return str(folder)


@pytest.mark.parametrize(("step", "checkpoints"), [(2, [2, 3]), (3, [3])])
def test_a_row_of_a_step_is_read_there_and_is_in_the_checkpoints_from_then_on(
    root: str, step: int, checkpoints: list[int]
) -> None:
    earlier = {row.id for number in range(1, step) for row in trace(f"{root}/training/one", number, root).rows}
    row = next(row.id for row in trace(f"{root}/training/one", step, root).rows if row.id not in earlier)
    answer = why(row, "latest", root)
    (use,) = answer.trainings
    assert use.training == f"{root}/training/one" and (use.step, use.total_steps) == (3, 3)
    assert use.read_at == (step,)
    assert [Path(folder).name for folder in use.checkpoints] == [f"step-{number:08d}" for number in checkpoints]
    lines = "\n".join(why_lines(answer))
    assert f"read at step {step}\n" in lines and f"in the weights of step-{checkpoints[0]:08d}" in lines


def test_a_row_held_out_for_validation_is_in_no_training(root: str) -> None:
    rows = (f"generated_arithmetic/generated/{number}" for number in range(300))
    answer = next(
        answer for answer in (why(row, "latest", root) for row in rows) if answer.history[-1].verdict == "held_out"
    )
    assert answer.trainings == () and answer.verdict == "kept"
    assert "  pack                held out for validation" in "\n".join(why_lines(answer))


@pytest.mark.parametrize(
    ("fate", "text"),
    [
        ({"verdict": "kept"}, "kept"),
        ({"verdict": "trained", "draws": 1}, "in the training data once"),
        ({"verdict": "trained", "draws": 2}, "in the training data twice"),
        (
            {"verdict": "trained", "draws": 10, "truncated": True},
            "in the training data 10 times, its response truncated to fit the context",
        ),
        (
            {"verdict": "held_out", "places": (Place(split="validation", epoch=0, pack=0, file="f"),)},
            "held out for validation",
        ),
        (
            {"verdict": "held_out", "places": ()},
            "held out for validation, but in no validation pack (the sampling rules leave it out)",
        ),
        ({"verdict": "not_drawn"}, "not drawn: usable, but the sampling rules leave it out of every epoch"),
        ({"verdict": "unused", "reason": "instruction_too_long"}, "unused  [red]instruction_too_long[/red]"),
        (
            {"verdict": "dropped", "stage": "length", "reason": "long_text", "evidence": {"value": 9}},
            'dropped  [red]length/long_text  {"value": 9}[/red]',
        ),
    ],
    ids=lambda value: value["verdict"] if isinstance(value, dict) else None,
)
def test_every_fate_has_words(fate: dict, text: str) -> None:
    assert fate_text(StepFate(step="pack", shard="f", **fate)) == text
