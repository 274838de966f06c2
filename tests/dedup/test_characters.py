"""What the rules for characters mean for text: numbers and operators are kept, case and punctuation are not."""

from __future__ import annotations

import unicodedata

import pytest

from dedup.characters import NON_ASCII, TABLE_SIZE, ascii_folds, fold, kind_of, tables
from dedup.tokens import word_hashes
from tests.dedup.test_tokens import column, words


def test_numbers_and_operators_are_kept() -> None:
    assert words("What is 3 + 5?") == ["what", "is", "3", "+", "5"]
    pairs = [
        ("What is 3 + 5?", "What is 41 - 7?"),
        ("Solve 2*x**2 + 3*x - 5 = 0", "Solve -7*x**2 - 11*x + 2 = 0"),
        ("Natalia sold 48 clips and 24 more", "Natalia sold 36 clips and 12 more"),
        ("0.5", "05"),
        ("1,000", "1000"),
        ("53..7....6..19", "5..37....6..19"),
        ("a < b", "a > b"),
        ("2^3", "2/3"),
        ("5 % 2", "5 & 2"),
    ]
    for one, other in pairs:
        assert words(one) != words(other)
        assert set(word_hashes(column(one))[0].tolist()) != set(word_hashes(column(other))[0].tolist())


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
    tokens = words(text)
    assert len(tokens) == sum(unicodedata.category(character)[0] != "M" for character in text)
    assert "".join(tokens) == text


def test_the_tables_hold_the_rules() -> None:
    byte_kinds, kinds, folds = tables()
    for code in (*range(128), 0x130, 0x3C2, 0x2212, 0x4E00, 0x200D, 0x301, TABLE_SIZE - 1):
        assert kinds[code] == kind_of(chr(code))
        assert folds[code] == ord(fold(chr(code)))
    assert byte_kinds[:128].tolist() == kinds[:128].tolist()
    assert set(byte_kinds[128:].tolist()) == {NON_ASCII}
    assert ascii_folds().tolist() == [*folds[:128].tolist(), *[0] * 128]
