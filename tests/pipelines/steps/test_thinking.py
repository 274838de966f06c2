"""Thinking through whole runs: wherever it stands it goes, is counted in the report, and a leak fails the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from filters.stage import Transform
from filters.text import contiguous
from filters.thinking.strip import StripThinking, Thinking, leaks
from pipelines.audit.report import facts, write_report
from pipelines.curate import curate
from pipelines.errors import CheckFailed
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import load
from pipelines.steps.ingest import ingest
from pipelines.steps.refine import refine
from tests.steps import record_run

RECIPE = """
name: traces
sources:
  - {name: inline, path: inline.jsonl, columns: {instruction: q, response: a}, condition: cot}
  - name: apart
    path: apart.jsonl
    columns: {instruction: q, response: a, thinking: reasoning_content}
    condition: cot
  - {name: chat, path: chat.jsonl, columns: {messages: messages, thinking: reasoning_content}, condition: cot}
stages: [{kind: thinking}, {kind: strip_thinking}]
exact_duplicates: false
near_duplicates: false
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 65}
"""
INLINE = ["<think>two and two</think>four", "two and two</think>four", "<think>two and", "<Thought>x</Thought>", "four"]
APART = [("so </reasoning_content> it is", "four"), ("", "five"), (None, "six"), ("cut off", ""), ("\n", "seven")]
DROPPED = {"inline/inline/2": "thinking_unclosed", "inline/inline/3": "thinking_without_answer"}


def line(**values: Any) -> str:
    return json.dumps(values) + "\n"


def turn(thinking: str | None, answer: str) -> dict[str, Any]:
    return {"role": "assistant", "content": answer} | ({} if thinking is None else {"reasoning_content": thinking})


def build(folder: Path, *settings: str) -> RecordedRun:
    """Build the recipe in this process; the run, recorded and with its report."""
    (folder / "inline.jsonl").write_text("".join(line(q=f"{i}?", a=text) for i, text in enumerate(INLINE)))
    apart = "".join(line(q=f"{i}?", reasoning_content=why, a=text) for i, (why, text) in enumerate(APART))
    (folder / "apart.jsonl").write_text(apart)
    chats = [[{"role": "user", "content": f"{i}?"}, turn(*said)] for i, said in enumerate(APART)]
    (folder / "chat.jsonl").write_text("".join(line(messages=chat) for chat in chats))
    (folder / "traces.yaml").write_text(RECIPE)
    recipe = load(str(folder / "traces.yaml"), settings)
    run = Run(str(folder / "root"), LocalEngine(1))
    done = record_run(run, recipe, curate(run, recipe), RECIPE)
    write_report(done)
    return done


def rows(run: RecordedRun, dropped: bool = False) -> dict[str, dict[str, Any]]:
    step = run.step("refine")
    assert step is not None
    tables = [storage.read_parquet(shard.path) for shard in (step.dropped if dropped else step.shards)]
    return {row["id"]: row for table in tables for row in table.to_pylist()}


def test_thinking_goes_wherever_it_stands_and_rows_without_an_answer_are_dropped(tmp_path: Path) -> None:
    run = build(tmp_path)
    kept = {name: row["response"] for name, row in rows(run).items()}
    inline = {f"inline/inline/{row}": "four" for row in (0, 1, 4)}
    apart = {f"{name}/{name}/{row}": APART[row][1] for name in ("apart", "chat") for row in (0, 1, 2, 4)}
    assert kept == inline | apart
    gone = {name: row["reason"] for name, row in rows(run, dropped=True).items()}
    assert gone == DROPPED | {"apart/apart/3": "thinking_without_answer", "chat/chat/3": "thinking_without_answer"}


def test_thinking_is_kept_in_a_column_or_its_rows_dropped_as_the_mode_says(tmp_path: Path) -> None:
    kept = rows(build(tmp_path, "stages.strip_thinking.mode=keep"))
    assert kept["apart/apart/0"]["thinking"] == kept["chat/chat/0"]["thinking"] == "so  it is"
    assert kept["inline/inline/1"]["thinking"] == "two and two" and kept["apart/apart/2"]["thinking"] == ""
    assert all("<" not in row["response"] for row in kept.values())
    any_dropped = rows(build(tmp_path, "stages.thinking.drop=any"))
    assert {row["response"] for row in any_dropped.values()} == {"four", "five", "six", "seven"}
    assert "inline/inline/0" not in any_dropped and "apart/apart/0" not in any_dropped


def test_the_report_has_a_table_of_thinking_by_source_and_family(tmp_path: Path) -> None:
    run = build(tmp_path)
    assert facts(run)["thinking"] == [
        {"source": source, "family": family, "rows": found, "blocks": found, "unclosed": unclosed, "dropped": dropped}
        for source, family, found, unclosed, dropped in (
            ("apart", "column", 2, 0, 1),
            ("chat", "column", 2, 0, 1),
            ("inline", "think", 3, 1, 1),
            ("inline", "thought", 1, 0, 1),
        )
    ]
    page = Path(run.folder, "report.html").read_text(encoding="utf-8")
    assert "Thinking removed" in page and "found none left" in page
    judged = Path(build(tmp_path, "stages=[{kind: thinking}]").folder, "report.html").read_text(encoding="utf-8")
    assert "Thinking found" in judged and "found none" not in judged
    plain = facts(build(tmp_path, "stages=[]"))
    assert plain["thinking"] == [], "nothing was looked for"


class Unescape(Transform):
    """Writes HTML's entities as characters, and so makes tags of what were none."""

    kind: Literal["unescape"] = "unescape"

    def rewrite(self, records: pa.Table) -> pa.Table:
        texts = pc.replace_substring(pc.replace_substring(records["response"], "&lt;", "<"), "&gt;", ">")
        place = records.column_names.index("response")
        return records.set_column(place, records.schema.field(place), texts)


def test_a_leak_is_a_failure_of_the_run_that_names_the_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        line(instruction="1?", response="one") + line(instruction="2?", response="&lt;think&gt;so&lt;/think&gt;two")
    )
    (tmp_path / "a.yaml").write_text("name: a\nsources: [{name: a, path: a.jsonl, condition: cot}]\n")
    run = Run(str(tmp_path / "root"), LocalEngine(1))
    records = ingest(run, load(str(tmp_path / "a.yaml")))
    with pytest.raises(CheckFailed, match=r"row a/a/1: its response still holds thinking .* '<think>so</think>two'"):
        refine(run, records, [Thinking(), StripThinking(), Unescape()])
    mended = refine(run, records, [Unescape(), Thinking(), StripThinking()])
    assert storage.read_parquet(mended.shards[0].path)["response"].to_pylist() == ["one", "two"]
    refine(run, records, [Unescape()])  # a recipe that does not strip may keep what it likes


def test_no_thinking_of_the_real_traces_is_left(tmp_path: Path, shared_data: Path) -> None:
    traces = shared_data / "sources"
    (tmp_path / "real.yaml").write_text(f"""
name: real
sources:
  - {{name: gym, adapter: reasoning_gym_eval, path: {traces}/reasoning_traces/rg_*.jsonl}}
  - {{name: nemotron, adapter: lrm_token_economy, path: {traces}/reasoning_traces/lrm_nemotron.json}}
  - {{name: marco, adapter: marco_o1, path: {traces}/marco_o1_thoughts.json}}
stages: [{{kind: thinking}}, {{kind: strip_thinking}}]
""")
    recipe = load(str(tmp_path / "real.yaml"))
    run = Run(str(tmp_path / "root"), LocalEngine(1))
    refined = refine(run, ingest(run, recipe), recipe.stages)
    for shard in refined.shards:
        responses = contiguous(storage.read_parquet(shard.path)["response"])
        assert not len(leaks(responses))
        assert not pc.any(pc.match_substring_regex(responses, r"(?i)</?(think|thought|answer|output)>")).as_py()
    found = pa.concat_tables([storage.map_arrow(side.path) for side in refined.files("thinking")]).to_pylist()
    total = {
        name: [sum(row[name] for row in found if row["source"] == source) for source in ("gym", "marco", "nemotron")]
        for name in ("blocks", "unclosed", "dropped")
    }
    assert refined.rows_dropped == sum(total["dropped"]) and refined.rows_in == 5534 + 125 + 95
    # Of those that close their thinking one has nothing behind it (and no prediction was stored of it).
    assert total == {"blocks": [5534, 125, 1], "unclosed": [15, 0, 1], "dropped": [16, 0, 1]}
