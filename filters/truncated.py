"""Truncated: text that stops in the middle.

Only positive evidence counts: a fence, a LaTeX environment, a formula or a bracket of a program that is opened and
never closed; an item or a row of a table that has begun; an ending that needs something after it ("and", an opening
bracket, a comma); a last sentence without its end, behind others on its line that have theirs. A missing full stop
alone is no evidence: "42" and "the answer is 7" are complete.

The instruction is read too. It may have opened the fence that the response closes, ask for a mark or for the next word,
or end in the same words.
"""

from __future__ import annotations

import string
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.kernel import buffers, kernel
from filters.request import keep_asked_for
from filters.stage import Count, Filter
from filters.structure import letters_ratio, open_fences
from filters.text import On, is_letter, is_space, rows_with, text
from filters.verdict import Check, first_failure

ENDING = r"(?:[,:=&\\–—{\[]|[^:;=\-]\(|<(?:/\w*|[A-Za-z]\w*)?)\s*\z"  # ":-(" and "<3" are complete, and ";" ends code
WORD = (
    r"(?i)\b(?:the|an|and|or|but|because|than|their|our|my|your|whose|although|whereas|such as|as well as|"
    r"und|oder|weil|et|mais|parce que|porque|и|или|потому что)\s*\z"
)
NAMED = r"(?i)\b(?:is|are|character|sign|symbol|mark|operator|letter|by|with|word|called|a|an)[ :]+\S{1,2}\s*\z"
"""An ending that names a mark: "the separator is ,"."""
ASKED = (
    r"(?i)\b(?:words?|letters?|symbols?|operators?|signs?|marks?|characters?|separat\w+|delimiters?|punctuation|"
    r"conjunctions?|articles?|pronouns?|prepositions?|determiners?|possessives?|brackets?|commas?|colons?|ampersand|"
    r"parenthes[ie]s|next|complete|continue|finish|fill|blank|missing|prefix|beginning|starts?|begins?|opens|opening|"
    r"prompt|title|headline|salutation|greeting|dash(?:es)?|arrows?|tags?|syntax|keyboard|key)\b|___"
)
"""Marks and words that the instruction asks for, or a text that is to be left open."""
ASKED_CHAT = (
    r"(?i)\b(?:reviews?|dialogues?|dialogs?|conversations?|chats?|tweets?|comments?|posts?|messages?|"
    r"captions?|slogans?|"
    r"advertisements?|ads?)\b"
)
"""Kinds of text whose last sentence often has no mark at its end."""
ASKED_FENCE = r"(?i)\b(?:backticks?|fences?|fenced|tildes?)\b"
ITEM = r"\n[ \t]*(?:\d{1,3}[.)]|[-*•])[ \t]*\z"
FIRST_ITEM = r"(?m)^[ \t]*(?:\d{1,3}[.)]|[-*•])[ \t]+\S"
ROW = r"\|[ \t]*\n[ \t]*\|[^\n]*[^|\s][ \t]*\z"
_END = r"[.!?…]['\"”’»)]*"
_INNER = r"[\p{L}\p{M}'’\-]+[,;]?['\"”’»]?"
_BEFORE = (
    rf"(?:[\p{{Ll}}\p{{Lo}}]{{2}}|\d{{4}}|[\p{{Ll}}\d][)\"”’»]){_END}"  # no end of an abbreviation or of an initial
)
OPENERS = "The An A My Our His Her Its Their This That In On At When While If As For With Because"
LAST_SENTENCE = rf"{_BEFORE}(?P<gap>\s+)(?P<first>\p{{Lu}}[\p{{L}}'’\-]*,?)(?P<words>(?: {_INNER})*)\s*\z"
"""The end of a sentence and the beginning of another, up to the end of the text: the white space between them, the
first word, and the words behind it. One pattern for all numbers of words, because RE2 compiles a copy of the classes of
Unicode for each word that must be there, which took 30 ms for each call."""
MIN_WORDS_BEHIND, MIN_WORDS_IN_PARAGRAPH, MIN_WORDS_ALONE = 2, 4, 11
"""Words behind the first of a sentence without its end: one suffices after one of OPENERS; in a new paragraph; and for
one sentence before them to be enough."""
WIDE_SENTENCE = r"。[”」』]?\s*[\p{Han}\p{Hiragana}\p{Katakana}，、]{3,}\s*\z"
CLOSING = (
    r"(?i)\b(?:yours?|regards|sincerely|wishes|love|cheers|thanks?|thank you|see you|learn more|read more|"
    r"click|follow|"
    r"goodbye|bye|the end|xx+)\b"
)
"""Last words of letters and pages, which have no full stop."""
NO_PROGRAM = r"\\[A-Za-z]{2,}|\[asy\]|[)\]}];?\s*\z"
"""Formulas, where half-open intervals are right; texts that end in a closing bracket."""
MIN_SENTENCES = 2
"""Sentences that end before the one that does not. Shorter texts of chats and reviews often leave out the last mark."""
MAX_LETTERS_RATIO = 0.75
"""Programs and data have at most this share of their bytes in words of letters; brackets of prose are not counted.
Only texts with a brace are counted at all: unpaired round brackets are typing errors in formulas."""
_LETTERS = np.frombuffer(string.ascii_letters.encode(), np.uint8)
_TAIL_CHARS = 120  # of the end, in which endings and words are looked for
_SENTENCE_CHARS = 400  # of the end, in which an open sentence is looked for


class Truncated(Filter):
    """Drop texts that stop in the middle.

    min_words: the endings of texts with fewer words (in their last 120 characters) are not judged. Short answers may
    well be "the" or "a, b,".
    """

    VERSION: ClassVar = 2

    kind: Literal["truncated"] = "truncated"
    on: On = "response"
    min_words: Count = 5

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `open_code` (the value is the line of the fence, from 1), `open_environment` (how many more
        environments begin than end), `open_formula`, `open_bracket` (how many more brackets open than close),
        `open_item`, `open_ending`, `dangling_word`, `open_sentence` (1: it is there).
        """
        texts = text(records, self.on)
        fences = self._fences(records, texts)
        code = keep_asked_for(fences > 0, records, ASKED_FENCE, self.on)
        environments = _count(texts, r"\begin{", r"\\begin\{") - _count(texts, r"\begin{", r"\\end\{")
        formulas, brackets = _formulas(texts), _brackets(texts)
        tail = pc.utf8_slice_codeunits(texts, -_TAIL_CHARS)
        last, sizes = _last_bytes(*buffers(texts))
        in_word = (last >= 128) | np.isin(last, _LETTERS)
        listed = np.isin(last, _bytes(".)-*")) | (last >= 128)
        item = _matches(tail, np.flatnonzero(listed), ITEM)
        item &= _matches(texts, np.flatnonzero(item), FIRST_ITEM)
        item |= _matches(tail, rows_with(tail, "|"), ROW)
        marked = np.union1d(np.flatnonzero((last >= 128) | np.isin(last, _bytes(",:=&\\{[(<"))), rows_with(tail, "<"))
        ending, word = _matches(tail, marked, ENDING), _matches(tail, np.flatnonzero(in_word), WORD)
        judged = np.flatnonzero(ending | word)
        enough = np.asarray(pc.count_substring_regex(tail.take(pa.array(judged)), r"\S+")) >= self.min_words
        ending[judged] &= enough
        word[judged] &= enough
        ending &= ~_matches(tail, np.flatnonzero(ending), NAMED)
        ending, word = (self._not_asked(failed, records, texts) for failed in (ending, word))
        sentence = self._not_asked(_open_sentences(texts, (sizes >= 60) & (in_word | (last == 44))), records, texts)
        sentence = keep_asked_for(sentence, records, ASKED_CHAT, self.on)
        return first_failure(
            [
                Check("open_code", code, fences, 0),
                Check("open_environment", environments > 0, environments, 0),
                Check("open_formula", formulas, formulas, 1),
                Check("open_bracket", brackets > 0, brackets, 0),
                Check("open_item", item, item, 1),
                Check("open_ending", ending, ending, 1),
                Check("dangling_word", word, word, 1),
                Check("open_sentence", sentence, sentence, 1),
            ]
        )

    def _fences(self, records: pa.Table, texts: pa.StringArray) -> npt.NDArray[np.int64]:
        """The line of the fence that stays open, or 0: int64 [rows]."""
        result = np.zeros(len(texts), np.int64)
        rows = np.union1d(rows_with(texts, "```"), rows_with(texts, "~~~"))
        result[rows] = open_fences(texts.take(pa.array(rows)))
        if self.on == "response":  # the instruction may have opened it
            rows = np.flatnonzero(result)
            result[rows] *= open_fences(text(records, "both").take(pa.array(rows))) > 0
        return result

    def _not_asked(
        self, failed: npt.NDArray[np.bool_], records: pa.Table, texts: pa.StringArray
    ) -> npt.NDArray[np.bool_]:
        """`failed` without the rows whose instruction asks for such an ending, or ends in the same two words."""
        failed = keep_asked_for(failed, records, ASKED, self.on)
        if self.on != "response" or not failed.any():
            return failed
        failed = failed.copy()
        rows = np.flatnonzero(failed)
        pairs = (as_array(column).take(pa.array(rows)).to_pylist() for column in (records["instruction"], texts))
        for row, instruction, response in zip(rows, *pairs, strict=True):  # few
            failed[row] = " ".join(response[-_TAIL_CHARS:].split()[-2:]) not in " ".join(instruction.split())
        return failed


def _bytes(characters: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(characters.encode("ascii"), np.uint8)


def _matches(texts: pa.StringArray, rows: npt.NDArray[np.int64], pattern: str) -> npt.NDArray[np.bool_]:
    """Where `pattern` matches, tried only in `rows` [n]: bool [rows]."""
    result = np.zeros(len(texts), np.bool_)
    if not len(rows):  # a pattern is compiled for each call
        return result
    result[rows] = np.asarray(pc.match_substring_regex(texts.take(pa.array(rows)), pattern), np.bool_)
    return result


def _count(texts: pa.StringArray, literal: str, pattern: str) -> npt.NDArray[np.int64]:
    """Matches of `pattern`, int64 [rows], counted only in texts with `literal`."""
    counts = np.zeros(len(texts), np.int64)
    rows = rows_with(texts, literal)
    if not len(rows):
        return counts
    counts[rows] = np.asarray(pc.count_substring_regex(texts.take(pa.array(rows)), pattern))
    return counts


def _open_sentences(texts: pa.StringArray, judged: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which of the texts `judged` end in a sentence without its end, behind others with theirs: bool [rows]."""
    result = np.zeros(len(texts), np.bool_)
    rows = np.flatnonzero(judged)
    if not len(rows):
        return result
    candidates = texts.take(pa.array(rows))
    tail = pc.utf8_slice_codeunits(candidates, -_SENTENCE_CHARS)
    latin, words = _last_sentences(tail)
    wide = _matches(tail, rows_with(tail, "。"), WIDE_SENTENCE)
    latin &= ~_matches(pc.utf8_slice_codeunits(tail, -40), np.flatnonzero(latin), CLOSING)
    found = np.flatnonzero(latin | wide)
    ends = np.asarray(pc.count_substring_regex(candidates.take(pa.array(found)), rf"{_END}(?:\s|\z)|。"))
    result[rows[found]] = (ends >= MIN_SENTENCES) | (words[found] >= MIN_WORDS_ALONE)
    return result


def _last_sentences(texts: pa.StringArray) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Which texts end in a sentence without its end, behind another: bool [rows]; and the words of the last sentence
    behind its first, int64 [rows], where it begins with a capital letter, else 0."""
    parts = pc.extract_regex(texts, LAST_SENTENCE)
    gap, first, rest = (pc.fill_null(pc.struct_field(parts, name), "") for name in ("gap", "first", "words"))
    words = np.asarray(pc.count_substring(rest, " ")).astype(np.int64)
    new_paragraph = np.asarray(pc.match_substring(gap, "\n"))
    same_line = np.asarray(pc.and_(pc.equal(pc.utf8_trim(gap, " \t"), ""), pc.not_equal(gap, "")))
    opened = (words == 1) & np.asarray(pc.is_in(first, value_set=pa.array(OPENERS.split())))
    is_open = same_line & ((words >= MIN_WORDS_BEHIND) | opened) | new_paragraph & (words >= MIN_WORDS_IN_PARAGRAPH)
    return is_open, words


def _formulas(texts: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which texts end within a formula: bool [rows]."""
    result = np.zeros(len(texts), np.bool_)
    rows = np.union1d(rows_with(texts, "$"), rows_with(texts, "\\"))
    result[rows] = _open_formulas(*buffers(texts.take(pa.array(rows))))
    return result


def _brackets(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """How many more brackets of one kind open than close, in programs and data: int64 [rows]."""
    result = np.zeros(len(texts), np.int64)
    rows = rows_with(texts, "{")
    if not len(rows):
        return result
    candidates = texts.take(pa.array(rows))
    net = _open_brackets(*buffers(candidates))
    net[letters_ratio(candidates) > MAX_LETTERS_RATIO] = 0
    found = np.flatnonzero(net)
    net[_matches(candidates, found, NO_PROGRAM)] = 0
    result[rows] = net
    return result


@kernel
def _last_bytes(data, offsets):  # type: ignore[no-untyped-def]
    """The last byte of each text that is no white space (0: there is none), and the bytes up to it: [rows] each."""
    rows = len(offsets) - 1
    last, sizes = np.zeros(rows, np.uint8), np.zeros(rows, np.int64)
    for row in range(rows):
        begin, end = offsets[row], offsets[row + 1]
        while end > begin and is_space(data[end - 1]):
            end -= 1
        sizes[row] = end - begin
        if end > begin:
            last[row] = data[end - 1]
    return last, sizes


@kernel
def _open_formulas(data, offsets):  # type: ignore[no-untyped-def]
    rows = len(offsets) - 1
    result = np.zeros(rows, np.bool_)
    for row in range(rows):
        at, end = offsets[row], offsets[row + 1]
        display, double, inline, opened, commands = 0, 0, 0, at, 0
        while at < end:
            byte = data[at]
            if byte == 92:  # a backslash and what it escapes
                if at + 1 < end:
                    display += data[at + 1] == 91
                    display -= data[at + 1] == 93
                    commands += is_letter(data[at + 1]) and at + 2 < end and is_letter(data[at + 2])
                at += 2
                continue
            if byte == 36:
                if at + 1 < end and data[at + 1] == 36:
                    double += 1
                    at += 2
                    opened = at
                    continue
                inline += 1
                opened = at + 1
            at += 1
        if display > 0:
            result[row] = True
        elif inline % 2 == 1 or double % 2 == 1:
            # A dollar may be money or begin a variable of a shell. What follows the last one must look like a formula:
            # a command, a power or an operator at the end, on one line, no quotes or pipes, no word behind another.
            marks, words, letters = 0, 0, 0
            for i in range(opened, end):
                byte = data[i]
                marks += byte == 92 or byte == 94 or (byte == 61 and commands > 0)
                words += byte == 34 or byte == 39 or byte == 124 or byte == 59 or byte == 96 or byte == 10
                if is_letter(byte):
                    letters += 1
                else:
                    words += letters >= 3 and byte == 32 and data[i - letters - 1] == 32
                    letters = 0
            last = end
            while last > opened and is_space(data[last - 1]):
                last -= 1
            byte = data[last - 1] if last > opened else np.uint8(0)
            operator = byte == 61 or byte == 43 or byte == 45 or byte == 42 or byte == 40 or byte == 94
            first = data[opened] if opened < end else np.uint8(0)
            named = is_letter(first) and opened + 1 < end and (is_letter(data[opened + 1]) or data[opened + 1] == 95)
            shell = named or first == 123 or (first == 40 and double == 0 and marks == 0)
            result[row] = words == 0 and not shell and (marks > 0 or operator or (last <= opened and commands > 0))
    return result


@kernel
def _open_brackets(data, offsets):  # type: ignore[no-untyped-def]
    rows = len(offsets) - 1
    result = np.zeros(rows, np.int64)
    for row in range(rows):
        at, end = offsets[row], offsets[row + 1]
        round_, square, curly = 0, 0, 0
        quote = np.uint8(0)
        while at < end:
            byte = data[at]
            if byte == 92:
                at += 2
                continue
            if byte == 10:
                quote = np.uint8(0)
            elif quote > 0:
                if byte == quote:
                    quote = np.uint8(0)
            elif byte == 34 or byte == 39 or byte == 96:  # strings end with their line
                quote = byte
            elif byte == 40:
                round_ += 1
            elif byte == 41:
                round_ -= 1
            elif byte == 91:
                square += 1
            elif byte == 93:
                square -= 1
            elif byte == 123:
                curly += 1
            elif byte == 125:
                curly -= 1
            at += 1
        result[row] = max(0, round_) + max(0, square) + max(0, curly)
    return result
