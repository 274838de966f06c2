"""Refine: a shard in which few rows change is written as a selection, and each stage's work is told."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from dedup.exact import digest128
from filters.length import Length
from filters.stage import Stage
from filters.thinking.strip import StripThinking, Thinking
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.steps.refine import refine
from tests.pipelines.steps.duplicates.corpora import records_table
from tests.steps import records_of

STAGES: tuple[Stage, ...] = (Length(on="response", max_chars=400), Thinking(), StripThinking(), Length(max_chars=200))


def given(rows: int, thinking: int) -> pa.Table:
    """Records of which one in `thinking` holds thinking, and one in eleven is too long."""
    numbers = range(rows)
    answers = [
        ("<think>Let me count.</think>" if n % thinking == 0 else "")
        + ("A long one. " * 50 if n % 11 == 3 else f"It is {n}.")
        for n in numbers
    ]
    table = records_table([f"s/{n}" for n in numbers], [f"What is {n}?" for n in numbers], answers)
    texts = [table[name].combine_chunks() for name in ("condition", "instruction", "response")]
    return table.set_column(5, table.schema.field("digest"), digest128(*texts))


@pytest.mark.parametrize(("thinking", "written"), [(10, ["_position", "_changed"]), (1, []), (10_000, ["_position"])])
def test_a_selection_of_changed_rows_holds_what_text_would(tmp_path: Path, thinking: int, written: list[str]) -> None:
    run = Run(str(tmp_path), LocalEngine(1))
    table = given(500, thinking)
    records = records_of(run, [table.slice(1), table.slice(1, 0)])
    text, selection = (refine(run, records, STAGES, as_text=as_text) for as_text in (True, False))
    assert text.key != selection.key and text.reasons == selection.reasons and text.reasons
    assert [file.digest for file in text.dropped] == [file.digest for file in selection.dropped]
    for one, other in zip(text.shards, selection.shards, strict=True):
        expected, found = (storage.read_parquet(file.path) for file in (one, other))
        assert found.schema.equals(expected.schema) and found.equals(expected)
    names = storage.pq.read_schema(selection.shards[0].path).names
    assert [name for name in ("_position", "_changed") if name in names] == written


def test_the_work_of_each_stage_is_summed_over_tasks_and_in_no_manifest(tmp_path: Path) -> None:
    table = given(4_000, 10)
    with LocalEngine(2) as engine:
        run = Run(str(tmp_path), engine)
        made = refine(run, records_of(run, [table.slice(0, 2_000), table.slice(2_000)]), STAGES)
    cost = run.results[-1].cost
    assert cost is not None and list(cost.parts) == ["length", "thinking", "strip_thinking", "length 2"]
    assert 0 < sum(cost.parts.values()) <= cost.core_seconds
    assert "strip_thinking" not in made.model_dump_json(include={"parts"})
