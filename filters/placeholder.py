"""Placeholder: empty fields, and text that a program or a form leaves behind.

Words that may be an answer are no placeholder: "None", "N/A", "No answer", "0" and "?" are right answers to real
questions. A placeholder must be the whole response.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from filters.stage import Filter
from filters.verdict import Check, first_failure

MAX_PLACEHOLDER_BYTES = 64  # the patterns match nothing longer; longer texts are not tried
PLACEHOLDER = (
    r"(?i)\A\W*(?:nan|undefined|\[object object\]|tbd|to be determined|todo|fixme|placeholder|lorem ipsum.*|"
    r"no (?:response|output)(?: (?:provided|available|given))?|"
    r"(?:your|the|insert|enter|type|write|add|put)(?: your| the)? (?:answer|response|text|output|solution)"
    r"(?: goes)? here|"
    r"(?:<|\[|\{+)(?:no ?input|no ?output|(?:your |insert |the )?"
    r"(?:answer|response|output|text|solution|completion|empty|blank|placeholder)(?: here)?)(?:>|\]|\}+))\W*\z"
)
# A text of nothing but white space, control characters, characters that are invisible by the Unicode property
# Default_Ignorable_Code_Point (zero-width, directional, fillers, tags, selectors), annotation marks, marks without a
# letter to stand on, the Braille blank and the null notehead.
BLANK = r"\A[\s\p{Cc}\p{DI}\p{M}\x{FFF9}-\x{FFFB}\x{2800}\x{1D159}]*\z"
# A text of nothing but dashes, dots and the like.
FILLER = r"\A[\s.\-_–—…*#|]+\z"


class Placeholder(Filter):
    """Drop records with an empty field, and those whose response is a placeholder."""

    VERSION: ClassVar = 2

    kind: Literal["placeholder"] = "placeholder"

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `empty_instruction`, `empty_response`, `placeholder`. The value is the field's length in bytes."""
        instruction, response = as_array(records["instruction"]), as_array(records["response"])
        sizes = [np.asarray(pc.binary_length(field)) for field in (instruction, response)]
        blank = [_blank(field) for field in (instruction, response)]
        short = np.flatnonzero((sizes[1] <= MAX_PLACEHOLDER_BYTES) & ~blank[1])
        candidates = response.take(pa.array(short))
        placeholder = np.zeros(len(response), np.bool_)
        placeholder[short] = np.asarray(pc.or_(pc.match_substring_regex(candidates, PLACEHOLDER), _filler(candidates)))
        return first_failure(
            [
                Check("empty_instruction", blank[0], sizes[0], 1),
                Check("empty_response", blank[1], sizes[1], 1),
                Check("placeholder", placeholder, sizes[1], MAX_PLACEHOLDER_BYTES),
            ]
        )


def _filler(texts: pa.StringArray) -> pa.BooleanArray:
    """Which texts are filler. One character may be an answer ("-", "*", "#"): which operator? which character?"""
    return pc.and_(
        pc.match_substring_regex(texts, FILLER), pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 1)
    )


def _blank(texts: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which texts show nothing to a reader: bool [rows]."""
    blank: npt.NDArray[np.bool_] = pl.Series(texts).str.contains(BLANK).to_numpy()
    return blank
