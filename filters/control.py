"""Control: characters that a broken conversion leaves behind.

Control characters (Unicode category Cc except tab, line feed and carriage return) and U+FFFD are never intended, so one
of them is enough. Private-use characters are glyphs of a font that the text no longer has. Invisible characters
(zero-width, directional marks, byte order marks) have uses in emoji and right-to-left text, so a small share may be.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.kernel import buffers, kernel
from dedup.utf8 import decode
from filters.stage import Filter
from filters.text import On, text
from filters.verdict import Check, first_failure


class Control(Filter):
    """Drop texts with characters that are not text.

    max_control_chars, max_replacement_chars, max_private_chars: the most that are kept, characters.
    max_invisible_char_ratio: the largest share of characters, 0 to 1; the default lets an emoji in a sentence pass.
    """

    RENAMED_KEYS: ClassVar = {
        "max_control": "max_control_chars",
        "max_replacement": "max_replacement_chars",
        "max_private": "max_private_chars",
        "max_invisible": "max_invisible_char_ratio",
    }

    kind: Literal["control"] = "control"
    on: On = "both"
    max_control_chars: int = 0
    max_replacement_chars: int = 0
    max_private_chars: int = 0
    max_invisible_char_ratio: float = 0.05

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `control_characters`, `replacement_characters`, `private_characters`, `invisible_characters`."""
        control, replacement, private, invisible, characters = measure(text(records, self.on))
        invisible_ratio = invisible / np.maximum(characters, 1)
        most_control, most_replacement = self.max_control_chars, self.max_replacement_chars
        most_private, most_invisible = self.max_private_chars, self.max_invisible_char_ratio
        return first_failure(
            [
                Check("control_characters", control > most_control, control, most_control),
                Check("replacement_characters", replacement > most_replacement, replacement, most_replacement),
                Check("private_characters", private > most_private, private, most_private),
                Check("invisible_characters", invisible_ratio > most_invisible, invisible_ratio, most_invisible),
            ]
        )


def measure(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """Counts, int64 [5, rows]: control, replacement, private-use and invisible characters, and all characters."""
    data, offsets = buffers(texts)
    return np.ascontiguousarray(_measure(data, offsets).T)


@kernel
def _next_unusual(data, at, end):  # type: ignore[no-untyped-def]
    """The first byte from `at` on that is neither printable ASCII nor tab, line feed or carriage return."""
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
            # Nearly all bytes are usual; only the others are decoded.
            stop = _next_unusual(data, at, end)
            characters += stop - at
            if stop == end:
                break
            point, width = decode(data, stop)
            at = stop + width
            characters += 1
            if point < 0xA0:
                control += 1
            elif point == 0xFFFD:
                replacement += 1
            elif 0xE000 <= point <= 0xF8FF or point >= 0xF0000:
                private += 1
            elif (
                0x200B <= point <= 0x200F  # zero-width, directional marks
                or 0x202A <= point <= 0x202E  # directional embeddings
                or 0x2060 <= point <= 0x206F  # word joiner, invisible operators
                or point == 0xFEFF  # byte order mark
                or point == 0xAD  # soft hyphen
            ):
                invisible += 1
        result[row] = (control, replacement, private, invisible, characters)
    return result
