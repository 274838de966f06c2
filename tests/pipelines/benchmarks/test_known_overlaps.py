"""Known overlaps of real sets are found, and items that share only a template are classified as such and kept.

The expected counts are those in the README of the data folder. They are computed again here without the index, from
questions that are equal after folding case and white space, and 13-grams of words as other tools count them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from filters.contamination.index import Index, build
from filters.contamination.rules import judge
from filters.contamination.scan import scan
from pipelines.formats.read import read, text_columns
from pipelines.recipe import BenchmarkSpec
from pipelines.sources import SOURCES
from pipelines.steps.benchmark_index import benchmark_items

FILES = {
    "mmlu": ("mmlu", "benchmarks/mmlu/test/*.csv"),
    "math_test": ("math", "benchmarks/math_test.parquet"),
    "math_train": ("math", "sources/math_train.parquet"),
    "aime_train": ("aime", "sources/deepscaler_aime_train.json"),
    "gsm8k_train": ("gsm8k", "sources/gsm8k_train.jsonl"),
    "boolq_test": ("boolq", "benchmarks/boolq_test.json"),
}


class Sets:
    """The sets by name. Each is read once, and indexed once."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.tables: dict[str, pa.Table] = {}
        self.indexes: dict[str, Index] = {}

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
            tables = list(read(f"{self.data}/sources/boolq_train.json", text_columns("instruction")))
            return [row for table in tables for row in table["instruction"].to_pylist()]
        questions: list[str] = self.items(name)["question"].to_pylist()
        return questions

    def hits(self, name: str, questions: Sequence[str]) -> list[dict[str, object]]:
        if name not in self.indexes:
            self.indexes[name] = build([(FILES[name][0], self.items(name))])
        blank = pa.array([""] * len(questions), pa.string())
        hits = scan(self.indexes[name], pa.array(questions, pa.string()), blank).hits
        rows: list[dict[str, object]] = judge(self.indexes[name], hits, "ngram13", np.empty(0, np.uint64)).to_pylist()
        return rows


@pytest.fixture(scope="module")
def sets(shared_data: Path) -> Sets:
    return Sets(shared_data)


def folded(question: str) -> str:
    return " ".join(question.casefold().split())


@pytest.mark.parametrize(
    ("corpus", "benchmark", "known", "max_rows"),
    [
        ("math_train", "mmlu", 71, 80),
        ("math_test", "mmlu", 72, 82),
        ("aime_train", "math_test", 20, 60),
        ("aime_train", "math_train", 288, 400),
        ("flan_gsm8k", "gsm8k_train", 7473, 7473),
    ],
)
def test_every_row_of_a_known_overlap_is_found(
    sets: Sets, corpus: str, benchmark: str, known: int, max_rows: int
) -> None:
    """Every pair that is equal up to case and white space is found, with the right class.

    The other hits, up to `max_rows` rows in all, are the same question with other spaces, full stops or dollar signs.
    """
    questions = sets.questions(corpus)
    places: dict[str, list[int]] = {}
    for number, question in enumerate(sets.questions(benchmark)):
        places.setdefault(folded(question), []).append(number)
    exact = {(row, item) for row, question in enumerate(questions) for item in places.get(folded(question), ())}
    assert len({folded(questions[row]) for row, _ in exact}) == known
    kind = "train_split" if benchmark.endswith("train") else "test_leak"
    pairs = {(hit["row"], hit["item"]) for hit in sets.hits(benchmark, questions) if hit["class"] == kind}
    assert exact <= pairs
    assert known <= len({row for row, _ in pairs}) <= max_rows


def grams13(question: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", question.lower())
    return {tuple(words[i : i + 13]) for i in range(len(words) - 12)}


@pytest.mark.parametrize(
    ("corpus", "benchmark", "sharing", "max_leaks"),
    [("math_train", "math_test", 586, 30), ("boolq_train", "boolq_test", 1503, 5)],
)
def test_items_that_share_a_13_gram_of_a_template_are_classified_as_template(
    sets: Sets, shared_data: Path, corpus: str, benchmark: str, sharing: int, max_leaks: int
) -> None:
    """Problems from templates, and the wording around the questions of BoolQ: a 13-gram rule flags all of them."""
    train, test = sets.questions(corpus), sets.questions(benchmark)
    if benchmark == "boolq_test":  # with the wording around them, which a 13-gram rule sees
        tables = read(f"{shared_data}/{FILES[benchmark][1]}", text_columns("instruction"))
        test = [row for table in tables for row in table["instruction"].to_pylist()]
    known = set().union(*(grams13(question) for question in train))
    flagged = {number for number, question in enumerate(test) if grams13(question) & known}
    assert len(flagged) == sharing
    hits = sets.hits(benchmark, train)
    leaked = {hit["item"] for hit in hits if hit["class"] == "test_leak"}
    assert 0 < len(leaked) <= max_leaks  # real ones: the same question with a full stop or a word more
    assert len({hit["row"] for hit in hits if hit["class"] == "test_leak"}) <= 2 * max_leaks
    assert len({hit["row"] for hit in hits if hit["class"] == "template"}) > 10 * max_leaks
