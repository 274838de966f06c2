"""A record as one stream of tokens: the instruction's, then the response's.

Reading both fields as one text finds an item that begins in one field and ends in the other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.kernel import buffers, kernel
from dedup.tokens import Tokens, tokenize
from filters.contamination.grams import prefix_hashes
from filters.contamination.layout import READING

_U64 = npt.NDArray[np.uint64]
_I64 = npt.NDArray[np.int64]


class Stream(NamedTuple):
    """The tokens of texts, row after row, within a row the instruction's first.

    hash: uint64 [T]; prefix: uint64 [T + 1], prefix hashes over the whole stream; offsets: int64 [rows + 1], the tokens
    of row r are [offsets[r] : offsets[r + 1]]; split: int64 [rows], how many of them are the instruction's.
    """

    hash: _U64
    prefix: _U64
    offsets: _I64
    split: _I64


class Field(NamedTuple):
    """One column of the texts.

    start, end: int32 [tokens], the bytes of each token, relative to its row's first byte; offsets: int64 [rows + 1],
    the tokens of row r are [offsets[r] : offsets[r + 1]]; data: uint8, the column's bytes; row_start: int64 [rows + 1],
    where each row begins in `data`.
    """

    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]
    offsets: _I64
    data: npt.NDArray[np.uint8]
    row_start: _I64


def read_stream(instruction: pa.StringArray, response: pa.StringArray) -> tuple[Stream, tuple[Field, Field]]:
    """Tokenize both columns [rows]: the joined stream, and the two fields that its tokens come from."""
    left, right = tokenize(instruction, READING), tokenize(response, READING)
    fields = (
        Field(left.start, left.end, left.offsets, *buffers(instruction)),
        Field(right.start, right.end, right.offsets, *buffers(response)),
    )
    return _join(left, right), fields


def _join(left: Tokens, right: Tokens) -> Stream:
    offsets = left.offsets + right.offsets
    joined = np.empty(int(offsets[-1]), np.uint64)
    _interleave(left.hash, left.offsets, right.hash, right.offsets, offsets, joined)
    return Stream(joined, prefix_hashes(joined), offsets, np.diff(left.offsets))


@kernel
def _interleave(left, left_offsets, right, right_offsets, offsets, joined):  # type: ignore[no-untyped-def]
    for row in range(len(offsets) - 1):
        out = offsets[row]
        for i in range(left_offsets[row], left_offsets[row + 1]):
            joined[out] = left[i]
            out += 1
        for i in range(right_offsets[row], right_offsets[row + 1]):
            joined[out] = right[i]
            out += 1
