"""Spanning forests against components in plain Python."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.forests import Forest, merge_forests

forest = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=12)


@settings(max_examples=80, deadline=None)
@given(st.lists(forest, max_size=5), st.integers(0, 5))
def test_forests_merge_in_any_order_to_the_components(forests: list[list[tuple[int, int]]], cut: int) -> None:
    given_forests = [Forest(*np.array(pairs, np.int64).reshape(-1, 2).T) for pairs in forests]
    merged = merge_forests(given_forests)
    as_tree = merge_forests([merge_forests(given_forests[:cut]), merge_forests(given_forests[cut:][::-1])])
    assert np.array_equal(merged, as_tree)
    roots = list(range(16))
    for pairs in forests:
        for a, b in pairs:
            low, high = sorted((roots[a], roots[b]))
            roots = [low if root == high else root for root in roots]
    assert list(zip(*merged, strict=True)) == [(row, root) for row, root in enumerate(roots) if row != root]
