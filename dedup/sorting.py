"""Sorting of hashes and row numbers, in two passes instead of the log2(n) of a comparison sort.

Band keys and digests are hashes, so their high bits are spread evenly. One radix pass puts each number close to its
position, and an insertion sort corrects the few neighbors. Runs of equal numbers can be long (100,000 copies share
every band key); they are merge-sorted, so that nothing becomes quadratic.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dedup.kernel import kernel

MAX_INSERTION_SORT = 48
"""Length up to which an insertion sort, which is quadratic, is faster than a merge sort."""
MAX_RADIX_BITS = 22
"""Bits of the radix pass. Limits its counters to 32 MB."""
KEYS_PER_RADIX_BUCKET = 4
"""Average number of keys per radix bucket that the number of bits aims at."""


def argsort(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The indices int64 [n] that sort keys uint64 [n] ascending. Stable: equal keys keep their order.

    Correct for any keys; fast for keys that are spread evenly between their minimum and maximum.
    """
    return np.asarray(_argsort(np.ascontiguousarray(keys)), np.int64)


def unique_values(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The distinct values of non-negative rows int64 [n], ascending."""
    rows = rows[_argsort_rows(rows)]
    return rows[_is_first(rows)]


def unique_inverse(rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """`unique_values(rows)`, and the index of each row among them: int64 [n]."""
    by_row = _argsort_rows(rows)
    rows = rows[by_row]
    first = _is_first(rows)
    inverse = np.empty(len(rows), np.int64)
    inverse[by_row] = np.cumsum(first) - 1
    return rows[first], inverse


def _argsort_rows(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return argsort(np.ascontiguousarray(rows).view(np.uint64))


def _is_first(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether each of the sorted rows differs from the one before: bool [n]."""
    first = np.ones(len(rows), np.bool_)
    first[1:] = rows[1:] != rows[:-1]
    return first


@kernel
def insertion_sort(values):  # type: ignore[no-untyped-def]
    """Sort an array in place. For short arrays, or values close to their sorted positions."""
    for i in range(1, len(values)):
        value, j = values[i], i
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


@kernel
def _argsort(keys):  # type: ignore[no-untyped-def]
    count = len(keys)
    indices = np.empty(count, np.int64)
    if count == 0:
        return indices
    least, most = keys[0], keys[0]
    for key in keys:
        least, most = min(least, key), max(most, key)
    # The radix bucket of a key is its distance from the minimum, shifted so that the maximum lands in the last bucket.
    bits = 1
    while 1 << bits < count // KEYS_PER_RADIX_BUCKET and bits < MAX_RADIX_BITS:
        bits += 1
    shift = np.uint64(0)
    while most - least >> shift >> np.uint64(bits):
        shift += np.uint64(1)
    # A counting sort by radix bucket: sizes, then starts, then each index into its bucket.
    starts = np.zeros((1 << bits) + 1, np.int64)
    for key in keys:
        starts[np.int64(key - least >> shift) + 1] += 1
    for b in range(1 << bits):
        starts[b + 1] += starts[b]
    for i in range(count):
        bucket = np.int64(keys[i] - least >> shift)
        indices[starts[bucket]] = i
        starts[bucket] += 1
    # Sort inside each bucket. starts[b] has advanced to the end of bucket b.
    begin = np.int64(0)
    for b in range(1 << bits):
        end = starts[b]
        if end - begin > MAX_INSERTION_SORT:
            run = indices[begin:end].copy()
            indices[begin:end] = run[np.argsort(keys[run], kind="mergesort")]
        else:
            # `insertion_sort` with keys looked up by index.
            for i in range(begin + 1, end):
                index = indices[i]
                key = keys[index]
                j = i
                while j > begin and keys[indices[j - 1]] > key:
                    indices[j] = indices[j - 1]
                    j -= 1
                indices[j] = index
        begin = end
    return indices
