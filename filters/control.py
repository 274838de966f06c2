"""Control: characters that a broken conversion leaves behind, or that hide something.

Control characters (Unicode category Cc except tab, line feed and carriage return), noncharacters and U+FFFD are never
intended, so one of them is enough. Private-use characters are glyphs of a font that the text no longer has. Mojibake is
text that was read in another encoding than it was written in; `filters.repair` finds it, and mends most of it if its
stage comes before this one. Invisible characters are judged in their context (`filters.invisible`): a small share may
be stray, but a text that hides another is dropped however long it is.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.kernel import buffers, kernel
from dedup.utf8 import decode
from filters.invisible import VISIBLE, count_invisible, kind_of
from filters.repair import is_suspect_pair, mojibake_chars
from filters.stage import Count, Filter, Ratio
from filters.text import On, next_unusual, text
from filters.verdict import Check, first_failure


class Control(Filter):
    """Drop texts with characters that are not text.

    max_control_chars, max_replacement_chars, max_private_chars, max_mojibake_chars, max_hidden_chars: the most that are
    kept, characters. max_invisible_char_ratio: the largest share of stray invisible characters, 0 to 1.
    """

    VERSION: ClassVar = 2
    RENAMED_KEYS: ClassVar = {
        "max_control": "max_control_chars",
        "max_replacement": "max_replacement_chars",
        "max_private": "max_private_chars",
        "max_invisible": "max_invisible_char_ratio",
    }

    kind: Literal["control"] = "control"
    on: On = "both"
    max_control_chars: Count = 0
    max_replacement_chars: Count = 0
    max_private_chars: Count = 0
    max_mojibake_chars: Count = 0
    max_hidden_chars: Count = 0
    max_invisible_char_ratio: Ratio = 0.05

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `control_characters`, `replacement_characters`, `private_characters`, `mojibake`,
        `invisible_characters` (hidden ones, or too large a share of stray ones). The value is their number or share.
        """
        texts = text(records, self.on)
        control, replacement, private, stray, hidden, suspect, characters = measure(texts)
        mojibake = mojibake_chars(records, texts, np.flatnonzero(suspect))
        stray_ratio, most_stray = stray / np.maximum(characters, 1), self.max_invisible_char_ratio
        counts = [
            ("control_characters", control, self.max_control_chars),
            ("replacement_characters", replacement, self.max_replacement_chars),
            ("private_characters", private, self.max_private_chars),
            ("mojibake", mojibake, self.max_mojibake_chars),
            ("invisible_characters", hidden, self.max_hidden_chars),
        ]
        return first_failure(
            [
                *(Check(reason, count > most, count, most) for reason, count, most in counts),
                Check("invisible_characters", stray_ratio > most_stray, stray_ratio, most_stray),
            ]
        )


def measure(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """Counts, int64 [7, rows]: control, replacement, private-use, stray invisible and hidden characters, pairs of
    characters that may be mojibake, and all characters."""
    data, offsets = buffers(texts)
    return np.ascontiguousarray(_measure(data, offsets).T)


@kernel
def _measure(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    rows = len(offsets) - 1
    result = np.zeros((rows, 7), np.int64)
    for row in range(rows):
        at, end = offsets[row], offsets[row + 1]
        control, replacement, private, suspect, characters = 0, 0, 0, 0, 0
        invisible = False
        before, before_end = np.int32(0), np.int64(-1)
        while True:
            # Nearly all bytes are usual; only the others are decoded.
            stop = next_unusual(data, at, end)
            characters += stop - at
            if stop == end:
                break
            point, width = decode(data, stop)
            at = stop + width
            characters += 1
            if stop == before_end and is_suspect_pair(before, point):
                suspect += 1
            before, before_end = point, at
            if point < 0xA0 or point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF:
                control += 1
            elif point == 0xFFFD:
                replacement += 1
            elif 0xE000 <= point <= 0xF8FF or point >= 0xF0000:
                private += 1
            elif kind_of(point) != VISIBLE:
                invisible = True
        result[row, 0], result[row, 1], result[row, 2] = control, replacement, private
        if invisible:
            result[row, 3], result[row, 4] = count_invisible(data, offsets[row], end)
        result[row, 5], result[row, 6] = suspect, characters
    return result
