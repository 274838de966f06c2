"""Letters and words of bytes, eight at a time, against one at a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.gopher_quality import STOP_WORDS, measure
from filters.language import FUNCTION_WORDS, function_words
from filters.text import letters_end, lower_key

texts = st.lists(
    st.sampled_from([*FUNCTION_WORDS.split(), *STOP_WORDS, *"aZ@[`{ 0#.,-*\n\t…é•漢", "The", "and.", "...", "##"])
    | st.text(max_size=12),
    max_size=20,
).map(" ".join)


@settings(deadline=None)
@given(st.binary(max_size=40), st.integers(0, 40), st.integers(0, 40))
def test_a_run_of_letters_ends_where_the_first_other_byte_is(data: bytes, at: int, end: int) -> None:
    end = min(end, len(data))
    at = min(at, end)
    expected = at
    while expected < end and bytes([data[expected]]).isalpha():
        expected += 1
    row = np.frombuffer(data, np.uint8)
    assert letters_end(row, at, end) == expected
    if at < expected <= at + 8:
        assert lower_key(row, at, expected) == int.from_bytes(data[at:expected].lower(), "little")


@settings(deadline=None)
@given(st.lists(texts, max_size=4), st.none() | st.integers(0, 60))
def test_function_words_are_counted_as_words_of_a_list(rows: list[str], chars: int | None) -> None:
    known = set(FUNCTION_WORDS.split())
    for row, share in zip(
        [row[:chars] for row in rows], function_words(pa.array(rows, pa.string()), chars), strict=True
    ):
        letters = "".join(c if c.isascii() and c.isalpha() else " " for c in row).split()
        others = sum(byte >= 0xC0 for byte in row.encode())
        count = sum(word.lower() in known for word in letters)
        assert share == (count / (len(letters) + others) if letters or others else 0)


@settings(deadline=None)
@given(st.lists(texts, max_size=4))
def test_words_and_stop_words_of_a_document_are_those_between_white_space(rows: list[str]) -> None:
    marks = "".join(chr(code) for code in range(33, 127) if not chr(code).isalnum())
    for row, (words, letters, *_, stops) in zip(rows, measure(pa.array(rows, pa.string())).T.tolist(), strict=True):
        pieces = [piece.decode().strip(marks) for piece in row.encode().split()]
        found = [piece for piece in pieces if piece]
        assert words == len(found)
        assert letters == sum(map(len, found))
        assert stops == sum(piece.lower() in STOP_WORDS for piece in found if piece.isascii())
