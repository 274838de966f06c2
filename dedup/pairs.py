"""Pairs of rows whose Jaccard, computed exactly, is at or above the threshold.

`compare_once` takes the rows of one bucket after another in survivor order and compares each row only with the bucket's
*representatives*: the rows that had no pair with an earlier representative. In a bucket of copies every row is thus
compared with one other. `dedup.survivors` explains why these pairs decide who survives.

If the rows of a bucket are unlike each other, the representatives are many, and comparing with all of them would be
quadratic. From `MAX_DIRECT` representatives on, a row is compared only with those that share one of its rarest
shingles:

- Prefix filter (Chaudhuri, Ganti, Kaushik 2006). Order the shingles of all sets in the same way. If two sets have
  Jaccard t, the first len - ceil(t * len) + 1 shingles of each have one in common.
- Position filter (PPJoin, Xiao et al. 2008). The positions of that shingle in both sets bound their overlap.

Rare shingles come first in the order, so the text of a template, which all rows share, is never looked up.
"""

from __future__ import annotations

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
"""log2 of the number of comparisons that are cached (4 MB), since near-copies meet again in other bands."""
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
    """Pairs of rows at or above the threshold, each once: `earlier` comes before `later` in survivor order.

    later, earlier: int64 [n]; jaccard: float64 [n].
    """

    later: Rows
    earlier: Rows
    jaccard: npt.NDArray[np.float64]


def compare_once(buckets: Buckets, sets: Sets, threshold: float, always_kept: int = 0) -> tuple[Pairs, int]:
    """Compare each row with the earlier representatives of its buckets.

    Rows are numbered in survivor order (0 comes first), in `buckets` and `sets` alike. The first `always_kept` rows
    are kept whatever they resemble (they belong to an earlier corpus), so they are not compared with each other.

    Returns the pairs at or above `threshold`, sorted as by `unique_pairs`, and how many pairs of sets were compared.
    """
    later, earlier, jaccard, compared = _compare_once(
        buckets.members, buckets.offsets, sets.hash, sets.offsets, threshold, always_kept
    )
    return unique_pairs(Pairs(later, earlier, jaccard)), int(compared)


def unique_pairs(pairs: Pairs) -> Pairs:
    """The pairs, each once, sorted by later and then earlier row. Row numbers must be below 2**31."""
    keys = (pairs.later << 32 | pairs.earlier).view(np.uint64)
    by_key = argsort(keys)
    first = np.ones(len(keys), np.bool_)
    first[1:] = keys[by_key][1:] != keys[by_key][:-1]
    selected = by_key[first]
    return Pairs(pairs.later[selected], pairs.earlier[selected], pairs.jaccard[selected])


@kernel
def _compare(hashes, borders, x, y, threshold, always_kept, cache_keys, cache_values):  # type: ignore[no-untyped-def]
    """The Jaccard of rows x and y < x, or -1 if it is below the threshold or both rows are always kept.

    Also returns whether the sets were compared: False if sizes or the cache gave the answer.
    """
    if x < always_kept:
        return -1.0, False
    n, m = borders[x + 1] - borders[x], borders[y + 1] - borders[y]
    needed = min_overlap(threshold, n, m)
    if needed > min(n, m):
        return -1.0, False
    pair = np.uint64(x) << _32 | np.uint64(y)
    slot = np.int64((pair * _FIBONACCI) >> _PAIR_CACHE_SHIFT)
    if cache_keys[slot] == pair:
        return cache_values[slot], False
    shared = intersection_size(hashes, borders[x], borders[x + 1], borders[y], borders[y + 1], needed)
    jaccard = shared / (n + m - shared) if shared >= 0 and n + m > 0 else -1.0
    cache_keys[slot] = pair
    cache_values[slot] = jaccard
    return jaccard, True


@kernel
def _compare_once(members, offsets, hashes, borders, threshold, always_kept):  # type: ignore[no-untyped-def]
    """The columns of Pairs, a pair once for each bucket in which it was found; and the number of comparisons."""
    later, earlier, jaccards = np.empty(64, np.int64), np.empty(64, np.int64), np.empty(64, np.float64)
    # Key 0 marks a free slot. It would be the pair of row 0 with itself, which is never compared.
    cache_keys, cache_values = np.zeros(1 << PAIR_CACHE_BITS, np.uint64), np.empty(1 << PAIR_CACHE_BITS, np.float64)
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
                jaccard, read = _compare(
                    hashes, borders, x, representatives[c], threshold, always_kept, cache_keys, cache_values
                )
                compared += read
                if jaccard >= 0:
                    later[pairs], earlier[pairs], jaccards[pairs] = x, representatives[c], jaccard
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
                bucket, at, representatives, hashes, borders, threshold, always_kept, cache_keys, cache_values
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
    """The shingles hashes[begin:end] into `ordered`, rarest first: the count in the high 32 bits, the shingle below."""
    for i in range(begin, end):
        shingle = np.uint64(hashes[i])
        ordered[i - begin] = np.uint64(counts[shingle & mask]) << _32 | shingle
    ordered[: end - begin].sort()


@kernel
def _compare_indexed(bucket, begin, first, hashes, borders, threshold, always_kept, cache_keys, cache_values):  # type: ignore[no-untyped-def]
    """The pairs of the rows of a bucket from index `begin` on; `first`: the representatives among those before.

    Representatives are indexed by the shingles of their prefix. Size classes are kept apart in the index, because the
    overlap that two sets need, and so how far a row's prefix must be searched, depends on both sizes.
    """
    # Bounds for the arrays below: all shingles of the bucket, all index entries, the largest set.
    total, max_entries, longest = 0, 0, 0
    for x in bucket:
        size = borders[x + 1] - borders[x]
        total += size
        max_entries += _prefix_length(threshold, size)
        longest = max(longest, size)
    bits = MIN_INDEX_BITS
    while 1 << bits < total and bits < MAX_INDEX_BITS:
        bits += 1
    mask = np.uint64((1 << bits) - 1)
    # How often each shingle occurs in the bucket. Shingles whose low bits are equal share a counter. That is harmless:
    # the filters are correct for any fixed order of shingles, and rarest first is only the fastest.
    counts = np.zeros(1 << bits, np.uint32)
    for x in bucket:
        for i in range(borders[x], borders[x + 1]):
            counts[np.uint64(hashes[i]) & mask] += np.uint32(1)
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
    ordered = np.empty(longest, np.uint64)
    count, compared = 0, 0
    later, earlier, jaccards, pairs = np.empty(64, np.int64), np.empty(64, np.int64), np.empty(64, np.float64), 0
    # First insert the given representatives, then compare each further row and insert it if it has no pair.
    for turn in range(len(first) + len(bucket) - begin):
        given = turn < len(first)
        x = first[turn] if given else bucket[begin + turn - len(first)]
        size = borders[x + 1] - borders[x]
        _sort_by_frequency(hashes, borders[x], borders[x + 1], counts, mask, ordered)
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
                        other_size = borders[y + 1] - borders[y]
                        # Position filter: from here on the sets can share no more than the shorter remainder.
                        remaining = min(size - i, other_size - entry_position[entry])
                        if remaining >= min_overlap(threshold, size, other_size):
                            jaccard, read = _compare(
                                hashes, borders, x, y, threshold, always_kept, cache_keys, cache_values
                            )
                            compared += read
                            if jaccard >= 0:
                                later[pairs], earlier[pairs], jaccards[pairs] = x, y, jaccard
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
