"""Seeds: the n-grams by which items are found. How their table is built, and which of them stand in a text.

A seed is an n-gram of item text that at most CAP parts (distinct item texts) share. Where a 5-gram is more common, the
8-gram, 13-gram ... that begins at the same token is used instead, up to the whole part. Parts without any rare n-gram,
and parts of fewer than five tokens, are seeds as a whole. Phrases that thousands of items share therefore cost nothing.

The table uses open addressing: `table[2 * slot]` is the key (0 = empty), `table[2 * slot + 1]` the value. A value packs
where the seed's postings begin (bits 0 to 31), how many there are (32 to 39), whether the seed is common (40), and
whether a part that is a seed as a whole begins with it (41). A posting is a token of the index.

Two bit filters stand before the table, since nine text tokens in ten begin no seed: `bits` holds the 5-grams, `first`
the first one or two tokens of parts shorter than that. A key's bits 20 and up choose a word of a
filter, its top six bits the bit in that word.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from dedup.growing import doubled
from dedup.kernel import kernel
from dedup.shingles import BASE
from filters.contamination.grams import gram_key, gram_keys, power_of_base
from filters.contamination.layout import MIN_RUN
from filters.contamination.stream import Stream

LEVELS = (5, 8, 11, 13, 20, 34)
"""Lengths of seeds in tokens. Longer ones are used only where the shorter one is common. 8, 11, 13 and 20 are the
lengths of n-grams that published rules read."""
CAP = 8
"""A seed is common if more parts than this share it. A common seed has one posting, for one of them."""

_WHOLE_SALT = 1 << 20
"""Added to the length in the key of a whole part, so that the key differs from that of an n-gram."""
_FIRST_WORDS = 2048
"""uint64 words of the filter of short parts: 131,072 bits for the few thousand short parts of all benchmarks."""

_U64 = npt.NDArray[np.uint64]
_I64 = npt.NDArray[np.int64]
_I32 = npt.NDArray[np.int32]
_U32 = npt.NDArray[np.uint32]
_BASE = np.uint64(BASE)
_ONE, _TWO = np.uint64(1), np.uint64(2)
_COUNT_SHIFT, _COMMON_BIT, _OPENS_WHOLE_BIT = np.uint64(32), np.uint64(40), np.uint64(41)
_START_MASK, _COUNT_MASK = np.uint64(0xFFFFFFFF), np.uint64(0xFF)
_WORD_SHIFT, _BIT_SHIFT = np.uint64(20), np.uint64(58)
_FIRST_MASK = np.uint64(_FIRST_WORDS - 1)


class SeedTable(NamedTuple):
    """The seeds of an index; see the module's docstring.

    table: uint64 [2 * slots]; postings: uint32 [S], tokens of the index; bits: uint64, first: uint64, the filters;
    whole: int32, the lengths of the parts that are seeds as a whole, ascending.
    """

    table: _U64
    postings: _U32
    bits: _U64
    first: _U64
    whole: _I32


def group_equal(keys: _U64, parts: _I32) -> tuple[_I64, _I64, _I64]:
    """Group equal keys: the order that sorts them, where each group begins in it, and its number of distinct parts.

    keys: [n]; parts: [n], ascending, the part of each key. Returns int64 [n], int64 [groups], int64 [groups].
    """
    order = np.argsort(keys, kind="stable")
    ordered, owners = keys[order], parts[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    begin = np.flatnonzero(new)
    # The sort is stable, so the entries of one part lie together within a group.
    fresh = new.copy()
    fresh[1:] |= owners[1:] != owners[:-1]
    return order, begin, np.add.reduceat(fresh.astype(np.int64), begin) if len(begin) else np.empty(0, np.int64)


class _Postings:
    """Seeds as they are collected, level by level."""

    def __init__(self, part: _I32, parts: int) -> None:
        self.part = part
        self.has_rare_seed = np.zeros(parts, np.bool_)  # by part
        self.keys: list[_U64] = []
        self.values: list[_U64] = []
        self.postings: list[_U32] = []
        self.posted = 0

    def add(self, key: _U64, places: _I64) -> _I64:
        """Post the tokens `places` under their keys. Returns the places whose key is common, ascending."""
        order, begin, parts = group_equal(key, self.part[places])
        sizes = np.diff(np.append(begin, len(order)))
        common = parts > CAP
        # A part may hold a seed several times, so a rare seed has up to 2 * CAP postings.
        take = np.where(common, 1, np.minimum(sizes, 2 * CAP))
        rank = np.arange(len(order)) - np.repeat(begin, sizes)
        self.postings.append(places[order][rank < np.repeat(take, sizes)].astype(np.uint32))
        self.keys.append(key[order][begin])
        starts = self.posted + np.cumsum(take) - take
        packed = starts | take << int(_COUNT_SHIFT) | common.astype(np.int64) << int(_COMMON_BIT)
        self.values.append(packed.astype(np.uint64))
        self.posted += int(take.sum())
        common_place = np.repeat(common, sizes)
        self.has_rare_seed[self.part[places[order][~common_place]]] = True
        return np.sort(places[order][common_place])


def build_seed_table(part: _I32, part_start: _I64, searched: npt.NDArray[np.bool_], prefix: _U64) -> SeedTable:
    """The seeds of the parts for which `searched` is true.

    part: int32 [T], the part of each token; part_start: int64 [P + 1]; searched: bool [P]; prefix: uint64 [T + 1].
    """
    ends = part_start[part + 1] if len(part) else np.empty(0, np.int64)
    places = np.flatnonzero(searched[part] if len(part) else np.empty(0, np.bool_))
    seeds = _Postings(part, len(searched))
    shortest: _U64 = np.empty(0, np.uint64)
    for level, length in enumerate(LEVELS):
        places = places[places + length <= ends[places]]
        key = gram_keys(prefix, places, length)
        if level == 0:
            shortest = key
        places = seeds.add(key, places)
    rest = np.flatnonzero(searched & ~seeds.has_rare_seed)
    size = np.diff(part_start)[rest]
    whole = np.unique(size).astype(np.int32)
    for length in whole.tolist():
        starts = part_start[:-1][rest[size == length]]
        seeds.add(gram_keys(prefix, starts, length, _WHOLE_SALT), starts)
    # Whole parts are looked for only where their first 5-gram has this bit. Without it every common 5-gram of a text
    # would have to be tried at every length.
    opening = gram_keys(prefix, part_start[:-1][rest[size >= LEVELS[0]]], LEVELS[0])
    seeds.values[0][np.searchsorted(seeds.keys[0], np.unique(opening))] |= _ONE << _OPENS_WHOLE_BIT
    first = np.zeros(_FIRST_WORDS, np.uint64)
    for length in whole[whole < LEVELS[0]].tolist():
        _set_bits(first, gram_keys(prefix, part_start[:-1][rest[size == length]], min(length, 2)))

    # The table is at most three quarters full; the filter has 16 to 32 bits for each 5-gram.
    table = np.zeros(2 << max(4, int(4 * sum(len(key) for key in seeds.keys) // 3).bit_length()), np.uint64)
    _insert(table, np.concatenate(seeds.keys), np.concatenate(seeds.values))
    bits = np.zeros(1 << max(4, int(len(shortest) // 4).bit_length()), np.uint64)
    _set_bits(bits, shortest)
    return SeedTable(table, np.concatenate(seeds.postings), bits, first, whole)


@kernel
def _insert(table, keys, values):  # type: ignore[no-untyped-def]
    mask = np.uint64(len(table) // 2 - 1)
    for i in range(len(keys)):
        slot = keys[i] >> _ONE & mask  # the lowest bit of every key is 1
        while table[_TWO * slot] != 0:
            slot = (slot + _ONE) & mask
        table[_TWO * slot], table[_TWO * slot + _ONE] = keys[i], values[i]


@kernel
def _set_bits(bits, keys):  # type: ignore[no-untyped-def]
    mask = np.uint64(len(bits) - 1)
    for k in keys:
        bits[k >> _WORD_SHIFT & mask] |= _ONE << (k >> _BIT_SHIFT)


@kernel
def _probe(table, key):  # type: ignore[no-untyped-def]
    """The value of a key in the seed table; 0 = no such seed."""
    mask = np.uint64(len(table) // 2 - 1)
    slot = key >> _ONE & mask
    while table[_TWO * slot] != 0:
        if table[_TWO * slot] == key:
            return table[_TWO * slot + _ONE]
        slot = (slot + _ONE) & mask
    return np.uint64(0)


def find_seeds(stream: Stream, seeds: SeedTable) -> tuple[_I64, _U64]:
    """Every seed that stands in the texts: its token int64 [n], ascending, and its value in the table uint64 [n]."""
    powers = np.array([power_of_base(length) for length in LEVELS], np.uint64)
    whole_powers = np.array([power_of_base(length) for length in seeds.whole.tolist()], np.uint64)
    candidates, shorts = _candidates(stream, powers[0], LEVELS[0], seeds.bits, seeds.first)
    levels = np.array(LEVELS, np.int64)
    found = _find_seeds(stream, candidates, shorts, powers, whole_powers, levels, seeds.whole, seeds.table)
    return cast(tuple[_I64, _U64], found)


@kernel
def _candidates(stream, power, length, bits, first):  # type: ignore[no-untyped-def]
    """The tokens where a seed of the shortest length may begin, and those where a shorter whole part may: int64 each.

    Nine tokens in ten begin neither. Each token is written and the count raised by 0 or 1, which avoids a branch that
    the processor could not predict.
    """
    seeds, shorts = np.empty(len(stream.hash) + 1, np.int64), np.empty(len(stream.hash) + 1, np.int64)
    seed_count, short_count = np.int64(0), np.int64(0)
    mask, prefix = np.uint64(len(bits) - 1), stream.prefix
    for row in range(len(stream.offsets) - 1):
        low, high = stream.offsets[row], stream.offsets[row + 1]
        for i in range(low, high - length + 1):
            h = gram_key(prefix[i + length] - prefix[i] * power, length)
            seeds[seed_count] = i
            seed_count += np.int64(bits[h >> _WORD_SHIFT & mask] >> (h >> _BIT_SHIFT) & _ONE)
        # Parts of one token are in the filter by that token, longer ones by their first two.
        for i in range(low, high):
            h = gram_key(stream.hash[i], 1)
            hit = first[h >> _WORD_SHIFT & _FIRST_MASK] >> (h >> _BIT_SHIFT)
            if i + 1 < high:
                h = gram_key(stream.hash[i] * _BASE + stream.hash[i + 1], 2)
                hit |= first[h >> _WORD_SHIFT & _FIRST_MASK] >> (h >> _BIT_SHIFT)
            shorts[short_count] = i
            short_count += np.int64(hit & _ONE)
    return seeds[:seed_count], shorts[:short_count]


@kernel
def _find_seeds(stream, candidates, shorts, powers, whole_powers, levels, whole, table):  # type: ignore[no-untyped-def]
    size = (len(candidates) + len(shorts)) * 4 + 64
    tokens, values, count = np.empty(size, np.int64), np.empty(size, np.uint64), 0
    prefix = stream.prefix
    short_lengths = 0  # how many of the lengths of whole parts are below that of the shortest seed
    while short_lengths < len(whole) and whole[short_lengths] < levels[0]:
        short_lengths += 1
    row, c, d = 0, 0, 0
    # Both lists ascend; they are read as one, so that seeds come out in the order of the text.
    while c < len(candidates) or d < len(shorts):
        i = len(stream.hash)
        if c < len(candidates):
            i = candidates[c]
        whole_first = short_lengths
        seeded = True
        if d < len(shorts) and shorts[d] <= i:
            seeded = shorts[d] == i
            i, whole_first = shorts[d], 0
            d += 1
        while i >= stream.offsets[row + 1]:
            row += 1
        high, whole_end = stream.offsets[row + 1], short_lengths
        if count + len(levels) + len(whole) > size:
            tokens, values, size = doubled(tokens), doubled(values), 2 * size
        if seeded:
            c += 1
            # Longer and longer n-grams from here, until one is no seed or is rare.
            for level in range(len(levels)):
                if i + levels[level] > high:
                    break
                h = gram_key(prefix[i + levels[level]] - prefix[i] * powers[level], levels[level])
                seed = _probe(table, h)
                if seed == 0:
                    break
                if seed >> _OPENS_WHOLE_BIT:  # the highest bit in use
                    whole_end = len(whole)
                common = seed >> _COMMON_BIT & _ONE
                # The single posting of a common short phrase is no evidence. From MIN_RUN on it is taken, because
                # open-r1's rule counts any shared 8-gram.
                if not common or levels[level] >= MIN_RUN:
                    tokens[count], values[count] = i, seed
                    count += 1
                if not common:
                    break
        for w in range(whole_first, whole_end):
            if i + whole[w] > high:
                break
            h = gram_key(prefix[i + whole[w]] - prefix[i] * whole_powers[w], whole[w] + _WHOLE_SALT)
            seed = _probe(table, h)
            if seed != 0:
                tokens[count], values[count] = i, seed
                count += 1
    return tokens[:count], values[:count]


@kernel
def first_posting(value):  # type: ignore[no-untyped-def]
    """Where the postings of a seed begin, from its value in the table."""
    return np.int64(value & _START_MASK)


@kernel
def posting_count(value):  # type: ignore[no-untyped-def]
    """How many postings a seed has, from its value in the table."""
    return np.int64(value >> _COUNT_SHIFT & _COUNT_MASK)
