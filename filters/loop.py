"""Loop: degenerate texts, in which a model says the same thing again and again.

Two measures. Words: a unit of up to MAX_UNIT_WORDS words that follows itself, anywhere in the text. Tail: the last
TAIL_BYTES bytes, whatever they consist of (digits, CJK, characters without spaces), whose smallest period is found by
the failure function of Knuth, Morris and Pratt. In both, the unit must repeat often and the repetition must be long,
since tables, code and verse repeat a little.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from dedup.hashing import FNV_BASIS, fnv1a
from dedup.kernel import buffers, kernel
from filters.stage import Filter
from filters.text import On, is_space, text
from filters.verdict import Check, first_failure

MAX_UNIT_WORDS = 48
"""Words of the longest unit that is looked for, about three sentences. The time grows with it."""
TAIL_BYTES = 2048
"""Bytes at the end of a text in which a repeating tail is looked for. A model that loops does so to the end."""
_PROBE_BYTES = 8
"""Bytes at the end that must occur once more before the tail is searched. They rule out nearly every text."""

_WORDS, _TAIL = range(2)  # columns of the measures


class Loop(Filter):
    """Drop texts in which a unit repeats without anything between.

    min_repeats: how often the unit must follow itself. min_bytes: bytes that the repetition must span.
    """

    kind: Literal["loop"] = "loop"
    on: On = "response"
    min_repeats: int = Field(default=6, ge=2)
    min_bytes: int = 120

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `repeated_words`, `repeated_tail`. The value is how often the unit occurs there."""
        words, tail = measure(text(records, self.on), self.min_repeats, self.min_bytes)
        return first_failure(
            [
                Check("repeated_words", words >= self.min_repeats, words, self.min_repeats),
                Check("repeated_tail", tail >= self.min_repeats, tail, self.min_repeats),
            ]
        )


def measure(texts: pa.StringArray, min_repeats: int, min_bytes: int) -> npt.NDArray[np.float64]:
    """How often a unit follows itself, float64 [2, rows]: of words, anywhere; of bytes, at the end.

    1 where that is less than `min_repeats` times or spans less than `min_bytes` bytes.
    """
    data, offsets = buffers(texts)
    return np.ascontiguousarray(_measure(data, offsets, min_repeats, min_bytes).T)


@kernel
def _hash_words(data, begin, end, words, ends):  # type: ignore[no-untyped-def]
    """Write the hashes of the words of data[begin:end] to `words` and their ends to `ends`. Returns their number."""
    count, at = 0, begin
    while at < end:
        while at < end and is_space(data[at]):
            at += 1
        if at == end:
            break
        state = FNV_BASIS
        while at < end and not is_space(data[at]):
            state = fnv1a(state, data[at])
            at += 1
        words[count], ends[count] = state, at
        count += 1
    return count


@kernel
def _longest_run(words, count, unit, least):  # type: ignore[no-untyped-def]
    """The longest run of words that each equal the word `unit` places before: (its words, its last word's place).

    Runs of fewer than `least` words do not count. A longer one covers one of every `least` places, so only those are
    looked at until one matches, and then the run around it is measured.
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
def _repeated_words(words, ends, count, min_repeats, min_bytes):  # type: ignore[no-untyped-def]
    """How often a unit of words follows itself, for the unit with the most repeats."""
    most = 1.0
    for unit in range(1, min(MAX_UNIT_WORDS, count // min_repeats) + 1):
        run, last = _longest_run(words, count, unit, max(1, (min_repeats - 1) * unit))
        first = last - run - unit + 1  # the run, and the first unit before it
        if run > 0 and ends[last] - (ends[first - 1] if first > 0 else ends[first] - 1) >= min_bytes:
            most = max(most, (run + unit) / unit)
    return most


@kernel
def _may_repeat(data, begin, end, longest):  # type: ignore[no-untyped-def]
    """Whether the last _PROBE_BYTES bytes occur once more, at most `longest` bytes before."""
    for unit in range(1, min(longest, end - begin - _PROBE_BYTES) + 1):
        same = 0
        while same < _PROBE_BYTES and data[end - 1 - same] == data[end - 1 - same - unit]:
            same += 1
        if same == _PROBE_BYTES:
            return True
    return False


@kernel
def _repeated_tail(data, begin, end, failure, min_repeats, min_bytes):  # type: ignore[no-untyped-def]
    """How often a unit of bytes follows itself at the end of data[begin:end], for the unit with the most repeats."""
    length = min(TAIL_BYTES, end - begin)
    most, match = 1.0, 0
    if not _may_repeat(data, begin, end, length // min_repeats):
        return most
    # The failure function of the text read backwards: failure[i] is the length of the longest proper border of its
    # first i + 1 bytes, and i + 1 - failure[i] their smallest period.
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
    failure = np.empty(TAIL_BYTES, np.int64)
    for row in range(rows):
        begin, end = offsets[row], offsets[row + 1]
        if end - begin < min_bytes:
            continue
        count = _hash_words(data, begin, end, words, ends)
        result[row, _WORDS] = _repeated_words(words, ends, count, min_repeats, min_bytes)
        while end > begin and is_space(data[end - 1]):
            end -= 1
        result[row, _TAIL] = _repeated_tail(data, begin, end, failure, min_repeats, min_bytes)
    return result
