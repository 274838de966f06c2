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

from dedup.kernel import buffers, kernel

Unit = Literal["word", "character"]
Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

# What a character does. WORD bytes below 128 are handled by the fold table alone.
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
_0, _6, _8, _12, _18 = np.uint64(0), np.uint64(6), np.uint64(8), np.uint64(12), np.uint64(18)
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
    # Folding lengthens a character by half at most (two bytes to three), and a space is added at most once a byte.
    out = np.empty(_size(offsets) * 5 // 2 + 8, np.uint8)
    ends = _fold(data, offsets, *_tables(), out)
    if ends[-1] > np.iinfo(np.int32).max:
        raise ValueError("more than 2 GiB of normalised text in one array: normalise it in slices")
    used = pa.py_buffer(out[: ends[-1]].tobytes())
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
def _tables() -> tuple[Bytes, Bytes, Bytes, npt.NDArray[np.int32]]:
    """ASCII word byte -> folded byte, else 0 [256]; byte -> kind [256]; code point -> kind and -> folded code point
    [TABLE].

    From Python's own Unicode data, so newly assigned characters follow the interpreter.
    """
    characters = [chr(code) for code in range(TABLE)]
    kinds = np.array([kind_of(character) for character in characters], np.uint8)
    folds = np.array([ord(fold(character)) for character in characters], np.int32)
    ascii_fold = np.zeros(256, np.uint8)
    ascii_fold[:128] = np.where(kinds[:128] == WORD, folds[:128], 0)
    ascii_kind = np.full(256, NON_ASCII, np.uint8)
    ascii_kind[:128] = kinds[:128]
    return ascii_fold, ascii_kind, kinds, folds


def ascii_folds() -> Bytes:
    """What stands in normalised text for each byte of a token, uint8 [256]; 0 for the bytes of other characters."""
    folds = _tables()[0].copy()
    folds[:128] = np.where(folds[:128] == 0, np.arange(128), folds[:128])
    return folds


def _size(offsets: Offsets) -> int:
    """The most tokens that texts can hold: one a byte. Pages that are never written cost nothing."""
    return int(offsets[-1] - offsets[0])


@kernel
def _decode(data, at, end):  # type: ignore[no-untyped-def]
    """The code point at `at` and its width in bytes; -1 and 1 for a byte that is not UTF-8."""
    first = np.int32(data[at])
    if first < 0x80:
        return first, 1
    if first >= 0xC2 and first < 0xE0 and at + 1 < end and (data[at + 1] & 0xC0) == 0x80:
        return (first & 0x1F) << 6 | (np.int32(data[at + 1]) & 0x3F), 2
    if (
        first >= 0xE0
        and first < 0xF0
        and at + 2 < end
        and (data[at + 1] & 0xC0) == 0x80
        and (data[at + 2] & 0xC0) == 0x80
    ):
        return (first & 0x0F) << 12 | (np.int32(data[at + 1]) & 0x3F) << 6 | (np.int32(data[at + 2]) & 0x3F), 3
    if (
        first >= 0xF0 and first < 0xF5 and at + 3 < end
        and (data[at + 1] & 0xC0) == 0x80 and (data[at + 2] & 0xC0) == 0x80 and (data[at + 3] & 0xC0) == 0x80
    ):  # fmt: skip
        tail = (
            (np.int32(data[at + 1]) & 0x3F) << 12
            | (np.int32(data[at + 2]) & 0x3F) << 6
            | (np.int32(data[at + 3]) & 0x3F)
        )
        return (first & 0x07) << 18 | tail, 4
    return np.int32(-1), 1


@kernel
def _encode(code):  # type: ignore[no-untyped-def]
    """A code point's UTF-8 bytes as a little-endian integer, and their number."""
    c = np.uint64(code)
    low, lead = np.uint64(0x3F), np.uint64(0x80)
    if code < 0x80:
        return c, 1
    if code < 0x800:
        return (c >> _6 | np.uint64(0xC0)) | (c & low | lead) << _8, 2
    if code < 0x10000:
        return (c >> _12 | np.uint64(0xE0)) | (c >> _6 & low | lead) << _8 | (c & low | lead) << np.uint64(16), 3
    head = (c >> _18 | np.uint64(0xF0)) | (c >> _12 & low | lead) << _8
    return head | (c >> _6 & low | lead) << np.uint64(16) | (c & low | lead) << np.uint64(24), 4


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
def _scan(data, begin, end, ascii_fold, ascii_kind, kinds, folds, hashes, starts, ends, out, count):  # type: ignore[no-untyped-def]
    """Tokens of one row from index `count`: into hashes (and starts, ends), or, folded and each with a space after it,
    into `out`, where that is given. What is None is not written and costs nothing: numba prunes the branch. Returns
    the index after the last.

    A token is read into `v`, eight bytes at a time, and mixed into `h`. `state` is the kind of the open token, 0 =
    none.
    """
    h, v, shift = _SEED, _0, _0
    state = SEPARATOR
    start = stop = i = begin
    while i < end:
        byte = data[i]
        folded = ascii_fold[byte]
        if folded != 0:
            if state == SINGLE:
                if out is not None:
                    out[count] = 32
                else:
                    hashes[count] = _finish(h, v)
                    if starts is not None:
                        starts[count] = start - begin
                        ends[count] = stop - begin
                count += 1
            if state != WORD:
                h, v, shift = _SEED, _0, _0
                start = i
                state = WORD
            while True:
                if out is not None:
                    out[count] = folded
                    count += 1
                else:
                    v |= np.uint64(folded) << shift
                    shift += _8
                    if shift == _64:
                        h = (h ^ v) * _MULTIPLIER
                        h ^= h >> _32
                        v, shift = _0, _0
                i += 1
                if i >= end:
                    break
                folded = ascii_fold[data[i]]
                if folded == 0:
                    break
            stop = i
            continue
        kind = int(ascii_kind[byte])
        width = 1
        code = np.int32(byte)
        if kind == NON_ASCII:
            code, width = _decode(data, i, end)
            kind = _kind(code, kinds)
        if kind == IGNORED:
            i += width
            continue
        if kind == POINT:
            kind = SEPARATOR
            if state == WORD and stop == i and data[i - 1] >= 48 and data[i - 1] <= 57:
                j = i + 1
                while j < end and ascii_kind[data[j]] == POINT:
                    j += 1
                if j < end and data[j] >= 48 and data[j] <= 57:
                    while i < j:  # the points between two digits are part of the number
                        if out is not None:
                            out[count] = data[i]
                            count += 1
                        else:
                            v |= np.uint64(data[i]) << shift
                            shift += _8
                            if shift == _64:
                                h = (h ^ v) * _MULTIPLIER
                                h ^= h >> _32
                                v, shift = _0, _0
                        i += 1
                    stop = i
                    continue
        if state != SEPARATOR and (kind in (SEPARATOR, SINGLE) or (kind == WORD and state == SINGLE)):
            if out is not None:
                out[count] = 32
            else:
                hashes[count] = _finish(h, v)
                if starts is not None:
                    starts[count] = start - begin
                    ends[count] = stop - begin
            count += 1
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
        packed, length = _encode(code)
        for _ in range(length):
            if out is not None:
                out[count] = np.uint8(packed & np.uint64(0xFF))
                count += 1
            else:
                v |= (packed & np.uint64(0xFF)) << shift
                shift += _8
                if shift == _64:
                    h = (h ^ v) * _MULTIPLIER
                    h ^= h >> _32
                    v, shift = _0, _0
            packed >>= _8
        i += width
        stop = i
    if state != SEPARATOR:
        if out is not None:
            out[count] = 32
        else:
            hashes[count] = _finish(h, v)
            if starts is not None:
                starts[count] = start - begin
                ends[count] = stop - begin
        count += 1
    return count


@kernel
def _tokenize(data, offsets, ascii_fold, ascii_kind, kinds, folds, hashes, starts, ends):  # type: ignore[no-untyped-def]
    found = np.empty(len(offsets), np.int64)
    count = 0
    for row in range(len(offsets) - 1):
        found[row] = count
        begin, end = offsets[row], offsets[row + 1]
        count = _scan(data, begin, end, ascii_fold, ascii_kind, kinds, folds, hashes, starts, ends, None, count)
    found[len(offsets) - 1] = count
    return found


@kernel
def _fold(data, offsets, ascii_fold, ascii_kind, kinds, folds, out):  # type: ignore[no-untyped-def]
    """Write the folded tokens of each row, joined by spaces; the offsets of the rows in `out`."""
    found = np.empty(len(offsets), np.int64)
    unused = np.empty(0, np.uint64)
    at = 0
    for row in range(len(offsets) - 1):
        found[row] = at
        begin, end = offsets[row], offsets[row + 1]
        at = _scan(data, begin, end, ascii_fold, ascii_kind, kinds, folds, unused, None, None, out, at)
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
def _word_shingles(data, offsets, ascii_fold, ascii_kind, kinds, folds, ngram, power, out):  # type: ignore[no-untyped-def]
    found = np.empty(len(offsets), np.int64)
    words = np.empty(_longest(offsets), np.uint64)
    at = 0
    for row in range(len(offsets) - 1):
        found[row] = at
        begin, end = offsets[row], offsets[row + 1]
        count = _scan(data, begin, end, ascii_fold, ascii_kind, kinds, folds, words, None, None, None, 0)
        at = _roll(words, count, ngram, power, out, at)
    found[len(offsets) - 1] = at
    return found


@kernel
def _character_shingles(data, offsets, ascii_fold, ascii_kind, kinds, folds, ngram, power, out):  # type: ignore[no-untyped-def]
    found = np.empty(len(offsets), np.int64)
    characters = np.empty(_longest(offsets), np.uint64)
    at = 0
    for row in range(len(offsets) - 1):
        found[row] = at
        i, count = offsets[row], 0
        while i < offsets[row + 1]:
            code, width = _decode(data, i, offsets[row + 1])
            characters[count] = np.uint64(code) * _FINISH
            count += 1
            i += width
        at = _roll(characters, count, ngram, power, out, at)
    found[len(offsets) - 1] = at
    return found
