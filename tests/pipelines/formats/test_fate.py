"""A row's fate does not depend on its neighbours, on the borders of blocks, or on compression.

The fate of a row is its fault, and the text that is read of it. That of a good row is its text. That of a malformed one
is taken from a small plain file in which it stands between two good rows. Then many rows, malformed and long ones among
them, are written to one file in the format, and each must have its fate.

`WINNOW_EXAMPLES=2000 pytest tests/pipelines/formats/test_fate.py` searches longer.
"""

from __future__ import annotations

import bz2
import gzip
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.formats.blocks import FIRST_BLOCK_BYTES
from pipelines.formats.read import Spelling, read
from tests.pipelines.formats.files import QA

EXAMPLES = int(os.environ.get("WINNOW_EXAMPLES", "25"))

Fate = tuple[str | None, str | None, str | None]
"""Fault, question, answer."""

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, 1),
    ".zst": lambda data: zstandard.compress(data, 1),
    ".bz2": lambda data: bz2.compress(data, 1),
}

LENGTHS = (0, 0, 0, 0, 1000, 130_000, 131_073, 262_100, 262_144, 300_000, 1_100_000, 5_000_000)
"""Bytes that are put before a text: blocks have 256 KiB and 4 MiB, and Python's own CSV reader a limit of 128 KiB."""


class Row(NamedTuple):
    """A row as it is written: of a question and an answer, or of malformed bytes."""

    question: str
    answer: str
    raw: bytes | None = None


GOOD = Row("why", "because")

PIECES = (
    *("a", "é", "😀", " ", "  ", '"', '""', "'", ",", "\t", ";"),
    *("\n", "\r", "\r\n", "\\", "{", "}", "[", "]", "0", "null"),
)


def texts(without: str = "") -> st.SearchStrategy[str]:
    pieces = [piece for piece in PIECES if not set(piece) & set(without)]
    words = st.lists(st.sampled_from(pieces), max_size=6).map("".join)
    return st.builds(lambda length, text: "x" * length + text, st.sampled_from(LENGTHS), words)


def files_of(malformed: Sequence[bytes], without: str = "") -> st.SearchStrategy[list[Row]]:
    good = st.builds(Row, texts(without), texts(without), st.none())
    bad = st.sampled_from([Row("", "", raw) for raw in malformed]) if malformed else good
    return st.lists(st.one_of(good, bad), min_size=1, max_size=6)


def fates(path: Path, data: bytes, columns: pa.Schema = QA, **options: Any) -> list[Fate]:
    path.write_bytes(data)
    rows = pa.concat_tables(list(read(str(path), columns, **options)))
    assert rows["row"].to_pylist() == list(range(rows.num_rows))
    return [(row["fault"], row["question"], row["answer"]) for row in rows.to_pylist()]


Write = Callable[[Sequence[Row], Sequence[str]], bytes]
"""(rows, ends of lines, which are repeated) -> the file."""


def check(
    folder: Path, name: str, write: Write, rows: list[Row], ends: Sequence[str], compression: str, border: int
) -> None:
    """border: bytes of the rows that are in the first block; negative for as many as there are."""
    spelling = Spelling(encoding="utf-8", quoted=False if name.endswith(".tsv") else None)
    expected: list[Fate] = []
    for row in rows:
        if row.raw is None:
            expected.append((None, row.question, row.answer))
        else:
            alone = fates(folder / name, write([GOOD, row, GOOD], ["\n"]), spelling=spelling)
            assert alone[0] == alone[-1] == (None, "why", "because")
            expected += alone[1:-1]
    before = [GOOD]
    if border >= 0:
        before = [GOOD, Row("y" * (FIRST_BLOCK_BYTES - border - len(write([GOOD, GOOD], ends))), "because")]
    whole = COMPRESSIONS[compression](write([*before, *rows, GOOD], ends))
    found = fates(folder / f"{name}{compression}", whole, spelling=spelling)
    assert [shown(fate) for fate in found[len(before) : -1]] == [shown(fate) for fate in expected]


def shown(fate: Fate) -> Any:
    """A fate whose long texts are short in messages."""
    return [text if text is None or len(text) < 100 else (len(text), text[-20:], hash(text)) for text in fate]


def searched(test: Callable[..., None]) -> Callable[..., None]:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=checks, derandomize=True)(test)


ENDS = st.lists(st.sampled_from(["\n", "\r\n"]), min_size=1, max_size=3)
ANY_COMPRESSION = st.sampled_from(list(COMPRESSIONS))
BORDER = st.one_of(st.just(-1), st.integers(0, 50))


def lines(rows: Sequence[bytes], ends: Sequence[str]) -> bytes:
    return b"".join(row + ends[index % len(ends)].encode() for index, row in enumerate(rows))


# JSON

BAD_JSON = (
    b'{"question": "cut',
    b'{"question": "a", "answer": "b"',
    b"nonsense",
    b"null",
    b"[1, 2]",
    b"7",
    b'"text"',
    b'{"question": "\xff", "answer": "b"}',
    b'{"question": "\\ud83d", "answer": "b"}',
    b'{"question": "a", "question": "b", "answer": "c"}',
    b'{"question": ["a"], "answer": "c"}',
    b'{"question": {"a": 1}, "answer": "c"}',
    b'{"question": 1e5, "answer": true}',
    b'{"question": null}',
    b"{}",
    b'{"question": "a", "answer": "b"} {"question": "c", "answer": "d"}',
    b'{"question": "a", "answer": "b"} trailing',
    b'{"question": "a\tb", "answer": "b"}',
    b'{"a": [[[[[[[[[1]]]]]]]]], "question": "a", "answer": "b"}',
)


def json_row(row: Row, ascii: bool = True) -> bytes:
    if row.raw is not None:
        return row.raw
    return json.dumps({"question": row.question, "answer": row.answer}, ensure_ascii=ascii).encode()


@given(files_of(BAD_JSON), ENDS, ANY_COMPRESSION, BORDER, st.booleans())
@searched
def test_rows_of_json_lines(
    tmp_path: Path, rows: list[Row], ends: list[str], compression: str, border: int, ascii: bool
) -> None:
    def write(rows: Sequence[Row], ends: Sequence[str]) -> bytes:
        return lines([json_row(row, ascii) for row in rows], ends)

    check(tmp_path, "a.jsonl", write, rows, ends, compression, border)


BALANCED = [
    raw for raw in BAD_JSON if raw.count(b"{") == raw.count(b"}") and raw.count(b'"') % 2 == 0 and b"} " not in raw
]


@given(files_of(BALANCED), ENDS, ANY_COMPRESSION, BORDER, st.booleans())
@searched
def test_elements_of_a_json_array(
    tmp_path: Path, rows: list[Row], ends: list[str], compression: str, border: int, below: bool
) -> None:
    def write(rows: Sequence[Row], ends: Sequence[str]) -> bytes:
        array = b"[" + lines([b"", *(json_row(row) + b"," for row in rows[:-1]), json_row(rows[-1])], ends) + b"]"
        return b'{"version": 1, "data": ' + array + b"}" if below else array

    check(tmp_path, "a.json", write, rows, ends, compression, border)


# CSV and TSV

BAD_CSV = (
    b"a",
    b"a,b,c",
    b'"a"b,c',
    b'"a"b,"c',
    b'a "quoted" word,b',
    b'a,"b"c"',
    b"\xff,b",
    b'"\xff\n",b',
    b'"a,b",c,d',
    b",,",
    b"a\rb,c",
    b"a\rb",
)


def csv_field(text: str, delimiter: str = ",") -> str:
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if set(text) & {delimiter, '"', "\n", "\r"} else text


@given(files_of([raw for raw in BAD_CSV if b',"c' not in raw]), ENDS, ANY_COMPRESSION, BORDER)
@searched
def test_rows_of_csv(tmp_path: Path, rows: list[Row], ends: list[str], compression: str, border: int) -> None:
    def write(rows: Sequence[Row], ends: Sequence[str]) -> bytes:
        written = [
            row.raw if row.raw is not None else f"{csv_field(row.question)},{csv_field(row.answer)}".encode()
            for row in rows
        ]
        return lines([b"question,answer", *written], ends)

    check(tmp_path, "a.csv", write, rows, ends, compression, border)


BAD_TSV = (b"a", b"a\tb\tc", b"\xff\tb", b'"a\tb', b'"a"\t"b"', b"a\rb\tc")


@given(files_of(BAD_TSV, without="\t\r\n"), ENDS, ANY_COMPRESSION, BORDER)
@searched
def test_rows_of_tsv(tmp_path: Path, rows: list[Row], ends: list[str], compression: str, border: int) -> None:
    def write(rows: Sequence[Row], ends: Sequence[str]) -> bytes:
        written = [row.raw if row.raw is not None else f"{row.question}\t{row.answer}".encode() for row in rows]
        return lines([b"question\tanswer", *written], ends)

    check(tmp_path, "a.tsv", write, rows, ends, compression, border)


# Parquet and Arrow

BAD_BYTES = (b"\xff", b"a\xc3", b"\xed\xa0\x80")
TYPES = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


def columnar_table(rows: Sequence[Row], kind: pa.DataType) -> pa.Table:
    """Malformed bytes are put into answers, by writing bytes as text."""
    answers = [row.answer.encode() if row.raw is None else row.raw for row in rows]
    to = pa.large_string() if pa.types.is_large_string(kind) else pa.string()
    text = pa.array(answers, pa.binary()).cast(pa.large_binary() if to == pa.large_string() else pa.binary()).view(to)
    if pa.types.is_dictionary(kind):
        text = text.dictionary_encode()
    elif pa.types.is_string_view(kind):
        text = pa.array(answers, pa.binary_view()).view(kind)
    return pa.table({"question": [row.question for row in rows], "answer": text})


def as_parquet(path: Path, table: pa.Table, size: int) -> None:
    pq.write_table(table, path, row_group_size=size, compression=("zstd", "none", "snappy")[size % 3])


def as_arrow_file(path: Path, table: pa.Table, size: int) -> None:
    options = pa.ipc.IpcWriteOptions(compression=("zstd", None, "lz4")[size % 3], unify_dictionaries=True)
    with pa.ipc.new_file(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=size)


def as_arrow_stream(path: Path, table: pa.Table, size: int) -> None:
    options = pa.ipc.IpcWriteOptions(compression=("zstd", None, "lz4")[size % 3])
    with pa.ipc.new_stream(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=size)


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.parquet", as_parquet), ("a.arrow", as_arrow_file), ("b.arrow", as_arrow_stream)],
    ids=["parquet", "arrow_file", "arrow_stream"],
)
@given(rows=files_of(BAD_BYTES), kind=st.sampled_from(TYPES), size=st.integers(1, 7), compression=ANY_COMPRESSION)
@searched
def test_rows_of_columnar_files(
    tmp_path: Path,
    name: str,
    write: Callable[[Path, pa.Table, int], None],
    rows: list[Row],
    kind: pa.DataType,
    size: int,
    compression: str,
) -> None:
    write(tmp_path / name, columnar_table(rows, kind), size)
    data = (tmp_path / name).read_bytes()
    found = fates(tmp_path / f"c{name}{compression}", COMPRESSIONS[compression](data))
    expected = [
        ("invalid_utf8", None, None) if row.raw is not None else (None, row.question, row.answer) for row in rows
    ]
    assert [shown(fate) for fate in found] == [shown(fate) for fate in expected]
