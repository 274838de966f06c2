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

from filters.thinking.families import NOTATIONS, Family

_DOCUMENT = (
    r"(?i)\b(?:x?html5?|xml|svg|rss|markup|annotat\w*|mark(?:ed|s)?[- ]?up|few[- ]shot|prompts?|templates?|schemas?|"
    r"documents?|elements?|screenplay|transcripts?|dialogues?|dialogs?|stor(?:y|ies)|diary|examples?|label(?:l?ed|s)?|"
    r"data ?sets?|snippets?|files?)\b"
)
_TELLS_HOW = (
    r"(?i)\b(?:think|thinking|(?:assistant|model|ai|bot|it|first|then) (?:first )?(?:thinks|reasons)|reason|reasoning process|thought process|step[- ]by[- ]step|respond|"
    r"your (?:final )?(?:answer|reasoning|response)|final answer|before (?:you )?answer\w*|solve|solves)\b"
)
_MARKUP = r"(?i)\b(?:x?html5?|xml|svg|rss|markup|annotat\w*|tags?)\b"  # with which the name of an element is enough
_CODE = (
    r"(?i)\b(?:code|coding|scripts?|functions?|program|class|components?|jsx|tsx|react|vue|svelte|angular|aiml|javascript|"
    r"typescript|node|python|java|kotlin|swift|rust|golang|php|ruby|perl|sed|awk|grep|bash|shell|powershell|regex\w*|"
    r"regular expressions?|sql|css|xslt|jinja2?|handlebars|mustache|parser|tokenizer|web ?page|page|app|widget|plugin|tests?)\b"
)
# A line as programs have them: a declaration, a call, an element, a template's statement, a command.
_CODE_LINE = (
    r"(?m)^[ \t]*(?:import [\w{*\"'@]|from [\w.]+ import |export \w|(?:const|let|var) \w+ ?[=:]|(?:async )?function\b|"
    r"def \w+\(|class \w+ ?[({:]|(?:public|private|static) \w|package [\w.]+;|using [\w.]+;|#!|#include|return\b.*[;({]$|"
    r"<[A-Za-z?!][^<>]*>\s*$|\{\{|\{%|[\w.]+ ?= ?[\w({\[\"'`]|[\w.]+\(.*[);{]$|(?:sed|awk|perl|grep|rg|jq|curl|echo) )"
)
_WRITES_PROMPT = (
    r"(?i)\b(?:write|create|draft|design|compose|make|give|generate|improve|rewrite|build|show|need|want)\b[^.?!\n]{0,80}"
    r"\b(?:prompts?|templates?|system messages?|instructions for)\b"
)
_ABOUT = r"(?i)\b(?:what|which|why|when|where|how|explain|describe|define|meaning|difference|purpose|role|about)\b[^.?!:\n]{0,80}"
_SUBJECT_OF = (
    r"(?:is|are|was|opens?|closes?|begins?|starts?|ends?|marks?|means?|signals?|denotes?|indicates?|separates?|tells?|"
    r"and|or|tags?|tokens?|blocks?)"
)
_OF_MARKS = r"(?i)\b(?:tokens?|tags?|marks?|markers?|symbols?|append|add|html|chatml|chat templates?|markup|strike\w*|struck)\b"
_SPEAKS_OF = dict.fromkeys(("turn", "header", "harmony", "start"), r"(?i)\b(?:chatml|chat templates?|(?:special|control) tokens?)\b")
_SPEAKS_OF["sentence"] = r"(?i)\b(?:x?html5?|strike\w*|struck|cross(?:ed)?[- ]?out)\b"
_OF_TURNS = frozenset(_SPEAKS_OF)
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
_HINT = "|".join(("<|&lt;|think\\]|◁", *(p.removeprefix("(?i)") for p in (_DOCUMENT, _CODE, _OF_MARKS))))
MIN_QUOTED_BYTES = 8
"""Bytes of the shortest text in an element that counts as the instruction's own."""
MAX_QUOTED_CUTS = 64
"""Elements of one response that are looked for in its instruction. It keeps the time linear in the size of hostile text."""


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
    rows: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64],
    leads: npt.NDArray[np.bool_],
    first: npt.NDArray[np.bool_],
    contents: pa.StringArray,
) -> npt.NDArray[np.bool_]:
    """Which cuts take out what the instruction asked for: bool [cuts].

    instructions, texts: string [rows]; rows, numbers: int64 [cuts], each cut's row and its place in `families`; leads:
    bool [cuts], whether nothing but other cuts stands before it; first: bool [cuts], whether a block of its row leads;
    contents: string [cuts], what is between the tags of each block.
    """
    asked = np.zeros(len(rows), np.bool_)
    for number in np.unique(numbers).tolist():
        family = families[number]
        here = np.flatnonzero(numbers == number)
        if family.name in NOTATIONS:
            asked[here] = _matches(instructions.take(pa.array(rows[here])), _ASKS_FORM[family.name])
            continue
        # Of each row once: a row may have any number of cuts.
        of_rows, place, cuts = np.unique(rows[here], return_inverse=True, return_counts=True)
        said = instructions.take(pa.array(of_rows))
        hinted = np.flatnonzero(_matches(said, f"(?i){_HINT}"))
        if family.name == "column" or not len(hinted):
            continue
        said, answers = said.take(pa.array(hinted)), texts.take(pa.array(of_rows[hinted]))
        begun = np.zeros(len(of_rows), np.bool_)
        begun[place] = first[here]
        begins = begun[hinted]
        named = f"(?i){_tag_of(family)}"
        tag = _matches(said, named)
        tells_how = _matches(pc.replace_substring_regex(said, rf"<[^<>]*>|{named}", " "), _TELLS_HOW)
        whole = tag & ~tells_how & _explains(said, answers, family)
        behind = np.zeros(len(hinted), np.bool_)
        if family.name in _OF_TURNS:
            whole |= (tag & _matches(said, _OF_MARKS)) | _matches(said, _SPEAKS_OF[family.name])
        names = _names(family)
        if names is not None:
            document = _matches(said, _DOCUMENT)
            word = _matches(said, rf"(?i)\b(?:{names})s?\b")
            nested = _matches(answers, r"^\s*(?:```\w*\s*)?<[\w?!]")
            by_tag, by_word = document & tag, _matches(said, _MARKUP) & word
            first_block = (by_tag | by_word) & ~tells_how
            within = by_tag | (document & nested) | (by_word & document) | ((tag | by_word) & ~tells_how)
            whole |= np.where(begins, first_block, within)
            behind = _matches(said, _WRITES_PROMPT) | (_matches(said, _CODE) & _matches(answers, _CODE_LINE))
            # Answers keep or lose both of their tags, wherever these stand.
            behind &= ~(tag & tells_how) & ~(begins & (family.wraps == "answer"))
        of_row = np.full(len(of_rows), -1)
        of_row[hinted] = np.arange(len(hinted))
        row = of_row[place]
        known = row >= 0
        asked[here[known]] = whole[row[known]] | (behind[row[known]] & ~leads[here[known]])
        if names is not None and tag.any():
            known[known] = tag[row[known]] & (cuts[place[known]] <= MAX_QUOTED_CUTS)
            asked[here[known]] |= _is_part(contents.take(pa.array(here[known])), said.take(pa.array(row[known])))
    return asked


def _explains(said: pa.StringArray, answers: pa.StringArray, family: Family) -> npt.NDArray[np.bool_]:
    """Whether an instruction asks about a tag of the family, and the answer speaks of it: bool [rows]."""
    about = np.flatnonzero(_matches(said, _ABOUT + _tag_of(family)))
    explains = np.zeros(len(said), np.bool_)
    answers = answers.take(pa.array(about))
    subject = _matches(answers, rf"^\s*(?i:{_tag_of(family)})[\"'`*]*\s+{_SUBJECT_OF}\b")
    block = _matches(answers, rf"(?im)^\s*{_tag_of(family)}\s*$|\A\s*{_tag_of(family)}|{_tag_of(family)}[ \t]*\r?\n\s*\n")
    explains[about] = subject | ~block
    return explains


def _is_part(contents: pa.StringArray, said: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which contents, trimmed and not too short to tell, stand in the instruction of their row: bool [rows]."""
    frame = pl.DataFrame({"content": pl.Series(contents), "said": pl.Series(said)}).with_columns(
        pl.col("content").str.strip_chars()
    )
    long = pl.col("content").str.len_bytes() >= MIN_QUOTED_BYTES
    return frame.select(long & pl.col("said").str.contains(pl.col("content"), literal=True)).to_series().to_numpy()


def _matches(texts: pa.StringArray, pattern: str) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False))
