"""Every row has a fate: through the steps, the tokens, the packs and the epochs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.cut import groups_of
from pipelines.audit.difference import difference
from pipelines.audit.why import StepFate, escaped, why
from pipelines.errors import RunError
from pipelines.ledger import input_files, storage
from pipelines.ledger.runs import RecordedRun
from pipelines.steps.products import PACKS, VALIDATION_PACKS


def last(run: RecordedRun, row: str) -> StepFate:
    return why(run, row).history[-1]


@pytest.mark.parametrize(
    "row, step, reason",
    [
        ("mine/rows/17", "refine", "urls_only"),
        ("mine/rows/14", "exact-duplicates", "exact_duplicate"),
        ("mine/rows/11", "contamination", "test_leak"),
        ("mine/rows/3", "tokens", "empty_response"),
    ],
)
def test_a_dropped_row_names_the_step_and_the_reason(fates: RecordedRun, row: str, step: str, reason: str) -> None:
    fate = why(fates, row)
    assert fate.verdict == "dropped"
    assert (fate.history[-1].step, fate.history[-1].verdict, fate.history[-1].reason) == (step, "dropped", reason)
    assert fate.history[-1].evidence is not None and all(entry.verdict == "kept" for entry in fate.history[:-1])


@pytest.mark.parametrize(
    "row, reason", [("mine/rows/8", "instruction_fills_context"), ("whole/whole/0", "longer_than_context")]
)
def test_a_row_that_no_epoch_can_draw_says_why(fates: RecordedRun, row: str, reason: str) -> None:
    fate = last(fates, row)
    assert (fate.step, fate.verdict, fate.reason, fate.draws, fate.places) == ("pack", "unused", reason, 0, ())
    assert why(fates, row).verdict == "kept"


def test_every_row_of_the_corpus_lies_in_the_packs_that_its_fate_names(fates: RecordedRun) -> None:
    packs = fates.step("pack")
    assert packs is not None
    lying: dict[str, Counter[tuple[str, int, int]]] = {}
    for split, product in (("train", PACKS), ("validation", VALIDATION_PACKS)):
        number = 0
        for file in packs.files(product):
            table = storage.map_arrow(file.path)
            epoch = json.loads(table.schema.metadata[b"winnow"])["epoch"]
            for ids in table["ids"].to_pylist():
                for row in ids:
                    lying.setdefault(row, Counter())[split, epoch, number] += 1
                number += 1
    verdicts: Counter[str] = Counter()
    tokens = fates.step("tokens")
    assert tokens is not None
    for file in tokens.shards:
        for row in storage.map_arrow(file.path)["id"].to_pylist():
            fate = last(fates, row)
            assert fate.step == "pack" and fate.places is not None
            verdicts[fate.verdict] += 1
            places = Counter((place.split, place.epoch, place.pack) for place in fate.places)
            assert places == lying.get(row, Counter())
            drawn = sum(count for (split, *_), count in places.items() if split == "train")
            assert fate.draws == drawn
            assert (fate.verdict == "trained") == (drawn > 0)
            assert (fate.verdict == "unused") == (fate.reason is not None)
            if ("validation", 0) in {(split, epoch) for split, epoch, _ in places}:
                assert fate.verdict == "held_out"
    assert set(verdicts) == {"trained", "held_out", "unused", "not_drawn"}
    assert sum(verdicts.values()) == tokens.rows_kept


def test_a_response_that_the_context_cuts_is_marked(fates: RecordedRun) -> None:
    fate = last(fates, "mine/rows/5")
    assert fate.truncated and not last(fates, "mine/rows/6").truncated


def test_a_row_that_never_was_is_an_error_that_names_the_rows_of_its_file(fates: RecordedRun) -> None:
    with pytest.raises(RunError, match=r"no such row.*mine/rows has 120 rows, from mine/rows/0 to mine/rows/119"):
        why(fates, "mine/rows/999")


def test_only_steps_that_conserve_rows_count_rows(fates: RecordedRun) -> None:
    counts: dict[str, tuple[Any, ...]] = {
        step.step: (step.rows_in, step.rows_kept, step.rows_dropped) for step in fates.steps
    }
    without_rows = ("tokenizer", "benchmark-index", "pack", "training-overlap")
    for name in without_rows:
        assert counts[name] == (None, None, None)
    assert all(None not in rows for name, rows in counts.items() if name not in without_rows)


def test_a_duplicate_leads_to_the_row_that_stayed(run: RecordedRun) -> None:
    """Exact copies of rows that were dropped as near-duplicates lead over two rows; all chains end at a kept row."""
    lengths: Counter[int] = Counter()
    texts = {
        row["id"]: (row["instruction"], row["response"])
        for shard in run.steps[0].shards
        for row in storage.read_parquet(shard.path).to_pylist()
    }
    for name in ("exact-duplicates", "near-duplicates"):
        step = run.step(name)
        assert step is not None
        for shard in step.dropped:
            for row in storage.read_parquet(shard.path).to_pylist()[::8]:
                fate = why(run, row["id"])
                rows = [twin.row for twin in fate.twins]
                assert rows[0] == json.loads(row["evidence"])["twin"]
                for twin in fate.twins:
                    assert (twin.instruction, twin.response) == texts[twin.row]
                    assert bool(twin.differs) == (texts[twin.row] != (fate.instruction, fate.response))
                *dropped, last_twin = fate.twins
                for twin, following in zip(dropped, rows[1:], strict=True):
                    assert (twin.verdict, twin.step) == ("dropped", "near-duplicates")
                    assert twin.evidence is not None and twin.evidence["twin"] == following
                assert last_twin.verdict == why(run, last_twin.row).verdict == "kept" and last_twin.run == run.id
                lengths[len(rows)] += 1
    assert lengths[1] > 10 and lengths[2] > 1 and set(lengths) == {1, 2}


def test_a_row_that_is_no_duplicate_leads_nowhere(fates: RecordedRun) -> None:
    assert why(fates, "mine/rows/17").twins == () == why(fates, "mine/rows/20").twins


def test_each_transform_that_changed_a_row_is_named_with_its_whole_difference(rewritten: RecordedRun) -> None:
    refine = why(rewritten, "mine/rows/7").history[1]
    assert [(change.stages, change.field, change.differs) for change in refine.changes] == [
        (("strip_thinking",), "response", (("<think>Seven and seven.</think>", ""),)),
        (("mask_pii",), "response", (("+1 650 253 0000", "[phone]"),)),
    ]
    (repaired,) = why(rewritten, "mine/rows/4").history[1].changes
    assert repaired.stages == ("repair",)
    assert all(not entry.changes for entry in why(rewritten, "mine/rows/5").history)


def test_a_row_that_was_rewritten_and_then_dropped_shows_both(rewritten: RecordedRun) -> None:
    fate = why(rewritten, "mine/rows/9")
    (change,) = fate.history[-1].changes
    assert change.stages == ("mask_pii",) and fate.history[-1].reason == "too_long"
    assert change.differs == (("+1 650 253 0000", "[phone]"),)


def test_transforms_of_another_version_are_named_together(rewritten: RecordedRun, tmp_path: Path) -> None:
    stages = [
        stage | ({"version": 99} if stage["kind"] == "repair" else {})
        for stage in rewritten.steps[1].parameters["stages"]
    ]
    refine = rewritten.steps[1].model_copy(update={"parameters": {"stages": stages}})
    (change,) = why(rewritten._replace(steps=(rewritten.steps[0], refine)), "mine/rows/4").history[1].changes
    assert change.stages == ("strip_thinking", "mask_pii") and change.differs


def test_the_origin_of_a_row_is_its_file_with_the_digest_that_was_read(
    fates: RecordedRun, run: RecordedRun, rewritten: RecordedRun
) -> None:
    for recorded, row, file in (
        (fates, "whole/whole/1", "whole.jsonl"),
        (fates, "mine/rows/17", "rows.jsonl"),
        (run, "s/part-2/10", "part-2.jsonl"),
        (rewritten, "mine/rows/9", "rows.jsonl"),
    ):
        origin = why(recorded, row).origin
        path = Path(recorded.root).parent / file
        assert (origin.file, origin.row, origin.variant) == (file, int(row.rpartition("/")[2]), "")
        assert origin.digest == input_files.identity(str(path)) and origin.adapter is origin.licence is None


def test_the_name_of_a_group_is_that_of_the_cut() -> None:
    values = ["a", "b\\n", "c\nd", ""]
    table = pa.table({"one": values, "two": values[::-1]})
    names = groups_of(table, ("one", "two")).to_pylist()
    assert names == ["\n".join(map(escaped, pair)) for pair in zip(values, values[::-1], strict=True)]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["one ", "two ", ".", "é", "\n"]), max_size=60), st.data())
def test_a_difference_holds_what_turns_one_text_into_the_other(words: list[str], data: st.DataObject) -> None:
    left = "".join(words)
    at = data.draw(st.integers(0, len(words)))
    removed = data.draw(st.integers(0, len(words) - at))
    right = "".join([*words[:at], "NEW ", *words[at + removed :]])
    pairs = difference(left, right)
    rest = right
    for before, after in pairs:
        assert before in left and after in right
        rest = rest.replace(after, before, 1) if after else rest
    assert pairs and difference(left, left) == []
    assert difference(left, "") == ([(left, "")] if left else [])
