"""Gopher repetition: how much of a document repeats, by the measures and thresholds of Gopher's MassiveText.

Source: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", table A1.

What the paper leaves open is read as follows.

- Words are runs between white space, and every share is of characters other than white space.
- A line, paragraph or n-gram is a duplicate from its second occurrence on, so that a share is how much of the text
  could be deleted. Lines and paragraphs are equal if their words are.
- Characters in several duplicate n-grams count once.
- The top n-gram must occur twice. In a text that repeats nothing, no n-gram is the most frequent one.

The paper's rules are for web pages. For instruction data they are changed in four ways, each measured on gold sources
(docs/log.md):

- Only prose can be a duplicate (`filters.structure`). Formulas, programs, tables, numbers and lines that recur between
  different ones count as characters of the text but equal nothing, and n-grams do not reach across them. So do the
  words with which items in one pattern begin.
- The limits of n-grams are twice the published ones. A solution by cases has the same sentence for each case.
- Texts under `min_words` words of prose are not judged. The published limits presuppose pages of at least 50 words; a
  solution in steps has "the number of" three times in 60 words.
- Songs and poems that the instruction asks for are not judged. Neither is the instruction, by default: four choices
  that share their words repeat a lot.

Words and n-grams are compared by 64-bit hashes.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.hashing import fnv1a
from dedup.kernel import borrowing_kernel, buffers, kernel
from filters.request import VERSE, keep_asked_for
from filters.stage import Count, Filter, Ratio
from filters.structure import CUT, prose_of
from filters.text import On, is_space, starts_character, text
from filters.verdict import Check, first_failure

LIMITS = {
    "duplicate_lines": "max_duplicate_line_ratio",
    "duplicate_paragraphs": "max_duplicate_paragraph_ratio",
    "duplicate_line_characters": "max_duplicate_line_char_ratio",
    "duplicate_paragraph_characters": "max_duplicate_paragraph_char_ratio",
    "top_2_gram": "max_top_2_gram_char_ratio",
    "top_3_gram": "max_top_3_gram_char_ratio",
    "top_4_gram": "max_top_4_gram_char_ratio",
    "duplicate_5_grams": "max_duplicate_5_gram_char_ratio",
    "duplicate_6_grams": "max_duplicate_6_gram_char_ratio",
    "duplicate_7_grams": "max_duplicate_7_gram_char_ratio",
    "duplicate_8_grams": "max_duplicate_8_gram_char_ratio",
    "duplicate_9_grams": "max_duplicate_9_gram_char_ratio",
    "duplicate_10_grams": "max_duplicate_10_gram_char_ratio",
}
"""The measures of table A1, in its order: the reason that each gives, and the parameter that limits it."""
MEASURES = tuple(LIMITS)
"""The reasons, in the order of table A1 and of the columns of `measure`."""

# Columns of the measures. Those of n-grams are _FIRST_NGRAM + n - MIN_NGRAM.
_LINES, _PARAGRAPHS, _LINE_CHARS, _PARAGRAPH_CHARS, _FIRST_NGRAM = range(5)
_WORDS = len(MEASURES)
_MIN_NGRAM, _MAX_TOP_NGRAM, _MAX_NGRAM = 2, 4, 10
"""Lengths of n-grams in words: up to 4 the most frequent one is measured, from 5 on all duplicates."""


class GopherRepetition(Filter):
    """Drop documents of which too large a share repeats. The limits of lines and paragraphs are the published ones.

    min_words: documents with fewer words of prose are not judged.

    max_duplicate_line_ratio, max_duplicate_paragraph_ratio: the largest share of lines or paragraphs that are
    duplicates, 0 to 1.

    max_duplicate_line_char_ratio, max_duplicate_paragraph_char_ratio: the largest share of characters in duplicate
    lines or paragraphs, 0 to 1.

    max_top_2_gram_char_ratio, max_top_3_gram_char_ratio, max_top_4_gram_char_ratio: the largest share of characters in
    occurrences of the most frequent n-gram of words, 0 to 1.

    max_duplicate_5_gram_char_ratio, max_duplicate_6_gram_char_ratio, max_duplicate_7_gram_char_ratio,
    max_duplicate_8_gram_char_ratio, max_duplicate_9_gram_char_ratio, max_duplicate_10_gram_char_ratio: the largest
    share of characters in n-grams of words that occur twice or more, 0 to 1.
    """

    VERSION: ClassVar = 4
    RENAMED_KEYS: ClassVar = LIMITS  # the parameters had the names of the reasons

    kind: Literal["gopher_repetition"] = "gopher_repetition"
    on: On = "response"
    min_words: Count = 150
    max_duplicate_line_ratio: Ratio = 0.30
    max_duplicate_paragraph_ratio: Ratio = 0.30
    max_duplicate_line_char_ratio: Ratio = 0.20
    max_duplicate_paragraph_char_ratio: Ratio = 0.20
    max_top_2_gram_char_ratio: Ratio = 0.40
    max_top_3_gram_char_ratio: Ratio = 0.36
    max_top_4_gram_char_ratio: Ratio = 0.32
    max_duplicate_5_gram_char_ratio: Ratio = 0.30
    max_duplicate_6_gram_char_ratio: Ratio = 0.28
    max_duplicate_7_gram_char_ratio: Ratio = 0.26
    max_duplicate_8_gram_char_ratio: Ratio = 0.24
    max_duplicate_9_gram_char_ratio: Ratio = 0.22
    max_duplicate_10_gram_char_ratio: Ratio = 0.20

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: the names in MEASURES. The value is the share that repeats, 0 to 1."""
        texts = text(records, self.on)
        limits = [float(getattr(self, parameter)) for parameter in LIMITS.values()]
        measures = measure(texts)
        rows = np.flatnonzero(self._failed(measures, limits))
        measures[:, rows] = measure(prose_of(texts.take(pa.array(rows)), words_alone=True))
        failed, ratios = self._failed(measures, limits), measures[:-1]
        failed = keep_asked_for(failed, records, VERSE, self.on)
        return first_failure(
            [
                Check(reason, failed & (ratio > limit), ratio, limit)
                for reason, ratio, limit in zip(MEASURES, ratios, limits, strict=True)
            ]
        )

    def _failed(self, measures: npt.NDArray[np.float64], limits: list[float]) -> npt.NDArray[np.bool_]:
        """Which rows are over a limit: bool [rows]."""
        over = measures[:-1] > np.array(limits)[:, None]
        return np.asarray((measures[-1] >= self.min_words) & over.any(axis=0))


def measure(texts: pa.StringArray) -> npt.NDArray[np.float64]:
    """The shares in MEASURES, 0 to 1, and the number of words: float64 [14, rows].

    A word that begins with the byte CUT equals no other, and is not in the number of words.
    """
    data, offsets = buffers(texts)
    return np.ascontiguousarray(_measure(data, offsets).T)


@borrowing_kernel
def _mix(state: np.uint64, word: np.uint64) -> np.uint64:
    """The hash of a sequence of words after one more word. Order matters: "a the" and "the a" differ."""
    state = (state * np.uint64(0x9E3779B97F4A7C15) ^ word) * np.uint64(0xC2B2AE3D27D4EB4F)
    return state ^ (state >> np.uint64(29))


@borrowing_kernel
def _table_size(entries: int) -> int:
    """Slots of a hash table that is at most half full: a power of two."""
    size = 16
    while size < 2 * entries:
        size *= 2
    return size


@borrowing_kernel
def _insert(keys, stamps, counts, stamp, mask, key):  # type: ignore[no-untyped-def]
    """Count `key` in an open-addressing table, and return its slot.

    Entries with another stamp are free slots, so a table is emptied by using a new stamp.
    """
    slot = np.int64(key >> np.uint64(20)) & mask
    while stamps[slot] == stamp and keys[slot] != key:
        slot = (slot + 1) & mask
    if stamps[slot] != stamp:
        stamps[slot], keys[slot], counts[slot] = stamp, key, 0
    counts[slot] += 1
    return slot


@borrowing_kernel
def _read(  # type: ignore[no-untyped-def]
    data, begin, end, words, before, keys, stamps, counts, line_keys, line_stamps, line_counts, stamp, result
):
    """Hash the words of a text, and measure its duplicate lines and paragraphs by the hashes of their words.

    Writes word hashes to `words`, the characters before each word's end to `before`, and the shares of lines and
    paragraphs to `result`. Returns the numbers of words and characters.
    """
    mask = np.int64(_table_size((end - begin) // 2 + 2) - 1)
    count, characters = 0, 0
    lines, same_lines, same_line_chars, line_start = 0, 0, 0, 0
    paragraphs, same_paragraphs, same_paragraph_chars, paragraph_start = 0, 0, 0, 0
    word, line, paragraph = np.uint64(0), np.uint64(0), np.uint64(0)
    in_word, cuts = False, 0
    for at in range(begin, end + 1):
        byte = data[at] if at < end else np.uint8(10)  # the end of the text counts as a line feed
        if not is_space(byte):
            if byte == CUT:  # the beginning of a word that equals no other
                cuts += 1
                word = _mix(np.uint64(at - begin), np.uint64(end - begin))
            word = fnv1a(word, byte)
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
                    same_line_chars += characters - line_start
                paragraph = _mix(paragraph + np.uint64(1), line)
            # A paragraph ends at a blank line or with the text.
            if (characters == line_start or at == end) and characters > paragraph_start:
                paragraphs += 1
                slot = _insert(keys, stamps, counts, stamp, mask, paragraph)
                if counts[slot] > 1:
                    same_paragraphs += 1
                    same_paragraph_chars += characters - paragraph_start
                paragraph, paragraph_start = np.uint64(0), characters
            line, line_start = np.uint64(0), characters
    if characters > 0:
        result[_LINES] = same_lines / lines
        result[_PARAGRAPHS] = same_paragraphs / paragraphs
        result[_LINE_CHARS] = same_line_chars / characters
        result[_PARAGRAPH_CHARS] = same_paragraph_chars / characters
        result[_WORDS] = count - cuts
    return count, characters


@kernel
def _measure(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    rows = len(offsets) - 1
    result = np.zeros((rows, _WORDS + 1), np.float64)
    # Buffers for the longest text: a word takes at least two bytes, with the white space after it.
    longest = 0
    for row in range(rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    most = longest // 2 + 2
    words = np.empty(most, np.uint64)
    before = np.zeros(most + 1, np.int64)
    grams = np.empty(most, np.uint64)
    places = np.empty(most, np.int64)
    slots = np.empty(most, np.int64)
    again = np.empty(most, np.bool_)
    size = _table_size(most)
    keys, stamps, counts = np.empty(size, np.uint64), np.zeros(size, np.int32), np.empty(size, np.int32)
    line_keys, line_stamps, line_counts = np.empty(size, np.uint64), np.zeros(size, np.int32), np.empty(size, np.int32)
    stamp = 0
    for row in range(rows):
        stamp += 1
        count, characters = _read(
            data, offsets[row], offsets[row + 1], words, before, keys, stamps, counts, line_keys, line_stamps,
            line_counts, stamp, result[row],
        )  # fmt: skip
        if characters == 0:
            continue
        # An n-gram can only repeat where both (n-1)-grams in it do, so each n looks only at the places where the n
        # before found repeats: grams[:live] begin at words places[:live].
        live = count
        for i in range(count):
            places[i], grams[i] = i, words[i]
        for n in range(_MIN_NGRAM, _MAX_NGRAM + 1):
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
            live, top, top_chars, covered, covered_end = 0, 1, 0, 0, 0
            for i in range(candidates):
                place, times = places[i], counts[slots[i]]
                if times < 2:
                    continue
                chars = before[place + n] - before[place]
                if times > top or (times == top and chars > top_chars):
                    top, top_chars = times, chars
                if again[i]:
                    # Places ascend, so only what lies behind the last covered word is new.
                    covered += before[place + n] - before[max(place, covered_end)]
                    covered_end = place + n
                places[live], grams[live] = place, grams[i]
                live += 1
            column = _FIRST_NGRAM + n - _MIN_NGRAM
            if n <= _MAX_TOP_NGRAM:
                result[row, column] = min(1.0, top * top_chars / characters)
            else:
                result[row, column] = covered / characters
    return result
