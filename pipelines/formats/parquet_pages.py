"""How much memory do the rows of a Parquet file take? Found from the headers of its pages, before Arrow decodes them.

A page may decompress to gigabytes, and a value of a dictionary may be repeated by every row of a page of a few bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dedup.kernel import kernel
from pipelines.formats.blocks import Bytes

MAX_PAGE_BYTES, MAX_RATIO = 256 << 20, 50
"""A file with a longer page is refused if compression made it smaller by more than this ratio, which text is not: Arrow
holds a page in memory. Writers end a page at about 1 MiB, Arrow's at 1,024 values."""

MAX_BATCH_BYTES = 128 << 20
"""Limit of what the rows of a batch may take, as far as page headers tell."""

_BYTE_ARRAY = "BYTE_ARRAY"
_DICTIONARY_PAGE, _DATA_PAGES = 2, (0, 3)
_PLAIN_DICTIONARY, _DELTA_BYTE_ARRAY, _RLE_DICTIONARY = 2, 7, 8
"""Numbers of Parquet's format: types of pages, and encodings."""

_CODECS = {
    "SNAPPY": "snappy",
    "GZIP": "gzip",
    "ZSTD": "zstd",
    "BROTLI": "brotli",
    "LZ4_RAW": "lz4_raw",
    "LZ4": "lz4_raw",
}

_HEADER_BYTES = 1 << 10
"""Bytes that are read for a page header first. It is longer if the statistics in it are."""


class TooLarge(Exception):
    """A page is too large to be held in memory; the argument says which."""


class Reading(NamedTuple):
    """How to read a row group.

    rows: most rows of a batch. dictionaries: columns (paths in the schema) to be read as dictionaries, since their
    values repeated would take too much memory.
    """

    rows: int
    dictionaries: tuple[str, ...]


def plan_reading(source: pa.NativeFile, group: pq.RowGroupMetaData, columns: Sequence[str], rows: int) -> Reading:
    """How to read some columns of a row group. columns: of the schema's top. rows: wished for a batch.

    Raises: TooLarge: if a page is.
    """
    dictionaries: list[str] = []
    for index in range(group.num_columns):
        chunk = group.column(index)
        if not any(f"{chunk.path_in_schema}.".startswith(f"{name}.") for name in columns):
            continue
        repeats = max(chunk.num_values / max(group.num_rows, 1), 1.0)
        plan = _plan_chunk(source, chunk)
        if plan.repeated_bytes(rows * repeats) > MAX_BATCH_BYTES:
            dictionaries.append(chunk.path_in_schema)
        # A page is held in memory at any rate.
        limit = max(MAX_BATCH_BYTES, 2 * int(plan.stored.max(initial=0)))
        while rows > 1 and plan.stored_bytes(rows * repeats) > limit:
            rows //= 2
    return Reading(rows, tuple(dictionaries))


class _Chunk(NamedTuple):
    """The pages of a column chunk.

    values, stored: int64 [data pages], the values in each page, and the bytes of these that are in the page. repeated:
    values in pages that refer to the dictionary. longest: bytes of the longest value of the dictionary. shared: bytes
    of the longest page whose values share prefixes.
    """

    values: np.ndarray
    stored: np.ndarray
    repeated: int
    longest: int
    shared: int

    def repeated_bytes(self, rows: float) -> float:
        """Bytes of so many values of the dictionary, if all are the longest."""
        return min(rows, self.repeated) * self.longest

    def stored_bytes(self, rows: float) -> float:
        """Bytes of so many values in a row, wherever they begin, without those of the dictionary."""
        if not len(self.values):
            return 0.0
        ends, bytes_to = np.cumsum(self.values), np.cumsum(self.stored)
        last = np.minimum(np.searchsorted(ends, ends - 1 + rows), len(ends) - 1)
        return float((bytes_to[last] - bytes_to + self.stored).max()) + rows * self.shared


def _plan_chunk(source: pa.NativeFile, chunk: pq.ColumnChunkMetaData) -> _Chunk:
    values: list[int] = []
    stored: list[int] = []
    repeated = longest = shared = 0
    for at, header in _pages(source, chunk):
        size = header.get(2, 0)
        if size > max(MAX_PAGE_BYTES, MAX_RATIO * header.get(3, 0)):
            where = f"a page of the column {chunk.path_in_schema!r}"
            raise TooLarge(f"{where} decompresses from {header.get(3, 0):,} bytes to {size:,}")
        if header.get(1) == _DICTIONARY_PAGE:
            longest = _longest_value(source, chunk, at, header)
            continue
        head = header.get(5) or header.get(8) or {}
        count, encoding = head.get(1, 0), head.get(2 if 5 in header else 4, 0)
        in_dictionary = encoding in (_PLAIN_DICTIONARY, _RLE_DICTIONARY)
        values.append(count)
        stored.append(0 if in_dictionary else size)
        repeated += count if in_dictionary else 0
        if encoding == _DELTA_BYTE_ARRAY:
            shared = max(shared, size)
    return _Chunk(np.array(values, np.int64), np.array(stored, np.int64), repeated, longest, shared)


def _pages(source: pa.NativeFile, chunk: pq.ColumnChunkMetaData) -> Iterator[tuple[int, dict[int, Any]]]:
    """Yield where each page's data begins, and the page's header: field -> value."""
    at, seen = chunk.data_page_offset, 0
    if chunk.has_dictionary_page and chunk.dictionary_page_offset and 0 < chunk.dictionary_page_offset < at:
        at = chunk.dictionary_page_offset
    end = at + chunk.total_compressed_size
    while seen < chunk.num_values and at < end:
        size = _HEADER_BYTES
        while True:
            data = source.read_at(min(size, end - at), at)
            try:
                header, length = _struct(data, 0)
                break
            except IndexError:
                if size > end - at:
                    raise pa.ArrowInvalid(f"a page header of the column {chunk.path_in_schema!r} is cut") from None
                size *= 16
        compressed, count = header.get(3, 0), (header.get(5) or header.get(8) or {}).get(1, 0)
        if compressed < 0 or count < 0 or header.get(2, 0) < 0:
            raise pa.ArrowInvalid(f"a page header of the column {chunk.path_in_schema!r} has a negative length")
        yield at + length, header
        seen += count
        at += length + compressed


def _longest_value(source: pa.NativeFile, chunk: pq.ColumnChunkMetaData, at: int, header: dict[int, Any]) -> int:
    """Bytes of the longest value on a dictionary page; all of the page where that is not known."""
    size, compressed = header.get(2, 0), header.get(3, 0)
    if chunk.physical_type != _BYTE_ARRAY:
        return 16
    if size * chunk.num_values <= MAX_BATCH_BYTES:
        return int(size)
    data = source.read_at(compressed, at)
    if chunk.compression in _CODECS:
        try:
            data = pa.Codec(_CODECS[chunk.compression]).decompress(data, decompressed_size=size, asbytes=True)
        except (pa.ArrowException, OSError, ValueError):
            return int(size)
    return int(_longest(np.frombuffer(data, np.uint8)))


@kernel
def _longest(data: Bytes) -> int:
    """The longest of the values of a page, each with its length before it; the page's length if it is damaged."""
    longest, i = 0, 0
    while i + 4 <= len(data):
        length = data[i] + data[i + 1] * 256 + data[i + 2] * 65536 + data[i + 3] * 16777216
        i += 4 + length
        if i > len(data):
            return len(data)
        longest = max(longest, length)
    return longest


# Thrift's compact protocol

_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _MAP, _STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, (9, 10), 11, 12
_MAX_DEPTH = 8


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """(field -> value, position behind). Raises: IndexError: if the data is too short, or no struct."""
    if depth > _MAX_DEPTH:
        raise IndexError
    fields: dict[int, Any] = {}
    number = 0
    while True:
        head = data[at]
        at += 1
        if not head:
            return fields, at
        if head >> 4:
            number += head >> 4
        else:
            number, at = _zigzag(data, at)
        kind = head & 15
        if kind in (_TRUE, _FALSE):
            fields[number] = kind == _TRUE
        else:
            fields[number], at = _value(data, at, kind, depth)


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in _INTEGERS:
        return _zigzag(data, at)
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    if kind == _BINARY:
        length, at = _varint(data, at)
        if at + length > len(data):
            raise IndexError
        return None, at + length
    if kind in _LISTS:
        head = data[at]
        count, at = _varint(data, at + 1) if head >> 4 == 15 else (head >> 4, at + 1)
        for _ in range(count):
            _, at = _value(data, at, head & 15, depth)
        return None, at
    if kind in (_TRUE, _FALSE, _BYTE):
        return data[at], at + 1
    if kind == _DOUBLE:
        return None, at + 8
    raise IndexError  # a map: page headers have none


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError
