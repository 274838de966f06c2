"""Exact Jaccard against Python's sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.shingles import Shingles
from dedup.similarity import gather, intersection_size, jaccard, min_overlap, shingle_sets

rows = st.lists(st.lists(st.integers(0, 30), max_size=25), min_size=1, max_size=8)


def shingles(values: list[list[int]]) -> Shingles:
    flat = np.array([value for row in values for value in row], np.uint32)
    return Shingles(flat, np.concatenate([[0], np.cumsum([len(row) for row in values])]).astype(np.int64))


@settings(max_examples=100, deadline=None)
@given(rows)
def test_jaccard_is_that_of_sets(values: list[list[int]]) -> None:
    sets = shingle_sets(shingles(values))
    pairs = np.array([(a, b) for a in range(len(values)) for b in range(len(values))], np.int64)
    for (a, b), similarity in zip(pairs.tolist(), jaccard(sets, pairs).tolist(), strict=True):
        one, other = set(values[a]), set(values[b])
        assert similarity == (len(one & other) / len(one | other) if one | other else 0.0)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_gathered_sets_are_at_their_positions(values: list[list[int]]) -> None:
    sets = shingle_sets(shingles(values))
    chosen = np.random.default_rng(len(values)).integers(0, len(values), 5)
    sizes = np.diff(sets.offsets)[chosen]
    positions = np.cumsum(sizes) - sizes
    out = np.empty(sizes.sum(), np.uint32)
    gather(sets, chosen, positions, out)
    assert out.tolist() == [value for row in chosen for value in sorted(set(values[row]))]


def test_large_sets_and_many_equal_or_close_hashes_are_sorted() -> None:
    rng = np.random.default_rng(0)
    values = [rng.integers(0, 2**32, size, dtype=np.uint32) for size in (70_000, 3, 140_000, 0, 65_536, 9)]
    values += [rng.integers(0, distinct, 5_000, dtype=np.uint32) for distinct in (1, 7, 90_000)]
    given_shingles = Shingles(np.concatenate(values), np.concatenate([[0], np.cumsum([len(v) for v in values])]))
    sets = shingle_sets(given_shingles)
    for n, row in enumerate(values):
        assert np.array_equal(sets.hash[sets.offsets[n] : sets.offsets[n + 1]], np.unique(row))


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)), st.integers(0, 40))
def test_stopping_early_changes_no_result(one: set[int], other: set[int], needed: int) -> None:
    hashes = np.array(sorted(one) + sorted(other), np.uint32)
    shared = intersection_size(hashes, 0, len(one), len(one), len(hashes), needed)
    assert shared == (len(one & other) if len(one & other) >= needed else -1)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.75, 0.8, 0.9, 1.0])
def test_the_overlap_needed_is_the_least_that_reaches_the_threshold(threshold: float) -> None:
    for first in range(1, 60):
        for second in range(1, 60):
            needed = min_overlap(threshold, first, second)
            for shared in range(min(first, second) + 1):
                reaches = shared / (first + second - shared) >= threshold - 1e-12
                assert reaches == (shared >= needed), (first, second, shared)
