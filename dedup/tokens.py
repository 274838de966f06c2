"""Text to tokens: the only tokenizer and text normalization for comparisons.

`dedup.readings` says which texts are the same to it. A token is hashed from its normalized bytes alone, with the same
result on every machine: eight bytes at a time, by xor, multiplication and xor-shift. `token_hash` is the same function
in plain Python.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.characters import (
    IGNORED,
    MARK,
    NON_ASCII,
    POINT,
    SEPARATOR,
    SINGLE,
    SYMBOL,
    TRANSPARENT,
    WORD,
    look_up_kind,
)
from dedup.hashing import MURMUR_1, MURMUR_2
from dedup.intrinsics import load_uint64, store_uint64, trailing_zeros
from dedup.kernel import borrowing_kernel, buffers, kernel
from dedup.markup import (
    DOLLARS,
    HUNDRED,
    PERCENT,
    decode_markup,
    ends_number,
    enumerator,
    has_markup,
    hyphen_width,
    is_bullet,
    is_dash,
    is_emphasis,
    is_list_mark,
    line_start,
    mark_suspects,
    may_number,
    strip_markup,
)
from dedup.readings import Reading, reading_tables
from dedup.spacing import with_blanks
from dedup.symbols import (
    command_end,
    formula_end,
    groups_thousands,
    is_ascii_letter,
    is_degree,
    is_digit,
    is_fraction,
    is_word_byte,
    look_up,
    look_up_hash,
    read_backslash,
    read_symbol,
    thousands_end,
)
from dedup.utf8 import decode_checked, encode

Offsets = npt.NDArray[np.int64]

SEED = 0x9E3779B97F4A7C15
"""The hash state at the start of every token."""
WORD_BYTES = 8
"""Bytes that are read and written at a time. Buffers have this much room beyond their last byte."""
SPACE = 32
"""Joins the tokens of normalized text."""
MAX_EXPANSION = 14
"""Bytes of normalized text for each byte of text, at most: U+FDFA has 3 bytes and becomes 33, and spaces."""

_MASK = 0xFFFFFFFFFFFFFFFF
_SEED, _MURMUR_1, _MURMUR_2 = np.uint64(SEED), np.uint64(MURMUR_1), np.uint64(MURMUR_2)
_EACH_BYTE, _HIGH_BITS, _ALL = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080), np.uint64(_MASK)
_0, _1, _3, _7, _8 = np.uint64(0), np.uint64(1), np.uint64(3), np.uint64(7), np.uint64(8)
_29, _32, _56, _64 = np.uint64(29), np.uint64(32), np.uint64(56), np.uint64(64)
_LETTER_BITS = np.uint64(0x4040404040404040)
"""The bit that tells letters from digits, in each of eight bytes of `_fold_ascii`."""
_OTHER, _DIGIT, _GREEK, _LATIN = range(4)
"""Classes of the last character of an open word. `2x` is two tokens, `x2` one, and Greek letters are symbols."""


class Tokens(NamedTuple):
    """The tokens of texts [rows], row after row: those of row r are [offsets[r] : offsets[r + 1]].

    hash: uint64 [total], of the normalized token. start, end: int32 [total], the range of bytes of the original text
    that the token was read from, relative to the first byte of its row. offsets: int64 [rows + 1].
    """

    hash: npt.NDArray[np.uint64]
    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]
    offsets: Offsets


def tokenize(text: pa.StringArray, reading: Reading = "near") -> Tokens:
    """The tokens of texts [rows], with their positions in the original.

    Raises:
        TypeError, ValueError: as `dedup.kernel.buffers` does.
    """
    data, offsets = buffers(text)
    size = max_tokens(offsets)
    hashes, starts, ends = np.empty(size, np.uint64), np.empty(size, np.int32), np.empty(size, np.int32)
    token_offsets = _tokenize(data, offsets, *reading_tables(reading), hashes, starts, ends)
    total = token_offsets[-1]
    return Tokens(hashes[:total], starts[:total], ends[:total], token_offsets)


def normalise(text: pa.StringArray, reading: Reading = "near") -> pa.StringArray:
    """The texts [rows] as their normalized tokens, joined by single spaces.

    Raises:
        TypeError: as `dedup.kernel.buffers` does.
        ValueError: the same, or if the result exceeds 2 GiB.
    """
    data, offsets = buffers(text)
    normalized = np.empty(int(offsets[-1] - offsets[0]) * MAX_EXPANSION + 2 * WORD_BYTES, np.uint8)
    ends = _normalise(data, offsets, *reading_tables(reading), normalized)
    if ends[-1] > np.iinfo(np.int32).max:
        raise ValueError("more than 2 GiB of normalized text in one array: normalise it in slices")
    content = pa.py_buffer(normalized[: ends[-1]])
    return pa.StringArray.from_buffers(len(text), pa.py_buffer(ends.astype(np.int32).tobytes()), content)


def token_hash(token: bytes) -> int:
    """The 64-bit hash of one normalized token, which must not contain zero bytes. Reference for the kernels."""
    value = SEED
    for at in range(0, len(token) - len(token) % 8, 8):
        value = ((value ^ int.from_bytes(token[at : at + 8], "little")) * MURMUR_1) & _MASK
        value ^= value >> 32
    value = ((value ^ int.from_bytes(token[len(token) - len(token) % 8 :], "little")) * MURMUR_1) & _MASK
    value = ((value ^ value >> 29) * MURMUR_2) & _MASK
    return value ^ value >> 32


def max_tokens(offsets: Offsets) -> int:
    """A bound for the number of tokens in texts with these offsets. ½ has two bytes and three tokens.

    Arrays of this size are cheap, since the operating system assigns memory only to pages that are written.
    """
    return int(offsets[-1] - offsets[0]) * 3 // 2 + 4


@borrowing_kernel
def longest_row(offsets):  # type: ignore[no-untyped-def]
    """The greatest number of values in a row, 0 if there is no row."""
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    return longest


# An open token is the state (mixed, pending, bits): the hash of its bytes so far in words of eight, the bytes since the
# last full word, and the number of their bits.


@borrowing_kernel
def _append(mixed, pending, bits, word, count):  # type: ignore[no-untyped-def]
    """The state of an open token after `count` more bytes (1 to 8): the low bytes of `word`, whose others are 0."""
    pending |= word << bits
    total = bits + (count << _3)
    if total >= _64:
        mixed = (mixed ^ pending) * _MURMUR_1
        mixed ^= mixed >> _32
        total -= _64
        pending = word >> (_64 - bits) if total != _0 else _0
    return mixed, pending, total


@borrowing_kernel
def _finish(mixed, pending):  # type: ignore[no-untyped-def]
    """The hash of a token from its state."""
    h = (mixed ^ pending) * _MURMUR_1
    h = (h ^ h >> _29) * _MURMUR_2
    return h ^ h >> _32


@borrowing_kernel
def _close(mixed, pending, start, stop, hashes, starts, ends, out, count):  # type: ignore[no-untyped-def]
    """End a token: write its hash and range to index `count`, or a space to `out`. Returns the next index."""
    if out is not None:
        out[count] = SPACE
    else:
        hashes[count] = _finish(mixed, pending)
        starts[count] = start
        ends[count] = stop
    return count + 1


# The markup-free reading replaces words when they are closed. What it must remember of the tokens before:
MAX_NUMBER_WORD = 12
"""Bytes of the longest number word, "seventyseven"."""
MAX_GAP = 8
"""Bytes between two words of a number, or between a number and its unit."""
_VALUE, _VALUE_AT, _VALUE_STOP, _NUMBER_STOP = range(4)
"""Indices of `memory`, int64 [4]: the value of the last number word; the index of its token (or first byte in `out`);
the index of the byte after it in the text; the same for the last token that is a number."""


@borrowing_kernel
def _hash_of_bytes(data, begin, stop):  # type: ignore[no-untyped-def]
    """`token_hash` of data[begin:stop]."""
    mixed, at = _SEED, begin
    while at + 8 <= stop:
        mixed = (mixed ^ load_uint64(data, at)) * _MURMUR_1
        mixed ^= mixed >> _32
        at += 8
    pending, shift = _0, _0
    while at < stop:
        pending |= np.uint64(data[at]) << shift
        shift += _8
        at += 1
    return _finish(mixed, pending)


@borrowing_kernel
def _is_number_word(token, keys, values):  # type: ignore[no-untyped-def]
    """Whether a word is one that `_replace_word` may replace, by its hash. It leaves others as they are."""
    return look_up_hash(token, keys, values, -1) >= 0


@borrowing_kernel
def _replace_word(row, markup, memory, start, stop, token_at, hashes, starts, ends, out, count):  # type: ignore[no-untyped-def]
    """Replace the word that was just closed, if it is a number word, `dollars` or `percent`. The next index.

    token_at: the index of the word's token, or of its first byte in `out`.
    """
    last = row[stop - 1]
    adjacent = memory[_NUMBER_STOP] >= 0 and start - memory[_NUMBER_STOP] <= MAX_GAP
    broken = False  # whether a line ended before, so that > is a quote mark
    for at in range(memory[_NUMBER_STOP] if adjacent else start, start):
        broken |= row[at] == 10
        adjacent &= row[at] <= SPACE or row[at] == 36 or row[at] == 92 or (broken and row[at] == 62)  # "$5$ dollars"
    if is_digit(last):
        memory[_NUMBER_STOP] = stop
        return count
    if not is_ascii_letter(last) or stop - start > 2 * MAX_NUMBER_WORD:
        return count
    token = _hash_of_bytes(out, token_at, count - 1) if out is not None else hashes[token_at]
    value = look_up_hash(token, markup.word_keys, markup.word_values, -1)
    if value < 0:
        memory[_VALUE] = -1
        return count
    after_number_word = memory[_VALUE] >= 0 and start - memory[_VALUE_STOP] <= MAX_GAP
    broken = False
    for at in range(memory[_VALUE_STOP] if after_number_word else start, start):
        broken |= row[at] == 10
        after_number_word &= row[at] <= SPACE or row[at] == 45 or (broken and row[at] == 62)
    if value == DOLLARS:
        memory[_VALUE] = -1
        return token_at if adjacent else count
    if value == HUNDRED:
        if not (after_number_word and memory[_VALUE] == 1):
            memory[_VALUE] = -1
            return count
        value, token_at = 100, memory[_VALUE_AT]
    elif value == PERCENT:
        if not adjacent:
            memory[_VALUE] = -1
            return count
    elif (
        after_number_word and value > 0 and value < 10
        and memory[_VALUE] >= 20 and memory[_VALUE] < 100 and memory[_VALUE] % 10 == 0
    ):  # fmt: skip
        value, token_at = value + memory[_VALUE], memory[_VALUE_AT]
    if out is not None:
        count = token_at
        if value == PERCENT:
            out[count] = 37
            count += 1
        else:
            if value == 100:
                out[count] = 49
                count += 1
            if value >= 10:
                out[count] = 48 + value // 10 % 10
                count += 1
            out[count] = 48 + value % 10
            count += 1
        out[count] = SPACE
        count += 1
    else:
        hashes[token_at] = markup.number_hashes[101 if value == PERCENT else value]
        ends[token_at] = stop
        count = token_at + 1
    if value == PERCENT:
        memory[_VALUE] = -1
    else:
        memory[_VALUE], memory[_VALUE_AT], memory[_VALUE_STOP], memory[_NUMBER_STOP] = value, token_at, stop, stop
    return count


@borrowing_kernel
def _fold_ascii(row, ascii_words):  # type: ignore[no-untyped-def]
    """Write the ASCII letters (in lower case) and digits of the row, and 0 for every other byte and WORD_BYTES more.

    Only arithmetic on bytes, without branches or lookups, so that the compiler vectorizes the loop.
    """
    for i in range(len(row)):
        byte = row[i]
        lower = np.uint8(byte | np.uint8(32))
        letter = np.uint8(lower - np.uint8(97)) < np.uint8(26)
        digit = np.uint8(byte - np.uint8(48)) < np.uint8(10)
        ascii_words[i] = lower if letter else (byte if digit else np.uint8(0))
    for i in range(len(row), len(row) + WORD_BYTES):
        ascii_words[i] = 0


@borrowing_kernel
def _digit_follows(row, i, end):  # type: ignore[no-untyped-def]
    """Whether the first byte from `i` on that is no space is a digit."""
    while i < end and row[i] == SPACE:
        i += 1
    return i < end and is_digit(row[i])


@borrowing_kernel
def _word_follows(row, i, end):  # type: ignore[no-untyped-def]
    """Whether two ASCII letters stand at `i`."""
    return i + 1 < end and is_ascii_letter(row[i]) and is_ascii_letter(row[i + 1])


@borrowing_kernel
def _class_of(code):  # type: ignore[no-untyped-def]
    """The class of a word character after folding."""
    if code >= 48 and code <= 57:
        return _DIGIT
    if code >= 0x3B1 and code <= 0x3C9:
        return _GREEK
    return _LATIN if code < 128 else _OTHER


@borrowing_kernel
def _parts(last, new):  # type: ignore[no-untyped-def]
    """Whether a character of class `new` begins a word of its own after one of class `last`."""
    if last == _DIGIT:
        return new != _DIGIT
    return (last == _GREEK and new in (_LATIN, _DIGIT)) or (last == _LATIN and new == _GREEK)


@borrowing_kernel
def _gap(row, start, i, end, markup):  # type: ignore[no-untyped-def]
    """The bytes at `i`, after the word that begins at `start`, which only separate it from what follows; 0 if others
    stand there. Those that are most frequent: the rules for all are in `scan_tokens`."""
    if i >= end:
        return 0
    byte = row[i]
    if byte == SPACE:
        return 1
    if markup is not None:  # the reading has rules for line starts, quotes and more
        return 2 if (byte == 46 or byte == 44) and i + 1 < end and row[i + 1] == SPACE else 0
    if byte == 10 or byte == 34 or byte == 59:  # " ;
        return 1
    if byte == 46 or byte == 44 or byte == 63 or byte == 58:  # . , ? :
        return 2 if i + 1 < end and row[i + 1] <= SPACE else 0
    if byte == 39:  # an apostrophe, since a prime stands after a single letter
        return 1 if i - start > 1 else 0
    return 0


@borrowing_kernel
def scan_tokens(  # type: ignore[no-untyped-def]
    row, characters, commands, markup, ascii_words, memory, hashes, starts, ends, out, count
):
    """Write the tokens of one row from index `count` on; the index after the last.

    Either the hashes of the tokens and their ranges, or, if `out` is not None, their normalized bytes, each token
    followed by a space. Numba compiles a version for each, and for each reading, and removes the branches for arguments
    that are None. That takes seconds, so callers that need no ranges give arrays for them all the same.

    row: uint8, the text. characters, commands, markup: see `dedup.readings.reading_tables`. ascii_words, memory:
    working memory, uint8 [len(row) + WORD_BYTES] and int64 [4].
    """
    _fold_ascii(row, ascii_words)
    byte_kinds, kinds, folds = characters.byte_kinds, characters.kinds, characters.folds
    end = len(row)
    mixed, pending, bits = _SEED, _0, _0
    open_kind = SEPARATOR  # WORD or SINGLE while a token is open
    # The last token's bytes; where the transparent characters after it end; where the last prime, the last opening
    # bracket and the last list of numbers end; where the formula of a `$` ends, and up to where there is no second `$`.
    start = stop = i = np.int64(0)
    anchor, after_prime, after_bracket, list_end = np.int64(-1), np.int64(-1), np.int64(-1), np.int64(-1)
    formula, no_formula = np.int64(-1), np.int64(0)
    grouped = False  # whether the commas of that list group thousands
    split, digits = np.int64(-1), 0  # where the name of a command ends, and how many single digits it takes
    superscript = np.int64(-1)  # where the last superscript or subscript character ends
    last_class = _OTHER  # of the last character of the open word
    token_at = count  # where the open token begins in `out` or `hashes`
    list_number = np.int64(-9)  # the last number of a list or a line
    list_mark = np.int64(0)  # the bullet or quote mark of the line
    if markup is not None:
        memory[:] = -1
        word_keys, word_values = markup.word_keys, markup.word_values
        word_mask = np.uint64(len(word_keys) - 1)
        i, list_mark = line_start(row, i, end, list_mark)
    while i < end:
        if markup is None and out is None and open_kind == SEPARATOR:
            # Most words are ASCII letters, or digits after letters, with a gap behind them. This loop leaves the state
            # for all else alone, whose care costs more than such a word.
            while split < i and i < end:
                word = load_uint64(ascii_words, i)
                zero_bytes = (word - _EACH_BYTE) & ~word & _HIGH_BITS
                mixed, at = _SEED, i
                while zero_bytes == _0 and ~word & _LETTER_BITS == _0:
                    mixed = (mixed ^ word) * _MURMUR_1
                    mixed ^= mixed >> _32
                    at += 8
                    word = load_uint64(ascii_words, at)
                    zero_bytes = (word - _EACH_BYTE) & ~word & _HIGH_BITS
                if zero_bytes == _0:
                    break
                length = trailing_zeros(zero_bytes) >> _3
                word &= ((zero_bytes & (~zero_bytes + _1)) >> _7) - _1  # the bytes of the word
                at += np.int64(length)
                if at == i and (row[i] == 10 or row[i] == SPACE):
                    i += 1
                    continue
                if at == i or word & _LETTER_BITS & (~word & _LETTER_BITS) << _8 != _0:
                    break
                gap = _gap(row, i, at, end, markup)
                if gap == 0:
                    break
                start, stop = i, at
                count = _close(mixed, word, start, stop, hashes, starts, ends, out, count)
                i = stop + gap
            if i >= end:
                break
        # A run of ASCII letters and digits, eight at a time.
        if ascii_words[i] != 0:
            if markup is not None and is_digit(row[i]) and (i == 0 or row[i - 1] <= SPACE) and may_number(row, i, end):
                number, text = enumerator(row, i, end, list_number)
                if number >= 0:
                    list_number, i = number, np.int64(text)
                    continue
            parted = i == split or last_class == _GREEK or (last_class == _DIGIT and not is_digit(row[i]))
            if open_kind == SINGLE or (open_kind == WORD and parted):
                count = _close(mixed, pending, start, stop, hashes, starts, ends, out, count)
                if markup is not None and open_kind == WORD and is_digit(row[stop - 1]):
                    memory[_NUMBER_STOP] = stop
                open_kind = SEPARATOR
            if i == split:
                split = i + 1 if digits > 0 and is_digit(row[i]) else np.int64(-1)
                digits -= 1
            if open_kind != WORD:
                mixed, pending, bits = _SEED, _0, _0
                start = i
                open_kind = WORD
                token_at = count
            length = _8
            digit_before = _0  # whether the byte before the next eight is a digit of this word, as its letter bit
            while length == _8:
                word = load_uint64(ascii_words, i)
                # The lowest set bit is the high bit of the first byte that is 0, which ends the run.
                zero_bytes = (word - _EACH_BYTE) & ~word & _HIGH_BITS
                if zero_bytes != _0:
                    length = trailing_zeros(zero_bytes) >> _3
                    if length == _0:
                        break
                    word &= _ALL >> (_64 - (length << _3))
                # A letter after a digit begins another word.
                digits_in = ~word & _LETTER_BITS
                parts = word & _LETTER_BITS & (digits_in << _8 | digit_before)
                if parts != _0:
                    length = trailing_zeros(parts) >> _3
                    if length == _0:
                        break
                    word &= _ALL >> (_64 - (length << _3))
                digit_before = digits_in >> _56
                if i < split and np.int64(length) >= split - i:
                    length = np.uint64(split - i)
                    if length < _8:
                        word &= _ALL >> (_64 - (length << _3))
                if out is not None:
                    store_uint64(out, count, word)
                    count += np.int64(length)
                else:
                    mixed, pending, bits = _append(mixed, pending, bits, word, length)
                i += np.int64(length)
            stop = i
            last_class = _DIGIT if is_digit(row[i - 1]) else _LATIN
            gap = _gap(row, start, i, end, markup)
            if gap > 0:
                count = _close(mixed, pending, start, stop, hashes, starts, ends, out, count)
                if markup is not None:
                    if is_digit(row[stop - 1]):
                        memory[_NUMBER_STOP] = stop
                    elif out is not None or (
                        stop - start <= MAX_NUMBER_WORD
                        and word_keys[hashes[token_at] & word_mask] != _0
                        and _is_number_word(hashes[token_at], word_keys, word_values)
                    ):  # the first slot of a word's hash rules out most
                        count = _replace_word(
                            row, markup, memory, start, stop, token_at, hashes, starts, ends, out, count
                        )
                open_kind = SEPARATOR
                i += gap
            continue
        # Any other character, by its kind.
        byte = row[i]
        kind = int(byte_kinds[byte])
        width = np.int64(1)
        code = np.int64(byte)
        if kind == NON_ASCII:
            decoded, wide = decode_checked(row, i, end)
            code, width = np.int64(decoded), np.int64(wide)
            kind = look_up_kind(code, kinds)
        if markup is not None:
            if code == 42:  # *
                kind = SEPARATOR if is_bullet(row, i, end) else SINGLE
            elif code == 45:  # -
                wide = np.int64(hyphen_width(row, i, width, end, start, stop) if open_kind == WORD else 0)
                # 12-year-old, $12$-sided: the number stays a token.
                after_digit = stop > 0 and (stop == i or anchor == i) and is_digit(row[stop - 1])
                if after_digit and _word_follows(row, i + 1, end):
                    kind, wide = SEPARATOR, np.int64(-1)
                elif wide > 0:
                    token = _finish(mixed, pending) if out is None else _hash_of_bytes(out, token_at, count)
                    value = look_up_hash(token, markup.word_keys, markup.word_values, -1)
                    if value >= 0 and value <= 100 and not ends_number(row, i + wide, end):  # twelve-year-old
                        kind, wide = SEPARATOR, np.int64(-1)
                if wide > 0:
                    i += wide
                    anchor = i
                    continue
                if wide == 0:
                    kind = SEPARATOR if is_dash(row, i, end, start, stop) else SINGLE
            elif code == 62:  # >>> of a Python session
                inner = i > 0 and row[i - 1] == 62 and i + 1 < end and row[i + 1] == 62
                first = i + 2 < end and row[i + 1] == 62 and row[i + 2] == 62
                final = i > 1 and row[i - 1] == 62 and row[i - 2] == 62
                if inner or first or final:
                    kind = SEPARATOR
        elif code == 42:  # *
            kind = SEPARATOR if is_emphasis(row, i, end) or is_list_mark(row, i, end) else SINGLE
        elif (code == 45 or code == 62) and (i == 0 or row[i - 1] <= SPACE) and is_list_mark(row, i, end):  # - >
            kind = SEPARATOR
        touching = stop == i or anchor == i
        if code == 0x2013 and stop > 0 and is_digit(row[stop - 1]) and _digit_follows(row, i + width, end):
            code, kind = np.int64(45), SINGLE  # an en dash between numbers
        if kind == IGNORED:
            i += width
            if touching:
                anchor = i
            continue
        if kind == POINT:
            # Points between two digits belong to the number, commas only if they group thousands, which they do not
            # do in a list of numbers. A point between two letters joins names. Others are separators.
            kind = SEPARATOR
            if open_kind == WORD and touching:
                if is_digit(row[stop - 1]):
                    if code == 46:
                        j = i + 1
                        while j < end and row[j] == 46:
                            j += 1
                        if j < end and is_digit(row[j]):
                            while i < j:
                                if out is not None:
                                    out[count] = row[i]
                                    count += 1
                                else:
                                    mixed, pending, bits = _append(mixed, pending, bits, np.uint64(row[i]), _1)
                                i += 1
                            stop = i
                            continue
                    else:
                        if i >= list_end:
                            grouped, list_end = thousands_end(row, stop, i, end)
                        if grouped and i < list_end:
                            i += 1
                            anchor = i
                            continue
                elif (
                    markup is None
                    and code == 46
                    and is_ascii_letter(row[stop - 1])
                    and i + 1 < end
                    and is_ascii_letter(row[i + 1])
                ):
                    kind = SINGLE
        elif kind == SYMBOL:
            if code == 36:  # $
                doubled = i + 1 < end and row[i + 1] == 36
                kind = TRANSPARENT
                if doubled:
                    width = np.int64(2)
                elif formula == i:
                    formula = np.int64(-1)
                elif formula < i:
                    if i >= no_formula:
                        formula, searched = formula_end(row, i, end)
                        if formula < 0:
                            no_formula = searched
                    if formula < 0 and markup is None and i + 1 < end and not is_digit(row[i + 1]):
                        after = row[i + 1]
                        kind = SINGLE if is_word_byte(after) or after == 123 or after == 40 else SEPARATOR
            elif code == 92:  # backslash
                if i + 1 < end and row[i + 1] == 44 and groups_thousands(row, i, 2, end):
                    i += 2
                    anchor = i
                    continue
                kind, code, width = read_backslash(row, i, end, commands.keys, commands.values)
                if kind == SINGLE and code >= 128:
                    kind = look_up_kind(code, kinds)
                    if kind == SYMBOL:
                        kind = SINGLE
                elif (kind == SEPARATOR and width == 1) or is_fraction(row, i, end):
                    # A digit after the name of a command is no part of it, and \\frac takes two single digits.
                    split, digits = np.int64(command_end(row, i, end)), 2 if is_fraction(row, i, end) else 0
            elif code == 123 and i + 2 < end and row[i + 1] == 44 and row[i + 2] == 125:  # {,}
                if groups_thousands(row, i, 3, end):
                    i += 3
                    anchor = i
                    continue
                kind, width = SEPARATOR, np.int64(3)
            elif (code == 94 or code == 95) and i + 2 < end and row[i + 1] == 123 and row[i + 2] == 125:  # ^{} _{}
                kind, width = TRANSPARENT, np.int64(3)
            elif code == 94 and i + 1 < end and (row[i + 1] == 92 or row[i + 1] == 123):  # ^\circ, ^{\prime}
                kind = SINGLE
                j = i + 1 + (row[i + 1] == 123)
                if j + 1 < end and row[j] == 92:
                    letters = command_end(row, j, end)
                    value = look_up(row, j + 1, letters, commands.keys, commands.values, 0)
                    if value == 0x2218 or value == 0xB0 or value == 0x2032:
                        code = np.int64(0x2032 if value == 0x2032 else 0xB0)
                        width = letters - i + (row[i + 1] == 123 and letters < end and row[letters] == 125)
            elif code == 94 and is_degree(row, i + 1, end):  # ^∘, ^°
                kind, code, width = SINGLE, np.int64(0xB0), 3 + np.int64(row[i + 1] == 0xE2)
            elif (code == 60 or code == 62 or code == 33) and i + 1 < end and row[i + 1] == 61:  # <= >= !=
                kind, width = SINGLE, np.int64(2)
                code = np.int64(0x2264 if code == 60 else (0x2265 if code == 62 else 0x2260))
            elif code == 63 and (markup is not None or formula == i + width):
                kind = SEPARATOR  # the question mark of a sentence that ends with a formula
            elif folds[code] >= 0:
                kind, code = read_symbol(
                    np.int64(folds[code]), row, i, width, end, start, stop, anchor, after_prime, after_bracket,
                    commands.keys, commands.values,
                )  # fmt: skip
        # A mark extends the open token, and a word character an open word. Everything else ends it.
        fold = np.int64(folds[code]) if code >= 0 and code < len(folds) else code
        single_character = fold >= 0 or kind in (SEPARATOR, TRANSPARENT)
        sequence_at = np.int64(0) if single_character else -fold
        repeats = np.int64(1) if single_character else np.int64(characters.sequences[-fold - 1])
        begin = 0
        if not single_character and characters.sequences[sequence_at] == 94:  # ^
            begin = 1 if superscript == i else 0  # 10⁻³ has one
            superscript = i + width
        elif not single_character and characters.sequences[sequence_at] == 95:  # _
            # H₂O is H2O. After a number, 101₂ is 101_2.
            begin = 0 if open_kind == WORD and last_class == _DIGIT and superscript != i else 1
            superscript = i + width
        for n in range(begin, repeats):
            if not single_character:
                fold = np.int64(characters.sequences[sequence_at + n])
                kind = look_up_kind(np.int32(fold), kinds)
                if kind == SYMBOL:
                    kind = SINGLE
                elif kind == POINT:
                    kind = SEPARATOR
                elif kind == IGNORED:
                    continue
            new_class = _class_of(fold) if kind == WORD else _OTHER
            if open_kind != SEPARATOR and (
                kind in (SEPARATOR, SINGLE, TRANSPARENT)
                or (kind == WORD and (open_kind == SINGLE or _parts(last_class, new_class)))
            ):
                count = _close(mixed, pending, start, stop, hashes, starts, ends, out, count)
                if markup is not None and open_kind == WORD:
                    if is_digit(row[stop - 1]):
                        memory[_NUMBER_STOP] = stop
                    elif out is not None or (
                        stop - start <= MAX_NUMBER_WORD
                        and word_keys[hashes[token_at] & word_mask] != _0
                        and _is_number_word(hashes[token_at], word_keys, word_values)
                    ):
                        count = _replace_word(
                            row, markup, memory, start, stop, token_at, hashes, starts, ends, out, count
                        )
                open_kind = SEPARATOR
            last_class = new_class if kind != MARK else last_class
            if kind in (SEPARATOR, TRANSPARENT):
                continue
            if open_kind == SEPARATOR:
                mixed, pending, bits = _SEED, _0, _0
                start = i
                last_class = _OTHER if kind == MARK else last_class
                open_kind = SINGLE if kind == SINGLE else WORD
                token_at = count
            packed, size = encode(fold)
            if out is not None:
                store_uint64(out, count, packed)
                count += size
            else:
                mixed, pending, bits = _append(mixed, pending, bits, packed, np.uint64(size))
            stop = i + width
        if kind == TRANSPARENT:
            if stop == i or anchor == i:
                anchor = i + width
            if after_bracket == i:
                after_bracket = i + width
        elif kind == SINGLE:
            if fold == 39:
                after_prime = stop
            elif fold == 40 or fold == 91:
                after_bracket = stop
        i += width
        if markup is not None and code == 10 and kind == SEPARATOR:
            i, list_mark = line_start(row, i, end, list_mark)
        if open_kind == SEPARATOR:
            while i < end and row[i] == SPACE:
                i += 1
    if open_kind != SEPARATOR:
        count = _close(mixed, pending, start, stop, hashes, starts, ends, out, count)
        if markup is not None and open_kind == WORD:
            count = _replace_word(row, markup, memory, start, stop, token_at, hashes, starts, ends, out, count)
    return count


@borrowing_kernel
def _plain(row, characters, commands, markup, marks, plain, first, last):  # type: ignore[no-untyped-def]
    """The row without markup, as bytes of `plain`; their places in the row go to `first` and `last`. Its length.

    marks: those of `dedup.markup.mark_suspects`. They are overwritten.
    """
    size = decode_markup(row, characters, markup, marks, plain, first, last)
    return strip_markup(plain, size, commands, markup, marks, first, last, row)


@kernel
def _tokenize(data, offsets, characters, commands, markup, hashes, starts, ends):  # type: ignore[no-untyped-def]
    """Write the tokens of each row; the offsets of the rows in them."""
    token_offsets = np.empty(len(offsets), np.int64)
    longest = longest_row(offsets)
    spaced = np.empty(longest, np.uint8)
    if markup is not None:
        longest *= MAX_EXPANSION
        plain, first, last = np.empty(longest, np.uint8), np.empty(longest, np.int32), np.empty(longest, np.int32)
    ascii_words, memory = np.empty(longest + WORD_BYTES, np.uint8), np.empty(4, np.int64)
    count = 0
    for row in range(len(offsets) - 1):
        token_offsets[row] = count
        text, marked, begin = data[offsets[row] : offsets[row + 1]], False, count
        if with_blanks(text, spaced):
            text = spaced[: len(text)]
        if markup is not None:
            marked = mark_suspects(text, ascii_words) and has_markup(text, characters, commands, markup, ascii_words)
            if marked:
                size = _plain(text, characters, commands, markup, ascii_words, plain, first, last)
                text = plain[:size]
        count = scan_tokens(text, characters, commands, markup, ascii_words, memory, hashes, starts, ends, None, count)
        if markup is not None and marked:
            for t in range(begin, count):
                starts[t], ends[t] = first[starts[t]], last[ends[t] - 1]
    token_offsets[len(offsets) - 1] = count
    return token_offsets


@kernel
def _normalise(data, offsets, characters, commands, markup, out):  # type: ignore[no-untyped-def]
    """Write the normalized tokens of each row, joined by spaces; the offsets of the rows in `out`."""
    row_offsets = np.empty(len(offsets), np.int64)
    longest = longest_row(offsets)
    spaced = np.empty(longest, np.uint8)
    if markup is not None:
        longest *= MAX_EXPANSION
        plain, first, last = np.empty(longest, np.uint8), np.empty(longest, np.int32), np.empty(longest, np.int32)
    unused, no_places = np.empty(0, np.uint64), np.empty(0, np.int32)
    ascii_words, memory = np.empty(longest + WORD_BYTES, np.uint8), np.empty(4, np.int64)
    at = 0
    for row in range(len(offsets) - 1):
        row_offsets[row] = at
        text = data[offsets[row] : offsets[row + 1]]
        if with_blanks(text, spaced):
            text = spaced[: len(text)]
        if markup is not None:
            marked = mark_suspects(text, ascii_words) and has_markup(text, characters, commands, markup, ascii_words)
            if marked:
                text = plain[: _plain(text, characters, commands, markup, ascii_words, plain, first, last)]
        at = scan_tokens(text, characters, commands, markup, ascii_words, memory, unused, no_places, no_places, out, at)
        if at > row_offsets[row]:
            at -= 1  # the space after the last token
    row_offsets[len(offsets) - 1] = at
    return row_offsets
