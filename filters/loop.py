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
    min_repeats: int = 6
    min_bytes: int = 120

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `repeated_words`, `repeated_tail`. The value is how often the unit stands there."""
        words, tail = measure(text(records, self.on), self.min_bytes)
        return first_failure(
            [
                Check("repeated_words", words >= self.min_repeats, words, self.min_repeats),
                Check("repeated_tail", tail >= self.min_repeats, tail, self.min_repeats),
            ]
        )


def measure(texts: pa.StringArray, min_bytes: int) -> npt.NDArray[np.float64]:
    """float64 [2, rows]: the most often that a unit of words stands in a row over `min_bytes` bytes, anywhere; and the
    same of a unit of bytes at the end."""
    data, offsets = buffers(texts)
    return np.ascontiguousarray(_measure(data, offsets, min_bytes).T)


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
def _longest_run(words, count, unit):  # type: ignore[no-untyped-def]
    """The longest stretch in which each word equals the one `unit` words before: (its words, where it stops)."""
    best, stop, run = 0, 0, 0
    for i in range(unit, count):
        run = run + 1 if words[i] == words[i - unit] else 0
        if run > best:
            best, stop = run, i
    return best, stop


@kernel
def _repeats_words(words, ends, count, min_bytes):  # type: ignore[no-untyped-def]
    most = 0.0
    # A loop of six needs its unit to fit six times; fewer repeats are never asked about with longer units.
    for unit in range(1, min(MAX_UNIT, count // 2) + 1):
        run, stop = _longest_run(words, count, unit)
        if run < unit:
            continue
        first = stop - run - unit + 1
        start = ends[first - 1] if first > 0 else ends[0] - 1
        if ends[stop] - start >= min_bytes:
            most = max(most, (run + unit) / unit)
    return most


@kernel
def _repeats_tail(data, begin, end, failure, min_bytes):  # type: ignore[no-untyped-def]
    """How often the best unit stands at the end of data[begin:end], by the periods of the reversed tail's prefixes."""
    length = min(TAIL, end - begin)
    most, match = 0.0, 0
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
def _measure(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], min_bytes: int) -> npt.NDArray[np.float64]:
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
        result[row, 0] = max(1.0, _repeats_words(words, ends, count, min_bytes))
        while end > begin and is_space(data[end - 1]):
            end -= 1
        result[row, 1] = max(1.0, _repeats_tail(data, begin, end, failure, min_bytes))
    return result
