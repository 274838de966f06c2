"""The share of an item that the corpus covers: the union over its texts, checked against sets of words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from filters.contamination.coverage import Coverage
from filters.contamination.grams import GRAM_COUNTS, GRAM_LENGTHS
from filters.contamination.index import build_index
from filters.contamination.scan import scan_texts
from pipelines.records import ITEM

WORDS = [f"word{chr(97 + n // 20)}{chr(97 + n % 20)}x" for n in range(400)]


def item(number: int, question: str, passage: str = "") -> dict[str, object]:
    return {
        "id": f"b/{number}", "split": "test", "question": question, "answer": "", "choices": [], "passage": passage
    }  # fmt: skip


def brute(text: list[str], corpus: list[list[str]], length: int) -> int:
    """Tokens of a text inside an n-gram of any text of the corpus, by sets of tuples."""
    held = {tuple(words[i : i + length]) for words in corpus for i in range(len(words) - length + 1)}
    inside = [False] * len(text)
    for i in range(len(text) - length + 1):
        if tuple(text[i : i + length]) in held:
            inside[i : i + length] = [True] * length
    return sum(inside)


def test_coverage_is_the_union_over_all_texts_of_question_and_passage() -> None:
    rng = np.random.default_rng(3)
    items, parts = [], []
    for number in range(12):
        question = [WORDS[w] for w in rng.integers(0, len(WORDS), rng.integers(5, 60))]
        passage = [WORDS[w] for w in rng.integers(0, len(WORDS), 90 * (number % 2))]
        parts.append((question, passage))
        items.append(item(number, " ".join(question), " ".join(passage)))
    index = build_index([("b", pa.Table.from_pylist(items, ITEM))])
    # Texts contain pieces of items between words of their own; two pieces of one item are in two texts.
    corpus = []
    for question, passage in parts[1:]:
        for text in (question, passage):
            for _ in range(2):
                begin = int(rng.integers(0, max(1, len(text) - 10)))
                cut = text[begin : begin + int(rng.integers(8, 40))]
                corpus.append(["filler"] * 5 + cut + ["stop", "here"])
    counts = scan_texts(index, pa.array([" ".join(words) for words in corpus]), pa.array([""] * len(corpus))).grams
    coverage, seen = Coverage(index, counts), set()
    for length in GRAM_LENGTHS:
        shares = coverage.shares(length)
        for (question, passage), share in zip(parts, shares.tolist(), strict=True):
            covered = brute(question, corpus, length) + brute(passage, corpus, length)
            assert share == covered / (len(question) + len(passage))
            seen.add(share)
    assert len(seen) > 8  # many different shares, so that the comparison is a real one


def test_an_empty_corpus_covers_nothing() -> None:
    index = build_index([("b", pa.Table.from_pylist([item(0, " ".join(WORDS[:30])), item(1, "two words")], ITEM))])
    assert Coverage(index, GRAM_COUNTS.empty_table()).shares(13).tolist() == [0.0, 0.0]
