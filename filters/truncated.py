"""Truncated: text that stops in the middle.

Only positive evidence counts: fenced code or a LaTeX environment that is opened and never closed, or an ending that
needs something after it ("and", an opening bracket, a comma). A missing full stop is no evidence: "42" and "the answer
is 7" are complete.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.stage import Filter
from filters.text import On, rows_with, text
from filters.verdict import Check, first_failure

FENCE = r"(?m)^[ \t]*```"
ENDING = r"(?:[,:=&\\–—{\[]|[^:;=\-]\(|<[/\w]*)\s*\z"  # ":-(" is complete, and ";" ends code
WORD = r"(?i)\b(?:the|an|and|or|but|because|than|their|our|my|your|whose|although|whereas)\s*\z"
_TAIL_CHARS = 120  # of the end, in which endings and words are looked for


class Truncated(Filter):
    """Drop texts that stop in the middle.

    min_words: the endings of texts with fewer words (in their last 120 characters) are not judged. Short answers may
    well be "the" or "a, b,".
    """

    kind: Literal["truncated"] = "truncated"
    on: On = "response"
    min_words: int = 5

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `open_code` (the value is the number of fences), `open_environment` (how many more environments
        begin than end), `open_ending`, `dangling_word` (1: it is there).
        """
        texts = text(records, self.on)
        tail = pc.utf8_slice_codeunits(texts, -_TAIL_CHARS)
        judged = np.asarray(pc.count_substring_regex(tail, r"\S+")) >= self.min_words
        fences = _count(texts, "```", FENCE)
        environments = _count(texts, r"\begin{", r"\\begin\{") - _count(texts, r"\begin{", r"\\end\{")
        ending, word = (judged & np.asarray(pc.match_substring_regex(tail, pattern)) for pattern in (ENDING, WORD))
        return first_failure(
            [
                Check("open_code", fences % 2 == 1, fences, 0),
                Check("open_environment", environments > 0, environments, 0),
                Check("open_ending", ending, ending, 1),
                Check("dangling_word", word, word, 1),
            ]
        )


def _count(texts: pa.StringArray, literal: str, pattern: str) -> npt.NDArray[np.int64]:
    """Matches of `pattern`, int64 [rows], counted only in texts with `literal`."""
    counts = np.zeros(len(texts), np.int64)
    rows = rows_with(texts, literal)
    counts[rows] = np.asarray(pc.count_substring_regex(texts.take(pa.array(rows)), pattern))
    return counts
