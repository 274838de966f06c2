"""Thinking through whole runs: wherever it stands it goes, is counted in the report, and a leak fails the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from dedup.columns import as_array
from dedup.exact import digest128
from filters.length import Length
from filters.placeholder import Placeholder
from filters.stage import Stage, Transform
from filters.thinking.strip import AddedFamily, StripThinking, Thinking, rows_with_thinking
from pipelines.audit.report import facts, write_report
from pipelines.curate import curate
from pipelines.errors import CheckFailed
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest
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
    assert facts(run)["thinking"]["removed"] == [
        {
            "source": source, "name": family, "rows": found, "blocks": found, "unclosed": unclosed, "dropped": dropped,
            "share": found / kept,
        }
        for source, family, found, unclosed, dropped, kept in (
            ("apart", "column", 2, 0, 1, 4),
            ("chat", "column", 2, 0, 1, 4),
            ("inline", "think", 3, 1, 1, 3),
            ("inline", "thought", 1, 0, 1, 3),
        )
    ]  # fmt: skip
    page = Path(run.folder, "report.html").read_text(encoding="utf-8")
    assert "Thinking removed" in page and "found none left" in page
    judged = Path(build(tmp_path, "stages=[{kind: thinking}]").folder, "report.html").read_text(encoding="utf-8")
    assert "Thinking found" in judged and "found none" not in judged
    plain = facts(build(tmp_path, "stages=[]"))
    assert not plain["thinking"]["removed"] and not plain["thinking"]["left"], "nothing was looked for"


def refined(folder: Path, stages: Sequence[Stage], *pairs: tuple[str, str, str]) -> Manifest:
    """The step `refine` over records of (condition, instruction, response)."""
    lines = "".join(line(condition=how, instruction=asked, response=said) for how, asked, said in pairs)
    (folder / "a.jsonl").write_text(lines)
    (folder / "a.yaml").write_text("name: a\nsources: [{name: a, path: a.jsonl}]\n")
    run = Run(str(folder / "root"), LocalEngine(1))
    return refine(run, ingest(run, load(str(folder / "a.yaml"))), stages)


def of(step: Manifest, dropped: bool = False) -> list[dict[str, Any]]:
    shards = step.dropped if dropped else step.shards
    return [row for shard in shards for row in storage.read_parquet(shard.path).to_pylist()]


def found_by(step: Manifest) -> dict[tuple[str, str], int]:
    """Finding and name -> rows."""
    tables = [storage.map_arrow(file.path) for file in step.files("thinking")]
    return {(row["finding"], row["name"]): row["rows"] for table in tables for row in table.to_pylist()}


BARE, WORKED = "<think>16 - 7 = 9</think>\n\\boxed{9}", "<think>hm</think>She has 16 eggs. She eats 7. So 9 are left."


def test_a_bare_answer_under_cot_becomes_direct_and_a_worked_one_stays(tmp_path: Path) -> None:
    rows = [("synth,cot", "1?", BARE), ("cot,noisy", "2?", BARE), ("synth,cot", "3?", WORKED), ("direct", "4?", BARE)]
    step = refined(tmp_path, [Thinking(), StripThinking()], *rows, ("synth,cot", "5?", "9"))
    kept = of(step)
    assert [row["condition"] for row in kept] == ["synth,direct", "direct,noisy", "synth,cot", "direct", "synth,cot"]
    assert [row["id"] for row in kept] == [f"a/a/{n}" for n in range(5)]
    contents = (pa.array([row[name] for row in kept]) for name in ("condition", "instruction", "response"))
    assert [row["digest"] for row in kept] == digest128(*contents).to_pylist()
    found = found_by(step)
    assert found["retagged", "synth,cot"] == 1 and found["retagged", "cot,noisy"] == 1
    assert found["bare_answer", "synth,cot"] == 1, "it had no thinking, so its source says how it answers"


def test_a_bare_answer_under_cot_is_dropped_or_kept_as_the_setting_says(tmp_path: Path) -> None:
    rows = [("synth,cot", "1?", BARE), ("synth,cot", "3?", WORKED)]
    step = refined(tmp_path, [StripThinking(bare_answer="drop")], *rows)
    gone = of(step, dropped=True)
    assert [(row["stage"], row["reason"], row["response"]) for row in gone] == [("strip_thinking", "bare_answer", BARE)]
    assert [row["instruction"] for row in of(step)] == ["3?"]
    kept = refined(tmp_path, [StripThinking(bare_answer="keep")], *rows)
    assert [row["condition"] for row in of(kept)] == ["synth,cot", "synth,cot"]
    assert found_by(kept)["bare_answer", "synth,cot"] == 1


def test_a_response_that_came_empty_is_not_dropped_by_strip_thinking(tmp_path: Path) -> None:
    step = refined(tmp_path, [StripThinking(), Placeholder()], ("direct", "a?", ""))
    assert [(row["stage"], row["reason"]) for row in of(step, dropped=True)] == [("placeholder", "empty_response")]


@pytest.mark.parametrize("stages", [[StripThinking()], [StripThinking(), Length()], [Length(), StripThinking()]])
def test_a_response_that_stripping_empties_is_dropped_in_its_name(tmp_path: Path, stages: list[Stage]) -> None:
    texts = ["<think>so</think>", "<think>cut off", "\u00a0<think>x</think> \u3000", "<think>a</think>b"]
    step = refined(tmp_path, stages, *(("direct", f"{n}?", text) for n, text in enumerate(texts)))
    assert [row["response"] for row in of(step)] == ["b"]
    gone = of(step, dropped=True)
    assert {(row["stage"], row["reason"]) for row in gone} == {("strip_thinking", "empty_response")}
    assert sorted(row["response"] for row in gone) == sorted(texts[:3]), "as they were before"
    assert (step.rows_in, step.rows_kept, step.rows_dropped) == (4, 1, 3)


def test_the_report_names_marks_left_and_families_that_are_not_known(tmp_path: Path) -> None:
    said = ["<ponder>so it is</ponder> 4", "<|muse|>hm 4", "4", "The <think> tag opens a block and </think> closes it."]
    asks = "Annotate the line with <thought> tags."
    pairs = [("direct", f"{n} {m}?", text) for n, text in enumerate(said) for m in range(3)]
    step = refined(tmp_path, [StripThinking()], *pairs, ("direct", asks, "Ann: <thought>oh</thought> Hello!"))
    found = found_by(step)
    assert found["suspected", "<ponder>"] == 3 and found["suspected", "<|muse|>"] == 3
    assert found["left", "<think>"] == found["left", "</think>"] == found["left", "<|muse|>"] == 3
    assert found["left", "<thought>"] == 1 and step.rows_dropped == 0
    mended = [AddedFamily(name="ponder", opens=("<ponder>", "<|muse|>"), closes=("</ponder>",))]
    again = refined(tmp_path, [StripThinking(families=tuple(mended))], *pairs)
    assert ("suspected", "<ponder>") not in found_by(again) and found_by(again)["removed", "ponder"] == 6


class Unquote(Transform):
    """Writes tags for marks of its own, and so makes thinking of what was none."""

    kind: Literal["unquote"] = "unquote"

    def rewrite(self, records: pa.Table) -> pa.Table:
        texts = pc.replace_substring(pc.replace_substring(records["response"], "{{", "<"), "}}", ">")
        place = records.column_names.index("response")
        return records.set_column(place, records.schema.field(place), texts)


def test_a_leak_is_a_failure_of_the_run_that_names_the_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        line(instruction="1?", response="one") + line(instruction="2?", response="{{think}}so{{/think}}two")
    )
    (tmp_path / "a.yaml").write_text("name: a\nsources: [{name: a, path: a.jsonl, condition: cot}]\n")
    run = Run(str(tmp_path / "root"), LocalEngine(1))
    records = ingest(run, load(str(tmp_path / "a.yaml")))
    with pytest.raises(CheckFailed, match=r"row a/a/1: its response still holds thinking .* '<think>so</think>two'"):
        refine(run, records, [Thinking(), StripThinking(), Unquote()])
    mended = refine(run, records, [Unquote(), Thinking(), StripThinking()])
    assert storage.read_parquet(mended.shards[0].path)["response"].to_pylist() == ["one", "two"]
    refine(run, records, [Unquote()])  # a recipe that does not strip may keep what it likes


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
        responses = as_array(storage.read_parquet(shard.path)["response"])
        assert not len(rows_with_thinking(responses))
        assert not pc.any(pc.match_substring_regex(responses, r"(?i)</?(think|thought|answer|output)>")).as_py()
    found = pa.concat_tables([storage.map_arrow(side.path) for side in refined.files("thinking")]).to_pylist()
    total = {
        name: [sum(row[name] for row in found if row["source"] == source) for source in ("gym", "marco", "nemotron")]
        for name in ("blocks", "unclosed", "dropped")
    }
    assert refined.rows_dropped == sum(total["dropped"]) and refined.rows_in == 5534 + 125 + 95
    # Of those that close their thinking one has nothing behind it (and no prediction was stored of it).
    assert total == {"blocks": [5534, 125, 1], "unclosed": [15, 0, 1], "dropped": [16, 0, 1]}
