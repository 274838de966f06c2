"""CSV and TSV: every row is returned with its number, a bad one with its fault."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.formats.delimited import CSV, Dialect, read_open_file, split_rows
from pipelines.formats.read import Spelling, read
from tests.pipelines.formats.files import QA, answers, rows_of


def test_a_csv_row_with_too_many_fields_or_invalid_utf8_is_a_row_with_its_number_and_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'question,answer\nq,"a, b\nc ""d"""\nq,a,extra\nq\n\nq,\xff\nq,z\n')
    assert answers(tmp_path / "a.csv") == [
        (0, None, "q", 'a, b\nc "d"'),
        (1, "wrong_columns", None, None),
        (2, "wrong_columns", None, None),
        (3, "invalid_utf8", None, None),
        (4, None, "q", "z"),
    ]


def test_a_quote_that_is_never_closed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('question,answer\nq,a\nq,"a\nq,a\nq,a\n')
    with pytest.raises(InputError, match=r"a\.csv: cannot be read beyond its first 1 rows: it opens a quote"):
        list(read(str(tmp_path / "a.csv"), QA))


def test_a_tsv_without_quotes_and_header_keeps_its_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('"q" one\ta "b\nq\n"x\ty\n')
    dialect = Dialect("\t", quoted=False, names=("question", "answer"))
    assert answers(tmp_path / "a.tsv", dialect=dialect) == [
        (0, None, '"q" one', 'a "b'),
        (1, "wrong_columns", None, None),
        (2, None, '"x', "y"),
    ]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.text('ab,"\n\t é', max_size=6), min_size=2, max_size=2), min_size=1, max_size=8),
    pieces=st.integers(1, 40),
)
def test_a_csv_file_split_into_any_blocks_has_the_same_rows(rows: list[list[str]], pieces: int) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerows(rows)
    data = written.getvalue().encode()
    parts = iter([bytearray(data[i : i + pieces]) for i in range(0, len(data), pieces)])
    blocks = list(split_rows(parts, CSV, 2))
    lines = [block.row(i).decode() for block in blocks for i in range(len(block.starts))]
    assert [next(csv.reader(io.StringIO(line, newline=""))) for line in lines] == rows
    tables = read_open_file("a.csv", io.BytesIO(b"question,answer\n" + data), QA, (), CSV)
    parsed = [row for table in tables for row in table.to_pylist()]
    assert [(row["fault"], [row["question"], row["answer"]]) for row in parsed] == [(None, fields) for fields in rows]


def test_carriage_returns_inside_lines_do_not_shift_rows(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"q\ta\rb\tc\n\r\r\nq\ta\rb\nq\ta\n")
    dialect = Dialect("\t", quoted=False, names=("question", "answer"))
    assert answers(tmp_path / "a.tsv", dialect=dialect) == [
        (0, "wrong_columns", None, None),
        (1, "wrong_columns", None, None),
        (2, None, "q", "a\rb"),
        (3, None, "q", "a"),
    ]


def test_a_long_field_is_read_beside_a_malformed_row(tmp_path: Path) -> None:
    text = "x" * 200_000
    (tmp_path / "a.csv").write_text(f"question,answer\nq,{text}\nq,a,extra\nq,a\n")
    assert answers(tmp_path / "a.csv") == [
        (0, None, "q", text),
        (1, "wrong_columns", None, None),
        (2, None, "q", "a"),
    ]


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.sampled_from([b"q,a", b'"q\n,""",a', b"q", b"q,a,b", b'q,"a,\n",b', b"\xff,a", b"\xff"])))
def test_good_and_bad_rows_keep_their_order_their_numbers_and_their_bytes(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "a.csv"
    path.write_bytes(b"question,answer\n" + b"".join(line + b"\n" for line in lines))
    rows = rows_of(path, spelling=Spelling(encoding="utf-8")) if lines else []
    assert [row["row"] for row in rows] == list(range(len(lines)))
    for row, line in zip(rows, lines, strict=True):
        if row["fault"] is None:
            fields = next(csv.reader(io.StringIO(line.decode(), newline="")))
            assert [row["question"], row["answer"]] == fields and row["broken"] is None
        else:
            assert row["fault"] == ("invalid_utf8" if b"\xff" in line else "wrong_columns")
            assert row["broken"] == line.decode(errors="replace") and row["question"] is row["answer"] is None
