"""How much memory do the rows of a Parquet file take? Found from the headers of its pages, before Arrow decodes them.

A page may decompress to gigabytes, and a value of a dictionary may be repeated by every row of a page of a few bytes.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from dedup.kernel import kernel
from pipelines.formats.blocks import Bytes

MAX_PAGE_BYTES, MAX_RATIO = 256 << 20, 50
"""A file with a longer page is refused if compression made it smaller by more than this ratio, which text is not: Arrow
holds a page in memory. Writers end a page at about 1 MiB, Arrow's at 1,024 values."""

MAX_BATCH_BYTES = 128 << 20
"""Limit of what the rows of a batch may take, as far as page headers tell."""

_BYTE_ARRAY = 6
_DICTIONARY_PAGE, _DATA_PAGES = 2, (0, 3)
_PLAIN_DICTIONARY, _DELTA_BYTE_ARRAY, _RLE_DICTIONARY = 2, 7, 8
"""Numbers of Parquet's format: a type of values, types of pages, and encodings."""

_CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}

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


class Chunk(NamedTuple):
    """A column of a row group. path: in the schema. kind, codec: numbers of Parquet's format."""

    path: str
    kind: int
    codec: int
    values: int
    bytes: int
    data_start: int
    dictionary_start: int


_TAIL_BYTES = 64 << 10
"""Bytes at the end of a file that are read first: most footers are in them."""


class RowGroup(NamedTuple):
    """bytes: of its columns, decompressed."""

    chunks: tuple[Chunk, ...]
    bytes: int
    rows: int


def row_groups(source: pa.NativeFile) -> list[RowGroup]:
    """The row groups of a file, by its footer: Arrow's class for a column chunk ends the process if that is damaged.

    Raises: pyarrow.ArrowInvalid: if the footer is damaged.
    """
    size = source.size()
    tail = source.read_at(min(size, _TAIL_BYTES), max(size - _TAIL_BYTES, 0))
    length = int.from_bytes(tail[-8:-4], "little")
    if length + 8 > len(tail):
        tail = source.read_at(min(size, length + 8), max(size - length - 8, 0))
    try:
        footer, _ = _struct(tail[len(tail) - 8 - length : -8], 0)
        return [_row_group(group) for group in footer.get(4, ())]
    except (IndexError, AttributeError, TypeError, ValueError, OverflowError) as error:
        raise pa.ArrowInvalid("the footer is damaged") from error


def _row_group(group: dict[int, Any]) -> RowGroup:
    chunks = []
    for column in group.get(1, ()):
        data = column.get(3, {})
        path = b".".join(data.get(3, ())).decode(errors="replace")
        numbers = (data.get(field, 0) for field in (1, 4, 5, 7, 9, 11))
        chunks.append(Chunk(path, *map(operator.index, numbers)))
    return RowGroup(tuple(chunks), operator.index(group.get(2, 0)), operator.index(group.get(3, 0)))


def plan_reading(source: pa.NativeFile, group: RowGroup, columns: Sequence[str], rows: int) -> Reading:
    """How to read some columns of a row group. columns: of the schema's top. rows: wished for a batch.

    Raises: TooLarge: if a page is. pyarrow.ArrowInvalid: if a header of a page is damaged.
    """
    dictionaries: list[str] = []
    for chunk in group.chunks:
        if not any(f"{chunk.path}.".startswith(f"{name}.") for name in columns):
            continue
        repeats = max(chunk.values / max(group.rows, 1), 1.0)
        plan = _plan_chunk(source, chunk)
        if plan.repeated_bytes(rows * repeats) > MAX_BATCH_BYTES:
            dictionaries.append(chunk.path)
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


def _plan_chunk(source: pa.NativeFile, chunk: Chunk) -> _Chunk:
    values: list[int] = []
    stored: list[int] = []
    repeated = longest = shared = 0
    for page in _pages(source, chunk):
        if page.bytes > max(MAX_PAGE_BYTES, MAX_RATIO * page.compressed):
            where = f"a page of the column {chunk.path!r}"
            raise TooLarge(f"{where} decompresses from {page.compressed:,} bytes to {page.bytes:,}")
        if page.kind == _DICTIONARY_PAGE:
            longest = _longest_value(source, chunk, page)
            continue
        in_dictionary = page.encoding in (_PLAIN_DICTIONARY, _RLE_DICTIONARY)
        values.append(page.values)
        stored.append(0 if in_dictionary else page.bytes)
        repeated += page.values if in_dictionary else 0
        if page.encoding == _DELTA_BYTE_ARRAY:
            shared = max(shared, page.bytes)
    return _Chunk(np.array(values, np.int64), np.array(stored, np.int64), repeated, longest, shared)


class _Page(NamedTuple):
    """start: of its data in the file. compressed, bytes: as it is in the file, and decompressed."""

    start: int
    kind: int
    compressed: int
    bytes: int
    values: int
    encoding: int


def _pages(source: pa.NativeFile, chunk: Chunk) -> Iterator[_Page]:
    """Yield the pages of a column chunk. Raises: pyarrow.ArrowInvalid: if a header is damaged."""
    at, seen = chunk.data_start, 0
    if 0 < chunk.dictionary_start < at:
        at = chunk.dictionary_start
    end = min(at + chunk.bytes, source.size())
    while seen < chunk.values and 0 <= at < end:
        size = _HEADER_BYTES
        while True:
            data = source.read_at(min(size, end - at), at)
            try:
                header, length = _struct(data, 0)
                page = _page(at + length, header)
                break
            except IndexError:
                if size > end - at:
                    where = f"of the column {chunk.path!r} at byte {at}"
                    raise pa.ArrowInvalid(f"the header of the page {where} is damaged") from None
                size *= 16
        yield page
        if page.kind in _DATA_PAGES:
            seen += page.values
        at = page.start + page.compressed


def _page(start: int, header: dict[int, Any]) -> _Page:
    """Raises: IndexError: if the header is not one of a page."""
    data: dict[int, Any] = next((header[field] for field in (5, 7, 8) if isinstance(header.get(field), dict)), {})
    encoding = data.get(4 if isinstance(header.get(8), dict) else 2, 0)
    page = _Page(start, header.get(1, -1), header.get(3, 0), header.get(2, 0), data.get(1, 0), encoding)
    if not all(isinstance(value, int) for value in page) or min(page) < 0:
        raise IndexError
    return page


def _longest_value(source: pa.NativeFile, chunk: Chunk, page: _Page) -> int:
    """Bytes of the longest value on a dictionary page; all of the page where that is not known."""
    if chunk.kind != _BYTE_ARRAY:
        return 16
    if page.bytes * chunk.values <= MAX_BATCH_BYTES:
        return page.bytes
    data = source.read_at(page.compressed, page.start)
    if chunk.codec:
        try:
            data = pa.Codec(_CODECS[chunk.codec]).decompress(data, decompressed_size=page.bytes, asbytes=True)
        except (pa.ArrowException, OSError, ValueError, KeyError):
            return page.bytes
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
        return data[at : at + length], at + length
    if kind in _LISTS:
        head = data[at]
        count, at = _varint(data, at + 1) if head >> 4 == 15 else (head >> 4, at + 1)
        items = []
        for _ in range(count):
            item, at = _value(data, at, head & 15, depth)
            items.append(item)
        return items, at
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
