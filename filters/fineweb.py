"""FineWeb: repeated lines, the one of FineWeb's own quality rules that makes sense for instruction data.

Source: Penedo et al. 2024, "The FineWeb Datasets: Decanting the Web for the Finest Text Data at Scale", section 3.6,
and the filter of that name in datatrove.

Kept: the share of characters in lines that repeat an earlier line, 0.1 in the paper. For instruction data it is changed
in four ways, each measured on gold sources and on answers of models (docs/log.md):

- Only lines of prose that are no structure can be duplicates (`filters.structure`). Braces, steps of programs,
  formulas, rows of tables, lines under four words, and lines that recur between different ones (the options of a quiz,
  the lessons of a week) count as characters of the text but equal nothing.
- The limit is 0.2. At 0.1 schedules, questions with the same choices and steps that recur were dropped.
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
from dedup.kernel import buffers, kernel
from filters.request import VERSE, keep_asked_for
from filters.stage import Count, Filter, Ratio
from filters.structure import CUT, prose_of
from filters.text import On, is_space, starts_character, text
from filters.verdict import Check, first_failure


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
        _, _, repeated[rows] = measure(prose_of(texts.take(pa.array(rows))))
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
            spaced, other = True, False
            while at < end and data[at] != 10:
                byte = data[at]
                if is_space(byte):
                    spaced = True
                else:
                    if spaced:
                        line = fnv1a(line, 32)
                        spaced = False
                    if byte == CUT:  # the beginning of a line that is not prose
                        other = True
                    line = fnv1a(line, byte)
                    line_characters += starts_character(byte)
                at += 1
            at += 1
            if line_characters == 0:
                continue
            lines, characters = lines + 1, characters + line_characters
            if feeds == 0 or other:  # a single line repeats nothing
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
