"""What real sets are known to share is found, and what only looks shared is classed and kept.

The counts are those of the folder's own README, made again here without the index: questions equal after folding case
and space, and 13-grams of words as other tools count them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from filters.contamination.index import BenchmarkIndex, build_index
from filters.contamination.rules import classify_hits
from filters.contamination.scan import scan_texts
from pipelines.formats.reading import read, text
from pipelines.recipe import BenchmarkSpec
from pipelines.sources import SOURCES
from pipelines.steps.decontaminate import benchmark_items

FILES = {
    "mmlu": ("mmlu", "benchmarks/mmlu/test/*.csv"),
    "math_test": ("math", "benchmarks/math_test.parquet"),
    "math_train": ("math", "sources/math_train.parquet"),
    "aime_train": ("aime", "sources/deepscaler_aime_train.json"),
    "gsm8k_train": ("gsm8k", "sources/gsm8k_train.jsonl"),
    "boolq_test": ("boolq", "benchmarks/boolq_test.json"),
}


class Sets:
    """The sets by name, each read once, and an index of each once it is asked for."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.tables: dict[str, pa.Table] = {}
        self.indexes: dict[str, BenchmarkIndex] = {}

    def items(self, name: str) -> pa.Table:
        adapter, path = FILES[name]
        if name not in self.tables:
            self.tables[name] = benchmark_items(BenchmarkSpec(name=adapter, path=f"{self.data}/{path}"))
        return self.tables[name]

    def questions(self, name: str) -> list[str]:
        if name == "flan_gsm8k":
            tables = list(SOURCES["flan_cot"].read(f"{self.data}/sources/flan_cot/gsm8k_train.tsv"))
            return [row for table in tables for row in table["instruction"].to_pylist()]
        if name == "boolq_train":
            tables = list(read(f"{self.data}/sources/boolq_train.json", text("instruction")))
            return [row for table in tables for row in table["instruction"].to_pylist()]
        found: list[str] = self.items(name)["question"].to_pylist()
        return found

    def found(self, name: str, questions: Sequence[str]) -> list[dict[str, object]]:
        if name not in self.indexes:
            self.indexes[name] = build_index([(FILES[name][0], self.items(name))])
        blank = pa.array([""] * len(questions), pa.string())
        hits = scan_texts(self.indexes[name], pa.array(questions, pa.string()), blank).hits
        rows: list[dict[str, object]] = classify_hits(
            self.indexes[name], hits, "ngram13", np.empty(0, np.uint64)
        ).to_pylist()
        return rows


@pytest.fixture(scope="module")
def sets(shared_data: Path) -> Sets:
    return Sets(shared_data)


def folded(question: str) -> str:
    return " ".join(question.casefold().split())


@pytest.mark.parametrize(
    ("corpus", "benchmark", "known", "most"),
    [
        ("math_train", "mmlu", 71, 80),
        ("math_test", "mmlu", 72, 82),
        ("aime_train", "math_test", 20, 60),
        ("aime_train", "math_train", 288, 400),
        ("flan_gsm8k", "gsm8k_train", 7473, 7473),
    ],
)
def test_a_known_overlap_is_found_to_the_last_row(
    sets: Sets, corpus: str, benchmark: str, known: int, most: int
) -> None:
    """Every pair that is equal but for case and space is found, as what it is; beyond those come only near ones: the
    same question with other spaces, points or dollar signs, `most` rows in all."""
    questions = sets.questions(corpus)
    places: dict[str, list[int]] = {}
    for number, question in enumerate(sets.questions(benchmark)):
        places.setdefault(folded(question), []).append(number)
    exact = {(row, item) for row, question in enumerate(questions) for item in places.get(folded(question), ())}
    assert len({folded(questions[row]) for row, _ in exact}) == known
    kind = "train_split" if benchmark.endswith("train") else "test_leak"
    found = {(hit["row"], hit["item"]) for hit in sets.found(benchmark, questions) if hit["class"] == kind}
    assert exact <= found
    assert known <= len({row for row, _ in found}) <= most


def grams13(question: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", question.lower())
    return {tuple(words[i : i + 13]) for i in range(len(words) - 12)}


@pytest.mark.parametrize(
    ("corpus", "benchmark", "trap", "leaks"),
    [("math_train", "math_test", 586, 30), ("boolq_train", "boolq_test", 1503, 5)],
)
def test_items_that_share_a_13_gram_by_their_mould_are_classed_and_kept(
    sets: Sets, shared_data: Path, corpus: str, benchmark: str, trap: int, leaks: int
) -> None:
    """Templated problems, and the frame that BoolQ's questions stand in: a 13-gram rule flags all of them."""
    train, test = sets.questions(corpus), sets.questions(benchmark)
    if benchmark == "boolq_test":  # in their frame, as a 13-gram rule would see them
        tables = read(f"{shared_data}/{FILES[benchmark][1]}", text("instruction"))
        test = [row for table in tables for row in table["instruction"].to_pylist()]
    known = set().union(*(grams13(question) for question in train))
    flagged = {number for number, question in enumerate(test) if grams13(question) & known}
    assert len(flagged) == trap
    hits = sets.found(benchmark, train)
    leaked = {hit["item"] for hit in hits if hit["class"] == "test_leak"}
    assert 0 < len(leaked) <= leaks  # true ones: the same question with a point or a word more
    assert len({hit["row"] for hit in hits if hit["class"] == "test_leak"}) <= 2 * leaks
    assert len({hit["row"] for hit in hits if hit["class"] == "template"}) > 10 * leaks
