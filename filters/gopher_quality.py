"""Document quality, by the rules of Gopher's MassiveText.

Source: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", section A.1.1.

The rules are for web documents: at least 50 words, two stop words, four words in five with a letter. A short answer
("42", "the correct answer is answer1") fails them and is none the worse for it, which is why the record is judged as
one document by default and why this filter is for recipes whose sources are prose. Lower `min_words` and
`min_stop_words` to use the others on instruction data.

How the measures are read here: words are runs between white space, their length is counted without ASCII punctuation
at their ends; a stop word counts each time it occurs, in any case; a bullet is one of - * • ‣ ◦; every character
outside ASCII but general punctuation and symbols (U+2000-U+2BFF) passes for a letter.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.kernel import buffers, kernel
from filters.stage import Filter
from filters.text import On, is_letter, is_space, starts_character, text
from filters.verdict import Check, first_failure

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")

_STOP_KEYS = tuple(int.from_bytes(word.encode(), "little") for word in STOP_WORDS)


class GopherQuality(Filter):
    """Drop documents that do not look like prose; the defaults are the published ones.

    min_words, max_words: words; min_word_length, max_word_length: mean characters; max_symbols: hashes, and ellipses,
    per word; max_bullet_lines, max_ellipsis_lines, min_alphabetic_words: fractions; min_stop_words: occurrences.
    """

    kind: Literal["gopher_quality"] = "gopher_quality"
    on: On = "both"
    min_words: int = 50
    max_words: int = 100_000
    min_word_length: float = 3.0
    max_word_length: float = 10.0
    max_symbols: float = 0.1
    max_bullet_lines: float = 0.9
    max_ellipsis_lines: float = 0.3
    min_alphabetic_words: float = 0.8
    min_stop_words: int = 2

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `few_words`, `many_words`, `short_words`, `long_words`, `hashes`, `ellipses`, `bullet_lines`,
        `ellipsis_lines`, `few_alphabetic_words`, `few_stop_words`."""
        words, letters, hashes, ellipses, lines, bullets, trailing, alphabetic, stops = measure(text(records, self.on))
        some_words, some_lines = np.maximum(words, 1), np.maximum(lines, 1)
        length = letters / some_words
        hash_ratio, ellipsis_ratio = hashes / some_words, ellipses / some_words
        bullet_share, trailing_share, alphabetic_share = (
            bullets / some_lines,
            trailing / some_lines,
            alphabetic / some_words,
        )
        return first_failure(
            [
                Check("few_words", words < self.min_words, words, self.min_words),
                Check("many_words", words > self.max_words, words, self.max_words),
                Check("short_words", (words > 0) & (length < self.min_word_length), length, self.min_word_length),
                Check("long_words", length > self.max_word_length, length, self.max_word_length),
                Check("hashes", hash_ratio > self.max_symbols, hash_ratio, self.max_symbols),
                Check("ellipses", ellipsis_ratio > self.max_symbols, ellipsis_ratio, self.max_symbols),
                Check("bullet_lines", bullet_share > self.max_bullet_lines, bullet_share, self.max_bullet_lines),
                Check(
                    "ellipsis_lines", trailing_share > self.max_ellipsis_lines, trailing_share, self.max_ellipsis_lines
                ),
                Check(
                    "few_alphabetic_words",
                    alphabetic_share < self.min_alphabetic_words,
                    alphabetic_share,
                    self.min_alphabetic_words,
                ),
                Check("few_stop_words", stops < self.min_stop_words, stops, self.min_stop_words),
            ]
        )


def measure(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """Counts, int64 [9, rows]: words, characters in words, hashes, ellipses, lines that are not blank, lines that start
    with a bullet, lines that end with an ellipsis, words with a letter, stop words."""
    data, offsets = buffers(texts)
    return np.ascontiguousarray(_measure(data, offsets).T)


@kernel
def _is_punctuation(byte: int) -> bool:
    return 33 <= byte <= 47 or 58 <= byte <= 64 or 91 <= byte <= 96 or 123 <= byte <= 126


@kernel
def _measure(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    rows = len(offsets) - 1
    result = np.zeros((rows, 9), np.int64)
    for row in range(rows):
        begin, end = offsets[row], offsets[row + 1]
        words, letters, hashes, ellipses, lines, bullets = 0, 0, 0, 0, 0, 0
        trailing, alphabetic, stops = 0, 0, 0
        at, fresh, ellipsis_last = begin, True, False
        while at <= end:
            byte = data[at] if at < end else np.uint8(10)
            if is_space(byte):
                if byte == 10:
                    trailing += ellipsis_last
                    fresh, ellipsis_last = True, False
                at += 1
                continue
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
                    elif byte >= 0xC3 and not (byte == 0xE2 and data[at + 1] <= 0xAF):
                        has_letter = True
                    elif byte == 0xE2 and data[at + 1] == 0x80 and data[at + 2] == 0xA6:
                        ellipses += 1
                at += 1
            if fresh:
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
            left, right = start, at
            while left < right and _is_punctuation(data[left]):
                left += 1
            while right > left and _is_punctuation(data[right - 1]):
                right -= 1
            if right == left:  # punctuation alone is no word
                continue
            words += 1
            alphabetic += has_letter
            for i in range(left, right):
                letters += starts_character(data[i])
            if 2 <= right - left <= 4:
                key = 0
                for i in range(right - left):
                    key |= (int(data[left + i]) | 32) << (8 * i)
                for stop in _STOP_KEYS:
                    stops += key == stop
        result[row] = (words, letters, hashes, ellipses, lines, bullets, trailing, alphabetic, stops)
    return result
