"""Words to ids: byte-level BPE by a list of merges, and a table of the words that a worker has met.

A word's ids follow from its bytes alone, so the table changes nothing but the time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.hashing import fmix64
from dedup.intrinsics import load_uint64, store_uint64
from dedup.kernel import buffers, kernel
from pipelines.bpe.classes import class_table
from pipelines.bpe.table import empty, find, first_slot, has_room, insert, word_table
from pipelines.bpe.words import word_end

Ints = npt.NDArray[np.int64]
Ids = npt.NDArray[np.uint32]

LONG_WORD = 128
"""Longer words are left to another encoder: pairs are searched for in a line, which takes the square of the length."""

CHUNK_BYTES = 4 << 20
"""Text that is encoded at a time, unless one row is longer. It bounds the buffer of ids: 4 bytes for each of text."""

TABLE_SLOTS, TABLE_BYTES = 1 << 19, 16 << 20
"""Slots and bytes of the table of words: 24 MB, for some 260,000 words."""

_0, _32, _LOW = np.uint64(0), np.uint64(32), np.uint64(0xFFFFFFFF)
_NONE = np.uint32(0xFFFFFFFF)


class Merges(NamedTuple):
    """Merges to look up.

    of_byte: uint32 [256], the id of each byte. pairs: uint64 [slots], a power of two: left id << 32 | right id, plus 1;
    0 where empty. merged: uint32 [slots], the id of each pair's merge.
    """

    of_byte: Ids
    pairs: npt.NDArray[np.uint64]
    merged: Ids


def merge_table(of_byte: Sequence[int], merges: Ints) -> Merges:
    """Merges to look up. Of two merges, the one with the smaller merged id comes first.

    of_byte: the id of each byte [256]. merges: int64 [merges, 3], the ids of left, right and both.
    """
    slots = 1 << max(4, (2 * len(merges)).bit_length())
    made = Merges(np.array(of_byte, np.uint32), np.zeros(slots, np.uint64), np.zeros(slots, np.uint32))
    _fill(merges, made)
    return made


class WordEncoder:
    """Encodes texts word by word. Threads take turns.

    long_word: encodes the bytes of a word longer than LONG_WORD. slots, arena_bytes: the size of the table of words.
    """

    def __init__(
        self,
        merges: Merges,
        long_word: Callable[[bytes], list[int]],
        slots: int = TABLE_SLOTS,
        arena_bytes: int = TABLE_BYTES,
    ) -> None:
        self._merges, self._long_word = merges, long_word
        self._table = word_table(slots, arena_bytes)
        self._lock = threading.Lock()

    def encode(self, texts: pa.Array) -> tuple[Ids, Ints]:
        """The ids of all texts (string [rows], normalized), one after another: uint32, and how many each has: int64
        [rows]."""
        data, offsets = buffers(texts)
        lengths = np.zeros(len(offsets) - 1, np.int64)
        pieces = [np.empty(0, np.uint32)]
        first = 0
        with self._lock:
            while first < len(lengths):
                last = int(np.searchsorted(offsets, offsets[first] + CHUNK_BYTES, side="right")) - 1
                last = min(max(last, first + 1), len(lengths))
                pieces += self._encode_rows(data, offsets[first : last + 1], lengths[first:last])
                first = last
        return np.concatenate(pieces), lengths

    def _encode_rows(self, data: npt.NDArray[np.uint8], offsets: Ints, lengths: Ints) -> list[Ids]:
        out = np.empty(int(offsets[-1] - offsets[0]), np.uint32)  # a token has a byte at least
        row, at, count = 0, int(offsets[0]), 0
        classes = class_table()
        while True:
            row, at, stop, count = _encode(
                data, offsets, classes, self._merges, self._table, row, at, out, count, lengths
            )
            if row == len(lengths):
                return [out[:count].copy()]
            ids = self._long_word(data[at:stop].tobytes())
            out[count : count + len(ids)] = ids
            lengths[row] += len(ids)
            at, count = stop, count + len(ids)


@kernel
def _fill(merges, table):  # type: ignore[no-untyped-def]
    mask = len(table.pairs) - 1
    for n in range(len(merges)):
        key = (np.uint64(merges[n, 0]) << _32 | np.uint64(merges[n, 1])) + np.uint64(1)
        slot = np.int64(fmix64(key)) & mask
        while table.pairs[slot] != _0:
            slot = (slot + 1) & mask
        table.pairs[slot] = key
        table.merged[slot] = merges[n, 2]


@kernel
def _merge_of(left, right, table):  # type: ignore[no-untyped-def]
    """The id that two ids merge to, or _NONE."""
    mask = len(table.pairs) - 1
    key = (np.uint64(left) << _32 | np.uint64(right)) + np.uint64(1)
    slot = np.int64(fmix64(key)) & mask
    while table.pairs[slot] != _0:
        if table.pairs[slot] == key:
            return table.merged[slot]
        slot = (slot + 1) & mask
    return _NONE


@kernel
def _encode_word(data, at, stop, merges, ids, pairs):  # type: ignore[no-untyped-def]
    """Write the ids of a word; their number. pairs: uint32, room for what each id and the next one merge to."""
    size = stop - at
    for k in range(size):
        ids[k] = merges.of_byte[data[at + k]]
    for k in range(size - 1):
        pairs[k] = _merge_of(ids[k], ids[k + 1], merges)
    while size > 1:
        best, place = _NONE, 0
        for k in range(size - 1):
            if pairs[k] < best:
                best, place = pairs[k], k
        if best == _NONE:
            break
        size -= 1
        ids[place] = best
        for k in range(place + 1, size):
            ids[k] = ids[k + 1]
            pairs[k - 1] = pairs[k]
        # pairs[place] was overwritten by the pair of the two ids after it, which is that of place + 1 before.
        if place > 0:
            pairs[place - 1] = _merge_of(ids[place - 1], best, merges)
        if place + 1 < size:
            pairs[place] = _merge_of(best, ids[place + 1], merges)
    return size


@kernel
def _encode(data, offsets, classes, merges, table, row, at, out, count, lengths):  # type: ignore[no-untyped-def]
    """Encode from byte `at` of `row` on, up to a word that is too long.

    Ids go to `out` from `count` on, and their numbers are added to `lengths`. Returns the row, the begin and the end of
    the long word, and the count of ids so far; the number of rows and 0, 0 after the last row.
    """
    ids, pairs = np.empty(LONG_WORD, np.uint32), np.empty(LONG_WORD, np.uint32)
    while row < len(lengths):
        end, before = offsets[row + 1], count
        while at < end:
            stop = word_end(data, at, end, classes)
            if stop - at > LONG_WORD:
                lengths[row] += count - before
                return row, at, stop, count
            slot, mixed, place = find(data, at, stop, table)
            if place < 0:
                size = _encode_word(data, at, stop, merges, ids, pairs)
                if not has_room(table, stop - at, 4 * (size + 1)):
                    empty(table)
                    slot = first_slot(mixed, table)
                place = insert(data, at, stop, slot, mixed, 4 * (size + 1), table)
                # The number of ids, then the ids: 4 bytes each, two at a time.
                store_uint64(table.arena, place, np.uint64(size) | np.uint64(ids[0]) << _32)
                for k in range(1, size, 2):
                    second = np.uint64(ids[k + 1]) << _32 if k + 1 < size else _0
                    store_uint64(table.arena, place + 4 + 4 * k, np.uint64(ids[k]) | second)
            word = load_uint64(table.arena, place)
            size = np.int64(word & _LOW)
            out[count] = np.uint32(word >> _32)
            for k in range(1, size):
                out[count + k] = np.uint32(load_uint64(table.arena, place + 4 + 4 * k) & _LOW)
            count += size
            at = stop
        lengths[row] += count - before
        row += 1
    return row, np.int64(0), np.int64(0), count
