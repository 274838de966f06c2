"""Shingles against the same hashes in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedup.shingles import character_shingle_hash, shingle_hash, shingle_hashes
from tests.dedup.test_tokens import SAMPLES, any_text, column, reference


@settings(max_examples=60, deadline=None)
@given(st.lists(any_text, min_size=1, max_size=4), st.integers(1, 6))
@example(SAMPLES, 3)
def test_shingles_hash_the_ngrams_of_normalized_text(texts: list[str], ngram: int) -> None:
    by_word, by_character = (shingle_hashes(column(*texts), ngram, unit) for unit in ("word", "character"))
    for row, text in enumerate(texts):
        tokens = [token for token, _, _ in reference(text)]
        grams = [" ".join(tokens[i : i + ngram]).encode() for i in range(len(tokens) - ngram + 1)]
        assert by_word.hash[by_word.offsets[row] : by_word.offsets[row + 1]].tolist() == [
            shingle_hash(g) for g in grams
        ]
        joined = " ".join(tokens)
        grams = [joined[i : i + ngram].encode() for i in range(len(joined) - ngram + 1)]
        hashes = by_character.hash[by_character.offsets[row] : by_character.offsets[row + 1]]
        assert hashes.tolist() == [character_shingle_hash(gram) for gram in grams]


def test_too_few_tokens_make_no_shingle() -> None:
    shingles = shingle_hashes(column("Yes.", "Paris", "The answer is 42.", "", "one two three four five"), 5)
    assert np.diff(shingles.offsets).tolist() == [0, 0, 0, 0, 1]


def test_an_ngram_has_at_least_one_unit_of_a_known_kind() -> None:
    with pytest.raises(ValueError, match="n-gram"):
        shingle_hashes(column("a"), 0)
    with pytest.raises(ValueError, match="unit"):
        shingle_hashes(column("a"), 1, "line")  # type: ignore[arg-type]
