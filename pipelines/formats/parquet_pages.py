"""How much memory do the rows of a Parquet file take? Found from the headers of its pages, before Arrow decodes them.

A page may decompress to gigabytes, and a value of a dictionary may be repeated by every row of a page of a few bytes.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dedup.kernel import kernel
from pipelines.formats.blocks import Bytes

MAX_PAGE_BYTES, MAX_RATIO = 256 << 20, 50
"""A file with a longer page is refused if compression made it smaller by more than this ratio, which text is not: Arrow
holds a page in memory. Writers end a page at about 1 MiB, Arrow's at 1,024 values."""

MAX_BATCH_BYTES = 128 << 20
"""Limit of what the rows of a batch may take, as far as page headers tell."""

_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_2 = 0, 2, 3
_HEADER_OF = {_DATA_PAGE: 5, _DICTIONARY_PAGE: 7, _DATA_PAGE_2: 8}
_PLAIN_DICTIONARY, _RLE, _DELTA_BYTE_ARRAY, _RLE_DICTIONARY = 2, 3, 7, 8
"""Numbers of Parquet's format: types of pages, the fields with their headers, and encodings."""

_TEXT = "BYTE_ARRAY"
"""Arrow's name of the type whose values have any length. Only such columns can be read as dictionaries."""

_MAX_COUNTED = 1 << 20
"""Most values of a dictionary whose references are counted: the counts take 8 bytes each."""

_CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}

_HEADER_BYTES = 4 << 10
"""Bytes that are read for a page header first. It is longer if the statistics in it are: four texts."""


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
    """A column of a row group. column: in the schema, by which Arrow reads. codec: a number of Parquet's format."""

    column: pq.ColumnSchema
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


def row_groups(source: pa.NativeFile, schema: pq.ParquetSchema) -> list[RowGroup]:
    """The row groups of a file, by its footer: Arrow's class for a column chunk ends the process if that is damaged.

    schema: of the file, as Arrow reads it.

    Raises: pyarrow.ArrowInvalid: if the footer is damaged.
    """
    size = source.size()
    tail = source.read_at(min(size, _TAIL_BYTES), max(size - _TAIL_BYTES, 0))
    length = int.from_bytes(tail[-8:-4], "little")
    if length + 8 > len(tail):
        tail = source.read_at(min(size, length + 8), max(size - length - 8, 0))
    try:
        footer, _ = _struct(tail[len(tail) - 8 - length : -8], 0)
        columns = [schema.column(index) for index in range(len(schema))]
        return [_row_group(group, columns) for group in footer.get(4, ())]
    except (IndexError, AttributeError, TypeError, ValueError, OverflowError) as error:
        raise pa.ArrowInvalid("the footer is damaged") from error


def _row_group(group: dict[int, Any], columns: Sequence[pq.ColumnSchema]) -> RowGroup:
    chunks = []
    # The names and types that a chunk has in the footer may not be those of its column. Arrow does not look at them.
    for column, chunk in zip(columns, group.get(1, ()), strict=True):
        data = chunk.get(3, {})
        numbers = (data.get(field, 0) for field in (4, 5, 7, 9, 11))
        chunks.append(Chunk(column, *map(operator.index, numbers)))
    return RowGroup(tuple(chunks), operator.index(group.get(2, 0)), operator.index(group.get(3, 0)))


def plan_reading(source: pa.NativeFile, group: RowGroup, columns: Sequence[str], rows: int) -> Reading:
    """How to read some columns of a row group. columns: of the schema's top. rows: wished for a batch.

    Raises: TooLarge: if a page is. pyarrow.ArrowInvalid: if a header of a page is damaged.
    """
    dictionaries: list[str] = []
    for chunk in group.chunks:
        if not any(f"{chunk.column.path}.".startswith(f"{name}.") for name in columns):
            continue
        repeats = max(chunk.values / max(group.rows, 1), 1.0)
        plan = _plan_chunk(source, chunk)
        if _repeated_bytes(source, chunk, plan, rows * repeats) > MAX_BATCH_BYTES:
            dictionaries.append(chunk.column.path)
        # A page is held in memory at any rate.
        limit = max(MAX_BATCH_BYTES, 2 * int(plan.stored.max(initial=0)))
        width = 0 if chunk.column.physical_type == _TEXT else max(chunk.column.length or 0, 16)
        while rows > 1 and max(plan.stored_bytes(rows * repeats), rows * repeats * width) > limit:
            rows //= 2
    return Reading(rows, tuple(dictionaries))


class _Chunk(NamedTuple):
    """The pages of a column chunk.

    values, stored: int64 [data pages], the values in each page, and the bytes of these that are in the page.
    dictionary: None if there is none. references: pages that refer to it. shared: bytes of the longest page whose
    values share prefixes.
    """

    values: np.ndarray
    stored: np.ndarray
    dictionary: _Page | None
    references: list[_Page]
    shared: int

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
    dictionary: _Page | None = None
    references: list[_Page] = []
    shared = 0
    for page in _pages(source, chunk):
        if page.bytes > max(MAX_PAGE_BYTES, MAX_RATIO * page.compressed):
            where = f"a page of the column {chunk.column.path!r}"
            raise TooLarge(f"{where} decompresses from {page.compressed:,} bytes to {page.bytes:,}")
        if page.kind == _DICTIONARY_PAGE:
            dictionary = dictionary or page  # Arrow uses the first, and refuses a second when it comes to it
            continue
        in_dictionary = page.encoding in (_PLAIN_DICTIONARY, _RLE_DICTIONARY)
        values.append(page.values)
        stored.append(0 if in_dictionary else page.bytes)
        if in_dictionary:
            references.append(page)
        if page.encoding == _DELTA_BYTE_ARRAY:
            shared = max(shared, page.bytes)
    return _Chunk(np.array(values, np.int64), np.array(stored, np.int64), dictionary, references, shared)


class _Page(NamedTuple):
    """start: of its data in the file. compressed, bytes: as it is in the file, and decompressed. levels: the encodings
    of repetition and definition levels, of a page of the first version."""

    start: int
    kind: int
    compressed: int
    bytes: int
    values: int
    encoding: int
    levels: tuple[int, int]


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
                page = _page(at + length, header, chunk.codec)
                break
            except IndexError:
                if size > end - at:
                    where = f"of the column {chunk.column.path!r} at byte {at}"
                    raise pa.ArrowInvalid(f"the header of the page {where} is damaged") from None
                size *= 16
        yield page
        if page.kind in (_DATA_PAGE, _DATA_PAGE_2):
            seen += page.values
        at = page.start + page.compressed


def _page(start: int, header: dict[int, Any], codec: int) -> _Page:
    """Raises: IndexError: if the header is not one of a page."""
    kind, compressed, size = header.get(1, -1), header.get(3, 0), header.get(2, 0)
    # The type says which of the headers counts, if there are several.
    data = header.get(_HEADER_OF[kind], {}) if kind in (_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_2) else {}
    if not isinstance(data, dict):
        raise IndexError
    encoding = data.get(4 if kind == _DATA_PAGE_2 else 2, 0)
    levels = (data.get(4, 0), data.get(3, 0)) if kind == _DATA_PAGE else (0, 0)
    page = _Page(start, kind, compressed, size, data.get(1, 0), encoding, levels)
    if not all(isinstance(value, int) and 0 <= value < 1 << 31 for value in (*page[1:-1], *levels)):
        raise IndexError
    # Of a page that is not compressed, Arrow reads what is in the file, whatever the other number is.
    return page._replace(bytes=max(size, compressed)) if not codec or kind == _DATA_PAGE_2 else page


def _repeated_bytes(source: pa.NativeFile, chunk: Chunk, plan: _Chunk, rows: float) -> float:
    """Bytes that so many texts of the dictionary may have; more than MAX_BATCH_BYTES only if they may have so many.

    What must be decompressed to know that is then decompressed once more by Arrow. Of texts that differ, the references
    are much shorter than the dictionary.
    """
    page = plan.dictionary
    if page is None or chunk.column.physical_type != _TEXT:
        return 0.0
    repeated = min(rows, sum(page.values for page in plan.references))
    if repeated * page.bytes <= MAX_BATCH_BYTES:
        return repeated * page.bytes
    if 4 * sum(reference.bytes for reference in plan.references) <= page.bytes:
        most = _most_references(source, chunk, page, plan.references)
        if most is not None and most * page.bytes <= MAX_BATCH_BYTES:
            return most * page.bytes
    return repeated * _longest_value(source, chunk, page)


def _decompressed(source: pa.NativeFile, chunk: Chunk, page: _Page) -> NDArray[np.uint8] | None:
    """The bytes of a page, uint8; None if they cannot be had."""
    data = source.read_at(page.compressed, page.start)
    if chunk.codec:
        try:
            data = pa.Codec(_CODECS[chunk.codec]).decompress(data, decompressed_size=page.bytes)
        except (pa.ArrowException, OSError, ValueError, KeyError):
            return None
    return np.frombuffer(data, np.uint8)


def _most_references(source: pa.NativeFile, chunk: Chunk, dictionary: _Page, pages: Sequence[_Page]) -> int | None:
    """How often the value of a dictionary that is repeated most is there; None where that is not known."""
    levels = chunk.column.max_repetition_level, chunk.column.max_definition_level
    if dictionary.values > _MAX_COUNTED:
        return None
    counts = np.zeros(dictionary.values, np.int64)
    for page in pages:
        there = [encoding for encoding, most in zip(page.levels, levels, strict=True) if most]
        if page.kind != _DATA_PAGE or any(encoding != _RLE for encoding in there):
            return None
        data = _decompressed(source, chunk, page)
        if data is None or not _count_references(data, len(there), page.values, counts):
            return None
    return int(counts.max(initial=0))


@kernel
def _length(data: Bytes, i: int) -> int:
    """The length at `i`: four bytes, little-endian."""
    return int(data[i] + data[i + 1] * 256 + data[i + 2] * 65536 + data[i + 3] * 16777216)


@kernel
def _count_references(data: Bytes, levels: int, values: int, counts: NDArray[np.int64]) -> bool:
    """Add to `counts` the references on a page: behind `levels` parts with their lengths, a number of bits, and runs.

    A run is of one reference, or of references of so many bits each. Returns whether all could be counted. What remains
    of the last run, and references of null values, which are not there, are not known: those counted may be too many.
    """
    i = np.int64(0)
    for _ in range(levels):
        if i + 4 > len(data):
            return False
        i += 4 + _length(data, i)
    if i >= len(data):
        return False
    width = np.int64(data[i])
    if width > 32:
        return False
    i += 1
    seen = np.int64(0)
    while seen < values and i < len(data):
        head, shift = np.int64(0), 0
        while True:
            if i >= len(data) or shift > 28:
                return False
            byte = np.int64(data[i])
            head |= (byte & 127) << shift
            shift += 7
            i += 1
            if byte < 128:
                break
        if head >> 32:
            return False
        count = min((head >> 1) * (8 if head & 1 else 1), values - seen)
        seen += count
        if head & 1:
            end = i + (head >> 1) * width
            if end > len(data):
                return False
            bits, held = np.int64(0), np.int64(0)
            for _ in range(count):
                while held < width:
                    bits |= np.int64(data[i]) << held
                    held += 8
                    i += 1
                value = bits & ((np.int64(1) << width) - 1)
                bits >>= width
                held -= width
                if value >= len(counts):
                    return False
                counts[value] += 1
            i = end
        else:
            value = np.int64(0)
            for place in range((width + 7) // 8):
                if i >= len(data):
                    return False
                value |= np.int64(data[i]) << (8 * place)
                i += 1
            if value >> width or value >= len(counts):
                return False
            counts[value] += count
    return True


def _longest_value(source: pa.NativeFile, chunk: Chunk, page: _Page) -> int:
    """Bytes of the longest value on a dictionary page; all of the page where that is not known."""
    data = _decompressed(source, chunk, page)
    return page.bytes if data is None else int(_longest(data))


@kernel
def _longest(data: Bytes) -> int:
    """The longest of the values of a page, each with its length before it; the page's length if it is damaged."""
    longest, i = 0, 0
    while i + 4 <= len(data):
        length = _length(data, i)
        i += 4 + length
        if i > len(data):
            return len(data)
        longest = max(longest, length)
    return longest


# Thrift's compact protocol

_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _MAP, _STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, (9, 10), 11, 12
_MAX_DEPTH = 8


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """(field -> value, position behind). Raises: IndexError: if the data is too short, no struct, or one that has a
    field twice, of which libraries merge the values."""
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
        if number in fields:
            raise IndexError
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
