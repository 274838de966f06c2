"""How are some rows of an Arrow IPC file read? A local file is memory-mapped. Of a remote one only the bytes of these
rows are read, by range requests.

The bytes of a remote file are placed in anonymous memory of the file's size, at their places. Arrow then opens it as it
opens a mapped file. Pages that nothing is written to take no memory, and no read touches them.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.errors import InputError
from pipelines.ledger import storage
from pipelines.ledger.storage import TableRef

WHOLE_BYTES = 1 << 20
"""A remote file of fewer bytes is read with one request: a request takes as long as this many bytes."""

TAIL_BYTES = 1 << 16
"""Bytes of the first request to a larger file. They contain the footer."""

MAGIC = b"ARROW1"

Range = tuple[int, int]
"""The first byte of a range, and the byte after its last."""


class ArrowFile:
    """An Arrow IPC file, open for reading rows. Not changed while it is open.

    rows: of the whole file. schema: with its metadata.
    """

    def __init__(self, path: str, size: int | None = None) -> None:
        """Open a file. size: in bytes, where it is known; saves a request.

        Raises:
            FileNotFoundError: if there is no such file.
            InputError: naming the file, if it is not an Arrow file.
        """
        self.path = path
        try:
            if storage.is_local(path):
                storage.check_digest(path)
                self._source: pa.Buffer | None = pa.memory_map(path.removeprefix("file://")).read_buffer()
                self._known: list[tuple[int, bytes]] = []
                reader = pa.ipc.open_file(self._source)
                batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
            else:
                self._size = _size_of(path) if size is None else size
                self._source = None
                self._known = _structure(path, self._size)
                if self._known[0][0] == 0 and len(self._known[0][1]) == self._size:
                    self._source = pa.py_buffer(self._known[0][1])
                reader = pa.ipc.open_file(self._source or pa.py_buffer(self._placed()))
                batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
        except (pa.ArrowInvalid, struct.error, IndexError) as error:
            raise InputError(f"{path}: cannot be read as an Arrow file ({error})") from error
        self.schema: pa.Schema = reader.schema
        self._rows = [batch.num_rows for batch in batches]
        self._starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(self._rows, dtype=np.int64)])
        self.rows = int(self._starts[-1])
        self._batches: list[pa.RecordBatch] = batches if self._source is not None else []

    def read(self, start: int = 0, stop: int | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows from `start` up to `stop`, by default all, of some columns. Not copied if the file is mapped."""
        stop = self.rows if stop is None else stop
        schema = self.schema if columns is None else self._fields(columns)
        parts = [
            batch.select(schema.names).slice(max(start - first, 0), min(stop, last) - max(start, first))
            for first, last, batch in self._within(start, stop, schema.names)
        ]
        return pa.Table.from_batches([part.cast(schema) if part.schema != schema else part for part in parts], schema)

    def _fields(self, names: Sequence[str]) -> pa.Schema:
        return pa.schema([self.schema.field(name) for name in names], self.schema.metadata)

    def window(self, row: int, size: int) -> tuple[int, pa.RecordBatch]:
        """A batch that contains a row, and its first row: all of it where the file is mapped, else about `size` bytes
        of it from that row on.
        """
        index = int(np.searchsorted(self._starts, row, "right")) - 1
        first, rows = int(self._starts[index]), self._rows[index]
        if self._batches:
            return first, self._batches[index]
        count = max(1, size * self.rows // max(self._size, 1))
        start = first + (row - first) // count * count
        (batch,) = self.read(start, min(start + count, first + rows)).to_batches()
        return start, batch

    def _within(self, start: int, stop: int, names: Sequence[str]) -> Iterator[tuple[int, int, pa.RecordBatch]]:
        """First row, row after the last, and batch of those batches that have a row of the range."""
        spans = list(zip(self._starts[:-1].tolist(), self._starts[1:].tolist(), strict=True))
        wanted = [index for index, (first, last) in enumerate(spans) if start < last and first < stop]
        if self._source is not None:
            yield from ((*spans[index], self._batches[index]) for index in wanted)
            return
        memory = self._placed()
        buffer = pa.py_buffer(memory)
        reader = pa.ipc.open_file(buffer)
        batches = [reader.get_batch(index) for index in wanted]
        pending = [
            (batch.column(name), max(start - spans[index][0], 0), min(stop, spans[index][1]) - spans[index][0])
            for index, batch in zip(wanted, batches, strict=True)
            for name in names
        ]
        while pending:
            ranges: list[Range] = []
            deeper = []
            for array, first, last in pending:
                now, then = _needed(array, first, last, buffer.address)
                ranges += now
                deeper.append(then)
            self._fill(memory, ranges)
            pending = []
            for then in deeper:
                for step in then:
                    pending += step()
        yield from ((*spans[index], batch) for index, batch in zip(wanted, batches, strict=True))

    def _placed(self) -> mmap.mmap:
        """Memory of the file's size with what is known of it in its places."""
        memory = mmap.mmap(-1, max(self._size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for place, data in self._known:
            memory[place : place + len(data)] = data
        return memory

    def _fill(self, memory: mmap.mmap, ranges: Sequence[Range]) -> None:
        wanted = [(start, stop) for start, stop in ranges if stop > start]
        for (start, _), data in zip(wanted, storage.read_ranges(self.path, wanted), strict=True):
            memory[start : start + len(data)] = data


def _size_of(path: str) -> int:
    size = storage.size(path)
    if size < 0:
        raise FileNotFoundError(path)
    return size


def _structure(path: str, size: int) -> list[tuple[int, bytes]]:
    """The footer and the metadata of the batches, each with its place; of a small file all of it."""
    if size < WHOLE_BYTES:
        return [(0, storage.read_bytes(path))]
    tail = storage.read_range(path, size - TAIL_BYTES, size)
    if tail[-len(MAGIC) :] != MAGIC:
        raise pa.ArrowInvalid("it does not end as one")
    (length,) = struct.unpack_from("<i", tail, len(tail) - len(MAGIC) - 4)
    if not 0 < length < size:
        raise pa.ArrowInvalid("its footer is damaged")
    needed = length + len(MAGIC) + 4
    if needed > len(tail):
        tail = storage.read_range(path, size - needed, size)
    ranges = list(_blocks(tail[len(tail) - needed : len(tail) - len(MAGIC) - 4]))
    return [(size - len(tail), tail)] + [
        (start, data) for (start, _), data in zip(ranges, storage.read_ranges(path, ranges), strict=True)
    ]


def _blocks(footer: bytes) -> Iterator[Range]:
    """Where the metadata of each record batch lies: field 3 of the footer, a flatbuffer (Arrow's format/File.fbs)."""
    (table,) = struct.unpack_from("<I", footer, 0)
    (back,) = struct.unpack_from("<i", footer, table)
    vtable = table - back
    (vtable_bytes,) = struct.unpack_from("<H", footer, vtable)
    entry = 4 + 2 * 3
    (field,) = struct.unpack_from("<H", footer, vtable + entry) if entry < vtable_bytes else (0,)
    if not field:
        return
    vector = table + field + struct.unpack_from("<I", footer, table + field)[0]
    (count,) = struct.unpack_from("<I", footer, vector)
    for index in range(count):  # struct Block: int64 offset, int32 length of the metadata, int64 length of the body
        offset, metadata_bytes = struct.unpack_from("<qi", footer, vector + 4 + 24 * index)
        yield offset, offset + metadata_bytes


def _needed(array: pa.Array, start: int, stop: int, base: int) -> tuple[list[Range], list[Any]]:
    """The ranges of the file that rows of an array need, and functions to call when these are read: each returns the
    arrays, with their rows, that are needed below it. base: address of the file's first byte."""
    kind, buffers = array.type, array.buffers()
    ranges: list[Range] = []
    start, stop = start + array.offset, stop + array.offset

    def need(buffer: pa.Buffer | None, first: int, last: int) -> None:
        if buffer is not None and last > first:
            ranges.append((buffer.address - base + first, buffer.address - base + last))

    if stop <= start or pa.types.is_null(kind):
        return [], []
    need(buffers[0], start // 8, stop // 8 + 1)
    if pa.types.is_boolean(kind):
        need(buffers[1], start // 8, stop // 8 + 1)
        return ranges, []
    if pa.types.is_struct(kind):
        return ranges, [lambda: [(array.field(i), start, stop) for i in range(kind.num_fields)]]
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        return ranges, [lambda: [(array.values, start * size, stop * size)]]
    text = pa.types.is_string(kind) or pa.types.is_binary(kind)
    large_text = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    large_list = pa.types.is_large_list(kind)
    if text or large_text or large_list or pa.types.is_list(kind):
        width = 8 if large_text or large_list else 4
        need(buffers[1], start * width, (stop + 1) * width)

        def below() -> list[tuple[pa.Array, int, int]]:
            offsets = np.frombuffer(buffers[1], np.int64 if width == 8 else np.int32)
            first, last = int(offsets[start]), int(offsets[stop])
            if not text and not large_text:
                return [(array.values, first, last)]
            length = len(buffers[2]) if buffers[2] is not None else 0
            data = pa.Array.from_buffers(pa.uint8(), length, [None, buffers[2]])
            return [(data, first, last)]

        return ranges, [below]
    bits = kind.bit_width  # ValueError for other types: Winnow writes none
    need(buffers[1], start * bits // 8, stop * bits // 8)
    return ranges, []


def ids_of(file: TableRef) -> pa.StringArray:
    """The column `id` of a file of rows: Parquet, or Arrow for tokens."""
    if file.path.endswith(".parquet"):
        return storage.read_parquet(file.path, ["id"])["id"].combine_chunks()
    return ArrowFile(file.path, file.bytes).read(columns=["id"])["id"].combine_chunks()
