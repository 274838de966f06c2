"""What two texts must share exactly to be near-duplicates: their numbers, their operators, their last sentence.

Most words of "Convert 5 miles to km" and "Convert 150 miles to km" are equal, and they are different questions. So are
two questions about one long passage. Three digests of each text decide, whatever the Jaccard is:

- **marks**: the multiset of the numbers (tokens with a digit, and NUMBER_WORDS) and operators. An operator is a symbol
  of mathematics or a sign that is a token of its own. Signs that are punctuation where they stand do not count:
  bullets, hyphens and dashes between words, Markdown emphasis, currency signs, backslashes.
- **sentences**: every question (the last `MAX_QUESTION` tokens of each sentence that ends with `?`, in any order), and
  the last sentence with as many before it as it takes to have `MIN_ENDING` tokens; at most the last `MAX_ENDING`
  tokens. A sentence ends with a line, with one of `. ? ! :` that is not within a word, or with a full stop of Chinese,
  Japanese, Hindi or Urdu.
- **words**: all tokens. Texts without a token have the digest of their bytes.

The digests have 64 bits and depend on the near reading of the text (`dedup.tokens`).
"""

from __future__ import annotations

import functools
import unicodedata
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.characters import TABLE_SIZE
from dedup.exact import digest128, halves
from dedup.hashing import fmix64
from dedup.intrinsics import load_uint64
from dedup.kernel import borrowing_kernel, buffers, kernel
from dedup.latex import commands
from dedup.readings import reading_tables
from dedup.shingles import BASE, Shingles, hash_ngrams
from dedup.spacing import with_blanks
from dedup.tokens import WORD_BYTES, longest_row, max_tokens, scan_tokens, token_hash, tokenize
from dedup.utf8 import decode_checked

Digests = npt.NDArray[np.uint64]

MAX_QUESTION = 12
"""Tokens of a question that are compared, its last ones. What a template puts before them does not matter."""
MIN_ENDING, MAX_ENDING = 8, 40
"""Tokens of the ending. With fewer, "Answer:" or "Options: yes, no" would be the last sentence."""

PLAIN, DIGIT, OPERATOR, LETTER = range(4)
"""What a character is for this module."""

NUMBER_WORDS = (
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty", "fifty", "sixty", "seventy",
    "eighty", "ninety", "hundred", "thousand", "million", "billion",
)  # fmt: skip
"""Words that count as numbers. "one" does not, since it is a pronoun too."""
FUNCTIONS = (
    "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "arcsin", "arccos", "arctan",
)  # fmt: skip
"""Names of functions, which count as operators."""

NOTHING, SENTENCE, QUESTION = range(3)
"""What may end between two tokens."""

_SPACE, _NEWLINE, _HYPHEN, _STAR, _SLASH, _LESS, _GREATER = (ord(sign) for sign in " \n-*/<>")
_STOP, _QUESTION, _EXCLAMATION, _COLON, _BACKSLASH = (ord(sign) for sign in ".?!:\\")
_NOT_OPERATORS = "$`\\#&"
"""Signs that are tokens in some readings, and never tell questions apart by themselves."""
_STOPS = (0x3002, 0xFF01, 0xFF61, 0x0964, 0x06D4)
"""Full stops of Chinese, Japanese, Hindi and Urdu."""
_EACH, _HIGH_BITS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_FROM_0, _FROM_COLON = _EACH * np.uint64(0x80 - ord("0")), _EACH * np.uint64(0x80 - ord(":"))
"""Added to eight ASCII bytes, they set the high bit of the bytes from `0` on and from `:` on."""
_SEED, _BASE = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_0, _1, _32 = np.uint64(0), np.uint64(1), np.uint64(32)


class Invariants(NamedTuple):
    """The digests of texts [rows], uint64 [rows] each, and `tokens` int64 [rows], the number of their tokens."""

    words: Digests
    marks: Digests
    sentences: Digests
    tokens: npt.NDArray[np.int64]


def invariants(text: pa.StringArray) -> Invariants:
    """The digests of each text.

    Raises:
        TypeError, ValueError: as `dedup.kernel.buffers` does.
    """
    return invariants_and_shingles(text, 1)[0]


def invariants_and_shingles(text: pa.StringArray, ngram: int) -> tuple[Invariants, Shingles]:
    """The digests of each text, and its `dedup.shingles.shingle_hashes` by word. The text is read once.

    Raises:
        TypeError: as `dedup.kernel.buffers` does.
        ValueError: the same, or if `ngram` is below 1.
    """
    if ngram < 1:
        raise ValueError(f"an n-gram has at least one unit, not {ngram}")
    data, offsets = buffers(text)
    words, marks, sentences = (np.empty(len(text), np.uint64) for _ in range(3))
    counts, shingle_offsets = np.empty(len(text), np.int64), np.empty(len(text) + 1, np.int64)
    hashes = np.empty(max_tokens(offsets), np.uint32)
    tables = roles(), _may_end(), _number_words(), _command_signs()
    power = np.uint64(pow(BASE, ngram, 1 << 64))
    _read(
        data, offsets, *reading_tables("near"), *tables, ngram, power,
        words, marks, sentences, counts, hashes, shingle_offsets,
    )  # fmt: skip
    bare = np.flatnonzero(counts == 0)
    if len(bare):
        words[bare] = halves(digest128(text.take(pa.array(bare))))[:, 0]
    return Invariants(words, marks, sentences, counts), Shingles(hashes[: shingle_offsets[-1]], shingle_offsets)


def combine(*digests: Digests) -> Digests:
    """One digest uint64 [rows] of several. Their order counts."""
    state = np.full(len(digests[0]), _SEED, np.uint64)
    for digest in digests:
        state = (state ^ digest) * _BASE
        state ^= state >> np.uint64(32)
    return state


@functools.cache
def roles() -> npt.NDArray[np.uint8]:
    """PLAIN, DIGIT, OPERATOR or LETTER for each code point: uint8 [TABLE_SIZE]."""
    table = np.zeros(TABLE_SIZE, np.uint8)
    for code in range(TABLE_SIZE):
        character = chr(code)
        category = unicodedata.category(character)
        if category[0] == "N":
            table[code] = DIGIT
        elif category[0] in "LM":
            table[code] = LETTER
        elif category == "Sm" or (code < 128 and category[0] in "PS" and character not in _NOT_OPERATORS):
            table[code] = OPERATOR
    return table


@functools.cache
def _number_words() -> npt.NDArray[np.uint64]:
    """A hash table of the tokens of NUMBER_WORDS and FUNCTIONS by their low bits, uint64; 0 in empty slots. Its size is
    the least power of two that gives each word a slot of its own."""
    hashes = np.array([token_hash(word.encode()) for word in NUMBER_WORDS + FUNCTIONS], np.uint64)
    size = 1 << 10
    while len(np.unique(hashes % np.uint64(size))) < len(hashes):
        size *= 2
    table = np.zeros(size, np.uint64)
    table[hashes % np.uint64(size)] = hashes
    return table


@functools.cache
def _command_signs() -> npt.NDArray[np.uint64]:
    """The tokens of operators that have a LaTeX command: the token of the command for ≤ is that of ≤."""
    signs = sorted({chr(code) for code in commands().values() if code >= 128 and roles()[code] == OPERATOR})
    return np.unique(tokenize(pa.array([f" {sign} " for sign in signs])).hash)


@functools.cache
def _may_end() -> npt.NDArray[np.bool_]:
    """Whether a byte may belong to the end of a sentence: bool [256]."""
    table = np.arange(256) >= 128
    table[[_NEWLINE, _STOP, _QUESTION, _EXCLAMATION, _COLON]] = True
    return table


@borrowing_kernel
def _counts_as_operator(row, start, end, roles):  # type: ignore[no-untyped-def]
    """Whether the sign row[start:end], a token of its own, is an operator where it stands."""
    sign = row[start]
    before = row[start - 1] if start > 0 else np.uint8(_NEWLINE)
    after = row[end] if end < len(row) else np.uint8(_NEWLINE)
    spaced_before, spaced_after = before <= _SPACE, after <= _SPACE
    after_digit = after < 128 and roles[after] == DIGIT
    if sign in (_HYPHEN, _STAR, _SLASH):
        # The nearest characters on the line that are not blank.
        i, j = start - 1, end
        while i >= 0 and row[i] == _SPACE:
            i -= 1
        while j < len(row) and row[j] == _SPACE:
            j += 1
        left = row[i] if i >= 0 else np.uint8(_NEWLINE)
        right = row[j] if j < len(row) else np.uint8(_NEWLINE)
        if left < _SPACE or right < _SPACE:  # a bullet, a rule, the end of a line
            return after_digit and sign == _HYPHEN and not spaced_after
        if left == sign or right == sign:  # dashes, emphasis, comments; `**` before a number is a power
            return sign == _STAR and ((right < 128 and roles[right] == DIGIT) or (left < 128 and roles[left] == DIGIT))
        if sign == _HYPHEN and after_digit:
            return True
        if spaced_before != spaced_after:  # emphasis, an option of a command
            return False
        if sign != _STAR or not spaced_before:
            # A hyphen, a slash or a dash between words of two letters or more is punctuation.
            long_left = left >= 128 or (
                roles[left] == LETTER and i > 0 and (row[i - 1] >= 128 or roles[row[i - 1]] == LETTER)
            )
            long_right = right >= 128 or (
                roles[right] == LETTER and j + 1 < len(row) and (row[j + 1] >= 128 or roles[row[j + 1]] == LETTER)
            )
            if long_left and long_right and (sign == _HYPHEN or not spaced_before):
                return False
        return True
    if sign in (_LESS, _GREATER):
        return spaced_before == spaced_after
    return True


@borrowing_kernel
def _sentence_end(row, start, end):  # type: ignore[no-untyped-def]
    """What ends in row[start:end], the bytes between two tokens: NOTHING, SENTENCE or QUESTION."""
    found, i = NOTHING, start
    while i < end:
        byte = row[i]
        if byte == _NEWLINE:
            found = max(found, SENTENCE)
        elif byte in (_STOP, _QUESTION, _EXCLAMATION, _COLON):
            # Quotes and brackets may close after the stop. A stop within a word (a number, an address) ends nothing.
            if i + 1 < end or end == len(row):
                found = max(found, QUESTION if byte == _QUESTION else SENTENCE)
        elif byte >= 128:
            code, width = decode_checked(row, i, end)
            if code == 0xFF1F or code == 0x061F:
                return QUESTION
            for stop in _STOPS:
                if code == stop:
                    found = max(found, SENTENCE)
            i += width - 1
        i += 1
    return found


@borrowing_kernel
def _chain(state, token):  # type: ignore[no-untyped-def]
    """The digest of a sequence of tokens after one more."""
    state = (state ^ token) * _BASE
    return state ^ state >> _32


@borrowing_kernel
def _chain_all(hashes, first, last):  # type: ignore[no-untyped-def]
    state = _SEED
    for k in range(first, last):
        state = _chain(state, hashes[k])
    return state


@borrowing_kernel
def _is_mark(data, start, end, roles):  # type: ignore[no-untyped-def]
    """Whether the token data[start:end], which does not begin with an ASCII operator, is a number or an operator."""
    i = start
    while i < end:
        if i + WORD_BYTES <= len(data):
            # Eight bytes at a time: whether one of them is a digit, and whether all are ASCII.
            word = load_uint64(data, i)
            if end - i < WORD_BYTES:
                word &= _ALL >> np.uint64(8 * (WORD_BYTES - (end - i)))
            if word & _HIGH_BITS == _0:
                if (word + _FROM_0) & ~(word + _FROM_COLON) & _HIGH_BITS != _0:
                    return True
                i += WORD_BYTES
                continue
        if data[i] < 128:
            if roles[data[i]] == DIGIT:
                return True
            i += 1
        else:
            code, width = decode_checked(data, i, end)
            if code >= 0 and code < len(roles) and (roles[code] == DIGIT or (i == start and roles[code] == OPERATOR)):
                return True
            i += width
    return False


@borrowing_kernel
def _digest(row, count, hashes, starts, ends, roles, may_end, number_words, command_signs):  # type: ignore[no-untyped-def]
    """The digests of a row of `count` tokens: of its words, its marks and its sentences."""
    number_mask = np.uint64(len(number_words) - 1)
    all_words, all_marks, questions = _SEED, _0, _0
    begin = 0  # of the sentence
    for t in range(count):
        token, start, end = hashes[t], np.int64(starts[t]), np.int64(ends[t])
        all_words = _chain(all_words, token)
        size, first_byte = end - start, row[start]
        if first_byte == _BACKSLASH:
            for sign in command_signs:
                if token == sign:
                    all_marks += fmix64(token + _1)
        elif first_byte < 128 and roles[first_byte] == OPERATOR:
            if _counts_as_operator(row, start, end, roles):
                all_marks += fmix64(token + _1)
        else:
            # Most tokens are up to eight ASCII bytes: one comparison tells whether one of them is a digit.
            is_mark = False
            plain = size <= WORD_BYTES and start + WORD_BYTES <= len(row)
            if plain:
                word = load_uint64(row, start) & _ALL >> np.uint64(8 * (WORD_BYTES - size))
                plain = word & _HIGH_BITS == _0
                is_mark = plain and (word + _FROM_0) & ~(word + _FROM_COLON) & _HIGH_BITS != _0
            is_mark |= number_words[token & number_mask] == token
            if is_mark or (not plain and _is_mark(row, start, end, roles)):
                all_marks += fmix64(token + _1)
        after = np.int64(starts[t + 1]) if t + 1 < count else len(row)
        if after == end or (after <= end + 2 and not may_end[row[end]] and not may_end[row[after - 1]]):
            continue
        what = _sentence_end(row, end, after)
        if what == QUESTION:
            questions += fmix64(_chain_all(hashes, max(begin, t + 1 - MAX_QUESTION), t + 1))
        if what != NOTHING:
            begin = t + 1
    # The last sentence: from the last token backward to where one starts.
    t = count - 1
    while t > 0 and count - t < MAX_ENDING:
        if count - t >= MIN_ENDING and _sentence_end(row, np.int64(ends[t - 1]), np.int64(starts[t])) != NOTHING:
            break
        t -= 1
    return all_words, all_marks, _chain(_chain_all(hashes, max(t, 0), count), questions)


@kernel
def _read(  # type: ignore[no-untyped-def]
    data, offsets, characters, commands, markup, roles, may_end, number_words, command_signs, ngram, power,
    words, marks, sentences, counts, shingles, shingle_offsets,
):  # fmt: skip
    """Write the digests, the number of tokens and the shingles of every row."""
    longest = longest_row(offsets)
    most = longest * 3 // 2 + 4  # as `max_tokens`
    hashes, starts, ends = np.empty(most, np.uint64), np.empty(most, np.int32), np.empty(most, np.int32)
    ascii_words, memory = np.empty(longest + WORD_BYTES, np.uint8), np.empty(4, np.int64)
    spaced = np.empty(longest, np.uint8)
    at = 0
    for n in range(len(offsets) - 1):
        shingle_offsets[n] = at
        row = data[offsets[n] : offsets[n + 1]]
        if with_blanks(row, spaced):
            row = spaced[: len(row)]
        count = scan_tokens(row, characters, commands, markup, ascii_words, memory, hashes, starts, ends, None, 0)
        words[n], marks[n], sentences[n] = _digest(
            row, count, hashes, starts, ends, roles, may_end, number_words, command_signs
        )
        counts[n] = count
        at = hash_ngrams(hashes, count, ngram, power, shingles, at)
    shingle_offsets[len(offsets) - 1] = at
