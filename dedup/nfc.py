"""Which texts could Unicode's composed form (NFC) change? Nearly none, so the others need not be normalized."""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.intrinsics import load_uint64
from dedup.kernel import buffers, kernel
from dedup.utf8 import decode

TABLE_SIZE = 0x34000
"""Code points below it are looked up. A text with one above it counts as one that NFC could change."""

_HIGH_BITS, _0 = np.uint64(0x8080808080808080), np.uint64(0)


def may_change(texts: pa.Array) -> npt.NDArray[np.bool_]:
    """Whether NFC of any version of Unicode could change each text: bool [rows]. texts: string, valid UTF-8, no null.

    Raises: ValueError: if a row is null.
    """
    changing: npt.NDArray[np.bool_] = _may_change(*buffers(texts), _table())
    return changing


@functools.cache
def _table() -> npt.NDArray[np.bool_]:
    """Whether NFC could change a text with this code point: bool [TABLE_SIZE].

    That is: it has a canonical decomposition, is a mark, or combines with the character before it. Characters that
    Python does not know yet may be any of these in a later Unicode.
    """
    table = np.zeros(TABLE_SIZE, np.bool_)
    for code in range(0x80, TABLE_SIZE):
        character = chr(code)
        if unicodedata.category(character) in ("Mn", "Mc", "Me", "Cn"):
            table[code] = True
        elif (parts := unicodedata.decomposition(character)) and parts[0] != "<":
            # Composed characters stay as they are, unless they are singletons or excluded from composition.
            table[code] = unicodedata.normalize("NFC", character) != character
            table[int(parts.split(" ")[-1], 16)] = True
    table[0x1160:0x1200] = True  # vowels and final consonants of Hangul
    return table


@kernel
def _may_change(data, offsets, table):  # type: ignore[no-untyped-def]
    """Whether each row has a code point of `table`, or one above it: bool [rows]."""
    changing = np.zeros(len(offsets) - 1, np.bool_)
    for row in range(len(changing)):
        at, end = offsets[row], offsets[row + 1]
        while at < end:
            if data[at] < 0x80:
                if at + 8 <= end and load_uint64(data, at) & _HIGH_BITS == _0:
                    at += 8
                else:
                    at += 1
                continue
            code, width = decode(data, at)
            if code >= len(table) or table[code]:
                changing[row] = True
                break
            at += width
    return changing
