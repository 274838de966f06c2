"""FineWeb: repeated lines, the one of FineWeb's own quality rules that makes sense for instruction data.

Source: Penedo et al. 2024, "The FineWeb Datasets: Decanting the Web for the Finest Text Data at Scale", section 3.6,
and the filter of that name in datatrove.

Kept: the share of characters in lines that repeat an earlier line, 0.1 in the paper. For instruction data it is changed
in five ways, each measured on gold sources and on answers of models (docs/log.md):

- Only lines of prose can be duplicates (`filters.structure`). Braces, steps of programs, formulas, rows of tables and
  lines under four words count as characters of the text but equal nothing.
- Lines that recur between different ones are structure: the options of a quiz, the steps of recipes, the lessons of a
  week, stage directions. A run of repeated lines is structure if there are several such runs and each is shorter than
  the longest run of new lines, as each part then begins with something new. Lines that come again and again without
  anything new make longer runs. The furniture of web pages ("Read more about this story") is structure by this measure
  too. It counts all the same: lines that are neither items (with a mark, number or label) nor sentences (with a mark at
  their end), behind a line of prose.
- The limit is 0.2.
- Texts under `min_lines` lines are not judged: in a table of four lines a share is no evidence.
- Songs and poems that the instruction asks for are not judged.

Left out: the share of lines that end with punctuation (0.12; code, lists, equations and short answers have none), the
share of lines under 30 characters (0.67; options, steps and verse are short) and line feeds per word (0.3, only in the
code; one answer in five that is a program has more).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.hashing import FNV_BASIS, fnv1a
from dedup.kernel import borrowing_kernel, buffers, kernel
from filters.request import VERSE, keep_asked_for
from filters.stage import Count, Filter, Ratio
from filters.structure import CUT, prose_of
from filters.text import On, is_letter, is_space, starts_character, text
from filters.verdict import Check, first_failure

MAX_LABEL_BYTES = 30
"""Bytes before the colon of a label."""


class FineWeb(Filter):
    """Drop texts whose lines repeat.

    max_duplicate_line_char_ratio: the largest share of characters in repeated lines, 0 to 1. min_lines: texts with
    fewer lines (not counting blank ones) are not judged.
    """

    VERSION: ClassVar = 3
    RENAMED_KEYS: ClassVar = {"max_duplicate_line_characters": "max_duplicate_line_char_ratio"}

    kind: Literal["fineweb"] = "fineweb"
    on: On = "response"
    max_duplicate_line_char_ratio: Ratio = 0.2
    min_lines: Count = 10

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reason: `duplicate_line_characters`. The value is their share, 0 to 1."""
        texts, limit = text(records, self.on), self.max_duplicate_line_char_ratio
        lines, characters, repeated = measure(texts)
        failed = (lines >= self.min_lines) & (repeated > limit * characters)
        rows = np.flatnonzero(failed)
        few = texts.take(pa.array(rows))
        repeated[rows] = _measure_prose(*buffers(few), buffers(prose_of(few))[0])
        ratio = repeated / np.maximum(characters, 1)
        failed = keep_asked_for(failed & (ratio > limit), records, VERSE, self.on)
        return first_failure([Check("duplicate_line_characters", failed, ratio, limit)])


def measure(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """Counts, int64 [3, rows]: lines that are not blank, characters other than white space, and how many of those are
    in a line with the same words as an earlier line."""
    data, offsets = buffers(texts)
    return np.ascontiguousarray(_measure(data, offsets).T)


@kernel
def _measure(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    rows = len(offsets) - 1
    result = np.zeros((rows, 3), np.int64)
    # An open-addressing set of line hashes, at most half full. A slot belongs to the row whose number plus one is its
    # stamp, so the table need not be cleared between rows.
    size = 64
    keys, stamps = np.empty(size, np.uint64), np.zeros(size, np.int64)
    for row in range(rows):
        begin, end = offsets[row], offsets[row + 1]
        feeds = 0
        for at in range(begin, end):
            feeds += data[at] == 10
        while size < 2 * (feeds + 1):
            size *= 2
            keys, stamps = np.empty(size, np.uint64), np.zeros(size, np.int64)
        lines, characters, repeated, at = 0, 0, 0, begin
        while at < end:
            # One line: the hash of its words, each after one space, and its characters.
            line, line_characters = FNV_BASIS, 0
            spaced = True
            while at < end and data[at] != 10:
                byte = data[at]
                if is_space(byte):
                    spaced = True
                else:
                    if spaced:
                        line = fnv1a(line, 32)
                        spaced = False
                    line = fnv1a(line, byte)
                    line_characters += starts_character(byte)
                at += 1
            at += 1
            if line_characters == 0:
                continue
            lines, characters = lines + 1, characters + line_characters
            if feeds == 0:  # a single line repeats nothing
                continue
            # The low bits of FNV-1a of similar lines are similar; the table uses higher ones.
            slot = np.int64(line >> np.uint64(20)) & (size - 1)
            while stamps[slot] == row + 1 and keys[slot] != line:
                slot = (slot + 1) & (size - 1)
            if stamps[slot] == row + 1:
                repeated += line_characters
            stamps[slot], keys[slot] = row + 1, line
        result[row] = (lines, characters, repeated)
    return result


@borrowing_kernel
def _is_item(data, begin, end):  # type: ignore[no-untyped-def]
    """Whether a line begins with a mark, a digit, a letter behind which a mark stands, or a label ("Anna: ...")."""
    if not (is_letter(data[begin]) or data[begin] >= 128):
        return True
    if begin + 1 < end and (data[begin + 1] == 46 or data[begin + 1] == 41):  # "A." or "A)"
        return True
    for at in range(begin, min(begin + MAX_LABEL_BYTES, end - 1)):
        if data[at] == 58 and is_space(data[at + 1]):
            return True
        if data[at] == 46 or data[at] == 63 or data[at] == 33:
            break
    return False


@borrowing_kernel
def _last_mark(data, begin, end):  # type: ignore[no-untyped-def]
    """The last byte of a line without quotation marks, brackets and emphasis behind it."""
    while end > begin + 1:
        byte = data[end - 1]
        if not (is_space(byte) or byte == 34 or byte == 39 or byte == 41 or byte == 42 or byte == 95):
            break
        end -= 1
    return data[end - 1]


@kernel
def _measure_prose(data, offsets, prose):  # type: ignore[no-untyped-def]
    """Characters in repeated lines of prose that are no structure: int64 [rows].

    prose: the bytes of the texts as `prose_of` marks them.
    """
    rows = len(offsets) - 1
    base = offsets[0]
    result = np.zeros(rows, np.int64)
    for row in range(rows):
        begin, end = offsets[row], offsets[row + 1]
        feeds = 1
        for at in range(begin, end):
            feeds += data[at] == 10
        hashes, sizes = np.empty(feeds, np.uint64), np.zeros(feeds, np.int64)
        seen, is_prose = np.zeros(feeds, np.bool_), np.zeros(feeds, np.bool_)
        bare, ended = np.zeros(feeds, np.bool_), np.zeros(feeds, np.bool_)
        count, at = 0, begin
        while at < end:
            stop = at
            while stop < end and data[stop] != 10:
                stop += 1
            while at < stop and is_space(data[at]):
                at += 1
            if at < stop:
                line, spaced = FNV_BASIS, False
                for i in range(at, stop):
                    if is_space(data[i]):
                        spaced = True
                    else:
                        if spaced:
                            line = fnv1a(line, 32)
                            spaced = False
                        line = fnv1a(line, data[i])
                        sizes[count] += starts_character(data[i])
                hashes[count] = line
                is_prose[count] = prose[at - base] != CUT
                mark = _last_mark(data, at, stop)
                bare[count] = not _is_item(data, at, stop)
                ended[count] = mark == 46 or mark == 33 or mark == 63 or mark == 58 or mark >= 128
                count += 1
            at = stop + 1
        order = np.argsort(hashes[:count], kind="mergesort")  # equal lines in their order
        for i in range(1, count):
            seen[order[i]] = hashes[order[i]] == hashes[order[i - 1]]
        longest, run, runs = 0, 0, 0
        for i in range(count):
            run = 0 if seen[i] else run + 1
            longest = max(longest, run)
            runs += seen[i] and not seen[i - 1]
        i = 0
        while i < count:
            if not seen[i]:
                i += 1
                continue
            first = i
            while i < count and seen[i]:
                i += 1
            structure = runs > 1 and i - first < longest
            # The line before the run has something new: the article, where the run is furniture.
            article = is_prose[first - 1] and bare[first - 1] and ended[first - 1]
            for j in range(first, i):
                furniture = article and bare[j] and not ended[j]
                if is_prose[j] and (furniture or not structure):
                    result[row] += sizes[j]
    return result
