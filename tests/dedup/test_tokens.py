"""Tokens against a plain Python reading of the same rules."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedup.characters import UNSPACED
from dedup.tokens import normalise, token_hash, tokenize, word_hashes

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
    """Tokens as (normalized, start, end in characters), by the rules in the docstring of `dedup.characters`."""
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
    normalized: str = normalise(column(text))[0].as_py()
    return normalized.split(" ") if normalized else []


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
@given(any_text)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(column(text))
    assert normalise(once).equals(once)


@settings(max_examples=30, deadline=None)
@given(st.lists(any_text, min_size=1, max_size=6), st.data())
def test_a_slice_gives_the_tokens_of_a_copy(texts: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(texts)))
    stop = data.draw(st.integers(start, len(texts)))
    piece, copy = column(*texts).slice(start, stop - start), column(*texts[start:stop])
    assert normalise(piece).equals(normalise(copy))
    for one, other in zip(tokenize(piece), tokenize(copy), strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(word_hashes(piece)[0], tokenize(copy).hash)


def test_bytes_that_are_not_utf8_separate_tokens() -> None:
    broken = [b"ab\xff\xfecd", b"\xe6\xbc", b"\xf0\x9f\x98", b"caf\xc3", b"\x80\x80"]
    tokens = tokenize(pa.array(broken, pa.binary()))
    assert np.diff(tokens.offsets).tolist() == [2, 0, 0, 1, 0]


def test_nulls_and_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="null"):
        tokenize(pa.array(["a", None]))
    with pytest.raises(TypeError, match="int64"):
        tokenize(pa.array([1]))
    assert tokenize(pa.array(["a b"], pa.large_string())).hash.tolist() == [token_hash(b"a"), token_hash(b"b")]
