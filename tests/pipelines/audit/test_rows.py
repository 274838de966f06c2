"""An id, a text or a digest leads to the place of its row in every step and pack, as reading all files would."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.audit import rows
from pipelines.audit.rows import Location, RowIndex, split_id
from pipelines.errors import CheckFailed
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun
from pipelines.steps.products import PACKS, RECORDS, TOKEN_ROWS, VALIDATION_PACKS
from tests.steps import records_of


def index_of(run: RecordedRun) -> RowIndex:
    return RowIndex(run, Run(run.root, LocalEngine()))


def every_place(step: Manifest) -> dict[str, list[Location]]:
    """Id -> where it lies in a step, from reading all files of it."""
    found: dict[str, list[Location]] = defaultdict(list)
    for product in (RECORDS, "dropped", TOKEN_ROWS, PACKS, VALIDATION_PACKS):
        for file in step.tables(product):
            table = storage.read_parquet(file.path) if file.path.endswith(".parquet") else storage.map_arrow(file.path)
            if product in (PACKS, VALIDATION_PACKS):
                for index, ids in enumerate(table["ids"].to_pylist()):
                    for id in ids:
                        found[id].append(Location(product, file, index))
            else:
                for index, id in enumerate(table["id"].to_pylist()):
                    found[id].append(Location(product, file, index))
    return found


def steps_with_rows(run: RecordedRun) -> Iterator[Manifest]:
    yield from (step for step in run.steps if step.kept or step.files(PACKS))


@pytest.mark.parametrize("many", [rows.MANY, 1, 10**9], ids=["as it is", "whole tables", "a part of tables"])
def test_every_row_is_found_where_reading_all_files_finds_it(
    fates: RecordedRun, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MANY", many)
    index = index_of(fates)
    ids = list(every_place(index.first))
    assert len(ids) == 122
    for step in steps_with_rows(fates):
        expected = every_place(step)
        found = dict(zip(ids, index.locate(step, ids), strict=True))
        assert {id: sorted(places) for id, places in found.items() if places} == {
            id: sorted(places) for id, places in expected.items()
        }
        if many == rows.MANY:
            assert index.locate(step, ids[7:8]) == [found[ids[7]]]


def test_an_id_that_never_was_is_nowhere(fates: RecordedRun) -> None:
    index = index_of(fates)
    for step in steps_with_rows(fates):
        assert index.locate(step, ["mine/rows/120", "mine/rows/07", "mine/rows", "", "é/\n/3"]) == [()] * 5


def test_a_corpus_of_many_shards_is_searched_by_its_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in shards of five, in every order of numbers, with tasks and variants in the ids, and files that repeat."""
    names = ["alpha/x/{}", "alpha/x/{}/answer1", "alpha/0/x/{}", "b/task/{}/part-00.jsonl", "b/x/{}"]
    ids = [name.format(number) for name in names for number in (3, 1, 2, 0, 10**17, 44, 45)]
    table = pa.table({"id": ids})
    monkeypatch.setattr(rows, "FILES_PER_ITEM", 2)
    maker = Run(str(tmp_path), LocalEngine())
    records = records_of(maker, [table.slice(start, 5) for start in range(0, len(ids), 5)])
    run = RecordedRun(str(tmp_path), "one", {"settings": {"sources": [{"name": "alpha"}, {"name": "b"}]}}, (records,))
    index = RowIndex(run, maker)
    expected = every_place(records)
    assert index.locate(records, ids) == [tuple(expected[id]) for id in ids]
    assert [index.shard_of(id) for id in ids] == [number // 5 for number in range(len(ids))]
    assert index.describe_unknown("alpha/x/46").endswith(
        "alpha/x/0 to alpha/x/100000000000000000; the nearest is alpha/x/45"
    )
    assert index.describe_unknown("alpha/x/4").endswith("the nearest is alpha/x/3")
    assert index.describe_unknown("alpha/y/45") == "did you mean alpha/x/45?"
    assert index.describe_unknown("b/tusk/46/part-00.jsonl") == "did you mean b/task/45/part-00.jsonl?"
    assert index.describe_unknown("alpa/x/44") == "did you mean alpha/x/44?"
    assert index.describe_unknown("alpa/x/46").endswith("the nearest is alpha/x/45")
    assert index.describe_unknown("ab") == "an id is <source>/<file>/<row>; source 'ab': known: alpha, b"


def test_a_text_is_found_at_its_source_and_as_a_step_rewrote_it(rewritten: RecordedRun) -> None:
    index, rewritten_rows = index_of(rewritten), 0
    for step in index.record_steps[:2]:
        for file in step.shards:
            for number, row in enumerate(storage.read_parquet(file.path).to_pylist()):
                first = next(one for one in index.record_steps if _has(one, row["id"], row["digest"]))
                for text in (row["instruction"], f"  {row['response']}\n"):
                    matches = index.with_text(text, 100)
                    assert row["id"] in [match.id for match in matches.first]
                (match,) = (one for one in index.with_digest(row["digest"], 100).first if one.id == row["id"])
                assert match.step == first.step
                if first is step:
                    assert match.location == Location(RECORDS, file, number)
                    rewritten_rows += step is index.record_steps[1]
    assert rewritten_rows == 2


def _has(step: Manifest, id: str, digest: bytes) -> bool:
    return any(
        (row["id"], row["digest"]) == (id, digest)
        for file in step.shards
        for row in storage.read_parquet(file.path).to_pylist()
    )


def test_a_text_that_no_row_has_is_nowhere(fates: RecordedRun) -> None:
    index = index_of(fates)
    assert index.with_text("no row has this", 5) == (0, ()) == index.with_digest(bytes(16), 5)


def test_texts_of_dropped_rows_are_found_and_counted(fates: RecordedRun) -> None:
    matches = index_of(fates).with_text("What is 13 plus 169? Explain it to a person of 18 years.", 1)
    assert matches.rows == 2 and [match.id for match in matches.first] == ["mine/rows/13"]


def test_a_step_with_parts_of_another_order_is_an_error(fates: RecordedRun) -> None:
    index = index_of(fates)
    step = index.record_steps[1]
    with pytest.raises(CheckFailed, match="step refine: has no part 0"):
        index.locate(step.model_copy(update={"parts": ()}), ["mine/rows/3"])


@settings(deadline=None)
@given(st.text(max_size=20), st.integers(0, 10**18 - 1), st.sampled_from(["", "/answer1", "/part.jsonl"]))
def test_an_id_is_its_prefix_number_and_suffix(name: str, number: int, suffix: str) -> None:
    id = f"{name}/{number}{suffix}"
    prefix, found, rest = split_id(id)
    assert f"{prefix}{found}{rest}" == id and (prefix, found, rest) == (f"{name}/", number, suffix)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=300), st.integers(0, 2**64 - 1), st.integers(1, 500))
@settings(max_examples=30, deadline=None)
def test_a_hash_is_found_in_a_table_of_any_distribution(hashes: list[int], other: int, repeats: int) -> None:
    import tempfile

    import numpy as np

    values = np.sort(np.array(hashes + hashes[:1] * repeats, np.uint64))
    with tempfile.TemporaryDirectory() as folder:
        places = rows._places(values, 3, np.arange(len(values), dtype=np.uint32))
        ref = storage.write_arrow(f"{folder}/t.arrow", places)
        for one in (*hashes[:5], other, 0, 2**64 - 1):
            expected = [(one, 3, row) for row in np.flatnonzero(values == np.uint64(one)).tolist()]
            assert list(rows._look_up([ref], [one])) == expected
