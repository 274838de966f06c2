"""Counting shingles and leaving frequent ones out, against sets in Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.frequent import count_values, without
from dedup.shingles import Shingles

rows = st.lists(st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 30), max_size=20), max_size=10)


def shingles(values: list[list[int]]) -> Shingles:
    flat = np.array([value for row in values for value in row], np.uint32)
    return Shingles(flat, np.cumsum([0, *map(len, values)]).astype(np.int64))


@settings(deadline=None)
@given(rows, st.sets(st.integers(0, 30) | st.integers(0, 2**32 - 1)))
def test_what_remains_is_each_row_without_the_frequent_shingles_in_order(
    values: list[list[int]], often: set[int]
) -> None:
    kept = without(shingles(values), np.array(sorted(often), np.uint32))
    expected = shingles([[value for value in row if value not in often] for row in values])
    assert kept.hash.tolist() == expected.hash.tolist() and kept.offsets.tolist() == expected.offsets.tolist()


@settings(deadline=None)
@given(st.lists(st.integers(0, 50)))
def test_values_are_counted(values: list[int]) -> None:
    counts = count_values(np.array(values, np.uint32))
    assert dict(zip(counts.hash.tolist(), counts.rows.tolist(), strict=True)) == Counter(values)
    assert (np.diff(counts.hash.astype(np.int64)) > 0).all()
