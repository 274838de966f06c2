"""What a tokenizer does with each Unicode character: whether it is part of a word, and how its case is folded.

Numbers and operators are kept. "What is 3 + 5?" and "What is 41 - 7?" are different texts, which normalizers made for
web pages often make equal. The rules:

- Letters, digits and the marks on them form **words**. Case is folded character by character (Unicode simple folding,
  so final sigma becomes sigma and the Kelvin sign becomes k; Turkish dotted capital I becomes i).
- `.` and `,` between two ASCII digits belong to the number: `3.5`, `1,000` and the grid `53..7` are one token each.
- Characters of scripts written without spaces (Han, kana, Thai, Lao, Khmer, Burmese ...) and characters that Unicode
  has not assigned are **one token each**, so n-grams of tokens are n-grams of characters in such text.
- Symbols and operators (Unicode S*, and `- * / % \\ &`) are one token each. U+2212, the minus sign, becomes `-`.
- Marks belong to the token before them. Invisible format characters are dropped and do not end a word.
- White space, controls and other punctuation end a token and are dropped.

Composed and decomposed accents are different bytes and remain different. Apply NFC first if a source mixes them.
"""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
import numpy.typing as npt

from dedup.kernel import kernel

Bytes = npt.NDArray[np.uint8]

SEPARATOR, WORD, SINGLE, MARK, IGNORED, POINT, NON_ASCII = range(7)
"""The kinds of characters. SINGLE: a token by itself. POINT: `.` and `,`. NON_ASCII: decode to find the kind."""

OPERATORS = "-*/%\\&"
"""ASCII operators that Unicode classes as punctuation."""
UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF), (0x1B00, 0x1B7F),
    (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x312F), (0x31A0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xA000, 0xA4CF), (0xA980, 0xA9DF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF), (0xFF66, 0xFF9F),
    (0x16FE0, 0x1B2FF), (0x20000, 0x3FFFF),
)  # fmt: skip
"""First and last code points of the blocks of scripts written without spaces between words."""
TABLE_SIZE = 0x34000
"""Code points below it are looked up. Those above are unassigned, private, tags and variation selectors."""

FIRST_TAG, LAST_TAG = 0xE0001, 0xE007F  # invisible format characters
FIRST_SELECTOR, LAST_SELECTOR = 0xE0100, 0xE01EF  # variation selectors, which are marks


def kind_of(character: str) -> int:
    """The kind of one character: one of the constants of this module except NON_ASCII."""
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
    """The character that replaces `character` in normalized text. Always exactly one."""
    if character == "\u0130":
        return "i"
    if character == "\u2212":
        return "-"
    folded = character.casefold()
    return folded if len(folded) == 1 else (character.lower() if len(character.lower()) == 1 else character)


@functools.cache
def tables() -> tuple[Bytes, Bytes, npt.NDArray[np.int32]]:
    """The rules as lookup tables for kernels.

    Returns the kind of each byte, uint8 [256]; the kind of each code point, uint8 [TABLE_SIZE]; and the folded code
    point of each code point, int32 [TABLE_SIZE]. They follow the Unicode version of the Python interpreter.
    """
    characters = [chr(code) for code in range(TABLE_SIZE)]
    kinds = np.array([kind_of(character) for character in characters], np.uint8)
    folds = np.array([ord(fold(character)) for character in characters], np.int32)
    byte_kinds = np.full(256, NON_ASCII, np.uint8)
    byte_kinds[:128] = kinds[:128]
    return byte_kinds, kinds, folds


def ascii_folds() -> Bytes:
    """The folded character of each ASCII byte, uint8 [256]; 0 for other bytes."""
    table = np.zeros(256, np.uint8)
    table[:128] = [ord(fold(chr(code))) for code in range(128)]
    return table


@kernel
def look_up_kind(code, kinds):  # type: ignore[no-untyped-def]
    """The kind of a code point, from the table of `tables`. SEPARATOR for -1 (a byte that is not UTF-8)."""
    if code < 0:
        return SEPARATOR
    if code < len(kinds):
        return int(kinds[code])
    if code >= FIRST_SELECTOR and code <= LAST_SELECTOR:
        return MARK
    if code >= FIRST_TAG and code <= LAST_TAG:
        return IGNORED
    return SINGLE
