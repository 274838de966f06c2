"""The bytes of a file in blocks of bounded size, and the positions of the rows in a block.

Arrow's readers need whole rows in memory and stop at the first malformed one. So the scans in `json` and `delimited`
first find where rows end, with just enough of each format's grammar. Arrow then parses a block of complete rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

FIRST_BLOCK_BYTES = 256 << 10
"""Size of the first block of a file: enough to see its columns, so that a wrong column name is reported at once."""

BLOCK_BYTES = 4 << 20
"""Size of the other blocks. A block is longer if one row is."""

MAX_ROW_BYTES = 256 << 20
"""Limit of one row, since a row is held in memory. JSON lines: a longer row is replaced by its first bytes, with the
fault `oversize`. CSV and JSON arrays: the file is unreadable from there on, since the end of the row is not known."""

_READ_BYTES = 256 << 10
"""Bytes per read call."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Bytes = NDArray[np.uint8]
Offsets = NDArray[np.int64]


class RowBlock(NamedTuple):
    """Complete rows in memory. Row i is `data[starts[i]:ends[i]]`; the bytes between rows are white space.

    starts, ends: int64 [rows]. fault: the fault of every row in the block, if they are not as in the file (`oversize`).
    carriage_returns: some row of a delimited file contains `\\r` outside quotes, where Arrow would end the row.
    """

    data: bytearray
    starts: Offsets
    ends: Offsets
    fault: str | None = None
    carriage_returns: bool = False

    def row(self, index: int) -> bytes:
        """The bytes of one row."""
        return bytes(self.data[self.starts[index] : self.ends[index]])


def read_blocks(file: BinaryIO) -> Iterator[bytearray]:
    """Yield the bytes of a file in blocks, without a UTF-8 byte order mark.

    If reading fails, the bytes read so far are yielded before the error is raised.
    """
    first = True
    for block in _read_blocks(file):
        if first and block.startswith(_BYTE_ORDER_MARK):
            block = block[len(_BYTE_ORDER_MARK) :]
        first = False
        yield block


def _read_blocks(file: BinaryIO) -> Iterator[bytearray]:
    block, size = bytearray(), FIRST_BLOCK_BYTES
    try:
        while chunk := file.read(_READ_BYTES):
            block += chunk
            if len(block) >= size:
                yield block
                block, size = bytearray(), BLOCK_BYTES
    except Exception:
        if block:
            yield block
        raise
    if block:
        yield block
