"""Survivors by the definition, with brute force, against kernels that never list all pairs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.buckets import Buckets, without_rows
from dedup.pairs import MAX_DIRECT, Pairs, concat_pairs, unique_pairs
from dedup.similarity import Sets, jaccard
from dedup.survivors import Selection, compare_buckets, select_survivors
from tests.dedup.test_buckets import of_sets


def sets_of(values: list[list[int]]) -> Sets:
    flat = [value for row in values for value in sorted(set(row))]
    sizes = [len(set(row)) for row in values]
    return Sets(np.array(flat, np.uint32), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def by_definition(sets: Sets, groups: list[set[int]], threshold: float) -> list[int]:
    """The removed rows: each is adjacent to an earlier kept row of one of its groups."""
    rows = len(sets.offsets) - 1
    candidates = {pair for group in groups for pair in combinations(sorted(group), 2)}
    pairs = np.array(sorted(candidates), np.int64).reshape(-1, 2)
    adjacent = {
        (int(a), int(b)) for (a, b), value in zip(pairs, jaccard(sets, pairs), strict=True) if value >= threshold
    }
    removed: list[int] = []
    for row in range(rows):
        if any((earlier, row) in adjacent and earlier not in removed for earlier in range(row)):
            removed.append(row)
    return removed


def removed_by(groups: Buckets, sets: Sets, threshold: float) -> list[int]:
    pairs, _ = compare_buckets(groups, sets, (threshold,))
    return np.flatnonzero(select_survivors(len(sets.offsets) - 1, pairs).duplicate_of >= 0).tolist()


def chains(seed: int) -> tuple[Sets, list[set[int]]]:
    """Sets that are each an earlier one with a few values changed, so that similar rows form chains, not cliques."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 30))
    values = [np.arange(20)]
    for _ in range(count - 1):
        row = values[rng.integers(len(values))].copy()
        row[rng.integers(0, 20, rng.integers(0, 4))] = rng.integers(0, 60)
        values.append(row)
    groups = [set(rng.integers(0, count, rng.integers(2, 15)).tolist()) for _ in range(rng.integers(1, 8))]
    return sets_of([values[row].tolist() for row in rng.permutation(count)]), groups


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.6, 0.7, 0.8]))
def test_comparing_buckets_finds_what_the_definition_says(seed: int, threshold: float) -> None:
    sets, groups = chains(seed)
    assert removed_by(of_sets(groups), sets, threshold) == by_definition(sets, groups, threshold)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.6, 0.7, 0.8]), st.integers(2, 4))
def test_dividing_the_buckets_among_tasks_changes_nothing(seed: int, threshold: float, tasks: int) -> None:
    """As in the pipeline: compare apart, select together, recheck, until no pair is new."""
    sets, groups = chains(seed)
    rows = len(sets.offsets) - 1
    shares = [of_sets(groups[task::tasks]) for task in range(tasks)]
    parts = [compare_buckets(share, sets, (threshold,))[0] for share in shares]
    pairs = concat_pairs(parts)
    for _ in range(100):
        selection = select_survivors(rows, unique_pairs(pairs))
        rechecked = [without_rows(share, selection.duplicate_of >= 0, selection.needs_recheck) for share in shares]
        new_pairs = [compare_buckets(share, sets, (threshold,))[0] for share in rechecked]
        if not sum(len(part.later) for part in new_pairs):
            break
        pairs = concat_pairs([pairs, *new_pairs])
    assert np.flatnonzero(selection.duplicate_of >= 0).tolist() == by_definition(sets, groups, threshold)


def random_rows(rng: np.random.Generator, count: int, size: int, families: int, changes: int) -> Sets:
    cores = rng.integers(0, 2**32, (families, size), dtype=np.uint32)
    values = cores[rng.integers(0, families, count)]
    for row in values:
        row[rng.integers(0, size, rng.integers(0, changes + 1))] = rng.integers(0, 2**32, dtype=np.uint32)
        row[: rng.integers(0, 4)] = row[-1]  # sets of several sizes
    return sets_of([row.tolist() for row in values])


@pytest.mark.parametrize(("families", "changes"), [(1, 30), (150, 3), (150, 30), (400, 8)])
def test_large_buckets_find_what_the_definition_says(families: int, changes: int) -> None:
    """With more than `MAX_DIRECT` representatives the index is used: many of them, and rows near the threshold."""
    rng = np.random.default_rng(families + changes)
    sets = random_rows(rng, 500, 40, families, changes)
    groups = [set(range(500)), set(rng.integers(0, 500, 200).tolist())]
    expected = by_definition(sets, groups, 0.8)
    assert removed_by(of_sets(groups), sets, 0.8) == expected
    assert 500 - len(expected) > MAX_DIRECT or changes == 3


def select(
    rows: npt.NDArray[np.int64], similarity: npt.NDArray[np.float64], rank: npt.NDArray[np.int64], threshold: float
) -> Selection:
    """`select_survivors` for pairs int64 [n, 2] of rows numbered by the caller; a smaller rank is preferred."""
    by_rank = np.argsort(rank)
    place = np.argsort(by_rank)
    adjacent = similarity >= threshold
    first, second = place[rows[adjacent]].T
    pairs = unique_pairs(
        Pairs(np.maximum(first, second), np.minimum(first, second), similarity[adjacent, None].astype(np.float32))
    )
    selection = select_survivors(len(rank), pairs)
    duplicate_of = np.where(selection.duplicate_of >= 0, by_rank[selection.duplicate_of], -1)
    return Selection(duplicate_of[place], selection.jaccard[place], selection.needs_recheck[place])


def test_a_removed_row_removes_no_other() -> None:
    """a ~ b ~ c, but not a ~ c: in the order a, b, c only b is removed. A component would also lose c."""
    pairs, similarity = np.array([[0, 1], [1, 2]]), np.array([0.9, 0.85])
    assert select(pairs, similarity, np.array([0, 1, 2]), 0.8).duplicate_of.tolist() == [-1, 0, -1]
    assert select(pairs, similarity, np.array([1, 0, 2]), 0.8).duplicate_of.tolist() == [1, -1, 1]
    assert select(pairs, similarity, np.array([2, 1, 0]), 0.8).duplicate_of.tolist() == [-1, 2, -1]
    assert select(pairs, similarity, np.array([0, 1, 2]), 0.88).duplicate_of.tolist() == [-1, 0, -1]


def test_a_removed_row_duplicates_the_most_similar_kept_row() -> None:
    pairs = np.array([[3, 0], [3, 1], [2, 3], [4, 0], [4, 1]])
    selection = select(pairs, np.array([0.85, 0.95, 0.99, 0.9, 0.9]), np.array([0, 1, 9, 3, 4]), 0.8)
    assert selection.duplicate_of.tolist() == [-1, -1, -1, 1, 0]
    assert selection.jaccard[:, 0].tolist() == [0, 0, 0, np.float32(0.95), np.float32(0.9)]


def two_fields(rng: np.random.Generator, count: int) -> Sets:
    """Rows of two fields: similar ones of few families, empty ones, and every combination of both."""
    fields = [random_rows(rng, count, 30, int(families), 6) for families in rng.integers(1, 40, 2)]
    values = []
    for row in range(count):
        for field in fields:
            empty = rng.random() < 0.1
            values.append([] if empty else field.hash[field.offsets[row] : field.offsets[row + 1]].tolist())
    return sets_of(values)


@pytest.mark.parametrize("seed", range(12))
def test_both_fields_must_reach_their_threshold(seed: int) -> None:
    """Against the definition, in a bucket small enough to compare directly and one that uses an index. Fields that are
    empty in both rows are equal."""
    rng = np.random.default_rng(seed)
    count, thresholds = (20, 400)[seed % 2], (0.6, 0.75)
    sets = two_fields(rng, count)
    pairs = np.array(list(combinations(range(count), 2)))
    adjacent = np.ones(len(pairs), np.bool_)
    for field, threshold in enumerate(thresholds):
        ends = pairs * 2 + field
        both_empty = (np.diff(sets.offsets)[ends] == 0).all(axis=1)
        adjacent &= both_empty | (jaccard(sets, ends) >= threshold - 1e-9)
    kept: set[int] = set()
    earlier = {row: {int(a) for a, b in pairs[adjacent] if b == row} for row in range(count)}
    for row in range(count):
        if not earlier[row] & kept:
            kept.add(row)
    found, _ = compare_buckets(of_sets([set(range(count))]), sets, thresholds)
    selection = select_survivors(count, found)
    assert {row for row in range(count) if selection.duplicate_of[row] < 0} == kept
    for row in np.flatnonzero(selection.duplicate_of >= 0).tolist():
        assert selection.duplicate_of[row] in kept & earlier[row]
        assert (selection.jaccard[row] >= np.array(thresholds, np.float32) - 1e-6).all()
