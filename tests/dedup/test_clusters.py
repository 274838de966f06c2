"""Who goes and who stays: the definition, by brute force, against the kernels that never list all pairs."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.json as pj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.clusters import (
    ENOUGH,
    FEW,
    Buckets,
    Edges,
    Forest,
    compare,
    distinct,
    explore,
    group,
    merge_forests,
    settle,
    survivors,
    suspicious,
    unique_edges,
)
from dedup.minhash import band_keys, signatures
from dedup.probability import recall
from dedup.shingles import Shingles, shingle_hashes
from dedup.similarity import Sets, jaccard, shingle_sets


def made_of(values: list[list[int]]) -> Sets:
    flat = [value for row in values for value in sorted(set(row))]
    sizes = [len(set(row)) for row in values]
    return Sets(np.array(flat, np.uint32), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def buckets(keys: npt.NDArray[np.uint64], rows: npt.NDArray[np.int64]) -> Buckets:
    return distinct(group(keys, rows, np.zeros(len(keys), np.uint32))[0])


def grouped(groups: list[set[int]]) -> Buckets:
    keys = np.array([n for n, group in enumerate(groups) for _ in group], np.uint64)
    return buckets(keys, np.array([row for group in groups for row in group], np.int64))


def by_definition(sets: Sets, groups: list[set[int]], threshold: float) -> list[int]:
    """The rows that go: each has an earlier row that stays, shares a group with it, and is alike."""
    rows = len(sets.offsets) - 1
    together = {pair for group in groups for pair in combinations(sorted(group), 2)}
    pairs = np.array(sorted(together), np.int64).reshape(-1, 2)
    alike = {(int(a), int(b)) for (a, b), value in zip(pairs, jaccard(sets, pairs), strict=True) if value >= threshold}
    removed: list[int] = []
    for row in range(rows):
        if any((earlier, row) in alike and earlier not in removed for earlier in range(row)):
            removed.append(row)
    return removed


def removed_by(groups: Buckets, sets: Sets, threshold: float) -> list[int]:
    edges, _ = explore(groups, sets, threshold)
    return np.flatnonzero(settle(len(sets.offsets) - 1, edges).twin >= 0).tolist()


def chained(seed: int) -> tuple[Sets, list[set[int]]]:
    """Rows that drift: each is an earlier one with a few values changed, so that likeness forms chains and not
    cliques.
    """
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 30))
    values = [np.arange(20)]
    for _ in range(count - 1):
        row = values[rng.integers(len(values))].copy()
        row[rng.integers(0, 20, rng.integers(0, 4))] = rng.integers(0, 60)
        values.append(row)
    groups = [set(rng.integers(0, count, rng.integers(2, 15)).tolist()) for _ in range(rng.integers(1, 8))]
    return made_of([values[row].tolist() for row in rng.permutation(count)]), groups


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.6, 0.7, 0.8]))
def test_exploring_finds_what_the_definition_says(seed: int, threshold: float) -> None:
    sets, groups = chained(seed)
    assert removed_by(grouped(groups), sets, threshold) == by_definition(sets, groups, threshold)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.6, 0.7, 0.8]), st.integers(2, 4))
def test_dividing_the_buckets_among_tasks_changes_nothing(seed: int, threshold: float, tasks: int) -> None:
    """What the pipeline does: explore apart, settle together, walk again what is in doubt, until no pair is new."""
    sets, groups = chained(seed)
    rows = len(sets.offsets) - 1
    shares = [grouped(groups[task::tasks]) for task in range(tasks)]
    apart = [explore(share, sets, threshold)[0] for share in shares]
    edges = Edges(*(np.concatenate(c) for c in zip(*apart, strict=True)))
    for _ in range(100):
        settled = settle(rows, unique_edges(edges))
        again = [suspicious(share, settled.twin >= 0, settled.suspect) for share in shares]
        more = [explore(share, sets, threshold)[0] for share in again]
        if not sum(len(found.later) for found in more):
            break
        edges = Edges(*(np.concatenate(c) for c in zip(edges, *more, strict=True)))
    assert np.flatnonzero(settled.twin >= 0).tolist() == by_definition(sets, groups, threshold)


def random_rows(rng: np.random.Generator, count: int, size: int, families: int, changes: int) -> Sets:
    cores = rng.integers(0, 2**32, (families, size), dtype=np.uint32)
    values = cores[rng.integers(0, families, count)]
    for row in values:
        row[rng.integers(0, size, rng.integers(0, changes + 1))] = rng.integers(0, 2**32, dtype=np.uint32)
        row[: rng.integers(0, 4)] = row[-1]  # rows of several lengths
    return made_of([row.tolist() for row in values])


@pytest.mark.parametrize(("families", "changes"), [(1, 30), (150, 3), (150, 30), (400, 8)])
def test_large_buckets_find_what_the_definition_says(families: int, changes: int) -> None:
    """Beyond `FEW` representatives the index answers: with many of them, and with rows near the threshold."""
    rng = np.random.default_rng(families + changes)
    sets = random_rows(rng, 500, 40, families, changes)
    groups = [set(range(500)), set(rng.integers(0, 500, 200).tolist())]
    expected = by_definition(sets, groups, 0.8)
    assert removed_by(grouped(groups), sets, 0.8) == expected
    assert 500 - len(expected) > FEW or changes == 3


def template(rows: int, size: int, slot: int, spread: int = 0) -> Sets:
    """`rows` texts that share all but `slot` of `size` shingles, and differ in length by up to `spread`."""
    rng = np.random.default_rng(slot)
    core = np.sort(rng.choice(1 << 31, size - slot, replace=False))
    own = (1 << 31) + np.arange(rows * (slot + spread)).reshape(rows, -1)
    lengths = slot + (rng.integers(0, spread + 1, rows) if spread else np.zeros(rows, np.int64))
    values = np.concatenate([np.concatenate([core, own[n, : lengths[n]]]) for n in range(rows)]).astype(np.uint32)
    return Sets(values, np.concatenate([[0], np.cumsum(len(core) + lengths)]))


@pytest.mark.parametrize(("slot", "spread"), [(1, 0), (4, 0), (6, 0), (8, 0), (12, 0), (20, 0), (2, 10), (6, 6)])
def test_a_bucket_of_100000_is_not_compared_pair_by_pair(slot: int, spread: int) -> None:
    """Templates of 40 shingles: alike beyond the threshold, just below it, far below it, and of many lengths."""
    rows = 100_000
    sets = template(rows, 40, slot, spread)
    edges, compared = compare(Buckets(np.arange(rows), np.array([0, rows])), sets, 0.8)
    assert compared <= 2 * FEW * rows  # of 5e9 pairs
    assert len(edges.later) <= ENOUGH * rows
    if not spread:
        alike = (40 - slot) / (40 + slot) >= 0.8
        assert len(np.unique(edges.later)) == (rows - 1 if alike else 0)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=40))
def test_buckets_are_the_distinct_groups_of_two_or_more(pairs: list[tuple[int, int]]) -> None:
    found = buckets(np.array([key for key, _ in pairs], np.uint64), np.array([row for _, row in pairs], np.int64))
    listed = [tuple(found.members[a:b].tolist()) for a, b in zip(found.offsets, found.offsets[1:], strict=False)]
    groups = {tuple(sorted({row for k, row in pairs if k == key})) for key, _ in pairs}
    assert sorted(listed) == sorted(group for group in groups if len(group) >= 2)


def test_no_chain_through_rows_that_go() -> None:
    """a ~ b ~ c, but a is not like c: taken in order a, b, c, only b goes. A component would have lost c too."""
    pairs, similarity = np.array([[0, 1], [1, 2]]), np.array([0.9, 0.85])
    assert survivors(pairs, similarity, np.array([0, 1, 2]), 0.8).twin.tolist() == [-1, 0, -1]
    assert survivors(pairs, similarity, np.array([1, 0, 2]), 0.8).twin.tolist() == [1, -1, 1]
    assert survivors(pairs, similarity, np.array([2, 1, 0]), 0.8).twin.tolist() == [-1, 2, -1]
    assert survivors(pairs, similarity, np.array([0, 1, 2]), 0.88).twin.tolist() == [-1, 0, -1]


def test_the_twin_is_the_kept_row_most_alike() -> None:
    pairs = np.array([[3, 0], [3, 1], [2, 3], [4, 0], [4, 1]])
    settled = survivors(pairs, np.array([0.85, 0.95, 0.99, 0.9, 0.9]), np.array([0, 1, 9, 3, 4]), 0.8)
    assert settled.twin.tolist() == [-1, -1, -1, 1, 0]
    assert settled.jaccard.tolist() == [0, 0, 0, 0.95, 0.9]


forest = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=12)


@settings(max_examples=80, deadline=None)
@given(st.lists(forest, max_size=5), st.integers(0, 5))
def test_forests_merge_in_any_order_to_the_components(forests: list[list[tuple[int, int]]], cut: int) -> None:
    given_forests = [Forest(*np.array(pairs, np.int64).reshape(-1, 2).T) for pairs in forests]
    whole = merge_forests(given_forests)
    tree = merge_forests([merge_forests(given_forests[:cut]), merge_forests(given_forests[cut:][::-1])])
    assert np.array_equal(whole, tree)
    roots = list(range(16))
    for pairs in forests:
        for a, b in pairs:
            low, high = sorted((roots[a], roots[b]))
            roots = [low if root == high else root for root in roots]
    assert list(zip(*whole, strict=True)) == [(row, root) for row, root in enumerate(roots) if row != root]


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Sets:
    table = pj.read_json(shared_data / "sources/t0_p3_50k.jsonl.gz")
    table = table.take(np.random.default_rng(0).choice(len(table), 20_000, replace=False))
    columns = [table[name].combine_chunks() for name in ("prompt", "completion")]
    return shingle_sets(shingle_hashes(pc.binary_join_element_wise(*columns, "\n"), 5))


def test_recall_on_20000_real_rows_is_within_a_hundredth_of_the_curve(real: Sets) -> None:
    """Against all pairs at or above 0.7, by brute force. Pairs of one template share their fate under one seed, so the
    curve, which is about the average draw, is compared with the average of eight."""
    pairs, values = every_pair(real, 0.7)
    assert len(pairs) > 50_000
    met = np.zeros(len(pairs))
    for seed in range(1, 9):
        keys = band_keys(signatures(Shingles(real.hash, real.offsets), 112, seed).values, 14, 8)
        found = (keys[pairs[:, 0]] == keys[pairs[:, 1]]).any(axis=1)
        assert found[values == 1.0].all()
        met += found / 8
    expected = np.array([recall(value, 14, 8) for value in values.tolist()])
    assert met.mean() == pytest.approx(expected.mean(), abs=0.01)
    for low, high in ((0.7, 0.75), (0.75, 0.8), (0.8, 0.9), (0.9, 1.01)):
        within = (values >= low) & (values < high)
        assert met[within].mean() == pytest.approx(expected[within].mean(), abs=0.03)


def every_pair(sets: Sets, threshold: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """All pairs at or above the threshold, by counting shared shingles: no bands, no filters, no early stop."""
    sizes = np.diff(sets.offsets)
    order = np.argsort(sets.hash, kind="stable")
    hashes, owners = sets.hash[order], np.repeat(np.arange(len(sizes)), sizes)[order]
    starts, ends = np.searchsorted(hashes, sets.hash, "left"), np.searchsorted(hashes, sets.hash, "right")
    pairs, values = [], []
    for row in range(len(sizes)):
        span = slice(sets.offsets[row], sets.offsets[row + 1])
        several = ends[span] - starts[span] > 1
        start, count = starts[span][several], (ends[span] - starts[span])[several]
        inside = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        shared = np.bincount(owners[np.repeat(start, count) + inside], minlength=len(sizes))
        value = shared / np.maximum(sizes[row] + sizes - shared, 1)
        others = np.flatnonzero(value >= threshold)
        others = others[others > row]
        pairs.append(np.stack([np.full(len(others), row), others], axis=1))
        values.append(value[others])
    return np.concatenate(pairs), np.concatenate(values)
