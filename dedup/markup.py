"""Markup around text: what the markup-free reading drops or decodes.

- HTML entities and escapes such as `\\u003c` are the characters that they stand for; `\\n`, `\\r`, `\\t` are space.
- HTML tags, Markdown emphasis, quote marks at the start of a line, bullets, and numbers of lists and lines are dropped.
- A hyphen between two words of two or more letters is dropped, also with a line break after it.
- Number words up to a hundred are numbers. `dollars` after a number is dropped, as `$` before it; `percent` is `%`.
"""

from __future__ import annotations

import functools
from html.entities import html5
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.hashing import fnv1a_bytes
from dedup.kernel import kernel
from dedup.symbols import is_ascii_letter, is_digit, is_space, is_word_byte, look_up

Keys = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.int32]

TAGS = """
a abbr address article aside b big blockquote body br button caption center cite code col dd del details div dl dt em
figure font footer form h1 h2 h3 h4 h5 h6 head header hr html i img input ins kbd label li link main mark meta nav ol
option p pre q s section select small span strike strong style sub summary sup table tbody td textarea tfoot th thead
title tr tt u ul var wbr
"""
"""Names of HTML elements."""
MAX_ENTITY_BYTES, MAX_TAG_BYTES = 10, 400
"""Longer names of entities are rare, longer tags hold data."""
MAX_LIST_BYTES = 1000
"""The next number of a list comes within this many bytes."""

DOLLARS, PERCENT, HUNDRED = 101, 102, 103
"""Values of words that are no numbers."""
_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


class Markup(NamedTuple):
    """Lookup tables of the markup-free reading, all with `dedup.symbols.look_up`'s layout.

    entity_keys, entity_values: names of HTML entities and their code points. tag_keys, tag_values: names of HTML
    elements. word_keys, word_values: number words (hash of the token -> value) and DOLLARS, PERCENT, HUNDRED.
    number_hashes: uint64 [101], the token hashes of "0" to "100", and of "%".
    """

    entity_keys: Keys
    entity_values: Codes
    tag_keys: Keys
    tag_values: Codes
    word_keys: Keys
    word_values: Codes
    number_hashes: Keys


def hash_table(entries: dict[int, int]) -> tuple[Keys, Codes]:
    """An open-addressing table of 64-bit hashes (none 0), 6 % full at most, in the layout of `look_up`."""
    size = 4
    while size < 16 * len(entries):
        size *= 2
    keys, values = np.zeros(size, np.uint64), np.zeros(size, np.int32)
    for key, value in entries.items():
        slot = key % size
        while keys[slot]:
            slot = (slot + 1) % size
        keys[slot], values[slot] = key, value
    return keys, values


def name_table(entries: dict[str, int]) -> tuple[Keys, Codes]:
    """`hash_table` by the FNV-1a hash of names in lower case. A name that is in lower case wins over others."""
    by_case = sorted(entries.items(), key=lambda entry: entry[0].islower())
    return hash_table({fnv1a_bytes(name.lower().encode()): value for name, value in by_case})


def number_words() -> dict[str, int]:
    """Number words in lower case without hyphens, and their values."""
    words = {word: value for value, word in enumerate(_UNITS)}
    for tens, word in enumerate(_TENS, start=2):
        words[word] = 10 * tens
        words |= {word + unit: 10 * tens + value for value, unit in enumerate(_UNITS[1:10], start=1)}
    return words | {"dollar": DOLLARS, "dollars": DOLLARS, "percent": PERCENT, "hundred": HUNDRED}


@functools.cache
def markup_tables() -> Markup:
    """The tables of the markup-free reading."""
    from dedup.tokens import token_hash

    entities = {
        name[:-1]: ord(text)
        for name, text in html5.items()
        if name.endswith(";") and len(text) == 1 and len(name) <= MAX_ENTITY_BYTES
    }
    words = {token_hash(word.encode()): value for word, value in number_words().items()}
    numbers = [token_hash(str(value).encode()) for value in range(101)] + [token_hash(b"%")]
    return Markup(
        *name_table(entities),
        *name_table(dict.fromkeys(TAGS.split(), 1)),
        *hash_table(words),
        np.array(numbers, np.uint64),
    )


@kernel
def word_value(token, keys, values):  # type: ignore[no-untyped-def]
    """The value of a token hash in the table of number words, -1 if it is none."""
    mask = np.uint64(len(keys) - 1)
    slot = token & mask
    while keys[slot] != np.uint64(0):
        if keys[slot] == token:
            return np.int64(values[slot])
        slot = (slot + np.uint64(1)) & mask
    return np.int64(-1)


@kernel
def read_entity(row, i, end, keys, values):  # type: ignore[no-untyped-def]
    """The code point of the HTML entity at `i` (an `&`) and its bytes; (0, 0) if there is none."""
    j = i + 1
    if j < end and row[j] == 35:  # #
        j += 1
        base = 10
        if j < end and (row[j] | 32) == 120:  # x
            base = 16
            j += 1
        first, code = j, 0
        while j < end and j - first < 7:
            digit = _hexadecimal(row[j])
            if digit < 0 or digit >= base:
                break
            code = code * base + digit
            j += 1
        if j > first and j < end and row[j] == 59 and code > 0 and code < 0x110000:
            return code, j + 1 - i
        return 0, 0
    while j < end and j - i < MAX_ENTITY_BYTES and (is_ascii_letter(row[j]) or is_digit(row[j])):
        j += 1
    if j > i + 1 and j < end and row[j] == 59:
        code = look_up(row, i + 1, j, keys, values, 0)
        if code > 0:
            return np.int64(code), j + 1 - i
    return 0, 0


@kernel
def _hexadecimal(byte):  # type: ignore[no-untyped-def]
    """The value of a hexadecimal digit, -1 for another byte."""
    if is_digit(byte):
        return np.int64(byte) - 48
    lower = np.int64(byte) | 32
    return lower - 87 if lower >= 97 and lower <= 102 else -1


@kernel
def read_escape(row, i, end):  # type: ignore[no-untyped-def]
    """The code point of an escape of four hexadecimal digits (`\\u003c`) at `i`, or -1."""
    if i + 6 > end or row[i + 1] != 117:
        return -1
    code = np.int64(0)
    for j in range(i + 2, i + 6):
        digit = _hexadecimal(row[j])
        if digit < 0:
            return -1
        code = code * 16 + digit
    return code


@kernel
def tag_width(row, i, end, keys, values):  # type: ignore[no-untyped-def]
    """The bytes of the HTML tag at `i` (a `<`), 0 if there is none. A tag with a space has attributes: `<b and c>` is
    no tag."""
    j = i + 1
    if j < end and row[j] == 47:
        j += 1
    first = j
    while j < end and j - first < 12 and (is_ascii_letter(row[j]) or is_digit(row[j])):
        j += 1
    if j == first or j >= end:
        return 0
    stop = j
    while j < end and is_space(row[j]):
        j += 1
    attributes = j > stop
    if j < end and row[j] == 47:
        j += 1
        attributes = False
    if not (j < end and row[j] == 62):
        if not attributes:
            return 0
        assigned = False
        while j < end and j - i < MAX_TAG_BYTES and row[j] != 62:
            if row[j] == 60:
                return 0
            assigned |= row[j] == 61
            j += 1
        if not assigned or j >= end or row[j] != 62:
            return 0
    return j + 1 - i if look_up(row, first, stop, keys, values, 0) == 1 else 0


@kernel
def is_dash_or_bullet(row, i, end, start, stop):  # type: ignore[no-untyped-def]
    """Whether the `-`, `+` or `*` at `i`, with space on both sides, stands between words and not between numbers,
    variables of one or two letters or brackets. start, stop: the last token's bytes."""
    if (i > 0 and not is_space(row[i - 1])) or i + 1 >= end or not is_space(row[i + 1]):
        return False
    if stop == 0:
        return True
    last = row[stop - 1]
    short = stop - start <= 2 and is_ascii_letter(last)
    other = stop - start <= 3 and last >= 128  # a symbol or letter that is not ASCII
    number = is_digit(last) or is_digit(row[start])
    if not (number or last == 41 or last == 93 or last == 125 or short or other):
        return True
    j = i + 1
    while j < end and is_space(row[j]):
        j += 1
    if j + 1 < end and (row[j] == 45 or row[j] == 43):  # a sign
        j += 1
    if j >= end:
        return True
    word = j
    while word < end and is_word_byte(row[word]):
        word += 1
    variable = is_ascii_letter(row[j]) and word - j <= 2
    bracket = row[j] == 40 or row[j] == 91 or row[j] == 92 or row[j] == 36 or row[j] == 123
    greek = row[j] == 0xCE or row[j] == 0xCF
    return not (is_digit(row[j]) or variable or bracket or greek)


@kernel
def is_emphasis(row, i, end):  # type: ignore[no-untyped-def]
    """Whether the run of `*` around `i` touches text on one side only: emphasis, and no multiplication."""
    first, stop = i, i + 1
    while first > 0 and row[first - 1] == 42:
        first -= 1
    while stop < end and row[stop] == 42:
        stop += 1
    left = first > 0 and (is_word_byte(row[first - 1]) or row[first - 1] == 41 or row[first - 1] == 93)
    right = stop < end and (
        is_word_byte(row[stop]) or row[stop] == 40 or row[stop] == 91 or row[stop] == 92 or row[stop] == 36
    )
    return left != right


@kernel
def hyphen_width(row, i, width, end, start, stop):  # type: ignore[no-untyped-def]
    """The bytes of a hyphen of `width` bytes at `i` that joins two words, with the line break after it; else 0."""
    if stop != i or stop - start < 2 or not (is_ascii_letter(row[i - 1]) and is_ascii_letter(row[i - 2])):
        return 0
    j = i + width
    if j < end and (row[j] == 10 or row[j] == 13):
        while j < end and is_space(row[j]):
            j += 1
    if j + 1 < end and is_ascii_letter(row[j]) and is_ascii_letter(row[j + 1]):
        return j - i
    return 0


@kernel
def quote_end(row, i, end):  # type: ignore[no-untyped-def]
    """Where the quote marks at the start of the line that begins at `i` end."""
    j = i
    while j < end and (row[j] == 32 or row[j] == 9):
        j += 1
    while j < end and row[j] == 62 and (j + 1 >= end or row[j + 1] != 61):
        j += 1
        while j < end and row[j] == 32:
            j += 1
    return j


@kernel
def _numbered(row, i, end):  # type: ignore[no-untyped-def]
    """The number of one to three digits at `i` before `.`, `)`, `:` or `|` and a space, or before a tab; and the index
    after it. -1 if there is none."""
    j, number = i, np.int64(0)
    while j < end and j - i < 4 and is_digit(row[j]):
        number = number * 10 + np.int64(row[j]) - 48
        j += 1
    if j == i or j - i > 3 or j >= end:
        return np.int64(-1), i
    mark = row[j]
    if mark == 46 or mark == 41 or mark == 58 or mark == 124:
        j += 1
        if j >= end or not is_space(row[j]):
            return np.int64(-1), i
    elif mark != 9:
        return np.int64(-1), i
    return number, j


@kernel
def enumerator(row, i, end, previous):  # type: ignore[no-untyped-def]
    """The number of a list or a line at `i`, after white space, and the index after it; -1 if there is none.

    previous: the last such number. A number belongs to a list if it follows the one before it, or if the next one
    comes within MAX_LIST_BYTES; a list that does not begin a line begins with 1. "It costs 1. How many" has none.
    """
    number, text = _numbered(row, i, end)
    if number < 0:
        return number, text
    j = i
    while j > 0 and (row[j - 1] == 32 or row[j - 1] == 9 or row[j - 1] == 62):
        j -= 1
    begins_line = j == 0 or row[j - 1] == 10
    mark = row[text - 1]
    if not begins_line and mark != 46 and mark != 41:
        return np.int64(-1), i
    if mark == 41:
        # In f(8, 2) the bracket closes a call.
        while j > 0 and is_space(row[j - 1]):
            j -= 1
        if j > 0 and not (is_word_byte(row[j - 1]) or row[j - 1] == 46 or row[j - 1] == 58 or row[j - 1] == 59):
            return np.int64(-1), i
    if number == previous + 1:
        return number, text
    if number != 1 and not begins_line:
        return np.int64(-1), i
    if mark != 46 and mark != 41:
        # The number of a line: the next line has the next one.
        k = text
        while k < end and row[k] != 10:
            k += 1
        k = quote_end(row, min(k + 1, end), end)
        following, _ = _numbered(row, k, end)
        return (number, text) if following == number + 1 else (np.int64(-1), i)
    last = min(end, text + MAX_LIST_BYTES)
    for k in range(text, last):
        if is_digit(row[k]) and is_space(row[k - 1]):
            following, _ = _numbered(row, k, end)
            if following == number + 1:
                return number, text
    return np.int64(-1), i
