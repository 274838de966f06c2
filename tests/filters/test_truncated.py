"""Truncated: the last sentence of a text is read by one pattern, as by those that it stands for."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.truncated import MIN_WORDS_ALONE, _last_sentences

END, INNER = r"[.!?…]\$?['\"”’»)]*", r"\(?(?:\p{L}[\p{L}\p{M}'’\-/]*|\$?\d[\d,.]*%?|\$[^$\n]{1,80}\$)\)?[,;]?['\"”’»]?"
BEFORE = (
    r"(?:[\p{Ll}\p{Lo}]{2}|\d{4}|[\p{Ll}\d][)\"”’»]|\$|(?:is|are|of|to|by|get|than|be|equals|and) \$?\d{1,3}%?)"
    rf"{END}"
)
OPENER = r"(?:The|An?|My|Our|His|Her|Its|Their|This|That|In|On|At|When|While|If|As|For|With|Because)"
WORD = r"\p{Lu}[\p{L}'’\-]*,?"
OPEN = rf"{BEFORE}(?:[ \t]+(?:{OPENER} {INNER}|{WORD}(?: {INNER}){{2,}})|\s*\n\s*{WORD}(?: {INNER}){{4,}})\s*\z"
LONG = rf"{BEFORE}\s+{WORD}(?: {INNER}){{11,}}\s*\z"

pieces = st.sampled_from(
    [
        *("end.", "is it?", "1999.", "(so.)", 'said."', "e.g.", "A.", "…", "日本。", "é\u0301t", "42", "'", "”"),
        *(" ", " ", " ", "  ", "\t", "\n", "\r\n", "\f", "\n\n"),
        *("The", "An", "Because", "the", "Then", "Öl", "It's,", "and", "then;", "x-y", "word"),
        *(" and", " so", " then on", " we go on and on and on and on", " because of it,"),
    ]
)
texts = st.lists(pieces, max_size=14).map("".join)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.builds("{} {}".format, texts, texts) | texts | texts.map("It is so. Then".__add__), max_size=20))
def test_one_pattern_reads_the_last_sentence_as_two_with_numbers_of_words(rows: list[str]) -> None:
    column = pa.array(rows, pa.string())
    is_open, words = _last_sentences(column)
    np.testing.assert_array_equal(is_open, pc.match_substring_regex(column, OPEN))
    np.testing.assert_array_equal(words >= MIN_WORDS_ALONE, pc.match_substring_regex(column, LONG))
