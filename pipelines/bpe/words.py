"""Where do the words of a text end? Qwen2's split, as a kernel over UTF-8, and the normal form that it reads.

The split is that of `SPLIT` by Oniguruma (tokenizers) and by Rust's fancy-regex (tiktoken): the first alternative that
matches, at every place. Each alternative begins with the class of one or two characters, so no step goes back.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup.intrinsics import load_uint64, trailing_zeros
from dedup.kernel import kernel
from dedup.nfc import may_change
from dedup.utf8 import decode
from pipelines.bpe.classes import LETTER, NEWLINE, NUMBER, OTHER, SPACE, TABLE_SIZE

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's split: contractions, words with the character before them, single digits, punctuation, line ends, spaces."""

_HIGH_BITS = np.uint64(0x8080808080808080)
_CASE, _LOW_BITS = np.uint64(0x2020202020202020), np.uint64(0x7F7F7F7F7F7F7F7F)
_FROM_A, _AFTER_Z = np.uint64(0x1F1F1F1F1F1F1F1F), np.uint64(0x0505050505050505)
_3 = np.uint64(3)
_BLANK, _APOSTROPHE = 0x20, 0x27


@kernel
def word_end(data, at, end, classes):  # type: ignore[no-untyped-def]
    """Where the word that starts at byte `at` ends (int64).

    data: uint8, UTF-8, of which the text is [: end]; `at` must be 0 or where the word before ended, below `end`.
    classes: uint8, from `class_table`.
    """
    kind, after = _read(data, at, classes)
    if kind == NUMBER or (after == end and kind != LETTER):
        return after
    if kind == LETTER:
        return _letters_end(data, after, end, classes)
    if data[at] == _APOSTROPHE:
        stop = _contraction_end(data, after, end)
        if stop > 0:
            return stop
    following, beyond = _read(data, after, classes)
    if following == LETTER and kind != NEWLINE:
        return _letters_end(data, beyond, end, classes)
    if kind == OTHER or (following == OTHER and data[at] == _BLANK):
        return _others_end(data, after, end, classes)
    # White space: up to its last line end; else all of it at the end of the text, and all but its last character before
    # another word, unless it is one character.
    last, stop, newline = at, after, after if kind == NEWLINE else np.int64(0)
    while stop < end:
        kind, beyond = _read(data, stop, classes)
        if kind != SPACE and kind != NEWLINE:
            break
        last, stop = stop, beyond
        if kind == NEWLINE:
            newline = stop
    if newline > 0:
        return newline
    return stop if stop == end or last == at else last


@kernel
def _read(data, at, classes):  # type: ignore[no-untyped-def]
    """The class of the character at `at`, and where the next one starts."""
    byte = data[at]
    if byte < 0x80:
        return np.int64(classes[byte]), at + 1
    code, width = decode(data, at)
    return np.int64(classes[code]) if code < TABLE_SIZE else np.int64(OTHER), at + width


@kernel
def _letters_end(data, at, end, classes):  # type: ignore[no-untyped-def]
    while at < end:
        if at + 8 <= len(data):
            # The high bit of each of eight bytes says whether it is an ASCII letter; no sum carries into another byte.
            word = load_uint64(data, at)
            low = (word | _CASE) & _LOW_BITS
            letters = (low + _FROM_A) & ~(low + _AFTER_Z) & ~word & _HIGH_BITS
            at += np.int64(trailing_zeros(letters ^ _HIGH_BITS) >> _3)
            if at >= end:
                return end
            if data[at] < 0x80 and classes[data[at]] != LETTER:
                return at
        kind, beyond = _read(data, at, classes)
        if kind != LETTER:
            break
        at = beyond
    return at


@kernel
def _others_end(data, at, end, classes):  # type: ignore[no-untyped-def]
    """Where symbols and the line ends after them end."""
    while at < end:
        kind, beyond = _read(data, at, classes)
        if kind != OTHER:
            break
        at = beyond
    while at < end and (data[at] == 10 or data[at] == 13):
        at += 1
    return at


@kernel
def _contraction_end(data, at, end):  # type: ignore[no-untyped-def]
    """Where 's, 't, 're, 've, 'm, 'll or 'd ends, in any case, if it goes on at `at` after its apostrophe; else 0.

    The long s, U+017F, is an s in another case. The other letters have no third form.
    """
    first = data[at] | 0x20
    if first == 115 or first == 116 or first == 109 or first == 100:  # s t m d
        return at + 1
    if at + 1 < end:
        if data[at] == 0xC5 and data[at + 1] == 0xBF:
            return at + 2
        second = data[at + 1] | 0x20
        if ((first == 114 or first == 118) and second == 101) or (first == 108 and second == 108):  # re ve ll
            return at + 2
    return np.int64(0)


# ---- normal form


def normalized(texts: pa.Array, normalize: Callable[[str], str]) -> pa.Array:
    """The texts (string [rows]) with `normalize`, which must be NFC of any version of Unicode, applied to each.

    It is called for those rows alone that hold a character that NFC could change.

    Raises: ValueError: if a row is null. pa.ArrowInvalid: if a text is not UTF-8.
    """
    texts.validate(full=True)  # kernels decode without looking
    changing = may_change(texts)
    if not changing.any():
        return texts
    mask = pa.array(changing)
    replaced = [normalize(text) for text in texts.filter(mask).to_pylist()]
    return pc.replace_with_mask(texts, mask, pa.array(replaced, texts.type))
