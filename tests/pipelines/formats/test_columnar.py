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
