"""Signatures: what an author adds below an answer in a forum or in a mail.

A signature tells who wrote a text, and teaches a model to end with names. Removed are only forms that are certain, at
the end of a response and below some text:

- `~name`, as on Art of Problem Solving, on a line of its own or behind a formula or a full stop,
- `- name` beside such a line,
- an e-mail address with a name behind it, or below a formula,
- "Solution by ...", "Edited by ..." on a line of its own,
- "Sent from my phone" and the like,
- the delimiter of RFC 3676 (`-- ` alone on a line) with at most four short lines below it,
- "Best regards," and a name, unless the instruction asks for a letter, or the response is one.

Several at the end are removed one after another.
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa

from dedup.columns import as_array
from filters.stage import Transform, with_texts

TAIL_CHARS = 250
"""Characters of the end that are read."""

_HINTS = [
    "~", "@", "sent from my", "get outlook for", "\n-- \n", "\n--\n", "olution by", "dited by", "osted by",
    "nswered by", "aTeX by", "aTeXed by", "iagram by", "egards", "incerely", "est wishes", "heers", "faithfully",
    "yours truly",
]  # fmt: skip

_END = r"[ \t]*\Z"
# Where a signature may begin: on a new line, or behind a formula or the end of a sentence.
_BREAK = r"(?:\s*\n[ \t]*|(?<=[.!?$\])}])[ \t]*)"
# A user's name: one word, or several with capitals; what it did, and a page of its own.
_HANDLE = r"[a-z][\w.'-]{0,30}"
_USER = rf"{_HANDLE}(?: (?-i:[A-Z])[\w.'-]{{0,30}}){{0,3}}~?"
_NOTE = r"(?: ?\([^()\n]{1,90}\)| (?:@ )?(?:https?://|www\.)\S+)?"
_MAIL = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
_WORK = r"(?:video )?solution|(?:minor )?edit(?:s|ed)?|diagrams?|image|latex(?:ed)?|posted|answered"
_FORMS = (
    rf"{_BREAK}~ ?(?:(?:{_WORK}) by )?{_USER}(?:(?:, ?| ?& ?| and ) ?~? ?{_USER}){{0,3}}{_NOTE}{_END}",
    rf"{_BREAK}{_MAIL}, ?{_HANDLE}{_END}",
    rf"(?:(?<=[$\])}}])|(?<=[$\])}}]\.))\s*{_MAIL}{_END}",
    rf"\s*\n[ \t]*[(\[-]?[ ]?(?:{_WORK}) by:? [^\n]{{1,60}}{_END}",
    rf"\s*\n[ \t]*(?:sent from my [\w ]{{2,30}}|get outlook for \w+)\.?{_END}",
)
_SIGNATURE = re.compile("|".join(f"(?:{form})" for form in _FORMS), re.IGNORECASE)
# "- name" is a bullet, unless another signature stands beside it.
_NAME_LINE = re.compile(rf"\s*\n[ \t]*[-–—] ?{_HANDLE}-?{_END}", re.IGNORECASE)
_DELIMITED = re.compile(r"\s*\n--[ ]?\n(?:[A-Z][^\n;{}=]{0,60}\n?)(?:[^\n;{}=]{1,60}\n?){0,3}\Z")
_CLOSING = re.compile(
    r"\s*\n[ \t]*(?:(?:with )?(?:best|kind(?:est)?|warm(?:est)?|many) (?:regards|wishes)|regards|cheers|"
    r"sincerely(?: yours)?|yours (?:sincerely|truly|faithfully))(?:,[ ]?|[ ]?\n|,?\s*\n)[ \t]*"
    r"(?-i:[A-Z\[])[^\n]{0,60}(?:\n[^\n]{1,60}){0,3}\s*\Z",
    re.IGNORECASE,
)
# A letter, or a part that is played, was asked for with its ending.
_LETTER = re.compile(
    r"\b(?:letters?|e-?mails?|mails?|messages?|notes?|invitation|memo|speech|cover|apolog\w*|complain\w*|thank\w*|request|"
    r"write|compose|draft|reply|respond|rewrite|edit|proofread|translat\w*|summar\w*|continue|complete|act as|role|"
    r"pretend|imagine|persona|signature|template|regards|sincerely|you are)\b",
    re.IGNORECASE,
)
_SALUTATION = re.compile(
    r"\A\W*(?:dear|hi|hello|hey|to whom|good (?:morning|afternoon|evening)|subject:|greetings)\b", re.IGNORECASE
)


class StripSignature(Transform):
    """Remove signatures from the ends of responses."""

    kind: Literal["strip_signature"] = "strip_signature"

    def rewrite(self, records: pa.Table) -> pa.Table:
        """Rewrite `response`, and `digest` where there is one. A response of nothing but a signature is unchanged."""
        responses = as_array(records["response"])
        tails = pl.Series(responses).str.tail(TAIL_CHARS)
        rows = np.flatnonzero(tails.str.contains_any(_HINTS, ascii_case_insensitive=True).to_numpy())
        few = (as_array(records[name]).take(pa.array(rows)).to_pylist() for name in ("instruction", "response"))
        stripped = [strip(instruction, response) for instruction, response in zip(*few, strict=True)]
        return with_texts(records, {"response": (rows, stripped)})


def strip(instruction: str, response: str) -> str:
    """The response without the signatures at its end."""
    letter = bool(_LETTER.search(instruction) or _SALUTATION.search(response))
    text = response
    while True:
        start = _find(text, letter)
        rest = text[:start].rstrip()
        # A text of nothing but a signature is none, and an end within code looks alike (`~mask`).
        if start == len(text) or not rest or rest.count("```") % 2:
            return text
        text = rest


def _find(text: str, letter: bool) -> int:
    """Where the last signature of `text` starts, in characters; its length if there is none."""
    head = max(0, len(text) - TAIL_CHARS)
    tail = text[head:]
    match = _SIGNATURE.search(tail)
    if match is None and not letter:
        match = _CLOSING.search(tail) or _DELIMITED.search(tail)
    if match is None:
        line = _NAME_LINE.search(tail)
        match = _SIGNATURE.search(tail[: line.start()]) if line else None
    return head + match.start() if match else len(text)
