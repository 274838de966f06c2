"""Markup around text: what the markup-free reading drops or decodes.

A text is first written without markup (`decode_markup`, `strip_markup`), with the place of each byte in the original.
What is left is read as any text, but for line starts, dashes, lists and number words.

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

from dedup.characters import IGNORED, look_up_kind
from dedup.hashing import fnv1a_bytes
from dedup.intrinsics import load_uint64, trailing_zeros
from dedup.kernel import borrowing_kernel
from dedup.symbols import command_end, is_ascii_letter, is_digit, is_space, is_word_byte, look_up
from dedup.utf8 import decode_checked, encode

_NONE, _3 = np.uint64(0), np.uint64(3)

Keys = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.int32]

INLINE_TAGS = """
a abbr b big cite code del em font i ins kbd mark q s small span strike strong sub sup tt u var wbr
"""
"""Names of HTML elements within words and sentences."""
BLOCK_TAGS = """
address article aside blockquote body br button caption center col dd details div dl dt figure footer form h1 h2 h3 h4
h5 h6 head header hr html img input label li link main meta nav ol option p pre section select style summary table
tbody td textarea tfoot th thead title tr ul math cmath imath
"""
"""Names of HTML elements that separate what stands around them. `<math>` and `<cmath>` are the `$` of AoPS."""
INLINE, BLOCK, SUPERSCRIPT = 1, 2, 3
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
        *name_table(
            dict.fromkeys(BLOCK_TAGS.split(), BLOCK) | dict.fromkeys(INLINE_TAGS.split(), INLINE) | {"sup": SUPERSCRIPT}
        ),
        *hash_table(words),
        np.array(numbers, np.uint64),
    )


@borrowing_kernel
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


@borrowing_kernel
def _hexadecimal(byte):  # type: ignore[no-untyped-def]
    """The value of a hexadecimal digit, -1 for another byte."""
    if is_digit(byte):
        return np.int64(byte) - 48
    lower = np.int64(byte) | 32
    return lower - 87 if lower >= 97 and lower <= 102 else -1


@borrowing_kernel
def _read_escape(row, i, end):  # type: ignore[no-untyped-def]
    """The code point of the escape `u003c` at `i`, after its backslash, or -1."""
    if i + 5 > end or row[i] != 117:
        return np.int64(-1)
    code = np.int64(0)
    for j in range(i + 1, i + 5):
        digit = _hexadecimal(row[j])
        if digit < 0:
            return np.int64(-1)
        code = code * 16 + digit
    return code


@borrowing_kernel
def _may_be_markup(byte):  # type: ignore[no-untyped-def]
    """One of & * < _ ` ~ and the backslash, or no ASCII."""
    return (
        (byte >= 128) | (byte == 38) | (byte == 60) | (byte == 42) | (byte == 96) | (byte == 126) | (byte == 92)
        | (byte == 95)
    )  # fmt: skip


@borrowing_kernel
def mark_suspects(row, marks):  # type: ignore[no-untyped-def]
    """Write 1 for each byte at which markup may begin, and 0 for all others and the 8 bytes behind them.

    Returns whether there is one; if not, nothing is written. Without branches, so that the compiler vectorizes the
    loops. marks: uint8 [len(row) + 8 or more].
    """
    suspect = False
    for byte in row:
        suspect |= _may_be_markup(byte)
    if suspect:
        for i in range(len(row)):
            marks[i] = _may_be_markup(row[i])
        for i in range(len(row), len(row) + 8):
            marks[i] = 0
    return suspect


@borrowing_kernel
def _next_suspect(marks, i, end):  # type: ignore[no-untyped-def]
    """The first index from `i` on that `mark_suspects` marked, or `end`."""
    while i < end:
        word = load_uint64(marks, i)
        if word != _NONE:
            return min(i + np.int64(trailing_zeros(word) >> _3), end)
        i += 8
    return end


@borrowing_kernel
def has_markup(row, characters, commands, markup, marks):  # type: ignore[no-untyped-def]
    """Whether a text is read without its markup: whether it has some, and its form without markup is another text.

    `decode_markup` and `strip_markup` cost more than reading a text, and leave most formulas and products as they are.
    Each of their rules is therefore asked here first whether it changes anything. The answer may be "yes" for a text
    that stays as it is, but not "no" for another.

    Dashes and curly quotes (U+2012 to U+2027 without the ellipsis, U+2030 to U+203F) are read as they stand where there
    is nothing else. marks: those of `mark_suspects`.
    """
    i, end = np.int64(0), np.int64(len(row))
    suspect, changed = False, False
    while not (suspect and changed):
        i = _next_suspect(marks, i, end)
        if i >= end:
            break
        byte = row[i]
        after = row[i + 1] if i + 1 < end else np.uint8(0)
        width = np.int64(1)
        if byte >= 128:
            code, wide = decode_checked(row, i, end)
            width = np.int64(wide)
            changed |= not _is_unchanged(code, width, characters)
            if _is_dash_or_quote(row, i, end):
                width = np.int64(3)
            else:
                suspect = True
        elif byte == 92:  # backslash
            suspect = True
            changed |= (
                after == 92 or after == 34 or after == 47
                or _read_escape(row, i + 1, end) > 0
                or _is_escaped_space(row, i, end, commands)
            )  # fmt: skip
        elif byte == 96:  # `
            suspect = changed = True
        elif byte == 126:  # ~
            suspect = True
            changed |= after == 126
        elif byte == 38:  # &
            if after == 35 or is_ascii_letter(after):
                suspect = True
                changed |= read_entity(row, i, end, markup.entity_keys, markup.entity_values)[1] > 0
        elif byte == 60:  # <
            if after == 47 or is_ascii_letter(after):
                suspect = True
                changed |= tag_width(row, i, end, markup.tag_keys, markup.tag_values)[0] > 0
        elif byte == 42:  # *
            if not (i > 0 and is_digit(row[i - 1]) and is_digit(after)):
                suspect = True
                changed |= is_emphasis(row, i, end)
                while i + width < end and row[i + width] == 42:
                    width += 1
        elif byte == 95 and not (0 < i < end - 1 and is_word_byte(row[i - 1]) and is_word_byte(after)):  # _
            suspect = True
            changed |= not _is_subscript(row, i, i, end)
        i += width
    return suspect and changed


@borrowing_kernel
def _is_dash_or_quote(row, i, end):  # type: ignore[no-untyped-def]
    """Whether one of U+2012 to U+2025, U+2027 and U+2030 to U+203F is at `i`."""
    if row[i] != 0xE2 or i + 2 >= end or row[i + 1] != 0x80:
        return False
    third = row[i + 2]
    return (third >= 0x92 and third <= 0xA5) or third == 0xA7 or third >= 0xB0


@borrowing_kernel
def _is_unchanged(code, width, characters):  # type: ignore[no-untyped-def]
    """Whether `decode_markup` writes a character beyond ASCII of `width` bytes as it is. code: -1 for no UTF-8."""
    if code < 0 or code == 0x2026 or encode(code)[1] != width:
        return False
    if code < len(characters.mixed) and characters.mixed[code] > 0:
        return False
    if code < len(characters.folds) and characters.folds[code] != code and characters.folds[code] != 42:
        return False
    return look_up_kind(code, characters.kinds) != IGNORED


@borrowing_kernel
def _in_latin_word(row, i, end):  # type: ignore[no-untyped-def]
    """Whether the word around the character at `i` has an ASCII letter."""
    for step in (-1, 1):
        j = i
        while j >= 0 and j < end and abs(j - i) < 40 and (row[j] >= 128 or is_ascii_letter(row[j])):
            if row[j] < 128:
                return True
            j += step
    return False


@borrowing_kernel
def _copy_run(run, i, out, first, last):  # type: ignore[no-untyped-def]
    """Write a run of bytes that begins at `i`, and their places. Numba vectorizes loops over whole slices only."""
    for k in range(len(run)):
        out[k] = run[k]
    at = np.int32(i)
    for k in range(len(run)):
        first[k] = at + np.int32(k)
        last[k] = at + np.int32(k + 1)


@borrowing_kernel
def decode_markup(row, characters, markup, marks, out, first, last):  # type: ignore[no-untyped-def]
    """Write the row with entities and escapes decoded and characters folded; its length in bytes.

    Invisible characters and accents are left out. A run of backslashes is one, as in text that was escaped again.
    marks: those of `mark_suspects`. out: uint8. first, last: int32, the bytes of `row` from which each byte of `out`
    comes.
    """
    end, n, i = np.int64(len(row)), np.int64(0), np.int64(0)
    superscript = np.int64(-1)  # where the last superscript character ends
    while i < end:
        # A run of plain characters is copied in loops that the compiler vectorizes.
        j = _next_suspect(marks, i, end)
        while j < end and row[j] < 128 and row[j] != 38 and row[j] != 92:
            j = _next_suspect(marks, j + 1, end)
        _copy_run(row[i:j], i, out[n:], first[n:], last[n:])
        n += j - i
        i = j
        if i >= end:
            break
        byte = row[i]
        code, width = np.int64(byte), np.int64(1)
        if byte == 38:  # &
            read, wide = read_entity(row, i, end, markup.entity_keys, markup.entity_values)
            if wide > 0:
                code, width = np.int64(read), np.int64(wide)
        elif byte == 92:  # backslash
            j = i + 1
            while j < end and row[j] == 92:
                j += 1
            width = np.int64(j - i)
            after = row[j] if j < end else np.uint8(0)
            read = _read_escape(row, j, end)
            if read > 0:
                code, width = read, width + 5
            elif after == 34 or after == 47:  # a quote, a slash
                code, width = np.int64(after), width + 1
        else:
            decoded, wide = decode_checked(row, i, end)
            code, width = np.int64(decoded), np.int64(wide)
            if code < 0 or code == 0x2026:  # no UTF-8; an ellipsis, which is no point
                code = np.int64(32)
            elif code < len(characters.mixed) and characters.mixed[code] > 0 and _in_latin_word(row, i, end):
                code = np.int64(characters.mixed[code])
        fold = np.int64(characters.folds[code]) if code < len(characters.folds) else code
        repeats = np.int64(1) if fold >= 0 else np.int64(characters.sequences[-fold - 1])
        begin, skipped = -fold, 0
        if fold < 0 and characters.sequences[begin] == 94:  # ^
            skipped = 1 if superscript == i else 0
            superscript = i + width
        elif fold < 0 and characters.sequences[begin] == 95:  # _, as in `dedup.tokens`
            skipped = 0 if n > 0 and is_digit(out[n - 1]) and superscript != i else 1
            superscript = i + width
        elif fold == 42:  # a sign of multiplication is no emphasis and no bullet
            fold = code
        for k in range(skipped, repeats):
            if repeats != 1 or fold < 0:
                fold = np.int64(characters.sequences[begin + k])
            if look_up_kind(fold, characters.kinds) == IGNORED:
                continue
            packed, size = encode(fold)
            for _ in range(size):
                out[n], first[n], last[n] = np.uint8(packed & np.uint64(0xFF)), i, i + width
                packed >>= np.uint64(8)
                n += 1
        i += width
    return n


@borrowing_kernel
def _is_escaped_space(text, i, size, commands):  # type: ignore[no-untyped-def]
    """Whether the backslash at `i` begins \\n, \\r or \\t, and no command of LaTeX."""
    after = text[i + 1] if i + 1 < size else np.uint8(0)
    if after != 110 and after != 114 and after != 116:
        return False
    return look_up(text, i + 1, command_end(text, i, size), commands.keys, commands.values, 0) == 0


@borrowing_kernel
def _is_before_capital(text, i, size, row, first):  # type: ignore[no-untyped-def]
    """Whether the backslash at `i` begins \\n, \\r or \\t before a capital letter: only \\rVert is a command.

    row, first: the text before case was folded, and where each byte of `text` comes from.
    """
    if i + 2 >= size or (text[i + 1] != 110 and text[i + 1] != 114 and text[i + 1] != 116):
        return False
    capital = row[first[i + 2]]
    is_vert = text[i + 1] == 114 and capital == 86
    return row[first[i + 1]] == text[i + 1] and capital >= 65 and capital <= 90 and not is_vert


@borrowing_kernel
def _is_subscript(text, n, i, size):  # type: ignore[no-untyped-def]
    """Whether the `_` at `i` joins a word or closing bracket that ends at index `n` and a word, `{` or command."""
    left = n > 0 and (is_word_byte(text[n - 1]) or text[n - 1] == 41 or text[n - 1] == 125)
    after = text[i + 1] if i + 1 < size else np.uint8(0)
    return left and (is_word_byte(after) or after == 123 or after == 92)


@borrowing_kernel
def _move_down(values, begin, end, to):  # type: ignore[no-untyped-def]
    """Move values[begin:end] to the earlier index `to`, eight at a time where they do not overlap."""
    n = end - begin
    k = 0
    if begin - to >= 8:
        source, target = values[begin:end], values[to:]
        while k + 8 <= n:
            for lane in range(8):
                target[k + lane] = source[k + lane]
            k += 8
    while k < n:
        values[to + k] = values[begin + k]
        k += 1


@borrowing_kernel
def strip_markup(text, size, commands, markup, marks, first, last, row):  # type: ignore[no-untyped-def]
    """Remove HTML tags, emphasis and escaped line ends from text[:size], in place. The length of the rest.

    first, last: the places of the bytes in `row`, which move with them. marks: working memory, uint8 [size + 8 or
    more].
    """
    if not mark_suspects(text[:size], marks):
        return size
    n, i = 0, 0
    while i < size:
        j = _next_suspect(marks, i, size)
        if n < i:
            _move_down(text, i, j, n)
            _move_down(first, i, j, n)
            _move_down(last, i, j, n)
        n += j - i
        i = j
        if i >= size:
            break
        byte = text[i]
        if byte == 60:  # <
            width, kind = tag_width(text, i, size, markup.tag_keys, markup.tag_values)
            if kind == BLOCK or (kind == SUPERSCRIPT and text[i + 1] != 47):
                text[n], first[n], last[n] = 32 if kind == BLOCK else 94, first[i], last[i]
                n += 1
            if width > 0:
                i += width
                continue
        if byte == 92 and (_is_escaped_space(text, i, size, commands) or _is_before_capital(text, i, size, row, first)):
            text[n], first[n], last[n] = 10, first[i], last[i + 1]
            n += 1
            i += 2
            continue
        dropped = False
        if byte == 42:  # *
            dropped = is_emphasis(text, i, size)
        elif byte == 96:  # `
            dropped = True
        elif byte == 95:  # _
            dropped = not _is_subscript(text, n, i, size)
        elif byte == 126:  # ~~
            dropped = (i + 1 < size and text[i + 1] == 126) or (i > 0 and text[i - 1] == 126)
        if not dropped:
            text[n], first[n], last[n] = byte, first[i], last[i]
            n += 1
        i += 1
    return n


@borrowing_kernel
def tag_width(row, i, end, keys, values):  # type: ignore[no-untyped-def]
    """The bytes of the HTML tag at `i` (a `<`), and INLINE, BLOCK or SUPERSCRIPT; (0, 0) if there is none.

    A tag with a space has attributes: `<b and c>` is no tag.
    """
    j = i + 1
    if j < end and row[j] == 47:
        j += 1
    first = j
    while j < end and j - first < 12 and (is_ascii_letter(row[j]) or is_digit(row[j])):
        j += 1
    if j == first or j >= end:
        return 0, 0
    stop = j
    while j < end and is_space(row[j]):
        j += 1
    attributes = j > stop
    if j < end and row[j] == 47:
        j += 1
        attributes = False
    if not (j < end and row[j] == 62):
        if not attributes:
            return 0, 0
        assigned = False
        while j < end and j - i < MAX_TAG_BYTES and row[j] != 62:
            if row[j] == 60:
                return 0, 0
            assigned |= row[j] == 61
            j += 1
        if not assigned or j >= end or row[j] != 62:
            return 0, 0
    kind = look_up(row, first, stop, keys, values, 0)
    return (j + 1 - i, np.int64(kind)) if kind != 0 else (0, 0)


@borrowing_kernel
def is_bullet(row, i, end):  # type: ignore[no-untyped-def]
    """Whether the `*` at `i` stands alone before a word of three letters or more: no multiplication."""
    if (i > 0 and not is_space(row[i - 1])) or i + 1 >= end or not is_space(row[i + 1]):
        return False
    return _is_prose(row, i + 1, end)


@borrowing_kernel
def _is_prose(row, j, end):  # type: ignore[no-untyped-def]
    """Whether the first thing from `j` on that is not space is a word of three letters or more, a quote or the end."""
    while j < end and is_space(row[j]):
        j += 1
    if j >= end or row[j] == 34 or row[j] == 39:
        return True
    word = j
    while word < end and is_ascii_letter(row[word]):
        word += 1
    return word - j >= 3


@borrowing_kernel
def is_dash(row, i, end, start, stop):  # type: ignore[no-untyped-def]
    """Whether the `-` at `i`, with space on both sides, is a dash of prose: beside a word of three letters or more.

    start, stop: the last token's bytes.
    """
    if (i > 0 and not is_space(row[i - 1])) or i + 1 >= end or not is_space(row[i + 1]):
        return False
    if stop == 0 or _is_prose(row, i + 1, end):
        return True
    return stop - start >= 3 and is_ascii_letter(row[start]) and is_ascii_letter(row[stop - 1])


@borrowing_kernel
def is_emphasis(row, i, end):  # type: ignore[no-untyped-def]
    """Whether the run of `*` around `i` touches text on one side only: emphasis, and no multiplication.

    Two or more that touch a mark of punctuation on one side and space on the other are emphasis too: `**Problem.** `.
    """
    first, stop = i, i + 1
    while first > 0 and row[first - 1] == 42:
        first -= 1
    while stop < end and row[stop] == 42:
        stop += 1
    left = first > 0 and (is_word_byte(row[first - 1]) or row[first - 1] == 41 or row[first - 1] == 93)
    right = stop < end and (
        is_word_byte(row[stop]) or row[stop] == 40 or row[stop] == 91 or row[stop] == 92 or row[stop] == 36
    )
    if left == right and stop - first > 1:
        left = first > 0 and not is_space(row[first - 1])
        right = stop < end and not is_space(row[stop])
    return left != right


@borrowing_kernel
def is_list_mark(row, i, end):  # type: ignore[no-untyped-def]
    """Whether the mark at `i` (> - *) begins a line, and the line before it or after it begins with the same one."""
    mark = np.int64(row[i])
    begin = i
    while begin > 0 and (row[begin - 1] == 32 or row[begin - 1] == 9 or row[begin - 1] == mark):
        begin -= 1
    if (begin > 0 and row[begin - 1] != 10) or _line_mark(row, begin, end)[0] != mark:
        return False
    following = i
    while following < end and row[following] != 10:
        following += 1
    if following < end and _line_mark(row, following + 1, end)[0] == mark:
        return True
    previous = begin - 1
    while previous > 0 and row[previous - 1] != 10:
        previous -= 1
    return begin > 0 and _line_mark(row, previous, end)[0] == mark


@borrowing_kernel
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


@borrowing_kernel
def ends_number(row, i, end):  # type: ignore[no-untyped-def]
    """Whether the letters at `i` are `teen`, `teenth` or `ty`: the rest of a number word that a line break parts."""
    j = i
    while j < end and j - i < 7 and is_ascii_letter(row[j]):
        j += 1
    if (row[i] | 32) != 116:
        return False
    if j - i == 2:
        return (row[i + 1] | 32) == 121
    teen = j - i >= 4 and (row[i + 1] | 32) == 101 and (row[i + 2] | 32) == 101 and (row[i + 3] | 32) == 110
    return teen and j - i < 7


@borrowing_kernel
def _line_mark(row, i, end):  # type: ignore[no-untyped-def]
    """The mark (> - *) with which the line at `i` begins, 0 if there is none, and the index after it and spaces."""
    j = i
    while j < end and (row[j] == 32 or row[j] == 9):
        j += 1
    if j >= end:
        return np.int64(0), i
    mark = np.int64(row[j])
    if mark == 62:
        k = j
        while k < end and (row[k] == 62 or row[k] == 32):
            k += 1
        return (np.int64(0), i) if k < end and row[k] == 61 else (mark, k)
    if (mark == 45 or mark == 42) and j + 1 < end and row[j + 1] == 32:
        return mark, j + 2
    return np.int64(0), i


@borrowing_kernel
def line_start(row, i, end, previous):  # type: ignore[no-untyped-def]
    """Where the text of the line that begins at `i` begins, and its mark: a bullet or quote mark that is skipped, or 0.

    A mark counts if the line before it has the same one (`previous`), or the next one has. A quote mark also counts
    at the start of the text and after an empty line. Others may be operators at which a formula was broken.
    """
    mark, text = _line_mark(row, i, end)
    if mark == 0:
        return i, mark
    if mark == previous or (mark == 62 and (i == 0 or (i > 1 and row[i - 2] == 10))):
        return text, mark
    k = text
    while k < end and row[k] != 10:
        k += 1
    following, _ = _line_mark(row, min(k + 1, end), end)
    if following == mark:
        return text, mark
    return i, np.int64(0)


@borrowing_kernel
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


@borrowing_kernel
def may_number(row, i, end):  # type: ignore[no-untyped-def]
    """Whether a mark of a list may follow the digit at `i`: a quick test before `enumerator`."""
    if i + 2 >= end:
        return False
    after, second = row[i + 1], row[i + 2]
    if after >= 97 or (after <= 32 and after != 9):
        return False
    return not is_digit(after) or is_digit(second) or second == 46 or second == 41 or second == 58 or second == 124


@borrowing_kernel
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
        k = min(k + 1, end)
        while k < end and (row[k] == 32 or row[k] == 9 or row[k] == 62):
            k += 1
        following, _ = _numbered(row, k, end)
        return (number, text) if following == number + 1 else (np.int64(-1), i)
    last = min(end, text + MAX_LIST_BYTES)
    for k in range(text, last):
        if is_digit(row[k]) and is_space(row[k - 1]):
            following, _ = _numbered(row, k, end)
            if following == number + 1:
                return number, text
    return np.int64(-1), i
