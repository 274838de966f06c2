"""The bytes of a file in blocks of bounded size, and the positions of the rows in a block.

Arrow's readers need whole rows in memory and stop at the first malformed one. So the scans in `json` and `delimited`
first find where rows end, with just enough of each format's grammar. Arrow then parses a block of complete rows.
"""

from __future__ import annotations

import codecs
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.formats.faults import MAX_BROKEN_BYTES, Unreadable
from pipelines.formats.span import WHOLE, Span
from pipelines.ledger import input_files

FIRST_BLOCK_BYTES = 256 << 10
"""Size of the first block of a file: enough to see its columns, so that a wrong column name is reported at once."""

BLOCK_BYTES = 4 << 20
"""Size of the other blocks. A block is longer if one row is."""

MAX_ROW_BYTES = 256 << 20
"""Limit of one row, since a row is held in memory. A longer one is replaced by its first bytes, with the fault
`oversize`; its end is looked for without holding it. Of Parquet and Arrow files, the limit of a row's text."""

_READ_BYTES = 256 << 10
"""Bytes per read call."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order mark -> encoding. That of UTF-32 begins with that of UTF-16."""

Bytes = NDArray[np.uint8]
Offsets = NDArray[np.int64]


class RowBlock(NamedTuple):
    """Complete rows in memory. Row i is `data[starts[i]:ends[i]]`; the bytes between rows are white space.

    starts, ends: int64 [rows]. fault: the fault of every row in the block, if they are not as in the file (`oversize`).
    Of a delimited file: marks: uint8 [rows], how Arrow would read a row otherwise than it is meant (see `delimited`);
    quoted: whether quotes enclose fields, as in its dialect.
    """

    data: bytearray
    starts: Offsets
    ends: Offsets
    fault: str | None = None
    marks: Bytes | None = None
    quoted: bool | None = None

    def row(self, index: int) -> bytes:
        """The bytes of one row."""
        return bytes(self.data[self.starts[index] : self.ends[index]])


def read_blocks(file: BinaryIO, encoding: str | None = None, span: Span = WHOLE) -> Iterator[bytearray]:
    """Yield the bytes of a text file as UTF-8 in blocks, without a byte order mark.

    span: the lines to read, of a file of which `splits_at_newlines` is true.
    encoding: of the file, by default that of its byte order mark, UTF-16 if every other byte at its start is zero, or
    UTF-8. If reading fails, the bytes read so far are yielded before the error is raised.

    Raises: Unreadable: if the file is not in its encoding. Without `encoding`, rows that are not UTF-8 are left to the
        reader, unless the first block looks like Windows-1252.
    """
    blocks = _read_blocks(_Lines(file, span) if span.start or span.stop is not None else file)
    if span.start:
        yield from blocks
        return
    first = next(blocks, None)
    if first is None:
        return
    mark, name = _mark_and_encoding(first, encoding)
    first = first[len(mark) :]
    every = itertools.chain([first], blocks)
    if name is not None and codecs.lookup(name).name != "utf-8":
        yield from _decode(every, name)
        return
    if name is None:
        _check_utf8(first)
    yield from every


def splits_at_newlines(first: bytearray, encoding: str | None) -> bool:
    """Whether the lines of a text file can be found from any byte on: it is UTF-8. first: its first bytes."""
    name = _mark_and_encoding(first, encoding)[1]
    return name is None or codecs.lookup(name).name == "utf-8"


def _mark_and_encoding(first: bytearray, encoding: str | None) -> tuple[bytes, str | None]:
    """The byte order mark, and the encoding of a file, None if it does not tell: UTF-8."""
    mark, name = next(((mark, name) for mark, name in _BYTE_ORDER_MARKS if first.startswith(mark)), (b"", None))
    return mark, name or encoding or _without_mark(first[len(mark) :])


class _Lines:
    """The lines of an open file that begin in a span, to be read in order."""

    def __init__(self, file: BinaryIO, span: Span) -> None:
        self._file, self._at = file, _line_start(file, span.start)
        self._end = None if span.stop is None else _line_start(file, span.stop)
        file.seek(self._at)

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end of the span."""
        if self._end is not None:
            size = max(min(size, self._end - self._at), 0)
        data = self._file.read(size)
        self._at += len(data)
        return data


def _line_start(file: BinaryIO, place: int) -> int:
    """The first byte of the first line that begins at a place of a file or after it."""
    if not place:
        return 0
    at = place - 1
    file.seek(at)
    while data := file.read(_READ_BYTES):
        if (end := data.find(b"\n")) >= 0:
            return at + end + 1
        at += len(data)
    return at


def with_newlines(blocks: Iterator[bytearray], quoted: bool) -> Iterator[bytearray]:
    """The blocks of a text file with `\\n` at the ends of its lines, if they end with `\\r` alone.

    They do if there is no other end of a line in the first block. quoted: what is in double quotes ends no line, and
    the first block is longer than others if its first line is.
    """
    first = bytearray()
    ends: bytes | bytearray = b""
    for block in blocks:
        first += block
        ends = _QUOTED.sub(b"", first) if quoted else first
        if not quoted or b"\n" in ends or b"\r" in ends[:-1] or len(first) > _MAX_FIRST_LINE:
            break
    if first:
        every = itertools.chain([first], blocks)
        yield from _without_carriage_returns(every) if b"\r" in ends and b"\n" not in ends else every


_QUOTED = re.compile(rb'"[^"]*+"')

_MAX_FIRST_LINE = 16 << 20
"""Bytes in which the first end of a line is looked for."""


def _without_carriage_returns(blocks: Iterator[bytearray]) -> Iterator[bytearray]:
    pending = b""
    for block in blocks:
        data = pending + block
        pending = b"\r" if data.endswith(b"\r") else b""  # a newline may follow
        yield bytearray(data[: len(data) - len(pending)]).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if pending:
        yield bytearray(b"\n")


def limited(block: RowBlock) -> Iterator[RowBlock]:
    """The rows of a block, those over MAX_ROW_BYTES as blocks of their own with their first bytes."""
    over = np.flatnonzero(block.ends - block.starts > MAX_ROW_BYTES) if len(block.data) > MAX_ROW_BYTES else ()
    at = 0
    for row in (*over, len(block.starts)):
        if row > at:
            first, rows = int(block.starts[at]), slice(at, row)
            marks = None if block.marks is None else block.marks[rows]
            data = block.data[first : int(block.ends[row - 1])] if len(over) else block.data
            first = first if len(over) else 0
            yield block._replace(
                data=data, starts=block.starts[rows] - first, ends=block.ends[rows] - first, marks=marks
            )
        if row < len(block.starts):
            yield oversize(block.data[block.starts[row] : block.starts[row] + MAX_BROKEN_BYTES])
        at = row + 1


def oversize(head: bytearray) -> RowBlock:
    """A row that is too long, as its first bytes."""
    return RowBlock(head, np.zeros(1, np.int64), np.full(1, len(head), np.int64), fault="oversize")


def _without_mark(first: bytearray) -> str | None:
    """The encoding of text that begins with ASCII characters in UTF-16; else None."""
    head = bytes(first[:4])
    if len(head) == 4 and 0 not in head[::2] and not any(head[1::2]):
        return "utf-16-le"
    return "utf-16-be" if len(head) == 4 and 0 not in head[1::2] and not any(head[::2]) else None


def _decode(blocks: Iterator[bytearray], encoding: str) -> Iterator[bytearray]:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in blocks:
            yield bytearray(decoder.decode(bytes(block)).encode(errors="surrogatepass"))
        yield bytearray(decoder.decode(b"", final=True).encode(errors="surrogatepass"))
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not {encoding} ({error.reason})") from error


def _check_utf8(first: bytearray) -> None:
    """Raises: Unreadable: if the text is not UTF-8 anywhere, and looks like another encoding and not like damage."""
    if first.isascii():
        return
    rows = bytes(first).splitlines()
    if len(first) >= FIRST_BLOCK_BYTES:  # the last row may be cut inside a character
        rows = rows[:-1]
    bad = [row for row in rows if not _is_utf8(row)]
    if not bad or len(bad) < sum(not row.isascii() for row in rows):
        return
    legacy = [row for row in bad if _LEGACY.search(row)]
    if _are_legacy(legacy, rows):
        word = _LEGACY.search(legacy[0])
        assert word is not None
        what = f"line {rows.index(legacy[0]) + 1} has {word[0].decode('cp1252')!r} if it is Windows-1252"
    elif len(bad) >= max(10, len(rows) / 2):
        what = f"{len(bad)} of its first {len(rows)} lines are not"
    else:
        return
    raise Unreadable(
        f"it is not UTF-8: {what}; give the source its `encoding` (cp1252, latin-1, shift_jis, gb18030 ...), or "
        "`encoding: utf-8` to drop such rows"
    )


def looks_like_windows_1252(path: str) -> bool:
    """Whether the first block of a text file is not UTF-8 and looks like Windows-1252, as spreadsheets write it."""
    with input_files.open_input(path) as file:
        first = file.read(FIRST_BLOCK_BYTES)
    rows = first.splitlines()[: -1 if len(first) >= FIRST_BLOCK_BYTES else None]
    return b"\0" not in first and _are_legacy([row for row in rows if not _is_utf8(row) and _LEGACY.search(row)], rows)


def _are_legacy(legacy: Sequence[bytes], rows: Sequence[bytes]) -> bool:
    return bool(legacy) and len(legacy) >= len(rows) * _LEGACY_SHARE


_LEGACY = re.compile(
    rb"[A-Za-z][\xc0-\xd6\xd8-\xf6\xf8-\xff\x91\x92](?![\x80-\xbf])|[\xc0-\xd6\xd8-\xf6\xf8-\xff][a-z]"
)
"""A letter beyond ASCII, or an apostrophe, in the middle of a word of Windows-1252."""

_LEGACY_SHARE = 0.01
"""The least share of lines that look like Windows-1252 in a file that does. A single one may be damage."""


def _is_utf8(row: bytes) -> bool:
    try:
        row.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_blocks(file: BinaryIO | _Lines) -> Iterator[bytearray]:
    block, size = bytearray(), FIRST_BLOCK_BYTES
    try:
        # Blocks of the same sizes, whatever a decompressor returns at a time.
        while chunk := file.read(min(_READ_BYTES, size - len(block))):
            block += chunk
            if len(block) == size:
                yield block
                block, size = bytearray(), BLOCK_BYTES
    except Exception:
        if block:
            yield block
        raise
    if block:
        yield block
