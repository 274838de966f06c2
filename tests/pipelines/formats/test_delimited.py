"""CSV and TSV: every row is returned with its number, a bad one with its fault."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.formats.delimited import CSV, Dialect, read_open_file, split_rows
from pipelines.formats.read import Spelling, column_names, read, text_columns
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


# Quotes that are text


def read_rows(path: Path, text: str, columns: tuple[str, str] = ("q", "a"), **spelling: Any) -> list[tuple[Any, ...]]:
    path.write_bytes(text.encode())
    tables = read(str(path), text_columns(*columns), spelling=Spelling(**spelling))
    rows = [row for table in tables for row in table.to_pylist()]
    return [tuple(row[name] for name in columns) if row["fault"] is None else row["fault"] for row in rows]


PLAIN = [
    'x\t"open\ny\tb\nz\t"two" words\n',
    'x\t"open\ny\tb\n',
    'x\t"never closed',
    '"Hello" he said\t"Hi" she said\n"whole"\tb\n',
    'x\t55"\n"y\t6"\n',
    'x\t"\n"\ty\n',
]


@pytest.mark.parametrize("rows", PLAIN)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_tsv_file_in_which_quotes_are_text_keeps_rows_and_texts(tmp_path: Path, rows: str, end: str) -> None:
    expected = [tuple(line.split("\t")) for line in rows.splitlines()]
    assert read_rows(tmp_path / "a.tsv", ("q\ta\n" + rows).replace("\n", end)) == expected


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.lists(st.text('ab"\n\t é', max_size=8), min_size=2, max_size=2), min_size=1, max_size=6))
def test_a_tsv_file_with_quoting_is_read_back_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([["q", "a"], *rows])
    path = tmp_path_factory.mktemp("rows") / "a.tsv"
    try:
        assert read_rows(path, written.getvalue()) == [tuple(row) for row in rows]
    except InputError as error:
        assert "both lines are complete rows" in str(error)
    assert read_rows(path, written.getvalue(), quoted=True) == [tuple(row) for row in rows]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.lists(st.text('ab" é', min_size=1, max_size=8), min_size=2, max_size=2), min_size=1, max_size=6)
)
def test_a_plain_tsv_file_never_loses_a_row(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    text = "q\ta\n" + "".join("\t".join(row) + "\n" for row in rows)
    path = tmp_path_factory.mktemp("rows") / "a.tsv"
    try:
        assert len(read_rows(path, text)) == len(rows)
    except InputError as error:
        assert "both lines are complete rows" in str(error)
    assert read_rows(path, text, quoted=False) == [tuple(row) for row in rows]


def test_a_tsv_row_that_may_be_several_is_an_error_that_names_it(tmp_path: Path) -> None:
    text = 'q\ta\nw\tv\nx\t"12 inches\ny\t6 inches\nz\t55"\n'
    with pytest.raises(InputError, match=r"a\.tsv: .* the row 'x\\t\"12 inches' opens a quote .*`quoted: false`"):
        read_rows(tmp_path / "a.tsv", text)
    plain = [("w", "v"), ("x", '"12 inches'), ("y", "6 inches"), ("z", '55"')]
    assert read_rows(tmp_path / "a.tsv", text, quoted=False) == plain
    assert read_rows(tmp_path / "a.tsv", text, quoted=True) == [("w", "v"), ("x", "12 inches\ny\t6 inches\nz\t55")]


def test_a_quote_in_csv_that_closes_before_more_text_is_text(tmp_path: Path) -> None:
    text = 'q,a\nx,"12 inches\ny,6 inches\nz,"To be" said Hamlet\nw,"a, b"\nv,55"\n'
    assert read_rows(tmp_path / "a.csv", text) == [
        ("x", '"12 inches'),
        ("y", "6 inches"),
        ("z", '"To be" said Hamlet'),
        ("w", "a, b"),
        ("v", '55"'),
    ]


def test_a_long_field_is_read_beside_malformed_quotes_and_lone_carriage_returns(tmp_path: Path) -> None:
    text = "x, " * 70_000
    rows = f'q,a\nx,"{text}"\ny,"bad" quote\nz,a\rb\nw,u,v\n'
    assert read_rows(tmp_path / "a.csv", rows) == [("x", text), ("y", '"bad" quote'), ("z", "a\rb"), "wrong_columns"]


# Line ends, delimiters, encodings


def test_lines_may_end_with_carriage_returns(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "a.csv", 'q,a\rx,y\rz,"w\rv"\r') == [("x", "y"), ("z", "w\nv")]


@pytest.mark.parametrize("delimiter", [";", "|", "\t", ","])
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_the_delimiter_is_that_with_which_the_header_has_the_columns(
    tmp_path: Path, delimiter: str, suffix: str
) -> None:
    text = f'q{delimiter}id{delimiter}a\nx{delimiter}1{delimiter}"b{delimiter} c"\n'
    path = tmp_path / f"a.{suffix}"
    assert read_rows(path, text) == [("x", f"b{delimiter} c")]
    assert column_names(str(path)) == ["q", "id", "a"]


def test_excels_line_with_the_delimiter_is_no_row(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "a.csv", "sep=;\r\nq;a\r\nx;y, z\r\n") == [("x", "y, z")]


def test_columns_without_a_name_do_no_harm_and_two_of_a_name_that_is_read_are_an_error(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "a.csv", "q,a,,\nx,y,,\n") == [("x", "y")]
    with pytest.raises(InputError, match="two columns are called 'a'"):
        read_rows(tmp_path / "a.csv", "q,a,a\nx,y,z\n")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_unicode_files_are_read_in_any_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    rows = [(f"x{i}", f"café – {i} 日本") for i in range(30_000)]
    if name == "a.csv":
        text = "q,a\n" + "".join(f"{q},{a}\n" for q, a in rows)
    else:
        text = "".join(f'{{"q": "{q}", "a": "{a}"}}\n' for q, a in rows)
    (tmp_path / name).write_bytes(text.encode(encoding))
    read_back = [row for table in read(str(tmp_path / name), text_columns("q", "a")) for row in table.to_pylist()]
    assert [(row["q"], row["a"]) for row in read_back] == rows


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_file_in_windows_1252_is_an_error_that_names_the_mend(tmp_path: Path, name: str) -> None:
    text = "q,a\nx,café\ny,naïve\n" if name == "a.csv" else '{"q": "x", "a": "café"}\n{"q": "y", "a": "naïve"}\n'
    path = tmp_path / name
    path.write_bytes(text.encode("cp1252"))
    with pytest.raises(InputError, match=r"it is not UTF-8: line \d has 'fé' .*`encoding`"):
        list(read(str(path), text_columns("q", "a")))
    rows = list(read(str(path), text_columns("q", "a"), spelling=Spelling(encoding="cp1252")))
    assert [row["a"] for table in rows for row in table.to_pylist()] == ["café", "naïve"]
    rows = list(read(str(path), text_columns("q", "a"), spelling=Spelling(encoding="utf-8")))
    assert [row["fault"] for table in rows for row in table.to_pylist()] == ["invalid_utf8"] * 2
