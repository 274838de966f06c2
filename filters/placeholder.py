"""Placeholder: empty fields, and text that a program or a form leaves behind.

A placeholder must be the whole response, and nothing in the instruction may ask for it. There are five kinds:

- What a form or a template leaves ("[insert answer here]", "{{response}}", "Output:") answers questions about
  templates and tags, and nothing else.
- The values of programs (NaN, null, undefined, TODO) are answers to questions about programs, numbers, missing values
  and abbreviations, and nowhere else.
- What a site or a spreadsheet shows in place of a text that it lost or never had ("[deleted]", "#REF!", "Coming soon")
  answers questions about such pages and errors.
- "N/A", "No answer" and the like are answers where the instruction leaves room for none: it gives a text or a form that
  may not have the answer, or says what to do then. "None" is an answer to every question, but not to a request for a
  text or for so many things.
- Runs of dashes, dots and the like are answers to questions about signs.

All of them are kept if the instruction has them too. "0" and "42" are no placeholders.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from filters.request import what_is_asked
from filters.stage import Filter
from filters.verdict import Check, first_failure

MAX_PLACEHOLDER_BYTES = 64  # the patterns match nothing longer; longer texts are not tried
_LABEL = r"(?:(?:#+ *|\*+)?(?:the )?(?:answer|output|response|result|solution|assistant|reply|completion|a) ?:\W*)?"
TEMPLATE = (
    rf"(?i)\A\W*{_LABEL}(?:lorem ipsum.*|"
    r"(?:(?:your|the|insert|enter|type|write|add|put)(?: your| the)? )?"
    r"(?:answer|response|text|output|solution|summary|translation)(?: goes)? here|"
    r"(?:your|insert|enter|type|write|add|put)(?: your| the)? (?:answer|response|text|output|solution|summary|name)|"
    r"(?:#+ *|\*+)?(?:the )?(?:answer|output|response|result|solution|assistant|reply|completion|a) ?:|no(?:in|out)put|"
    r"todo: (?:write|add|insert|fill in)(?: the)?(?: answer| response| text)?)\W*\z|"
    rf"\A\s*{_LABEL}(?:[<\[({{|$]+ ?(?:no ?input|no ?output|(?:your |insert |the |enter )?(?:your |the )?"
    r"(?:answer|response|output|text|solution|summary|completion|translation|result|content|title|empty|"
    r"blank|placeholder|name|todo)(?: here)?)"
    r" ?[>\])}|]+|%s)\s*\z"
)
"""What a form or a template leaves."""
VALUE = rf"(?i)\A\W*{_LABEL}(?:nan|null|\[object object\]|(?:(?:n/?a|none|null|nan|undefined)\b\W*){{2,5}})\W*\z"
"""Values of programs."""
UNDEFINED = rf"(?i)\A\W*{_LABEL}undefined\W*\z"
UNFINISHED = rf"(?i)\A\W*{_LABEL}(?:tbd|to be determined|todo|fixme|placeholder)\W*\z"
"""Marks of unfinished work."""
LOST = (
    rf"(?i)\A\s*{_LABEL}(?:[\[<(]+ ?(?:deleted|removed|redacted|censored|hidden|unavailable|missing)(?: by [\w ]+)?"
    r" ?[\])>]+|#(?:REF|VALUE|NULL|NUM|DIV/0)!|#NAME\?|#N/A|(?:coming soon|under construction|to be announced|tba)\W*|"
    r"no (?:response|output|completion|answer|text|content|data|description|information|summary|translation|result)s?"
    r"(?: (?:was |were |is |yet )?(?:provided|available|given|found|generated|specified|yet))|no (?:response|output|"
    r"completion)\W*|\W*(?:no response)\W*|"
    r"(?:the |this )?(?:answer|response|comment|post|message|content|page|image|video|text|question)"
    r"(?: (?:has been|was|is|has|not yet))*(?: not)?(?: been)? (?:deleted|removed|hidden|unavailable|available|pending|"
    r"provided|answered|found)(?: by [\w ]+)?)\W*\z"
)
"""What stands in place of a text that was lost or never written."""
NO_ANSWER = (
    rf"(?i)\A\W*{_LABEL}(?:n/a|n\.a\.|not applicable|not available|unavailable|no answer|no data|no information|"
    r"not provided|not specified|not given)\W*\z"
)
"""There is no answer."""
NONE = r"(?i)\A\W*none\W*\z|\A\s*[-–—?]\s*\z"
# A text of nothing but white space, control characters, characters that are invisible by the Unicode property
# Default_Ignorable_Code_Point (zero-width, directional, fillers, tags, selectors), annotation marks, marks without a
# letter to stand on, the Braille blank and the null notehead.
BLANK = r"\A[\s\p{Cc}\p{DI}\p{M}\x{FFF9}-\x{FFFB}\x{2800}\x{1D159}]*\z"
# A text of nothing but dashes, dots, quotation marks and the like.
FILLER = r"\A[\s.\-_–—…*#|\"'“”‘’`]+\z"
ASKED_VALUE = (
    r"(?i)\b(?:prints?|printed|returns?|returned|keywords?|javascript|js|typescript|typeof|python|java|sql|json|yaml|"
    r"numpy|pandas|excel|c\+\+|rust|golang|ruby|php|variables?|floats?|program|console|interpreter|missing|nothing|"
    r"null|nan|none|na|not applicable|abbreviat\w*|short for|acronym|stands? for)\b|\bgives? ?\?|\w\(|\bn/a\b"
)
"""Questions about programs and missing values."""
ASKED_UNDEFINED = (
    r"(?i)\b(?:slope|tan|tangent|log|logarithm|limit|divid\w*|division|zero|exist\w*|function|defined|undefined|"
    r"values?|"
    r"evaluates?|equals?)\b|/ ?0"
)
"""Questions about values that may not exist."""
ASKED_UNFINISHED = (
    r"(?i)\b(?:abbreviat\w*|short for|acronym|initialism|stands? for|means?|meaning|comments?|comment tags?|keywords?|"
    r"grey text|called|input fields?|announced|scheduled|unfinished|marks? work|tbd|todo|fixme)\b"
)
"""Questions about marks of unfinished work."""
ASKED_TEMPLATE = (
    r"(?i)\b(?:templat\w*|mustache|jinja\w*|handlebars|liquid|django|angular|vue|blade|erb|variables?|interpolat\w*|"
    r"formats?|formatted|printf|directives?|specifiers?|conversions?|placeholders?|tags?|tokens?|syntax|shell|bash|"
    r"strings?|html|xml|markup|elements?|escape\w*|prompt|merge|fields?|curly|braces?|brackets?|macros?|labels?|"
    r"filler)\b"
)
"""Questions about templates and tags."""
ASKED_LOST = (
    r"(?i)\b(?:errors?|excel|spreadsheets?|sheets?|cells?|formulas?|lookup|vlookup|reference|reddit|"
    r"delet\w*|remov\w*|redact\w*|censor\w*|mask\w*|hid(?:e|den)|web ?sites?|web ?pages?|banners?|posters?|launch\w*|"
    r"releas\w*|abbreviat\w*|acronym|stands? for|means?|meaning|shows?|shown|displays?|displayed|translat\w*|"
    r"paraphras\w*)\b"
)
"""Questions about lost texts, pages that are not there yet, and errors of spreadsheets."""
ROOM = (
    r"(?i)\b(?:if|any|none|no|not|nothing|nobody|without|missing|empty|blank|unknown|\w*answerable|available|"
    r"applicable|optional|exist\w*|whether|passage|texts?|article|context|paragraph|review|document|above|below|"
    r"following|given|table|forms?|fields?|columns?|cells?|data|records?|entry|entries|extract|detect|mention\w*|"
    r"stated?|according|abbreviat\w*|short|acronym|stands? for|means?|meaning|initials?|suffix)\b|\w[n’']t\b|\n"
)
"""Instructions that leave room for no answer: they give a text or a form, or say what to do without an answer."""
MIN_ROOM_CHARS = 160
"""Instructions of this length hold a text that may not have the answer."""
NOT_A_QUESTION = (
    r"(?i)\A\W*(?:please )?(?:write|generate|describe|explain|summari[sz]e|tell|compose|continue|rewrite|"
    r"draft|design|"
    r"implement|develop|create|build|discuss|imagine|prepare|produce|paraphrase|outline|edit)\b"
)
NUMBER_OF_THINGS = (
    r"(?i)\A\W*(?:please |can you |could you )?(?:name|list|give|suggest|recommend|propose|provide|make|show|translate|"
    r"think of|come up with)\b(?:[^.?!\n]{0,24}\b(?:two|three|four|five|six|seven|eight|nine|ten|some|several|a few|"
    r"[2-9]|\d\d)\b|[^.?!\n]* (?:to|into) \w+\b)"
)
"""Requests for so many things, and for translations: "none" is no answer to them."""
ASKED_SIGNS = (
    r"(?i)\b(?:morse|punctuation|dash(?:es)?|dots?|periods?|hyphens?|ellipsis|characters?|symbols?|"
    r"operators?|signs?|marks?|quot\w*|strings?|strip\w*|empty|minus|subtract\w*|"
    r"separat\w+|delimit\w+|mask\w*|stars?|asterisks?|lines?|rules?|draw|print|markdown|yaml|comments?|"
    r"director(?:y|ies)|question words?|"
    r"folder|shell|rat(?:e|ing)|hash(?:es)?|headings?|patterns?|regex\w*|underscores?|blanks?|redact\w*|censor\w*|"
    r"decrement|exponent\w*|omission|silence|pause)\b"
)
"""Questions about signs."""


CANDIDATE = "|".join((TEMPLATE, VALUE, UNDEFINED, UNFINISHED, LOST, NO_ANSWER, NONE))


class Placeholder(Filter):
    """Drop records with an empty field, and those whose response is a placeholder."""

    VERSION: ClassVar = 4

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
    result = np.zeros(len(responses), np.bool_)
    candidates = np.asarray(pc.match_substring_regex(responses, CANDIDATE), np.bool_)
    candidates |= np.asarray(_filler(responses), np.bool_)
    rows = np.flatnonzero(candidates)  # few
    left, given = responses.take(pa.array(rows)), instructions.take(pa.array(rows))
    asked = what_is_asked(given)

    def read(texts: pa.StringArray, pattern: str) -> npt.NDArray[np.bool_]:
        return np.asarray(pc.match_substring_regex(texts, pattern), np.bool_)

    request = read(given, NOT_A_QUESTION)
    room = read(given, ROOM) | (np.asarray(pc.utf8_length(given)) >= MIN_ROOM_CHARS)
    signs = read(asked, ASKED_SIGNS)
    # Each kind with what keeps it. A response of two kinds is kept if both are.
    kinds = (
        (read(left, TEMPLATE), read(asked, ASKED_TEMPLATE) & ~request),
        (read(left, VALUE), read(asked, ASKED_VALUE) & ~request),
        (read(left, UNDEFINED), (read(asked, ASKED_VALUE) | read(asked, ASKED_UNDEFINED)) & ~request),
        (read(left, UNFINISHED), read(asked, ASKED_UNFINISHED) & ~request),
        (read(left, LOST), read(asked, ASKED_LOST)),
        (read(left, NO_ANSWER), room & ~request),
        (read(left, NONE), ~(request | read(asked, NUMBER_OF_THINGS)) | room | signs),
        (np.asarray(_filler(left), np.bool_), signs),
    )
    pairs = zip(given.to_pylist(), left.to_pylist(), strict=True)
    quoted = np.fromiter((len(b.strip()) > 1 and b.strip().lower() in a.lower() for a, b in pairs), np.bool_, len(rows))
    result[rows] = ~quoted & np.any([found & ~kept for found, kept in kinds], axis=0)
    return result


def _filler(texts: pa.StringArray) -> pa.BooleanArray:
    """Which texts are filler. One character may be an answer ("-", "*", "#"), but an ellipsis: which character?"""
    long = pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 1)
    return pc.and_(pc.match_substring_regex(texts, FILLER), pc.or_(long, pc.match_substring(texts, "…")))


def _blank(texts: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which texts show nothing to a reader: bool [rows]."""
    blank: npt.NDArray[np.bool_] = pl.Series(texts).str.contains(BLANK).to_numpy()
    return blank
