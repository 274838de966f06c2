"""A hash table of words: what each is worth to a caller, in two arrays that kernels share.

A worker meets the same words again and again: the 22.6 million words of the mini corpus are 118 thousand distinct ones.
The table is bounded. A kernel that finds it full empties it or writes it out, and goes on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.hashing import MURMUR_1, MURMUR_2
from dedup.intrinsics import load_uint64, store_uint64
from dedup.kernel import kernel

_MURMUR_1, _MURMUR_2 = np.uint64(MURMUR_1), np.uint64(MURMUR_2)
_0, _1, _8, _29, _32, _64 = (np.uint64(number) for number in (0, 1, 8, 29, 32, 64))
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_PLACE = np.uint64(0xFFFFFFFF)


class WordTable(NamedTuple):
    """Words and what they are worth.

    slots: uint64 [slots, 2], a power of two: the word's hash, 0 where empty; its length << 32 | the place of its entry.
    arena: uint8: entries, each the word's bytes filled up with zeros to a multiple of 8, then the caller's value. used:
    int64 [2], the slots and the bytes of the arena in use.
    """

    slots: npt.NDArray[np.uint64]
    arena: npt.NDArray[np.uint8]
    used: npt.NDArray[np.int64]


def word_table(slots: int, arena_bytes: int) -> WordTable:
    """An empty table. It is full at `slots` / 2 words, or when `arena_bytes` are in use."""
    return WordTable(np.zeros((slots, 2), np.uint64), np.zeros(arena_bytes, np.uint8), np.zeros(2, np.int64))


@kernel
def word_bytes(data, at, left):  # type: ignore[no-untyped-def]
    """The `left` (at least 1) next bytes from `at`, at most 8 of them, as a uint64; the others are 0."""
    if left >= 8:
        return load_uint64(data, at)
    if at + 8 <= len(data):
        return load_uint64(data, at) & _ALL >> (_64 - (np.uint64(left) << np.uint64(3)))
    word = _0
    for k in range(left):
        word |= np.uint64(data[at + k]) << np.uint64(8 * k)
    return word


@kernel
def first_slot(mixed, table):  # type: ignore[no-untyped-def]
    """The slot where the search for a word with this hash begins."""
    return np.int64(mixed >> _8) & (len(table.slots) - 1)


@kernel
def find(data, at, stop, table):  # type: ignore[no-untyped-def]
    """The slot of the word data[at : stop] (int64), its hash, and the place of its value in the arena, -1 if it is new.

    The slot of a new word is the one that it would take.
    """
    length = stop - at
    mixed = np.uint64(length)
    for k in range(at, stop, 8):
        mixed = (mixed ^ word_bytes(data, k, stop - k)) * _MURMUR_1
        mixed ^= mixed >> _32
    mixed = mixed * _MURMUR_2
    mixed = (mixed ^ mixed >> _29) | _1
    mask = len(table.slots) - 1
    slot = first_slot(mixed, table)
    while True:
        held = table.slots[slot, 0]
        if held == _0:
            return slot, mixed, np.int64(-1)
        if held == mixed:
            packed = table.slots[slot, 1]
            if np.int64(packed >> _32) == length:
                place = np.int64(packed & _PLACE)
                k = at
                while k < stop and word_bytes(data, k, stop - k) == load_uint64(table.arena, place):
                    k += 8
                    place += 8
                if k >= stop:
                    return slot, mixed, place
        slot = (slot + 1) & mask


@kernel
def has_room(table, length, value_bytes):  # type: ignore[no-untyped-def]
    """Whether a new word of `length` bytes with a value of `value_bytes` fits."""
    return table.used[0] < len(table.slots) >> 1 and table.used[1] + length + value_bytes + 16 <= len(table.arena)


@kernel
def insert(data, at, stop, slot, mixed, value_bytes, table):  # type: ignore[no-untyped-def]
    """Put a new word into the slot that `find` said, if it `has_room`. Returns the place of its value in the arena."""
    begin = table.used[1]
    table.slots[slot, 0] = mixed
    table.slots[slot, 1] = np.uint64(begin) | np.uint64(stop - at) << _32
    place = begin
    for k in range(at, stop, 8):
        store_uint64(table.arena, place, word_bytes(data, k, stop - k))
        place += 8
    table.used[0] += 1
    table.used[1] = place + (value_bytes + 7) // 8 * 8
    return place


@kernel
def empty(table):  # type: ignore[no-untyped-def]
    """Remove all words."""
    for slot in range(len(table.slots)):
        table.slots[slot, 0] = _0
    table.used[0] = table.used[1] = 0
