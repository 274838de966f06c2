"""Parquet and Arrow files: columns are read as text, and a row with invalid text is a fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import InputError
from pipelines.formats.read import read, text_columns
from tests.pipelines.formats.files import QA, WRITERS, answers, as_parquet


def test_invalid_utf8_in_parquet_is_a_row_with_its_number_and_a_fault(tmp_path: Path) -> None:
    table = pa.table({"question": pa.array([b"q", b"q\xff", None], pa.binary()), "answer": ["a", "a", "a"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert answers(tmp_path / "a.parquet") == [
        (0, None, "q", "a"),
        (1, "invalid_utf8", None, None),
        (2, None, None, "a"),
    ]


@pytest.mark.parametrize(("name", "write"), WRITERS[-3:], ids=["parquet", "arrow_file", "arrow_stream"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
@pytest.mark.fault("a truncated Parquet or Arrow file", "an error names it")
def test_the_error_for_a_truncated_parquet_or_arrow_file_names_it(
    tmp_path: Path, name: str, write: Callable[[Path], None], share: float
) -> None:
    path = tmp_path / name
    write(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=rf"{name}: truncated or damaged after its first \d+ rows"):
        list(read(str(path), QA))


def test_a_column_of_lists_is_an_error_where_text_is_requested(tmp_path: Path) -> None:
    as_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"column 'other' is list<.*>, not text"):
        list(read(str(tmp_path / "a.parquet"), text_columns("other")))


def test_columns_of_other_types_are_read_as_text(tmp_path: Path) -> None:
    table = pa.table(
        {
            "question": pa.array(["q", "r"], pa.large_string()).dictionary_encode(),
            "answer": pa.array([1, None], pa.int64()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert answers(tmp_path / "a.parquet") == [(0, None, "q", "1"), (1, None, "r", None)]


def test_a_long_text_that_a_dictionary_repeats_is_read_in_small_batches(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 300, pa.int32()), pa.array(["x" * 1_000_000, "y"]))
    table = pa.table({"question": column, "answer": column})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = 0
    for part in read(str(tmp_path / "a.parquet"), QA):
        assert part.nbytes < 40_000_000
        rows += part.num_rows
    assert rows == 600


@pytest.mark.parametrize("offset", [1 << 30, -5])
def test_an_arrow_file_whose_offsets_point_outside_is_an_error(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "a.arrow"
    table = pa.table({"question": ["one", "two", "three"], "answer": ["a", "b", "c"]})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    offsets = b"".join(number.to_bytes(4, "little", signed=True) for number in (0, 3, 6, 11))
    wrong = b"".join(number.to_bytes(4, "little", signed=True) for number in (0, 3, offset, 11))
    data = path.read_bytes()
    assert offsets in data
    path.write_bytes(data.replace(offsets, wrong))
    with pytest.raises(InputError, match=r"a\.arrow: truncated or damaged"):
        list(read(str(path), QA))


def test_rows_of_an_arrow_file_that_are_not_utf8_have_a_fault(tmp_path: Path) -> None:
    text = pa.array([b"q", b"q\xff"], pa.binary()).view(pa.string())
    table = pa.table({"question": text, "answer": ["a", "b"]})
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert [row[1] for row in answers(tmp_path / "a.arrow")] == [None, "invalid_utf8"]
