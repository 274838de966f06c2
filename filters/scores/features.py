"""Texts as tokens, and tokens as numbered n-grams: what a linear model of texts sees.

The tokens are those that fastText reads, words between spaces, so that it can be trained on the same text. The numbers
of n-grams are fastText's: words of a dictionary first, then hashed n-grams.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.columns import as_array
from dedup.kernel import buffers, kernel
from filters.text import On, fields

MAX_BYTES = 8_192
"""What is read of each field, from its start."""

_MAX_WORD_BYTES = 40
_MAX_REPEATS = 3  # of a mark or line feed
_MAX_DIGITS = 4
_WORD, _NUMBER, _MARK, _LINE_FEED, _INDENTED = range(5)
_BASIS32, _PRIME32 = np.uint32(2166136261), np.uint32(16777619)
_BASIS64, _PRIME64 = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_NGRAM = np.uint64(116049371)  # fastText's multiplier of the hashes of an n-gram


def tokens(records: pa.Table, on: On) -> list[pa.LargeStringArray]:
    """The tokens of each field of `on`, in lower case, each with a space after it: [rows] per field.

    A token is a word, a number, a mark, a line feed or an indentation. Of a number only the count of digits is kept, up
    to four. If both fields are read, the tokens of the instruction begin with `_`: a word in the instruction and the
    same word in the response are two features.
    """
    result = []
    for name in fields(on):
        data, offsets = buffers(as_array(records[name]))
        text, ends = _tokens(data, offsets, MAX_BYTES, on == "both" and name == "instruction")
        body = [None, pa.py_buffer(ends), pa.py_buffer(text)]
        result.append(pa.Array.from_buffers(pa.large_string(), len(ends) - 1, body))
    return result


def number(
    texts: Sequence[pa.Array], ngrams: int, buckets: int, words: npt.NDArray[np.uint64] | None = None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The numbers of the n-grams of the tokens, in order: int32 [n], and where those of each row end: int64 [rows + 1].

    texts: what `tokens` returns. ngrams: the longest n-gram, in tokens; one does not cross two fields. words: uint64,
    the keys of a dictionary. Its words have the numbers from 0, other words have none, and n-grams of two and more
    tokens are hashed to the `buckets` numbers after them. Without a dictionary single tokens are hashed too.
    """
    keys = np.empty(0, np.uint64) if words is None else words
    table = np.full(1 << max(4, int(2 * len(keys)).bit_length()), -1, np.int32)
    _insert(keys, table)
    shortest = 1 if words is None else 2
    parts = [buffers(text) for text in texts]
    rows = len(texts[0])
    most = sum(_count(*part) for part in parts) * ngrams
    numbers = np.empty(most, np.int32)
    ends = np.zeros(rows + 1, np.int64)
    if len(parts) == 1:
        written = _number(*parts[0], *parts[0], False, keys, table, shortest, ngrams, buckets, numbers, ends)
    else:
        written = _number(*parts[0], *parts[1], True, keys, table, shortest, ngrams, buckets, numbers, ends)
    return numbers[:written], ends


def word_keys(words: Sequence[str]) -> npt.NDArray[np.uint64]:
    """The keys of words, by which a dictionary finds them: uint64 [words], FNV-1a."""
    keys: npt.NDArray[np.uint64] = _keys(*buffers(pa.array(words, pa.large_string())))
    return keys


@kernel
def _tokens(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], max_bytes: int, marked: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    rows = len(offsets) - 1
    size = 0
    for row in range(rows):
        size += min(offsets[row + 1] - offsets[row], max_bytes)
    out = np.empty(4 * size + 8, np.uint8)  # a line feed becomes a prefix, two bytes and a space
    ends = np.zeros(rows + 1, np.int64)
    write = 0
    for row in range(rows):
        at, end = offsets[row], offsets[row + 1]
        if end - at > max_bytes:
            end = at + max_bytes
            while end > at and data[end] & 0xC0 == 0x80:  # not within a character
                end -= 1
        last, repeats = 0, 0  # the mark or line feed before, and how many of it
        while at < end:
            byte = data[at]
            if byte <= 0x20 and byte != 0x0A:
                blanks = at
                while at < end and data[at] <= 0x20 and data[at] != 0x0A:
                    at += 1
                if last != 0x0A or at - blanks < 2 or at == end or data[at] == 0x0A:
                    continue
                token, last = _INDENTED, 0
            elif byte == 0x0A:
                token, at = _LINE_FEED, at + 1
            elif _is_letter(byte):
                token = _WORD
            elif 0x30 <= byte <= 0x39:
                token = _NUMBER
            else:
                token = _MARK
            if token in (_LINE_FEED, _MARK):
                repeats = repeats + 1 if last == byte else 1
                last = byte
                if repeats > _MAX_REPEATS and byte < 0x80:
                    at += token == _MARK
                    continue
            elif token != _INDENTED:
                last = 0
            if marked:
                out[write] = 0x5F
                write += 1
            begin = write
            if token == _INDENTED:
                out[write], out[write + 1] = 0x3E, 0x3E
                write += 2
            elif token == _LINE_FEED:
                out[write], out[write + 1] = 0xC2, 0xB6
                write += 2
            elif token == _NUMBER:
                while at < end and 0x30 <= data[at] <= 0x39:
                    if write - begin < _MAX_DIGITS:
                        out[write] = 0x30
                        write += 1
                    at += 1
            elif token == _MARK:
                for _ in range(min(_width(byte), end - at)):
                    out[write] = data[at]
                    write += 1
                    at += 1
            else:
                while at < end and (
                    _is_letter(data[at]) or (data[at] == 0x27 and at + 1 < end and _is_letter(data[at + 1]))
                ):
                    letter = data[at]
                    if letter < 0x80:
                        out[write] = letter | 0x20
                        write += 1
                        at += 1
                    else:
                        for _ in range(min(_width(letter), end - at)):
                            out[write] = data[at]
                            write += 1
                            at += 1
                if write - begin > _MAX_WORD_BYTES:
                    out[begin], out[begin + 1] = 0x3C, 0x3E
                    write = begin + 2
            out[write] = 0x20
            write += 1
        ends[row + 1] = write
    return out[:write].copy(), ends


@kernel
def _width(first: int) -> int:
    """Bytes of a UTF-8 character, by its first."""
    return 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4


@kernel
def _is_letter(first: int) -> bool:
    """Whether a character with this first byte is a letter of a word. An ideograph is a token, like a mark."""
    if first < 0x80:
        return 0x61 <= first | 0x20 <= 0x7A
    return 0xC3 <= first < 0xE2 or 0xEA <= first < 0xEF


@kernel
def _keys(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    keys = np.empty(len(offsets) - 1, np.uint64)
    for row in range(len(offsets) - 1):
        key = _BASIS64
        for at in range(offsets[row], offsets[row + 1]):
            key = (key ^ np.uint64(data[at])) * _PRIME64
        keys[row] = key
    return keys


@kernel
def _insert(keys: npt.NDArray[np.uint64], table: npt.NDArray[np.int32]) -> None:
    mask = np.uint64(len(table) - 1)
    for word in range(len(keys)):
        slot = keys[word] & mask
        while table[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        table[slot] = word


@kernel
def _count(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> int:
    count = 0
    for at in range(offsets[0], offsets[-1]):
        count += data[at] == 0x20
    return count


@kernel
def _number(
    first: npt.NDArray[np.uint8],
    first_offsets: npt.NDArray[np.int64],
    second: npt.NDArray[np.uint8],
    second_offsets: npt.NDArray[np.int64],
    both: bool,
    keys: npt.NDArray[np.uint64],
    table: npt.NDArray[np.int32],
    shortest: int,
    ngrams: int,
    buckets: int,
    numbers: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int64],
) -> int:
    mask = np.uint64(len(table) - 1)
    words, modulus = len(keys), np.uint64(buckets)
    before = np.zeros(ngrams, np.uint64)  # hashes of the last tokens, newest first
    write = 0
    for row in range(len(ends) - 1):
        for field in range(1 + both):
            data, offsets = (second, second_offsets) if field else (first, first_offsets)
            at, end = offsets[row], offsets[row + 1]
            count = 0
            while at < end:
                short, long = _BASIS32, _BASIS64
                while data[at] != 0x20:
                    # fastText adds bytes as signed numbers.
                    short = np.uint32((short ^ np.uint32(np.int8(data[at]))) * _PRIME32)
                    long = (long ^ np.uint64(data[at])) * _PRIME64
                    at += 1
                at += 1
                count += 1
                if words:
                    slot = long & mask
                    while table[slot] >= 0 and keys[table[slot]] != long:
                        slot = (slot + np.uint64(1)) & mask
                    if table[slot] >= 0:
                        numbers[write] = table[slot]
                        write += 1
                for place in range(ngrams - 1, 0, -1):
                    before[place] = before[place - 1]
                before[0] = np.uint64(np.int64(np.int32(short)))
                # The n-grams that end here. The first token of each is the oldest.
                for length in range(shortest, min(ngrams, count) + 1):
                    hashed = before[length - 1]
                    for place in range(length - 2, -1, -1):
                        hashed = hashed * _NGRAM + before[place]
                    numbers[write] = words + np.int64(hashed % modulus)
                    write += 1
        ends[row + 1] = write
    return write
