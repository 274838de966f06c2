"""Shingles against a plain Python reading of the same rules, and the two silent failures of other normalisers."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedup.shingles import (
    UNSPACED,
    character_shingle_hash,
    normalise,
    shingle_hash,
    shingle_hashes,
    token_hash,
    tokenize,
    word_hashes,
)

SAMPLES = [
    "What is 3 + 5?",
    "don't, re-use a_b",
    "1,000.5 and 53..7....6..19 but 1, 2. and 3.",
    "ΟΔΥΣΣΕΥΣ ὀδυσσεύς İstanbul ẞ ß K Å",
    "漢字かな交じり文 ไทยที่นี่ 한국어 문장",
    "e\u0301a \u0301x +\u0301 soft\u00adhyphen wo\u200drd",
    "x\u2212y \\frac{1}{2} $a$ 5! ≠ 😀👍🏽 \U000e0100 \U0010ffff \U00011234",
    "\x00\t\r\n .,., ",
    "",
    "a" * 7, "a" * 8, "a" * 9, "a" * 17,
]  # fmt: skip

any_text = st.text(
    alphabet=st.one_of(
        st.sampled_from("aAzZ09 .,+-*/=<>^%$\\&!?'\"_\n\t漢あไ่ที๑ßẞİΣςée\u0301\u200d\u00ad\u2212½²٣"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=60,
)


def reference(text: str) -> list[tuple[str, int, int]]:
    """Tokens as (normalised, start, end in characters), read off the rules in the module's docstring one by one."""
    tokens: list[list[object]] = []
    open_kind = ""  # "word" or "single" while the last token may still grow
    numbers = {m.start(): m.end() for m in re.finditer(r"(?<=[0-9])[.,]+(?=[0-9])", text)}
    at = 0
    while at < len(text):
        character, category = text[at], unicodedata.category(text[at])
        if category == "Cf":
            at += 1
            continue
        if at in numbers and open_kind == "word" and tokens[-1][2] == at:
            tokens[-1][0] = str(tokens[-1][0]) + text[at : numbers[at]]
            at = numbers[at]
            tokens[-1][2] = at
            continue
        single = (
            category in ("Cn", "Co")
            or (category[0] == "S" and character != "`")
            or character in "-*/%\\&"
            or (category[0] in "LN" and category != "Nd" and any(a <= ord(character) <= b for a, b in UNSPACED))
        )
        word = category[0] in "LN" and not single
        folded = character.casefold() if len(character.casefold()) == 1 else character.lower()
        folded = {"\u0130": "i", "\u2212": "-"}.get(character, folded)
        if (category[0] == "M" and open_kind) or (word and open_kind == "word"):
            tokens[-1][0] = str(tokens[-1][0]) + folded
            tokens[-1][2] = at + 1
        elif word or single or category[0] == "M":
            tokens.append([folded, at, at + 1])
            open_kind = "single" if single else "word"
        else:
            open_kind = ""
        at += 1
    return [(str(token), int(str(start)), int(str(end))) for token, start, end in tokens]


def column(*texts: str) -> pa.StringArray:
    return pa.array(texts, pa.string())


def words(text: str) -> list[str]:
    found: str = normalise(column(text))[0].as_py()
    return found.split(" ") if found else []


@settings(max_examples=150, deadline=None)
@given(st.lists(any_text, max_size=4))
@example(SAMPLES)
def test_tokens_are_those_of_the_rules(texts: list[str]) -> None:
    tokens = tokenize(column(*texts))
    for row, text in enumerate(texts):
        expected = reference(text)
        span = slice(tokens.offsets[row], tokens.offsets[row + 1])
        assert words(text) == [token for token, _, _ in expected]
        assert tokens.hash[span].tolist() == [token_hash(token.encode()) for token, _, _ in expected]
        places = [(len(text[:start].encode()), len(text[:end].encode())) for _, start, end in expected]
        assert list(zip(tokens.start[span].tolist(), tokens.end[span].tolist(), strict=True)) == places


@settings(max_examples=60, deadline=None)
@given(st.lists(any_text, min_size=1, max_size=4), st.integers(1, 6))
@example(SAMPLES, 3)
def test_shingles_hash_the_ngrams_of_normalised_text(texts: list[str], ngram: int) -> None:
    by_word, by_character = (shingle_hashes(column(*texts), ngram, unit) for unit in ("word", "character"))
    for row, text in enumerate(texts):
        tokens = [token for token, _, _ in reference(text)]
        grams = [" ".join(tokens[i : i + ngram]).encode() for i in range(len(tokens) - ngram + 1)]
        assert by_word.hash[by_word.offsets[row] : by_word.offsets[row + 1]].tolist() == [
            shingle_hash(g) for g in grams
        ]
        joined = " ".join(tokens)
        grams = [joined[i : i + ngram].encode() for i in range(len(joined) - ngram + 1)]
        found = by_character.hash[by_character.offsets[row] : by_character.offsets[row + 1]]
        assert found.tolist() == [character_shingle_hash(gram) for gram in grams]


@settings(max_examples=60, deadline=None)
@given(any_text)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(column(text))
    assert normalise(once).equals(once)


@settings(max_examples=30, deadline=None)
@given(st.lists(any_text, min_size=1, max_size=6), st.data())
def test_a_slice_reads_as_a_copy(texts: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(texts)))
    stop = data.draw(st.integers(start, len(texts)))
    piece, copy = column(*texts).slice(start, stop - start), column(*texts[start:stop])
    assert normalise(piece).equals(normalise(copy))
    for one, other in zip(tokenize(piece), tokenize(copy), strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(word_hashes(piece)[0], tokenize(copy).hash)


def test_numbers_and_operators_survive() -> None:
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
def test_scripts_without_spaces_are_cut_into_characters_with_their_marks(text: str) -> None:
    tokens = words(text)
    assert len(tokens) == sum(unicodedata.category(character)[0] != "M" for character in text)
    assert "".join(tokens) == text


def test_too_few_tokens_make_no_shingle() -> None:
    shingles = shingle_hashes(column("Yes.", "Paris", "The answer is 42.", "", "one two three four five"), 5)
    assert np.diff(shingles.offsets).tolist() == [0, 0, 0, 0, 1]


def test_bytes_that_are_not_utf8_are_read_without_harm() -> None:
    broken = [b"ab\xff\xfecd", b"\xe6\xbc", b"\xf0\x9f\x98", b"caf\xc3", b"\x80\x80"]
    tokens = tokenize(pa.array(broken, pa.binary()))
    assert np.diff(tokens.offsets).tolist() == [2, 0, 0, 1, 0]


def test_nulls_and_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="null"):
        tokenize(pa.array(["a", None]))
    with pytest.raises(TypeError, match="int64"):
        tokenize(pa.array([1]))
    with pytest.raises(ValueError, match="n-gram"):
        shingle_hashes(column("a"), 0)
    assert tokenize(pa.array(["a b"], pa.large_string())).hash.tolist() == [token_hash(b"a"), token_hash(b"b")]
