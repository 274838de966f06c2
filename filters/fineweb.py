"""What of FineWeb's own quality rules makes sense for instruction data: repeated lines.

Source: Penedo et al. 2024, "The FineWeb Datasets: Decanting the Web for the Finest Text Data at Scale", section 3.6,
and the filter of that name in datatrove.

Kept: the share of characters in lines that repeat an earlier line, 0.1 in the paper (datatrove's code has 0.01, which a
refrain or two closing braces would break). Judged only in texts of at least `min_lines` lines, which is ours: in a
table of four lines a share says nothing.

Left out: the share of lines that end with punctuation (0.12; code, lists, equations and short answers have none), the
share of lines under 30 characters (0.67; options, steps and verse are short) and line feeds per word (0.3, in the code
alone; one answer in five that is a program has more).
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


class FineWeb(Filter):
    """Drop texts whose lines repeat."""

    kind: Literal["fineweb"] = "fineweb"
    on: On = "response"
    max_duplicate_line_characters: float = 0.1
    min_lines: int = 10

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reason: `duplicate_line_characters`."""
        lines, characters, repeated = measure(text(records, self.on))
        share, limit = repeated / np.maximum(characters, 1), self.max_duplicate_line_characters
        return first_failure(
            [Check("duplicate_line_characters", (lines >= self.min_lines) & (share > limit), share, limit)]
        )


def measure(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """Counts, int64 [3, rows]: lines that are not blank, characters other than white space, and how many of these stand
    in a line whose words repeat an earlier line's."""
    data, offsets = buffers(texts)
    return np.ascontiguousarray(_measure(data, offsets).T)


@kernel
def _measure(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    rows = len(offsets) - 1
    result = np.zeros((rows, 3), np.int64)
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
            line, line_characters = np.uint64(0xCBF29CE484222325), 0
            spaced = True
            while at < end and data[at] != 10:
                byte = data[at]
                if is_space(byte):
                    spaced = True
                else:
                    if spaced:
                        line = (line ^ np.uint64(32)) * np.uint64(0x100000001B3)
                        spaced = False
                    line = (line ^ np.uint64(byte)) * np.uint64(0x100000001B3)
                    line_characters += starts_character(byte)
                at += 1
            at += 1
            if line_characters == 0:
                continue
            lines, characters = lines + 1, characters + line_characters
            if feeds == 0:
                continue
            slot = np.int64(line >> np.uint64(20)) & (size - 1)
            while stamps[slot] == row + 1 and keys[slot] != line:
                slot = (slot + 1) & (size - 1)
            if stamps[slot] == row + 1:
                repeated += line_characters
            stamps[slot], keys[slot] = row + 1, line
        result[row] = (lines, characters, repeated)
    return result
