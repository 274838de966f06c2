"""The Gopher measures against their definitions, written in plain Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.gopher_quality import STOP_WORDS, GopherQuality
from filters.gopher_quality import measure as measure_quality
from filters.gopher_repetition import LIMITS, MEASURES, GopherRepetition
from filters.gopher_repetition import measure as measure_repetition
from filters.structure import prose_of

PUBLISHED = (0.30, 0.30, 0.20, 0.20, 0.20, 0.18, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11, 0.10)
"""Rae et al. 2021, table A1. Those of n-grams are doubled for instruction data."""
N_GRAMS = 4
"""Where the limits of n-grams begin in it."""

WORD = st.sampled_from(["a", "bb", "the", "ü", "cde", "x."])
TEXT = st.lists(st.tuples(WORD, st.sampled_from([" ", " ", " ", "\n", "\n\n", "  \n"])), max_size=60).map(
    lambda parts: "".join(word + space for word, space in parts)
)


def words_of(text: str) -> list[str]:
    return text.split()


def repeats(units: list[tuple[str, ...]]) -> tuple[float, float]:
    seen: set[tuple[str, ...]] = set()
    count = characters = 0
    for unit in units:
        if unit in seen:
            count += 1
            characters += sum(map(len, unit))
        seen.add(unit)
    return count / max(len(units), 1), characters / max(sum(len(w) for unit in units for w in unit), 1)


def defined(text: str) -> list[float]:
    """The measures of table A1, by their definitions."""
    lines = [tuple(words_of(line)) for line in text.split("\n")]
    paragraphs: list[tuple[str, ...]] = []
    current: tuple[str, ...] = ()
    # Paragraphs are equal if their lines are, so an empty word marks where each line begins.
    for line in [*lines, ()]:
        if line:
            current += ("", *line)
        elif current:
            paragraphs, current = [*paragraphs, current], ()
    line_count, line_characters = repeats([line for line in lines if line])
    paragraph_count, paragraph_characters = repeats(paragraphs)
    result = [line_count, paragraph_count, line_characters, paragraph_characters]
    words = words_of(text)
    total = max(sum(map(len, words)), 1)
    for n in range(2, 11):
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        if n <= 4:
            tops = [(k, sum(map(len, gram))) for gram, k in Counter(grams).items() if k > 1]
            top = max(tops, default=(0, 0))
            result.append(min(1.0, top[0] * top[1] / total))
        else:
            covered: set[int] = set()
            for i, gram in enumerate(grams):
                if gram in grams[:i]:
                    covered.update(range(i, i + n))
            result.append(sum(len(words[i]) for i in covered) / total)
    return result


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4))
def test_repetition_is_measured_as_it_is_defined(texts: list[str]) -> None:
    measured = measure_repetition(pa.array(texts, pa.string())).T
    for text, row in zip(texts, measured, strict=True):
        np.testing.assert_allclose(row[:13], defined(text), err_msg=repr(text))
        assert row[13] == len(words_of(text))


def test_the_thresholds_of_repetition_are_the_published_ones_or_for_n_grams_twice_those() -> None:
    expected = [limit * (2 if place >= N_GRAMS else 1) for place, limit in enumerate(PUBLISHED)]
    assert [getattr(GopherRepetition(), name) for name in LIMITS.values()] == expected


def test_the_thresholds_of_quality_are_the_published_ones() -> None:
    published = {
        "min_words": 50,
        "max_words": 100_000,
        "min_mean_word_chars": 3.0,
        "max_mean_word_chars": 10.0,
        "max_symbol_word_ratio": 0.1,
        "max_bullet_line_ratio": 0.9,
        "max_ellipsis_line_ratio": 0.3,
        "min_alphabetic_word_ratio": 0.8,
        "min_stop_words": 2,
    }
    assert {name: getattr(GopherQuality(), name) for name in published} == published
    assert set(STOP_WORDS) == {"the", "be", "to", "of", "and", "that", "have", "with"}


def words(prefix: str, count: int) -> str:
    """Words of letters, all different."""
    return " ".join(prefix + letter for letter in "abcdefghijklmnopqrstuvwxyz"[:count])


REPEATING = {
    "duplicate_lines": "one two three four\n" * 4,
    "duplicate_paragraphs": "one two three four\n\nfive six seven eight\n\none two three four\n\none two three four",
    "duplicate_line_characters": "a\nb\nc\nd\ne\na long line of words\nf\ng\nh\na long line of words",
    "duplicate_paragraph_characters": "a\n\nb\n\nc\n\na long one of words\n\nd\n\na long one of words",
    "top_2_gram": "one two xa one two xb one two xc one two",
    "top_3_gram": f"aa bb cc {words('x', 7)} aa bb cc {words('y', 3)}",
    "top_4_gram": f"aa bb cc dd {words('x', 7)} aa bb cc dd {words('y', 3)}",
}


@pytest.mark.parametrize("reason", MEASURES)
def test_each_measure_drops_for_its_own_reason(reason: str) -> None:
    if reason in REPEATING:
        text = REPEATING[reason]
    else:  # n words that repeat, among others that do not
        n = int(reason.split("_")[1])
        text = f"{words('w', n)} {words('x', 2 * n)} {words('w', n)}"
    prose = prose_of(pa.array([text]), words_alone=True)
    measured = dict(zip(MEASURES, measure_repetition(prose)[:13, 0], strict=True))
    assert measured[reason] > 0
    others = {limit: 1.0 for name, limit in LIMITS.items() if name != reason}
    strict = GopherRepetition.model_validate({"min_words": 0, LIMITS[reason]: measured[reason] - 1e-9, **others})
    exact = GopherRepetition.model_validate({"min_words": 0, LIMITS[reason]: measured[reason], **others})
    table = pa.table({"instruction": [""], "response": [text]})
    assert strict.judge(table).to_pylist()[0]["reason"] == reason
    assert exact.judge(table).to_pylist() == [None]


def test_quality_counts_what_is_documented() -> None:
    text = "The cat, be-ing #1 (42) … and THAT!\n- one two...\n• drei\n\n  with it…"
    counts = measure_quality(pa.array([text]))[:, 0].tolist()
    # words: The cat be-ing #1 42 … and THAT one two • drei with it…
    assert counts == [14, 3 + 3 + 6 + 1 + 2 + 1 + 3 + 4 + 3 + 3 + 1 + 4 + 4 + 3, 1, 3, 4, 2, 2, 10, 4]


ENDINGS = (
    "won a prize for the best garden in town", "sailed around the world in a boat of reeds",
    "written a long novel about the office kitchen", "opened a small museum of old keyboards",
    "learned to play four instruments at once", "bred a new kind of blue potato",
    "become the mayor of a village in the hills", "built a house out of nothing but books",
    "taught a parrot the whole of the periodic table", "crossed a desert on a bicycle with one wheel",
)  # fmt: skip


def judged(response: str) -> str | None:
    record = pa.table({"instruction": ["Make a list."], "response": [response]})
    verdict = GopherRepetition().judge(record).to_pylist()[0]
    return verdict and verdict["reason"]


@pytest.mark.parametrize(
    "beginning",
    ["In ten years time, who is the most likely of all of us to have", "Sam: I hear that my friend has"],
)
def test_items_in_one_pattern_repeat_nothing(beginning: str) -> None:
    items = [f"{number}. {beginning} {ending}?" for number, ending in enumerate(ENDINGS, 1)]
    assert judged("\n".join(items)) is None


def test_equal_items_and_a_pattern_without_end_repeat() -> None:
    items = [f"- In ten years time, who is the most likely of all of us to have {ending}?" for ending in ENDINGS]
    assert judged("\n".join([*items, *items])) is not None
    words = [f"{a} {b}" for a in ("red", "wide", "late", "loud", "soft") for b in ("sea", "dog", "cup", "day", "box")]
    assert judged("\n".join(f"- Questions that show how much you know about the {word}." for word in words)) is not None
