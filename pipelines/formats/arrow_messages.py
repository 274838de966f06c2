"""How much memory do the batches of an Arrow file take? Found from their metadata, before Arrow decompresses them.

The metadata are flatbuffers (Arrow's format/Message.fbs). Arrow checks their structure itself; what is not understood
here is left to it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pyarrow as pa

MAX_BATCH_BYTES = 1 << 30
"""A file with a compressed batch that takes more memory is refused: Arrow holds a batch in memory."""

_DICTIONARY, _BATCH = 2, 3
"""Kinds of messages with a body."""

_CONTINUATION = 0xFFFFFFFF


def largest_batch(source: pa.NativeFile, start: int) -> tuple[int, int]:
    """(number, bytes in memory) of the largest compressed batch or dictionary. start: of the first message."""
    sizes = [(size, -number) for number, size in enumerate(_sizes(source, start))]
    size, number = max(sizes, default=(0, 0))
    return -number, size


def _sizes(source: pa.NativeFile, at: int) -> Iterator[int]:
    end = source.size()
    while at + 8 <= end:
        first, length = struct.unpack("<II", source.read_at(8, at))
        if first == _CONTINUATION:
            at += 8
        else:  # of old versions
            length, at = first, at + 4
        if not length or at + length > end:
            return
        metadata = source.read_at(length, at)
        at += length
        try:
            body, kind, batch = _message(metadata)
            buffers = [] if batch is None else list(_buffers(metadata, batch))
        except struct.error:
            return
        if kind in (_DICTIONARY, _BATCH):
            prefixes = (source.read_at(8, at + offset) for offset, size in buffers if size >= 8 and offset >= 0)
            yield sum(max(struct.unpack("<q", prefix)[0], 0) for prefix in prefixes if len(prefix) == 8)
        if body < 0:
            return
        at += body


def _message(data: bytes) -> tuple[int, int, int | None]:
    """(bytes of the body, kind, place of the compressed record batch in the metadata; None if it is not compressed)."""
    table = _indirect(data, 0)
    kind_at, header_at, body_at = (_field(data, table, index) for index in (1, 2, 3))
    kind = data[kind_at] if kind_at and kind_at < len(data) else 0
    body = struct.unpack_from("<q", data, body_at)[0] if body_at else 0
    if kind not in (_DICTIONARY, _BATCH) or not header_at:
        return body, kind, None
    batch = _indirect(data, header_at)
    if kind == _DICTIONARY:
        inner = _field(data, batch, 1)
        if not inner:
            return body, kind, None
        batch = _indirect(data, inner)
    return body, kind, batch if _field(data, batch, 3) else None


def _buffers(data: bytes, batch: int) -> Iterator[tuple[int, int]]:
    """(offset, bytes) of each buffer in the body."""
    if not (place := _field(data, batch, 2)):
        return
    vector = _indirect(data, place)
    (count,) = struct.unpack_from("<I", data, vector)
    for index in range(min(count, len(data) // 16)):
        yield struct.unpack_from("<qq", data, vector + 4 + 16 * index)


def _indirect(data: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", data, at)[0])


def _field(data: bytes, table: int, index: int) -> int:
    """Where a table has the field; 0 if it has it not."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if vtable < 0:
        raise struct.error
    (size,) = struct.unpack_from("<H", data, vtable)
    entry = 4 + 2 * index
    (offset,) = struct.unpack_from("<H", data, vtable + entry) if entry < size else (0,)
    return table + int(offset) if offset else 0
