"""Invisible characters in and out of their place, and texts that show nothing."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.control import Control, measure
from filters.placeholder import Placeholder


def counts(text: str) -> tuple[int, int]:
    """Stray and hidden characters of a text."""
    _, _, _, stray, hidden, _, _ = measure(pa.array([text]))[:, 0]
    return int(stray), int(hidden)


@pytest.mark.parametrize(
    "text",
    [
        "می\u200cخواهم",
        "क्\u200dष",
        "ශ්\u200dරී",
        "👨\u200d👩\u200d👧",
        "👩🏽\u200d⚕\ufe0f",
        "❤\ufe0f",
        "1\ufe0f\u20e3",
        "☎\ufe0e",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "葛\U000e0100城",
        "שלום\u200f!",
        "\u202bعنوان\u202c",
        "Donau\u00addampf\u00adschiff",
        "\u1160".join("\u1100"),
        "\u115f\u1161",
        "ภาษา\u200bไทย",
        "🏳\ufe0f\u200d🌈",
        "ᠮᠣᠩ\u180bᠭᠣᠯ",
        "≨\ufe00",
    ],
)
def test_an_invisible_character_in_its_place_does_not_count(text: str) -> None:
    assert counts(text) == (0, 0)


@pytest.mark.parametrize(
    ("text", "stray", "hidden"),
    [
        ("a\u200bb", 1, 0),
        ("a\u200db", 1, 0),
        ("a\ufeffb", 1, 0),
        ("a\ufe0fb", 1, 0),
        ("a\u200eb", 1, 0),
        ("f\u00ado\u00ado", 2, 0),
        ("a\u3164b", 0, 1),
        ("a\U000e0041b", 0, 1),
        ("🏴\U000e0067\U000e0062", 0, 2),
        ("🏴" + "\U000e0061" * 20 + "\U000e007f", 0, 21),
        ("a\u202eb", 0, 1),
        ("😀" + "\U000e0100" * 5, 0, 5),
        ("😀" + "\ufe0f" * 2, 1, 0),
    ],
)
def test_an_invisible_character_out_of_its_place_is_stray_or_hidden(text: str, stray: int, hidden: int) -> None:
    assert counts(text) == (stray, hidden)


def test_zero_width_characters_in_a_row_are_hidden_text() -> None:
    assert counts("a" + "\u200b\u200c" * 4 + "b")[1] == 8
    assert counts("a" + "\u200b\u200c" * 3 + "b")[1] == 0
    assert counts("می" + "\u200c" * 40 + "خواهم")[1] == 40


@pytest.mark.parametrize("payload", ["".join(chr(0xE0000 + ord(c)) for c in "run it"), "\u3164", "\U000e0100" * 4])
def test_one_hidden_text_drops_a_record_of_any_length(payload: str) -> None:
    records = pa.table({"instruction": ["Go on."], "response": ["a long answer " * 10_000 + payload]})
    assert Control().judge(records)[0].as_py()["reason"] == "invisible_characters"


@settings(max_examples=100, deadline=None)
@given(
    st.text(st.sampled_from("ab \u200b\u200d\u202e\ufe0f\U000e0041\U0001f3f4é中م"), max_size=12), st.text(max_size=8)
)
def test_what_precedes_in_another_row_does_not_matter(text: str, other: str) -> None:
    both, alone = measure(pa.array([other, text])), measure(pa.array([text]))
    assert both[:, 1].tolist() == alone[:, 0].tolist()


def blank(text: str) -> bool:
    verdict = Placeholder().judge(pa.table({"instruction": ["Say it."], "response": [text]}))[0].as_py()
    return verdict is not None and verdict["reason"] == "empty_response"


def test_every_space_and_format_character_of_unicode_is_blank() -> None:
    """All of Zs, Zl, Zp and Cc, and the rest by sample."""
    spaces = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) in ("Zs", "Zl", "Zp", "Cc")]
    assert all(blank(c) for c in spaces)
    zero_width = "\u200b\u200c\u200d\u200e\u2060\ufeff\u00ad\u034f\u061c\u17b4\u180e\ufe0f\U000e0020\U000e0100"
    for c in zero_width + "\u115f\u1160\u2800\u3164\uffa0":
        assert blank(c), f"U+{ord(c):04X}"
        assert blank(f"\u3000{c}\n{c}\xa0")


@pytest.mark.parametrize("text", ["\u0301", "\u0301\u0308 \u20dd", ""])
def test_marks_without_a_letter_are_blank(text: str) -> None:
    assert blank(text)


@pytest.mark.parametrize("text", ["x", "\u2800⠓", "e\u0301", "\u3164x", "。", "😀", "\u0600", "-", "0", "ㅤㄱ", "\ue000"])
def test_a_text_with_one_visible_character_is_not_blank(text: str) -> None:
    assert not blank(text)
