"""Which tokens of a question identify it: weights, frames, numbers and negations, and the last sentence.

A token weighs -log2 of the share of questions that hold it, in bits. Tokens inside a frame, a phrase of FRAME_TOKENS
tokens in more than FRAME_MAX_QUESTIONS questions ("please choose the correct answer to the question"), weigh nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.invariants import FUNCTIONS
from dedup.kernel import kernel
from dedup.tokens import SPACE, token_hash, tokenize
from filters.contamination.grams import gram_keys
from filters.contamination.layout import READING
from filters.contamination.seeds import group_equal

FRAME_TOKENS = 8
"""Tokens of a phrase that can be a frame. Shorter phrases recur in unrelated questions by chance."""
FRAME_MAX_QUESTIONS = 16
"""A phrase in more questions than this is a frame: it belongs to the benchmark's format, not to one question."""
MIN_WEIGHT, MAX_WEIGHT = 0.05, 16.0
"""Bits. The most common word still counts a little, and a word seen once in 65,536 questions counts no more."""
MIN_OWN_WEIGHT = 0.1
"""Share of a question's weight that must lie outside frames. A question below it keeps the weights of its frames:
nothing else tells it from others."""
MIN_SENTENCE_TOKENS = 3
"""Shorter last sentences ("Why?", "Explain.") belong to the sentence before them."""

ANSWER_FORM = "express enter give write round answer leave note assume here type provide submit include"
"""First words of sentences that tell the form of the answer, or explain a term."""
FIGURE, FIGURE_END = "[asy]", "[/asy]"
"""The code of a figure in MATH. It weighs nothing: other copies of a question have a picture in its place."""
SLOT_TOKENS, SLOT_QUESTIONS = 2, 8
"""A word is the slot of a template ("Turn left. Take") if at least SLOT_QUESTIONS questions have the SLOT_TOKENS tokens
before it and after it, and not all of them have the same word between."""
NO_SLOTS = "the an this that these those is are was were be been has have had do does did will would can could"
"""Words that do not tell a question from its siblings: "What was the smallest" asks the same as "What is"."""

NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million half third "
    "quarter once twice double triple dozen first second third fourth fifth sixth seventh eighth ninth tenth"
)
"""Numbers in words. They decide what is asked as much as digits and operators do."""
NEGATIONS = (
    "not no never except without neither nor cannot least most largest smallest greatest fewest highest lowest minimum "
    "maximum even odd positive negative true false correct incorrect more less fewer"
)
"""Words that reverse what is asked."""
UNITS = (
    "minute minutes hour hours day days week weeks month months year years inch inches foot feet yard yards mile miles "
    "millimeter millimeters centimeter centimeters meter meters kilometer kilometers gram grams kilogram kilograms "
    "ounce ounces pound pounds liter liters gallon gallons cent cents"
)
"""Units after a number. They decide as much as the number does, also in a phrase of the benchmark's format."""
QUANTIFIERS = (
    "all both each every any some either several only exactly greater larger smaller bigger before after distinct"
)
"""Words that change what is asked where they stand in the last sentence of a question."""
STRUCTURES = "frac binom"
"""What commands of LaTeX make of the terms after them: t + 1/t has the tokens of (t + 1)/t in another order."""
OPERATORS = b"+-*/^<>=%!|&~'[]"
"""Symbols that change what a question asks. Round brackets and quotes are left out: they are punctuation too."""
ATTACHED = b"+-*/^<>=%!'"
"""Operators that count as added where they touch a term: `f'(x)`, `17!`, `-3`, `8%`."""
MATHEMATICS = "√ ≤ ≥ ≠ ≈ ≡ ± ∓ ∈ ∉ ∋ ⊂ ⊆ ⊃ ⊇ ∪ ∩ ∖ ∀ ∃ ∧ ∨ ¬ ∑ ∏ ∫ ∂ ∇ ∞ ⌊ ⌋ ⌈ ⌉"
"""Symbols of mathematics that no markup has."""
OPENS_FORMULA = b"$({[\\^_=+-*/,"
"""Characters before a letter that is a symbol, and no word or ending of one."""
DECISIVE, DECISIVE_IN_ASK = 1, 2
"""Values of `decisive_tokens`."""

_U64 = npt.NDArray[np.uint64]
_I64 = npt.NDArray[np.int64]
_I32 = npt.NDArray[np.int32]
_U8 = npt.NDArray[np.uint8]
_F32 = npt.NDArray[np.float32]
_Flags = npt.NDArray[np.bool_]


def decisive_words() -> _U64:
    """The hashes of NUMBER_WORDS, NEGATIONS, UNITS, STRUCTURES and MATHEMATICS: adding or removing one changes what a
    question asks."""
    words = f"{NUMBER_WORDS} {NEGATIONS} {UNITS} {STRUCTURES} {MATHEMATICS}"
    return np.unique(tokenize(pa.array([words], pa.string()), READING).hash)


def attached_operators() -> _U64:
    """The hashes of ATTACHED."""
    return np.array([token_hash(bytes([operator])) for operator in ATTACHED], np.uint64)


def ask_words() -> _U64:
    """The hashes of QUANTIFIERS and of FUNCTIONS, which change what a formula asks as a symbol does."""
    return tokenize(pa.array([f"{QUANTIFIERS} {' '.join(FUNCTIONS)}"], pa.string()), READING).hash


def decisive_tokens(tokens: _U64, first_byte: _U8, length_bytes: _I32, before: _U8, after: _U8) -> _U8:
    """Which tokens change what a question asks, uint8 [T].

    DECISIVE: numbers, operators, single letters and `decisive_words`. DECISIVE_IN_ASK: the words of QUANTIFIERS and
    FUNCTIONS, which count in the last sentence of a question. first_byte, length_bytes: of the normalised tokens.
    before, after: uint8 [T], the bytes beside each token in the original text, 0 at its ends.
    """
    single = length_bytes == 1
    letter = (first_byte >= ord("a")) & (first_byte <= ord("z"))
    digit = (first_byte >= ord("0")) & (first_byte <= ord("9"))
    # Symbols of mathematics have three bytes, and so has an operator with a stroke (≠).
    symbolic = (length_bytes == 3) & (first_byte == 0xE2)
    operator = (single | (length_bytes == 3)) & np.isin(first_byte, np.frombuffer(OPERATORS, np.uint8)) | symbolic
    # "a tree" and "I am", "it's" and "don't" have no symbols: the letter stands before, or after, a word. "$A$ to" has.
    word = letter & ~single
    before_word, after_word = np.append(word[1:], False), np.append(False, word[:-1])
    opens = np.isin(before, np.frombuffer(OPENS_FORMULA, np.uint8))
    article = np.isin(first_byte, np.frombuffer(b"ai", np.uint8)) & before_word
    article &= ~opens & np.isin(after, np.frombuffer(" \t\r\n'’".encode(), np.uint8))
    ending = np.isin(first_byte, np.frombuffer(b"stmd", np.uint8)) & after_word & ~opens & (before > SPACE)
    symbol = single & letter & ~article & ~ending
    decisive = digit | operator | symbol | np.isin(tokens, decisive_words())
    in_ask = np.isin(tokens, ask_words())
    return np.where(decisive, DECISIVE, np.where(in_ask, DECISIVE_IN_ASK, 0)).astype(np.uint8)


def token_weights(tokens: _U64, part: _I32, part_start: _I64, in_question: _Flags, prefix: _U64) -> tuple[_F32, _Flags]:
    """Bits per token float32 [T], and which tokens lie in frames bool [T].

    part: int32 [T]; part_start: int64 [P + 1]; in_question: bool [T], the tokens of questions. Frequencies are counted
    over questions; they weigh the tokens of passages, choices and answers too.
    """
    questions = max(len(np.unique(part[in_question])), 1)
    distinct, inverse = np.unique(tokens, return_inverse=True)
    order, begin, parts = group_equal(tokens[in_question], part[in_question])
    frequency = np.ones(len(distinct), np.float64)
    frequency[np.searchsorted(distinct, tokens[in_question][order][begin])] = parts
    bits = np.clip(np.log2((questions + 1) / frequency), MIN_WEIGHT, MAX_WEIGHT).astype(np.float32)
    weight = bits[inverse] if len(tokens) else np.empty(0, np.float32)

    frame = np.zeros(len(tokens), np.bool_)
    ends = part_start[part + 1] if len(part) else np.empty(0, np.int64)
    places = np.flatnonzero(in_question & (np.arange(len(tokens)) + FRAME_TOKENS <= ends))
    order, begin, parts = group_equal(gram_keys(prefix, places, FRAME_TOKENS), part[places])
    sizes = np.diff(np.append(begin, len(order)))
    framed = places[order][np.repeat(parts > FRAME_MAX_QUESTIONS, sizes)]
    for offset in range(FRAME_TOKENS):
        frame[framed + offset] = True
    total = np.add.reduceat(weight, part_start[:-1])
    own = np.add.reduceat(np.where(frame, 0, weight), part_start[:-1])
    frame &= (own > MIN_OWN_WEIGHT * total)[part]
    weight[frame] = 0
    return weight, frame


def slots(tokens: _U64, part: _I32, part_start: _I64, in_question: _Flags, prefix: _U64) -> _Flags:
    """Which tokens are slots of a template, bool [T]. Arguments as those of `token_weights`."""
    place, n = np.arange(len(tokens)), SLOT_TOKENS
    inside = in_question & (place - n >= part_start[part]) & (place + n < part_start[part + 1])
    places = np.flatnonzero(inside)
    around = gram_keys(prefix, places - n, n) * np.uint64(3) + gram_keys(prefix, places + 1, n)
    result = np.zeros(len(tokens), np.bool_)
    if len(places):
        order, begin, parts = group_equal(around, part[places])
        sizes = np.diff(np.append(begin, len(order)))
        words = tokens[places[order]]
        varies = np.logical_or.reduceat(words != np.repeat(words[begin], sizes), begin)
        result[places[order]] = np.repeat(varies & (parts >= SLOT_QUESTIONS), sizes)
    return result & ~np.isin(tokens, tokenize(pa.array([NO_SLOTS], pa.string()), READING).hash)


def _word_key(word: str) -> int:
    """FNV-1a of a word: as `_key` computes it."""
    value = 0xCBF29CE484222325
    for byte in word.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


_FORM_KEYS = np.array([_word_key(word) for word in ANSWER_FORM.split()], np.uint64)
_FNV_START, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_FIGURE, _FIGURE_END = (np.frombuffer(mark.encode(), np.uint8) for mark in (FIGURE, FIGURE_END))


@kernel
def _find(data, begin, end, mark):  # type: ignore[no-untyped-def]
    """The first index of data[begin:end] at which `mark` stands, or `end`."""
    for i in range(begin, end - len(mark) + 1):
        k = 0
        while k < len(mark) and data[i + k] == mark[k]:
            k += 1
        if k == len(mark):
            return i
    return end


@kernel
def in_figures(data, offsets, starts, part_start):  # type: ignore[no-untyped-def]
    """Which tokens are code of a figure, bool [T]. Arguments as those of `last_sentences`."""
    inside = np.zeros(len(starts), np.bool_)
    for p in range(len(part_start) - 1):
        t, last = part_start[p], part_start[p + 1]
        begin = offsets[p]
        while begin < offsets[p + 1]:
            begin = _find(data, begin, offsets[p + 1], _FIGURE)
            end = _find(data, begin, offsets[p + 1], _FIGURE_END) + len(_FIGURE_END)
            while t < last and offsets[p] + starts[t] < end:
                inside[t] = offsets[p] + starts[t] >= begin
                t += 1
            begin = end
    return inside


@kernel
def _is_answer_form(data, low, high):  # type: ignore[no-untyped-def]
    """Whether data[low:high], in lower case, is a word of ANSWER_FORM."""
    key = _FNV_START
    for i in range(low, high):
        key = (key ^ np.uint64(data[i] | np.uint8(32))) * _FNV_PRIME
    return bool((key == _FORM_KEYS).any())


@kernel
def last_sentences(data, offsets, starts, ends, part_start, frame):  # type: ignore[no-untyped-def]
    """The token of each part where what it asks begins, int32 [P]; 0 for a part of one sentence.

    That is its last sentence, and the one before where the last tells the form of the answer ("Express your answer as a
    fraction"). Figures (`[asy]`) and frames at the end of a part are left out.

    data uint8, offsets int64 [P + 1]: the original texts; starts, ends int32 [T]: the bytes of tokens in their text;
    part_start int64 [P + 1]; frame bool [T].
    """
    asks = np.zeros(len(part_start) - 1, np.int32)
    for p in range(len(asks)):
        begin, last = part_start[p], part_start[p + 1]
        figure = _find(data, offsets[p], offsets[p + 1], _FIGURE) - offsets[p]
        while last > begin + MIN_SENTENCE_TOKENS and starts[last - 1] >= figure:
            last -= 1
        while last > begin and frame[last - 1]:
            last -= 1
        # From the end back to the first gap between two tokens that holds a mark at which sentences end.
        for t in range(last - MIN_SENTENCE_TOKENS, begin, -1):
            ends_sentence = False
            for i in range(offsets[p] + ends[t - 1], offsets[p] + starts[t]):
                byte = data[i]
                spacing = byte == 33 and i > 0 and data[i - 1] == 92  # \! of LaTeX
                # . ? ! and line feed
                ends_sentence |= byte == 46 or byte == 63 or (byte == 33 and not spacing) or byte == 10
            if ends_sentence and not _is_answer_form(data, offsets[p] + starts[t], offsets[p] + ends[t]):
                asks[p] = t - begin
                break
    return asks
