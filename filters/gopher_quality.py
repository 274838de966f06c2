"""Gopher quality: does a document look like prose? The rules of Gopher's MassiveText.

Source: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", section A.1.1.

The rules are for web documents: at least 50 words, two stop words, four words in five with a letter. A good short
answer ("42", "the correct answer is answer1") fails them. The record is therefore judged as one document by default,
and the filter is for recipes whose sources are prose. To use its other rules on instruction data, lower `min_words` and
`min_stop_words`.

What the paper leaves open is read as follows. Words are runs between white space. Their length is counted without ASCII
punctuation at their ends. A stop word counts each time it occurs, in any case. A bullet is one of - * • ‣ ◦. Every
character outside ASCII counts as a letter, except general punctuation and symbols (U+2000-U+2BFF).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import NonNegativeFloat

from dedup.kernel import buffers, kernel
from filters.stage import Count, Filter, Ratio
from filters.text import On, is_letter, is_space, letters_end, lower_key, starts_character, text
from filters.verdict import Check, first_failure

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")

_STOP_KEYS = tuple(np.uint64(int.from_bytes(word.encode(), "little")) for word in STOP_WORDS)


class GopherQuality(Filter):
    """Drop documents that do not look like prose. The defaults are the published thresholds.

    min_words, max_words: words of the document. min_mean_word_chars, max_mean_word_chars: mean characters per word.
    max_symbol_word_ratio: hashes per word, and ellipses per word. max_bullet_line_ratio, max_ellipsis_line_ratio:
    shares of lines that begin with a bullet or end with an ellipsis. min_alphabetic_word_ratio: share of words with a
    letter. min_stop_words: occurrences of stop words.
    """

    RENAMED_KEYS: ClassVar = {
        "min_word_length": "min_mean_word_chars",
        "max_word_length": "max_mean_word_chars",
        "max_symbols": "max_symbol_word_ratio",
        "max_bullet_lines": "max_bullet_line_ratio",
        "max_ellipsis_lines": "max_ellipsis_line_ratio",
        "min_alphabetic_words": "min_alphabetic_word_ratio",
    }

    kind: Literal["gopher_quality"] = "gopher_quality"
    on: On = "both"
    min_words: Count = 50
    max_words: Count = 100_000
    min_mean_word_chars: NonNegativeFloat = 3.0
    max_mean_word_chars: NonNegativeFloat = 10.0
    max_symbol_word_ratio: NonNegativeFloat = 0.1
    max_bullet_line_ratio: Ratio = 0.9
    max_ellipsis_line_ratio: Ratio = 0.3
    min_alphabetic_word_ratio: Ratio = 0.8
    min_stop_words: Count = 2

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `few_words`, `many_words`, `short_words`, `long_words`, `hashes`, `ellipses`, `bullet_lines`,
        `ellipsis_lines`, `few_alphabetic_words`, `few_stop_words`.
        """
        words, letters, hashes, ellipses, lines, bullets, trailing, alphabetic, stops = measure(text(records, self.on))
        word_divisor, line_divisor = np.maximum(words, 1), np.maximum(lines, 1)
        length = letters / word_divisor
        hash_ratio, ellipsis_ratio = hashes / word_divisor, ellipses / word_divisor
        bullet_ratio, trailing_ratio = bullets / line_divisor, trailing / line_divisor
        alphabetic_ratio = alphabetic / word_divisor
        shortest, longest = self.min_mean_word_chars, self.max_mean_word_chars
        symbols, bulleted = self.max_symbol_word_ratio, self.max_bullet_line_ratio
        elliptic, lettered = self.max_ellipsis_line_ratio, self.min_alphabetic_word_ratio
        return first_failure(
            [
                Check("few_words", words < self.min_words, words, self.min_words),
                Check("many_words", words > self.max_words, words, self.max_words),
                Check("short_words", (words > 0) & (length < shortest), length, shortest),
                Check("long_words", length > longest, length, longest),
                Check("hashes", hash_ratio > symbols, hash_ratio, symbols),
                Check("ellipses", ellipsis_ratio > symbols, ellipsis_ratio, symbols),
                Check("bullet_lines", bullet_ratio > bulleted, bullet_ratio, bulleted),
                Check("ellipsis_lines", trailing_ratio > elliptic, trailing_ratio, elliptic),
                Check("few_alphabetic_words", alphabetic_ratio < lettered, alphabetic_ratio, lettered),
                Check("few_stop_words", stops < self.min_stop_words, stops, self.min_stop_words),
            ]
        )


def measure(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """Counts, int64 [9, rows]: words, characters in words, hashes, ellipses, lines that are not blank, lines that begin
    with a bullet, lines that end with an ellipsis, words with a letter, stop words."""
    data, offsets = buffers(texts)
    return np.ascontiguousarray(_measure(data, offsets).T)


@kernel
def _is_punctuation(byte: int) -> bool:
    return 33 <= byte <= 47 or 58 <= byte <= 64 or 91 <= byte <= 96 or 123 <= byte <= 126


@kernel
def _is_stop_word(key):  # type: ignore[no-untyped-def]
    known = False
    for stop in _STOP_KEYS:
        known |= key == stop
    return known


@kernel
def _measure(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    rows = len(offsets) - 1
    result = np.zeros((rows, 9), np.int64)
    for row in range(rows):
        begin, end = offsets[row], offsets[row + 1]
        words, letters, hashes, ellipses, lines, bullets = 0, 0, 0, 0, 0, 0
        trailing, alphabetic, stops = 0, 0, 0
        at, fresh, ellipsis_last = begin, True, False  # fresh: no word of the line has been read
        while at <= end:
            # The end of the text counts as a line feed.
            byte = data[at] if at < end else np.uint8(10)
            if is_space(byte):
                if byte == 10:
                    trailing += ellipsis_last
                    fresh, ellipsis_last = True, False
                at += 1
                continue
            # Most runs of bytes that are not white space are letters with at most one mark behind them.
            stop = letters_end(data, at, end)
            following = stop + (stop > at and stop < end and data[stop] != 35 and _is_punctuation(data[stop]))
            if stop > at and (following == end or is_space(data[following])):
                lines += fresh
                fresh, ellipsis_last = False, False
                words += 1
                alphabetic += 1
                letters += stop - at
                if 2 <= stop - at <= 4:
                    stops += _is_stop_word(lower_key(data, at, stop))
                at = following
                continue
            # Another run: letters, hashes and ellipses in it.
            start, has_letter, dots = at, False, 0
            while at < end:
                byte = data[at]
                if is_space(byte):
                    break
                if is_letter(byte):
                    has_letter = True
                    dots = 0
                elif byte == 46:
                    dots += 1
                    if dots == 3:
                        ellipses += 1
                        dots = 0
                else:
                    dots = 0
                    if byte == 35:
                        hashes += 1
                    elif byte >= 0xC3 and not (byte == 0xE2 and data[at + 1] <= 0xAF):  # U+00C0 on, but U+2000-U+2BFF
                        has_letter = True
                    elif byte == 0xE2 and data[at + 1] == 0x80 and data[at + 2] == 0xA6:  # …
                        ellipses += 1
                at += 1
            if fresh:
                # The first run of a line: a bullet is its first character, - * • ‣ or ◦.
                lines += 1
                first = data[start]
                if first == 45 or first == 42:
                    bullets += 1
                elif first == 0xE2 and at - start >= 3:
                    second, third = data[start + 1], data[start + 2]
                    bullets += (second == 0x80 and (third == 0xA2 or third == 0xA3)) or (
                        second == 0x97 and third == 0xA6
                    )
                fresh = False
            ellipsis_last = at - start >= 3 and (
                (data[at - 1] == 46 and data[at - 2] == 46 and data[at - 3] == 46)
                or (data[at - 1] == 0xA6 and data[at - 2] == 0x80 and data[at - 3] == 0xE2)
            )
            # The word without punctuation at its ends; punctuation alone is no word.
            left, right = start, at
            while left < right and _is_punctuation(data[left]):
                left += 1
            while right > left and _is_punctuation(data[right - 1]):
                right -= 1
            if right == left:
                continue
            words += 1
            alphabetic += has_letter
            for i in range(left, right):
                letters += starts_character(data[i])
            # Stop words have two to four letters: compare them as one number, in lower case.
            if 2 <= right - left <= 4:
                stops += _is_stop_word(lower_key(data, left, right))
        result[row] = (words, letters, hashes, ellipses, lines, bullets, trailing, alphabetic, stops)
    return result
