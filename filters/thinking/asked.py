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
- The instruction asks for code or for a prompt, and what stands before the element is that code or prompt.
- The instruction names the tag, and what the element holds is text of the instruction: an annotation.
- The instruction asks about the tag ("What is <think>?"), and the response is no block: the tag is the subject of a
  sentence, or stands within one.
- Notations without tags (headings, JSON, `<details>`) stay if the instruction names their form.
- Control marks (`<|...|>`, `[THINK]`) stay only if the instruction asks about them. Marks of a turn also stay if it
  speaks of them as marks ("Append <eos> to the sentence"). The family `column` is never asked for.
"""

from __future__ import annotations

import functools
import re

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from filters.text import rows_with
from filters.thinking.families import NOTATIONS, Family

_DOCUMENT = (
    r"(?i)\b(?:x?html5?|xml|svg|rss|markup|annotat\w*|mark(?:ed|s)?[- ]?up|few[- ]shot|prompts?|templates?|schemas?|"
    r"documents?|elements?|screenplay|transcripts?|dialogues?|dialogs?|stor(?:y|ies)|diary|examples?|label(?:l?ed|s)?|"
    r"data ?sets?|snippets?|files?)\b"
)
_TELLS_HOW = (
    r"(?i)\b(?:think|thinking|(?:assistant|model|ai|bot|it|first|then) (?:first )?(?:thinks|reasons)|reason|"
    r"reasoning process|thought process|step[- ]by[- ]step|respond|"
    r"your (?:final )?(?:answer|reasoning|response)|final answer|before (?:you )?answer\w*|solve|solves)\b"
)
_MARKUP = r"(?i)\b(?:x?html5?|xml|svg|rss|markup|annotat\w*|tags?)\b"  # with which the name of an element is enough
_CODE = (
    r"(?i)\b(?:code|coding|scripts?|functions?|program|class|components?|jsx|tsx|react|vue|svelte|angular|aiml|javascript|"
    r"typescript|node|python|java|kotlin|swift|rust|golang|php|ruby|perl|sed|awk|grep|bash|shell|powershell|regex\w*|"
    r"regular expressions?|sql|css|xslt|jinja2?|handlebars|mustache|parser|tokenizer|web ?page|page|app|widget|"
    r"plugin|tests?)\b"
)
# A line as programs have them: a declaration, a call, an element, a template's statement, a command.
_CODE_LINE = (
    r"(?m)^[ \t]*(?:import [\w{*\"'@]|from [\w.]+ import |export \w|(?:const|let|var) \w+ ?[=:]|(?:async )?function\b|"
    r"def \w+\(|class \w+ ?[({:]|"
    r"(?:public|private|static) \w|package [\w.]+;|using [\w.]+;|#!|#include|return\b.*[;({]$|"
    r"<[A-Za-z?!][^<>]*>\s*$|\{\{|\{%|[\w.]+ ?= ?[\w({\[\"'`]|[\w.]+\(.*[);{]$|(?:sed|awk|perl|grep|rg|jq|curl|echo) )"
)
_WRITES_PROMPT = (
    r"(?i)\b(?:write|create|draft|design|compose|make|give|generate|improve|rewrite|build|show|need|want)\b"
    r"[^.?!\n]{0,80}\b(?:prompts?|templates?|system messages?|instructions for)\b"
)
# The text before the first element of a prompt speaks to a model.
_PROMPT_TEXT = (
    r"(?i)\A[^<]*\b(?:you are|you will|your|formats?|prompts?|templates?|respond|reply|answer|instructions?|must|"
    r"always|never|tasks?|below|follow\w*|use)\b"
)
_ABOUT = (
    r"(?i)\b(?:what|which|why|when|where|how|explain|describe|define|meaning|difference|purpose|role|about)\b"
    r"[^.?!:\n]{0,80}"
)
_SUBJECT_OF = (
    r"(?:is|are|was|opens?|closes?|begins?|starts?|ends?|marks?|means?|signals?|denotes?|indicates?|separates?|tells?|"
    r"and|or|tags?|tokens?|blocks?)"
)
_OF_MARKS = (
    r"(?i)\b(?:tokens?|tags?|marks?|markers?|symbols?|append|add|html|chatml|chat templates?|markup|strike\w*|struck)\b"
)
# What a response holds as well if it is a document of such marks, and what asks for one.
_MORE_MARKS = {
    "turn": ("start", r"(?i)\b(?:chatml|chat templates?|(?:special|control) tokens?)\b"),
    "sentence": ("<s>", r"(?i)\b(?:x?html5?|strike\w*|struck|cross(?:ed)?[- ]?out)\b"),
}
_OF_TURNS = frozenset(("turn", "header", "sentence", "harmony", "start"))
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
MIN_QUOTED_BYTES = 8
"""Bytes of the shortest text in an element that counts as the instruction's own."""
MAX_QUOTED_CUTS = 64
"""Elements of one response that are looked for in its instruction, which keeps the time linear."""


@functools.lru_cache(maxsize=256)
def _names(family: Family) -> str | None:
    """The names of a family's elements as a pattern, or None for a family of control tokens."""
    tags = [tag[1:-1] for tag in family.opens if re.fullmatch(r"<[\w:-]{2,}>", tag)]
    if not tags or family.name in ("column", *_OF_TURNS):
        return None
    return "|".join(re.escape(tag).replace("_", "[-_ ]?") for tag in sorted(tags, key=len, reverse=True))


@functools.lru_cache(maxsize=256)
def _tag_of(family: Family) -> str:
    """A pattern for any tag of a family."""
    names, every = _names(family), sorted({*family.opens, *family.closes}, key=len, reverse=True)
    literal = "|".join(map(re.escape, every))
    return rf"(?:(?:<|&lt;)\s*/?\s*(?:{names})\b[^<>\n]{{0,40}}(?:>|&gt;)|{literal})" if names else f"(?:{literal})"


def asked_for(
    families: tuple[Family, ...],
    instructions: pa.StringArray,
    texts: pa.StringArray,
    rest: pa.StringArray,
    rows: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64],
    leads: npt.NDArray[np.bool_],
    first: npt.NDArray[np.bool_],
    contents: pa.StringArray,
) -> npt.NDArray[np.bool_]:
    """Which cuts take out what the instruction asked for: bool [cuts].

    instructions, texts: string [rows]; rest: string [2 * rows - 1], at 2 * row what is behind the cuts that begin a
    text; rows, numbers: int64 [cuts], each cut's row and its place in `families`; leads: bool [cuts], whether nothing
    but other cuts stands before it; first: bool [cuts], whether a block of its row leads; contents: string
    [2 * cuts - 1], at 2 * cut what is between the tags of a block.
    """
    asked = np.zeros(len(rows), np.bool_)
    for number in np.unique(numbers).tolist():
        family = families[number]
        here = np.flatnonzero(numbers == number)
        if family.name in NOTATIONS:
            asked[here] = _matches(instructions.take(pa.array(rows[here])), _ASKS_FORM[family.name])
            continue
        if family.name == "column":
            continue
        # Of each row once: a row may have any number of cuts. Patterns are slow, and looked for only where they count.
        of_rows, place, cuts = np.unique(rows[here], return_inverse=True, return_counts=True)
        said = instructions if len(of_rows) == len(instructions) else instructions.take(pa.array(of_rows))
        names = _names(family)
        if names is None:
            asked[here] = _asks_about_marks(family, said, texts, of_rows)[place]
            continue
        named = _tag_of(family)
        begins, led, inside = np.zeros((3, len(of_rows)), np.bool_)
        begins[place] = first[here]
        led[place[leads[here]]] = True
        # Answers keep or lose both of their tags, wherever these stand.
        inside[place[~leads[here] & ~(first[here] & (family.wraps == "answer"))]] = True
        document, bracket = _matches(said, _DOCUMENT), np.zeros(len(of_rows), np.bool_)
        for less in ("<", "&lt;"):
            bracket[rows_with(said, less)] = True
        tag = _matches(said, f"(?i){named}", bracket)
        word = _matches(said, _MARKUP, bracket | document)
        word = _matches(said, rf"(?i)\b(?:{names})s?\b", word | (document & ~begins))
        by_tag, by_word = document & tag, word & _matches(said, _MARKUP, word)
        tells_how = _tells_how(said, named, tag | by_word)
        nested = _matches(texts, r"^\s*(?:```\w*\s*)?<[\w?!]", document & ~led, of_rows)
        first_block = (by_tag | by_word) & ~tells_how
        within = by_tag | nested | (by_word & document) | ((tag | by_word) & ~tells_how)
        whole = np.where(begins, first_block, within) | (~tells_how & _explains(said, texts, of_rows, named, tag))
        inside &= ~(tag & tells_how)
        behind = _written(said, rest, 2 * of_rows, inside)
        asked[here] = whole[place] | (behind[place] & ~leads[here])
        annotated = np.flatnonzero((tag & (cuts <= MAX_QUOTED_CUTS))[place] & ~asked[here])
        if len(annotated):
            parts = contents.take(pa.array(2 * here[annotated]))
            asked[here[annotated]] = _is_part(parts, said.take(pa.array(place[annotated])))
    return asked


def _asks_about_marks(
    family: Family, said: pa.StringArray, texts: pa.StringArray, of_rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which instructions ask about the control marks of a family, or for them: bool [rows]. They are those of
    `texts[of_rows]`."""
    tag = np.zeros(len(said), np.bool_)
    firsts = {mark[0] for mark in (*family.opens, *family.closes)}
    for begins in ("<",) if "<" in firsts else sorted(firsts):
        tag[rows_with(said, begins)] = True
    named = _tag_of(family)
    tag = _matches(said, f"(?i){named}", tag)
    asked = tag & ~_tells_how(said, named, tag) & _explains(said, texts, of_rows, named, tag)
    if family.name in _OF_TURNS:
        literal, pattern = _MORE_MARKS.get(family.name, _MORE_MARKS["turn"])
        more = np.zeros(len(texts), np.bool_)
        more[rows_with(texts, literal)] = True
        asked |= _matches(said, _OF_MARKS, tag) | _matches(said, pattern, more[of_rows])
    return asked


def _tells_how(said: pa.StringArray, named: str, where: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which instructions tell how to think or answer, beside what is within brackets: bool [rows]."""
    told, rows = np.zeros(len(said), np.bool_), np.flatnonzero(where)
    if len(rows):
        plain = pc.replace_substring_regex(said.take(pa.array(rows)), rf"<[^<>]*>|(?i:{named})", " ")
        told[rows] = _matches(plain, _TELLS_HOW)
    return told


def _written(
    said: pa.StringArray, rest: pa.StringArray, places: npt.NDArray[np.int64], where: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Which instructions ask for a prompt or for code that the response `rest[places]` is: bool [rows]."""
    prompt = _matches(rest, _PROMPT_TEXT, _matches(said, _WRITES_PROMPT, where), places)
    return prompt | _matches(rest, _CODE_LINE, _matches(said, _CODE, where), places)


def _explains(
    said: pa.StringArray,
    texts: pa.StringArray,
    of_rows: npt.NDArray[np.int64],
    named: str,
    where: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Which instructions ask about a tag of a family, so that `texts[of_rows]` speaks of it: bool [rows]."""
    about = _matches(said, _ABOUT + named, where)
    subject = _matches(texts, rf"^\s*(?i:{named})[\"'`*]*\s+{_SUBJECT_OF}\b", about, of_rows)
    block = _matches(texts, rf"(?im)^\s*{named}\s*$|\A\s*{named}|{named}[ \t]*\r?\n\s*\n", about, of_rows)
    return subject | (about & ~block)


def _is_part(contents: pa.StringArray, said: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which contents, trimmed and not too short to tell, stand in the instruction of their row: bool [rows]."""
    frame = pl.DataFrame({"content": pl.Series(contents), "said": pl.Series(said)}).with_columns(
        pl.col("content").str.strip_chars()
    )
    long = pl.col("content").str.len_bytes() >= MIN_QUOTED_BYTES
    return frame.select(long & pl.col("said").str.contains(pl.col("content"), literal=True)).to_series().to_numpy()


def _matches(
    texts: pa.StringArray,
    pattern: str,
    where: npt.NDArray[np.bool_] | None = None,
    places: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.bool_]:
    """Which texts match a pattern: bool [texts]. places: the texts that are meant; where: bool, those that count."""
    if where is None:
        return np.asarray(pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False))
    found, rows = np.zeros(len(where), np.bool_), np.flatnonzero(where)
    if len(rows):  # patterns are compiled for each call
        found[rows] = _matches(texts.take(pa.array(rows if places is None else places[rows])), pattern)
    return found
