"""Bare answers: a response that gives a result and none of the reasoning, though its condition is `cot`.

HRM-Text learns from the condition how to answer: `cot` shows the work, `direct` does not. Where all of the work was in
a block of thinking, what is left is a direct answer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MAX_WORDS = 16
MAX_BYTES = 200
"""Size of the longest bare answer: one sentence ("Janet makes $18 every day at the farmers' market.")."""

# More than one sentence or formula, or a word of reasoning, shows work. A full stop within a number ends nothing.
_WORK = (
    r"(?i)=[^=]*[=<>≈→⇒]|[.!?。][)\"']?\s+\S|\n\s*\n[^\n]*\S[^\n]*\n\s*\n|"
    r"\b(?:because|since|so that|therefore|thus|hence|implies|then|first|let|given)\b|, so\b|\n[ \t]+\S"
)
_TITLE = r"\b(Mrs?|Ms|Dr|St|Prof|No|vs)\."  # whose full stop ends no sentence
# A box around all of the answer, whatever it holds ("\\boxed{Mrs. Hilt}").
_BOX = r"^\$*\\boxed\s?\{[^\n]*\}\.?\$*\.?$"


def is_cot(conditions: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which conditions have the tag `cot`: bool [rows]."""
    return np.asarray(pc.match_substring_regex(conditions, r"(?:^|,)cot(?:,|$)").to_numpy(zero_copy_only=False))


def is_bare_answer(conditions: pa.StringArray, responses: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which records have the condition `cot` and a bare answer for a response: bool [rows].

    Bare: not blank, at most MAX_WORDS words and MAX_BYTES bytes, one sentence with at most one equals sign; or one box
    around all of it.
    """
    bare = is_cot(conditions) & np.asarray(pc.less_equal(pc.binary_length(responses), MAX_BYTES))
    rows = np.flatnonzero(bare)
    texts = pc.utf8_trim_whitespace(responses.take(pa.array(rows)))
    words = pc.count_substring_regex(texts, r"\S+").to_numpy(zero_copy_only=False)
    work = pc.match_substring_regex(pc.replace_substring_regex(texts, _TITLE, r"\1"), _WORK).to_numpy(
        zero_copy_only=False
    )
    box = pc.match_substring_regex(texts, _BOX).to_numpy(zero_copy_only=False)
    bare[rows] = box | ((words > 0) & (words <= MAX_WORDS) & ~work)
    return np.asarray(bare)


def retagged(conditions: pa.StringArray, rows: npt.NDArray[np.bool_]) -> pa.StringArray:
    """The conditions with `direct` in place of `cot` where `rows` [rows] is true; the same object if none is."""
    if not rows.any():
        return conditions
    new = pc.replace_substring_regex(conditions, r"(^|,)cot(,|$)", r"\1direct\2")
    new = pc.replace_substring_regex(new, r"(^|,)direct(,.*)?,direct(,|$)", r"\1direct\2\3")
    return pc.if_else(pa.array(rows), new, conditions)
