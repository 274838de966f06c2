"""Two runs are compared: every row that changed with its step and reason, the cause of each step, and conditions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.cli.render import diff_lines
from pipelines.audit import diff as diffs
from pipelines.audit.changes import causes, changes
from pipelines.audit.conditions import parse
from pipelines.audit.diff import MEASURES, RunDiff, diff
from pipelines.curate import curate
from pipelines.errors import WinnowError
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import load
from tests.steps import plain_step, record_run

RECIPE = """
name: compared
sources:
  - {name: mine, path: [one.jsonl, two.jsonl], columns: {instruction: q, response: a}, condition: direct}
  - {name: sums, adapter: generated_arithmetic, rows: 60}
stages: [{kind: urls}, {kind: length, max_chars: 300}]
near_duplicates: false
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 129}
"""


def build(folder: Path, root: Path, rows: dict[str, list[dict[str, Any]]], *settings: str) -> RecordedRun:
    for name, lines in rows.items():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    recipe = load(str(folder / "recipe.yaml"), settings)
    with LocalEngine(1) as engine:
        run = Run(str(root), engine)
        return record_run(run, recipe, curate(run, recipe), RECIPE)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecordedRun, RecordedRun]:
    """A run, and another one of changed files with a shorter limit and without the stage `urls`."""
    folder = tmp_path_factory.mktemp("compared")
    long = [{"q": f"Count to {n}.", "a": " ".join(str(k) for k in range(n))} for n in range(40, 120)]
    long.append({"q": "Count to three.", "a": "One, two, three."})
    rows: list[dict[str, Any]] = [{"q": f"What is {n} times {n}?", "a": f"It is {n * n}."} for n in range(40)]
    rows[3]["a"] = "https://a.example https://b.example"
    rows[7]["a"] = rows[6]["a"]
    left = build(folder, folder / "root", {"one.jsonl": rows, "two.jsonl": long})
    rows[5]["a"] = "Twenty-five."  # changed
    rows[9] = {"q": None, "a": "A row of which no question is left."}
    rows[20], rows[21] = rows[21], rows[20]  # moved within the file: changed, as ids go by place
    rows.append({"q": "What is a newt?", "a": "An animal."})  # read for the first time
    rows.append(long.pop())  # moved to another file
    settings = ("stages=[{kind: length, min_chars: 1, max_chars: 250}]",)
    return left, build(folder, folder / "root", {"one.jsonl": rows, "two.jsonl": long}, *settings)


@pytest.fixture(scope="module")
def answer(runs: tuple[RecordedRun, RecordedRun]) -> RunDiff:
    return diff(*runs, rows=True)


def corpus(run: RecordedRun) -> dict[str, str]:
    """Id -> text of the corpus of a run."""
    rows = [row for shard in run.records.shards for row in storage.read_parquet(shard.path).to_pylist()]
    return {row["id"]: f"{row['condition']} {row['instruction']} {row['response']}" for row in rows}


def test_every_row_that_is_kept_by_one_run_alone_or_with_another_text_is_told(
    runs: tuple[RecordedRun, RecordedRun], answer: RunDiff
) -> None:
    left, right = map(corpus, runs)
    assert answer.rows is not None
    rows = {change: {row.id for row in answer.rows if row.change == change} for change in
            ("newly_kept", "newly_dropped", "changed", "moved")}  # fmt: skip
    assert rows["changed"] == {id for id in left.keys() & right.keys() if left[id] != right[id]}
    assert rows["newly_kept"] | rows["moved"] == right.keys() - left.keys()
    assert rows["moved"] == {"mine/one/41"} and rows["newly_dropped"] == left.keys() - right.keys() - {"mine/two/80"}
    assert {"mine/one/3", "mine/one/40"} <= rows["newly_kept"] and "mine/one/9" in rows["newly_dropped"]
    assert len(answer.rows) == sum(group.rows for group in answer.changes)


def test_a_row_names_the_step_and_the_reason_of_the_run_that_has_not_kept_it(answer: RunDiff) -> None:
    rows = {row.id: (row.change, row.step, row.reason) for row in answer.rows or ()}
    assert rows["mine/one/3"] == ("newly_kept", "refine", "urls/urls_only")
    assert rows["mine/one/9"] == ("newly_dropped", "ingest", "conform/null_instruction")
    assert rows["mine/one/40"] == ("newly_kept", None, None)
    long = [group for group in answer.changes if group.reason == "length/too_long"]
    assert [(group.change, group.source, group.step) for group in long] == [("newly_dropped", "mine", "refine")]
    assert long[0].rows > 3 and len(long[0].examples) == 3


def test_each_step_tells_whether_a_key_the_code_or_a_file_made_it_another_one(answer: RunDiff) -> None:
    steps = {step.name: step for step in answer.steps}
    assert [(one.kind, one.what) for one in steps["ingest"].causes] == [
        ("input", "mine/one.jsonl"),
        ("input", "mine/two.jsonl"),
    ]
    refine = {(one.kind, one.what) for one in steps["refine"].causes}
    assert refine >= {("recipe", "stages.urls"), ("recipe", "stages.length.max_chars"), ("upstream", "ingest")}
    assert [(one.kind, one.what) for one in steps["exact-duplicates"].causes] == [("upstream", "refine")]
    assert answer.settings["stages.length.max_chars"] == (300, 250) and answer.settings["stages.urls"][1] is None
    older, newer = (
        Run(f"memory://{code}", LocalEngine()).do(plain_step(code=code), lambda context: []) for code in ("1", "2")
    )
    assert [(one.kind, one.what, one.left, one.right) for one in causes(older, newer, {}, [])] == [
        ("code", "tests.steps", "1", "2")
    ]


def test_each_cause_of_a_step_is_a_line_and_a_removed_stage_is_said_to_be(answer: RunDiff) -> None:
    lines = [line.strip() for line in diff_lines(answer)]
    assert "stages.urls: removed" in lines and "recipe: stages.length.max_chars 300 -> 250" in lines
    (refine,) = [line for line in lines if line.startswith("refine ")]
    assert refine.endswith("recipe: stages.urls removed") and "{" not in "".join(lines)


def test_a_corpus_that_is_compared_in_parts_gives_the_same_answer(
    runs: tuple[RecordedRun, RecordedRun], answer: RunDiff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diffs, "ROWS_AT_ONCE", 30)
    assert diff(*runs, rows=True) == answer


def test_a_run_is_equal_to_itself(runs: tuple[RecordedRun, RecordedRun]) -> None:
    same = diff(runs[0], runs[0])
    assert not same.changes and not same.settings and all(step.same for step in same.steps)
    assert all(one.kept[0] == one.kept[1] > 0 for one in same.sources)


def test_conditions_compare_the_runs_and_name_what_they_measured(
    runs: tuple[RecordedRun, RecordedRun], answer: RunDiff
) -> None:
    (mine, _) = answer.sources
    ratio = mine.kept[1] / mine.kept[0]
    texts = ["mine.kept<0.99", "total.kept < 0.01", "*.read!=1", "sums.kept==1", "mine.newly_kept>=1"]
    held = diff(*runs, conditions=[parse(text, MEASURES) for text in texts]).violations
    assert [one.condition for one in held] == ["mine.kept<0.99", "*.read!=1", "sums.kept==1", "mine.newly_kept>=1"]
    assert held[0].value == ratio and str(held[0]).startswith(f"mine.kept is {ratio:.4g} ({mine.kept[0]} before")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine.kept", "not of the form"),
        ("kept<1", "not of the form"),
        ("mine.keptt<1", "did you mean 'kept'"),
        ("mine.kept<lots", "no number"),
        ("mine.kept<nan", "no finite number"),
        ("mime.kept<1", "did you mean 'mine'"),
        ("__import__('os').kept<1", "not of the form"),
    ],
)
def test_a_condition_that_cannot_be_tested_is_a_mistake(
    runs: tuple[RecordedRun, RecordedRun], text: str, message: str
) -> None:
    with pytest.raises(WinnowError, match=message):
        diff(*runs, conditions=[parse(text, MEASURES)])


def test_an_entry_that_is_inserted_into_a_list_does_not_rename_the_others() -> None:
    left = [{"kind": "urls"}, {"kind": "length", "max": 3}, {"kind": "length", "max": 9}]
    right = [{"kind": "c4"}, {"kind": "urls"}, {"kind": "length", "max": 3}, {"kind": "length", "max": 8}]
    found = list(changes({"stages": left}, {"stages": right}))
    assert {(one.path, one.left, one.right) for one in found[:1]} == {("stages.length.2.max", 9, 8)}
    assert [one.path for one in found] == ["stages.length.2.max", "stages.c4"]
    swapped = list(changes([{"kind": "a"}, {"kind": "b"}], [{"kind": "b"}, {"kind": "a"}], "stages"))
    assert swapped == [("stages", ["a", "b"], ["b", "a"])]
