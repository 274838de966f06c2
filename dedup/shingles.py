"""Tokens to shingles: 32-bit hashes of n-grams.

The hash of an n-gram is a polynomial over the hashes of its tokens (or characters), narrowed to 32 bits, so each next
n-gram costs two multiplications. `shingle_hash` is the same function in plain Python. Pass it to
`datasketch.MinHash(hashfunc=...)` to get bit-identical signatures.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.hashing import MURMUR_2
from dedup.kernel import borrowing_kernel, buffers, kernel
from dedup.readings import reading_tables
from dedup.spacing import with_blanks
from dedup.tokens import WORD_BYTES, Offsets, longest_row, max_tokens, normalise, scan_tokens, token_hash
from dedup.utf8 import decode

Unit = Literal["word", "character"]

BASE = 0xD6E8FEB86659FD93
"""The base of the polynomial over token hashes. It is odd, so that no bits of a token are shifted out."""

_MASK = 0xFFFFFFFFFFFFFFFF
_BASE, _MURMUR_2 = np.uint64(BASE), np.uint64(MURMUR_2)
_0, _32, _33 = np.uint64(0), np.uint64(32), np.uint64(33)


class Shingles(NamedTuple):
    """The n-gram hashes of texts [rows] in reading order, with repeats: row r has hash[offsets[r] : offsets[r + 1]].

    hash: uint32 [total]; offsets: int64 [rows + 1].
    """

    hash: npt.NDArray[np.uint32]
    offsets: Offsets


def shingle_hashes(text: pa.StringArray, ngram: int, unit: Unit = "word") -> Shingles:
    """The n-gram hashes of texts [rows].

    unit "word": n-grams of tokens. unit "character": n-grams of the characters of `normalise(text)`, including spaces.
    A text with fewer than `ngram` units has no shingles and cannot be compared with others; use exact digests for such
    rows.

    Raises:
        TypeError: as `dedup.kernel.buffers` does.
        ValueError: the same, or if `ngram` is below 1 or `unit` is unknown.
    """
    if ngram < 1:
        raise ValueError(f"an n-gram has at least one unit, not {ngram}")
    if unit == "character":
        text = normalise(text)
    elif unit != "word":
        raise ValueError(f"unit must be 'word' or 'character', not {unit!r}")
    data, offsets = buffers(text)
    power = np.uint64(pow(BASE, ngram, 1 << 64))
    hashes = np.empty(max_tokens(offsets), np.uint32)
    if unit == "word":  # else the text is normalised
        shingle_offsets = _word_shingles(data, offsets, *reading_tables("near"), ngram, power, hashes)
    else:
        shingle_offsets = _character_shingles(data, offsets, ngram, power, hashes)
    return Shingles(hashes[: shingle_offsets[-1]], shingle_offsets)


def shingle_hash(shingle: bytes) -> int:
    """The 32-bit hash of one word shingle: normalized tokens joined by single spaces. Reference for the kernels."""
    value = 0
    for token in shingle.split(b" "):
        value = (value * BASE + token_hash(token)) & _MASK
    return _narrow(value)


def character_shingle_hash(shingle: bytes) -> int:
    """The 32-bit hash of one character shingle: UTF-8 of its characters, including spaces."""
    value = 0
    for character in shingle.decode():
        value = (value * BASE + ord(character) * MURMUR_2) & _MASK
    return _narrow(value)


def _narrow(value: int) -> int:
    """The 32-bit hash of an n-gram from the 64-bit value of its polynomial."""
    return (((value ^ value >> 33) * MURMUR_2) & _MASK) >> 32


@borrowing_kernel
def _narrowed(value):  # type: ignore[no-untyped-def]
    """`_narrow` in a kernel."""
    return np.uint32((value ^ value >> _33) * _MURMUR_2 >> _32)


@borrowing_kernel
def hash_ngrams(values, count, ngram, power, out, at):  # type: ignore[no-untyped-def]
    """Hash every n-gram of values[:count] into `out` from index `at`; the index after the last. power: BASE**ngram."""
    if count < ngram:
        return at
    total = _0
    for i in range(ngram):
        total = total * _BASE + values[i]
    out[at] = _narrowed(total)
    at += 1
    # Each next n-gram: append one value to the polynomial and subtract the one that leaves it.
    for i in range(ngram, count):
        total = total * _BASE + values[i] - values[i - ngram] * power
        out[at] = _narrowed(total)
        at += 1
    return at


@kernel
def _word_shingles(data, offsets, characters, commands, markup, ngram, power, out):  # type: ignore[no-untyped-def]
    """Hash the n-grams of tokens of every row into `out`; their offsets."""
    shingle_offsets = np.empty(len(offsets), np.int64)
    longest = longest_row(offsets)
    most = longest * 3 // 2 + 4  # as `max_tokens`
    tokens, starts, ends = np.empty(most, np.uint64), np.empty(most, np.int32), np.empty(most, np.int32)
    ascii_words, memory = np.empty(longest + WORD_BYTES, np.uint8), np.empty(4, np.int64)
    spaced = np.empty(longest, np.uint8)
    at = 0
    for row in range(len(offsets) - 1):
        shingle_offsets[row] = at
        text = data[offsets[row] : offsets[row + 1]]
        if with_blanks(text, spaced):
            text = spaced[: len(text)]
        count = scan_tokens(text, characters, commands, markup, ascii_words, memory, tokens, starts, ends, None, 0)
        at = hash_ngrams(tokens, count, ngram, power, out, at)
    shingle_offsets[len(offsets) - 1] = at
    return shingle_offsets


@kernel
def _character_shingles(data, offsets, ngram, power, out):  # type: ignore[no-untyped-def]
    """Hash the n-grams of characters of every row of normalized text into `out`; their offsets."""
    shingle_offsets = np.empty(len(offsets), np.int64)
    characters = np.empty(longest_row(offsets), np.uint64)
    at = 0
    for row in range(len(offsets) - 1):
        shingle_offsets[row] = at
        i, count = offsets[row], 0
        while i < offsets[row + 1]:
            code, width = decode(data, i)
            characters[count] = np.uint64(code) * _MURMUR_2
            count += 1
            i += width
        at = hash_ngrams(characters, count, ngram, power, out, at)
    shingle_offsets[len(offsets) - 1] = at
    return shingle_offsets
