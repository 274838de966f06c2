"""White space and dashes in one spelling, before texts are read: bytes are replaced by as many blanks.

The rules of a reading look at the bytes beside a mark. A no-break space, and the other spaces of Unicode, are blanks to
them; and so is an em dash that is written with two or three hyphens between words (" -- "), which is punctuation as the
character is. An option of a command (`run --fast`) has a blank on one side alone, and stays.
"""

from __future__ import annotations

import numpy as np

from dedup.intrinsics import load_uint64
from dedup.kernel import borrowing_kernel

MAX_HYPHENS = 3
_HYPHEN = np.uint8(45)
_EACH, _HYPHENS, _HIGH_BITS = (np.uint64(0x0101010101010101 * byte) for byte in (1, 45, 128))
_0, _8, _LAST = np.uint64(0), np.uint64(8), np.uint64(1 << 63)


@borrowing_kernel
def _is_letter(byte):  # type: ignore[no-untyped-def]
    return byte >= 128 or 97 <= byte | 32 <= 122


@borrowing_kernel
def _space_width(data, at, end):  # type: ignore[no-untyped-def]
    """The bytes of the space at `at` that is not of ASCII (U+00A0, U+2000 to U+200A, U+202F, U+205F), or 0."""
    first = data[at]
    if first == 0xC2:
        return 2 if at + 1 < end and data[at + 1] == 0xA0 else 0
    if first != 0xE2 or at + 2 >= end:
        return 0
    second, third = data[at + 1], data[at + 2]
    narrow = second == 0x80 and (0x80 <= third <= 0x8A or third == 0xAF)
    return 3 if narrow or (second == 0x81 and third == 0x9F) else 0


@borrowing_kernel
def _dash_width(data, at, end):  # type: ignore[no-untyped-def]
    """The hyphens of the dash between two words that begins at `at`, or 0."""
    stop = at
    while stop < end and data[stop] == 45:
        stop += 1
    size = stop - at
    if size < 2 or size > MAX_HYPHENS or at < 2 or stop + 1 >= end:
        return 0
    left, right = at - 1, stop
    if (data[left] == 32) != (data[right] == 32):
        return 0
    while left > 0 and data[left] == 32:
        left -= 1
    while right + 1 < end and data[right] == 32:
        right += 1
    # Words of two letters or more: `i--`, `x -- y` and rules of hyphens are none. A mark may stand before the dash.
    if data[left] in (44, 46, 33, 63, 41, 34, 39) and left > 0:
        left -= 1
    if left <= 0 or right + 1 >= end:
        return 0
    for i in (left - 1, left, right, right + 1):
        if not _is_letter(data[i]):
            return 0
    return size


@borrowing_kernel
def _may_have_blanks(row):  # type: ignore[no-untyped-def]
    """Whether a row has a character that is not of ASCII, or two hyphens side by side."""
    # Only arithmetic on bytes, without branches or wider numbers, so that the compiler vectorizes the loop.
    found = np.uint8(0)
    for i in range(len(row) - 1):
        no_pair = np.uint8(np.uint8(row[i] ^ _HYPHEN) | np.uint8(row[i + 1] ^ _HYPHEN))  # 0 for two hyphens
        found = np.uint8(found | row[i] | np.uint8(np.uint8(no_pair - np.uint8(1)) & np.uint8(~no_pair)))
    return len(row) > 0 and found | row[len(row) - 1] >= 128


@borrowing_kernel
def with_blanks(row, out):  # type: ignore[no-untyped-def]
    """Write a row, uint8 [n], to out[:n] with such spaces and dashes as blanks. Nothing is written if there are none.

    Returns whether it was written.
    """
    if not _may_have_blanks(row):
        return False
    written, at, end = False, 0, len(row)
    while at < end:
        if at + 8 <= end:
            # Eight bytes at a time: all of ASCII, and no two hyphens side by side.
            word = load_uint64(row, at)
            other = word ^ _HYPHENS
            hyphens = (other - _EACH) & ~other & _HIGH_BITS
            if (word | (hyphens & hyphens >> _8)) & _HIGH_BITS == _0:
                at += 8 if hyphens & _LAST == _0 else 7  # the next word may begin with a second hyphen
                continue
        width = 0
        if row[at] >= 128:
            width = _space_width(row, at, end)
        elif row[at] == 45 and (at == 0 or row[at - 1] != 45):
            width = _dash_width(row, at, end)
        if width > 0 and not written:
            for i in range(end):
                out[i] = row[i]
            written = True
        for i in range(at, at + width):
            out[i] = 32
        at += max(width, 1)
    return written
