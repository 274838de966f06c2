"""Pairs of rows whose Jaccard, computed exactly, is at or above the threshold in every field that is compared.

`compare_once` takes the rows of one bucket after another in survivor order and compares each row only with the bucket's
*representatives*: the rows that had no pair with an earlier representative. In a bucket of copies every row is thus
compared with one other. `dedup.survivors` explains why these pairs decide who survives.

If the rows of a bucket are unlike each other, the representatives are many, and comparing with all of them would be
quadratic. From `MAX_DIRECT` representatives on, a row is compared only with those that share one of its rarest
shingles:

- Prefix filter (Chaudhuri, Ganti, Kaushik 2006). Order the shingles of all sets in the same way. If two sets have
  Jaccard t, the first len - ceil(t * len) + 1 shingles of each have one in common.
- Position filter (PPJoin, Xiao et al. 2008). The positions of that shingle in both sets bound their overlap.

The index holds the shingles of one field: the one whose rare shingles are shared by fewer rows of the bucket. Questions
about one passage are told apart by their answers, and canned answers by their questions.

Rare shingles come first in the order, so the text of a template, which all rows share, is never looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.buckets import Buckets, Rows
from dedup.growing import doubled
from dedup.kernel import kernel
from dedup.similarity import ROUNDING, Sets, intersection_size, min_overlap
from dedup.sorting import argsort

MAX_DIRECT = 32
"""Representatives of a bucket up to which a row is compared with each. Building an index costs more than this."""
MAX_PAIRS_PER_ROW = 8
"""Pairs recorded for a row in one bucket. One suffices to remove it; several let it name a closer duplicate."""
PAIR_CACHE_BITS = 18
"""log2 of the number of comparisons that are cached (4 MB), since near-copies share several bands."""
INDEX_SAMPLE = 128
"""Rows of a bucket from which it is estimated which field is the cheaper one to index."""
MIN_INDEX_BITS, MAX_INDEX_BITS = 10, 24
"""log2 of the slots of the shingle index: about one per shingle of the bucket, at most 16 M (200 MB)."""
MAX_EXACT_SIZE = 64
"""Set sizes below it are a size class each; larger sizes are classed in steps of SIZE_CLASS_STEP."""
SIZE_CLASS_STEP = 1.015
"""Ratio of the sizes of adjacent classes, close to the ratio of sizes 63 and 64."""

_PAIR_CACHE_SHIFT = np.uint64(64 - PAIR_CACHE_BITS)
_FIBONACCI = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads consecutive integers (Knuth, TAOCP 6.4)
_CLASS_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
_LOW_32, _20, _32 = np.uint64(0xFFFFFFFF), np.uint64(20), np.uint64(32)


class Pairs(NamedTuple):
    """Pairs of rows at or above the thresholds, each once: `earlier` comes before `later` in survivor order.

    later, earlier: int64 [n]; jaccard: float32 [n, fields].
    """

    later: Rows
    earlier: Rows
    jaccard: npt.NDArray[np.float32]


def compare_once(buckets: Buckets, sets: Sets, thresholds: Sequence[float], always_kept: int = 0) -> tuple[Pairs, int]:
    """Compare each row with the earlier representatives of its buckets.

    Rows are numbered in survivor order (0 comes first), in `buckets` and `sets` alike. The first `always_kept` rows
    are kept whatever they resemble (they belong to an earlier corpus), so they are not compared with each other.

    thresholds: of each field; a pair reaches all of them. sets: of each row the sets of its fields, one after another:
    set `row * fields + field`. A field that is empty in both rows of a bucket counts as equal (Jaccard 1): the caller
    sees to it that such rows meet only if the field is. A field that is empty in one row only has Jaccard 0.

    Returns the pairs, sorted as by `unique_pairs`, and how many pairs of rows were compared.
    """
    later, earlier, jaccard, compared = _compare_once(
        buckets.members,
        buckets.offsets,
        sets.hash,
        sets.offsets,
        np.array(thresholds, np.float64),
        always_kept,
    )
    return unique_pairs(Pairs(later, earlier, jaccard)), int(compared)


def concat_pairs(parts: Sequence[Pairs]) -> Pairs:
    """The pairs of all parts, one part after another."""
    later, earlier = (np.concatenate([part[column] for part in parts]) for column in (0, 1))
    return Pairs(later, earlier, np.concatenate([part.jaccard for part in parts]))


def unique_pairs(pairs: Pairs) -> Pairs:
    """The pairs, each once, sorted by later and then earlier row. Row numbers must be below 2**31."""
    keys = (pairs.later << 32 | pairs.earlier).view(np.uint64)
    by_key = argsort(keys)
    first = np.ones(len(keys), np.bool_)
    first[1:] = keys[by_key][1:] != keys[by_key][:-1]
    selected = by_key[first]
    return Pairs(pairs.later[selected], pairs.earlier[selected], pairs.jaccard[selected])


@kernel
def _compare(hashes, borders, x, y, thresholds, always_kept, cache_keys, cache_values):  # type: ignore[no-untyped-def]
    """The slot of `cache_values` with the Jaccards of rows x and y < x; -1 if one is below its threshold or both rows
    are always kept.

    Also returns whether the sets were compared: False if sizes or the cache gave the answer.
    """
    if x < always_kept:
        return -1, False
    fields = len(thresholds)
    for field in range(fields):
        i, j = x * fields + field, y * fields + field
        n, m = borders[i + 1] - borders[i], borders[j + 1] - borders[j]
        if min_overlap(thresholds[field], n, m) > min(n, m):
            return -1, False
    pair = np.uint64(x) << _32 | np.uint64(y)
    slot = np.int64((pair * _FIBONACCI) >> _PAIR_CACHE_SHIFT)
    if cache_keys[slot] == pair:
        return (slot if cache_values[slot, 0] >= 0 else -1), False
    cache_keys[slot] = pair
    for field in range(fields - 1, -1, -1):  # the response first: it is usually shorter
        i, j = x * fields + field, y * fields + field
        n, m = borders[i + 1] - borders[i], borders[j + 1] - borders[j]
        if n + m == 0:
            cache_values[slot, field] = 1.0
            continue
        needed = max(min_overlap(thresholds[field], n, m), 1)
        shared = intersection_size(hashes, borders[i], borders[i + 1], borders[j], borders[j + 1], needed)
        if shared < 0:
            cache_values[slot, 0] = -1.0
            return -1, True
        cache_values[slot, field] = shared / (n + m - shared)
    return slot, True


@kernel
def _compare_once(members, offsets, hashes, borders, thresholds, always_kept):  # type: ignore[no-untyped-def]
    """The columns of Pairs, a pair once for each bucket in which it was found; and the number of comparisons."""
    fields = len(thresholds)
    later, earlier, jaccards = np.empty(64, np.int64), np.empty(64, np.int64), np.empty((64, fields), np.float32)
    # Key 0 marks a free slot. It would be the pair of row 0 with itself, which is never compared.
    cache_keys = np.zeros(1 << PAIR_CACHE_BITS, np.uint64)
    cache_values = np.empty((1 << PAIR_CACHE_BITS, fields), np.float32)
    pairs, compared = 0, 0
    representatives = np.empty(MAX_DIRECT, np.int64)
    for n in range(len(offsets) - 1):
        bucket = members[offsets[n] : offsets[n + 1]]
        # Compare with every representative while they are few.
        count, at = 0, 0
        while at < len(bucket) and count < MAX_DIRECT:
            x = bucket[at]
            before = pairs
            if pairs + MAX_DIRECT > len(jaccards):
                later, earlier, jaccards = doubled(later), doubled(earlier), doubled(jaccards)
            for c in range(count):
                slot, read = _compare(
                    hashes, borders, x, representatives[c], thresholds, always_kept, cache_keys, cache_values
                )
                compared += read
                if slot >= 0:
                    later[pairs], earlier[pairs], jaccards[pairs] = x, representatives[c], cache_values[slot]
                    pairs += 1
                    if pairs - before == MAX_PAIRS_PER_ROW:
                        break
            if pairs == before:
                representatives[count] = x
                count += 1
            at += 1
        # Once MAX_DIRECT is reached, the remaining rows of the bucket find representatives through an index.
        if at < len(bucket):
            more_later, more_earlier, more_jaccards, more_compared = _compare_indexed(
                bucket, at, representatives, hashes, borders, thresholds, always_kept, cache_keys, cache_values
            )
            compared += more_compared
            while pairs + len(more_jaccards) > len(jaccards):
                later, earlier, jaccards = doubled(later), doubled(earlier), doubled(jaccards)
            for i in range(len(more_jaccards)):
                later[pairs], earlier[pairs], jaccards[pairs] = more_later[i], more_earlier[i], more_jaccards[i]
                pairs += 1
    return later[:pairs].copy(), earlier[:pairs].copy(), jaccards[:pairs].copy(), compared


@kernel
def _min_size(threshold, size):  # type: ignore[no-untyped-def]
    """The least size of a set that can have a Jaccard of `threshold` with a set of `size`."""
    return int(np.ceil(threshold * size - ROUNDING))


@kernel
def _prefix_length(threshold, size):  # type: ignore[no-untyped-def]
    """How many of the first shingles of a set of `size` contain one shared with any set at the threshold."""
    return size - _min_size(threshold, size) + 1


@kernel
def _size_class(size):  # type: ignore[no-untyped-def]
    """A number that sets of about the same size share; it does not decrease with the size."""
    if size < MAX_EXACT_SIZE:
        return size
    return MAX_EXACT_SIZE + int(np.log(size / float(MAX_EXACT_SIZE)) / np.log(SIZE_CLASS_STEP))


@kernel
def _index_slot(shingle, size_class, mask):  # type: ignore[no-untyped-def]
    mixed = np.uint64(shingle) * _FIBONACCI + np.uint64(size_class) * _CLASS_MULTIPLIER
    return mixed >> _20 & mask


@kernel
def _sort_by_frequency(hashes, begin, end, counts, mask, ordered):  # type: ignore[no-untyped-def]
    """The shingles hashes[begin:end] into `ordered`, rarest first: the count in the high 32 bits, the shingle below.

    An empty set becomes the set of one shingle, 0, so that empty sets find each other in the index. Returns the size.
    """
    if begin == end:
        ordered[0] = 0
        return 1
    for i in range(begin, end):
        shingle = np.uint64(hashes[i])
        ordered[i - begin] = np.uint64(counts[shingle & mask]) << _32 | shingle
    ordered[: end - begin].sort()
    return end - begin


@kernel
def _count_shingles(bucket, field, fields, hashes, borders, counts, mask):  # type: ignore[no-untyped-def]
    """How often each shingle of a field occurs in the bucket, by its low bits."""
    for x in bucket:
        for i in range(borders[x * fields + field], borders[x * fields + field + 1]):
            counts[np.uint64(hashes[i]) & mask] += np.uint32(1)


@kernel
def _entries_met(bucket, field, hashes, borders, thresholds, counts, mask, ordered):  # type: ignore[no-untyped-def]
    """An estimate of how many index entries a row meets if this field is indexed, from a sample of the bucket."""
    fields, met = len(thresholds), 0.0
    step = max(1, len(bucket) // INDEX_SAMPLE)
    for n in range(0, len(bucket), step):
        i = bucket[n] * fields + field
        size = _sort_by_frequency(hashes, borders[i], borders[i + 1], counts, mask, ordered)
        for k in range(_prefix_length(thresholds[field], size)):
            met += float(ordered[k] >> _32)
        if borders[i] == borders[i + 1]:
            met += float(len(bucket))
    return met


@kernel
def _compare_indexed(bucket, begin, first, hashes, borders, thresholds, always_kept, cache_keys, cache_values):  # type: ignore[no-untyped-def]
    """The pairs of the rows of a bucket from index `begin` on; `first`: the representatives among those before.

    Representatives are indexed by the shingles of their prefix. Size classes are kept apart in the index, because the
    overlap that two sets need, and so how far a row's prefix must be searched, depends on both sizes.
    """
    # Bounds for the arrays below: all shingles of the bucket, the largest set of either field.
    fields, total, longest = len(thresholds), 0, 1
    for x in bucket:
        total += borders[(x + 1) * fields] - borders[x * fields]
        for i in range(x * fields, (x + 1) * fields):
            longest = max(longest, borders[i + 1] - borders[i])
    bits = MIN_INDEX_BITS
    while 1 << bits < total and bits < MAX_INDEX_BITS:
        bits += 1
    mask = np.uint64((1 << bits) - 1)
    # How often each shingle occurs in the bucket. Shingles whose low bits are equal share a counter. That is harmless:
    # the filters are correct for any fixed order of shingles, and rarest first is only the fastest.
    counts, ordered = np.zeros(1 << bits, np.uint32), np.empty(longest, np.uint64)
    field, least = 0, np.inf
    for candidate in range(fields if fields > 1 else 0):
        counts[:] = 0
        _count_shingles(bucket, candidate, fields, hashes, borders, counts, mask)
        met = _entries_met(bucket, candidate, hashes, borders, thresholds, counts, mask, ordered)
        if met < least:
            field, least = candidate, met
    counts[:] = 0
    _count_shingles(bucket, field, fields, hashes, borders, counts, mask)
    threshold, max_entries = thresholds[field], 0
    for x in bucket:
        i = x * fields + field
        max_entries += _prefix_length(threshold, max(borders[i + 1] - borders[i], 1))
    # The index: a hash table whose slots are linked lists of entries. An entry is one prefix shingle of one
    # representative, with the representative's number, the shingle's position in it, and its size class.
    head = np.full(1 << bits, -1, np.int64)
    link, entry_shingle = np.empty(max_entries, np.int64), np.empty(max_entries, np.uint32)
    entry_owner, entry_position = np.empty(max_entries, np.int32), np.empty(max_entries, np.int32)
    entry_class = np.empty(max_entries, np.int32)
    entries = 0
    absent = longest + 1  # the size that stands for a class without a representative
    smallest_of_class = np.full(_size_class(longest) + 1, absent, np.int64)
    representatives = np.empty(len(bucket), np.int64)
    last_compared = np.full(len(bucket), -1, np.int64)  # by representative: the row that it was last considered for
    count, compared, pairs = 0, 0, 0
    later, earlier, jaccards = np.empty(64, np.int64), np.empty(64, np.int64), np.empty((64, fields), np.float32)
    # First insert the given representatives, then compare each further row and insert it if it has no pair.
    for turn in range(len(first) + len(bucket) - begin):
        given = turn < len(first)
        x = first[turn] if given else bucket[begin + turn - len(first)]
        own = x * fields + field
        size = _sort_by_frequency(hashes, borders[own], borders[own + 1], counts, mask, ordered)
        prefix = _prefix_length(threshold, size)
        before = pairs
        if pairs + MAX_PAIRS_PER_ROW > len(jaccards):
            later, earlier, jaccards = doubled(later), doubled(earlier), doubled(jaccards)
        # Only sets of similar size can reach the threshold.
        first_class = _size_class(_min_size(threshold, size))
        last_class = min(_size_class(int(size / threshold + ROUNDING)), len(smallest_of_class) - 1)
        for k in range(first_class, last_class + 1):
            if given or smallest_of_class[k] == absent or pairs - before == MAX_PAIRS_PER_ROW:
                continue
            # If the first shared shingle is further back, too few are left to share even with the smallest set.
            scan = min(prefix, size - min_overlap(threshold, size, smallest_of_class[k]) + 1)
            i = 0
            while i < scan and pairs - before < MAX_PAIRS_PER_ROW:
                shingle = np.uint32(ordered[i] & _LOW_32)
                entry = head[_index_slot(shingle, k, mask)]
                # All entries of the slot. Those of another shingle or class are collisions.
                while entry >= 0 and pairs - before < MAX_PAIRS_PER_ROW:
                    c = entry_owner[entry]
                    if entry_shingle[entry] == shingle and entry_class[entry] == k and last_compared[c] != x:
                        last_compared[c] = x
                        y = representatives[c]
                        other = y * fields + field
                        other_size = max(borders[other + 1] - borders[other], 1)
                        # Position filter: from here on the sets can share no more than the shorter remainder.
                        remaining = min(size - i, other_size - entry_position[entry])
                        if remaining >= min_overlap(threshold, size, other_size):
                            slot, read = _compare(
                                hashes, borders, x, y, thresholds, always_kept, cache_keys, cache_values
                            )
                            compared += read
                            if slot >= 0:
                                later[pairs], earlier[pairs], jaccards[pairs] = x, y, cache_values[slot]
                                pairs += 1
                    entry = link[entry]
                i += 1
        if pairs > before:
            continue
        # No pair: the row becomes a representative, and its prefix goes into the index.
        k = _size_class(size)
        smallest_of_class[k] = min(smallest_of_class[k], size)
        for i in range(prefix):
            shingle = np.uint32(ordered[i] & _LOW_32)
            slot = _index_slot(shingle, k, mask)
            entry_shingle[entries], entry_owner[entries], entry_position[entries] = shingle, count, i
            entry_class[entries], link[entries] = k, head[slot]
            head[slot] = entries
            entries += 1
        representatives[count] = x
        count += 1
    return later[:pairs], earlier[:pairs], jaccards[:pairs], compared
