"""The order of well-mixed numbers: two passes where a comparison sort takes twenty.

Band keys and digests are hashes, so their high bits part them evenly: one pass puts each number near its place, a
second mends the few neighbours. Equal numbers come in heaps (100,000 copies share every key); a heap is merge-sorted,
so that nothing goes quadratic.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dedup.kernel import kernel

HEAP = 48  # numbers with equal high bits up to which moving each to its place is faster than sorting them


def order(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The indices int64 [n] that sort keys uint64 [n] ascending; equal keys keep their order.

    Right for any keys, fast for keys that are spread evenly between their least and their greatest.
    """
    return np.asarray(_order(np.ascontiguousarray(keys)), np.int64)


def ascending(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The distinct values of non-negative rows int64 [n], ascending."""
    rows = rows[_by_row(rows)]
    return rows[_changes(rows)]


def numbered(rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """`ascending(rows)`, and the place of each row among them int64 [n]."""
    by_row = _by_row(rows)
    rows = rows[by_row]
    first = _changes(rows)
    place = np.empty(len(rows), np.int64)
    place[by_row] = np.cumsum(first) - 1
    return rows[first], place


def _by_row(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return order(np.ascontiguousarray(rows).view(np.uint64))


def _changes(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Where a sorted row differs from the one before."""
    first = np.ones(len(rows), np.bool_)
    first[1:] = rows[1:] != rows[:-1]
    return first


@kernel
def insert_in_order(values):  # type: ignore[no-untyped-def]
    """Sort a run in place that is short, or whose values stand near their places."""
    for i in range(1, len(values)):
        value, j = values[i], i
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


@kernel
def _order(keys):  # type: ignore[no-untyped-def]
    count = len(keys)
    out = np.empty(count, np.int64)
    if count == 0:
        return out
    least, most = keys[0], keys[0]
    for key in keys:
        least, most = min(least, key), max(most, key)
    bits = 1
    while 1 << bits < count // 4 and bits < 22:
        bits += 1
    shift = np.uint64(0)
    while most - least >> shift >> np.uint64(bits):
        shift += np.uint64(1)
    starts = np.zeros((1 << bits) + 1, np.int64)
    for key in keys:
        starts[np.int64(key - least >> shift) + 1] += 1
    for b in range(1 << bits):
        starts[b + 1] += starts[b]
    for i in range(count):
        bucket = np.int64(keys[i] - least >> shift)
        out[starts[bucket]] = i
        starts[bucket] += 1
    begin = np.int64(0)
    for b in range(1 << bits):  # starts[b] is now where bucket b ends
        end = starts[b]
        if end - begin > HEAP:
            heap = out[begin:end].copy()
            out[begin:end] = heap[np.argsort(keys[heap], kind="mergesort")]
        else:
            for i in range(begin + 1, end):
                item = out[i]
                key = keys[item]
                j = i
                while j > begin and keys[out[j - 1]] > key:
                    out[j] = out[j - 1]
                    j -= 1
                out[j] = item
        begin = end
    return out
