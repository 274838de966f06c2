"""Shingles that many rows share: the text of templates, tool descriptions, definitions and few-shot examples.

They say nothing about what a row asks, so they are left out before rows are compared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.kernel import kernel
from dedup.shingles import Shingles
from dedup.similarity import Sets

Hashes = npt.NDArray[np.uint32]

MIN_TABLE_BITS = 10
"""log2 of the slots of the smallest lookup table."""

_FIBONACCI = np.uint32(0x9E3779B1)  # 2**32 / golden ratio


class Counts(NamedTuple):
    """How many rows contain each shingle. hash: uint32 [n], ascending, distinct. rows: int64 [n]."""

    hash: Hashes
    rows: npt.NDArray[np.int64]


def count_rows(sets: Sets) -> Counts:
    """In how many of the sets each shingle is."""
    hashes, rows = np.unique(sets.hash, return_counts=True)
    return Counts(hashes, rows.astype(np.int64))


def without(shingles: Shingles, frequent: Hashes) -> Shingles:
    """The shingles that are not in `frequent` uint32 [n], in the same order."""
    if not len(frequent):
        return shingles
    kept = np.empty(len(shingles.hash), np.uint32)
    offsets = _without(shingles.hash, shingles.offsets, *_table(frequent), kept)
    return Shingles(kept[: offsets[-1]], offsets)


@kernel
def _table(hashes):  # type: ignore[no-untyped-def]
    """A hash table with linear probing, at most half full: values, and which slots are taken."""
    bits = MIN_TABLE_BITS
    while 1 << bits < 2 * len(hashes):
        bits += 1
    values, taken = np.zeros(1 << bits, np.uint32), np.zeros(1 << bits, np.bool_)
    for value in hashes:
        slot = np.int64(np.uint32(value * _FIBONACCI) >> np.uint32(32 - bits))
        while taken[slot]:
            slot = slot + 1 & len(taken) - 1
        values[slot], taken[slot] = value, True
    return values, taken


@kernel
def _without(hashes, offsets, values, taken, out):  # type: ignore[no-untyped-def]
    """Write the shingles of each row that are not in the table; their offsets."""
    bits = 0
    while 1 << bits < len(taken):
        bits += 1
    kept_offsets = np.empty(len(offsets), np.int64)
    at = np.int64(0)
    for row in range(len(offsets) - 1):
        kept_offsets[row] = at
        for i in range(offsets[row], offsets[row + 1]):
            value = hashes[i]
            slot = np.int64(np.uint32(value * _FIBONACCI) >> np.uint32(32 - bits))
            while taken[slot] and values[slot] != value:
                slot = slot + 1 & len(taken) - 1
            if not taken[slot]:
                out[at] = value
                at += 1
    kept_offsets[len(offsets) - 1] = at
    return kept_offsets
