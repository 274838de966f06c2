"""Cut a stream of bytes at its rows, a bounded block at a time: lines, CSV records, the elements of a JSON array.

The readers of Arrow want whole rows in memory and give up on the first bad one, without saying which row it was. So
rows are found first, by scans that understand just enough of each format to see where a row ends; then Arrow parses
a block of known rows, and when it refuses, the block is gone through row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dedup.kernel import kernel

FIRST_BLOCK = 256 << 10
"""Bytes of the first block of a file: enough to see its columns, so that a misnamed one is told at once."""

BLOCK = 4 << 20
"""Bytes of the other blocks. A row longer than that makes its block as long as itself."""

ROW_LIMIT = 256 << 20
"""A row longer than this is not held in memory: its first bytes stand for it, with the fault `oversize`."""

KEPT_OF_FAULT = 64 << 10
"""Bytes kept of a row that could not be read."""

OPEN_QUOTE = "it opens a quote that is never closed"
OPEN_ARRAY = "the JSON array does not end: the file is truncated, or brackets do not match"
NO_ARRAY = "no JSON array of objects was found at the top, nor in the object at the top"

_CHUNK = 256 << 10

Bytes = NDArray[np.uint8]
Offsets = NDArray[np.int64]


class Cut(NamedTuple):
    """Rows in memory: row i is `data[starts[i]:ends[i]]`. What lies between rows is white space.

    fields: the number of fields of each row, where the format has fields. fault: why these rows are not what the file
    holds, where they are not (`oversize`).
    """

    data: bytearray
    starts: Offsets
    ends: Offsets
    fields: Offsets | None = None
    fault: str | None = None

    def row(self, index: int) -> bytes:
        """The bytes of one row."""
        return bytes(self.data[self.starts[index] : self.ends[index]])


class Unreadable(Exception):
    """What follows the rows given so far cannot be cut into rows; the argument says why."""


def blocks(file: BinaryIO) -> Iterator[bytearray]:
    """The bytes of a file in blocks. Where reading fails, what was read so far is given before the error is raised."""
    held, size = bytearray(), FIRST_BLOCK
    try:
        while chunk := file.read(_CHUNK):
            held += chunk
            if len(held) >= size:
                yield held
                held, size = bytearray(), BLOCK
    except Exception:
        if held:
            yield held
        raise
    if held:
        yield held


def lines(parts: Iterator[bytearray]) -> Iterator[Cut]:
    """Rows that are lines. Empty lines are no rows; `\\r\\n` ends a line as `\\n` does."""
    pending: list[bytearray] = []  # a list, so that a row over many blocks is put together once
    held, skipping = 0, False
    for part in parts:
        end = part.rfind(b"\n") + 1
        if skipping:
            first = part.find(b"\n") + 1
            if not first:
                continue
            part, end, skipping = part[first:], end - first, False
        if end:
            pending.append(part[:end])
            yield _lines(_joined(pending))
            pending, held = [], 0
        pending.append(part[end:])
        held += len(part) - end
        if held > ROW_LIMIT:
            head = _joined(pending)[:KEPT_OF_FAULT]
            yield Cut(head, np.zeros(1, np.int64), np.full(1, len(head), np.int64), fault="oversize")
            pending, held, skipping = [], 0, True
    if held:
        yield _lines(_joined(pending))


def _joined(parts: list[bytearray]) -> bytearray:
    return parts[0] if len(parts) == 1 else bytearray().join(parts)


def _lines(data: bytearray) -> Cut:
    array = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(array == 10).astype(np.int64)
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    ends = ends - ((ends > starts) & (array[np.maximum(ends - 1, 0)] == 13))
    full = ends > starts
    return Cut(data, starts[full], ends[full])


def delimited(parts: Iterator[bytearray], delimiter: str, quoted: bool) -> Iterator[Cut]:
    """Rows of a CSV file (RFC 4180 where `quoted`: a field that opens with `"` may hold delimiters, newlines and `""`).

    Errors: Unreadable where a quote is never closed, since it may have swallowed any number of rows.
    """
    pending = bytearray()
    for part in parts:
        pending += part
        cut, rest = _delimited(pending, delimiter, quoted, last=False)
        if len(cut.starts):
            yield cut
        pending = rest
        if len(pending) > ROW_LIMIT:
            raise Unreadable(OPEN_QUOTE)
    if pending:
        cut, rest = _delimited(pending, delimiter, quoted, last=True)
        if len(cut.starts):
            yield cut
        if rest:
            raise Unreadable(OPEN_QUOTE)


def _delimited(data: bytearray, delimiter: str, quoted: bool, last: bool) -> tuple[Cut, bytearray]:
    array = np.frombuffer(data, np.uint8)
    starts, ends, fields = (np.empty(data.count(b"\n") + 1, np.int64) for _ in range(3))
    rows, used = _scan_delimited(array, ord(delimiter), 34 if quoted else -1, last, starts, ends, fields)
    return Cut(data[:used], starts[:rows], ends[:rows], fields[:rows]), data[used:]


@kernel
def _scan_delimited(
    data: Bytes, delimiter: int, quote: int, last: bool, starts: Offsets, ends: Offsets, fields: Offsets
) -> tuple[int, int]:
    """Find rows; returns how many, and the bytes they took. As Arrow has it, a quote opens only where a field does."""
    rows, start, count = 0, 0, 1
    in_quotes, field_start, closed = False, True, False
    size = len(data)
    for i in range(size):
        byte = data[i]
        if in_quotes:
            if byte == quote:
                in_quotes, closed = False, True
            continue
        if closed and byte == quote:  # a doubled quote: still the same field
            in_quotes, closed = True, False
            continue
        closed = False
        if byte == 10:
            end = i - 1 if i > start and data[i - 1] == 13 else i
            if end > start:
                starts[rows], ends[rows], fields[rows] = start, end, count
                rows += 1
            start, count, field_start = i + 1, 1, True
        elif byte == delimiter:
            count += 1
            field_start = True
        elif byte == quote and field_start:
            in_quotes, field_start = True, False
        else:
            field_start = False
    if last and start < size and not in_quotes:
        starts[rows], ends[rows], fields[rows] = start, size, count
        rows, start = rows + 1, size
    return rows, start


def elements(parts: Iterator[bytearray]) -> Iterator[Cut]:
    """Rows that are the elements of a JSON array: the file's value, or the first array of objects in its one object.

    Commas between elements are overwritten by newlines, so that `data` reads as one value after another.
    Errors: Unreadable where the file has no such array, or the array does not end.
    """
    pending = bytearray()
    state = np.array([_SEEK, 0, 0, -1], np.int64)
    seen = 0
    for part in parts:
        seen += len(part)
        scanned = len(pending)
        pending += part
        array = np.frombuffer(pending, np.uint8)
        starts, ends = (np.empty(part.count(b",") + 1, np.int64) for _ in range(2))
        rows = _scan_elements(array, scanned, state, starts, ends)
        del array  # a bytearray that is looked at cannot be cut
        open_element = int(state[3])
        used = len(pending) if open_element < 0 else open_element
        if rows:
            yield Cut(pending[:used], starts[:rows], ends[:rows])
        pending = pending[used:]
        if open_element >= 0:
            state[3] = 0
        if state[0] == _DONE:
            return
        if len(pending) > ROW_LIMIT:
            raise Unreadable(OPEN_ARRAY)
    if state[0] == _ELEMENTS:
        raise Unreadable(OPEN_ARRAY)
    if seen:
        raise Unreadable(NO_ARRAY)


_SEEK, _OBJECT, _MAYBE, _ELEMENTS, _DONE = 0, 1, 2, 3, 4


@kernel
def _scan_elements(data: Bytes, first: int, state: Offsets, starts: Offsets, ends: Offsets) -> int:
    """Find elements from byte `first` on; returns how many ended.

    state: phase, depth below the array, in a string (2 after a backslash), start of the open element or -1.
    Phases: _SEEK the first bracket, _OBJECT inside the one object, _MAYBE just after one of its `[`, _ELEMENTS, _DONE.
    An element runs to the comma or bracket behind it, so that what is no JSON between two commas is a broken row.
    """
    phase, depth, text, start = state[0], state[1], state[2], state[3]
    rows = 0
    for i in range(first, len(data)):
        byte = data[i]
        if text:
            if text == 2:
                text = 1
            elif byte == 92:
                text = 2
            elif byte == 34:
                text = 0
            continue
        blank = byte == 32 or byte == 10 or byte == 13 or byte == 9
        if phase == _SEEK:
            if byte == 91:
                phase, depth = _ELEMENTS, 0
            elif byte == 123:
                phase, depth = _OBJECT, 1
        elif phase in (_OBJECT, _MAYBE):
            if phase == _MAYBE and not blank:
                phase = _OBJECT
                if byte == 123:  # the array of objects: its first element opens here
                    phase, depth, start = _ELEMENTS, 1, i
                    continue
            if byte == 34:
                text = 1
            elif byte == 123 or byte == 91:
                depth += 1
                if byte == 91 and depth == 2:
                    phase = _MAYBE
            elif byte == 125 or byte == 93:
                depth -= 1
        elif phase == _ELEMENTS:
            if byte == 123 or byte == 91:
                if depth == 0 and start < 0:
                    start = i
                depth += 1
            elif depth == 0 and (byte == 44 or byte == 93):
                if start >= 0:
                    starts[rows], ends[rows] = start, i
                    rows += 1
                    start = -1
                if byte == 44:
                    data[i] = 10
                else:
                    data[i] = 32
                    phase = _DONE
                    break
            elif byte == 125 or byte == 93:
                depth -= 1
            else:
                if depth == 0 and start < 0 and not blank:
                    start = i
                if byte == 34:
                    text = 1
    state[0], state[1], state[2], state[3] = phase, depth, text, start
    return rows
