"""Text to tokens: the only tokenizer and text normalization for comparisons.

`dedup.characters` has the rules. A token is hashed from its normalized bytes alone, with the same result on every
machine: eight bytes at a time, by xor, multiplication and xor-shift. `token_hash` is the same function in plain Python.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.characters import IGNORED, NON_ASCII, POINT, SEPARATOR, SINGLE, WORD, look_up_kind, tables
from dedup.hashing import MURMUR_1, MURMUR_2
from dedup.intrinsics import load_uint64, store_uint64, trailing_zeros
from dedup.kernel import buffers, kernel
from dedup.utf8 import decode_checked, encode

Offsets = npt.NDArray[np.int64]

SEED = 0x9E3779B97F4A7C15
"""The hash state at the start of every token."""
WORD_BYTES = 8
"""Bytes that are read and written at a time. Buffers have this much room beyond their last byte."""
SPACE = 32
"""Joins the tokens of normalized text."""

_MASK = 0xFFFFFFFFFFFFFFFF
_SEED, _MURMUR_1, _MURMUR_2 = np.uint64(SEED), np.uint64(MURMUR_1), np.uint64(MURMUR_2)
_EACH_BYTE, _HIGH_BITS, _ALL = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080), np.uint64(_MASK)
_0, _1, _3, _8 = np.uint64(0), np.uint64(1), np.uint64(3), np.uint64(8)
_29, _32, _64 = np.uint64(29), np.uint64(32), np.uint64(64)


class Tokens(NamedTuple):
    """The tokens of texts [rows], row after row: those of row r are [offsets[r] : offsets[r + 1]].

    hash: uint64 [total], of the normalized token. start, end: int32 [total], the range of bytes of the original text
    that the token was read from, relative to the first byte of its row. offsets: int64 [rows + 1].
    """

    hash: npt.NDArray[np.uint64]
    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]
    offsets: Offsets


def tokenize(text: pa.StringArray) -> Tokens:
    """The tokens of texts [rows], with their positions in the original.

    Raises:
        TypeError, ValueError: as `dedup.kernel.buffers` does.
    """
    data, offsets = buffers(text)
    size = max_tokens(offsets)
    hashes, starts, ends = np.empty(size, np.uint64), np.empty(size, np.int32), np.empty(size, np.int32)
    token_offsets = _tokenize(data, offsets, *tables(), hashes, starts, ends)
    total = token_offsets[-1]
    return Tokens(hashes[:total], starts[:total], ends[:total], token_offsets)


def word_hashes(text: pa.StringArray) -> tuple[npt.NDArray[np.uint64], Offsets]:
    """Token hashes uint64 [total] and offsets int64 [rows + 1] of texts [rows]. Raises as `tokenize` does."""
    data, offsets = buffers(text)
    hashes = np.empty(max_tokens(offsets), np.uint64)
    token_offsets = _tokenize(data, offsets, *tables(), hashes, None, None)
    return hashes[: token_offsets[-1]], token_offsets


def normalise(text: pa.StringArray) -> pa.StringArray:
    """The texts [rows] as their normalized tokens, joined by single spaces. Idempotent.

    Raises:
        TypeError: as `dedup.kernel.buffers` does.
        ValueError: the same, or if the result exceeds 2 GiB.
    """
    data, offsets = buffers(text)
    # Folding turns two bytes into three at most, and at most one space follows each byte.
    normalized = np.empty(max_tokens(offsets) * 5 // 2 + WORD_BYTES, np.uint8)
    ends = _normalise(data, offsets, *tables(), normalized)
    if ends[-1] > np.iinfo(np.int32).max:
        raise ValueError("more than 2 GiB of normalized text in one array: normalise it in slices")
    content = pa.py_buffer(normalized[: ends[-1]])
    return pa.StringArray.from_buffers(len(text), pa.py_buffer(ends.astype(np.int32).tobytes()), content)


def token_hash(token: bytes) -> int:
    """The 64-bit hash of one normalized token, which must not contain zero bytes. Reference for the kernels."""
    value = SEED
    for at in range(0, len(token) - len(token) % 8, 8):
        value = ((value ^ int.from_bytes(token[at : at + 8], "little")) * MURMUR_1) & _MASK
        value ^= value >> 32
    value = ((value ^ int.from_bytes(token[len(token) - len(token) % 8 :], "little")) * MURMUR_1) & _MASK
    value = ((value ^ value >> 29) * MURMUR_2) & _MASK
    return value ^ value >> 32


def max_tokens(offsets: Offsets) -> int:
    """The greatest number of tokens in texts with these offsets: one per byte.

    Arrays of this size are cheap, since the operating system assigns memory only to pages that are written.
    """
    return int(offsets[-1] - offsets[0])


@kernel
def longest_row(offsets):  # type: ignore[no-untyped-def]
    """The greatest number of values in a row, 0 if there is no row."""
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    return longest


# An open token is the state (mixed, pending, bits): the hash of its bytes so far in words of eight, the bytes since the
# last full word, and the number of their bits.


@kernel
def _append(mixed, pending, bits, word, count):  # type: ignore[no-untyped-def]
    """The state of an open token after `count` more bytes (1 to 8): the low bytes of `word`, whose others are 0."""
    pending |= word << bits
    total = bits + (count << _3)
    if total >= _64:
        mixed = (mixed ^ pending) * _MURMUR_1
        mixed ^= mixed >> _32
        total -= _64
        pending = word >> (_64 - bits) if total != _0 else _0
    return mixed, pending, total


@kernel
def _finish(mixed, pending):  # type: ignore[no-untyped-def]
    """The hash of a token from its state."""
    h = (mixed ^ pending) * _MURMUR_1
    h = (h ^ h >> _29) * _MURMUR_2
    return h ^ h >> _32


@kernel
def _close(mixed, pending, start, stop, hashes, starts, ends, out, count):  # type: ignore[no-untyped-def]
    """End a token: write its hash (and range) to index `count`, or a space to `out`. Returns the next index."""
    if out is not None:
        out[count] = SPACE
    else:
        hashes[count] = _finish(mixed, pending)
        if starts is not None:
            starts[count] = start
            ends[count] = stop
    return count + 1


@kernel
def _is_digit(byte):  # type: ignore[no-untyped-def]
    return byte >= 48 and byte <= 57


@kernel
def _fold_ascii(row, ascii_words):  # type: ignore[no-untyped-def]
    """Write the ASCII letters (in lower case) and digits of the row, and 0 for every other byte and WORD_BYTES more.

    Only arithmetic on bytes, without branches or lookups, so that the compiler vectorizes the loop.
    """
    for i in range(len(row)):
        byte = row[i]
        lower = np.uint8(byte | np.uint8(32))
        letter = np.uint8(lower - np.uint8(97)) < np.uint8(26)
        digit = np.uint8(byte - np.uint8(48)) < np.uint8(10)
        ascii_words[i] = lower if letter else (byte if digit else np.uint8(0))
    for i in range(len(row), len(row) + WORD_BYTES):
        ascii_words[i] = 0


@kernel
def scan_tokens(row, byte_kinds, kinds, folds, ascii_words, hashes, starts, ends, out, count):  # type: ignore[no-untyped-def]
    """Write the tokens of one row from index `count` on; the index after the last.

    Either the hashes of the tokens (and their ranges if `starts` is not None), or their normalized bytes, each token
    followed by a space, if `out` is not None. Numba compiles a version for each combination and removes the branches
    for arguments that are None.

    row: uint8, the text. byte_kinds, kinds, folds: see `dedup.characters.tables`. ascii_words: uint8, working memory of
    len(row) + WORD_BYTES.
    """
    _fold_ascii(row, ascii_words)
    end = len(row)
    mixed, pending, bits = _SEED, _0, _0
    open_kind = SEPARATOR  # WORD or SINGLE while a token is open
    start = stop = i = np.int64(0)
    while i < end:
        # The fast path: a run of ASCII letters and digits, eight at a time.
        if ascii_words[i] != 0:
            if open_kind == SINGLE:
                count = _close(mixed, pending, start, stop, hashes, starts, ends, out, count)
            if open_kind != WORD:
                mixed, pending, bits = _SEED, _0, _0
                start = i
                open_kind = WORD
            length = _8
            while length == _8:
                word = load_uint64(ascii_words, i)
                # The lowest set bit is the high bit of the first byte that is 0, which ends the run.
                zero_bytes = (word - _EACH_BYTE) & ~word & _HIGH_BITS
                if zero_bytes != _0:
                    length = trailing_zeros(zero_bytes) >> _3
                    if length == _0:
                        break
                    word &= _ALL >> (_64 - (length << _3))
                if out is not None:
                    store_uint64(out, count, word)
                    count += np.int64(length)
                else:
                    mixed, pending, bits = _append(mixed, pending, bits, word, length)
                i += np.int64(length)
            stop = i
            if i < end and row[i] == SPACE:  # follows most words, so it is handled without a lookup
                count = _close(mixed, pending, start, stop, hashes, starts, ends, out, count)
                open_kind = SEPARATOR
                i += 1
            continue
        # Any other character, by its kind.
        byte = row[i]
        kind = int(byte_kinds[byte])
        width = 1
        code = np.int32(byte)
        if kind == NON_ASCII:
            code, width = decode_checked(row, i, end)
            kind = look_up_kind(code, kinds)
        if kind == IGNORED:
            i += width
            continue
        if kind == POINT:
            # Points between two digits belong to the number; others are separators.
            kind = SEPARATOR
            if open_kind == WORD and stop == i and _is_digit(row[i - 1]):
                j = i + 1
                while j < end and byte_kinds[row[j]] == POINT:
                    j += 1
                if j < end and _is_digit(row[j]):
                    while i < j:
                        if out is not None:
                            out[count] = row[i]
                            count += 1
                        else:
                            mixed, pending, bits = _append(mixed, pending, bits, np.uint64(row[i]), _1)
                        i += 1
                    stop = i
                    continue
        # A mark extends the open token, and a word character an open word. Everything else ends it.
        if open_kind != SEPARATOR and (kind in (SEPARATOR, SINGLE) or (kind == WORD and open_kind == SINGLE)):
            count = _close(mixed, pending, start, stop, hashes, starts, ends, out, count)
            open_kind = SEPARATOR
        if kind == SEPARATOR:
            i += width
            continue
        if open_kind == SEPARATOR:
            mixed, pending, bits = _SEED, _0, _0
            start = i
            open_kind = SINGLE if kind == SINGLE else WORD
        if code < len(folds):
            code = folds[code]
        packed, size = encode(code)
        if out is not None:
            store_uint64(out, count, packed)
            count += size
        else:
            mixed, pending, bits = _append(mixed, pending, bits, packed, np.uint64(size))
        i += width
        stop = i
    if open_kind != SEPARATOR:
        count = _close(mixed, pending, start, stop, hashes, starts, ends, out, count)
    return count


@kernel
def _tokenize(data, offsets, byte_kinds, kinds, folds, hashes, starts, ends):  # type: ignore[no-untyped-def]
    """Write the tokens of each row; the offsets of the rows in them."""
    token_offsets = np.empty(len(offsets), np.int64)
    ascii_words = np.empty(longest_row(offsets) + WORD_BYTES, np.uint8)
    count = 0
    for row in range(len(offsets) - 1):
        token_offsets[row] = count
        text = data[offsets[row] : offsets[row + 1]]
        count = scan_tokens(text, byte_kinds, kinds, folds, ascii_words, hashes, starts, ends, None, count)
    token_offsets[len(offsets) - 1] = count
    return token_offsets


@kernel
def _normalise(data, offsets, byte_kinds, kinds, folds, out):  # type: ignore[no-untyped-def]
    """Write the normalized tokens of each row, joined by spaces; the offsets of the rows in `out`."""
    row_offsets = np.empty(len(offsets), np.int64)
    unused, ascii_words = np.empty(0, np.uint64), np.empty(longest_row(offsets) + WORD_BYTES, np.uint8)
    at = 0
    for row in range(len(offsets) - 1):
        row_offsets[row] = at
        text = data[offsets[row] : offsets[row + 1]]
        at = scan_tokens(text, byte_kinds, kinds, folds, ascii_words, unused, None, None, out, at)
        if at > row_offsets[row]:
            at -= 1  # the space after the last token
    row_offsets[len(offsets) - 1] = at
    return row_offsets
