"""What each Unicode character is to a tokenizer: its kind, and the characters that replace it.

The rules for single characters are here. Those for characters whose meaning depends on their neighbours (quotes,
brackets, colons ...) are in `dedup.symbols`, and both together make a reading (`dedup.readings`).

- Letters, digits and the marks on them form **words**. Characters are replaced by their compatibility decomposition
  (NFKD) and case is folded: composed and decomposed accents, ligatures, full-width and mathematical letters are the
  same. Final sigma becomes sigma.
- A superscript digit, sign, n or i follows a `^` (10², 10^2 and 102 are three tokens, three tokens and one token). A
  vulgar fraction is three tokens of its own: 3½ is `3 1 / 2`, not 31/2.
- Characters of scripts written without spaces (Han, kana, Thai, Lao, Khmer, Burmese ...) and characters that Unicode
  has not assigned are **one token each**, so n-grams of tokens are n-grams of characters in such text.
- Symbols and operators (Unicode S*, and `- * / %`) are one token each. U+2212, the minus sign, becomes `-`.
- Marks belong to the token before them. Characters that are never visible (Default_Ignorable_Code_Point: zero-width
  characters, soft hyphens, variation selectors, fillers, tags) are dropped and do not end a word.
- White space, controls and other punctuation end a token and are dropped.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.kernel import borrowing_kernel

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int32]

SEPARATOR, WORD, SINGLE, MARK, IGNORED, POINT, SYMBOL, NON_ASCII, TRANSPARENT = range(9)
"""The kinds of characters. SINGLE: a token by itself. POINT: `.` and `,`. SYMBOL: `dedup.symbols` decides. NON_ASCII:
decode to find the kind. TRANSPARENT: a separator across which neighbours still touch each other, such as `\\left`."""

OPERATORS = "-*/%"
"""ASCII operators that Unicode classes as punctuation."""
SYMBOLS = "'\"!?()[]{}:_#@$\\&^<>*-~"
"""ASCII characters whose meaning depends on their neighbours."""
FLOORS = "⌊⌋⌈⌉"
"""Brackets that are functions."""
UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF), (0x1B00, 0x1B7F),
    (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x312F), (0x31A0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xA000, 0xA4CF), (0xA980, 0xA9DF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF), (0xFF66, 0xFF9F),
    (0x16FE0, 0x1B2FF), (0x20000, 0x3FFFF),
)  # fmt: skip
"""First and last code points of the blocks of scripts written without spaces between words."""
INVISIBLE = (
    (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2065, 0x2065), (0x3164, 0x3164),
    (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8),
)  # fmt: skip
"""Characters that are never visible besides Unicode's format characters (Cf): Default_Ignorable_Code_Point."""
FIRST_INVISIBLE, LAST_INVISIBLE = 0xE0000, 0xE0FFF
"""The same in plane 14: tags and variation selectors."""
NEGATING_STROKE = "\u0338"
"""The mark that turns = into ≠."""
TABLE_SIZE = 0x34000
"""Code points below it are looked up. Those above are unassigned, private, tags and variation selectors."""

_REPLACED = {
    "\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2044": "/", "\u2215": "/", "\u2236": ":",
    "\u2018": "'", "\u2019": "'", "\u201b": "'", "\u2032": "'", "\u2033": "''", "\u2034": "'''",
    "\u21d2": "\u2192", "\u21d0": "\u2190", "\u21d4": "\u2194",
    "\u00b7": "\u22c5", "\u2219": "\u22c5", "\u0387": "\u22c5",
}  # fmt: skip
"""Spellings of ASCII operators and quotes, of arrows and of the dot operator."""


class CharacterTables(NamedTuple):
    """The rules as lookup tables for kernels.

    byte_kinds: uint8 [256], the kind of each byte. kinds: uint8 [TABLE_SIZE], the kind of each code point after
    folding. folds: int32 [TABLE_SIZE], the code point that replaces each, or -1 - n for the characters
    sequences[n + 1 : n + 1 + sequences[n]]. sequences: int32. mixed: int32 [0x600], for Greek letters that look like a
    Latin one: that letter, in words that also have ASCII letters; 0 for others.
    """

    byte_kinds: Bytes
    kinds: Bytes
    folds: Codes
    sequences: Codes
    mixed: Codes


def kind_of(character: str) -> int:
    """The kind of one character: one of the constants of this module except NON_ASCII and TRANSPARENT."""
    code, category = ord(character), unicodedata.category(character)
    if character in ".,":
        return POINT
    if character in SYMBOLS:
        return SYMBOL
    if category == "Cf" or any(low <= code <= high for low, high in INVISIBLE):
        return IGNORED
    if category[0] == "M":
        return MARK
    if category in ("Cn", "Co") or character in FLOORS:
        return SINGLE
    if category[0] in "LN":
        unspaced = category != "Nd" and any(low <= code <= high for low, high in UNSPACED)
        return SINGLE if unspaced else WORD
    if character in OPERATORS or (category[0] == "S" and character != "`") or character == "\u22c5":
        return SINGLE
    return SEPARATOR


def fold(character: str) -> str:
    """The characters that replace `character` before it is read."""
    if character in _REPLACED:
        return _REPLACED[character]
    decomposition = unicodedata.decomposition(character)
    if decomposition.startswith("<super>"):
        plain = unicodedata.normalize("NFKD", character).casefold()
        if plain in "0123456789+-=()ni\u2212":
            return "^" + plain.replace("\u2212", "-")
    if decomposition.startswith("<sub>") and (digit := unicodedata.digit(character, None)) is not None:
        return f"_{digit}"
    if decomposition.startswith("<fraction>"):
        return " " + unicodedata.normalize("NFKD", character).replace("\u2044", "/") + " "
    folded = character.casefold() if not decomposition else unicodedata.normalize("NFKD", character).casefold()
    folded = unicodedata.normalize("NFKD", folded)
    if folded.startswith(" ") and character != " ":
        return character if unicodedata.category(character)[0] != "Z" else " "
    return "".join(_REPLACED.get(one, one) if len(_REPLACED.get(one, one)) == 1 else one for one in folded)


@functools.cache
def _kinds() -> Bytes:
    """`kind_of` each code point: uint8 [TABLE_SIZE]."""
    categories = np.array([unicodedata.category(chr(code)) for code in range(TABLE_SIZE)])
    major = categories.astype("U1")
    unspaced, invisible = np.zeros(TABLE_SIZE, np.bool_), categories == "Cf"
    for low, high in UNSPACED:
        unspaced[low : high + 1] = True
    for low, high in INVISIBLE:
        invisible[low : high + 1] = True
    kinds = np.full(TABLE_SIZE, SEPARATOR, np.uint8)
    kinds[(major == "L") | (major == "N")] = WORD
    kinds[unspaced & (kinds == WORD) & (categories != "Nd")] = SINGLE
    kinds[np.isin(categories, ("Cn", "Co")) | (major == "S")] = SINGLE
    kinds[major == "M"] = MARK
    kinds[invisible] = IGNORED
    for character in (*map(chr, range(128)), *FLOORS, "\u22c5"):
        kinds[ord(character)] = kind_of(character)
    return kinds


@functools.cache
def _folds() -> dict[int, str]:
    """`fold` of each code point that it changes."""
    changed = {}
    for code in range(TABLE_SIZE):
        character = chr(code)
        if unicodedata.decomposition(character) or (not character.isascii() and character.casefold() != character):
            changed[code] = fold(character)
    # Syllables of Hangul are decomposed by a formula and not by the table of decompositions.
    changed |= {code: unicodedata.normalize("NFKD", chr(code)) for code in range(0xAC00, 0xD7A4)}
    changed |= {ord(character): fold(character) for character in _REPLACED}
    changed |= {code: chr(code).lower() for code in range(ord("A"), ord("Z") + 1)}
    return {code: folded for code, folded in changed.items() if folded != chr(code)}


@functools.cache
def character_tables(markup_free: bool = False) -> CharacterTables:
    """The tables of a reading. They follow the Unicode version of the Python interpreter.

    markup_free: also drop accents, and fold look-alike letters and the spellings of multiplication and division.
    """
    kinds, folds = _kinds().copy(), np.arange(TABLE_SIZE, dtype=np.int32)
    sequences: list[int] = []
    mixed = np.zeros(0x600, np.int32)
    changed = _folds()
    if markup_free:
        always, in_mixed_words = look_alikes()
        replaced = _OPERATOR_SPELLINGS | always
        for letter, latin in in_mixed_words.items():
            mixed[ord(letter)] = ord(latin)
        changed = changed | {ord(letter): latin for letter, latin in replaced.items()}
        translation = str.maketrans(replaced)
        changed = {code: folded.translate(translation) for code, folded in changed.items()}
    for code, folded in changed.items():
        if len(folded) == 1:
            folds[code] = ord(folded)
            kinds[code] = kind_of(folded)
        else:
            folds[code] = -1 - len(sequences)
            kinds[code] = WORD  # not read: each character of the sequence has its own
            sequences += [len(folded), *map(ord, folded)]
    if markup_free:
        kinds[0x300:0x370] = IGNORED
        kinds[ord(NEGATING_STROKE)] = MARK
    byte_kinds = np.full(256, NON_ASCII, np.uint8)
    byte_kinds[:128] = kinds[:128]
    return CharacterTables(byte_kinds, kinds, folds, np.array(sequences, np.int32), mixed)


_OPERATOR_SPELLINGS = {"\u00d7": "*", "\u22c5": "*", "\u2217": "*", "\u00b7": "*", "\u2219": "*", "\u00f7": "/"}
"""Multiplication and division signs that the markup-free reading takes for `*` and `/`."""


def look_alikes() -> tuple[dict[str, str], dict[str, str]]:
    """Letters of other scripts that look like a Latin letter, by Unicode's table of confusables: two dicts.

    The first has letters that are replaced everywhere, with both cases of each: Cyrillic в with В, so that case still
    makes no difference. The second has Greek letters, which are also symbols of mathematics; they are replaced in words
    that also have ASCII letters. The Latin letters are in lower case.
    """
    from confusable_homoglyphs.confusables import confusables_data  # type: ignore[import-untyped]

    alike: dict[str, str] = {}
    for code in range(0x370, 0x590):
        letter = chr(code)
        for entry in confusables_data.get(letter, ()):
            latin = entry["c"]
            is_latin = len(latin) == 1 and latin.isascii() and latin.isalpha()
            # A small letter that looks like a capital I is left alone.
            same_case = latin.isupper() == letter.isupper() or latin.lower() not in "il"
            if letter.isalpha() and is_latin and same_case:
                alike.setdefault(letter, latin.lower())
    greek = {letter: latin for letter, latin in alike.items() if 0x370 <= ord(letter) < 0x400}
    always = {letter: latin for letter, latin in alike.items() if letter not in greek}
    for letter, latin in list(always.items()):
        always.setdefault(letter.lower(), latin)
        always.setdefault(letter.upper(), latin)
    return always, greek


def ascii_folds() -> Bytes:
    """The folded character of each ASCII byte, uint8 [256]; 0 for other bytes."""
    table = np.zeros(256, np.uint8)
    table[:128] = [ord(chr(code).lower()) for code in range(128)]
    return table


@borrowing_kernel
def look_up_kind(code, kinds):  # type: ignore[no-untyped-def]
    """The kind of a code point, from CharacterTables.kinds. SEPARATOR for -1 (a byte that is not UTF-8)."""
    if code < 0:
        return SEPARATOR
    if code < len(kinds):
        return int(kinds[code])
    if code >= FIRST_INVISIBLE and code <= LAST_INVISIBLE:
        return IGNORED
    return SINGLE
