"""The exact Jaccard similarity of candidate pairs, over sets of shingles.

Exact up to shingles' 32 bits: two different shingles of a pair of rows with n and m shingles are taken for one with
probability n * m / 2**32, which moves the Jaccard of two 1,000-word rows by 1e-7 on average.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.kernel import TOGETHER, kernel, matches
from dedup.shingles import Shingles

BLOCK = 1 << 15  # shingles sorted together: twice 256 KiB, within a core's second-level cache
DIGIT = 1 << 11  # values of one radix digit


class Sets(NamedTuple):
    """The shingle sets of rows: those of row r are hash[offsets[r] : offsets[r + 1]], ascending, each once.

    hash: uint32 [total]; offsets: int64 [rows + 1].
    """

    hash: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]


def shingle_sets(shingles: Shingles) -> Sets:
    """Sort each row's shingles and drop its repeats.

    Rows are sorted together, some thousands of shingles at a time: by radix on the hash, three passes of 11 bits, then
    by row. That is four times as fast as a comparison sort, and a row of a million shingles is no exception.
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
    """Block by block of whole rows: least significant digit first, and the row as the last digit."""
    rows = len(offsets) - 1
    found = np.empty(rows + 1, np.int64)
    longest = BLOCK
    for row in range(rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    one, other = np.empty(longest, np.uint64), np.empty(longest, np.uint64)  # the row above the hash
    counts = np.empty((3, DIGIT + 1), np.int64)
    at, row = np.int64(0), 0
    while row < rows:
        after = row + 1
        while after < rows and offsets[after + 1] - offsets[row] <= BLOCK:
            after += 1
        count = offsets[after] - offsets[row]
        counts[:] = 0
        n = 0
        for r in range(row, after):
            high = np.uint64(r - row) << np.uint64(32)
            for i in range(offsets[r], offsets[r + 1]):
                h = np.uint64(hashes[i])
                one[n] = high | h
                n += 1
                counts[0, np.int64(h & np.uint64(DIGIT - 1)) + 1] += 1
                counts[1, np.int64(h >> np.uint64(11) & np.uint64(DIGIT - 1)) + 1] += 1
                counts[2, np.int64(h >> np.uint64(22)) + 1] += 1
        for turn in range(3):
            shift, mask = np.uint64(11 * turn), np.uint64(DIGIT - 1 if turn < 2 else DIGIT // 2 - 1)
            for d in range(DIGIT):
                counts[turn, d + 1] += counts[turn, d]
            for i in range(count):
                digit = np.int64(one[i] >> shift & mask)
                other[counts[turn, digit]] = one[i]
                counts[turn, digit] += 1
            one, other = other, one
        # found[r] is where the next value of row r goes; rows lie as far apart as their shingles, and close up below.
        base = offsets[row]
        for r in range(row, after):
            found[r] = offsets[r] - base
        for i in range(count):
            owner = row + np.int64(one[i] >> np.uint64(32))
            value = one[i] & np.uint64(0xFFFFFFFF)
            if found[owner] == offsets[owner] - base or other[found[owner] - 1] != value:
                other[found[owner]] = value
                found[owner] += 1
        for r in range(row, after):
            end = found[r]
            found[r] = at
            for i in range(offsets[r] - base, end):
                out[at] = np.uint32(other[i])
                at += 1
        row = after
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
