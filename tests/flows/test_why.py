"""`winnow why` follows a row to the training steps that read it and the checkpoints that have seen it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli.render_why import fate_text, found_lines, why_lines
from flows.why import why, why_digest, why_text
from pipelines.audit.why import Place, StepFate
from pipelines.errors import CheckFailed, RunError, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.runs import RecordedRun
from tests.pipelines.audit import rewritten_rows
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


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """A run whose transforms changed rows."""
    return rewritten_rows.build(tmp_path_factory.mktemp("rewritten"))


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
    lines = "\n".join(map(str, why_lines(answer)))
    assert f"read at step {step}\n" in lines and f"in the weights of step-{checkpoints[0]:08d}" in lines


def test_a_row_held_out_for_validation_is_in_no_training(root: str) -> None:
    rows = (f"generated_arithmetic/generated/{number}" for number in range(300))
    answer = next(
        answer for answer in (why(row, "latest", root) for row in rows) if answer.history[-1].verdict == "held_out"
    )
    assert answer.trainings == () and answer.verdict == "kept"
    assert "  pack                held out for validation" in "\n".join(map(str, why_lines(answer)))


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
        ({"verdict": "unused", "reason": "instruction_too_long"}, "unused  instruction_too_long"),
        (
            {"verdict": "dropped", "stage": "length", "reason": "long_text", "evidence": {"value": 9000.5}},
            "dropped  length/long_text  value 9,000.5",
        ),
    ],
    ids=lambda value: value["verdict"] if isinstance(value, dict) else None,
)
def test_every_fate_has_words(fate: dict, text: str) -> None:
    assert str(fate_text(StepFate(step="pack", shard="f", **fate))) == text


def test_a_text_or_a_digest_tells_the_same_story_as_the_id(root: str) -> None:
    by_id = why("generated_arithmetic/generated/17", "latest", root)
    assert [row.fate for row in why_digest(f" {by_id.digest.upper()}", "latest", root).rows] == [by_id]
    found = why_text(by_id.instruction.replace(" ", "  "), "latest", root)
    assert by_id in [row.fate for row in found.rows] and all(row.step == "ingest" for row in found.rows)
    line, *_ = map(str, found_lines(found))
    assert by_id.row in line


def test_rows_with_the_same_text_are_listed_with_what_became_of_each(rewritten: RecordedRun) -> None:
    found = why_text("It is 20.", rewritten.id, rewritten.root)
    assert [(row.fate.row, row.fate.verdict) for row in found.rows] == [
        ("mine/rows/10", "kept"),
        ("mine/rows/11", "dropped"),
    ]
    lines = [str(line) for line in found_lines(found)]
    assert lines[0] == f"2 rows of run {rewritten.id} with this text:" and "exact_duplicate" in lines[2]
    assert len(why_text("It is 20.", rewritten.id, rewritten.root, limit=1).rows) == 1


def test_a_text_as_a_transform_left_it_finds_its_row(rewritten: RecordedRun) -> None:
    found = why_text("It is 14. Call [phone].", rewritten.id, rewritten.root)
    assert [(row.step, row.fate.row) for row in found.rows] == [("refine", "mine/rows/7")]
    assert "[phone]" in "\n".join(map(str, found_lines(found)))


@pytest.mark.parametrize(
    ("search", "given", "error", "said"),
    [
        (why_text, "no row says this", RunError, "winnow similar"),
        (why_text, " \n", WinnowError, "it is empty"),
        (why_digest, "0" * 32, RunError, "no row of run .* has the digest"),
        (why_digest, "12ab", WinnowError, "32 hex digits"),
        (why_digest, "z" * 32, WinnowError, "32 hex digits"),
    ],
)
def test_a_search_without_a_result_says_what_to_do(
    rewritten: RecordedRun, search: Callable[..., object], given: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        search(given, rewritten.id, rewritten.root)


def test_a_root_that_cannot_be_written_is_still_explained(
    rewritten: RecordedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(rewritten.root, tmp_path / "root", ignore=shutil.ignore_patterns("*-index-*"))
    monkeypatch.setattr(os, "access", lambda *_: False)  # this process may be root's, whom no mode stops
    before = sorted((copy / "steps").iterdir())
    assert why("mine/rows/7", rewritten.id, str(copy)).verdict == "kept"
    assert sorted((copy / "steps").iterdir()) == before


def test_a_step_that_lost_a_row_is_named(rewritten: RecordedRun, tmp_path: Path) -> None:
    copy = shutil.copytree(rewritten.root, tmp_path / "root")
    (refine,) = (copy / "steps").glob("refine-*")
    path = str(refine / "shards" / "part-00000.parquet")
    table = storage.read_parquet(path)
    storage.write_parquet(path, table.slice(0, 3))
    with pytest.raises(CheckFailed, match=r"mine/rows/7: step refine neither kept nor dropped it.*winnow verify"):
        why("mine/rows/7", rewritten.id, str(copy))
    Path(path).write_bytes(b"not Parquet")
    with pytest.raises(WinnowError, match=f"{path}: cannot be read as Parquet"):
        why("mine/rows/7", rewritten.id, str(copy))


def test_a_story_loads_neither_filters_nor_pandas(rewritten: RecordedRun) -> None:
    """They take most of the second in which the command answers."""
    why("mine/rows/10", rewritten.id, rewritten.root)  # the indexes are made
    program = f"""
import sys
from flows.cli import render_why
from flows.why import why
for row in ("mine/rows/10", "mine/rows/11"):
    list(render_why.why_lines(why(row, {rewritten.id!r}, {rewritten.root!r})))
print(*({{"pandas", "polars", "numba", "filters.stage", "torch", "numpy.ma"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
