"""Key ranges: together they cover every key once, and equal ranges hold about equally many spread numbers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from pipelines.steps.duplicates.ranges import key_ranges, spread_keys


@pytest.mark.parametrize(("items", "tasks"), [(0, 1), (10, 1), (11, 2), (95, 10)])
def test_ranges_cover_all_keys_once(items: int, tasks: int) -> None:
    ranges = key_ranges(items, per_task=10)
    assert len(ranges) == tasks and {key_range.tasks for key_range in ranges} == {tasks}
    assert ranges[0].low == 0 and ranges[-1].high == (1 << 64) - 1
    assert all(first.high + 1 == second.low for first, second in pairwise(ranges))


def test_spread_numbers_are_distinct_and_even_over_ranges() -> None:
    keys = spread_keys(np.arange(100_000))
    assert len(np.unique(keys)) == len(keys)
    borders = np.array([key_range.low for key_range in key_ranges(16, per_task=1)], np.uint64)
    counts = np.bincount(np.searchsorted(borders, keys, "right") - 1)
    assert counts.min() > 0.99 * counts.max()
