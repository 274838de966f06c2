"""Wrong script: letters of writing systems that the corpus is not in.

Faster and surer than a language model where it applies, and it sees what `language` may not: a few sentences of another
script in a text that begins in the right one. Greek passes by default, since formulas are written in it.
Source of the ranges: the Unicode Character Database, Scripts.txt, by block.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.kernel import buffers, kernel
from filters.characters import code_point
from filters.stage import Filter
from filters.text import On, is_letter, text
from filters.verdict import Check, first_failure

Script = Literal[
    "latin", "greek", "cyrillic", "hebrew", "arabic", "indic", "southeast_asian", "hangul", "kana", "han", "other"
]  # fmt: skip
SCRIPTS: tuple[Script, ...] = get_args(Script)

# (first code point, script), in order; None: no letters of a script (punctuation, symbols, signs on letters).
_BLOCKS: tuple[tuple[int, Script | None], ...] = (
    (0x0000, None),
    (0x00AA, "latin"),
    (0x00AB, None),
    (0x00BA, "latin"),
    (0x00BB, None),
    (0x00C0, "latin"),
    (0x00D7, None),
    (0x00D8, "latin"),
    (0x00F7, None),
    (0x00F8, "latin"),
    (0x02B0, None),
    (0x0370, "greek"),
    (0x0400, "cyrillic"),
    (0x0530, "other"),
    (0x0590, "hebrew"),
    (0x0600, "arabic"),
    (0x0700, "other"),
    (0x0750, "arabic"),
    (0x0780, "other"),
    (0x08A0, "arabic"),
    (0x0900, "indic"),
    (0x0E00, "southeast_asian"),
    (0x0F00, "other"),
    (0x1000, "southeast_asian"),
    (0x10A0, "other"),
    (0x1100, "hangul"),
    (0x1200, "other"),
    (0x1780, "southeast_asian"),
    (0x1800, "other"),
    (0x1C80, "cyrillic"),
    (0x1C90, "other"),
    (0x1D00, "latin"),
    (0x1D26, "greek"),
    (0x1D2B, "latin"),
    (0x1DC0, None),
    (0x1E00, "latin"),
    (0x1F00, "greek"),
    (0x2000, None),
    (0x2C00, "other"),
    (0x2C60, "latin"),
    (0x2C80, "other"),
    (0x2DE0, "cyrillic"),
    (0x2E00, None),
    (0x2E80, "han"),
    (0x2FF0, None),
    (0x3005, "han"),
    (0x3008, None),
    (0x3041, "kana"),
    (0x3100, "han"),
    (0x3130, "hangul"),
    (0x3190, "han"),
    (0x31F0, "kana"),
    (0x3200, None),
    (0x3400, "han"),
    (0x4DC0, None),
    (0x4E00, "han"),
    (0xA000, "other"),
    (0xA640, "cyrillic"),
    (0xA6A0, "other"),
    (0xA720, "latin"),
    (0xA800, "other"),
    (0xA960, "hangul"),
    (0xA980, "other"),
    (0xAB30, "latin"),
    (0xAB70, "other"),
    (0xAC00, "hangul"),
    (0xD800, None),
    (0xF900, "han"),
    (0xFB00, "latin"),
    (0xFB13, "other"),
    (0xFB1D, "hebrew"),
    (0xFB50, "arabic"),
    (0xFE00, None),
    (0xFE70, "arabic"),
    (0xFEFF, None),
    (0xFF21, "latin"),
    (0xFF3B, None),
    (0xFF41, "latin"),
    (0xFF5B, None),
    (0xFF66, "kana"),
    (0xFFA0, "hangul"),
    (0xFFE0, None),
    (0x10000, "other"),
    (0x1B000, "kana"),
    (0x1B170, "other"),
    (0x1D000, None),  # musical and mathematical symbols, where formulas have their letters
    (0x1E000, "other"),
    (0x1F000, None),  # emoji
    (0x20000, "han"),
    (0x40000, None),
)
_STARTS = np.array([start for start, _ in _BLOCKS])
_NUMBERS = np.array([-1 if script is None else SCRIPTS.index(script) for _, script in _BLOCKS])


class WrongScript(Filter):
    """Drop texts of whose letters too large a share is of scripts that are not wanted."""

    kind: Literal["script"] = "script"
    on: On = "both"
    scripts: tuple[Script, ...] = ("latin", "greek")
    max_share: float = 0.3

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reason: `wrong_script`. The value is the share of letters in scripts that are not wanted."""
        counts = measure(text(records, self.on))
        wanted = counts[[SCRIPTS.index(script) for script in self.scripts]].sum(axis=0)
        total = counts.sum(axis=0)
        share = (total - wanted) / np.maximum(total, 1)
        return first_failure([Check("wrong_script", share > self.max_share, share, self.max_share)])


def measure(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """Letters by script, int64 [11, rows], in the order of SCRIPTS."""
    data, offsets = buffers(texts)
    return np.ascontiguousarray(_measure(data, offsets).T)


@kernel
def _ascii_letters(data, at, end):  # type: ignore[no-untyped-def]
    """Letters up to the next byte outside ASCII: (how many, where that byte is, or `end`)."""
    letters = 0
    while at < end and data[at] < 0x80:
        letters += is_letter(data[at])
        at += 1
    return letters, at


@kernel
def _measure(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    rows = len(offsets) - 1
    result = np.zeros((rows, 11), np.int64)
    for row in range(rows):
        at, end = offsets[row], offsets[row + 1]
        while True:
            letters, at = _ascii_letters(data, at, end)
            result[row, 0] += letters
            if at == end:
                break
            point, at = code_point(data, at)
            script = _NUMBERS[np.searchsorted(_STARTS, point, "right") - 1]
            if script >= 0:
                result[row, script] += 1
    return result
