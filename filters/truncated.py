"""Truncated answers: text that stops where no writer would.

Only positive evidence counts: fenced code or a LaTeX environment that is opened and never closed, an ending that needs
something after it ("and", an opening bracket, a comma). A missing full stop is none: "42" and "the answer is 7" are
whole.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.stage import Filter
from filters.text import On, holding, text
from filters.verdict import Check, first_failure

FENCE = r"(?m)^[ \t]*```"
ENDING = r"(?:[,:=&\\–—{\[]|[^:;=\-]\(|<[/\w]*)\s*\z"  # ":-(" is whole, and ";" ends code
WORD = r"(?i)\b(?:the|an|and|or|but|because|than|their|our|my|your|whose|although|whereas)\s*\z"
_TAIL = 120  # characters from the end in which endings and their words are looked for


class Truncated(Filter):
    """Drop texts that stop in the middle. min_words: endings are judged only in texts of so many words."""

    kind: Literal["truncated"] = "truncated"
    on: On = "response"
    min_words: int = 5

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `open_code` (the value is how many fences there are), `open_environment` (how many more begin than
        end), `open_ending`, `dangling_word` (1: it is there)."""
        texts = text(records, self.on)
        tail = pc.utf8_slice_codeunits(texts, -_TAIL)
        enough = np.asarray(pc.count_substring_regex(tail, r"\S+")) >= self.min_words
        fences = _count(texts, "```", FENCE)
        environments = _count(texts, r"\begin{", r"\\begin\{") - _count(texts, r"\begin{", r"\\end\{")
        ending, word = (enough & np.asarray(pc.match_substring_regex(tail, pattern)) for pattern in (ENDING, WORD))
        return first_failure(
            [
                Check("open_code", fences % 2 == 1, fences, 0),
                Check("open_environment", environments > 0, environments, 0),
                Check("open_ending", ending, ending, 1),
                Check("dangling_word", word, word, 1),
            ]
        )


def _count(texts: pa.StringArray, hint: str, pattern: str) -> npt.NDArray[np.int64]:
    """How often `pattern` matches, counted only in texts that hold `hint`."""
    counts = np.zeros(len(texts), np.int64)
    hinted = holding(texts, hint)
    counts[hinted] = np.asarray(pc.count_substring_regex(texts.take(pa.array(hinted)), pattern))
    return counts
