"""The split: the words that the tokenizers library makes, for every character and every neighbourhood."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, normalizers, pre_tokenizers

from pipelines.bpe.classes import LETTER, NEWLINE, NUMBER, SPACE, TABLE_SIZE, class_table
from pipelines.bpe.words import normalized, word_end
from tests.library_bpe import library_words

POINTS = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
NEIGHBOURS = [
    *("a", "Z", "s", "S", "t", "re", "RE", "ve", "VE", "ll", "lL", "m", "d", "l", "r", "v", "\u017f", "\u212a"),
    *("'", "''", "\u2019", "1", "\u0661", "\u00bd", " ", "  ", "\t", "\n", "\r\n", "\r", "\u00a0", "\u0085", "\u2028"),
    *("\u3000", "\x1c", "\x1f", "\x00", ".", "!?", "(", "_", "\u0301", "e\u0301", "\u0e33", "\u5317\u4eac", "\u1e97"),
    *("\U0001f642", "\U0001f468\u200d\U0001f469", "\u200b", "\ufeff", "\ufb06", "\ufb03", "\U000e0041", "\U0010fffd"),
]
TEXT = st.one_of(st.lists(st.sampled_from(NEIGHBOURS), max_size=14).map("".join), st.text(max_size=30))
normalize = normalizers.NFC().normalize_str


def words(text: str) -> list[str]:
    data = np.frombuffer(text.encode(), np.uint8)
    at, found = 0, []
    while at < len(data):
        stop = word_end(data, at, len(data), class_table())
        found.append(data[at:stop].tobytes().decode())
        at = stop
    return found


@pytest.mark.parametrize(
    ("pattern", "classes"), [(r"\p{L}", {LETTER}), (r"\p{N}", {NUMBER}), (r"\s", {SPACE, NEWLINE})]
)
def test_every_character_is_of_the_class_that_the_library_says(pattern: str, classes: set[int]) -> None:
    text = "".join(map(chr, POINTS))
    pieces = pre_tokenizers.Split(Regex(f"[^{pattern}]+"), "removed").pre_tokenize_str(text)
    expected = {ord(character) for piece, _ in pieces for character in piece}
    assert expected == set(np.flatnonzero(np.isin(class_table(), list(classes))).tolist())


def test_every_character_is_split_as_the_library_does() -> None:
    # Between letters, after a blank, after an apostrophe, before a digit, and at the end of the text.
    for start in range(0, len(POINTS), 4096):
        points = POINTS[start : start + 4096 if start < TABLE_SIZE else start + 64]
        text = "".join(f"a{chr(code)}b {chr(code)}'{chr(code)}1{chr(code)} \n" for code in points) + chr(points[-1])
        assert words(text) == library_words(text)


@settings(max_examples=2000, deadline=None)
@given(TEXT)
@example("it's IT'S they'RE I'LL we'd o'\u017f '\u017f")
@example(" \n \n  x  \r\n\r\n y \t z ")
@example("\n   ")
def test_any_text_is_split_as_the_library_does(text: str) -> None:
    assert words(text) == library_words(text)


def test_contractions_end_where_the_library_ends_them() -> None:
    letters = "stremvldSTREMVLD\u017f\u212aka1' \n."
    for first, second in itertools.product(letters, repeat=2):
        for text in (f"a'{first}{second}x", f"'{first}{second}", f"a '{first}", f"''{first}{second} x"):
            assert words(text) == library_words(text)


@pytest.mark.parametrize("unit", ["a", " ", "\n", " \n", "\u5317", ".", "1", "'s", "\u0301"])
def test_long_runs_are_split_as_the_library_does_in_linear_time(unit: str) -> None:
    assert words(unit * 100_000) == library_words(unit * 100_000)


def test_words_end_with_their_row_whatever_follows_in_the_buffer() -> None:
    for text in ("abc", "a b", "x  ", "it'", "\n", "caf\u00e9"):
        end = len(text.encode())
        for after in ("defghijkl", " ", "\n", "s", "\u00e9"):
            data = np.frombuffer((text + after).encode(), np.uint8)
            at, found = 0, []
            while at < end:
                stop = word_end(data, at, end, class_table())
                found.append(data[at:stop].tobytes().decode())
                at = stop
            assert found == library_words(text)


@pytest.mark.parametrize("before", ["", "a", "\uac00", "\u0915", "e\u0301"])
def test_no_row_that_the_library_would_change_is_passed_over(before: str) -> None:
    texts = [before + chr(code) for code in POINTS if code < TABLE_SIZE or code % 97 == 0]
    assert normalized(pa.array(texts), normalize).to_pylist() == [normalize(text) for text in texts]


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXT, max_size=5), st.sampled_from([pa.string(), pa.large_string()]))
def test_columns_are_normalized_row_by_row(texts: list[str], kind: pa.DataType) -> None:
    column = pa.array(["e\u0301", *texts, ""], kind).slice(1)
    assert normalized(column, normalize).to_pylist() == [normalize(text) for text in [*texts, ""]]


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(pa.ArrowInvalid):
        normalized(pa.array([b"a\xe5\x8c"]).cast(pa.binary()).view(pa.string()), normalize)
