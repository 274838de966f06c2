"""How much memory the rows of a Parquet file take is known before they are read, also where the file says otherwise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.formats import parquet_pages
from pipelines.formats.parquet_pages import MAX_BATCH_BYTES, Reading, plan_reading, row_groups

ROWS = 2000
LONG = "x" * 1_000_000


def references(indices: list[int | None], values: list[str]) -> pa.Table:
    """A column of text, of which the file has a dictionary."""
    return pa.table({"a": pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(values))})


def write(path: Path, table: pa.Table, **options: object) -> None:
    pq.write_table(table, path, store_schema=False, write_statistics=False, **options)


def plans(path: Path) -> list[Reading]:
    source = pa.OSFile(str(path))
    groups = row_groups(source, pq.ParquetFile(source).schema)
    return [plan_reading(source, group, ["a"], 65_536) for group in groups]


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
@pytest.mark.parametrize("page", [500, 1 << 20])
def test_references_are_counted_as_arrow_reads_them(tmp_path: Path, codec: str, page: int) -> None:
    drawn = np.random.default_rng(page)
    flat = [None if drawn.random() < 0.2 else f"v{int(drawn.integers(700) ** 2 / 700)}" for _ in range(6000)]
    runs = [value for value in flat[:300] for _ in range(drawn.integers(20))]
    lists = [flat[start : start + int(drawn.integers(9))] for start in range(0, 6000, 9)]
    for rows in (flat, runs, ["x"] * 100, lists):
        column = pa.array(rows)
        write(tmp_path / "a.parquet", pa.table({"a": column}), compression=codec, data_page_size=page)
        source = pa.OSFile(str(tmp_path / "a.parquet"))
        ((chunk,), *_) = row_groups(source, pq.ParquetFile(source).schema)[0]
        plan = parquet_pages._plan_chunk(source, chunk)
        assert plan.dictionary is not None
        most = parquet_pages._most_references(source, chunk, plan.dictionary, plan.references)
        text = column.flatten() if pa.types.is_list(column.type) else column
        counted = counts_of(text)
        nulls = sum(page.values for page in plan.references) - sum(counted)
        assert most is not None and max(counted) <= most <= max(counted) + nulls


def counts_of(text: pa.Array) -> list[int]:
    return [item["counts"] for item in text.drop_null().value_counts().to_pylist()]


def test_a_column_of_long_texts_that_differ_is_read_as_text_in_whole_batches(tmp_path: Path) -> None:
    table = references([*range(1000)], [f"{row:04}" + "y" * (200_000 if row == 7 else 100) for row in range(1000)])
    write(tmp_path / "a.parquet", table)
    assert MAX_BATCH_BYTES < 1000 * 200_000
    assert plans(tmp_path / "a.parquet") == [Reading(65_536, ())]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_long_text_among_many_that_a_page_repeats_is_read_as_a_dictionary(tmp_path: Path, version: str) -> None:
    texts = [LONG, *(f"{row:04}" + "y" * 100 for row in range(1000))]
    write(tmp_path / "a.parquet", references([*range(1001), *[0] * 200], texts), data_page_version=version)
    assert plans(tmp_path / "a.parquet") == [Reading(65_536, ("a",))]


def varint(number: int, size: int) -> bytes:
    """A number of Thrift in so many bytes."""
    return bytes((number >> 7 * place & 127) | (128 if place < size - 1 else 0) for place in range(size))


def with_another_name(data: bytes) -> bytes:
    at = data.rindex(b"long_name")
    return data[:at] + b"b" + data[at + 1 :]


def with_another_type(data: bytes) -> bytes:
    at = data.rindex(b"\x15\x0c\x19")  # BYTE_ARRAY, before the list of encodings
    return data[:at] + b"\x15\x02" + data[at + 2 :]


def with_another_size(data: bytes) -> bytes:
    size = b"\x15" + varint(2 * (len(LONG) + 4), 3)
    assert data.count(b"\x15\x04" + size + size) == 1  # the header of the dictionary page
    return data.replace(b"\x15\x04" + size, b"\x15\x04\x15" + varint(2 * 20, 3))


@pytest.mark.fault("a Parquet file of 1 MB with 2 GB of text, whose headers lie about it", "its rows, or an error")
@pytest.mark.parametrize(
    ("lie", "codec"),
    [(with_another_name, "snappy"), (with_another_type, "snappy"), (with_another_size, "none")],
    ids=["name", "type", "size"],
)
def test_a_header_that_lies_costs_no_memory(tmp_path: Path, lie: Callable[[bytes], bytes], codec: str) -> None:
    path = tmp_path / "a.parquet"
    write(path, references([0] * ROWS, [LONG]).rename_columns(["long_name"]), compression=codec)
    path.write_bytes(lie(path.read_bytes()))
    assert most_memory(path) < 1_000_000_000


def test_a_batch_of_values_of_fixed_length_is_within_the_limit(tmp_path: Path) -> None:
    values = pa.array([LONG.encode()], pa.binary(len(LONG)))
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(300, np.int32)), values)
    write(tmp_path / "a.parquet", pa.table({"a": column}))
    assert all(reading.rows * len(LONG) <= MAX_BATCH_BYTES for reading in plans(tmp_path / "a.parquet"))


def most_memory(path: Path) -> int:
    """Bytes that a process of its own takes at most which reads a file, with what it imports."""
    code = (
        "import sys; from pathlib import Path; from pipelines.errors import InputError\n"
        "from pipelines.formats.read import read, text_columns\n"
        "try: assert sum(part.num_rows for part in read(sys.argv[1], text_columns('long_name'))) == 2000\n"
        "except InputError as error: assert sys.argv[1] in str(error)\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    return int(done.stdout) << 10


def test_of_several_headers_of_a_page_that_of_its_type_counts() -> None:
    of_version_1, of_version_2 = {1: 9, 2: 8, 3: 3, 4: 0}, {1: 9, 4: 0}
    page = parquet_pages._page(0, {1: 0, 2: 50, 3: 50, 5: of_version_1, 8: of_version_2}, 1)
    assert page.encoding == 8


def test_a_header_with_a_field_twice_is_damaged() -> None:
    once, twice = b"\x15\x02\x15\x04\x00", b"\x15\x02\x05\x02\x04\x00"
    assert parquet_pages._struct(once, 0) == ({1: 1, 2: 2}, 5)
    with pytest.raises(IndexError):
        parquet_pages._struct(twice, 0)


def test_references_behind_damaged_runs_are_not_counted() -> None:
    def counted(data: bytes, values: int = 100, size: int = 5000) -> bool:
        page = np.frombuffer(data, np.uint8)
        return bool(parquet_pages._count_references(page, 0, values, np.zeros(size, np.int64)))

    assert counted(b"\x0c" + varint(2 * 100, 2) + b"\x01\x00")
    assert not counted(b"\x0c" + varint(2 * 100, 2) + b"\x01\x10")  # a reference of more bits than there are
    assert not counted(b"\x0c" + varint(2 * 100 + (1 << 32), 5) + b"\x01\x00")  # a length that does not fit in 32 bits
    assert not counted(b"\x0c" + varint(2 * 100, 2) + b"\x01")  # a run that is cut
    assert not counted(b"\x0c" + b"\x03" + b"\x00" * 11)
    assert not counted(b"\x0c" + varint(2 * 100, 2) + b"\x01\x00", size=1)  # a value that is not in the dictionary
    assert not counted(b"\x21\x02\x00")
    assert not counted(b"")
