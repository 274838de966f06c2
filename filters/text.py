"""The text that a filter judges, and the properties of bytes that kernels share.

A word is a run of bytes between ASCII white space. A character is a Unicode code point.
"""

from __future__ import annotations

import weakref
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.intrinsics import load_uint64, trailing_zeros
from dedup.kernel import borrowing_kernel

On = Literal["instruction", "response", "both"]
"""The text that a filter judges. `both` is the record as one document: instruction, line feed, response."""

TextField = Literal["instruction", "response"]
"""A column of text."""

_NO_BITS, _ONES = np.uint64(0), np.uint64(0x0101010101010101)
_SPACES, _ZEROS, _TENS, _HIGH_BITS = (np.uint64(byte) * _ONES for byte in (0x20, 0x30, 0x0A, 0x80))
_LOW_BITS = ~_HIGH_BITS
_TO_A, _TO_BRACE = (np.uint64(0x80 - byte) * _ONES for byte in (97, 123))
_3, _8, _64 = np.uint64(3), np.uint64(8), np.uint64(64)

# The joined documents of the last table, and that table.
_documents: tuple[weakref.ref[pa.Table], pa.StringArray] | None = None


def text(records: pa.Table, on: On) -> pa.StringArray:
    """The text to judge, one array [rows].

    The documents of the last table are kept while that table lives, because every filter of a recipe needs them.
    """
    global _documents
    if on != "both":
        return as_array(records[on])
    if _documents is None or _documents[0]() is not records:
        joined = pc.binary_join_element_wise(as_array(records["instruction"]), as_array(records["response"]), "\n")
        _documents = (weakref.ref(records, _forget), joined)
    return _documents[1]


def _forget(table: weakref.ref[pa.Table]) -> None:
    global _documents
    if _documents is not None and _documents[0] is table:
        _documents = None


def fields(on: On) -> tuple[TextField, ...]:
    """The columns that `on` selects."""
    return ("instruction", "response") if on == "both" else (on,)


def rows_with(texts: pa.StringArray, literal: str) -> npt.NDArray[np.int64]:
    """The rows [n] that contain `literal`, ascending. A literal is found ten times faster than a pattern, so a filter
    looks for its pattern only in rows with a literal part of it."""
    return np.flatnonzero(pl.Series(texts).str.contains(literal, literal=True).to_numpy())


def strings(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int32]) -> pa.StringArray:
    """A string array [rows] over the memory of `data` and `offsets` [rows + 1]. `data` must be valid UTF-8."""
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))


@borrowing_kernel
def is_space(byte: int) -> bool:
    """ASCII white space: tab, line feed, vertical tab, form feed, carriage return, space."""
    return byte == 32 or (9 <= byte <= 13)


@borrowing_kernel
def is_letter(byte: int) -> bool:
    """ASCII letters."""
    return (97 <= byte <= 122) or (65 <= byte <= 90)


@borrowing_kernel
def starts_character(byte: int) -> bool:
    """Whether the byte is the first of a code point in UTF-8."""
    return (byte & 0xC0) != 0x80


@borrowing_kernel
def next_unusual(data, at, end):  # type: ignore[no-untyped-def]
    """The first byte from `at` on that is neither printable ASCII nor tab, line feed or carriage return, or `end`."""
    while at < end:
        while at + 8 <= end:  # eight bytes at a time: none below 32, none from 127 on
            word = load_uint64(data, at)
            if (word | (word - _SPACES) | (word + _ONES)) & _HIGH_BITS != _NO_BITS:
                break
            at += 8
        stop = min(at + 8, end)
        while at < stop:
            byte = data[at]
            if not (32 <= byte < 127 or byte == 10 or byte == 13 or byte == 9):
                return at
            at += 1
    return end


@borrowing_kernel
def next_digit(data, at, end):  # type: ignore[no-untyped-def]
    """The first ASCII digit from `at` on, or `end`."""
    while at < end:
        while at + 8 <= end:
            # Exclusive or maps the digits to 0 to 9, and nothing else to less than 10.
            word = load_uint64(data, at) ^ _ZEROS
            if (word - _TENS) & ~word & _HIGH_BITS != _NO_BITS:
                break
            at += 8
        stop = min(at + 8, end)
        while at < stop:
            if 48 <= data[at] <= 57:
                return at
            at += 1
    return end


@borrowing_kernel
def letters_end(data, at, end):  # type: ignore[no-untyped-def]
    """Where the run of ASCII letters that begins at `at` ends: `at` itself where no letter is, `end` at most."""
    while at + 8 <= end:
        # Eight bytes at a time, in lower case. The high bit of each is set where it is at least "a" and at most "z".
        word = load_uint64(data, at)
        lower = (word | _SPACES) & _LOW_BITS
        others = ((lower + _TO_A) & ~(lower + _TO_BRACE) & ~word & _HIGH_BITS) ^ _HIGH_BITS
        if others != _NO_BITS:
            return at + np.int64(trailing_zeros(others) >> _3)
        at += 8
    while at < end and is_letter(data[at]):
        at += 1
    return at


@borrowing_kernel
def lower_key(data, at, stop):  # type: ignore[no-untyped-def]
    """The bytes data[at:stop], one to eight, as one number uint64, the first lowest; letters in lower case.

    Lower case is the bit 32, which is set in all bytes.
    """
    size = np.uint64(stop - at)
    if at + 8 <= len(data):
        return (load_uint64(data, at) | _SPACES) & (~_NO_BITS >> (_64 - (size << _3)))
    key, shift = _NO_BITS, _NO_BITS
    for i in range(at, stop):
        key |= np.uint64(data[i] | 32) << shift
        shift += _8
    return key
