"""Loop: degenerate texts, in which a model says the same thing again and again.

Three measures. Words: a unit of up to MAX_UNIT_WORDS words that follows itself, anywhere in the text. Items: lines that
begin with a digit and are equal but for their digits ("1. Fact number 1 is that ...", "1. Apple"). Tail: the last
TAIL_BYTES bytes, whatever they consist of (digits, CJK, characters without spaces), whose smallest period is found by
the failure function of Knuth, Morris and Pratt. In all, the unit must repeat often and the repetition must be long,
since tables, code and verse repeat a little.

Repetition may be the answer. A repetition is kept

- if the instruction asks for it ("Write ha 100 times", "Give 1/3 to 150 decimal places", "Print a 16x16 board"); a song
  may repeat VERSE_FACTOR times as often;
- if the instruction holds a program and asks for its output, and the unit is in that program or is not prose;
- if it is a short line and the instruction asks for one label or answer for each of many;
- if its unit is not prose (digits, formulas, code) and the text ends behind it within brackets, a formula, an
  environment, a fence or a table: a matrix, a list of zeros, a sum of equal terms.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from dedup.columns import as_array
from dedup.hashing import FNV_BASIS, fnv1a
from dedup.kernel import borrowing_kernel, buffers, kernel
from filters.request import MAX_STATEMENT_CHARS, VERSE, what_is_asked
from filters.stage import Count, Filter
from filters.structure import letters_ratio, open_fences
from filters.text import On, is_letter, is_space, text
from filters.verdict import Check, first_failure

MAX_UNIT_WORDS = 48
"""Words of the longest unit that is looked for, about three sentences. The time grows with it."""
TAIL_BYTES = 8192
"""Bytes at the end of a text in which a repeating tail is looked for. A model that loops does so to the end."""
VERSE_FACTOR = 3
"""How many times as often as elsewhere a unit may follow itself in a song."""
MAX_VERSE_BYTES = 80
"""Bytes of such a unit at most: a line of verse."""
MIN_ITEMS = 10
"""Items that are equal but for their digits, at least."""
MIN_ITEM_WORDS = 5
"""Words of letters in such an item, which are also four fifths of its words: a multiplication table is none. Fewer
suffice behind the number of a list ("1. "), if nothing else is in the item."""
MIN_ITEM_BYTES = 4
"""Bytes behind the number of such an item, more than an answer of one letter has."""
MIN_DATA_RATIO = 1 / 3
"""Share of a text that digits, signs or cells that were asked for take. A loop behind an answer is none of them."""
MAX_LABEL_WORDS = 5
"""Words of a line that may be a label."""
_PROBE_BYTES = 8
"""Bytes at the end that must occur once more before the tail is searched. They rule out nearly every text."""
_NUMBER = (
    r"(?:\d[\d,]*|one|two|three|four|five|six|seven|eight|nine|ten|twelve|dozen|twenty|thirty|forty|fifty|"
    r"sixty|seventy|"
    r"eighty|ninety|hundred|thousand|million|n|several|many)"
)
ASKED = (
    r"(?i)\brepeat(?:ed|ing|edly|s)?\b|\brepetiti\w+|over and over|again and again|non-?stop|on a loop|"
    r"\b(?:write|say|type|print|give|show|draw|output|generate|create|make|produce|display|start|fill|list|"
    r"build|return|"
    r"echo|put|concatenate|multiply|chant|sing|expand|compute|calculate|schreibe?|écris|escribe|"
    r"напиши)\b[^?!\n]{0,80}?"
    rf"\b{_NUMBER}[- ]?(?:\w+ )?(?:times|x\b|copies|repetitions|lines|rows|columns|cells|digits|characters|letters|"
    rf"symbols|bits|"
    r"bytes|decimals?|places|zero(?:e?s)?|ones|dots|dashes|stars|spaces|asterisks|underscores|mal|fois|veces|раз)|"
    r"[写重说].{0,20}[遍次]"
)
"""A repetition that the instruction asks for."""
ASKED_DATA = (
    r"(?i)\d ?(?:x|×|\*|by) ?\d|\b(?:matri(?:x|ces)|grids?|boards?|tables?|decimals?|digits?|binary|hex\w*|"
    r"patterns?|ascii|pixels?|bitmaps?|zero(?:e?s)?|dashes|dots|stars|asterisks|separators?|rulers?|horizontal rule|"
    r"power of|factorial|googol|array|rows? of|"
    r"unary|tally|poly-?[acgtu]|nucleotides?|dna|rna|homopolymer|"
    r"progress bar|checkerboard|maze|map|tabelle)\b|矩阵|表格|小数"
)
"""Digits, signs and cells that the instruction asks for, with or without their number."""


PROGRAM = (
    r"(?i)\b(?:print\w*|echo|puts|cout|console\.log|write(?:line|ln)?|disp(?:lay)?|repeat|rep|replicate|join|fill)\s*"
    r"(?:\(|<<|[\"'])|[\"']\s*\*\s*\d|\d\s*\*\s*[\"']|\.times\b"
)
"""A program that prints or repeats."""
OUTPUT = (
    r"(?i)\b(?:what|outputs?|results?|predict|evaluates?|execut\w+|run(?:s|ning)?|trace|simulate|interpreter|terminal|"
    r"value|ausgabe|sortie|salida)\b|输出|出力|вывод"
)
"""A question about what it prints."""
ASKED_LABELS = (
    r"(?i)\b(?:answers|questions|labels?|label(?:ed|ing|led|ling)|classif\w*|true|false|sentiments?|categori[sz]e|"
    r"quiz|grades?|per line|for each|each of|respectively)\b|(?:\n[^\n]*){10}"
)
"""A label or an answer for each of many."""
_LITERAL = re.compile(rb"(?:null|none|nil|nan|true|false|undefined|void)(?![a-z])|[^a-z\x80-\xff]", re.IGNORECASE)


class Loop(Filter):
    """Drop texts in which a unit repeats without anything between.

    min_repeats: how often the unit must follow itself. min_bytes: bytes that the repetition must span.
    """

    VERSION: ClassVar = 3

    kind: Literal["loop"] = "loop"
    on: On = "response"
    min_repeats: int = Field(default=6, ge=2)
    min_bytes: Count = 120

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `repeated_words`, `repeated_items`, `repeated_tail`. The value is how often the unit occurs."""
        texts = text(records, self.on)
        instructions = as_array(records["instruction"]) if self.on == "response" else None
        limits = (self.min_repeats, max(self.min_repeats, MIN_ITEMS), self.min_repeats)
        reasons = ("repeated_words", "repeated_items", "repeated_tail")
        checks = []
        for reason, limit, runs in zip(reasons, limits, measure(texts, self.min_repeats, self.min_bytes), strict=True):
            failed = runs.repeats >= limit
            rows = np.flatnonzero(failed)  # few: each is judged by what is around it
            numbered = reason == "repeated_items"
            for row, kept in zip(rows, _kept(texts, instructions, rows, runs, limit, numbered), strict=True):
                failed[row] = not kept
            checks.append(Check(reason, failed, runs.repeats, limit))
        return first_failure(checks)


class Runs(NamedTuple):
    """The longest repetition of each text. repeats: how often its unit occurs, float64 [rows], 1 if there is none;
    begin, end: the bytes of the text that it takes; unit: those of the unit, int64 [rows]."""

    repeats: npt.NDArray[np.float64]
    begin: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    unit: npt.NDArray[np.int64]


def measure(texts: pa.StringArray, min_repeats: int, min_bytes: int) -> tuple[Runs, Runs, Runs]:
    """Where a unit follows itself: of words, anywhere; of lines but for their digits; of bytes, at the end.

    Repetitions of less than `min_repeats` units, or that span less than `min_bytes` bytes, are none.
    """
    repeats, places = _measure(*buffers(texts), min_repeats, min_bytes)
    words, items, tail = (Runs(repeats[i], *places[i]) for i in range(3))
    return words, items, tail


def _kept(
    texts: pa.StringArray,
    instructions: pa.StringArray | None,
    rows: npt.NDArray[np.int64],
    runs: Runs,
    limit: int,
    numbered: bool,
) -> list[bool]:
    """Which repetitions in `rows` are kept: bool [len(rows)]. numbered: the units are lines without their line feed."""
    if not len(rows):
        return []
    taken = pa.array(rows)
    bodies = [body.encode() for body in texts.take(taken).to_pylist()]
    places = list(zip(*(column[rows].tolist() for column in (runs.begin, runs.end, runs.unit)), strict=True))
    units = [body[begin : begin + unit] for body, (begin, _, unit) in zip(bodies, places, strict=True)]
    prose = letters_ratio(pa.array([unit.decode(errors="ignore") for unit in units], pa.string())) >= 0.5
    prose &= np.array([bool(_LITERAL.sub(b"", unit)) for unit in units], np.bool_)
    heads = [body[:begin].decode(errors="ignore") for body, (begin, _, _) in zip(bodies, places, strict=True)]
    fenced = open_fences(pa.array(heads, pa.string())) > 0
    rests = [body[end:].strip() for body, (_, end, _) in zip(bodies, places, strict=True)]
    if instructions is None:
        asked = asked_data = verse = program = labels = [False] * len(rows)
        prompts = pa.array([""] * len(rows))
    else:
        prompts = instructions.take(taken)
        asks = what_is_asked(prompts, MAX_STATEMENT_CHARS)
        asked, asked_data, verse, program, output, labels = (
            pc.match_substring_regex(read, pattern).to_pylist()
            for read, pattern in (
                (asks, ASKED),
                (asks, ASKED_DATA),
                (asks, VERSE),
                (prompts, PROGRAM),
                (asks, OUTPUT),
                (prompts, ASKED_LABELS),
            )
        )
        program = [a and b for a, b in zip(program, output, strict=True)]
    kept = []
    for i, (head, prompt) in enumerate(zip(heads, prompts.to_pylist(), strict=True)):
        # A unit that is cut off at the end of the text is a part of the repetition.
        goes_on = len(rests[i]) >= max(1, len(units[i].strip())) or not units[i].strip().startswith(rests[i])
        within = bool(fenced[i]) or _is_within(head)
        line = len(units[i]) <= MAX_VERSE_BYTES
        in_song = verse[i] and line and runs.repeats[rows[i]] < VERSE_FACTOR * limit
        fills = places[i][1] - places[i][0] >= MIN_DATA_RATIO * len(bodies[i])
        run_of_signs = not prose[i] or len(units[i].split()) == len(units[i].strip()) == 1
        printed = program[i] and (run_of_signs or units[i].decode(errors="ignore").strip() in prompt)
        label = labels[i] and b"\n" in units[i] + b"\n" * numbered and len(units[i].split()) <= MAX_LABEL_WORDS
        kept.append(
            asked[i]
            or in_song
            or printed
            or label
            or (run_of_signs and asked_data[i] and (fills or within or b"|" in units[i]))
            or (not prose[i] and goes_on and within)
        )
    return kept


def _is_within(head: str) -> bool:
    """Whether a text is in brackets, in a formula, in an environment or in a row of a table at its end."""
    line = head.rsplit("\n", 1)[-1]
    pairs = (("(", ")"), ("[", "]"), ("{", "}"), ("\\begin", "\\end"))
    return (
        any(head.count(opening) > head.count(closing) for opening, closing in pairs)
        or head.replace("\\$", "").count("$") % 2 == 1
        or line.lstrip().startswith("|")
    )


@borrowing_kernel
def _hash_words(data, begin, end, words, ends):  # type: ignore[no-untyped-def]
    """Write the hashes of the words of data[begin:end] to `words` and their ends to `ends`. Returns their number.

    ends: bytes from `begin`.
    """
    count, at = 0, begin
    while at < end:
        while at < end and is_space(data[at]):
            at += 1
        if at == end:
            break
        state = FNV_BASIS
        while at < end and not is_space(data[at]):
            state = fnv1a(state, data[at])
            at += 1
        words[count], ends[count] = state, at - begin
        count += 1
    return count


@borrowing_kernel
def _longest_run(words, count, unit, least):  # type: ignore[no-untyped-def]
    """The longest run of words that each equal the word `unit` places before: (its words, its last word's place).

    Runs of fewer than `least` words do not count. A longer one covers one of every `least` places, so only those are
    looked at until one matches, and then the run around it is measured.
    """
    best, last, at = 0, 0, unit + least - 1
    while at < count:
        if words[at] != words[at - unit]:
            at += least
            continue
        first, stop = at, at
        while first > unit and words[first - 1] == words[first - 1 - unit]:
            first -= 1
        while stop + 1 < count and words[stop + 1] == words[stop + 1 - unit]:
            stop += 1
        if stop - first + 1 > best:
            best, last = stop - first + 1, stop
        at = stop + least
    return best, last


@borrowing_kernel
def _repeated_words(words, ends, count, min_repeats, min_bytes, place):  # type: ignore[no-untyped-def]
    """How often a unit of words follows itself, for the unit with the most repeats.

    Writes to `place` where the repetition begins and ends, and the end of its first unit.
    """
    most = 1.0
    for unit in range(1, min(MAX_UNIT_WORDS, count // min_repeats) + 1):
        run, last = _longest_run(words, count, unit, max(1, (min_repeats - 1) * unit))
        first = last - run - unit + 1  # the run, and the first unit before it
        if run > 0 and (run + unit) / unit > most:
            begin = ends[first - 1] if first > 0 else 0
            if ends[last] - begin >= min_bytes:
                most = (run + unit) / unit
                place[0], place[1], place[2] = begin, ends[last], ends[first + unit - 1]
    return most


@borrowing_kernel
def _repeated_items(data, begin, end, min_bytes, place):  # type: ignore[no-untyped-def]
    """How many lines on end begin with a digit and are equal but for their digits. Writes to `place` as above."""
    most, at = 1.0, begin
    before, run, run_begin, first_end = FNV_BASIS, 0, begin, begin
    while at < end:
        stop, state, words, letters, in_word, has_letter, has_other = at, FNV_BASIS, 0, 0, False, False, False
        while at < end and is_space(data[at]) and data[at] != 10:
            at += 1
        numbered = at < end and 48 <= data[at] <= 57
        if not numbered:
            while at < end and data[at] != 10:
                at += 1
        number = at
        while number < end and 48 <= data[number] <= 57:
            number += 1
        # "1. " or "1) ": with it, an item of few words is the item of a list.
        listed = number + 1 < end and (data[number] == 46 or data[number] == 41) and data[number + 1] == 32
        while at <= end and numbered:
            byte = data[at] if at < end else np.uint8(10)
            if is_space(byte):
                if in_word:
                    words += 1
                    letters += has_letter and not has_other
                in_word, has_letter, has_other = False, False, False
                if byte == 10:
                    break
            else:
                in_word = True
                if is_letter(byte) or byte >= 128:
                    has_letter = True
                elif 48 <= byte <= 57:
                    has_other = True
            if not 48 <= byte <= 57:
                state = fnv1a(state, byte)
            at += 1
        whole = listed and letters == words - 1 and at - number > MIN_ITEM_BYTES
        if numbered and (whole or (letters >= MIN_ITEM_WORDS and 5 * letters >= 4 * words)):
            if run > 0 and state == before:
                run += 1
            else:
                run, run_begin, first_end = 1, stop, at
            before = state
            if run > most and at - run_begin >= min_bytes:
                most = 1.0 * run
                place[0], place[1], place[2] = run_begin - begin, at - begin, first_end - begin
        elif numbered or at > stop:
            run = 0
        at += 1
    return most


@borrowing_kernel
def _may_repeat(data, begin, end, longest):  # type: ignore[no-untyped-def]
    """Whether the last _PROBE_BYTES bytes occur once more, at most `longest` bytes before."""
    for unit in range(1, min(longest, end - begin - _PROBE_BYTES) + 1):
        same = 0
        while same < _PROBE_BYTES and data[end - 1 - same] == data[end - 1 - same - unit]:
            same += 1
        if same == _PROBE_BYTES:
            return True
    return False


@borrowing_kernel
def _repeated_tail(data, begin, end, failure, min_repeats, min_bytes, place):  # type: ignore[no-untyped-def]
    """How often a unit of bytes follows itself at the end of data[begin:end], for the unit with the most repeats.

    Writes to `place` as above.
    """
    length = min(TAIL_BYTES, end - begin)
    most, match = 1.0, 0
    if not _may_repeat(data, begin, end, length // min_repeats):
        return most
    # The failure function of the text read backwards: failure[i] is the length of the longest proper border of its
    # first i + 1 bytes, and i + 1 - failure[i] their smallest period.
    failure[0] = 0
    for i in range(1, length):
        byte = data[end - 1 - i]
        while match > 0 and data[end - 1 - match] != byte:
            match = failure[match - 1]
        if data[end - 1 - match] == byte:
            match += 1
        failure[i] = match
        repeats = (i + 1) / (i + 1 - match)
        if i + 1 >= min_bytes and repeats > most:
            most = repeats
            place[0], place[1] = end - 1 - i - begin, end - begin
            place[2] = place[0] + i + 1 - match
    return most


@kernel
def _measure(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], min_repeats: int, min_bytes: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    rows = len(offsets) - 1
    repeats, places = np.ones((3, rows), np.float64), np.zeros((3, 3, rows), np.int64)
    longest = 0
    for row in range(rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    words, ends = np.empty(longest // 2 + 2, np.uint64), np.empty(longest // 2 + 2, np.int64)
    failure = np.empty(TAIL_BYTES, np.int64)
    place = np.zeros((3, 3), np.int64)
    for row in range(rows):
        begin, end = offsets[row], offsets[row + 1]
        if end - begin < min_bytes:
            continue
        place[:] = 0
        count = _hash_words(data, begin, end, words, ends)
        repeats[0, row] = _repeated_words(words, ends, count, min_repeats, min_bytes, place[0])
        repeats[1, row] = _repeated_items(data, begin, end, min_bytes, place[1])
        while end > begin and is_space(data[end - 1]):
            end -= 1
        repeats[2, row] = _repeated_tail(data, begin, end, failure, min_repeats, min_bytes, place[2])
        for measure in range(3):
            places[measure, 0, row], places[measure, 1, row] = place[measure, 0], place[measure, 1]
            places[measure, 2, row] = place[measure, 2] - place[measure, 0]
    return repeats, places
