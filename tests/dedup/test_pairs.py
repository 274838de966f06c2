"""Pairs within a bucket: none below the threshold, and few comparisons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.buckets import Buckets
from dedup.pairs import MAX_DIRECT, MAX_PAIRS_PER_ROW, Pairs, compare_once, unique_pairs
from dedup.similarity import Sets, jaccard
from tests.dedup.test_survivors import random_rows


def template(rows: int, size: int, slot: int, spread: int = 0) -> Sets:
    """`rows` sets that share all but `slot` of `size` shingles, and differ in size by up to `spread`."""
    rng = np.random.default_rng(slot)
    core = np.sort(rng.choice(1 << 31, size - slot, replace=False))
    own = (1 << 31) + np.arange(rows * (slot + spread)).reshape(rows, -1)
    lengths = slot + (rng.integers(0, spread + 1, rows) if spread else np.zeros(rows, np.int64))
    values = np.concatenate([np.concatenate([core, own[n, : lengths[n]]]) for n in range(rows)]).astype(np.uint32)
    return Sets(values, np.concatenate([[0], np.cumsum(len(core) + lengths)]))


@pytest.mark.parametrize(("slot", "spread"), [(1, 0), (4, 0), (6, 0), (8, 0), (12, 0), (20, 0), (2, 10), (6, 6)])
def test_a_bucket_of_100000_is_not_compared_pair_by_pair(slot: int, spread: int) -> None:
    """Templates of 40 shingles: similar above the threshold, just below it, far below it, and of many sizes."""
    rows = 100_000
    sets = template(rows, 40, slot, spread)
    pairs, compared = compare_once(Buckets(np.arange(rows), np.array([0, rows])), sets, (0.8,))
    assert compared <= 2 * MAX_DIRECT * rows  # of 5e9 pairs
    assert len(pairs.later) <= MAX_PAIRS_PER_ROW * rows
    if not spread:
        above = (40 - slot) / (40 + slot) >= 0.8
        assert len(np.unique(pairs.later)) == (rows - 1 if above else 0)


@pytest.mark.parametrize("families", [1, 10, 150])  # with 150, most rows are compared through the index
def test_a_pair_has_its_exact_jaccard_and_the_earlier_row_is_a_representative(families: int) -> None:
    sets = random_rows(np.random.default_rng(families), 500, 40, families, 8)
    pairs, _ = compare_once(Buckets(np.arange(500), np.array([0, 500])), sets, (0.6,))
    assert len(pairs.later)
    assert np.array_equal(
        pairs.jaccard[:, 0], jaccard(sets, np.stack([pairs.later, pairs.earlier], axis=1)).astype(np.float32)
    )
    assert pairs.jaccard.min() >= np.float32(0.6)
    assert (pairs.earlier < pairs.later).all()
    assert not np.isin(pairs.earlier, pairs.later).any()


@pytest.mark.parametrize("shared", [0, 1])
def test_rows_that_agree_in_one_field_only_are_told_apart_by_the_other(shared: int) -> None:
    """100,000 questions about one passage, or one canned answer to 100,000 questions."""
    rows = 100_000
    same, own = template(rows, 40, 1), template(rows, 20, 20)
    fields = (same, own) if shared == 0 else (own, same)
    sizes = np.stack([np.diff(field.offsets) for field in fields], axis=1).reshape(-1)
    values = np.concatenate([field.hash.reshape(rows, -1) for field in fields], axis=1).reshape(-1)
    sets = Sets(values, np.concatenate([[0], np.cumsum(sizes)]))
    pairs, compared = compare_once(Buckets(np.arange(rows), np.array([0, rows])), sets, (0.8, 0.8))
    assert not len(pairs.later) and compared <= 2 * MAX_DIRECT * rows


def test_rows_that_are_always_kept_have_no_pair_with_each_other() -> None:
    sets = template(50, 40, 1)
    pairs, _ = compare_once(Buckets(np.arange(50), np.array([0, 50])), sets, (0.8,), 10)
    assert pairs.later.min() == 10
    assert np.array_equal(np.unique(pairs.later), np.arange(10, 50))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_unique_pairs_are_sorted_and_distinct(rows: list[tuple[int, int]]) -> None:
    later, earlier = np.array(rows, np.int64).reshape(-1, 2).T
    pairs = unique_pairs(Pairs(later, earlier, (later * 100.0 + earlier)[:, None].astype(np.float32)))
    assert list(zip(pairs.later.tolist(), pairs.earlier.tolist(), strict=True)) == sorted(set(rows))
    assert np.array_equal(pairs.jaccard[:, 0], pairs.later * 100.0 + pairs.earlier)
