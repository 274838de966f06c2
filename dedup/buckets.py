"""Buckets: the rows that share a band key, and are therefore compared with each other.

A bucket is a set of two or more distinct rows. Near-copies share several bands, so the same bucket is often found more
than once; `distinct_buckets` keeps one of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.kernel import kernel
from dedup.sorting import MAX_INSERTION_SORT, argsort, insertion_sort

Rows = npt.NDArray[np.int64]
"""Row numbers."""

FILTER_SLOTS_PER_ROW = 16
"""Size of the lookup filter of `buckets_with`: at most 1 in 16 other members then needs a binary search."""

_KEY_MULTIPLIER = np.uint64(0x9FB21C651E98DF25)
_FIBONACCI = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads consecutive integers (Knuth, TAOCP 6.4)
_32 = np.uint64(32)


class Buckets(NamedTuple):
    """Bucket i holds the rows members[offsets[i] : offsets[i + 1]]: ascending, distinct, two or more.

    members: int64 [total]; offsets: int64 [buckets + 1].
    """

    members: Rows
    offsets: Rows


def group_by_key(
    keys: npt.NDArray[np.uint64], rows: Rows, codes: npt.NDArray[np.uint32]
) -> tuple[Buckets, npt.NDArray[np.uint32]]:
    """Group rows int64 [n] by band keys uint64 [n]. A row may occur with several keys, and several times with one.

    codes: uint32 [n], the same number for every entry of a row.

    Returns the buckets, repeated ones included, and for each the least code of its rows: uint32 [buckets]. Equal
    buckets have equal codes, so dividing buckets among tasks by code brings equal ones to the same task.
    """
    by_key = argsort(keys)
    members, offsets, least_codes = _group_by_key(keys[by_key], rows[by_key], codes[by_key])
    return Buckets(members, offsets), least_codes


def distinct_buckets(buckets: Buckets) -> Buckets:
    """The buckets, each once: the first of equal ones, in the given order."""
    by_hash = argsort(_bucket_hashes(buckets.members, buckets.offsets))
    return Buckets(*_distinct_buckets(buckets.members, buckets.offsets, by_hash))


def renumber(buckets: Buckets, rank: Rows) -> Buckets:
    """The buckets with each row replaced by its rank in survivor order; rank: int64 [rows], distinct."""
    members = rank[buckets.members]
    _sort_members(members, buckets.offsets)
    return Buckets(members, buckets.offsets)


def concat_buckets(parts: Sequence[Buckets]) -> Buckets:
    """The buckets of all parts, one part after another."""
    members = np.concatenate([np.empty(0, np.int64), *(part.members for part in parts)])
    sizes = np.concatenate([np.empty(0, np.int64), *(np.diff(part.offsets) for part in parts)])
    return Buckets(members, np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]))


def buckets_with(buckets: Buckets, rows: Rows) -> Buckets:
    """The buckets that contain at least one of `rows` int64 [n], which must be ascending."""
    return Buckets(*_buckets_with(buckets.members, buckets.offsets, rows))


def without_rows(
    buckets: Buckets, removed: npt.NDArray[np.bool_], required: npt.NDArray[np.bool_] | None = None
) -> Buckets:
    """The buckets without their removed rows, where two or more remain.

    removed: bool [rows]. required: bool [rows]; if given, only buckets where a remaining row is marked in it.
    """
    return Buckets(
        *_without_rows(buckets.members, buckets.offsets, removed, ~removed if required is None else required)
    )


@kernel
def _group_by_key(keys, rows, codes):  # type: ignore[no-untyped-def]
    """Buckets of entries sorted by key: members, offsets, and the least code of each bucket."""
    members = np.empty(len(keys), np.int64)
    offsets = np.empty(len(keys) // 2 + 2, np.int64)
    least_codes = np.empty(len(keys) // 2 + 1, np.uint32)
    offsets[0] = 0
    count, end, i = 0, 0, 0
    while i < len(keys):
        # The run i:j of entries with equal keys. Sorting is stable, so its rows usually ascend already.
        j, ascending, code = i + 1, True, codes[i]
        while j < len(keys) and keys[j] == keys[i]:
            ascending &= rows[j] > rows[j - 1]
            code = min(code, codes[j])
            j += 1
        if j - i >= 2:
            run = rows[i:j] if ascending else np.unique(rows[i:j])
            if len(run) >= 2:  # otherwise one row with the same key several times
                members[end : end + len(run)] = run
                end += len(run)
                least_codes[count] = code
                count += 1
                offsets[count] = end
        i = j
    return members[:end].copy(), offsets[: count + 1].copy(), least_codes[:count].copy()


@kernel
def _sort_members(members, offsets):  # type: ignore[no-untyped-def]
    """Sort the members of each bucket in place."""
    for n in range(len(offsets) - 1):
        bucket = members[offsets[n] : offsets[n + 1]]
        if len(bucket) > MAX_INSERTION_SORT:
            bucket.sort()
        else:
            insertion_sort(bucket)


@kernel
def _bucket_hashes(members, offsets):  # type: ignore[no-untyped-def]
    """A 64-bit hash of the members of each bucket."""
    hashes = np.empty(len(offsets) - 1, np.uint64)
    for n in range(len(hashes)):
        h = np.uint64(offsets[n + 1] - offsets[n])
        for i in range(offsets[n], offsets[n + 1]):
            h = (h ^ np.uint64(members[i])) * _KEY_MULTIPLIER
            h ^= h >> _32
        hashes[n] = h
    return hashes


@kernel
def _distinct_buckets(members, offsets, by_hash):  # type: ignore[no-untyped-def]
    """One of each set of equal buckets. by_hash: the buckets sorted by hash, so that equal ones are neighbors."""
    keep = np.ones(len(by_hash), np.bool_)
    for n in range(1, len(by_hash)):
        # Compare the members, not the hashes: a collision must not drop a bucket.
        bucket, previous = by_hash[n], by_hash[n - 1]
        size = offsets[bucket + 1] - offsets[bucket]
        same = offsets[previous + 1] - offsets[previous] == size
        i = 0
        while same and i < size:
            same = members[offsets[previous] + i] == members[offsets[bucket] + i]
            i += 1
        keep[bucket] = not same
    return _select_buckets(members, offsets, keep)


@kernel
def _buckets_with(members, offsets, rows):  # type: ignore[no-untyped-def]
    """The buckets that contain one of the ascending `rows`."""
    # Most members are not among the rows. A one-hash Bloom filter rejects nearly all of them without a binary search.
    bits = 10
    while 1 << bits < FILTER_SLOTS_PER_ROW * len(rows):
        bits += 1
    shift = np.uint64(64 - bits)
    occupied = np.zeros(1 << bits, np.bool_)
    for row in rows:
        occupied[np.uint64(row) * _FIBONACCI >> shift] = True
    keep = np.zeros(len(offsets) - 1, np.bool_)
    for n in range(len(offsets) - 1):
        for i in range(offsets[n], offsets[n + 1]):
            member = members[i]
            if occupied[np.uint64(member) * _FIBONACCI >> shift]:
                at = np.searchsorted(rows, member)
                if at < len(rows) and rows[at] == member:
                    keep[n] = True
                    break
    return _select_buckets(members, offsets, keep)


@kernel
def _select_buckets(members, offsets, keep):  # type: ignore[no-untyped-def]
    """Copies of the members and offsets of the buckets marked in `keep` bool [buckets]."""
    total, count = 0, 0
    for n in range(len(keep)):
        if keep[n]:
            total += offsets[n + 1] - offsets[n]
            count += 1
    selected, borders = np.empty(total, np.int64), np.empty(count + 1, np.int64)
    borders[0] = 0
    end, count = 0, 0
    for n in range(len(keep)):
        if keep[n]:
            for i in range(offsets[n], offsets[n + 1]):
                selected[end] = members[i]
                end += 1
            count += 1
            borders[count] = end
    return selected, borders


@kernel
def _without_rows(members, offsets, removed, required):  # type: ignore[no-untyped-def]
    """The buckets of the rows that remain, where they are two or more and one of them is required."""
    remaining, borders = np.empty(len(members), np.int64), np.empty(len(offsets), np.int64)
    borders[0] = 0
    end, count = 0, 0
    for n in range(len(offsets) - 1):
        begin, has_required = end, False
        for i in range(offsets[n], offsets[n + 1]):
            if not removed[members[i]]:
                remaining[end] = members[i]
                end += 1
                has_required |= required[members[i]]
        if has_required and end - begin >= 2:
            count += 1
            borders[count] = end
        else:
            end = begin  # the next bucket overwrites this one
    return remaining[:end].copy(), borders[: count + 1].copy()
