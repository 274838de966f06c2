"""Degenerate loops: a model that says the same thing again and again.

Two readings. A run of words that repeats at once, anywhere in the text: a unit of up to `MAX_UNIT` words, again and
again without anything between. And a tail that repeats, whatever it is made of (digits, CJK, characters without
spaces): the last `TAIL` bytes, whose smallest period is found by the failure function of Knuth, Morris and Pratt.
Both must repeat often and be long, since tables, code and verse repeat a little.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from dedup.kernel import buffers, kernel
from filters.stage import Filter
from filters.text import On, is_space, text
from filters.verdict import Check, first_failure

MAX_UNIT = 48
TAIL = 2048


class Loop(Filter):
    """Drop texts in which a unit stands `min_repeats` times in a row and over `min_bytes` bytes."""

    kind: Literal["loop"] = "loop"
    on: On = "response"
    min_repeats: int = Field(default=6, ge=2)
    min_bytes: int = 120

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `repeated_words`, `repeated_tail`. The value is how often the unit stands there."""
        words, tail = measure(text(records, self.on), self.min_repeats, self.min_bytes)
        return first_failure(
            [
                Check("repeated_words", words >= self.min_repeats, words, self.min_repeats),
                Check("repeated_tail", tail >= self.min_repeats, tail, self.min_repeats),
            ]
        )


def measure(texts: pa.StringArray, min_repeats: int, min_bytes: int) -> npt.NDArray[np.float64]:
    """How often a unit stands in a row, float64 [2, rows]: of words, anywhere; of bytes, at the end. 1 where it is less
    than `min_repeats` times or under `min_bytes` bytes."""
    data, offsets = buffers(texts)
    return np.ascontiguousarray(_measure(data, offsets, min_repeats, min_bytes).T)


@kernel
def _hash_words(data, begin, end, words, ends):  # type: ignore[no-untyped-def]
    """Hash the words of data[begin:end] into `words`, where they end into `ends`; how many there are."""
    count, at = 0, begin
    while at < end:
        while at < end and is_space(data[at]):
            at += 1
        if at == end:
            break
        state = np.uint64(0xCBF29CE484222325)
        while at < end and not is_space(data[at]):
            state = (state ^ np.uint64(data[at])) * np.uint64(0x100000001B3)
            at += 1
        words[count], ends[count] = state, at
        count += 1
    return count


@kernel
def _longest_run(words, count, unit, least):  # type: ignore[no-untyped-def]
    """The longest stretch of at least `least` words in which each equals the one `unit` before: (its words, its last).

    Such a stretch covers one of every `least` places, so only those are looked at until one matches.
    """
    best, last, at = 0, 0, unit + least - 1
    while at < count:
        if words[at] != words[at - unit]:
            at += least
            continue
        first, stop = at, at
        while first > unit and words[first - 1] == words[first - 1 - unit]:
            first -= 1
        while stop + 1 < count and words[stop + 1] == words[stop + 1 - unit]:
            stop += 1
        if stop - first + 1 > best:
            best, last = stop - first + 1, stop
        at = stop + least
    return best, last


@kernel
def _repeats_words(words, ends, count, min_repeats, min_bytes):  # type: ignore[no-untyped-def]
    most = 1.0
    for unit in range(1, min(MAX_UNIT, count // min_repeats) + 1):
        run, last = _longest_run(words, count, unit, max(1, (min_repeats - 1) * unit))
        first = last - run - unit + 1
        if run > 0 and ends[last] - (ends[first - 1] if first > 0 else ends[first] - 1) >= min_bytes:
            most = max(most, (run + unit) / unit)
    return most


@kernel
def _may_repeat(data, begin, end, longest):  # type: ignore[no-untyped-def]
    """Whether the last eight bytes stand there once more, at most `longest` bytes before."""
    for unit in range(1, min(longest, end - begin - 8) + 1):
        same = 0
        while same < 8 and data[end - 1 - same] == data[end - 1 - same - unit]:
            same += 1
        if same == 8:
            return True
    return False


@kernel
def _repeats_tail(data, begin, end, failure, min_repeats, min_bytes):  # type: ignore[no-untyped-def]
    length = min(TAIL, end - begin)
    most, match = 1.0, 0
    if not _may_repeat(data, begin, end, length // min_repeats):
        return most
    failure[0] = 0
    for i in range(1, length):
        byte = data[end - 1 - i]
        while match > 0 and data[end - 1 - match] != byte:
            match = failure[match - 1]
        if data[end - 1 - match] == byte:
            match += 1
        failure[i] = match
        if i + 1 >= min_bytes:
            most = max(most, (i + 1) / (i + 1 - match))
    return most


@kernel
def _measure(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], min_repeats: int, min_bytes: int
) -> npt.NDArray[np.float64]:
    rows = len(offsets) - 1
    result = np.ones((rows, 2), np.float64)
    longest = 0
    for row in range(rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    words, ends = np.empty(longest // 2 + 2, np.uint64), np.empty(longest // 2 + 2, np.int64)
    failure = np.empty(TAIL, np.int64)
    for row in range(rows):
        begin, end = offsets[row], offsets[row + 1]
        if end - begin < min_bytes:
            continue
        count = _hash_words(data, begin, end, words, ends)
        result[row, 0] = _repeats_words(words, ends, count, min_repeats, min_bytes)
        while end > begin and is_space(data[end - 1]):
            end -= 1
        result[row, 1] = _repeats_tail(data, begin, end, failure, min_repeats, min_bytes)
    return result
