"""Files of rows, damaged: a reader answers with rows or with an error that names the file, whatever the bytes.

An input is the name of a file, a line break, and its bytes.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import json
import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from pipelines.errors import InputError
from pipelines.formats.pairs import MESSAGES
from pipelines.formats.read import column_names, read, text_columns, text_columns_of
from tests.fuzz.mutate import MOST_BYTES, mutated

ROWS = [
    {
        "question": f"What is {number} + {number}? " + "é" * (number % 7),
        "answer": f'It is "{2 * number}",\n- exactly.' if number % 3 else None,
        "number": number,
        "messages": [{"role": "user", "content": f"hi {number}"}, {"role": "assistant", "content": "<b>, \\ \t ok"}],
    }
    for number in range(40)
]

MOST_ROWS = 1_000_000
"""Rows of a case that are read: columns of nulls have any number of rows in no bytes."""

_CODECS = (("", bytes), (".gz", gzip.compress), (".zst", zstandard.compress), (".bz2", bz2.compress))


def named(name: str, data: bytes) -> bytes:
    """An input."""
    return f"{name}\n".encode() + data


def json_files(place: Path) -> list[bytes]:
    """JSON lines, arrays, objects with the rows below a key, columns; plain and compressed."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    columns = {name: [row[name] for row in ROWS] for name in ("question", "answer")}
    plain = [
        named("a.json", json.dumps(ROWS, indent=1).encode()),
        named("a.json", json.dumps({"version": 1, "data": ROWS}).encode()),
        named("a.json", json.dumps(columns).encode()),
        named("a.json", json.dumps({str(index): row for index, row in enumerate(ROWS)}).encode()),
        named("a.jsonl", lines.replace(b"\n", b"\r\n")),
        named("a.jsonl", lines.decode().encode("utf-16")),
    ]
    return [*plain, *(named(f"a.jsonl{suffix}", compress(lines)) for suffix, compress in _CODECS)]


def delimited_files(place: Path) -> list[bytes]:
    """CSV and TSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]))
    writer.writeheader()
    writer.writerows(ROWS)
    data = text.getvalue().encode()
    tsv = "question\tanswer\n" + "".join(f'{row["question"]}\t{row["number"]} "so"\n' for row in ROWS)
    return [
        named("a.tsv", tsv.encode()),
        named("a.csv", data.replace(b"\r\n", b"\n")),
        named("a.csv", data.replace(b"\n", b"\r")),
        *(named(f"a.csv{suffix}", compress(data)) for suffix, compress in _CODECS),
    ]


def _table() -> pa.Table:
    table = pa.Table.from_pylist(ROWS)
    extra: dict[str, Any] = {
        "dictionary": table["question"].combine_chunks().dictionary_encode(),
        "large": table["answer"].cast(pa.large_string()),
        "lists": pa.array([["a", None, "b"][: row["number"] % 4] for row in ROWS]),
        "fixed": pa.array([["a", "b"]] * len(ROWS), pa.list_(pa.string(), 2)),
        "bytes": table["question"].cast(pa.binary()),
        "half": pa.array([row["number"] / 2 for row in ROWS], pa.float32()),
        "time": pa.array([row["number"] for row in ROWS], pa.timestamp("us")),
        "decimal": pa.array([row["number"] for row in ROWS], pa.decimal128(12, 2)),
        "nothing": pa.nulls(len(ROWS)),
        "pair": pa.array([{"a": "x", "b": {"c": ["y"]}}] * len(ROWS)),
    }
    for name, column in extra.items():
        table = table.append_column(name, column)
    return table


def parquet_files(place: Path) -> list[bytes]:
    """Parquet with several codecs, encodings and versions of pages."""
    table, files = _table(), []
    text = table.select(["question", "answer"])
    kinds: list[tuple[pa.Table, dict[str, Any]]] = [
        (table, {"compression": "none"}),
        (table, {"compression": "zstd", "data_page_version": "2.0", "row_group_size": 9}),
        (table, {"compression": "snappy", "store_schema": False, "data_page_size": 100, "write_batch_size": 4}),
        (text, {"compression": "none", "use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"}),
        (text, {"compression": "gzip", "use_dictionary": False, "column_encoding": "DELTA_LENGTH_BYTE_ARRAY"}),
        (text, {"compression": "none", "row_group_size": 5, "write_page_index": True}),
    ]
    for rows, options in kinds:
        file = io.BytesIO()
        pq.write_table(rows, file, **options)
        files.append(named("a.parquet", file.getvalue()))
    return [*files, named("a.parquet.gz", gzip.compress(file.getvalue()))]


def arrow_files(place: Path) -> list[bytes]:
    """Arrow files and streams: every type that is read, and some that are not; plain and with compressed bodies."""
    table = _table()
    views = pa.array([row["question"] for row in ROWS], pa.string_view())
    table = table.append_column("view", views)
    table = table.append_column("runs", pa.RunEndEncodedArray.from_arrays([10, 40], ["a", "b"]))
    text = table.select(["question", "answer", "dictionary", "view", "messages", "pair"])
    files = []
    for rows, codec in itertools.product((table, text), (None, "zstd", "lz4")):
        options = pa.ipc.IpcWriteOptions(compression=codec)
        for new in (pa.ipc.new_file, pa.ipc.new_stream):
            file = io.BytesIO()
            with new(file, rows.schema, options=options) as writer:
                writer.write_table(rows, max_chunksize=15)
            files.append(named("a.arrow", file.getvalue()))
    return [*files, named("a.arrow.zst", zstandard.compress(file.getvalue()))]


def change_file(inputs: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the inputs with bytes or numbers changed, seldom with the name of another."""
    name, _, data = rng.choice(inputs).partition(b"\n")
    if rng.random() < 0.05:
        name = rng.choice(inputs).partition(b"\n")[0]
    others = [given.partition(b"\n")[2] for given in inputs]
    data = mutated(data, others, rng) if rng.random() < 0.5 else _numbers_changed(data, rng)
    return name + b"\n" + data[:MOST_BYTES]


def _numbers_changed(data: bytes, rng: random.Random) -> bytes:
    """Some integers replaced: lengths, offsets and counts."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        form = rng.choice(("<i", "<i", "<q", "<h", "<b"))
        size = struct.calcsize(form)
        if len(changed) < size:
            break
        step = rng.choice((1, size))
        at = rng.randrange(0, len(changed) - size + 1, step)
        value = struct.unpack_from(form, changed, at)[0]
        bits = 8 * size - 1
        near = (value + 1, value - 1, value * 2, -value)
        limits = (0, 1, -1, 2**bits - 1, -(2**bits), 2 ** (bits - 1), 1 << rng.randrange(bits))
        value = rng.choice((*near, *limits))
        value = (value + 2**bits) % 2 ** (bits + 1) - 2**bits
        struct.pack_into(form, changed, at, value)
    return bytes(changed)


def read_file(data: bytes, place: Path) -> None:
    """All that is asked of a file ends with valid rows, each with its number, or with an error that names the file."""
    name, _, content = data.partition(b"\n")
    path = place / name.decode()
    path.write_bytes(content)
    turns = pa.schema([pa.field("messages", MESSAGES), pa.field("question", pa.string())])
    nested = text_columns("pair.b.c.0", "lists.0", "dictionary", "view", "half", "decimal", "time")
    calls: list[Callable[[], object]] = [
        lambda: column_names(str(path)),
        lambda: text_columns_of(str(path), text_columns("question")),
        lambda: _rows(path, text_columns("question", "answer"), ("answer",)),
        lambda: _rows(path, turns, ("question",)),
        lambda: _rows(path, nested, nested.names),
    ]
    for call in calls:
        try:
            call()
        except InputError as error:
            assert str(path) in str(error), f"an error that does not name the file: {error}"
            assert len(str(error)) < 10_000, "an error that repeats the file"


def _rows(path: Path, columns: pa.Schema, optional: Sequence[str]) -> None:
    row = 0
    for table in read(str(path), columns, optional):
        table.validate(full=True)
        assert table["row"][0].as_py() == row and table["row"][-1].as_py() == row + table.num_rows - 1, "row numbers"
        row += table.num_rows
        if row > MOST_ROWS:
            return
