"""Signatures are bit-identical with datasketch, whose classes can read them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from datasketch import LeanMinHash, MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.minhash import EMPTY_VALUE, band_keys, permutations, signatures
from dedup.shingles import Unit, character_shingle_hash, shingle_hash, shingle_hashes
from dedup.tokens import normalise

letters = st.one_of(st.sampled_from("ab c1+é漢 .\n"), st.characters(exclude_categories=["Cs"]))
texts = st.lists(st.text(letters, max_size=80), min_size=1, max_size=5)


def grams(text: str, ngram: int, unit: Unit) -> list[bytes]:
    normal: str = normalise(pa.array([text], pa.string()))[0].as_py()
    pieces: list[str] | str = normal if unit == "character" else (normal.split(" ") if normal else [])
    glue = "" if unit == "character" else " "
    return [glue.join(pieces[i : i + ngram]).encode() for i in range(len(pieces) - ngram + 1)]


@settings(max_examples=50, deadline=None)
@given(texts, st.integers(1, 5), st.sampled_from([1, 7, 128]), st.sampled_from([1, 42]), st.booleans())
def test_signatures_equal_datasketch(rows: list[str], ngram: int, num_perm: int, seed: int, words: bool) -> None:
    unit: Unit = "word" if words else "character"
    signed = signatures(shingle_hashes(pa.array(rows, pa.string()), ngram, unit), num_perm, seed)
    hashfunc = shingle_hash if unit == "word" else character_shingle_hash
    for row, text in enumerate(rows):
        oracle = MinHash(num_perm, seed=seed, hashfunc=hashfunc, scheme="affine32")
        oracle.update_batch(grams(text, ngram, unit))
        assert np.array_equal(signed.values[row], oracle.hashvalues)
        assert signed.valid[row] == bool(grams(text, ngram, unit))


def test_every_length_of_row_equals_datasketch() -> None:
    """Shingles are processed eight at a time: one row for each remainder."""
    rows = [" ".join(str(n) for n in range(count)) for count in range(1, 40)]
    signed = signatures(shingle_hashes(pa.array(rows), 2), 64)
    for row, text in enumerate(rows):
        oracle = MinHash(64, hashfunc=shingle_hash, scheme="affine32")
        oracle.update_batch(grams(text, 2, "word"))
        assert np.array_equal(signed.values[row], oracle.hashvalues)


def test_permutations_are_those_of_datasketch() -> None:
    for seed in (1, 42):
        oracle = MinHash(112, seed=seed, scheme="affine32")
        assert np.array_equal(np.stack(permutations(112, seed)), oracle.permutations)


def test_datasketch_searches_our_signatures() -> None:
    base = [f"word{n}" for n in range(60)]
    rows = [" ".join(base), " ".join([*base[:59], "changed"]), " ".join(f"other{n}" for n in range(60))]
    signed = signatures(shingle_hashes(pa.array(rows), 5), 112)
    sketches = [LeanMinHash(seed=1, hashvalues=values, scheme="affine32") for values in signed.values]
    index = MinHashLSH(num_perm=112, params=(14, 8))
    for row in (0, 2):
        index.insert(row, sketches[row])
    assert index.query(sketches[1]) == [0]
    assert sketches[0].jaccard(sketches[1]) == pytest.approx(np.mean(signed.values[0] == signed.values[1]))


def test_short_rows_are_flagged_and_not_collapsed() -> None:
    """Data-Juicer gives all rows shorter than the n-gram one key. Here they are not valid, so they have none."""
    rows = pa.array(["Yes.", "Paris", "The answer is 42.", "a b c d e"])
    signed = signatures(shingle_hashes(rows, 5), 16)
    assert signed.valid.tolist() == [False, False, False, True]
    assert (signed.values[:3] == EMPTY_VALUE).all()


def test_different_numbers_give_different_signatures() -> None:
    """datatrove's default normalization makes the first two equal. Here they share no shingle with a number."""
    rows = pa.array(["What is 3 + 5?", "What is 41 - 7?", "what is 3 + 5"])
    signed = signatures(shingle_hashes(rows, 3), 128)
    assert np.array_equal(signed.values[0], signed.values[2])
    assert not np.array_equal(signed.values[0], signed.values[1])


def test_keys_are_equal_exactly_where_the_values_of_a_band_are() -> None:
    values = np.random.default_rng(0).integers(0, 3, (300, 12)).astype(np.uint32)
    keys = band_keys(values, 4, 3)
    for band in range(4):
        bands = values[:, 3 * band : 3 * band + 3]
        same = (bands[:, None] == bands[None]).all(axis=2)
        assert np.array_equal(same, keys[:, band][:, None] == keys[:, band][None])
    assert len(np.intersect1d(keys[:, 0], keys[:, 1])) == 0
    with pytest.raises(ValueError, match="need 15 permutations"):
        band_keys(values, 5, 3)
