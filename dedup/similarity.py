"""The exact Jaccard similarity of candidate pairs, over sets of shingles.

Exact up to shingles' 32 bits: two different shingles of a pair of rows with n and m shingles are taken for one with
probability n * m / 2**32, which moves the Jaccard of two 1,000-word rows by 1e-7 on average.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.kernel import TOGETHER, kernel, matches
from dedup.order import HEAP, insert_in_order
from dedup.shingles import Shingles


class Sets(NamedTuple):
    """The shingle sets of rows: those of row r are hash[offsets[r] : offsets[r + 1]], ascending, each once.

    hash: uint32 [total]; offsets: int64 [rows + 1].
    """

    hash: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]


def shingle_sets(shingles: Shingles) -> Sets:
    """Sort each row's shingles and drop its repeats.

    Shingles are hashes: their high bits put each near its place, and the few neighbours are mended. That is three times
    as fast as a comparison sort, which is left for rows that repeat a shingle often.
    """
    out = np.empty(len(shingles.hash), np.uint32)
    offsets = _sorted_sets(shingles.hash, shingles.offsets, out)
    return Sets(out[: offsets[-1]], offsets)


def gather(sets: Sets, rows: npt.NDArray[np.int64], places: npt.NDArray[np.int64], out: npt.NDArray[np.uint32]) -> None:
    """Copy the sets of `rows` int64 [n] into `out` uint32 [total], each from its place int64 [n] on.

    A copy straight to where it belongs, for sets that lie in several files and are wanted in an order of their own.
    """
    _gather(sets.hash, sets.offsets, rows, places, out)


def jaccard(sets: Sets, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Intersection over union of the rows pairs[:, 0] and pairs[:, 1]: float64 [n] for pairs int64 [n, 2].

    Two empty sets have similarity 0: of rows without shingles nothing is known.
    """
    out = np.empty(len(pairs), np.float64)
    _jaccard(sets.hash, sets.offsets, pairs, out)
    return out


@kernel
def _sorted_sets(hashes, offsets, out):  # type: ignore[no-untyped-def]
    rows = len(offsets) - 1
    found = np.empty(rows + 1, np.int64)
    longest, most_bits = 0, 1
    for row in range(rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    while 1 << most_bits < longest and most_bits < 22:
        most_bits += 1
    held, ends = np.empty(longest, np.uint32), np.empty((1 << most_bits) + 1, np.int64)
    at = np.int64(0)
    for row in range(rows):
        found[row] = at
        given = hashes[offsets[row] : offsets[row + 1]]
        count, bits = len(given), 1
        if count == 0:
            continue
        while 1 << bits < count and bits < 22:
            bits += 1
        shift, buckets = np.uint32(32 - bits), 1 << bits
        ends[: buckets + 1] = 0
        for h in given:
            ends[np.int64(h >> shift) + 1] += 1
        heap = np.int64(0)
        for b in range(buckets):
            heap = max(heap, ends[b + 1])
            ends[b + 1] += ends[b]
        for h in given:
            bucket = np.int64(h >> shift)
            held[ends[bucket]] = h
            ends[bucket] += 1
        if heap > HEAP:
            held[:count] = given[np.argsort(given, kind="mergesort")]
        else:
            insert_in_order(held[:count])
        for i in range(count):
            if i == 0 or held[i] != held[i - 1]:
                out[at] = held[i]
                at += 1
    found[rows] = at
    return found


@kernel
def _gather(hashes, offsets, rows, places, out):  # type: ignore[no-untyped-def]
    for n in range(len(rows)):
        at = places[n]
        for i in range(offsets[rows[n]], offsets[rows[n] + 1]):
            out[at] = hashes[i]
            at += 1


@kernel
def overlap_needed(threshold, first, second):  # type: ignore[no-untyped-def]
    """The least number of common shingles that gives two sets of these sizes a Jaccard of `threshold`."""
    return int(np.ceil(threshold / (1.0 + threshold) * (first + second) - 1e-9))


@kernel
def common(hashes, i, iend, j, jend, needed):  # type: ignore[no-untyped-def]
    """How many values two ascending runs share, or -1 as soon as `needed` is out of reach.

    Eight of each at a time, and on to the next eight of the run whose eighth is less (of both where they are equal):
    what is passed has met all that it could be equal to.
    """
    shared = 0
    first, other = iend - needed - i, jend - needed - j  # how many of each may go without a partner
    ibegin, jbegin = i, j
    while i + TOGETHER <= iend and j + TOGETHER <= jend:
        shared += matches(hashes, i, j)
        x, y = hashes[i + TOGETHER - 1], hashes[j + TOGETHER - 1]
        i += TOGETHER if x <= y else 0
        j += TOGETHER if y <= x else 0
        if i - ibegin - shared > first or j - jbegin - shared > other:
            return -1
    while i < iend and j < jend:
        x, y = hashes[i], hashes[j]
        shared += x == y
        i += x <= y
        j += y <= x
    return shared if shared >= needed else -1


@kernel
def _jaccard(hashes, offsets, pairs, out):  # type: ignore[no-untyped-def]
    for n in range(len(pairs)):
        a, b = pairs[n, 0], pairs[n, 1]
        shared = common(hashes, offsets[a], offsets[a + 1], offsets[b], offsets[b + 1], 0)
        union = offsets[a + 1] - offsets[a] + offsets[b + 1] - offsets[b] - shared
        out[n] = shared / union if union > 0 else 0.0
