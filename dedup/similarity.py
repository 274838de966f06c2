"""The exact Jaccard similarity of pairs of rows, over their sets of shingles.

Exact up to the 32 bits of a shingle hash: two different shingles of rows with n and m shingles collide with a
probability of n * m / 2**32, which changes the Jaccard of two rows of 1,000 words by 1e-7 on average.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.intrinsics import LANES, count_matches
from dedup.kernel import kernel
from dedup.shingles import Shingles
from dedup.sorting import MAX_INSERTION_SORT, MAX_RADIX_BITS, insertion_sort

ROUNDING = 1e-9
"""Tolerance of bounds that follow from a threshold: 0.55 * 100 is slightly more than 55."""


class Sets(NamedTuple):
    """The shingle sets of rows: those of row r are hash[offsets[r] : offsets[r + 1]], ascending, each once.

    hash: uint32 [total]; offsets: int64 [rows + 1].
    """

    hash: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]


def shingle_sets(shingles: Shingles) -> Sets:
    """Sort the shingles of each row and drop repeats.

    Uses one radix pass and an insertion sort, as in `dedup.sorting`. That is three times as fast as a comparison sort,
    which is used only for rows that repeat a shingle often.
    """
    hashes = np.empty(len(shingles.hash), np.uint32)
    offsets = _shingle_sets(shingles.hash, shingles.offsets, hashes)
    return Sets(hashes[: offsets[-1]], offsets)


def gather(
    sets: Sets, rows: npt.NDArray[np.int64], positions: npt.NDArray[np.int64], out: npt.NDArray[np.uint32]
) -> None:
    """Copy the set of rows[i] into `out` uint32 [total], from index positions[i] on.

    rows, positions: int64 [n]. Collects sets from several files, in any order, with a single copy.
    """
    _gather(sets.hash, sets.offsets, rows, positions, out)


def jaccard(sets: Sets, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The size of the intersection divided by that of the union, of rows pairs[:, 0] and pairs[:, 1].

    pairs: int64 [n, 2]. Returns float64 [n]. The similarity of two empty sets is 0, since a row without shingles
    (shorter than the n-gram) cannot be compared.
    """
    similarities = np.empty(len(pairs), np.float64)
    _jaccard(sets.hash, sets.offsets, pairs, similarities)
    return similarities


@kernel
def _shingle_sets(hashes, offsets, out):  # type: ignore[no-untyped-def]
    """Write the set of each row to `out`; the offsets of the sets."""
    rows = len(offsets) - 1
    set_offsets = np.empty(rows + 1, np.int64)
    # Working memory for the longest row, allocated once.
    longest, most_bits = 0, 1
    for row in range(rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    while 1 << most_bits < longest and most_bits < MAX_RADIX_BITS:
        most_bits += 1
    ordered, ends = np.empty(longest, np.uint32), np.empty((1 << most_bits) + 1, np.int64)
    at = np.int64(0)
    for row in range(rows):
        set_offsets[row] = at
        unordered = hashes[offsets[row] : offsets[row + 1]]
        count, bits = len(unordered), 1
        if count == 0:
            continue
        # A counting sort by the high bits, with about one bucket per shingle: sizes, then starts, then each shingle
        # into its bucket.
        while 1 << bits < count and bits < MAX_RADIX_BITS:
            bits += 1
        shift, buckets = np.uint32(32 - bits), 1 << bits
        ends[: buckets + 1] = 0
        for h in unordered:
            ends[np.int64(h >> shift) + 1] += 1
        largest = np.int64(0)
        for b in range(buckets):
            largest = max(largest, ends[b + 1])
            ends[b + 1] += ends[b]
        for h in unordered:
            bucket = np.int64(h >> shift)
            ordered[ends[bucket]] = h
            ends[bucket] += 1
        # Sort inside the buckets. A large bucket means a shingle that is repeated often.
        if largest > MAX_INSERTION_SORT:
            ordered[:count] = unordered[np.argsort(unordered, kind="mergesort")]
        else:
            insertion_sort(ordered[:count])
        for i in range(count):
            if i == 0 or ordered[i] != ordered[i - 1]:
                out[at] = ordered[i]
                at += 1
    set_offsets[rows] = at
    return set_offsets


@kernel
def _gather(hashes, offsets, rows, positions, out):  # type: ignore[no-untyped-def]
    for n in range(len(rows)):
        at = positions[n]
        for i in range(offsets[rows[n]], offsets[rows[n] + 1]):
            out[at] = hashes[i]
            at += 1


@kernel
def min_overlap(threshold, first, second):  # type: ignore[no-untyped-def]
    """The least number of common shingles that gives sets of these two sizes a Jaccard of `threshold`."""
    return int(np.ceil(threshold / (1.0 + threshold) * (first + second) - ROUNDING))


@kernel
def intersection_size(hashes, i, i_end, j, j_end, needed):  # type: ignore[no-untyped-def]
    """How many values two ascending runs share, or -1 as soon as `needed` is out of reach.

    The runs are hashes[i:i_end] and hashes[j:j_end], each of distinct values.
    """
    shared = 0
    max_unmatched_i, max_unmatched_j = i_end - needed - i, j_end - needed - j
    i_begin, j_begin = i, j
    # Compare LANES values of each run at a time, then advance the run whose last value is smaller (both if equal).
    # The values that are passed have been compared with every value of the other run that they could equal.
    while i + LANES <= i_end and j + LANES <= j_end:
        shared += count_matches(hashes, i, j)
        x, y = hashes[i + LANES - 1], hashes[j + LANES - 1]
        i += LANES if x <= y else 0
        j += LANES if y <= x else 0
        if i - i_begin - shared > max_unmatched_i or j - j_begin - shared > max_unmatched_j:
            return -1
    # The remainder, one value at a time.
    while i < i_end and j < j_end:
        x, y = hashes[i], hashes[j]
        shared += x == y
        i += x <= y
        j += y <= x
    return shared if shared >= needed else -1


@kernel
def _jaccard(hashes, offsets, pairs, out):  # type: ignore[no-untyped-def]
    for n in range(len(pairs)):
        a, b = pairs[n, 0], pairs[n, 1]
        shared = intersection_size(hashes, offsets[a], offsets[a + 1], offsets[b], offsets[b + 1], 0)
        union = offsets[a + 1] - offsets[a] + offsets[b + 1] - offsets[b] - shared
        out[n] = shared / union if union > 0 else 0.0
