"""Truncated: text that stops in the middle.

Only positive evidence counts: a fence, a LaTeX environment, a formula, an element of HTML or a bracket of a program
that is opened and never closed; an item or a row of a table that has begun, or lacks what all others have; an ending
that needs something after it ("and", an opening bracket, a comma); a last sentence without its end, behind others on
its line that have theirs. A missing full stop alone is no evidence: "42" and "the answer is 7" are complete. The comma
behind the closing formula of a letter ("Best,") is none either.

The instruction is read too. It may have opened the fence that the response closes, ask for a mark or for the next word,
or have the same last words.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.kernel import borrowing_kernel, buffers, kernel
from filters.request import keep_asked_for
from filters.stage import Count, Filter
from filters.structure import letters_ratio, open_fences
from filters.text import On, is_letter, is_space, rows_with, text
from filters.verdict import Check, first_failure

KEYWORDS = ("else", "do", "then", "begin", "try")
"""Keywords of programs that something must follow, alone on the last line."""
ENDING = (
    r"(?:[^?!,],|[:=&\\–—{\[，、：；（「『《【“]|[^:;=\-]\(|<(?:/\w*|[A-Za-z]\w*)?|"
    r"<[A-Za-z][\w-]*(?:\s[^<>]*)?\s[\w:-]+=\"[^\"<>]*|"
    r"(?i:\b(?:where|and|or|on|having|when) [\w.()]{1,30} ?[<>])|\n[ \t]*(?:else|do|then|begin|try))\s*\z"
)
"""Marks, keywords of programs and beginnings of elements that something must follow. ":-(", "<3" and "what?," are
complete, and ";" ends code."""
WORD = (
    r"(?i)\b(?:the|an|and|or|but|because|than|their|our|my|your|whose|although|whereas|such as|as well as|"
    r"und|oder|weil|et|mais|parce que|porque|и|или|потому что)\s*\z"
)
LATE_WORD = (
    r"(?i)(?:\s\S+){10}\s+(?:of|from|into|onto|upon|between|among|towards?|during|which|where|when|while|if|is|are|"
    r"was|were|be|been|has|had|can|could|will|would|should|must|may|might|does|every|each|very|its|according to|"
    r"due to)\s*\z"
)
"""Words that seldom end a sentence, behind ten others. Words that may be left alone at its end ("to swim with") are not
among them."""
MIN_LATE_BYTES = 40
NAMED = r"(?i)\b(?:is|are|character|sign|symbol|mark|operator|letter|by|with|word|called|a|an)[ :]+\S{1,2}\s*\z"
"""An ending that names a mark: "the separator is ,"."""
ASKED = (
    r"(?i)\b(?:words?|letters?|symbols?|operators?|signs?|marks?|characters?|separat\w+|delimiters?|punctuation|"
    r"conjunctions?|articles?|pronouns?|prepositions?|determiners?|possessives?|brackets?|commas?|colons?|ampersand|"
    r"parenthes[ie]s|next|prefix|starts?|begins?|opens|opening|title|headline|dash(?:es)?|arrows?|tags?|syntax|"
    r"keyboard|key|emoticons?|emojis?|smileys?|escap\w+)\b"
)
"""Marks and words that the instruction asks for. The answer is then one sentence at most."""
ASKED_OPEN = (
    r"(?i)(?:\A|[.!?:,;\n]\W*|\b(?:please|and|then|now|should|must|is to) )(?:complete|continue|finish|fill)\b|"
    r"\b(?:fill in|blank|missing words?|beginning of|opening (?:line|sentence|words|tag)|first (?:line|words|half)|"
    r"prompt|"
    r"salutation|greeting|top of|unfinished|incomplete|cliffhanger|ascii|draw(?:ing)?|kaomoji|regex\w*|"
    r"regular expressions?|autocomplet\w*)\b|___"
)
"""Texts that are to be left open or continued, and drawings."""
ASKED_CHAT = (
    r"(?i)\b(?:reviews?|dialogues?|dialogs?|conversations?|chats?|tweets?|comments?|posts?|messages?|"
    r"captions?|slogans?|"
    r"advertisements?|ads?)\b"
)
"""Kinds of text whose last sentence often has no mark at its end."""
NAMED_FENCE = r"[^\s`~>][^\n`~]*(?:`{3,}|~{3,})[.'\")]*\s*\z"
UNDERLINE = re.compile(r"~{3,}\s*")
"""A line of tildes below a line of text is a heading of reStructuredText, and no fence."""
ASKED_FENCE = r"(?i)\b(?:backticks?|fences?|fenced|tildes?)\b"
NAMED_BEGIN = r"[`'\"“‘]\\begin\{|\\begin\{[^{}\n]{1,30}\}(?:[.,;:)'\"”’]|`(?:[^`]|\z)| +(?:[a-z]{2,})\b)"
NAMED_END = r"[`'\"“‘]\\end\{"
"""A command of an environment in quotes, or before a mark or a word of prose: "before `\\begin{document}` add ...". An
environment itself may end before a mark and a word."""
_ITEM = r"(?:\d{1,3}[.)]|[-*•])"
ITEM = rf"\n[ \t]*{_ITEM}[ \t]*\z"
FIRST_ITEM = rf"(?m)^[ \t]*{_ITEM}[ \t]+\S"
KEY_ITEM = r":[ \t]*\n[ \t]+-[ \t]*\z"
"""The first item of a list of YAML, without its content."""
OPEN_ITEM = rf"\n[ \t]*{_ITEM}[ \t]+(?:[^\s]+ +){{3,}}[\p{{L}}\p{{M}}'’\-]+\s*\z"
WHOLE_ITEM = rf"(?m)^[ \t]*{_ITEM}[ \t]+[^\n]*[.!?…。！？।؟][*_\"'”’»)]*[ \t]*$"
"""A last item of at least four words without a mark at its end, and items with one."""
LAST_LIST = r"(?P<list>(?:(?:\A|\n)[ \t]*\d{1,3}[.)][ \t][^\n]*\s*)+|(?:(?:\A|\n)[ \t]*[-*•][ \t][^\n]*\s*)+)\z"
"""The items of one kind at the end of a text, with no other lines between them."""
MIN_WHOLE_ITEMS = 2
"""Items with a mark at their end, if the last one is to lack it. Every other item must have one, of the text or of the
last list."""
ROW = r"\|[ \t]*\n[ \t]*\|[^\n]*[^|\s][ \t]*\z"
_END = r"[.!?…]\$?['\"”’»)]*"
_INNER = (
    r"(?:[(\"'“‘«]?(?:\p{L}[\p{L}\p{M}'’\-–—/]*|\$?\d[\d,.]*%?|\$[^$\n]{1,80}\$[\p{L}\-]*)['\"”’»]?\)?[,;:]?['\"”’»]?|"
    r"[-–—&])"
)
_BEFORE = (  # no end of an abbreviation or of an initial, nor the number of an item
    r"(?:[\p{Ll}\p{Lo}]{2}|\d{4}|[\p{Ll}\d][)\"'”’»]|\$|(?:is|are|of|to|by|get|than|be|equals|and) \$?\d{1,3}%?)"
    rf"{_END}"
)
_DISPLAY = r"[.!?]?(?:\\\]|\$\$|\\end\{[a-z]+\*?\})"
"""The end of a displayed formula."""
OPENERS = "The An A My Our His Her Its Their This That In On At When While If As For With Because"
ALONE = f"{OPENERS} I We You He She It They These Those Since Then Thus After Before To By From Also However".split()
"""First words of a sentence, of which one alone is no sentence."""
LAST_SENTENCE = (
    rf"(?:(?:{_BEFORE}|\n[ \t]*```[ \t]*)(?P<gap>\s+)|{_DISPLAY}\s*)"
    rf"(?:\d{{1,2}}[.)] )?(?P<first>\p{{Lu}}[\p{{L}}'’\-]*[,:]?)(?P<words>(?: {_INNER})*)\s*\z"
)
"""The end of a sentence, or of a program in a fence, and the beginning of another sentence, up to the end of the text:
the white space between them, the first word (behind the number of an item), and the words behind it. One pattern for
all numbers of words, because RE2 compiles a copy of the classes of Unicode for each word that must be there, which took
30 ms for each call."""
MIN_WORDS_BEHIND, MIN_WORDS_IN_PARAGRAPH, MIN_WORDS_ALONE = 2, 4, 11
"""Words behind the first of a sentence without its end: one suffices after one of OPENERS; in a new paragraph; and for
one sentence before them to be enough."""
WIDE_SENTENCE = r"。[”」』]?\s*[\p{Han}\p{Hiragana}\p{Katakana}\d，、ー《》（）]{3,}\s*\z"
CASELESS_SENTENCE = r"[\p{Lo}\p{M}][.!?؟۔।]\s+(?P<words>(?:[\p{Lo}\p{M}\d'’\-]+[،,;؛]? ){2,})[\p{Lo}\p{M}]+\s*\z"
"""The same in scripts without capitals that put spaces between words (Hangul, Arabic, Devanagari)."""
CLOSING = (
    r"(?i)\b(?:yours?|regards|sincerely|wishes|love|cheers|thanks?|thank you|see you|learn more|read more|"
    r"click|follow|"
    r"goodbye|bye|the end|xx+|edit(?:ed)? by|solution by)\b|"
    r"\s[-–—~] ?[\p{L}\d_]+(?: [\p{L}\d_]+)?\s*\z"
)
"""Last words of letters and pages, and names behind a dash, which have no full stop."""
FORMULA = re.compile(
    r"\b(?:best|regards|wishes|love|cheers|thanks|thank you|sincerely|faithfully|truly|yours|respectfully|cordially|"
    r"gratefully|warmly|appreciation|hugs|xoxo|take care|gr(?:ü|ue)(?:ß|ss)en?|herzlichst|hochachtungsvoll|dein|deine|"
    r"euer|ihre?|cordialement|salutations|amicalement|amitiés|bisous|bien à (?:vous|toi)|merci|saludos?|"
    r"atentamente|atenciosamente|cordialmente|abrazos?|abraços?|gracias|obrigad[oa]|saluti|groet(?:en)?|"
    r"groetjes|pozdrawiam|poważaniem|hilsen|hälsning(?:ar)?|saygılar\w*|sevgiler\w*)\b|с уважением|всего доброго|"
    r"с наилучшими|искренне|此致|敬上|敬具|谨上",
    re.IGNORECASE,
)
"""Closing formulas of letters, on the last line."""
SALUTATION = re.compile(
    r"\A(?:(?:subject|betreff|objet|asunto)\b[^\n]*\n\s*)?[*_]*\w[^\n.:;?!]{1,40}[,，!][*_]*[ \t]*\n", re.IGNORECASE
)
"""A text that begins as a letter: a short first line that ends in a comma."""
LETTER = re.compile(
    r"\b(?:letters?|e-?mails?|mails?|messages?|notes?|cards?|invit\w+|memos?|reply|replies|briefe?|nachricht|lettre|"
    r"courriel|carta|correo|mensaje|lettera|mensagem|kaart|brief|list)\b|письм|信|手紙|メール|邮件",
    re.IGNORECASE,
)
CONNECTIVE = re.compile(
    r"(?:however|therefore|moreover|furthermore|additionally|finally|lastly|firstly|first|secondly|second|third|then|"
    r"next|also|thus|hence|so|but|and|or|in|on|at|if|when|as|for|to|after|before|because|although|while|since|by|from|"
    r"despite|during|once|meanwhile|unfortunately|fortunately|please|we|i|it|this|that|these|the|a|an|you|my|our|"
    r"he|she|they|there|here|overall|instead|with|without|dear|p\.?s\.?)\b",
    re.IGNORECASE,
)
"""Beginnings of a sentence, which is no closing formula."""
ELEMENT = re.compile(
    r"(?:<!doctype[^>]*>\s*)?<(html|head|body|div|main|section|article|nav|form|table|ul|ol|dl|select|svg|script|"
    r"style)\b"
    r"[^<>]*>\s*\S",
    re.IGNORECASE,
)
"""An element of HTML that must be closed, at the beginning of a text."""
MAX_CLOSING_WORDS = 5
MIN_EQUAL_ROWS = 2
"""Rows of a table with equally many cells, if one with fewer is to be cut off."""
NO_PROGRAM = r"\\[A-Za-z]{2,}|\[asy\]|(?:\A|\n)(?:[^\s][^\n]*)?[)\]}];?\s*\z"
"""Formulas, where half-open intervals are right; a last line that is not indented and ends in a closing bracket."""
MIN_CASELESS_WORDS_ALONE = 6
"""Words of a sentence in such a script, if one sentence before it is to be enough."""
MIN_SENTENCES = 2
"""Sentences that end before the one that does not. Shorter texts of chats and reviews often leave out the last mark."""
MAX_LETTERS_RATIO = 0.75
"""Programs and data have at most this share of their bytes in words of letters; brackets of prose are not counted.
Only texts with a brace are counted at all: unpaired round brackets are typing errors in formulas."""
MIN_DOLLARS = 5
"""Dollars in a text that has commands of LaTeX, if a number behind the last one is to be a formula and no money."""
ENDED = re.compile(r"[.!?。！？][\"'”’»)]*\s+\S")
"""The end of a sentence before another."""
MIN_WIDE = 12
"""Characters of scripts without spaces that make a text long enough to be judged by its ending."""
QUOTED_WORDS = 5
"""Last words of a response that the instruction must have, if the response is to be a part of it that was asked for."""
_LETTERS = np.frombuffer(string.ascii_letters.encode(), np.uint8)
_TAIL_CHARS = 120  # of the end, in which endings and words are looked for
_SENTENCE_CHARS = 400  # of the end, in which an open sentence is looked for


class Truncated(Filter):
    """Drop texts that stop in the middle.

    min_words: the endings of texts with fewer words (in their last 120 characters) are not judged. Short answers may
    well be "the" or "a, b,".
    """

    VERSION: ClassVar = 5

    kind: Literal["truncated"] = "truncated"
    on: On = "response"
    min_words: Count = 5

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `open_code` (the value is the line of the fence, from 1), `open_environment` (how many more
        environments begin than end), `open_formula`, `open_element`, `open_bracket` (how many more brackets open
        than close), `open_item`, `open_ending`, `dangling_word`, `open_sentence` (1: it is there).
        """
        texts = text(records, self.on)
        fences = self._fences(records, texts)
        code = keep_asked_for(fences > 0, records, ASKED_FENCE, self.on)
        elements = self._not_asked(_open_elements(texts), records, texts)
        environments = _environments(texts, "begin", NAMED_BEGIN) - _environments(texts, "end", NAMED_END)
        formulas, brackets = _formulas(texts), _brackets(texts)
        tail = pc.utf8_slice_codeunits(texts, -_TAIL_CHARS)
        last, sizes = _last_bytes(*buffers(texts))
        in_word = (last >= 128) | np.isin(last, _LETTERS)
        listed = np.isin(last, _bytes(".)-*")) | (last >= 128)
        item = _matches(tail, np.flatnonzero(listed), ITEM)
        item &= _matches(texts, np.flatnonzero(item), FIRST_ITEM)
        item |= _matches(tail, np.flatnonzero(last == 45), KEY_ITEM)
        item |= _open_items(texts, np.flatnonzero(in_word)) | _open_rows(texts, tail)
        keyword = np.any([np.asarray(pc.ends_with(tail, name)) for name in KEYWORDS], axis=0)
        marked = np.flatnonzero(keyword | (last >= 128) | np.isin(last, _bytes(",:=&\\{[(<>")))
        marked = np.union1d(marked, rows_with(tail, "<"))
        ending, word = _matches(tail, marked, ENDING), _matches(tail, np.flatnonzero(in_word), WORD)
        word |= _matches(tail, np.flatnonzero(in_word & ~word & (sizes >= MIN_LATE_BYTES)), LATE_WORD)
        judged = np.flatnonzero(ending | word)
        enough = _words(tail.take(pa.array(judged))) >= self.min_words
        ending[judged] &= enough
        word[judged] &= enough
        ending &= ~_matches(tail, np.flatnonzero(ending), NAMED)
        ending &= ~_closings(as_array(records["instruction"]), texts, np.flatnonzero(ending))
        ending, word = (self._not_asked(failed, records, texts) for failed in (ending, word))
        sentence = self._not_asked(_open_sentences(texts, (sizes >= 60) & (in_word | (last == 44))), records, texts)
        sentence = keep_asked_for(sentence, records, ASKED_CHAT, self.on)
        return first_failure(
            [
                Check("open_code", code, fences, 0),
                Check("open_environment", environments > 0, environments, 0),
                Check("open_formula", formulas, formulas, 1),
                Check("open_element", elements, elements, 1),
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
        # Backticks with nothing behind them, after text on their line, are named: "write three backticks: ```".
        result[rows] *= ~_matches(texts.take(pa.array(rows)), np.flatnonzero(result[rows]), NAMED_FENCE)
        for row in np.flatnonzero(result).tolist():  # few
            lines = texts[row].as_py().split("\n")[: result[row]]
            result[row] *= not (UNDERLINE.fullmatch(lines[-1]) and "".join(lines[-2:-1]).strip())
        if self.on == "response":  # the instruction may have opened it
            rows = np.flatnonzero(result)
            result[rows] *= open_fences(text(records, "both").take(pa.array(rows))) > 0
        return result

    def _not_asked(
        self, failed: npt.NDArray[np.bool_], records: pa.Table, texts: pa.StringArray
    ) -> npt.NDArray[np.bool_]:
        """`failed` without the rows whose instruction asks for such an ending, or has its last words."""
        if self.on != "response" or not failed.any():
            return failed
        failed = keep_asked_for(failed, records, ASKED_OPEN, self.on)
        mark = failed & ~keep_asked_for(failed, records, ASKED, self.on)
        rows = np.flatnonzero(failed)
        pairs = (as_array(column).take(pa.array(rows)).to_pylist() for column in (records["instruction"], texts))
        for row, instruction, response in zip(rows, *pairs, strict=True):  # few
            named = mark[row] and ENDED.search(response.strip()) is None
            repeated = _is_quoted(response[-_TAIL_CHARS:].split(), " ".join(instruction.split()))
            failed[row] = not (named or repeated)
        return failed


def _is_quoted(words: Sequence[str], instruction: str) -> bool:
    """Whether the instruction has the last words of a response, QUOTED_WORDS of them, or two at the end of a part."""
    last, two = (re.escape(" ".join(words[-count:])) for count in (QUOTED_WORDS, 2))
    return re.search(rf"{last}|{two}(?:\Z|[\"'”’»)*_<|]|\.\.|…)", instruction) is not None


def _bytes(characters: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(characters.encode("ascii"), np.uint8)


def _matches(texts: pa.StringArray, rows: npt.NDArray[np.int64], pattern: str) -> npt.NDArray[np.bool_]:
    """Where `pattern` matches, tried only in `rows` [n]: bool [rows]."""
    result = np.zeros(len(texts), np.bool_)
    if not len(rows):  # a pattern is compiled for each call
        return result
    result[rows] = np.asarray(pc.match_substring_regex(texts.take(pa.array(rows)), pattern), np.bool_)
    return result


def _words(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """Words between white space, int64 [rows]; MIN_WIDE characters of scripts without spaces count as MIN_WIDE."""
    words = np.asarray(pc.count_substring_regex(texts, r"\S+")).astype(np.int64)
    wide = np.asarray(pc.count_substring_regex(texts, r"[\p{Han}\p{Hiragana}\p{Katakana}]"))
    return np.where(wide >= MIN_WIDE, np.maximum(words, wide), words)


def _open_items(texts: pa.StringArray, judged: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which of the rows `judged` [n] end in an item without a mark at its end, unlike all others: bool [rows]."""
    result = np.zeros(len(texts), np.bool_)
    rows = judged[np.isin(judged, rows_with(texts, "\n"))]
    tail = pc.utf8_slice_codeunits(texts.take(pa.array(rows)), -_SENTENCE_CHARS)
    rows = rows[_matches(tail, np.arange(len(rows)), OPEN_ITEM)]
    if not len(rows):
        return result
    candidates = texts.take(pa.array(rows))
    last_list = pc.fill_null(pc.struct_field(pc.extract_regex(candidates, LAST_LIST), "list"), "")
    for lists in (candidates, last_list):
        items, whole = (np.asarray(pc.count_substring_regex(lists, pattern)) for pattern in (FIRST_ITEM, WHOLE_ITEM))
        result[rows] |= (whole >= MIN_WHOLE_ITEMS) & (whole == items - 1)
    return result


def _open_rows(texts: pa.StringArray, tail: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which texts end in a row of a table that has begun, or has fewer cells than those above it: bool [rows]."""
    rows = rows_with(tail, "|")
    result = _matches(tail, rows, ROW)
    ended = np.flatnonzero(_matches(tail, rows, r"\n[ \t]*\|[^\n]*\|\s*\z"))
    for row, whole in zip(ended, texts.take(pa.array(ended)).to_pylist(), strict=True):  # few
        cells = [line.replace("\\|", "").count("|") for line in whole.rstrip().split("\n")]
        is_rule = not whole.rstrip().rsplit("\n", 1)[-1].strip("|-: \t")
        above = cells[-2 : -2 - (1 if is_rule else MIN_EQUAL_ROWS) : -1]
        result[row] = len(set(above)) == 1 and cells[-1] < above[0] and (is_rule or len(above) == MIN_EQUAL_ROWS)
    return result


def _open_elements(texts: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Which documents and fragments of HTML end within their first element: bool [rows]."""
    result = np.zeros(len(texts), np.bool_)
    rows = np.flatnonzero(np.asarray(pc.starts_with(texts, "<")))
    for row, whole in zip(rows, texts.take(pa.array(rows)).to_pylist(), strict=True):  # few
        first = ELEMENT.match(whole)
        if first is None:
            continue
        name = re.escape(first[1])
        opens = len(re.findall(rf"<{name}\b[^>]*(?<!/)>", whole, re.IGNORECASE))
        closes = len(re.findall(rf"</{name}\s*>", whole, re.IGNORECASE))
        ends = re.search(rf"</{name}\s*>\W*\Z", whole, re.IGNORECASE)
        result[row] = opens > closes and not ends
    return result


def _closings(
    instructions: pa.StringArray, texts: pa.StringArray, judged: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which of the rows `judged` [n] end in the closing formula of a letter, whose name is left open: bool [rows]."""
    result = np.zeros(len(texts), np.bool_)
    rows = pa.array(judged)
    pairs = zip(judged, instructions.take(rows).to_pylist(), texts.take(rows).to_pylist(), strict=True)
    for row, instruction, whole in pairs:  # few
        head, _, line = whole.rstrip().rpartition("\n")
        line = line.strip(" \t*_>")
        if not head.strip() or not line.endswith((",", "，")):
            continue
        alone = head.rstrip()[-1] in '.!?…)。！？*_"”' and len(line.split()) <= MAX_CLOSING_WORDS and line[0].isupper()
        letter = SALUTATION.search(whole) or LETTER.search(instruction)
        result[row] = FORMULA.search(line) or (alone and letter and not CONNECTIVE.match(line))
    return result


def _environments(texts: pa.StringArray, command: str, named: str) -> npt.NDArray[np.int64]:
    """How often a command of an environment stands in each text, and is not only named, int64 [rows]."""
    return _count(texts, r"\begin{", rf"\\{command}\{{") - _count(texts, r"\begin{", named)


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
    letters = pc.utf8_slice_codeunits(tail, -1)
    caseless = _matches(letters, np.arange(len(rows)), r"[\p{Hangul}\p{Arabic}\p{Hebrew}\p{Devanagari}\p{Bengali}]")
    caseless = _matches(tail, np.flatnonzero(caseless), CASELESS_SENTENCE)
    found = np.flatnonzero(latin | wide | caseless)
    taken = candidates.take(pa.array(found))
    ends = np.asarray(pc.count_substring_regex(taken, rf"{_END}(?:\s|\z)|{_DISPLAY}|[。؟۔।]"))
    alone = words[found] >= MIN_WORDS_ALONE
    if caseless.any():
        last = pc.struct_field(pc.extract_regex(taken, CASELESS_SENTENCE), "words")
        alone |= np.asarray(pc.fill_null(pc.count_substring(last, " "), 0)) >= MIN_CASELESS_WORDS_ALONE
    result[rows[found]] = (ends >= MIN_SENTENCES) | alone
    return result


def _last_sentences(texts: pa.StringArray) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Which texts end in a sentence without its end, behind another: bool [rows]; and the words of the last sentence
    behind its first, int64 [rows], where it begins with a capital letter, else 0."""
    parts = pc.extract_regex(texts, LAST_SENTENCE)
    gap, first, rest = (pc.fill_null(pc.struct_field(parts, name), "") for name in ("gap", "first", "words"))
    words = np.asarray(pc.count_substring(rest, " ")).astype(np.int64)
    new_paragraph = np.asarray(pc.match_substring(gap, "\n"))
    same_line = np.asarray(pc.equal(pc.utf8_trim(gap, " \t"), ""))  # and behind a displayed formula
    opened = (words == 1) & np.asarray(pc.is_in(first, value_set=pa.array(OPENERS.split())))
    new_paragraph &= ~np.asarray(pc.match_substring(pc.binary_join_element_wise(first, rest, ""), ":"))
    opened |= (words == 0) & np.asarray(pc.is_in(first, value_set=pa.array(ALONE)))
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
        display, double, inline, opened, before, commands, display_at = 0, 0, 0, at, at, 0, at
        is_money = False  # formulas stand in `\(` and `\)`, or prose stands between two dollars
        while at < end:
            byte = data[at]
            if byte == 92:  # a backslash and what it escapes
                if at + 1 < end:
                    if data[at + 1] == 91:
                        display += 1
                        display_at = at + 2
                    display -= data[at + 1] == 93
                    is_money |= data[at + 1] == 40
                    commands += is_letter(data[at + 1]) and at + 2 < end and is_letter(data[at + 2])
                at += 2
                continue
            if byte == 36:
                if at + 1 < end and data[at + 1] == 36:
                    double += 1
                    at += 2
                    before, opened = opened, at
                    continue
                inline += 1
                if inline % 2 == 0 and at > opened and not is_money:
                    _, words, signs, _ = _formula_marks(data, opened, at, commands)
                    is_money = words > 0 or signs > 0 or (data[at - 1] == 32 and data[opened] != 32)
                before, opened = opened, at + 1
            at += 1
        if display > 0:
            # `\\[` is also a bracket of a regular expression: what follows is then prose, quoted, or nothing.
            marks, words, signs, digits = _formula_marks(data, display_at, end, commands)
            result[row] = words == 0 and signs == 0 and (marks > 0 or digits or display_at - offsets[row] > 40)
        elif inline % 2 == 1 or double % 2 == 1:
            # A dollar may be money, begin a variable of a shell, or be a stray one. What follows the last one must look
            # like a formula: a command, a power or an operator at the end, on one line, no quotes or pipes, no word
            # behind another. Where nothing follows, what is before it must not.
            last = end
            while last > opened and is_space(data[last - 1]):
                last -= 1
            if last <= opened:
                width = 2 if double % 2 == 1 else 1
                _, words, _, _ = _formula_marks(data, before, opened - width, commands)
                result[row] = commands > 0 and words > 0
                continue
            marks, words, signs, digits = _formula_marks(data, opened, end, commands)
            byte = data[last - 1]
            operator = byte == 61 or byte == 43 or byte == 45 or byte == 40 or byte == 94
            if operator and _is_number(data, opened, last - 1):  # "$20+"
                operator = False
            first = data[opened]
            named = is_letter(first) and opened + 1 < end and (is_letter(data[opened + 1]) or data[opened + 1] == 95)
            shell = named or first == 123 or (first == 40 and double == 0 and marks == 0)
            number = digits and commands > 0 and inline >= MIN_DOLLARS and not is_money
            result[row] = words == 0 and signs == 0 and not shell and (marks > 0 or operator or number)
    return result


@borrowing_kernel
def _is_number(data, begin, end):  # type: ignore[no-untyped-def]
    """Whether data[begin:end] is digits, points and commas."""
    for at in range(begin, end):
        if not (48 <= data[at] <= 57 or data[at] == 44 or data[at] == 46):
            return False
    return begin < end


@borrowing_kernel
def _formula_marks(data, begin, end, commands):  # type: ignore[no-untyped-def]
    """What tells a formula from prose and programs: marks of formulas; words behind words, outside of braces; signs of
    programs and ends of lines; and whether it is a number."""
    marks, words, signs, letters, depth, digits, others = 0, 0, 0, 0, 0, 0, 0
    for at in range(begin, end):
        byte = data[at]
        if 48 <= byte <= 57:
            digits += 1
        elif byte != 46 and byte != 44:
            others += 1
        marks += byte == 92 or byte == 94 or (byte == 61 and commands > 0)
        depth += byte == 123
        depth -= byte == 125
        signs += byte == 34 or byte == 39 or byte == 124 or byte == 59 or byte == 96 or byte == 10
        if is_letter(byte):
            letters += 1
        else:
            behind = at > letters + begin and data[at - letters - 1] == 32
            words += depth <= 0 and letters >= 3 and byte == 32 and behind
            letters = 0
    return marks, words, signs, digits > 0 and others == 0


@borrowing_kernel
def _closes(data, at, end, quote):  # type: ignore[no-untyped-def]
    """Whether the line at `at` has an odd number of `quote`, so that it ends a string that was open before it."""
    quotes = 0
    while at < end and data[at] != 10:
        if data[at] == 92:
            at += 1
        elif data[at] == quote:
            quotes += 1
        at += 1
    return quotes % 2 == 1


@borrowing_kernel
def _is_closed(data, at, end, quote):  # type: ignore[no-untyped-def]
    """Whether a string that begins before `at` ends with its line, or on the next. Else its quote is a mark of
    prose."""
    while at < end and data[at] != 10:
        if data[at] == quote:
            return True
        at += 2 if data[at] == 92 else 1
    return _closes(data, at + 1, end, quote)


@borrowing_kernel
def _is_apostrophe(data, begin, at):  # type: ignore[no-untyped-def]
    """Whether the byte at `at` is an apostrophe behind a letter or digit, and no quote behind the prefix of a string:
    `b'`, `f'`, `r'`, `u'`."""
    if data[at] != 39 or at == begin:
        return False
    byte = data[at - 1]
    if not (is_letter(byte) or 48 <= byte <= 57 or byte >= 128):
        return False
    lower = byte | 32
    prefix = lower == 98 or lower == 102 or lower == 114 or lower == 117
    return not prefix or (at - 1 > begin and (is_letter(data[at - 2]) or data[at - 2] >= 128))


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
                if quote > 0 and not _closes(data, at + 1, end, quote):
                    quote = np.uint8(0)
            elif quote > 0:
                if byte == quote:
                    quote = np.uint8(0)
            elif byte == 34 or byte == 39 or byte == 96:
                if not _is_apostrophe(data, offsets[row], at) and _is_closed(data, at + 1, end, byte):
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
