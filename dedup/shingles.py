"""Text -> tokens -> n-gram hashes. The only text normalisation there is; every comparison in Winnow reads text through
it.

What is particular here: numbers and operators survive. "What is 3 + 5?" and "What is 41 - 7?" are different texts,
which normalisers made for web pages forget. The rules, in the order a character meets them:

- letters, digits and the marks on them form **words**, case-folded character by character (Unicode simple folding, so
  final sigma is sigma and the Kelvin sign is k; Turkish dotted capital I is i);
- `.` and `,` between two ASCII digits belong to the number: `3.5`, `1,000` and the grid `53..7` are one token each;
- characters of scripts written without spaces (Han, kana, Thai, Lao, Khmer, Burmese ...) and characters that Unicode
  has not assigned are **one token each**, so that n-grams of tokens are n-grams of characters there;
- symbols and operators (Unicode S*, and `- * / % \\ &`) are one token each; U+2212 is the minus sign `-`;
- marks attach to the token before them; invisible format characters vanish without parting a word;
- white space, controls and ordinary punctuation part words and vanish.

Composed and decomposed accents are different bytes and stay different: apply NFC before, if a source mixes them.
A hash is a function of normalised bytes alone, the same on every machine. `shingle_hash` is the same function in
plain Python: hand it to `datasketch.MinHash(hashfunc=...)` to get bit-identical signatures.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.kernel import buffers, kernel, load, store, trailing_zeros
from dedup.utf8 import decode_checked, encode

Unit = Literal["word", "character"]
Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

# What a character does. WORD bytes below 128 are letters and digits, which `_fold_ascii` tells by arithmetic.
SEPARATOR, WORD, SINGLE, MARK, IGNORED, POINT, NON_ASCII = 0, 1, 2, 3, 4, 5, 6

OPERATORS = "-*/%\\&"
UNSPACED = (  # blocks of scripts written without spaces between words
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF), (0x1B00, 0x1B7F),
    (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x312F), (0x31A0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xA000, 0xA4CF), (0xA980, 0xA9DF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF), (0xFF66, 0xFF9F),
    (0x16FE0, 0x1B2FF), (0x20000, 0x3FFFF),
)  # fmt: skip
TABLE = 0x34000  # code points below it are looked up; above are unassigned, private, tags and variation selectors

SEED, MULTIPLIER, FINISH = 0x9E3779B97F4A7C15, 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53
BASE = 0xD6E8FEB86659FD93  # of the polynomial over token hashes; odd, so that no token's bits are shifted out
MASK = 0xFFFFFFFFFFFFFFFF

_SEED, _MULTIPLIER, _FINISH, _BASE = np.uint64(SEED), np.uint64(MULTIPLIER), np.uint64(FINISH), np.uint64(BASE)
_EACH, _HIGHEST, _ALL = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080), np.uint64(MASK)
_0, _1, _3, _8 = np.uint64(0), np.uint64(1), np.uint64(3), np.uint64(8)
_29, _32, _33, _64 = np.uint64(29), np.uint64(32), np.uint64(33), np.uint64(64)


class Tokens(NamedTuple):
    """The tokens of `rows` texts, row after row: those of row r are [offsets[r] : offsets[r + 1]].

    hash: uint64 [total] of the normalised token; start, end: int32 [total], the bytes of the original row that the
    token was read from (relative to the row's first byte); offsets: int64 [rows + 1].
    """

    hash: npt.NDArray[np.uint64]
    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]
    offsets: Offsets


class Shingles(NamedTuple):
    """The n-gram hashes of `rows` texts in reading order, repeats included: uint32 [total], int64 [rows + 1]."""

    hash: npt.NDArray[np.uint32]
    offsets: Offsets


def tokenize(text: pa.StringArray) -> Tokens:
    """Every token of every text [rows] with its place in the original. Raises as `kernel.buffers` does."""
    data, offsets = buffers(text)
    size = _size(offsets)
    hashes, starts, ends = np.empty(size, np.uint64), np.empty(size, np.int32), np.empty(size, np.int32)
    found = _tokenize(data, offsets, *_tables(), hashes, starts, ends)
    total = found[-1]
    return Tokens(hashes[:total], starts[:total], ends[:total], found)


def word_hashes(text: pa.StringArray) -> tuple[npt.NDArray[np.uint64], Offsets]:
    """Token hashes uint64 [total] and offsets int64 [rows + 1] of texts [rows]."""
    data, offsets = buffers(text)
    hashes = np.empty(_size(offsets), np.uint64)
    found = _tokenize(data, offsets, *_tables(), hashes, None, None)
    return hashes[: found[-1]], found


def normalise(text: pa.StringArray) -> pa.StringArray:
    """The texts [rows] as their folded tokens joined by one space. Idempotent."""
    data, offsets = buffers(text)
    # Folding lengthens a character by half at most (two bytes to three), a space is added at most once a byte, and
    # eight bytes are written at a time.
    out = np.empty(_size(offsets) * 5 // 2 + 8, np.uint8)
    ends = _fold(data, offsets, *_tables(), out)
    if ends[-1] > np.iinfo(np.int32).max:
        raise ValueError("more than 2 GiB of normalised text in one array: normalise it in slices")
    used = pa.py_buffer(out[: ends[-1]])
    return pa.StringArray.from_buffers(len(text), pa.py_buffer(ends.astype(np.int32).tobytes()), used)


def shingle_hashes(text: pa.StringArray, ngram: int, unit: Unit = "word") -> Shingles:
    """Hashes of the n-grams of texts [rows].

    unit "word": n-grams of tokens. unit "character": n-grams of the characters of `normalise(text)`, spaces included.
    A text with fewer than `ngram` units has no shingle: nothing is known of it here, and it is neither like nor unlike
    another. Such rows are for exact digests.
    """
    if ngram < 1:
        raise ValueError(f"an n-gram has at least one unit, not {ngram}")
    if unit == "character":
        text = normalise(text)
    elif unit != "word":
        raise ValueError(f"unit must be 'word' or 'character', not {unit!r}")
    data, offsets = buffers(text)
    power = np.uint64(pow(BASE, ngram, 1 << 64))
    out = np.empty(_size(offsets), np.uint32)
    scan = _word_shingles if unit == "word" else _character_shingles
    found = scan(data, offsets, *_tables(), ngram, power, out)
    return Shingles(out[: found[-1]], found)


def shingle_hash(shingle: bytes) -> int:
    """The 32-bit hash of one word shingle: normalised tokens joined by single spaces. The reference for the kernels."""
    value = 0
    for token in shingle.split(b" "):
        value = (value * BASE + token_hash(token)) & MASK
    return _narrow(value)


def character_shingle_hash(shingle: bytes) -> int:
    """The 32-bit hash of one character shingle: UTF-8 of its characters, spaces included."""
    value = 0
    for character in shingle.decode():
        value = (value * BASE + ord(character) * FINISH) & MASK
    return _narrow(value)


def token_hash(token: bytes) -> int:
    """The 64-bit hash of one normalised token: eight bytes at a time, xor, multiply, xor-shift. Tokens hold no zero
    byte."""
    value = SEED
    for at in range(0, len(token) - len(token) % 8, 8):
        value = ((value ^ int.from_bytes(token[at : at + 8], "little")) * MULTIPLIER) & MASK
        value ^= value >> 32
    value = ((value ^ int.from_bytes(token[len(token) - len(token) % 8 :], "little")) * MULTIPLIER) & MASK
    value = ((value ^ value >> 29) * FINISH) & MASK
    return value ^ value >> 32


def _narrow(value: int) -> int:
    return (((value ^ value >> 33) * FINISH) & MASK) >> 32


def kind_of(character: str) -> int:
    """What one character does (a constant of this module): the rules of the module's first lines."""
    code, category = ord(character), unicodedata.category(character)
    if character in ".,":
        return POINT
    if category[0] == "M":
        return MARK
    if category == "Cf":
        return IGNORED
    if category in ("Cn", "Co"):
        return SINGLE
    if category[0] in "LN":
        unspaced = category != "Nd" and any(low <= code <= high for low, high in UNSPACED)
        return SINGLE if unspaced else WORD
    if character in OPERATORS or (category[0] == "S" and character != "`"):
        return SINGLE
    return SEPARATOR


def fold(character: str) -> str:
    """The character that stands for `character` in normalised text; always one for one."""
    if character == "\u0130":
        return "i"
    if character == "\u2212":
        return "-"
    folded = character.casefold()
    return folded if len(folded) == 1 else (character.lower() if len(character.lower()) == 1 else character)


@functools.cache
def _tables() -> tuple[Bytes, Bytes, npt.NDArray[np.int32]]:
    """Byte -> kind [256]; code point -> kind and -> folded code point [TABLE].

    From Python's own Unicode data, so newly assigned characters follow the interpreter.
    """
    characters = [chr(code) for code in range(TABLE)]
    kinds = np.array([kind_of(character) for character in characters], np.uint8)
    folds = np.array([ord(fold(character)) for character in characters], np.int32)
    ascii_kind = np.full(256, NON_ASCII, np.uint8)
    ascii_kind[:128] = kinds[:128]
    return ascii_kind, kinds, folds


def ascii_folds() -> Bytes:
    """What stands in normalised text for each byte of a token, uint8 [256]; 0 for the bytes of other characters."""
    table = np.zeros(256, np.uint8)
    table[:128] = [ord(fold(chr(code))) for code in range(128)]
    return table


def _size(offsets: Offsets) -> int:
    """The most tokens that texts can hold: one a byte. Pages that are never written cost nothing."""
    return int(offsets[-1] - offsets[0])


@kernel
def _kind(code, kinds):  # type: ignore[no-untyped-def]
    if code < 0:
        return SEPARATOR
    if code < len(kinds):
        return int(kinds[code])
    if code >= 0xE0100 and code <= 0xE01EF:
        return MARK
    if code >= 0xE0001 and code <= 0xE007F:
        return IGNORED
    return SINGLE


@kernel
def _finish(h, v):  # type: ignore[no-untyped-def]
    h = (h ^ v) * _MULTIPLIER
    h = (h ^ h >> _29) * _FINISH
    return h ^ h >> _32


@kernel
def _fold_ascii(row, folded):  # type: ignore[no-untyped-def]
    """The row's ASCII letters (in lower case) and digits into `folded`, 0 for every other byte and for eight after the
    last: arithmetic on bytes alone, of which the compiler makes vectors."""
    for i in range(len(row)):
        byte = row[i]
        lower = np.uint8(byte | np.uint8(32))
        letter = np.uint8(lower - np.uint8(97)) < np.uint8(26)
        digit = np.uint8(byte - np.uint8(48)) < np.uint8(10)
        folded[i] = lower if letter else (byte if digit else np.uint8(0))
    for i in range(len(row), len(row) + 8):
        folded[i] = 0


@kernel
def _append(h, v, shift, word, count):  # type: ignore[no-untyped-def]
    """Read the `count` low bytes of `word`, one to eight and the rest of it 0, into an open token (h, v, shift)."""
    v |= word << shift
    filled = shift + (count << _3)
    if filled >= _64:
        h = (h ^ v) * _MULTIPLIER
        h ^= h >> _32
        filled -= _64
        v = word >> (_64 - shift) if filled != _0 else _0
    return h, v, filled


@kernel
def _put(h, v, start, stop, hashes, starts, ends, out, count):  # type: ignore[no-untyped-def]
    """The end of a token: its hash (and place), or a space in `out`, at index `count`. Returns the next index."""
    if out is not None:
        out[count] = 32
    else:
        hashes[count] = _finish(h, v)
        if starts is not None:
            starts[count] = start
            ends[count] = stop
    return count + 1


@kernel
def _scan(row, ascii_kind, kinds, folds, folded, hashes, starts, ends, out, count):  # type: ignore[no-untyped-def]
    """Tokens of one row from index `count`: into hashes (and starts, ends), or, folded and each with a space after it,
    into `out`, where that is given. What is None is not written and costs nothing: numba prunes the branch. Returns
    the index after the last.

    A token is read into `v`, eight bytes at a time, and mixed into `h`. `state` is the kind of the open token, 0 =
    none. folded: room for the row and eight bytes; letters and digits are taken from it eight at a time.
    """
    _fold_ascii(row, folded)
    end = len(row)
    h, v, shift = _SEED, _0, _0
    state = SEPARATOR
    start = stop = i = np.int64(0)
    while i < end:
        if folded[i] != 0:
            if state == SINGLE:
                count = _put(h, v, start, stop, hashes, starts, ends, out, count)
            if state != WORD:
                h, v, shift = _SEED, _0, _0
                start = i
                state = WORD
            length = _8
            while length == _8:
                word = load(folded, i)
                ending = (word - _EACH) & ~word & _HIGHEST  # its lowest bit is the highest of the first byte that is 0
                if ending != _0:
                    length = trailing_zeros(ending) >> _3
                    if length == _0:
                        break
                    word &= _ALL >> (_64 - (length << _3))
                if out is not None:
                    store(out, count, word)
                    count += np.int64(length)
                else:
                    h, v, shift = _append(h, v, shift, word, length)
                i += np.int64(length)
            stop = i
            if i < end and row[i] == 32:  # what stands after most words, taken without looking it up
                count = _put(h, v, start, stop, hashes, starts, ends, out, count)
                state = SEPARATOR
                i += 1
            continue
        byte = row[i]
        kind = int(ascii_kind[byte])
        width = 1
        code = np.int32(byte)
        if kind == NON_ASCII:
            code, width = decode_checked(row, i, end)
            kind = _kind(code, kinds)
        if kind == IGNORED:
            i += width
            continue
        if kind == POINT:
            kind = SEPARATOR
            if state == WORD and stop == i and row[i - 1] >= 48 and row[i - 1] <= 57:
                j = i + 1
                while j < end and ascii_kind[row[j]] == POINT:
                    j += 1
                if j < end and row[j] >= 48 and row[j] <= 57:
                    while i < j:  # the points between two digits are part of the number
                        if out is not None:
                            out[count] = row[i]
                            count += 1
                        else:
                            h, v, shift = _append(h, v, shift, np.uint64(row[i]), _1)
                        i += 1
                    stop = i
                    continue
        if state != SEPARATOR and (kind in (SEPARATOR, SINGLE) or (kind == WORD and state == SINGLE)):
            count = _put(h, v, start, stop, hashes, starts, ends, out, count)
            state = SEPARATOR
        if kind == SEPARATOR:
            i += width
            continue
        if state == SEPARATOR:
            h, v, shift = _SEED, _0, _0
            start = i
            state = SINGLE if kind == SINGLE else WORD
        if code < len(folds):
            code = folds[code]
        packed, size = encode(code)
        if out is not None:
            store(out, count, packed)
            count += size
        else:
            h, v, shift = _append(h, v, shift, packed, np.uint64(size))
        i += width
        stop = i
    if state != SEPARATOR:
        count = _put(h, v, start, stop, hashes, starts, ends, out, count)
    return count


@kernel
def _tokenize(data, offsets, ascii_kind, kinds, folds, hashes, starts, ends):  # type: ignore[no-untyped-def]
    found = np.empty(len(offsets), np.int64)
    folded = np.empty(_longest(offsets) + 8, np.uint8)
    count = 0
    for row in range(len(offsets) - 1):
        found[row] = count
        text = data[offsets[row] : offsets[row + 1]]
        count = _scan(text, ascii_kind, kinds, folds, folded, hashes, starts, ends, None, count)
    found[len(offsets) - 1] = count
    return found


@kernel
def _fold(data, offsets, ascii_kind, kinds, folds, out):  # type: ignore[no-untyped-def]
    """Write the folded tokens of each row, joined by spaces; the offsets of the rows in `out`."""
    found = np.empty(len(offsets), np.int64)
    unused, folded = np.empty(0, np.uint64), np.empty(_longest(offsets) + 8, np.uint8)
    at = 0
    for row in range(len(offsets) - 1):
        found[row] = at
        text = data[offsets[row] : offsets[row + 1]]
        at = _scan(text, ascii_kind, kinds, folds, folded, unused, None, None, out, at)
        if at > found[row]:
            at -= 1  # the space after the last token
    found[len(offsets) - 1] = at
    return found


@kernel
def _roll(values, count, ngram, power, out, at):  # type: ignore[no-untyped-def]
    """Hash every n-gram of values[:count] into `out` from `at`: a rolling polynomial, narrowed to 32 bits."""
    if count < ngram:
        return at
    total = _0
    for i in range(ngram):
        total = total * _BASE + values[i]
    mixed = (total ^ total >> _33) * _FINISH
    out[at] = np.uint32(mixed >> _32)
    at += 1
    for i in range(ngram, count):
        total = total * _BASE + values[i] - values[i - ngram] * power
        mixed = (total ^ total >> _33) * _FINISH
        out[at] = np.uint32(mixed >> _32)
        at += 1
    return at


@kernel
def _longest(offsets):  # type: ignore[no-untyped-def]
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    return longest


@kernel
def _word_shingles(data, offsets, ascii_kind, kinds, folds, ngram, power, out):  # type: ignore[no-untyped-def]
    found = np.empty(len(offsets), np.int64)
    words, folded = np.empty(_longest(offsets), np.uint64), np.empty(_longest(offsets) + 8, np.uint8)
    at = 0
    for row in range(len(offsets) - 1):
        found[row] = at
        text = data[offsets[row] : offsets[row + 1]]
        count = _scan(text, ascii_kind, kinds, folds, folded, words, None, None, None, 0)
        at = _roll(words, count, ngram, power, out, at)
    found[len(offsets) - 1] = at
    return found


@kernel
def _character_shingles(data, offsets, ascii_kind, kinds, folds, ngram, power, out):  # type: ignore[no-untyped-def]
    found = np.empty(len(offsets), np.int64)
    characters = np.empty(_longest(offsets), np.uint64)
    at = 0
    for row in range(len(offsets) - 1):
        found[row] = at
        i, count = offsets[row], 0
        while i < offsets[row + 1]:
            code, width = decode_checked(data, i, offsets[row + 1])
            characters[count] = np.uint64(code) * _FINISH
            count += 1
            i += width
        at = _roll(characters, count, ngram, power, out, at)
    found[len(offsets) - 1] = at
    return found
