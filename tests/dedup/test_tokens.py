"""Tokens against a plain Python reading of the rules for single characters. `test_readings` has the others."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedup.characters import FIRST_INVISIBLE, INVISIBLE, LAST_INVISIBLE, SYMBOLS, UNSPACED, fold
from dedup.tokens import normalise, token_hash, tokenize

INVISIBLE_PATTERN = "[{}]".format(
    "".join(
        [chr(code) for code in range(0x20000) if unicodedata.category(chr(code)) == "Cf"]
        + [f"{chr(low)}-{chr(high)}" for low, high in (*INVISIBLE, (FIRST_INVISIBLE, LAST_INVISIBLE))]
    )
)
SAMPLES = [
    "What is 3 + 5?",
    "don t, re/use a+b",
    "1000.5 and 53..7....6..19 but 1, 2. and 3.",
    "ΟΔΥΣΣΕΥΣ ὀδυσσεύς İstanbul ẞ ß K Å ﬁ ① ㍿ ﷺ … é ế 각",
    "漢字かな交じり文 ไทยที่นี่ 한국어 문장",
    "e\u0301a \u0301x +\u0301 soft\u00adhyphen wo\u200drd",
    "a ่Σ 2 ่x α ่b",
    "101₂ x₁₂ x₁₂y 2x 14xy x2y 2πr 5km ２ｘ",
    "10⁻³ x²³ 5–3 5 – 3 a–3 x\u2212y 5 ≠ ½ x² 😀👍🏽 \U000e0100 \U0010ffff \U00011234",
    "\x00\t\r\n .,., ",
    "",
    "a" * 7, "a" * 8, "a" * 9, "a" * 17,
]  # fmt: skip


def is_subscript(character: str) -> bool:
    """Whether the character is read as a digit, or as `_` and a digit after a number."""
    return len(fold(character)) > 1 and fold(character)[0] == "_"


any_text = st.text(
    alphabet=st.one_of(
        st.sampled_from("aAzZ09 .+/=%|\n\t漢あไ่ที๑ßẞİΣςée\u0301\u200d\u00ad½²٣ﬁ①㍿ﷺ각"),
        st.characters(exclude_categories=["Cs"]).filter(
            lambda c: not set(fold(c)[is_subscript(c) :]) & set(SYMBOLS + ",")
        ),
    ),
    max_size=60,
)


DIGIT_PAIRS = {f"{one}{other}" for one in "0123456789" for other in "0123456789"}


def is_superscript(character: str) -> bool:
    """Whether the character is read as `^` and another one."""
    return len(fold(character)) > 1 and fold(character)[0] == "^"


def class_of(character: str) -> str:
    if character in "0123456789":
        return "digit"
    if "α" <= character <= "ω":
        return "Greek"
    return "Latin" if character.isascii() else ""


def parts(last: str, new: str) -> bool:
    """Whether two characters of these classes belong to two words: `2x` and `2πr`, but not `x2`."""
    return (last == "digit" and new != "digit") or ("Greek" in (last, new) and last != new and "" not in (last, new))


def reference(text: str) -> list[tuple[str, int, int]]:
    """Tokens as (normalized, start, end in characters), by the rules in the docstring of `dedup.characters`."""
    tokens: list[list[object]] = []
    last_class = ""  # of the last character of a word
    open_kind = ""  # "word" or "single" while the last token may still grow
    seen = re.sub(INVISIBLE_PATTERN, "", text)
    places = [at for at, character in enumerate(text) if not re.match(INVISIBLE_PATTERN, character)]
    numbers = {m.start(): m.end() for m in re.finditer(r"(?<=[0-9])[.]+(?=[0-9])", seen)}
    names = {m.start() for m in re.finditer(r"(?<=[A-Za-z])[.](?=[A-Za-z])", seen)}
    for n, at in enumerate(places):
        character = text[at]
        in_number = [end for start, end in numbers.items() if start <= n < end]
        if in_number and open_kind == "word":
            tokens[-1][0] = f"{tokens[-1][0]}{character}"
            tokens[-1][2] = at + 1
            continue
        folded = fold(character)
        if is_superscript(character) and at > 0 and is_superscript(text[at - 1]):
            folded = folded[1:]
        if is_subscript(character):
            after_number = open_kind == "word" and last_class == "digit" and not is_subscript(text[at - 1])
            folded = folded if after_number else folded[1:]
        follows = text[at + 1 :].lstrip(" ")[:1]
        if character == "\u2013" and tokens and f"{text[int(str(tokens[-1][2])) - 1]}{follows}" in DIGIT_PAIRS:
            folded = "-"
        for one in folded:
            category = unicodedata.category(one)
            single = (
                category in ("Cn", "Co")
                or (category[0] == "S" and one != "`")
                or one in "-*/%⋅^⌊⌋⌈⌉"
                or (n in names and open_kind == "word")
                or (category[0] in "LN" and category != "Nd" and any(a <= ord(one) <= b for a, b in UNSPACED))
            )
            single |= one == "_"
            word = category[0] in "LN" and not single
            joins = word and open_kind == "word" and not parts(last_class, class_of(one))
            if word:
                last_class = class_of(one)
            if (category[0] == "M" and open_kind) or joins:
                tokens[-1][0] = f"{tokens[-1][0]}{one}"
                tokens[-1][2] = at + 1
            elif word or single or category[0] == "M":
                tokens.append([one, at, at + 1])
                open_kind = "single" if single else "word"
            else:
                open_kind = last_class = ""
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


@settings(max_examples=30, deadline=None)
@given(st.lists(any_text, min_size=1, max_size=6), st.data())
def test_a_slice_gives_the_tokens_of_a_copy(texts: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(texts)))
    stop = data.draw(st.integers(start, len(texts)))
    piece, copy = column(*texts).slice(start, stop - start), column(*texts[start:stop])
    assert normalise(piece).equals(normalise(copy))
    for one, other in zip(tokenize(piece), tokenize(copy), strict=True):
        assert np.array_equal(one, other)


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
