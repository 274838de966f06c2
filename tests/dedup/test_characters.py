"""What the rules for characters mean for text: numbers and operators are kept, case and punctuation are not."""

from __future__ import annotations

import unicodedata

import pytest

from dedup.characters import (
    NON_ASCII,
    TABLE_SIZE,
    ascii_folds,
    character_tables,
    fold,
    kind_of,
    look_alikes,
)
from dedup.tokens import tokenize
from tests.dedup.test_tokens import column, words


def test_numbers_and_operators_are_kept() -> None:
    assert words("What is 3 + 5?") == ["what", "is", "3", "+", "5"]
    pairs = [
        ("What is 3 + 5?", "What is 41 - 7?"),
        ("Solve 2*x**2 + 3*x - 5 = 0", "Solve -7*x**2 - 11*x + 2 = 0"),
        ("Natalia sold 48 clips and 24 more", "Natalia sold 36 clips and 12 more"),
        ("0.5", "05"),
        ("53..7....6..19", "5..37....6..19"),
        ("a < b", "a > b"),
        ("2^3", "2/3"),
        ("5 % 2", "5 & 2"),
    ]
    for one, other in pairs:
        assert words(one) != words(other)
        assert set(tokenize(column(one)).hash.tolist()) != set(tokenize(column(other)).hash.tolist())


def test_case_punctuation_and_white_space_do_not_matter() -> None:
    same = ["The cat, the dog; the “end”.", "the CAT the dog\n\nThe end", "\tThe cat... (the dog) [the end]"]
    assert len({tuple(words(text)) for text in same}) == 1


@pytest.mark.parametrize(
    ("upper", "lower"),
    [("ΣΊΣΥΦΟΣ", "σίσυφος"), ("МОСКВА", "москва"), ("ÉCOLE", "école"), ("ＡＢＣ", "ａｂｃ"), ("𐐀", "𐐨")],
)
def test_case_folds_in_every_script(upper: str, lower: str) -> None:
    assert words(upper) == words(lower)


@pytest.mark.parametrize("text", ["今天天气很好", "これはペンです", "วันนี้อากาศดี", "ສະບາຍດີ", "សួស្តី", "မင်္ဂလာပါ"])
def test_scripts_without_spaces_are_split_into_characters_with_their_marks(text: str) -> None:
    tokens, text = words(text), unicodedata.normalize("NFKD", text)
    assert len(tokens) == sum(unicodedata.category(character)[0] != "M" for character in text)
    assert "".join(tokens) == text


def test_the_tables_hold_the_rules() -> None:
    byte_kinds, kinds, folds, sequences, _ = character_tables()
    for code in (*range(128), 0xE9, 0xBD, 0x130, 0x3C2, 0x2212, 0x4E00, 0x200D, 0x301, 0xFDFA, TABLE_SIZE - 1):
        folded = fold(chr(code))
        if len(folded) == 1:
            assert kinds[code] == kind_of(folded)
            assert folds[code] == ord(folded)
        else:
            at = -1 - folds[code]
            assert sequences[at : at + 1 + sequences[at]].tolist() == [len(folded), *map(ord, folded)]
    assert byte_kinds[:128].tolist() == kinds[:128].tolist()
    assert set(byte_kinds[128:].tolist()) == {NON_ASCII}
    assert ascii_folds().tolist() == [*folds[:128].tolist(), *[0] * 128]


def test_look_alikes_have_both_cases_and_greek_ones_depend_on_their_word() -> None:
    always, in_mixed_words = look_alikes()
    assert {"а": "a", "е": "e", "о": "o", "р": "p", "с": "c", "х": "x"}.items() <= always.items()
    assert {"В": "b", "в": "b", "Н": "h", "н": "h", "Т": "t", "т": "t"}.items() <= always.items()
    assert all(always[letter.lower()] == always[letter.upper()] for letter in always)
    assert {"ο": "o", "ν": "v", "Β": "b"}.items() <= in_mixed_words.items()
    assert not any("GREEK" in unicodedata.name(letter) for letter in always)
    assert all("GREEK" in unicodedata.name(letter) for letter in in_mixed_words)
    assert not {"З", "б"} & (always.keys() | in_mixed_words.keys())  # they look like 3 and 6
