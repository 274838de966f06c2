"""Words to ids: those of the tokenizers library, whatever the table of words holds."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipelines.bpe.encode import CHUNK_BYTES, LONG_WORD, WordEncoder
from pipelines.bpe.words import SPLIT
from pipelines.steps.encoding import SPECIAL, Encoder, encoder
from tests.library_bpe import library_trained
from tests.pipelines.bpe.test_words import TEXT

SYLLABLES = ("ka", "to", "mi", "ren", "sol", "du", "pex", "an", "or", "ith", "ve", "lu", "\u5317", "\u00e9t\u00e9")


def sentences(rows: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join("".join(rng.choice(SYLLABLES, rng.integers(1, 5))) for _ in range(30)) for _ in range(rows)]


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    trained: dict[str, Any] = json.loads(library_trained(sentences(400), 1200))
    return trained


@pytest.fixture(scope="module")
def bpe(spec: dict[str, Any]) -> Encoder:
    return encoder(json.dumps(spec).encode(), "test")


def library(spec: dict[str, Any]) -> Tokenizer:
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.encode_special_tokens = True
    return tokenizer


def rows(ids: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])] if len(lengths) else []


def expected(spec: dict[str, Any], texts: list[str]) -> list[list[int]]:
    return [one.ids for one in library(spec).encode_batch_fast(texts, add_special_tokens=False)]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(TEXT, st.sampled_from(SPECIAL), st.sampled_from(sentences(20, 5))), max_size=6))
def test_ids_are_those_of_the_library(spec: dict[str, Any], bpe: Encoder, texts: list[str]) -> None:
    assert rows(*bpe.encode_column(pa.array(texts, pa.string()))) == expected(spec, texts)


def test_a_table_that_is_emptied_again_and_again_gives_the_same_ids(spec: dict[str, Any], bpe: Encoder) -> None:
    assert bpe.words is not None
    texts = [*sentences(300, 7), "x" * LONG_WORD + " " + "y" * (LONG_WORD - 1) + " z", "\u5317" * 40]
    for slots, arena in ((4, 1024), (64, 1024), (4096, 2048)):
        small = WordEncoder(bpe.words._merges, bpe.words._long_word, slots, arena)
        for _ in range(2):
            assert rows(*small.encode(pa.array(texts))) == expected(spec, texts)


@pytest.mark.parametrize("size", [LONG_WORD - 1, LONG_WORD, LONG_WORD + 1, 5000])
@pytest.mark.parametrize("unit", ["kato", "a", "=", " ", "\u5317", "\u0e01\u0e33"])
def test_long_words_are_encoded_as_by_the_library(spec: dict[str, Any], bpe: Encoder, unit: str, size: int) -> None:
    texts = [(unit * size)[:size], "a" + (unit * size)[:size] + "\n", f"it {unit * size}'s", ""]
    assert rows(*bpe.encode_column(pa.array(texts))) == expected(spec, texts)


def test_slices_and_wide_offsets_are_encoded_like_any_column(spec: dict[str, Any], bpe: Encoder) -> None:
    texts = ["kato", "", "mi ren \u00e9te\u0301", "sol"]
    for kind in (pa.string(), pa.large_string()):
        column = pa.array(["first", *texts, "last"], kind).slice(1, len(texts))
        assert rows(*bpe.encode_column(column)) == expected(spec, texts)
    assert [len(part) for part in bpe.encode_column(pa.array([], pa.string()))] == [0, 0]


def test_a_column_larger_than_a_chunk_is_encoded_row_by_row(spec: dict[str, Any], bpe: Encoder) -> None:
    texts = [
        "kato mi\n" * (CHUNK_BYTES // 16),
        "",
        "ren sol " * (CHUNK_BYTES // 12),
        "du pex " * (CHUNK_BYTES // 6),
        "a",
        "",
    ]
    ids, lengths = bpe.encode_column(pa.array(texts))
    assert rows(ids, lengths) == [bpe.encode(text) for text in texts]
    assert rows(ids, lengths)[0] == bpe.encode("kato mi\n") * (CHUNK_BYTES // 16)
    assert rows(ids, lengths)[4:] == expected(spec, texts[4:])


def test_threads_that_share_an_encoder_get_their_own_ids(spec: dict[str, Any], bpe: Encoder) -> None:
    texts = [sentences(400, seed) for seed in range(4)]
    results: dict[int, list[list[int]]] = {}

    def work(n: int) -> None:
        results[n] = rows(*bpe.encode_column(pa.array(texts[n])))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[n] for n in range(4)] == [expected(spec, part) for part in texts]


OTHER_SPLITS = (
    SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|"),
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"\s+|\S+",
)


@pytest.mark.parametrize("split", OTHER_SPLITS)
@settings(max_examples=20, deadline=None)
@given(st.lists(TEXT, max_size=4))
def test_a_tokenizer_with_another_split_gives_the_ids_of_the_library(
    spec: dict[str, Any], split: str, texts: list[str]
) -> None:
    other = json.loads(json.dumps(spec))
    other["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = split
    bpe = encoder(json.dumps(other).encode(), "test")
    texts = [*texts, "It's 12345 kato\n\n  miren", " " * 70_000]
    assert bpe.words is None
    assert rows(*bpe.encode_column(pa.array(texts))) == expected(other, texts)


def test_a_token_that_its_own_merges_never_make_is_not_given() -> None:
    # (h, a) comes before (a, t), so `hat`, made of `h` and `at`, never comes.
    spec = json.loads(library_trained([], 512))
    vocabulary = spec["model"]["vocab"]
    for token in ("ha", "at", "hat"):
        vocabulary[token] = len(vocabulary)
    spec["model"]["merges"] = [["h", "a"], ["a", "t"], ["h", "at"]]
    bpe = encoder(json.dumps(spec).encode(), "test")
    assert rows(*bpe.encode_column(pa.array(["hat", "at hat"]))) == expected(spec, ["hat", "at hat"])


def test_a_tokenizer_that_ignores_merges_gives_the_ids_of_the_library(spec: dict[str, Any]) -> None:
    ignoring = {**spec, "model": {**spec["model"], "ignore_merges": True}}
    bpe = encoder(json.dumps(ignoring).encode(), "test")
    assert bpe.words is None
    assert rows(*bpe.encode_column(pa.array(sentences(50)))) == expected(ignoring, sentences(50))
