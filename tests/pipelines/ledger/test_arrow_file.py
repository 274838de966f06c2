"""Rows of an Arrow file are read the same from a disk, from memory and from an object store, there by ranges."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.errors import InputError
from pipelines.ledger import storage
from pipelines.ledger.arrow_file import ArrowFile
from tests.object_store import ObjectStore

ROWS = 30_000


def every_type() -> pa.Table:
    random = np.random.default_rng(0)
    number = random.integers(0, 1000, ROWS)
    text = pa.array([None if value % 7 == 0 else "ü" * (value % 50) for value in number.tolist()])
    lists = pa.array([list(range(value % 5)) for value in number.tolist()], pa.list_(pa.uint16()))
    ids = pa.array([[f"a/{value}", "b"] if value % 3 else None for value in number.tolist()])
    return pa.table(
        {
            "key": pa.array(np.sort(random.integers(0, 1 << 63, ROWS).astype(np.uint64))),
            "number": pa.array(number, mask=number % 11 == 0),
            "flag": pa.array(number % 2 == 0, mask=number % 5 == 0),
            "text": text,
            "large": text.cast(pa.large_string()),
            "lists": lists,
            "ids": ids,
            "pair": pa.FixedSizeListArray.from_arrays(pa.array(random.random(2 * ROWS, np.float32)), 2),
            "inner": pa.StructArray.from_arrays([text, lists], ["text", "lists"]),
            "fixed": pa.array([b"%08d" % value for value in number.tolist()], pa.binary(8)),
            "nothing": pa.nulls(ROWS),
        }
    ).replace_schema_metadata({"winnow": "x" * 100_000})  # a footer longer than its first read


@pytest.fixture(params=["local", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "local": lambda: str(tmp_path),
        "memory": lambda: f"memory://{uuid.uuid4().hex}",
        "s3": lambda: request.getfixturevalue("s3"),
    }[request.param]()


def test_any_rows_of_any_column_are_those_of_the_table(root: str) -> None:
    table = every_type()
    written = storage.write_arrow(f"{root}/a.arrow", table)
    assert written.bytes > 1 << 20
    file = ArrowFile(written.path)
    assert file.rows == ROWS and file.schema.equals(table.schema, check_metadata=True)
    for start, stop in [(0, 1), (7, 9), (12_345, 13_456), (ROWS - 1, ROWS), (5, 5), (0, ROWS)]:
        rows = file.read(start, stop)
        assert rows.equals(table.slice(start, stop - start)), (start, stop)
        rows.validate(full=stop - start == ROWS)
    assert file.read(100, 200, ["ids", "key"]).equals(table.slice(100, 100).select(["ids", "key"]))
    assert file.read(columns=["key"]).schema.metadata == table.schema.metadata
    first, batch = file.window(15_000, 100_000)
    assert pa.Table.from_batches([batch]).equals(table.slice(first, batch.num_rows))
    assert first <= 15_000 < first + batch.num_rows


def test_a_file_of_several_batches_is_read_across_them(root: str) -> None:
    table = every_type()
    with storage.write_file(f"{root}/a.arrow") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7_000)
    file = ArrowFile(f"{root}/a.arrow", storage.size(f"{root}/a.arrow"))
    assert file.read(6_990, 21_010).equals(table.slice(6_990, 14_020))
    assert file.read().equals(table)


def test_small_and_empty_files_are_read(root: str) -> None:
    for rows in (3, 0):
        table = every_type().slice(0, rows).select(["key", "text"])
        storage.write_arrow(f"{root}/a.arrow", table)
        assert ArrowFile(f"{root}/a.arrow").read().equals(table)


def test_what_is_not_an_arrow_file_is_named(root: str) -> None:
    data = storage.read_bytes(storage.write_arrow(f"{root}/a.arrow", every_type()).path)
    for damaged in (b"", b"not arrow", data[:-1], data[: len(data) // 2], data[:-10] + b"\xff" * 4 + data[-6:]):
        storage.write_bytes(f"{root}/b.arrow", damaged)
        with pytest.raises((InputError, OSError), match=r"b\.arrow"):
            ArrowFile(f"{root}/b.arrow")
    with pytest.raises(FileNotFoundError):
        ArrowFile(f"{root}/none.arrow")


def test_some_rows_of_a_remote_file_cost_their_bytes(s3: str, s3_server: ObjectStore) -> None:
    table = pa.table({"key": np.arange(1_000_000, dtype=np.uint64), "value": np.zeros(1_000_000)})
    written = storage.write_arrow(f"{s3}/a.arrow", table)
    with s3_server.counted() as counts:
        rows = ArrowFile(written.path, written.bytes).read(500_000, 510_000)
    assert rows["key"][0].as_py() == 500_000
    assert counts["requests"] == {"GET": 4}  # the footer, the batch's metadata, a range of each column
    assert counts["bytes"]["GET"] < 10_000 * 16 + (1 << 17)
    with s3_server.counted() as counts:
        ArrowFile(written.path, written.bytes).read(columns=["key"])
    assert 8_000_000 < counts["bytes"]["GET"] < 8_200_000
