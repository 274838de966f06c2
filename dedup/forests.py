"""Spanning forests: which rows are connected by pairs, directly or through others.

Connected components do not decide who survives, since they chain unlike rows together. They divide the work: no
decision crosses a component.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dedup.buckets import Rows
from dedup.kernel import kernel
from dedup.sorting import unique_values


class Forest(NamedTuple):
    """Connected rows in pairs: int64 [n], int64 [n].

    In the result of `merge_forests`, `row` ascends, `root` is the least row of its component, and no root is in `row`.
    """

    row: Rows
    root: Rows


def merge_forests(forests: Sequence[Forest]) -> Forest:
    """One spanning forest of the union of several. Each may be any list of connected pairs.

    Merging is associative and commutative, so it can be done as a tree of merges. For inputs that this function
    returned, extra memory is about 30 bytes per connected row: its number, the index of its parent, and the result.
    """
    rows = np.empty(0, np.int64)
    for forest in forests:
        for column in (forest.root, forest.row):
            rows = _union(rows, column if _is_ascending(column) else unique_values(column))
    parent = np.arange(len(rows), dtype=np.int32 if len(rows) < 1 << 31 else np.int64)
    for forest in forests:
        _unite(rows, parent, forest.row, forest.root)
    return Forest(*_forest(rows, parent))


@kernel
def _is_ascending(values):  # type: ignore[no-untyped-def]
    """Whether each value is greater than the one before."""
    ascending = True
    for i in range(1, len(values)):
        ascending &= values[i] > values[i - 1]
    return ascending


@kernel
def _union(first, second):  # type: ignore[no-untyped-def]
    """The distinct values of two ascending arrays, ascending."""
    # Merge twice: once to count, once to write. A buffer for both inputs would double the memory of large forests.
    count, i, j = 0, 0, 0
    while i < len(first) or j < len(second):
        least = first[i] if j >= len(second) or (i < len(first) and first[i] <= second[j]) else second[j]
        i += i < len(first) and first[i] == least
        j += j < len(second) and second[j] == least
        count += 1
    merged = np.empty(count, np.int64)
    i, j = 0, 0
    for n in range(count):
        least = first[i] if j >= len(second) or (i < len(first) and first[i] <= second[j]) else second[j]
        i += i < len(first) and first[i] == least
        j += j < len(second) and second[j] == least
        merged[n] = least
    return merged


@kernel
def _find_root(parent, x):  # type: ignore[no-untyped-def]
    """The root of x. Halves the path on the way, so that later searches are short."""
    while parent[x] != x:
        parent[x] = parent[parent[x]]
        x = parent[x]
    return x


@kernel
def _unite(rows, parent, first, second):  # type: ignore[no-untyped-def]
    """Union-find over the pairs (first[n], second[n]).

    Indices into `rows` are found by binary search; a lookup table would need as much memory as everything else.
    """
    for n in range(len(first)):
        a = _find_root(parent, np.searchsorted(rows, first[n]))
        b = _find_root(parent, np.searchsorted(rows, second[n]))
        # The smaller index becomes the root, so the root of a component is its least row.
        if a < b:
            parent[b] = a
        else:
            parent[a] = b


@kernel
def _forest(rows, parent):  # type: ignore[no-untyped-def]
    """Every row that is not a root, and its root."""
    count = 0
    for x in range(len(rows)):
        parent[x] = _find_root(parent, x)
        count += parent[x] != x
    children, roots = np.empty(count, np.int64), np.empty(count, np.int64)
    at = 0
    for x in range(len(rows)):
        if parent[x] != x:
            children[at], roots[at] = rows[x], rows[parent[x]]
            at += 1
    return children, roots
