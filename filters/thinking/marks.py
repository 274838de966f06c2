"""Marks: the tags and code fences of a text, in its order. Tags in inline code are no marks."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from dedup.growing import doubled
from dedup.hashing import FNV_BASIS
from dedup.kernel import kernel
from filters.text import is_letter, is_space
from filters.thinking.families import CHANNEL, MESSAGE, TAG_KEYS, TAG_VALUES, look_up
from filters.thinking.mentions import BARE, fold_step, mention_flags

# Columns of marks, int64 [n, 5]: first byte, end, kind, family (of a fence: its byte), flags (`mentions`).
MARK_START, MARK_END, MARK_KIND, MARK_FAMILY, MARK_FLAGS = range(5)
OPEN, CLOSE, FENCE = 0, 1, 2
"""Kinds of marks."""

# Bounds on how far one mark is read. They keep the time linear in the size of hostile text.
MAX_ATTRIBUTE_BYTES = 200
MAX_TAG_BYTES = 32  # without attributes
MAX_CODE_BYTES = 1000  # of inline code

_LESS, _BRACKET, _BAR, _TRIANGLE = 60, 91, 124, 0xE2  # the bytes that a tag can begin with: < [ | and ◁ (E2 97 81)
_GREATER, _BACKTICK, _TILDE, _EQUALS = 62, 96, 126, 61
_LINE_FEED = 10
_NOT_CODE = -1_000_000  # so low that no later backtick on the line is counted up to a run
_BEGINS = np.isin(np.arange(256), [_LESS, _BRACKET, _BAR, _BACKTICK, _TILDE, _TRIANGLE])

_I64 = npt.NDArray[np.int64]


def find_marks(data: npt.NDArray[np.uint8], offsets: _I64) -> tuple[_I64, _I64]:
    """The marks of texts: int64 [n, 5] (columns MARK_*), and where each text's marks begin, int64 [rows + 1].

    data: uint8, the texts' bytes; offsets: int64 [rows + 1].
    """
    return cast(tuple[_I64, _I64], _find_marks(data, offsets))


@kernel
def _spells(data, at, end, wanted):  # type: ignore[no-untyped-def]
    """Whether data[at:end] begins with the bytes `wanted`."""
    matched = 0
    while matched < len(wanted) and at + matched < end and data[at + matched] == wanted[matched]:
        matched += 1
    return matched == len(wanted)


@kernel
def _channel(data, at, end, state):  # type: ignore[no-untyped-def]
    """The harmony tag whose `<|channel|>` ends before `at`, with hash `state`: (its value, where it ends).

    The channel's name belongs to the tag, and so does what follows up to its message, within the line: `<|channel|>
    commentary to=f <|message|>`.
    """
    while at < end and is_letter(data[at]):
        state = fold_step(state, data[at])
        at += 1
    value = look_up(TAG_KEYS, TAG_VALUES, state)
    for i in range(at, min(end, at + MAX_ATTRIBUTE_BYTES)):
        if data[i] == _LINE_FEED:
            break
        if _spells(data, i, end, MESSAGE):
            return value, i + len(MESSAGE)
    return value, at


@kernel
def _tag(data, at, end):  # type: ignore[no-untyped-def]
    """The tag that begins at `at`: (its value in the table of tags, or -1; where it ends)."""
    opener = data[at]
    closer = _GREATER if opener == _LESS else 93 if opener == _BRACKET else _BAR if opener == _BAR else _TRIANGLE
    state, i = fold_step(FNV_BASIS, opener), at + 1
    if opener == _TRIANGLE:  # ◁ is E2 97 81; ▷, which ends the tag, is E2 96 B7
        if i + 1 >= end or data[i] != 0x97 or data[i + 1] != 0x81:
            return -1, at
        state, i = fold_step(fold_step(state, data[i]), data[i + 1]), i + 2
    # The stem: up to the closing bracket or white space.
    stop = min(end, at + MAX_TAG_BYTES)
    while i < stop and data[i] != closer and not is_space(data[i]):
        state = fold_step(state, data[i])
        i += 1
    if i >= stop:
        return -1, at
    if opener == _TRIANGLE:
        value = look_up(TAG_KEYS, TAG_VALUES, state)
        ends = i + 2 < end and data[i + 1] == 0x96 and data[i + 2] == 0xB7
        return (value, i + 3) if value >= 0 and ends else (-1, at)
    if opener == _LESS and _spells(data, at, end, CHANNEL):
        return _channel(data, i + 1, end, fold_step(state, data[i]))
    value = look_up(TAG_KEYS, TAG_VALUES, state)
    if value < 0:
        return -1, at
    if data[i] == closer:
        return value, i + 1
    if opener != _LESS:
        return -1, at
    # White space after the stem of `<...>`: the end of the tag, or attributes, which only an opener may have.
    while i < end and (data[i] == 32 or data[i] == 9):
        i += 1
    if i < end and data[i] == _GREATER:
        return value, i + 1
    if i >= end or not is_letter(data[i]) or value % 2 == CLOSE:
        return -1, at
    equals = False
    for j in range(i, min(end, i + MAX_ATTRIBUTE_BYTES)):
        byte = data[j]
        if byte == _EQUALS:
            equals = True
        elif byte in (_LINE_FEED, _LESS):
            return -1, at
        elif byte == _GREATER:
            return (value, j + 1) if equals else (-1, at)
    return -1, at


@kernel
def _next_begin(data, at, end):  # type: ignore[no-untyped-def]
    """The first byte from `at` on with which a mark may begin. (Inside a larger function this loop is ten times
    slower.)"""
    while at < end and not _BEGINS[data[at]]:
        at += 1
    return at


@kernel
def _run_end(data, at, end):  # type: ignore[no-untyped-def]
    """Where the run of equal bytes that begins at `at` ends."""
    stop = at
    while stop < end and data[stop] == data[at]:
        stop += 1
    return stop


@kernel
def _is_fence(data, begin, at, stop):  # type: ignore[no-untyped-def]
    """Whether the run data[at:stop] of backticks or tildes is a code fence: three or more, first on their line."""
    left = at - 1
    while left >= begin and data[left] == 32:
        left -= 1
    return stop - at >= 3 and (left < begin or data[left] == _LINE_FEED)


@kernel
def _code_end(data, at, end, run):  # type: ignore[no-untyped-def]
    """Where inline code that begins with `run` backticks before `at` ends; `at` where it does not.

    It ends with exactly as many backticks on the same line.
    """
    i, ticks = at, 0
    while i < min(end, at + MAX_CODE_BYTES) and data[i] != _LINE_FEED and ticks != run:
        if data[i] == _BACKTICK:
            ticks += 1
        elif ticks > 0:
            ticks = 0
        i += 1
        if ticks == run and i < end and data[i] == _BACKTICK:
            ticks = _NOT_CODE  # a longer run of backticks: this is not read as inline code
    return i if ticks == run else at


# A function of its own: an assignment of a tuple to a part of an array takes a second to compile wherever it stands.
@kernel
def _put(marks, n, start, end, kind, family, flags):  # type: ignore[no-untyped-def]
    marks[n, MARK_START], marks[n, MARK_END], marks[n, MARK_KIND] = start, end, kind
    marks[n, MARK_FAMILY], marks[n, MARK_FLAGS] = family, flags


@kernel
def _find_marks(data, offsets):  # type: ignore[no-untyped-def]
    rows = len(offsets) - 1
    first = np.zeros(rows + 1, np.int64)
    marks = np.empty((1024, 5), np.int64)
    count = 0
    for row in range(rows):
        begin, end = offsets[row], offsets[row + 1]
        at = begin
        while True:
            at = _next_begin(data, at, end)
            if at == end:
                break
            byte = data[at]
            if count == len(marks):
                marks = doubled(marks)
            if byte in (_BACKTICK, _TILDE):
                stop = _run_end(data, at, end)
                if _is_fence(data, begin, at, stop):
                    # The rest of the line is its info string ("python"). Only a fence without one can close another.
                    bare = True
                    line = stop
                    while line < end and data[line] != _LINE_FEED:
                        bare = bare and is_space(data[line])
                        line += 1
                    _put(marks, count, at, line, FENCE, np.int64(byte), BARE if bare else 0)
                    count += 1
                    at = line
                    continue
                at = _code_end(data, stop, end, stop - at) if byte == _BACKTICK else stop
                continue
            value, stop = _tag(data, at, end)
            if value < 0:
                at += 1
                continue
            _put(marks, count, at, stop, value % 2, value // 2, mention_flags(data, begin, at, stop, end))
            count += 1
            at = stop
        first[row + 1] = count
    return marks[:count], first
