"""Exact duplicates: 128-bit digests of text, and which rows have the digest of another.

The exact reading of a text (`exact_text`) is the text in Unicode's composed form (NFC), with line feeds as line ends
and without white space around it. Nothing else is equated: case, marks, brackets and inner spaces count.

The digest of a row is MurmurHash3 x64 128 (Appleby, public domain) of its columns one after another. The first column
starts from seed 0, each further column from the two halves of the previous result. A column ends with its length, so
`("ab", "c")` and `("a", "bc")` have different digests, and the digest of one column is the published function of its
bytes. Digests of different numbers of columns are not comparable, since leading empty columns have no effect.

The hash is not cryptographic: collisions can be constructed. Accidental ones are excluded by 128 bits: among 594 M rows
the probability of one is 5e-22.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.hashing import fmix64
from dedup.intrinsics import load_uint64
from dedup.kernel import buffers, kernel
from dedup.nfc import may_change
from dedup.utf8 import decode

# The constants and rotations of MurmurHash3 x64 128.
_C1, _C2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
_M1, _M2, _5 = np.uint64(0x52DCE729), np.uint64(0x38495AB5), np.uint64(5)
_RETURNS, _ONES, _HIGH_BITS = (np.uint64(0x0101010101010101 * byte) for byte in (13, 1, 128))
_8, _27, _31, _33 = np.uint64(8), np.uint64(27), np.uint64(31), np.uint64(33)


def exact_text(text: pa.StringArray) -> pa.StringArray:
    """The exact reading of texts [rows]: NFC, `\\n` for `\\r\\n` and `\\r`, no white space around. Idempotent.

    Raises:
        ValueError: if a row is null.
    """
    # Most texts are read as they are: what each part of the reading could change is found first, in a fast pass.
    changing = may_change(text)
    if changing.any():
        mask = pa.array(changing)
        text = pc.replace_with_mask(text, mask, pc.utf8_normalize(text.filter(mask), "NFC"))
    data, offsets = buffers(text)
    rows = _has_line_ends_or_outer_space(data, offsets)
    if not rows.any():
        return text
    plain, ends = _plain_lines(data, offsets, rows, _white_space())
    ends = ends.astype(np.int64 if pa.types.is_large_string(text.type) else np.int32)
    return pa.Array.from_buffers(text.type, len(text), [None, pa.py_buffer(ends), pa.py_buffer(plain)])


@functools.cache
def _white_space() -> npt.NDArray[np.bool_]:
    """Whether a code point is white space, as Arrow trims it: bool [0x3001]. None is above."""
    codes = range(0x3001)
    return np.array(pc.equal(pc.utf8_trim_whitespace(pa.array([chr(code) for code in codes])), ""))


@kernel
def _plain_lines(data, offsets, rows, white):  # type: ignore[no-untyped-def]
    """The texts, those of `rows` bool [rows] with line feeds as line ends and no white space around: their bytes uint8,
    and the offsets of the rows in them, int64 [rows + 1]."""
    count = len(rows)
    out = np.empty(offsets[count] - offsets[0], np.uint8)
    ends = np.zeros(count + 1, np.int64)
    size = np.int64(0)
    for row in range(count):
        at, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        if not rows[row]:
            out[size : size + end - at] = data[at:end]
            size += end - at
            ends[row + 1] = size
            continue
        while at < end:
            code, width = decode(data, at)
            if code >= len(white) or not white[code]:
                break
            at += width
        while at < end:
            last = end - 1
            while data[last] & 0xC0 == 0x80:
                last -= 1
            code, _ = decode(data, last)
            if code >= len(white) or not white[code]:
                break
            end = last
        while at < end:
            byte = data[at]
            if byte == 13:
                byte = np.uint8(10)
                at += at + 1 < end and data[at + 1] == 10
            out[size] = byte
            size += 1
            at += 1
        ends[row + 1] = size
    return out[:size], ends


@kernel
def _has_line_ends_or_outer_space(data, offsets):  # type: ignore[no-untyped-def]
    """Whether each row has a carriage return, or a first or last byte that may be white space: bool [rows].

    Bytes from 128 on are parts of characters of which some are white space.
    """
    found = np.zeros(len(offsets) - 1, np.bool_)
    for row in range(len(found)):
        at, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        if at < end:
            found[row] = data[at] <= 32 or data[at] >= 127 or data[end - 1] <= 32 or data[end - 1] >= 127
        while not found[row] and at + 8 <= end:
            word = load_uint64(data, at) ^ _RETURNS
            # A byte of zero borrows from its high bit. A byte before it may do so too, which is no harm.
            found[row] = (word - _ONES) & ~word & _HIGH_BITS != np.uint64(0)
            at += 8
        while not found[row] and at < end:
            found[row] = data[at] == 13
            at += 1
    return found


def digest128(*columns: pa.StringArray) -> pa.FixedSizeBinaryArray:
    """The 128-bit digest of each row of one or more text or binary columns [rows]: fixed_size_binary(16) [rows].

    Raises:
        ValueError: if there is no column, if the columns differ in length, or if a row is null.
    """
    if not columns:
        raise ValueError("a digest needs at least one column")
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"columns must have one length, not {[len(column) for column in columns]}")
    state = np.zeros((len(columns[0]), 2), np.uint64)
    for column in columns:
        data, offsets = buffers(column)
        _murmur(data, offsets, state)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(state), [None, pa.py_buffer(state.astype("<u8"))])


def leading(digests: pa.Array) -> npt.NDArray[np.int64]:
    """The first two bytes of each digest, as a number: int64 [rows]. Rows with the lowest are a sample that depends
    neither on the order of rows nor on shards."""
    return np.frombuffer(digests.buffers()[1] or b"", ">u2")[8 * digests.offset :: 8][: len(digests)].astype(np.int64)


def halves(digests: pa.FixedSizeBinaryArray) -> npt.NDArray[np.uint64]:
    """The digests [rows] as two 64-bit numbers each: uint64 [rows, 2]."""
    view = np.frombuffer(digests.buffers()[1], np.uint8)[digests.offset * 16 : (digests.offset + len(digests)) * 16]
    return view.view("<u8").reshape(-1, 2)


def find_duplicates(
    digests: pa.FixedSizeBinaryArray | npt.NDArray[np.uint64], rank: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The kept row that each row duplicates, or -1 for a row that is kept: int64 [rows].

    digests: fixed_size_binary(16) [rows], or their `halves`. rank: int64 [rows], distinct; of rows with equal digests
    the one with the smallest rank is kept.
    """
    parts = digests if isinstance(digests, np.ndarray) else halves(digests)
    order = np.lexsort((rank, parts[:, 1], parts[:, 0]))
    grouped = parts[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (grouped[1:] != grouped[:-1]).any(axis=1)
    kept = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))] if len(order) else order
    duplicate_of = np.full(len(order), -1, np.int64)
    duplicate_of[order] = np.where(first, -1, kept)
    return duplicate_of


@kernel
def _rotate(x, bits):  # type: ignore[no-untyped-def]
    return x << bits | x >> (np.uint64(64) - bits)


@kernel
def _partial_word(data, at, count):  # type: ignore[no-untyped-def]
    """Up to eight bytes from `at` as a little-endian number. Reads no byte after them."""
    value = np.uint64(0)
    for i in range(count):
        value |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return value


@kernel
def _murmur(data, offsets, state):  # type: ignore[no-untyped-def]
    """MurmurHash3 x64 128 of each row, starting from the two halves in `state` uint64 [rows, 2] and replacing them."""
    for row in range(len(offsets) - 1):
        at, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        size = np.uint64(end - at)
        a, b = state[row, 0], state[row, 1]
        # The body: 16 bytes at a time.
        while at + 16 <= end:
            a ^= _rotate(load_uint64(data, at) * _C1, _31) * _C2
            a = (_rotate(a, _27) + b) * _5 + _M1
            b ^= _rotate(load_uint64(data, at + 8) * _C2, _33) * _C1
            b = (_rotate(b, _31) + a) * _5 + _M2
            at += 16
        # The tail: up to 15 bytes.
        if at + 8 < end:
            b ^= _rotate(_partial_word(data, at + 8, end - at - 8) * _C2, _33) * _C1
        if at < end:
            a ^= _rotate(_partial_word(data, at, min(8, end - at)) * _C1, _31) * _C2
        # The finalization.
        a ^= size
        b ^= size
        a += b
        b += a
        a, b = fmix64(a), fmix64(b)
        a += b
        b += a
        state[row, 0], state[row, 1] = a, b
