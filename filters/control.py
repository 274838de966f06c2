"""Control characters and other traces of a broken conversion.

Control characters (Unicode category Cc but tab, line feed, carriage return) and U+FFFD are never meant: one of them is
enough. Private-use characters are glyphs of a font that the text no longer has. Invisible ones (zero-width, directional
marks, byte order marks) have uses in emoji and right-to-left text, so they may be a small share of a text.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.kernel import buffers, kernel
from filters.characters import code_point
from filters.stage import Filter
from filters.text import On, text
from filters.verdict import Check, first_failure


class Control(Filter):
    """Drop texts with characters that are no text. The first three are counts, `max_invisible` a share of
    characters.
    """

    kind: Literal["control"] = "control"
    on: On = "both"
    max_control: int = 0
    max_replacement: int = 0
    max_private: int = 0
    max_invisible: float = 0.05

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `control_characters`, `replacement_characters`, `private_characters`, `invisible_characters`."""
        control, replacement, private, invisible, characters = measure(text(records, self.on))
        share = invisible / np.maximum(characters, 1)
        return first_failure(
            [
                Check("control_characters", control > self.max_control, control, self.max_control),
                Check("replacement_characters", replacement > self.max_replacement, replacement, self.max_replacement),
                Check("private_characters", private > self.max_private, private, self.max_private),
                Check("invisible_characters", share > self.max_invisible, share, self.max_invisible),
            ]
        )


def measure(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """Counts, int64 [5, rows]: control, replacement, private-use and invisible characters, and all characters."""
    data, offsets = buffers(texts)
    return np.ascontiguousarray(_measure(data, offsets).T)


@kernel
def _plain(data, at, end):  # type: ignore[no-untyped-def]
    """Where the next byte is that is not printable ASCII or the usual white space."""
    while at < end and (32 <= data[at] < 127 or data[at] == 10 or data[at] == 13 or data[at] == 9):
        at += 1
    return at


@kernel
def _measure(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    rows = len(offsets) - 1
    result = np.zeros((rows, 5), np.int64)
    for row in range(rows):
        at, end = offsets[row], offsets[row + 1]
        control, replacement, private, invisible, characters = 0, 0, 0, 0, 0
        while True:
            stop = _plain(data, at, end)
            characters += stop - at
            if stop == end:
                break
            point, at = code_point(data, stop)
            characters += 1
            if point < 0xA0:
                control += 1
            elif point == 0xFFFD:
                replacement += 1
            elif 0xE000 <= point <= 0xF8FF or point >= 0xF0000:
                private += 1
            elif (
                0x200B <= point <= 0x200F
                or 0x202A <= point <= 0x202E
                or 0x2060 <= point <= 0x206F
                or point == 0xFEFF
                or point == 0xAD
            ):
                invisible += 1
        result[row] = (control, replacement, private, invisible, characters)
    return result
