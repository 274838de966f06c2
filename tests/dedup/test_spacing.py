"""Spaces of Unicode and dashes of hyphens are blanks, whatever stands in other rows."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.kernel import buffers
from dedup.readings import Reading
from dedup.spacing import with_blanks
from dedup.tokens import normalise

PIECES = st.lists(
    st.sampled_from(
        [*" a-\n,.é漢1", "ab", "--", "---", "----", " -- ", "\u00a0", "\u2009", "\u202f", "\u205f", "\u3000"]
    ),
    max_size=12,
).map("".join)


def blanks(rows: list[str], skipped: int = 0) -> list[bytes]:
    """The rows from `skipped` on, as read."""
    data, offsets = buffers(pa.array(rows, pa.string()).slice(skipped))
    read = []
    for begin, end in itertools.pairwise(offsets):
        row, blank = data[begin:end], np.zeros(end - begin, np.uint8)
        read.append(bytes(blank if with_blanks(row, blank) else row))
    return read


def expected(text: str) -> bytes:
    """The definition, in regular expressions."""
    spaces = re.sub("[\u00a0\u2000-\u200a\u202f\u205f]", lambda space: " " * len(space[0].encode()), text)
    letter = "[a-zA-Z\u0080-\U0010ffff]"
    ends = r"[,.!?)'\"]"
    # Two letters, or one of several bytes, on both sides; blanks on both or on none, of the text as it was given.
    word = rf"(?:{letter}{letter}|[\u0080-\U0010ffff])"
    found = re.finditer(r"(?<!-)-{2,3}(?!-)", text)
    dashes = []
    for dash in found:
        before, after = text[: dash.start()], text[dash.end() :]
        if before.endswith(" ") == after.startswith(" ") and re.match(word, after.lstrip(" ")):
            left = before.rstrip(" ")
            if re.search(rf"{word}{ends}?\Z", left):
                dashes.append((len(before.encode()), len(dash[0])))
    data = bytearray(spaces.encode())
    for at, size in dashes:
        data[at : at + size] = b" " * size
    return bytes(data)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=6), st.integers(0, 2))
def test_blanks_are_those_of_the_definition_in_each_row_alone(rows: list[str], skipped: int) -> None:
    skipped = min(skipped, len(rows))
    read = blanks(rows, skipped)
    assert read == [expected(row) for row in rows[skipped:]]
    assert read == [blanks([row])[0] for row in rows[skipped:]]


@pytest.mark.parametrize("reading", ["near", "markup_free"])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The rule is plain \u2014 be consistent.", "The rule is plain -- be consistent."),
        ("The rule is plain\u2014be consistent.", "The rule is plain--be consistent."),
        ("the $(a,c) = 3$ and $-16,$ then", "the\u00a0$(a,c)\u00a0=\u00a03$\u00a0and\u00a0$-16,$\u00a0then"),
        ("It costs 5 euros.", "It costs 5\u202feuros."),
    ],
)
def test_spaces_and_dashes_are_read_alike(one: str, other: str, reading: Reading) -> None:
    first, second = normalise(pa.array([one, other]), reading).to_pylist()
    assert first == second


@pytest.mark.parametrize(
    ("one", "other"), [("run --fast now", "run fast now"), ("i-- > 0", "i > 0"), ("a -- b", "a b")]
)
def test_options_and_operators_of_programs_stay(one: str, other: str) -> None:
    first, second = normalise(pa.array([one, other]), "near").to_pylist()
    assert first != second
