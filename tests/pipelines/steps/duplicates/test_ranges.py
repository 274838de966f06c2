"""Key ranges: together they cover every key once, and equal ranges hold about equally many spread numbers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.ledger import storage
from pipelines.steps.duplicates.ranges import key_ranges, spread_keys, tables_in_range
from tests.object_store import ObjectStore


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


@pytest.mark.parametrize("even", [True, False])
def test_a_task_reads_the_rows_of_its_range_alone_from_an_object_store(
    even: bool, s3: str, s3_server: ObjectStore, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    key = np.sort(random.integers(0, 1 << 64, 300_000, dtype=np.uint64))
    key = key if even else np.sort(key >> random.integers(0, 30, len(key), dtype=np.uint64))
    table = pa.table({"key": key, "row": np.arange(len(key)), "other": random.random(len(key))})
    local, remote = (storage.write_arrow(f"{root}/a.arrow", table) for root in (str(tmp_path), s3))
    ranges = key_ranges(len(key), len(key) // 8)
    for key_range in ranges[1:]:  # the first task of all compares the file with its digest
        with s3_server.counted() as counts:
            (rows,) = tables_in_range([remote], key_range)
        (expected,) = tables_in_range([local], key_range)
        assert rows.equals(expected)
        assert counts["bytes"]["GET"] < expected.nbytes + (2 if even else 20) * (1 << 18)
    (rows,) = tables_in_range([remote], ranges[0])
    assert rows.num_rows == next(iter(tables_in_range([local], ranges[0]))).num_rows
