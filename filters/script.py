"""Script: letters of writing systems that the corpus is not in.

It is faster and more certain than a language model, and finds what `language` may miss: a few sentences of another
script in a text that begins in a wanted one. Greek is kept by default, because formulas are written with Greek letters.

Source of the ranges: the Unicode Character Database, Scripts.txt, by block.
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.kernel import buffers, kernel
from dedup.utf8 import decode
from filters.prose import LANGUAGES_OF_SCRIPT, language_requests, prose
from filters.stage import Filter, Ratio
from filters.text import On, fields, is_letter
from filters.verdict import Check, first_failure

Script = Literal[
    "latin", "greek", "cyrillic", "hebrew", "arabic", "indic", "southeast_asian", "hangul", "kana", "han", "other"
]  # fmt: skip
SCRIPTS: tuple[Script, ...] = get_args(Script)

# (first code point, script), ascending. None: no letters of a script (punctuation, symbols, marks on letters).
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
    (0x1D000, None),  # musical and mathematical symbols, the letters of formulas among them
    (0x1E000, "other"),
    (0x1F000, None),  # emoji
    (0x20000, "han"),
    (0x40000, None),
)
_STARTS = np.array([start for start, _ in _BLOCKS])
_NUMBERS = np.array([-1 if script is None else SCRIPTS.index(script) for _, script in _BLOCKS])
_LATIN = SCRIPTS.index("latin")


class WrongScript(Filter):
    """Drop records with too many letters of other scripts in a field.

    on: the fields that are judged, each on its own. scripts: the wanted ones. max_unwanted_letter_ratio: the largest
    share of letters in others, 0 to 1; the default keeps an English text that quotes a few foreign words.

    Letters in code, formulas and addresses do not count, and a single foreign letter is a symbol. A record whose
    instruction is written in a wanted script and asks for another language or about a foreign word is kept. So is one
    whose response is in a wanted script, and whose instruction asks for a translation or is about a foreign text.
    """

    VERSION: ClassVar = 3
    RENAMED_KEYS: ClassVar = {"max_share": "max_unwanted_letter_ratio"}

    kind: Literal["script"] = "script"
    on: On = "both"
    scripts: tuple[Script, ...] = ("latin", "greek")
    max_unwanted_letter_ratio: Ratio = 0.3

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reason: `wrong_script`. The value is the share of letters in unwanted scripts, the larger of the fields'."""
        names, limit = fields(self.on), self.max_unwanted_letter_ratio
        ratios = np.stack([self._unwanted(as_array(records[name])) for name in names])
        rows = np.flatnonzero((ratios > limit).any(axis=0))
        if len(rows):  # judged once more, without what is no prose and what was asked for
            few = records.select(["instruction", "response"]).take(pa.array(rows))
            requests = language_requests(as_array(few["instruction"]), self._languages())
            foreign_text = requests.foreign_text
            for place, name in reversed(list(enumerate(names))):  # the response first
                excused = requests.other | foreign_text
                if name == "response":
                    excused = requests.other & ~requests.answer_wanted
                ratios[place, rows] = np.where(excused, 0, self._unwanted(prose(as_array(few[name]))))
                foreign_text = foreign_text & (ratios[place, rows] <= limit)
        ratio = ratios.max(axis=0)
        return first_failure([Check("wrong_script", ratio > limit, ratio, limit)])

    def _languages(self) -> tuple[str, ...]:
        return tuple(code for script in self.scripts for code in LANGUAGES_OF_SCRIPT.get(script, ()))

    def _unwanted(self, texts: pa.StringArray) -> npt.NDArray[np.float64]:
        """The share of letters in unwanted scripts, float64 [rows]."""
        ratio = np.zeros(len(texts))
        # With Latin wanted, ASCII has no unwanted letters, and most texts are ASCII.
        rows = np.arange(len(texts))
        if "latin" in self.scripts:
            rows = np.flatnonzero(np.asarray(pc.not_equal(pc.binary_length(texts), pc.utf8_length(texts))))
        counts = measure(texts.take(pa.array(rows)))
        total = counts.sum(axis=0)
        unwanted = total - counts[[SCRIPTS.index(script) for script in self.scripts]].sum(axis=0)
        ratio[rows] = np.where(unwanted > 1, unwanted / np.maximum(total, 1), 0)
        return ratio


def measure(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """Letters by script, int64 [11, rows], in the order of SCRIPTS."""
    data, offsets = buffers(texts)
    return np.ascontiguousarray(_measure(data, offsets).T)


@kernel
def _ascii_letters(data, at, end):  # type: ignore[no-untyped-def]
    """The letters before the next byte outside ASCII, and where that byte is, or `end`."""
    letters = 0
    while at < end and data[at] < 0x80:
        letters += is_letter(data[at])
        at += 1
    return letters, at


@kernel
def _measure(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    rows = len(offsets) - 1
    result = np.zeros((rows, len(SCRIPTS)), np.int64)
    for row in range(rows):
        at, end = offsets[row], offsets[row + 1]
        while True:
            # ASCII letters are counted without decoding; each other character is looked up by its block.
            letters, at = _ascii_letters(data, at, end)
            result[row, _LATIN] += letters
            if at == end:
                break
            point, width = decode(data, at)
            at += width
            script = _NUMBERS[np.searchsorted(_STARTS, point, "right") - 1]
            if script >= 0:
                result[row, script] += 1
    return result
