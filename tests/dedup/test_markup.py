"""Markup: a text is read without it only where that makes a difference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.markup import decode_markup, has_markup, mark_suspects, strip_markup
from dedup.readings import reading_tables
from dedup.tokens import MAX_EXPANSION

PIECES = [
    *"ab1 .*_`~\\<>&;/\"'#x{}()[]|$^=-\nnrtu\t\x00\x7f",
    *"é’–—…‧“αаВ漢×·½²ß\u00ad\u200d\u0301\u2064😀가",
    *("&lt;", "&#60;", "&#x3c;", "&nbsp;", "&none;", "&1;", "AT&T", "<b>", "</p>", "<br/>", "<i class='a'>", "<x>"),
    *("< b>", "<sup>", "<1>", "\\n", "\\neq", "\\nabla", "\\t", "\\times", "\\r", "\\right", "\\\\", '\\"', "\\/"),
    *("\\u003c", "\\u00", "\\frac{1}{2}", "\\(x\\)", "\\{", "\\,", "\\$", "**", "***", "2*3", "a * b", "~~", "~"),
    *("x_1", "x_{1}", "_a_", ")_2", "__", "\\alpha_\\beta", "```", "``", "word", "Two words."),
]
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.characters(exclude_categories=["Cs"])), max_size=12).map("".join)


def without_markup(text: bytes) -> tuple[bytes, list[tuple[int, int]]]:
    """The text without markup, and for each of its bytes the range of bytes of `text` that it stands for."""
    characters, commands, markup = reading_tables("markup_free")
    row = np.frombuffer(text, np.uint8)
    size = len(row) * MAX_EXPANSION
    out, first, last = np.empty(size, np.uint8), np.empty(size, np.int32), np.empty(size, np.int32)
    marks = np.zeros(size + 8, np.uint8)
    mark_suspects(row, marks)
    decoded = decode_markup(row, characters, markup, marks, out, first, last)
    length = strip_markup(out, decoded, commands, markup, marks, first, last, row)
    return out[:length].tobytes(), list(zip(first[:length].tolist(), last[:length].tolist(), strict=True))


def found(text: bytes) -> bool:
    row, marks = np.frombuffer(text, np.uint8), np.zeros(len(text) + 8, np.uint8)
    return bool(mark_suspects(row, marks) and has_markup(row, *reading_tables("markup_free"), marks))


def own_places(text: str) -> list[tuple[int, int]]:
    """The range of bytes of its character, for each byte."""
    places: list[tuple[int, int]] = []
    for character in text:
        size = len(character.encode())
        places += [(len(places), len(places) + size)] * size
    return places


def has_dash_or_quote(text: str) -> bool:
    return any("\u2012" <= character <= "\u203f" for character in text)


@settings(deadline=None)
@given(texts)
def test_a_text_in_which_no_markup_is_found_is_itself_without_markup(text: str) -> None:
    if not found(text.encode()) and not has_dash_or_quote(text):
        assert without_markup(text.encode()) == (text.encode(), own_places(text))


@settings(deadline=None)
@given(texts)
def test_a_text_in_which_markup_is_found_is_another_without_it(text: str) -> None:
    _, _, _, _, mixed = reading_tables("markup_free")[0]
    look_alike = any(ord(character) < len(mixed) and mixed[ord(character)] for character in text)
    if found(text.encode()) and not look_alike:
        assert without_markup(text.encode())[0] != text.encode()


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_bytes_that_are_no_text_are_found_or_left_alone(text: bytes) -> None:
    if not found(text) and b"\xe2\x80" not in text:
        assert without_markup(text)[0] == text


@pytest.mark.parametrize(
    "text", ["x_1 + x_{2} = \\frac{a}{b}", "<<5*4=20>>20", "3 * 4 = 12", "AT&T < 5 & more", "漢字 π_1"]
)
def test_formulas_and_products_have_no_markup(text: str) -> None:
    assert not found(text.encode())


@pytest.mark.parametrize(
    "text", ["a **b** c", "5 &lt; 6", "<b>x</b>", "one\\ntwo", "a \\\\ b", "`x`", "_x_", "café \\alpha"]
)
def test_emphasis_entities_tags_and_escapes_are_markup(text: str) -> None:
    assert found(text.encode())
