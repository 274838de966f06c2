"""Buckets against sets of rows in plain Python."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.buckets import (
    Buckets,
    buckets_with,
    concat_buckets,
    distinct_buckets,
    group_by_key,
    renumber,
    without_rows,
)

ROWS = 12

lists_of_rows = st.lists(st.sets(st.integers(0, ROWS - 1), min_size=2), max_size=8)
some_rows = st.sets(st.integers(0, ROWS - 1))


def buckets(keys: npt.NDArray[np.uint64], rows: npt.NDArray[np.int64]) -> Buckets:
    return distinct_buckets(group_by_key(keys, rows, np.zeros(len(keys), np.uint32))[0])


def of_sets(groups: list[set[int]]) -> Buckets:
    """The distinct buckets of several sets of rows."""
    keys = np.array([n for n, group in enumerate(groups) for _ in group], np.uint64)
    return buckets(keys, np.array([row for group in groups for row in group], np.int64))


def listed(groups: Buckets) -> list[tuple[int, ...]]:
    return [tuple(groups.members[a:b].tolist()) for a, b in zip(groups.offsets, groups.offsets[1:], strict=False)]


def mask(rows: set[int]) -> npt.NDArray[np.bool_]:
    return np.isin(np.arange(ROWS), list(rows))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=40))
def test_buckets_are_the_distinct_groups_of_two_or_more(entries: list[tuple[int, int]]) -> None:
    keys, rows = np.array([key for key, _ in entries], np.uint64), np.array([row for _, row in entries], np.int64)
    groups = {tuple(sorted({row for k, row in entries if k == key})) for key, _ in entries}
    assert sorted(listed(buckets(keys, rows))) == sorted(group for group in groups if len(group) >= 2)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=40))
def test_a_bucket_has_the_least_code_of_its_rows(entries: list[tuple[int, int]]) -> None:
    keys, rows = np.array([key for key, _ in entries], np.uint64), np.array([row for _, row in entries], np.int64)
    codes = np.random.default_rng(len(entries)).integers(0, 2**32, 10, dtype=np.uint32)
    groups, least = group_by_key(keys, rows, codes[rows])
    assert least.tolist() == [codes[list(group)].min() for group in listed(groups)]


@settings(max_examples=80, deadline=None)
@given(lists_of_rows, some_rows, some_rows)
def test_selecting_buckets_and_rows_is_selecting_sets(
    groups: list[set[int]], rows: set[int], required: set[int]
) -> None:
    given_buckets = of_sets(groups)
    assert listed(buckets_with(given_buckets, np.array(sorted(rows), np.int64))) == [
        group for group in listed(given_buckets) if rows & set(group)
    ]
    remaining = [tuple(row for row in group if row not in rows) for group in listed(given_buckets)]
    remaining = [group for group in remaining if len(group) >= 2]
    assert listed(without_rows(given_buckets, mask(rows))) == remaining
    assert listed(without_rows(given_buckets, mask(rows), mask(required))) == [
        group for group in remaining if required & set(group)
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(lists_of_rows, max_size=3))
def test_parts_are_joined_in_turn_and_renumbered_row_by_row(parts: list[list[set[int]]]) -> None:
    joined = concat_buckets([of_sets(part) for part in parts])
    assert listed(joined) == [group for part in parts for group in listed(of_sets(part))]
    rank = np.random.default_rng(len(parts)).permutation(ROWS)
    assert listed(renumber(joined, rank)) == [tuple(sorted(rank[list(group)].tolist())) for group in listed(joined)]
