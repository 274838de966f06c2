"""Counted words to merges: the byte-level BPE that `BpeTrainer` of the tokenizers library learns from the same words.

At each step the most frequent pair of neighbouring symbols is merged, of equally frequent ones that with the smallest
ids. Symbols are numbered in the order in which they are made, so the merges follow from the counts of the words alone.

The library holds a set of words for each pair. Here a pair has a list of places, in the order of the text, and each
place knows its pair, so a merge reads the places of its pair and writes those of their neighbours.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.columns import as_array
from dedup.intrinsics import load_uint64, store_uint64
from dedup.kernel import buffers, kernel
from pipelines.bpe.classes import class_table
from pipelines.bpe.table import WordTable, empty, find, has_room, insert, word_table
from pipelines.bpe.words import word_end

Ints = npt.NDArray[np.int64]

TABLE_SLOTS, TABLE_BYTES = 1 << 20, 32 << 20
"""Slots and bytes of the table that words are counted in: 48 MB, for some 520,000 words."""

BYTES = 256

_0, _32, _LENGTH = np.uint64(0), np.uint64(32), np.uint64(0xFFFFFFFF)


def count_words(texts: pa.Array, slots: int = TABLE_SLOTS, arena_bytes: int = TABLE_BYTES) -> pa.Table:
    """The words of all texts (string [rows], normalized): columns word (binary) and count (int64).

    A word has several rows if there are more distinct words than a table of this size holds.

    Raises: ValueError: if a word is longer than the table.
    """
    data, offsets = buffers(texts)
    table = word_table(slots, arena_bytes)
    classes, row, at = class_table(), 0, int(offsets[0])
    counted = []
    while True:
        row, at = _count(data, offsets, classes, table, row, at)
        counted.append(_written_out(table))
        if row == len(offsets) - 1:
            return pa.concat_tables(counted)
        if not counted[-1].num_rows:
            raise ValueError(f"row {row} has a word longer than {arena_bytes} bytes")


def add_counts(counted: pa.Table) -> pa.Table:
    """Each word once, with the sum of its counts."""
    summed = counted.group_by("word", use_threads=False).aggregate([("count", "sum")])
    return summed.rename_columns(["word", "count"])


def learn_merges(counted: pa.Table, order: Ints, merges: int, min_count: int) -> Ints:
    """The merges, at most `merges` of them, each of a pair that occurs `min_count` times or more: int64 [merges, 2].

    counted: columns word (binary), each once, and count (int64). order: int64 [256], the number of each byte; the n-th
    merge makes symbol 256 + n.

    Raises: ValueError: if all words together have too many bytes for 32-bit numbers (700 MB).
    """
    data, offsets = buffers(as_array(counted["word"]))
    used = data[offsets[0] : offsets[-1]]
    if 3 * len(used) >= 1 << 31:
        raise ValueError(f"{len(used)} bytes of words are too many to learn merges from")
    text = np.empty((len(used), 5), np.int32)
    text[:, _SYMBOL] = order[used]
    made: Ints = _learn(text, offsets - offsets[0], counted["count"].to_numpy(), merges, min_count)
    return made


@kernel
def _count(data, offsets, classes, table, row, at):  # type: ignore[no-untyped-def]
    """Count words from byte `at` of `row` on, until there is no more room. Returns the row and the byte to go on at."""
    rows = len(offsets) - 1
    while row < rows:
        end = offsets[row + 1]
        while at < end:
            stop = word_end(data, at, end, classes)
            slot, mixed, place = find(data, at, stop, table)
            if place < 0:
                if not has_room(table, stop - at, 8):
                    return row, at
                place = insert(data, at, stop, slot, mixed, 8, table)
                store_uint64(table.arena, place, _0)
            store_uint64(table.arena, place, load_uint64(table.arena, place) + np.uint64(1))
            at = stop
        row += 1
    return row, at


def _written_out(table: WordTable) -> pa.Table:
    """The words of a table with their counts, in the order of slots. The table is empty afterwards."""
    words = int(table.used[0])
    out, offsets, counts = np.empty(table.used[1], np.uint8), np.zeros(words + 1, np.int32), np.empty(words, np.int64)
    _write_out(table, out, offsets, counts)
    empty(table)
    word = pa.Array.from_buffers(pa.binary(), words, [None, pa.py_buffer(offsets), pa.py_buffer(out[: offsets[-1]])])
    return pa.table([word, pa.array(counts)], ["word", "count"])


@kernel
def _write_out(table, out, offsets, counts):  # type: ignore[no-untyped-def]
    n, at = 0, np.int64(0)
    for slot in range(len(table.slots)):
        if table.slots[slot, 0] == _0:
            continue
        packed = table.slots[slot, 1]
        place, length = np.int64(packed & _LENGTH), np.int64(packed >> _32)
        for k in range(length):
            out[at + k] = table.arena[place + k]
        counts[n] = np.int64(load_uint64(table.arena, place + (length + 7) // 8 * 8))
        n += 1
        at += length
        offsets[n] = at


# Columns of the pairs of neighbouring symbols, int64 [pairs, 6]: the two symbols; how often the pair occurs now; that
# number when it was last put into the queue; its first and its last entry in the list of places, -1 for none.
_LEFT, _RIGHT, _COUNT, _QUEUED, _FIRST, _LAST = range(6)

# Columns of the text of all words, int32 [bytes, 5]: the symbol; the places of its neighbours in the word, -1 at its
# ends; the word; the pair with the next symbol, -1 for none.
_SYMBOL, _BEFORE, _AFTER, _WORD, _PAIR = range(5)


@kernel
def _add_pair(pair, left, right, pairs):  # type: ignore[no-untyped-def]
    pairs[pair, _LEFT], pairs[pair, _RIGHT], pairs[pair, _COUNT] = left, right, 0
    pairs[pair, _FIRST] = pairs[pair, _LAST] = -1


@kernel
def _add_place(pair, place, weight, entry, text, pairs, places):  # type: ignore[no-untyped-def]
    """Write that `pair` occurs at `place`, as number `entry` of the list of places."""
    text[place, _PAIR] = pair
    places[entry, 0], places[entry, 1] = place, -1
    last = pairs[pair, _LAST]
    if last < 0:
        pairs[pair, _FIRST] = entry
    else:
        places[last, 1] = entry
    pairs[pair, _LAST] = entry
    pairs[pair, _COUNT] += weight


@kernel
def _is_before(one, other, pairs):  # type: ignore[no-untyped-def]
    """Whether pair `one` comes out of the queue before `other`."""
    if pairs[one, _QUEUED] != pairs[other, _QUEUED]:
        return pairs[one, _QUEUED] > pairs[other, _QUEUED]
    if pairs[one, _LEFT] != pairs[other, _LEFT]:
        return pairs[one, _LEFT] < pairs[other, _LEFT]
    return pairs[one, _RIGHT] < pairs[other, _RIGHT]


@kernel
def _push(first, end, min_count, queue, size, pairs):  # type: ignore[no-untyped-def]
    """Put pairs [first : end] that occur often enough into the queue, a binary heap of `size` pairs. Its new size."""
    for pair in range(first, end):
        pairs[pair, _QUEUED] = pairs[pair, _COUNT]
        if pairs[pair, _COUNT] < min_count:
            continue
        at = size
        while at > 0 and _is_before(pair, queue[(at - 1) >> 1], pairs):
            queue[at] = queue[(at - 1) >> 1]
            at = (at - 1) >> 1
        queue[at] = pair
        size += 1
    return size


@kernel
def _pop(queue, size, pairs):  # type: ignore[no-untyped-def]
    """Take the first pair out of the queue, which has `size` pairs before."""
    top, moved, at = queue[0], queue[size - 1], 0
    while 2 * at + 1 < size - 1:
        below = 2 * at + 1
        if below + 1 < size - 1 and _is_before(queue[below + 1], queue[below], pairs):
            below += 1
        if not _is_before(queue[below], moved, pairs):
            break
        queue[at] = queue[below]
        at = below
    queue[at] = moved
    return top


@kernel
def _begin(text, offsets, counts, pairs, places):  # type: ignore[no-untyped-def]
    """Fill text (but for its symbols), pairs and places from the pairs of bytes. The numbers of pairs and entries."""
    of_bytes = np.full((BYTES, BYTES), -1, np.int32)
    made, entries = 0, 0
    for word in range(len(counts)):
        first, last = offsets[word], offsets[word + 1] - 1
        for i in range(first, last + 1):
            text[i, _BEFORE] = i - 1 if i > first else -1
            text[i, _AFTER] = i + 1 if i < last else -1
            text[i, _WORD], text[i, _PAIR] = word, -1
            if i < last:
                left, right = text[i, _SYMBOL], text[i + 1, _SYMBOL]
                if of_bytes[left, right] < 0:
                    of_bytes[left, right] = made
                    _add_pair(made, left, right, pairs)
                    made += 1
                _add_place(of_bytes[left, right], i, counts[word], entries, text, pairs, places)
                entries += 1
    return made, entries


@kernel
def _merge(top, new, made, entries, counts, with_new, text, pairs, places):  # type: ignore[no-untyped-def]
    """Merge the pair `top` to the symbol `new` in all words. The numbers of pairs and of entries.

    with_new: int32 [2, symbols], by the other symbol the pair with the newest symbol on the right (0) or the left (1);
    numbers below `made` are of earlier symbols.
    """
    oldest = made
    entry = pairs[top, _FIRST]
    while entry >= 0:
        i = np.int64(places[entry, 0])
        entry = np.int64(places[entry, 1])
        if text[i, _PAIR] != top:
            continue
        j = text[i, _AFTER]
        beyond = text[j, _AFTER]
        weight = counts[text[i, _WORD]]
        text[i, _SYMBOL], text[i, _AFTER] = new, beyond
        # The pair of the symbol before it with its left symbol, then that of its right symbol with the one after it.
        for side in range(2):
            place = np.int64(i if side else text[i, _BEFORE])
            other = np.int64(beyond if side else place)
            if other < 0:
                continue
            pairs[text[j if side else place, _PAIR], _COUNT] -= weight
            symbol = text[other, _SYMBOL]
            pair = np.int64(with_new[side, symbol])
            if pair < oldest:
                pair = made
                with_new[side, symbol] = pair
                _add_pair(pair, new if side else symbol, symbol if side else new, pairs)
                made += 1
            _add_place(pair, place, weight, entries, text, pairs, places)
            entries += 1
        text[j, _PAIR] = -1
        if beyond >= 0:
            text[beyond, _BEFORE] = i
        else:
            text[i, _PAIR] = -1
    return made, entries


@kernel
def _learn(text, offsets, counts, merges, min_count):  # type: ignore[no-untyped-def]
    """The merges, int64 [merges, 2]. text: with its symbols, which are merged in place."""
    places = np.empty((3 * len(text), 2), np.int32)  # a place, the next entry of its pair; a merge ends one, adds two
    pairs = np.empty((BYTES * BYTES + 4 * (merges + BYTES), 6), np.int64)
    made, entries = _begin(text, offsets, counts, pairs, places)
    queue = np.empty(len(pairs), np.int32)
    size = _push(np.int64(0), made, min_count, queue, np.int64(0), pairs)
    with_new = np.full((2, merges + BYTES), -1, np.int32)
    result, found = np.empty((merges, 2), np.int64), 0
    while found < merges and size > 0:
        top = np.int64(_pop(queue, size, pairs))
        size -= 1
        if pairs[top, _QUEUED] != pairs[top, _COUNT]:  # other merges took some of its places since
            size = _push(top, top + 1, min_count, queue, size, pairs)
            continue
        new = BYTES + found
        if made + 2 * (new + 1) > len(pairs):
            longer, longer_queue = np.empty((2 * len(pairs), 6), np.int64), np.empty(2 * len(pairs), np.int32)
            for pair in range(made):
                for column in range(6):
                    longer[pair, column] = pairs[pair, column]
                longer_queue[pair] = queue[pair]
            pairs, queue = longer, longer_queue
        result[found, 0], result[found, 1] = pairs[top, _LEFT], pairs[top, _RIGHT]
        found += 1
        oldest = made
        made, entries = _merge(top, new, made, entries, counts, with_new, text, pairs, places)
        size = _push(oldest, made, min_count, queue, size, pairs)
    return result[:found]
