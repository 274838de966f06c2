"""Which elements did the instruction ask for? An XML document or a prompt template may have elements called thought,
reasoning or answer. They are no reasoning of the model.

Two kinds of instruction name such elements. One asks for a text that has them ("Annotate the dialogue with <thought>
tags"): they stay. The other tells the model how to think ("reason inside <think>, then answer in <answer>"): what it
asks for is reasoning, and goes. The rules, for each cut:

- The instruction asks for a document (XML, a template, annotations) and names the element, as a tag or, where it asks
  for markup, as a word; or it asks for a document, and the response is one in which the element is nested.
- It does not tell the model how to think or answer. Where it does that and asks for a document as well, the response
  decides: reasoning comes first, an element of a document stands inside it.
- Without a word of a document, a response that begins with the block is reasoning.
- Notations without tags (headings, JSON, `<details>`) stay if the instruction names their form.

Control tokens (`<|...|>`) and the family `column` are never asked for.
"""

from __future__ import annotations

import functools
import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.thinking.families import NOTATIONS, Family

_DOCUMENT = (
    r"(?i)\b(?:x?html5?|xml|svg|rss|markup|annotat\w*|mark(?:ed|s)?[- ]?up|few[- ]shot|prompts?|templates?|schemas?|"
    r"documents?|elements?|screenplay|transcripts?|dialogues?|dialogs?|stor(?:y|ies)|diary|examples?|label(?:l?ed|s)?|"
    r"data ?sets?|snippets?|files?)\b"
)
_TELLS_HOW = (
    r"(?i)\b(?:think|thinks|thinking|reason|reasons|reasoning process|thought process|step[- ]by[- ]step|respond|"
    r"your (?:final )?(?:answer|reasoning|response)|final answer|before (?:you )?answer\w*|solve|solves)\b"
)
_MARKUP = r"(?i)\b(?:x?html5?|xml|svg|rss|markup|annotat\w*|tags?)\b"  # with which the name of an element is enough
_KINDS = r"(?:thinking|thoughts?|reasoning|rationale)"
_ASKS_FORM = {
    "phrase": r"(?i)\bthought process\b",
    "heading": (
        rf"(?i)\b(?:sections?|headings?|headed)\b[^.?!]*\b{_KINDS}\b|\b{_KINDS}\b[^.?!]*\b(?:sections?|headings?)\b"
    ),
    "word": r"(?i)\b(?:thoughts?|analysis|words?|tense|nouns?|verbs?|synonyms?|defin\w+|spell\w*|translat\w+)\b",
    "details": r"(?i)<details|\bcollaps\w+|\bhtml\b|\bspoiler",
    "comment": r"(?i)<!--|\bhtml\b|\bxml\b",
    "json": rf"(?i)\bjson\b|[\"'`]{_KINDS}[\"'`]",
}
_HINT = f"<|&lt;|{_DOCUMENT.removeprefix('(?i)')}"


@functools.lru_cache(maxsize=256)
def _names(family: Family) -> str | None:
    """The names of a family's elements as a pattern, or None for a family of control tokens."""
    tags = [tag[1:-1] for tag in family.opens if re.fullmatch(r"<[\w:-]+>", tag)]
    if not tags or family.name == "column":
        return None
    return "|".join(re.escape(tag).replace("_", "[-_ ]?") for tag in sorted(tags, key=len, reverse=True))


def asked_for(
    families: tuple[Family, ...],
    instructions: pa.StringArray,
    texts: pa.StringArray,
    rows: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64],
    first: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Which cuts take out what the instruction asked for: bool [cuts].

    instructions, texts: string [rows]; rows, numbers: int64 [cuts], each cut's row and its place in `families`; first:
    bool [cuts], whether the first block of its row begins the text.
    """
    asked = np.zeros(len(rows), np.bool_)
    for number in np.unique(numbers).tolist():
        family = families[number]
        here = np.flatnonzero(numbers == number)
        if family.name in NOTATIONS:
            asked[here] = _matches(instructions.take(pa.array(rows[here])), _ASKS_FORM[family.name])
            continue
        names = _names(family)
        if names is None:
            continue
        of_rows, place = np.unique(rows[here], return_inverse=True)
        said = instructions.take(pa.array(of_rows))
        hinted = np.flatnonzero(_matches(said, f"(?i){_HINT}"))
        if not len(hinted):
            continue
        said = said.take(pa.array(hinted))
        document = _matches(said, _DOCUMENT)
        tag = _matches(said, rf"(?i)(?:<|&lt;)\s*/?\s*(?:{names})\b")
        word = _matches(said, rf"(?i)\b(?:{names})s?\b")
        without_tags = pc.replace_substring_regex(said, r"<[^<>]*>", " ")
        tells_how = _matches(without_tags, _TELLS_HOW)
        nested = _matches(texts.take(pa.array(of_rows[hinted])), r"^\s*(?:```\w*\s*)?<[\w?!]")
        begins = np.zeros(len(of_rows), np.bool_)
        begins[place] = first[here]
        begins = begins[hinted]
        by_tag, by_word = document & tag, _matches(said, _MARKUP) & word
        first_block = (by_tag | by_word) & ~tells_how
        within = by_tag | (document & nested) | (by_word & document) | ((tag | by_word) & ~tells_how)
        of_row = np.zeros(len(of_rows), np.bool_)
        of_row[hinted] = np.where(begins, first_block, within)
        asked[here] = of_row[place]
    return asked


def _matches(texts: pa.StringArray, pattern: str) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False))
