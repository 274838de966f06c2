"""A file that is read in spans has the rows, numbers and faults of the file that is read at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipelines.formats import read as reading
from pipelines.formats import span
from pipelines.formats.read import Spelling, count_rows, read, rows_declared, spans, text_columns
from pipelines.formats.span import WHOLE, Span

COLUMNS = text_columns("q", "a")


@pytest.fixture(autouse=True)
def small_files_have_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MIN_SPLIT_BYTES", 0)


def numbered(path: Path, spelling: Spelling) -> Iterator[Span]:
    """The spans of a file with the numbers of their first rows, as ingest makes them."""
    row = 0
    for one in spans(str(path), path.stat().st_size, spelling):
        rows = count_rows(str(path), spelling, one) if one.rows is None and one != WHOLE else one.rows
        yield one if one == WHOLE else one._replace(row=row, rows=rows)
        row += rows or 0


def check(path: Path, encoding: str | None = None, columns: pa.Schema = COLUMNS) -> int:
    """Compare the rows of a file in spans with those of the whole file; returns how many spans it has."""
    spelling = Spelling(encoding=encoding)
    whole = [row for table in read(str(path), columns, ("a",), spelling=spelling) for row in table.to_pylist()]
    parts = list(numbered(path, spelling))
    apart = []
    for part in parts:
        rows = [
            row for table in read(str(path), columns, ("a",), spelling=spelling, span=part) for row in table.to_pylist()
        ]
        assert part.rows is None or part.rows == len(rows)
        apart += rows
    assert apart == whole
    return len(parts)


LINES = st.sampled_from(
    [
        b'{"q": "x", "a": "y"}',
        b'{"q": "x", "a": "y"}{"q": "z"}',
        b'{"q": "x"} , {"q": "}{"}\t{"q": "\\"}{"}',
        b'{"q": "a } , { b", "a": "\\\\"}',
        b'{"q": "x", "more": [{"q": 1}, {"q": 2}]}',
        b'{"q": [1, {}, {}]}',
        b'  {"q": "led by spaces"}  ',
        b'{"q": "cut',
        b'{"q": "x"} {"q": "cut',
        b'{"q": "x"} 7',
        b'{"q": "x"}{"q": "x"} 7 8',
        b"{}{}",
        b"{{}",
        b"}{",
        b"[]",
        b"7",
        b"null",
        b"",
        b" \t ",
        "\u2003".encode(),
        "\ufeff".encode(),
        '{"q": "\u2028 é 漢字"}'.encode(),
        b'{"q": "\xff"}',
        b'{"q": "\xff"}{"q": "x"}',
        b'{"q": "\\ud800"}',
        b'{"q": "x", "q": "twice"}',
        b'{"q": "' + b"long " * 60 + b'"}',
    ]
)


@given(
    lines=st.lists(LINES, max_size=30),
    end=st.sampled_from([b"\n", b"\r\n"]),
    last=st.booleans(),
    mark=st.booleans(),
    size=st.integers(1, 300),
)
@example(lines=[b'{"q": "x"}'] * 3, end=b"\n", last=False, mark=True, size=1)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_of_json_in_spans_of_any_size(
    lines: list[bytes], end: bytes, last: bool, mark: bool, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span, "SPAN_BYTES", size)
    path = tmp_path / "data.jsonl"
    first = [b'{"q": "first", "a": "row"}', b'{"q": "second"}']  # so that the file surely is one of lines
    path.write_bytes(b"\xef\xbb\xbf" * mark + end.join(first + lines) + end * last)
    assert check(path) > 1 or size > path.stat().st_size // 2


@pytest.mark.parametrize(
    ("name", "content", "encoding"),
    [
        ("array.json", json.dumps([{"q": "x"}] * 50).encode(), None),
        ("pretty.jsonl", json.dumps([{"q": "x"}] * 50, indent=1).encode(), None),
        ("wide.jsonl", ('{"q": "x"}\n' * 50).encode("utf-16"), None),
        ("wide.jsonl", ('{"q": "x"}\n' * 50).encode("utf-16-le"), None),
        ("old.jsonl", ('{"q": "é"}\n' * 50).encode("cp1252"), "cp1252"),
        ("old_mac.jsonl", b'{"q": "x"}\r' * 50, None),
        ("table.csv", b"q,a\n" + b'"x\ny",z\n' * 50, None),
        ("table.tsv", b"q\ta\n" + b"x\ty\n" * 50, None),
    ],
)
def test_files_whose_rows_cannot_be_found_from_the_middle_are_one_span(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, encoding: str | None
) -> None:
    monkeypatch.setattr(span, "SPAN_BYTES", 100)
    path = tmp_path / name
    path.write_bytes(content)
    assert check(path, encoding) == 1


def test_a_row_longer_than_a_span_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span, "SPAN_BYTES", 1_000)
    path = tmp_path / "data.jsonl"
    rows = [{"q": "x" * size} for size in (10, 300_000, 10, 5_000_000, 10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert check(path) > 5_000


@pytest.mark.parametrize("groups", [1, 7, 100])
@pytest.mark.parametrize("size", [1, 3_000, 1 << 20])
def test_row_groups_of_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: int, size: int) -> None:
    monkeypatch.setattr(span, "SPAN_BYTES", size)
    path = tmp_path / "data.parquet"
    table = pa.table(
        {"q": [f"question {i}" for i in range(1_000)], "a": [None if i % 7 else "x" for i in range(1_000)]}
    )
    pq.write_table(table, path, row_group_size=-(-1_000 // groups))
    assert (check(path) > 1) == (groups > 1 and size < table.nbytes)
    assert rows_declared(str(path)) == 1_000


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_batches_of_arrow_files_and_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str | None
) -> None:
    monkeypatch.setattr(span, "SPAN_BYTES", 5_000)
    table = pa.table({"q": [f"question {i}" for i in range(1_000)], "a": ["x"] * 1_000})
    options = pa.ipc.IpcWriteOptions(compression=compression)
    for name, new, several in (("file", pa.ipc.new_file, True), ("stream", pa.ipc.new_stream, False)):
        path = tmp_path / f"{name}.arrow"
        with new(path, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=30)
        assert (check(path) > 1) == several
        assert rows_declared(str(path)) == (1_000 if several else None)


def test_a_column_that_only_a_later_span_has_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span, "SPAN_BYTES", 500)
    path = tmp_path / "data.jsonl"
    path.write_text('{"b": "x"}\n' * 100 + '{"q": "y"}\n')
    assert check(path, columns=text_columns("q")) > 1
