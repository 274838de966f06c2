"""UTF-8 inside kernels: code points from bytes and back."""

from __future__ import annotations

import numpy as np

from dedup.kernel import borrowing_kernel

_LOW_SIX, _CONTINUATION = np.uint64(0x3F), np.uint64(0x80)
_2_BYTES, _3_BYTES, _4_BYTES = np.uint64(0xC0), np.uint64(0xE0), np.uint64(0xF0)
_6, _8, _12, _16, _18, _24 = (np.uint64(bits) for bits in (6, 8, 12, 16, 18, 24))


@borrowing_kernel
def decode(data, at):  # type: ignore[no-untyped-def]
    """The code point that starts at `at` (int32) and its width in bytes.

    data: uint8, valid UTF-8, as every Arrow string column holds. `at` must be the first byte of a code point.
    """
    first = np.int32(data[at])
    if first < 0x80:
        return first, 1
    if first < 0xE0:
        return _two_bytes(first, data, at), 2
    if first < 0xF0:
        return _three_bytes(first, data, at), 3
    return _four_bytes(first, data, at), 4


@borrowing_kernel
def decode_checked(data, at, end):  # type: ignore[no-untyped-def]
    """`decode` for bytes that may not be UTF-8, as in binary columns; (-1, 1) where no sequence starts at `at`.

    No byte at or after index `end` is read. Overlong forms of three and four bytes and surrogates are accepted.
    """
    first = np.int32(data[at])
    if first < 0x80:
        return first, 1
    # A lead byte below C2 is a continuation byte or starts an overlong form; from F5 on the code point is too large.
    if first >= 0xC2 and first < 0xE0 and at + 1 < end and _continues(data, at + 1):
        return _two_bytes(first, data, at), 2
    if first >= 0xE0 and first < 0xF0 and at + 2 < end and _continues(data, at + 1) and _continues(data, at + 2):
        return _three_bytes(first, data, at), 3
    if (
        first >= 0xF0 and first < 0xF5 and at + 3 < end
        and _continues(data, at + 1) and _continues(data, at + 2) and _continues(data, at + 3)
    ):  # fmt: skip
        return _four_bytes(first, data, at), 4
    return np.int32(-1), 1


@borrowing_kernel
def encode(code):  # type: ignore[no-untyped-def]
    """The UTF-8 bytes of a code point as a little-endian uint64, and their number (1 to 4)."""
    c = np.uint64(code)
    last = c & _LOW_SIX | _CONTINUATION
    if code < 0x80:
        return c, 1
    if code < 0x800:
        return (c >> _6 | _2_BYTES) | last << _8, 2
    middle = c >> _6 & _LOW_SIX | _CONTINUATION
    if code < 0x10000:
        return (c >> _12 | _3_BYTES) | middle << _8 | last << _16, 3
    upper = c >> _12 & _LOW_SIX | _CONTINUATION
    return (c >> _18 | _4_BYTES) | upper << _8 | middle << _16 | last << _24, 4


@borrowing_kernel
def _continues(data, at):  # type: ignore[no-untyped-def]
    """Whether the byte is a continuation byte."""
    return (data[at] & 0xC0) == 0x80


@borrowing_kernel
def _payload(data, at):  # type: ignore[no-untyped-def]
    """The six bits that a continuation byte adds to the code point."""
    return np.int32(data[at]) & 0x3F


@borrowing_kernel
def _two_bytes(first, data, at):  # type: ignore[no-untyped-def]
    return (first & 0x1F) << 6 | _payload(data, at + 1)


@borrowing_kernel
def _three_bytes(first, data, at):  # type: ignore[no-untyped-def]
    return (first & 0x0F) << 12 | _payload(data, at + 1) << 6 | _payload(data, at + 2)


@borrowing_kernel
def _four_bytes(first, data, at):  # type: ignore[no-untyped-def]
    low = _payload(data, at + 1) << 12 | _payload(data, at + 2) << 6 | _payload(data, at + 3)
    return (first & 0x07) << 18 | low
