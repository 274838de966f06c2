"""Empty and placeholder texts: a field that nobody filled in.

What may be an answer is none: "None", "N/A", "No answer", "0", "?" are right answers to real questions. A placeholder
is text that only a program or a form leaves behind, and only when it is the whole of a response.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.kernel import buffers, kernel
from filters.stage import Filter
from filters.text import is_space
from filters.verdict import Check, first_failure

LONGEST = 64  # bytes of a placeholder; longer texts are not looked at
PLACEHOLDER = (
    r"(?i)\A\W*(?:nan|undefined|\[object object\]|tbd|to be determined|todo|fixme|placeholder|lorem ipsum.*|"
    r"no (?:response|output)(?: (?:provided|available|given))?|"
    r"(?:your|the|insert|enter|type|write|add|put)(?: your| the)? (?:answer|response|text|output|solution)"
    r"(?: goes)? here|"
    r"(?:<|\[|\{+)(?:no ?input|no ?output|(?:your |insert |the )?"
    r"(?:answer|response|output|text|solution|completion|empty|blank|placeholder)(?: here)?)(?:>|\]|\}+))\W*\z"
)
# Dashes and dots that stand for nothing, in a text with nothing else.
FILLER = r"\A[\s.\-_–—…*#|]+\z"


class Placeholder(Filter):
    """Drop records of which a field is empty, or whose response is a placeholder."""

    kind: Literal["placeholder"] = "placeholder"

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `empty_instruction`, `empty_response`, `placeholder`. The value is the field's length in bytes."""
        instruction, response = as_array(records["instruction"]), as_array(records["response"])
        sizes = [np.asarray(pc.binary_length(field)) for field in (instruction, response)]
        blank = [_blank(*buffers(field)) for field in (instruction, response)]
        short = np.flatnonzero((sizes[1] <= LONGEST) & ~blank[1])
        candidates = response.take(pa.array(short))
        placeholder = np.zeros(len(response), np.bool_)
        placeholder[short] = np.asarray(pc.or_(pc.match_substring_regex(candidates, PLACEHOLDER), _filler(candidates)))
        return first_failure(
            [
                Check("empty_instruction", blank[0], sizes[0], 1),
                Check("empty_response", blank[1], sizes[1], 1),
                Check("placeholder", placeholder, sizes[1], LONGEST),
            ]
        )


def _filler(texts: pa.StringArray) -> pa.BooleanArray:
    # One mark may be an answer ("-", "*", "#"): which operator? which character?
    return pc.and_(
        pc.match_substring_regex(texts, FILLER), pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 1)
    )


@kernel
def _blank(data, offsets):  # type: ignore[no-untyped-def]
    """Which texts have nothing but white space: bool [rows]."""
    rows = len(offsets) - 1
    result = np.ones(rows, np.bool_)
    for row in range(rows):
        for at in range(offsets[row], offsets[row + 1]):
            if not is_space(data[at]):
                result[row] = False
                break
    return result
