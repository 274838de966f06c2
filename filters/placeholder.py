"""Placeholder: empty fields, and text that a program or a form leaves behind.

A placeholder must be the whole response. There are three kinds:

- What a form or a template leaves ("[insert answer here]", "{{response}}", "Output:") answers nothing, unless the
  instruction has it too.
- The values of programs (NaN, null, undefined, TODO) are answers to questions about programs, numbers, missing values
  and abbreviations, and nowhere else. Anything but such a question, or a request to write or explain something, makes
  them placeholders.
- Runs of dashes, dots and the like are answers to questions about signs.

Words that are answers everywhere are no placeholders: "None", "N/A", "No answer", "0" and "?".
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
TEMPLATE = (
    r"(?i)\A\W*(?:lorem ipsum.*|no (?:response|output|completion)(?: (?:provided|available|given))?|"
    r"(?:(?:your|the|insert|enter|type|write|add|put)(?: your| the)? )?"
    r"(?:answer|response|text|output|solution|summary|translation)(?: goes)? here|"
    r"(?:your|insert|enter|type|write|add|put)(?: your| the)? (?:answer|response|text|output|solution|summary|name)|"
    r"(?:#+ *|\*+)?(?:the )?(?:answer|output|response|result|solution|assistant|reply|completion|a) ?:|"
    r"todo: (?:write|add|insert|fill in)(?: the)?(?: answer| response| text)?)\W*\z|"
    r"\A\s*(?:[<\[({|$]+ ?(?:no ?input|no ?output|(?:your |insert |the |enter )?(?:your |the )?"
    r"(?:answer|response|output|text|solution|summary|completion|translation|result|content|title|empty|"
    r"blank|placeholder|name|todo)(?: here)?)"
    r" ?[>\])}|]+|%s)\s*\z"
)
"""What a form or a template leaves."""
VALUE = (
    r"(?i)\A\W*(?:nan|undefined|null|\[object object\]|tbd|to be determined|todo|fixme|placeholder|"
    r"(?:(?:n/?a|none|null|nan|undefined)\b\W*){2,5})\W*\z"
)
"""Values of programs, and marks of unfinished work."""
# A text of nothing but white space, control characters, characters that are invisible by the Unicode property
# Default_Ignorable_Code_Point (zero-width, directional, fillers, tags, selectors), annotation marks, marks without a
# letter to stand on, the Braille blank and the null notehead.
BLANK = r"\A[\s\p{Cc}\p{DI}\p{M}\x{FFF9}-\x{FFFB}\x{2800}\x{1D159}]*\z"
# A text of nothing but dashes, dots and the like.
FILLER = r"\A[\s.\-_–—…*#|]+\z"
ASKED_VALUE = (
    r"(?i)\b(?:values?|prints?|printed|gives|returns?|returned|outputs?|evaluates?|results?|keywords?|javascript|"
    r"js|typescript|"
    r"typeof|python|java|sql|json|yaml|numpy|pandas|excel|c\+\+|rust|golang|ruby|php|variables?|floats?|divid\w*|"
    r"division|zero|tan|tangent|log|logarithm|slope|limit|undefined|defined|missing|nothing|empty|null|nan|none|na|"
    r"abbreviat\w*|short|acronym|initialism|stands? for|comment|tags?|grey text|called|keyword|exist\w*|applicable|"
    r"unknown|not known|announced|scheduled)\b|\bgive ?\?|/ ?0|\w\(|\bn/a\b"
)
"""Questions whose answer may be such a value."""
NOT_A_QUESTION = (
    r"(?i)\A\W*(?:please )?(?:write|generate|describe|explain|summari[sz]e|tell|compose|continue|rewrite|"
    r"draft|design|"
    r"implement|develop|create|build|discuss|imagine)\b"
)
ASKED_SIGNS = (
    r"(?i)\b(?:morse|punctuation|dash(?:es)?|dots?|periods?|hyphens?|ellipsis|characters?|symbols?|"
    r"operators?|signs?|marks?|"
    r"separat\w+|delimit\w+|mask\w*|stars?|asterisks?|lines?|rules?|draw|print|markdown|yaml|comments?|"
    r"director(?:y|ies)|"
    r"folder|shell|rat(?:e|ing)|hash(?:es)?|headings?|patterns?|regex\w*|underscores?|blanks?|redact\w*|censor\w*|"
    r"decrement|exponent\w*|omission|silence|pause)\b"
)
"""Questions about signs."""


class Placeholder(Filter):
    """Drop records with an empty field, and those whose response is a placeholder."""

    VERSION: ClassVar = 3

    kind: Literal["placeholder"] = "placeholder"

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `empty_instruction`, `empty_response`, `placeholder`. The value is the field's length in bytes."""
        instruction, response = as_array(records["instruction"]), as_array(records["response"])
        sizes = [np.asarray(pc.binary_length(field)) for field in (instruction, response)]
        blank = [_blank(field) for field in (instruction, response)]
        short = np.flatnonzero((sizes[1] <= MAX_PLACEHOLDER_BYTES) & ~blank[1])
        placeholder = np.zeros(len(response), np.bool_)
        placeholder[short] = _placeholders(instruction.take(pa.array(short)), response.take(pa.array(short)))
        return first_failure(
            [
                Check("empty_instruction", blank[0], sizes[0], 1),
                Check("empty_response", blank[1], sizes[1], 1),
                Check("placeholder", placeholder, sizes[1], MAX_PLACEHOLDER_BYTES),
            ]
        )


def _placeholders(instructions: pa.StringArray, responses: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which short responses are placeholders, read with their instructions: bool [rows]."""
    template = np.asarray(pc.match_substring_regex(responses, TEMPLATE), np.bool_)
    value = np.asarray(pc.match_substring_regex(responses, VALUE), np.bool_)
    filler = np.asarray(_filler(responses), np.bool_)
    rows = np.flatnonzero(template | value | filler)  # few
    asked = instructions.take(pa.array(rows))
    asked_value, not_a_question, asked_signs = (
        np.asarray(pc.match_substring_regex(asked, pattern), np.bool_)
        for pattern in (ASKED_VALUE, NOT_A_QUESTION, ASKED_SIGNS)
    )
    pairs = zip(asked.to_pylist(), responses.take(pa.array(rows)).to_pylist(), strict=True)
    quoted = np.fromiter((b.strip().lower() in a.lower() for a, b in pairs), np.bool_, len(rows))
    kept = (template[rows] | value[rows]) & quoted
    kept |= value[rows] & asked_value & ~not_a_question
    kept |= filler[rows] & asked_signs & ~template[rows] & ~value[rows]
    result = template | value | filler
    result[rows] &= ~kept
    return result


def _filler(texts: pa.StringArray) -> pa.BooleanArray:
    """Which texts are filler. One character may be an answer ("-", "*", "#"): which operator? which character?"""
    return pc.and_(
        pc.match_substring_regex(texts, FILLER), pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 1)
    )


def _blank(texts: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which texts show nothing to a reader: bool [rows]."""
    blank: npt.NDArray[np.bool_] = pl.Series(texts).str.contains(BLANK).to_numpy()
    return blank
