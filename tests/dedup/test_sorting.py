"""Sorting against NumPy's stable sort and Python's sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.sorting import MAX_INSERTION_SORT, argsort, unique_inverse, unique_values


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3) | st.integers(2**64 - 3, 2**64 - 1), max_size=80))
def test_argsort_equals_a_stable_sort(values: list[int]) -> None:
    keys = np.array(values, np.uint64)
    assert np.array_equal(argsort(keys), np.argsort(keys, kind="stable"))
    rows = (keys >> np.uint64(1)).astype(np.int64)
    assert unique_values(rows).tolist() == sorted(set(rows.tolist()))
    distinct, inverse = unique_inverse(rows)
    assert np.array_equal(distinct, unique_values(rows))
    assert np.array_equal(distinct[inverse], rows)


@pytest.mark.parametrize("values", [5, 40, 10_000, 2**63])
def test_equal_numbers_keep_their_order(values: int) -> None:
    rng = np.random.default_rng(values)
    keys = rng.integers(0, values, 20_000).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    keys[rng.integers(0, len(keys), 4 * MAX_INSERTION_SORT)] = keys[0]
    assert np.array_equal(argsort(keys), np.argsort(keys, kind="stable"))
