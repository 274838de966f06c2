"""Files made to do harm: the answer is rows or an InputError that names the file, in little memory and soon."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import InputError
from pipelines.formats.blocks import RowBlock
from pipelines.formats.delimited import CSV, split_rows
from pipelines.formats.faults import Unreadable
from pipelines.formats.json import split_array
from pipelines.formats.pairs import MESSAGES
from pipelines.formats.read import column_names, first_rows, read, text_columns
from tests.pipelines.formats.files import QA, answers, as_csv, as_jsonl, as_parquet

NAMED = "an error that names the file"


@pytest.mark.fault("thousands of faulty objects on one JSON line", "each is a row with its own text")
def test_the_text_of_a_faulty_object_is_its_own_not_that_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    objects = 20_000
    path.write_text('{"question": ["\\ud83d\\ude00", 1], "answer": "b"}' * objects + "\n")
    tables = list(read(str(path), QA))
    assert sum(table.num_rows for table in tables) == objects
    assert max(table.nbytes for table in tables) < 100 * objects
    assert set(tables[0]["fault"].to_pylist()) == {"wrong_type"}


@pytest.mark.fault("a JSON object with a hundred thousand keys, each twice", "a row with `repeated_key`")
def test_keys_that_are_there_twice_are_found_in_one_pass(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    keys = ", ".join(f'"{index}": 0' for index in range(100_000))
    path.write_text(
        '{"question": "q", "answer": "a"}\n' + f'{{"question": 1, "question": 2, "answer": 3, {keys}, {keys}}}\n'
    )
    assert [row for table in read(str(path), QA) for row in table["fault"].to_pylist()] == [None, "repeated_key"]


@pytest.mark.fault("JSON nested 900 deep", NAMED)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_deep_nesting_is_an_error_or_a_row(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text('{"question": "\\ud83d", "answer": ' + '{"a":' * 900 + "1" + "}" * 900 + "}")
    for call in (lambda: list(read(str(path), QA)), lambda: first_rows(str(path)), lambda: column_names(str(path))):
        try:
            call()
        except InputError as error:
            assert name in str(error)


@pytest.mark.fault("an input that this user may not read", "permission denied, and not: fetch it again")
@pytest.mark.parametrize("write", [as_jsonl, as_csv, as_parquet])
def test_permission_denied_is_said_so(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / f"a.{write.__name__.removeprefix('as_')}"
    write(path)
    path.chmod(0)
    with ordinary_user(tmp_path), pytest.raises(InputError, match=f"{path}: permission denied; let this") as raised:
        list(read(str(path), QA))
    assert "fetch" not in str(raised.value)


@contextlib.contextmanager
def ordinary_user(folder: Path) -> Iterator[None]:
    """Be a user who may not read all files, but may enter this folder."""
    if os.geteuid():
        yield
        return
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def repeated(rows: int, text: str) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))


@pytest.mark.fault("a Parquet file of 500 bytes with 2 GB of text, from a dictionary", "its rows, a few MB at a time")
def test_text_that_a_parquet_dictionary_repeats_is_read_in_small_batches(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.parquet", 2000
    table = pa.table({"question": ["q"] * rows, "answer": repeated(rows, "x" * 1_000_000)})
    pq.write_table(table, path, store_schema=False)  # as plain text: readers do not know that it was a dictionary
    read_rows = 0
    for part in read(str(path), QA):
        assert part.nbytes < 20_000_000
        read_rows += part.num_rows
    assert read_rows == rows


@pytest.mark.fault("one Parquet row that is a list of 1,000 references to 1 MB", "a row with `oversize`")
def test_a_row_whose_text_is_repeated_beyond_the_limit_is_oversize(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.parquet", 1000
    turn = pa.StructArray.from_arrays(
        [pa.array(["user"] * rows), repeated(rows, "x" * 1_000_000)], names=["role", "content"]
    )
    talks = pa.ListArray.from_arrays(pa.array([0, rows], pa.int32()), turn)
    pq.write_table(pa.table({"messages": talks}), path, store_schema=False)
    (table,) = read(str(path), pa.schema([pa.field("messages", MESSAGES)]))
    assert table["fault"].to_pylist() == ["oversize"]


@pytest.mark.fault("a Parquet page that decompresses from 10 KB to 300 MB", NAMED)
def test_a_page_that_decompresses_to_far_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"question": ["q"], "answer": ["z" * 300_000_000]})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)
    with pytest.raises(InputError, match=rf"{path}: .* a page of the column 'answer' decompresses .*; write it"):
        list(read(str(path), QA))


@pytest.mark.fault("a compressed Arrow batch of 1.2 GB in a file of 40 KB", NAMED)
def test_an_arrow_batch_that_decompresses_to_far_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    batch = pa.record_batch({"question": ["q"], "answer": ["z" * 1_200_000_000]})
    with pa.ipc.new_file(str(path), batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    with pytest.raises(InputError, match=rf"{path}: .* its batch 0 decompresses to 1,2.* bytes, .*; write it"):
        list(read(str(path), QA))


@pytest.mark.fault("20,000 Arrow views of the same megabyte", "the rows, a few MB at a time")
def test_views_of_the_same_text_are_read_in_small_batches(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.arrow", 500
    views = struct.pack("<i4sii", 1_000_000, b"xxxx", 0, 0) * rows
    array = pa.Array.from_buffers(pa.string_view(), rows, [None, pa.py_buffer(views), pa.py_buffer(b"x" * 1_000_000)])
    batch = pa.record_batch({"question": pa.array(["q"] * rows), "answer": array})
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)
    assert max(part.nbytes for part in read(str(path), QA)) < 20_000_000


@pytest.mark.fault("a .parquet.gz and .arrow.zst that decompress to 300 MB", NAMED)
@pytest.mark.parametrize("name", ["a.parquet.gz", "a.arrow.zst"])
def test_a_columnar_file_that_is_compressed_as_a_whole_is_read_up_to_a_limit(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pa.CompressedOutputStream(str(path), {"gz": "gzip", "zst": "zstd"}[name.rpartition(".")[2]]) as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    with pytest.raises(InputError, match=rf"{path}: .* decompresses to more than 256 MiB; decompress it"):
        list(read(str(path), QA))


@pytest.mark.fault("wrong offsets in Arrow text that is nested, beside text that is not UTF-8", NAMED)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_offsets_of_nested_text_are_checked_also_where_other_text_is_not_utf8(
    tmp_path: Path, kind: pa.DataType
) -> None:
    broken = pa.array([b"q\xff"] * 4, pa.binary()).cast(pa.large_binary() if kind == pa.large_string() else pa.binary())
    turns = pa.StructArray.from_arrays([broken.view(kind), pa.array(["one", "three", "four", "six"], kind)], ["a", "b"])
    path = tmp_path / "a.arrow"
    batch = pa.record_batch({"question": turns, "answer": pa.array(["a"] * 4)})
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)
    width, letter = (8, "q") if kind == pa.large_string() else (4, "i")
    good, bad = struct.pack(f"<5{letter}", 0, 3, 8, 12, 15), struct.pack(f"<5{letter}", 0, 3, 1 << 30, 12, 15)
    data = path.read_bytes()
    assert data.count(good) == 1 and len(good) == 5 * width
    path.write_bytes(data.replace(good, bad))
    with pytest.raises(InputError, match=rf"{path}: truncated or damaged"):
        list(read(str(path), text_columns("question.b")))


def large(start: bytes, end: bytes) -> Iterator[bytearray]:
    """The blocks of a file with an element of 300 MB between others."""
    yield bytearray(start)
    for _ in range(300):
        yield bytearray(b"x" * (1 << 20))
    yield bytearray(end)


def rows_of_blocks(blocks: Iterator[RowBlock]) -> list[tuple[str | None, bytes]]:
    return [(block.fault, block.row(row)[:20]) for block in blocks for row in range(len(block.starts))]


@pytest.mark.fault("an element of 300 MB in a JSON array or a CSV file", "a row with `oversize`, and the rows after it")
def test_a_row_over_the_limit_is_oversize_and_its_neighbours_are_read() -> None:
    before, after = (None, b'{"a": 1}'), (None, b'{"a": 2}')
    found = rows_of_blocks(split_array(large(b'[{"a": 1}, {"b": "', b'"}, {"a": 2}]')))
    assert found == [before, ("oversize", b'{"b": "xxxxxxxxxxxxx'), after]
    for quote in (b'"', b""):
        blocks = split_rows(large(b"a,b\nc," + quote, b"\n" * len(quote) + quote + b"\nd,e\n"), CSV, 2)
        assert rows_of_blocks(blocks) == [
            (None, b"a,b"),
            ("oversize", b"c," + quote + b"x" * (18 - len(quote))),
            (None, b"d,e"),
        ]


@pytest.mark.fault("a quote of CSV, or a bracket of JSON, that is open over 300 MB", NAMED)
def test_what_is_never_closed_is_an_error_also_beyond_the_limit_of_a_row() -> None:
    with pytest.raises(Unreadable, match="opens a quote that is never closed, in the row 'c,\"xxx"):
        list(split_rows(large(b'a,b\nc,"', b""), CSV, 2))
    with pytest.raises(Unreadable, match="the JSON array does not end"):
        list(split_array(large(b'[{"a": 1}, {"b": "', b"")))


@pytest.mark.fault("a file whose lines end with CR alone, or with all kinds of ends", "its rows")
@pytest.mark.parametrize(
    "data",
    [
        b"question,answer\ra,b\rc,d\r",
        b"question,answer\ra,b\rc,d",
        b"question,answer\r\na,b\r\nc,d\r\n",
        b'question,answer\r"a",b\rc,"d"\r',
        b"question,answer\ra,b\r" + b"\r" * 300_000 + b"\r\nc,d\n",
        b'question,answer\ra,b\r"' + b"x" * 300_000 + b'",\rc,d\n',
    ],
)
def test_lines_may_end_with_a_carriage_return(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    assert [row[2:] for row in answers(path) if row[3]] == [("a", "b"), ("c", "d")]


def test_a_newline_in_quotes_does_not_tell_how_lines_end(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'question,answer\r"a\nb",c\rd,"e\rf"\r')
    assert [row[2:] for row in answers(path)] == [("a\nb", "c"), ("d", "e\nf")]


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_json_lines_may_end_with_a_carriage_return(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b'{"question": "a", "answer": "b"}\r{"question": "c", "answer": "d"}\r')
    assert [row[2:] for row in answers(path)] == [("a", "b"), ("c", "d")]


@pytest.mark.fault("an Arrow file that is cut while it is read", "SIGBUS; the message names the file")
def test_a_file_that_ends_the_process_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    table = pa.table({"question": ["q" * 1000] * 10_000, "answer": ["a" * 1000] * 10_000})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    code = (
        "import os, sys; from flows.cli.supervise import supervise\n"
        "from pipelines.formats.read import read, text_columns\n"
        "def command():\n"
        "    tables = read(sys.argv[1], text_columns('question', 'answer')); next(tables)\n"
        "    os.truncate(sys.argv[1], 0); list(tables)\n"
        "supervise(command)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: the command was ended by SIGBUS while reading {path}; ")


@pytest.mark.fault("a Parquet footer that makes the library end the process", NAMED)
def test_every_damaged_byte_of_a_parquet_footer_gives_rows_or_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"question": [["a", "b"]] * 4, "answer": ["b"] * 4}), path, store_schema=False)
    data = path.read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    code = (
        "import sys; from pipelines.errors import InputError; from pipelines.formats.read import read, text_columns\n"
        "path, end = sys.argv[1], int(sys.argv[2]); data = open(path, 'rb').read()\n"
        "for at in range(len(data) - end, len(data)):\n"
        "    for value in (0, 0x15, 0x19, data[at] ^ 1, data[at] ^ 0x10, 255):\n"
        "        open(path, 'wb').write(data[:at] + bytes([value]) + data[at + 1 :])\n"
        "        try: list(read(path, text_columns('answer')))\n"
        "        except InputError as error: assert path in str(error)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path), str(footer)], check=True)


@pytest.mark.fault("a CSV file whose only line is a name of 1 MB", "a short error")
def test_an_error_does_not_repeat_a_long_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("questio" + "x" * 1_000_000 + ",b\n1,2\n")
    with pytest.raises(InputError, match="no column 'question'") as raised:
        list(read(str(path), QA))
    assert len(str(raised.value)) < 1000
