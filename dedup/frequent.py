"""Shingles that many rows share: the text of templates, tool descriptions, definitions and few-shot examples.

They say nothing about what a row asks, so they are left out before rows are compared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.kernel import kernel
from dedup.shingles import Shingles

Hashes = npt.NDArray[np.uint32]

MIN_TABLE_BITS = 10
"""log2 of the slots of the smallest lookup table."""
BITMAP_BITS = 20
"""log2 of the bits of the bitmap: 128 KB."""

_BITMAP_MASK, _3, _7 = np.uint32((1 << BITMAP_BITS) - 1), np.uint32(3), np.uint32(7)
_FIBONACCI = np.uint32(0x9E3779B1)  # 2**32 / golden ratio


class Counts(NamedTuple):
    """How many rows contain each shingle. hash: uint32 [n], ascending, distinct. rows: int64 [n]."""

    hash: Hashes
    rows: npt.NDArray[np.int64]


def count_values(values: Hashes) -> Counts:
    """How often each value occurs. Of the sets of rows: how many rows contain each shingle."""
    ordered = np.sort(values)
    first = np.flatnonzero(np.concatenate([np.ones(min(len(ordered), 1), np.bool_), ordered[1:] != ordered[:-1]]))
    return Counts(ordered[first], np.diff(np.append(first, len(ordered))))


def without(shingles: Shingles, frequent: Hashes) -> Shingles:
    """The shingles that are not in `frequent` uint32 [n], in the same order."""
    if not len(frequent):
        return shingles
    kept = np.empty(len(shingles.hash), np.uint32)
    offsets = _without(shingles.hash, shingles.offsets, *_table(frequent), kept)
    return Shingles(kept[: offsets[-1]], offsets)


@kernel
def _table(hashes):  # type: ignore[no-untyped-def]
    """A hash table with linear probing, at most half full: values, and which slots are taken. Also a bitmap of the low
    bits of all hashes, which is small enough for a cache and rejects most of the others."""
    bits = MIN_TABLE_BITS
    while 1 << bits < 2 * len(hashes):
        bits += 1
    values, taken = np.zeros(1 << bits, np.uint32), np.zeros(1 << bits, np.bool_)
    bitmap = np.zeros(1 << BITMAP_BITS - 3, np.uint8)
    for value in hashes:
        slot = np.int64(np.uint32(value * _FIBONACCI) >> np.uint32(32 - bits))
        while taken[slot]:
            slot = slot + 1 & len(taken) - 1
        values[slot], taken[slot] = value, True
        low = value & _BITMAP_MASK
        bitmap[low >> _3] |= np.uint8(1) << np.uint8(low & _7)
    return values, taken, bitmap


@kernel
def _without(hashes, offsets, values, taken, bitmap, out):  # type: ignore[no-untyped-def]
    """Write the shingles of each row that are not in the table; their offsets."""
    bits = 0
    while 1 << bits < len(taken):
        bits += 1
    shift = np.uint32(32 - bits)
    kept_offsets = np.empty(len(offsets), np.int64)
    at = np.int64(0)
    for row in range(len(offsets) - 1):
        kept_offsets[row] = at
        for i in range(offsets[row], offsets[row + 1]):
            value = hashes[i]
            low = value & _BITMAP_MASK
            if bitmap[low >> _3] >> np.uint8(low & _7) & np.uint8(1):
                slot = np.int64(np.uint32(value * _FIBONACCI) >> shift)
                while taken[slot] and values[slot] != value:
                    slot = slot + 1 & len(taken) - 1
                if taken[slot]:
                    continue
            out[at] = value
            at += 1
    kept_offsets[len(offsets) - 1] = at
    return kept_offsets
