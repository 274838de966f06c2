"""Repetition within a document, by the thresholds of Gopher's MassiveText.

Source: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", table A1.

How the measures are read here, since the paper leaves it open:

- Words are runs between white space, and every fraction is of characters that are not white space.
- A line, paragraph or n-gram counts as a duplicate from its second occurrence on, so that a fraction says how much of
  the text could be deleted. Lines and paragraphs are the same when their words are.
- Characters under several duplicated n-grams count once.
- Texts under `min_words` words are not judged. The thresholds are for web pages (Gopher has dropped what is under 50
  words by then); a solution in steps says "the number of" three times in 60 words. Of 7,473 GSM8K solutions, all
  good, 580 would fail if judged from 50 words on, 95 from 100, 11 from 150, which is the default. Nor is the
  instruction judged by default: four choices that share their words repeat a lot.
- The top n-gram must occur twice: in a text that repeats nothing, no n-gram is the most frequent one.

Words and n-grams are compared by 64-bit hashes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.kernel import buffers, kernel
from filters.stage import Filter
from filters.text import On, is_space, starts_character, text
from filters.verdict import Check, first_failure

MEASURES = (
    "duplicate_lines",
    "duplicate_paragraphs",
    "duplicate_line_characters",
    "duplicate_paragraph_characters",
    "top_2_gram",
    "top_3_gram",
    "top_4_gram",
    "duplicate_5_grams",
    "duplicate_6_grams",
    "duplicate_7_grams",
    "duplicate_8_grams",
    "duplicate_9_grams",
    "duplicate_10_grams",
)
"""The rows of table A1, in its order; each is the name of a parameter and of the reason it gives."""


class GopherRepetition(Filter):
    """Drop documents of which too large a fraction repeats. Each fraction is the largest that is kept."""

    kind: Literal["gopher_repetition"] = "gopher_repetition"
    on: On = "response"
    min_words: int = 150
    duplicate_lines: float = 0.30
    duplicate_paragraphs: float = 0.30
    duplicate_line_characters: float = 0.20
    duplicate_paragraph_characters: float = 0.20
    top_2_gram: float = 0.20
    top_3_gram: float = 0.18
    top_4_gram: float = 0.16
    duplicate_5_grams: float = 0.15
    duplicate_6_grams: float = 0.14
    duplicate_7_grams: float = 0.13
    duplicate_8_grams: float = 0.12
    duplicate_9_grams: float = 0.11
    duplicate_10_grams: float = 0.10

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: the names in MEASURES."""
        *fractions, words = measure(text(records, self.on))
        long = words >= self.min_words
        limits = [float(getattr(self, name)) for name in MEASURES]
        return first_failure(
            [
                Check(name, long & (share > limit), share, limit)
                for name, share, limit in zip(MEASURES, fractions, limits, strict=True)
            ]
        )


def measure(texts: pa.StringArray) -> npt.NDArray[np.float64]:
    """The fractions of MEASURES, and the number of words, float64 [14, rows]."""
    data, offsets = buffers(texts)
    return np.ascontiguousarray(_measure(data, offsets).T)


@kernel
def _mix(state: np.uint64, word: np.uint64) -> np.uint64:
    # Not symmetric: "a the" and "the a" are different.
    state = (state * np.uint64(0x9E3779B97F4A7C15) ^ word) * np.uint64(0xC2B2AE3D27D4EB4F)
    return state ^ (state >> np.uint64(29))


@kernel
def _table_size(entries: int) -> int:
    size = 16
    while size < 2 * entries:
        size *= 2
    return size


@kernel
def _insert(keys, stamps, counts, stamp, mask, key):  # type: ignore[no-untyped-def]
    """Count `key` in the open-addressing table whose live entries bear `stamp`; its slot."""
    slot = np.int64(key >> np.uint64(20)) & mask
    while stamps[slot] == stamp and keys[slot] != key:
        slot = (slot + 1) & mask
    if stamps[slot] != stamp:
        stamps[slot], keys[slot], counts[slot] = stamp, key, 0
    counts[slot] += 1
    return slot


@kernel
def _measure(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    rows = len(offsets) - 1
    result = np.zeros((rows, 14), np.float64)
    longest = 0
    for row in range(rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    most = longest // 2 + 2
    words = np.empty(most, np.uint64)
    before = np.zeros(most + 1, np.int64)  # characters before each word
    grams = np.empty(most, np.uint64)
    places = np.empty(most, np.int64)
    slots = np.empty(most, np.int64)
    again = np.empty(most, np.bool_)
    size = _table_size(most)
    keys, stamps, counts = np.empty(size, np.uint64), np.zeros(size, np.int32), np.empty(size, np.int32)
    line_keys, line_stamps, line_counts = np.empty(size, np.uint64), np.zeros(size, np.int32), np.empty(size, np.int32)
    stamp = 0
    for row in range(rows):
        begin, end = offsets[row], offsets[row + 1]
        mask = np.int64(_table_size((end - begin) // 2 + 2) - 1)
        stamp += 1
        # One reading of the bytes: words, and duplicate lines and paragraphs by the hashes of their words.
        count, characters = 0, 0
        lines, same_lines, same_line_characters, line_start = 0, 0, 0, 0
        paragraphs, same_paragraphs, same_paragraph_characters, paragraph_start = 0, 0, 0, 0
        word, line, paragraph = np.uint64(0), np.uint64(0), np.uint64(0)
        in_word = False
        for at in range(begin, end + 1):
            byte = data[at] if at < end else np.uint8(10)
            if not is_space(byte):
                word = (word ^ np.uint64(byte)) * np.uint64(0x100000001B3)
                characters += starts_character(byte)
                in_word = True
                continue
            if in_word:
                words[count] = _mix(np.uint64(1), word)
                line = _mix(line + np.uint64(1), words[count])
                count += 1
                before[count] = characters
                word, in_word = np.uint64(0), False
            if byte == 10:
                if characters > line_start:
                    lines += 1
                    slot = _insert(line_keys, line_stamps, line_counts, stamp, mask, line)
                    if line_counts[slot] > 1:
                        same_lines += 1
                        same_line_characters += characters - line_start
                    paragraph = _mix(paragraph + np.uint64(1), line)
                if (characters == line_start or at == end) and characters > paragraph_start:
                    paragraphs += 1
                    slot = _insert(keys, stamps, counts, stamp, mask, paragraph)
                    if counts[slot] > 1:
                        same_paragraphs += 1
                        same_paragraph_characters += characters - paragraph_start
                    paragraph, paragraph_start = np.uint64(0), characters
                line, line_start = np.uint64(0), characters
        if characters == 0:
            continue
        result[row, 13] = count
        result[row, 0] = same_lines / lines
        result[row, 1] = same_paragraphs / paragraphs
        result[row, 2] = same_line_characters / characters
        result[row, 3] = same_paragraph_characters / characters
        # An n-gram can only repeat where both (n-1)-grams in it do, so each n looks at what is left of the one before.
        live = count
        for i in range(count):
            places[i], grams[i] = i, words[i]
        for n in range(2, 11):
            candidates = 0
            for i in range(live):
                place = places[i]
                if place + n <= count and (n == 2 or (i + 1 < live and places[i + 1] == place + 1)):
                    places[candidates] = place
                    grams[candidates] = _mix(grams[i] + np.uint64(n), words[place + n - 1])
                    candidates += 1
            if candidates < 2:
                break
            stamp += 1
            mask = np.int64(_table_size(candidates) - 1)
            for i in range(candidates):
                slots[i] = _insert(keys, stamps, counts, stamp, mask, grams[i])
                again[i] = counts[slots[i]] > 1
            live, top, top_characters, covered, reach = 0, 1, 0, 0, 0
            for i in range(candidates):
                place, times = places[i], counts[slots[i]]
                if times < 2:
                    continue
                held = before[place + n] - before[place]
                if times > top or (times == top and held > top_characters):
                    top, top_characters = times, held
                if again[i]:
                    covered += before[place + n] - before[max(place, reach)]
                    reach = place + n
                places[live], grams[live] = place, grams[i]
                live += 1
            if n <= 4:
                result[row, n + 2] = min(1.0, top * top_characters / characters)
            else:
                result[row, n + 2] = covered / characters
    return result
