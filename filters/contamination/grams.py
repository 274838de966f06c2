"""N-grams of tokens: their hashes, their keys, and how many texts of a scan hold each.

The hash of tokens [i : i + n] is a polynomial in BASE over the token hashes. It comes from two prefix hashes in
constant time, so n-grams of any length cost the same. A key is that hash mixed with the length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.kernel import kernel
from dedup.shingles import BASE
from filters.contamination.layout import (
    ALIGNED_LENGTH,
    ALIGNED_TOKEN,
    PAIR_RUN_END,
    PAIR_RUN_START,
    RUN_LENGTH,
    RUN_TOKEN,
)

GRAM_LENGTHS = (8, 11, 13, 20)
"""Lengths, in tokens, of the n-grams that are counted: those that published rules read over a whole corpus. Each is
also a length of seeds (`filters.contamination.seeds.LEVELS`), so every n-gram of the index that a text holds is found,
however common it is."""

GRAM_COUNTS = pa.schema([("length", pa.int8()), ("gram", pa.uint64()), ("rows", pa.int64())])
"""Columns of n-gram counts: the length in tokens, the key, and the number of rows that hold the n-gram."""

_U64 = npt.NDArray[np.uint64]
_I64 = npt.NDArray[np.int64]
_BASE = np.uint64(BASE)
_MIX, _SALT, _SHIFT = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0x9E3779B97F4A7C15), np.uint64(32)
_ONE = np.uint64(1)


def power_of_base(length: int) -> np.uint64:
    """BASE ** length modulo 2**64: the factor that removes a prefix from a prefix hash `length` tokens later."""
    return np.uint64(pow(BASE, length, 1 << 64))


def prefix_hashes(tokens: _U64) -> _U64:
    """The hash of every prefix, uint64 [T + 1]. Tokens [i : i + n] hash to prefix[i + n] - prefix[i] * BASE**n."""
    prefix = np.empty(len(tokens) + 1, np.uint64)
    _fill_prefix(tokens, prefix)
    return prefix


@kernel
def _fill_prefix(tokens, prefix):  # type: ignore[no-untyped-def]
    prefix[0] = 0
    for i in range(len(tokens)):
        prefix[i + 1] = prefix[i] * _BASE + tokens[i]


@kernel
def gram_key(value, length):  # type: ignore[no-untyped-def]
    """The key of an n-gram with hash `value`. Keys are odd, because 0 marks an empty slot of a hash table."""
    h = (value ^ np.uint64(length) * _SALT) * _MIX
    h = (h ^ h >> _SHIFT) * _MIX
    return (h ^ h >> _SHIFT) | _ONE


def gram_keys(prefix: _U64, starts: _I64, length: int, salt: int = 0) -> _U64:
    """The keys of the n-grams of `length` tokens that begin at `starts`. `salt` is added to the length in the key."""
    return cast(_U64, _gram_keys(prefix, starts, length, power_of_base(length), salt))


@kernel
def _gram_keys(prefix, starts, length, power, salt):  # type: ignore[no-untyped-def]
    keys = np.empty(len(starts), np.uint64)
    for i in range(len(starts)):
        keys[i] = gram_key(prefix[starts[i] + length] - prefix[starts[i]] * power, length + salt)
    return keys


def count_grams(prefix: _U64, rows: _I64, runs: _I64) -> pa.Table:
    """GRAM_COUNTS of the n-grams inside confirmed runs int64 [n, 3] (columns ALIGNED_*).

    prefix: the prefix hashes of the text stream. rows: the row of each run, int64 [n], ascending.
    """
    tables = [GRAM_COUNTS.empty_table()]
    for length in GRAM_LENGTHS:
        grams, counts = _count_grams(rows, runs, prefix, power_of_base(length), length)
        columns = (np.full(len(grams), length, np.int8), grams, counts)
        tables.append(pa.table([pa.array(column) for column in columns], schema=GRAM_COUNTS))
    return pa.concat_tables(tables)


@kernel
def _count_grams(row, runs, prefix, power, length):  # type: ignore[no-untyped-def]
    """The distinct keys of the n-grams in runs uint64 [n], and the number of rows that hold each int64 [n]."""
    total = 0
    for r in range(len(runs)):
        total += max(0, runs[r, ALIGNED_LENGTH] - length + 1)
    # An open-addressing table, at most half full. A slot holds the place of its key in `grams` plus one; 0 = empty.
    size = 16
    while size < 2 * total:
        size *= 2
    place, mask = np.zeros(size, np.int64), np.uint64(size - 1)
    grams, last_row, rows = np.empty(total, np.uint64), np.empty(total, np.int64), np.empty(total, np.int64)
    # Runs of one row with several parts lie over each other. Each n-gram of the row is looked up once.
    counted = np.zeros(len(prefix), np.bool_)
    count = 0
    for r in range(len(runs)):
        first = runs[r, ALIGNED_TOKEN]
        for i in range(first, first + runs[r, ALIGNED_LENGTH] - length + 1):
            if counted[i]:
                continue
            counted[i] = True
            key = gram_key(prefix[i + length] - prefix[i] * power, length)
            slot = key >> _ONE & mask
            while place[slot] > 0 and grams[place[slot] - 1] != key:
                slot = (slot + _ONE) & mask
            if place[slot] == 0:
                grams[count], last_row[count], rows[count] = key, row[r], 1
                count += 1
                place[slot] = count
            elif last_row[place[slot] - 1] != row[r]:
                # Rows ascend, so comparing with the last row that held the n-gram counts each row once.
                last_row[place[slot] - 1] = row[r]
                rows[place[slot] - 1] += 1
    return grams[:count], rows[:count]


PENDING_ROWS = 1 << 20
"""Counts that are collected before they are added up."""


def sum_gram_counts(counts: Iterable[pa.Table]) -> pa.Table:
    """GRAM_COUNTS of several scans added up, sorted by length and key."""
    pending = [GRAM_COUNTS.empty_table()]
    for table in counts:
        pending.append(table)
        if sum(map(len, pending)) > PENDING_ROWS:
            pending = [_added_up(pending)]
    return _added_up(pending).sort_by([("length", "ascending"), ("gram", "ascending")]).combine_chunks()


def _added_up(counts: Sequence[pa.Table]) -> pa.Table:
    grouped = pa.concat_tables(counts).group_by(["length", "gram"], use_threads=False)
    return grouped.aggregate([("rows", "sum")]).rename_columns(GRAM_COUNTS.names)


def pair_grams(pairs: _I64, runs: _I64, prefix: _U64, length: int) -> tuple[_U64, _I64]:
    """The keys of the n-grams in each pair's runs: uint64 [total], and offsets int64 [pairs + 1] into them.

    runs: the runs as found, int64 [n, 5]. prefix: the prefix hashes of the text stream.
    """
    return cast(tuple[_U64, _I64], _pair_grams(pairs, runs, prefix, power_of_base(length), length))


@kernel
def _pair_grams(pairs, runs, prefix, power, length):  # type: ignore[no-untyped-def]
    total = 0
    for n in range(len(pairs)):
        for r in range(pairs[n, PAIR_RUN_START], pairs[n, PAIR_RUN_END]):
            total += max(0, runs[r, RUN_LENGTH] - length + 1)
    grams, offsets = np.empty(total, np.uint64), np.zeros(len(pairs) + 1, np.int64)
    count = 0
    for n in range(len(pairs)):
        for r in range(pairs[n, PAIR_RUN_START], pairs[n, PAIR_RUN_END]):
            first = runs[r, RUN_TOKEN]
            for i in range(first, first + runs[r, RUN_LENGTH] - length + 1):
                grams[count] = gram_key(prefix[i + length] - prefix[i] * power, length)
                count += 1
        offsets[n + 1] = count
    return grams, offsets
