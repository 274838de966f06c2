"""Counted words to merges: the very file that the tokenizers library's trainer makes."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from pipelines.bpe.train import add_counts, count_words, learn_merges
from pipelines.bpe.words import normalized
from pipelines.steps.encoding import SPECIAL
from pipelines.steps.train_tokenizer import tokenizer_json
from tests.library_bpe import library_trained, library_words
from tests.pipelines.bpe.test_encode import sentences
from tests.pipelines.bpe.test_words import TEXT

normalize = normalizers.NFC().normalize_str
FEW_LETTERS = st.text("ab", max_size=12).map(lambda word: " " + word)


def counted(texts: list[str], parts: int = 1) -> pa.Table:
    columns = [normalized(pa.array(texts[part::parts], pa.string()), normalize) for part in range(parts)]
    return add_counts(pa.concat_tables([count_words(column) for column in columns]))


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT, max_size=8))
def test_words_are_counted_as_the_library_splits_them(texts: list[str]) -> None:
    expected = Counter(word.encode() for text in texts for word in library_words(normalize(text)))
    for slots, arena in ((1024, 4096), (4, 600)):
        table = add_counts(count_words(normalized(pa.array(texts, pa.string()), normalize), slots, arena))
        assert dict(zip(table["word"].to_pylist(), table["count"].to_pylist(), strict=True)) == expected


def test_a_word_that_no_table_holds_is_named_by_its_row() -> None:
    with pytest.raises(ValueError, match="row 1 has a word longer than 600 bytes"):
        count_words(pa.array(["a", "b" * 1000]), 4, 600)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(FEW_LETTERS, TEXT), max_size=40), st.sampled_from([260, 288, 290, 300, 340, 600]))
def test_any_texts_give_the_file_of_the_library(texts: list[str], vocab_size: int) -> None:
    assert tokenizer_json(counted(texts), vocab_size) == library_trained(texts, vocab_size)


@pytest.mark.parametrize("seed", range(4))
def test_ties_are_broken_as_the_library_does(seed: int) -> None:
    # Letters at random: most pairs are as frequent as many others, and runs of one letter overlap themselves.
    rng = np.random.default_rng(seed)
    chances, letters = [0.5, 0.2, 0.1, 0.1, 0.05, 0.05], list("abcd\u00e9\u5317")
    coined = ["".join(rng.choice(letters, rng.integers(1, 20), p=chances)) for _ in range(2400)]
    texts = [" ".join(coined[start : start + 40]) for start in range(0, len(coined), 40)]
    for vocab_size in (300, 500, 1000, 5000):
        assert tokenizer_json(counted(texts), vocab_size) == library_trained(texts, vocab_size)


def test_the_file_depends_on_the_counts_alone() -> None:
    texts = sentences(300)
    whole = counted(texts)
    order = np.random.default_rng(1).permutation(whole.num_rows)
    assert tokenizer_json(whole.take(pa.array(order)), 2000) == tokenizer_json(counted(texts[::-1], 5), 2000)


def test_no_special_token_is_one_word_and_so_none_can_be_learned() -> None:
    assert all(len(library_words(f"{before}{token}")) > 1 for token in SPECIAL for before in ("", " ", "x"))
    texts = ["<think> <|im_end|> </tool_call>"] * 50
    assert tokenizer_json(counted(texts), 600) == library_trained(texts, 600)


def test_merges_end_where_no_pair_is_frequent_enough() -> None:
    table = pa.table({"word": pa.array([b"ab", b"ac"], pa.binary()), "count": pa.array([2, 1], pa.int64())})
    assert learn_merges(table, np.arange(256), 100, 2).tolist() == [[ord("a"), ord("b")]]
    assert learn_merges(table.slice(0, 0), np.arange(256), 100, 2).tolist() == []
    assert learn_merges(table, np.arange(256), 0, 1).tolist() == []


def test_counts_beyond_32_bits_are_added() -> None:
    table = pa.table({"word": pa.array([b"ab", b"ac"], pa.binary()), "count": pa.array([1 << 40, 1 << 33], pa.int64())})
    assert learn_merges(table, np.arange(256), 2, 2).tolist() == [[97, 98], [97, 99]]


@pytest.mark.parametrize("vocab_size", [512, 4096, 20_000])
def test_real_texts_give_the_file_of_the_library(shared_data: Path, vocab_size: int) -> None:
    sources = shared_data / "sources"
    with (sources / "gsm8k_train.jsonl").open(encoding="utf-8") as lines:
        texts = [text for line in lines for text in json.loads(line).values()][:4000]
    with gzip.open(sources / "t0_p3_50k.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts += [json.loads(line)["prompt"][:10_000] for line, _ in zip(lines, range(2000), strict=False)]
    marco = (sources / "marco_o1_thoughts.json").read_text(encoding="utf-8")[: 1 << 20]
    texts += [marco[start : start + 5000] for start in range(0, len(marco), 5000)]
    assert tokenizer_json(counted(texts, 3), vocab_size) == library_trained(texts, vocab_size)
