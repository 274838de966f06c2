"""The nearest item of each benchmark, by cosine: against a comparison of all pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from filters.contamination.index import build_index
from filters.contamination.paraphrase import (
    MEASURED,
    PARAPHRASE,
    TEXTS_PER_BLOCK,
    add_paraphrases,
    measured,
    nearest_items,
)
from filters.contamination.rules import CLASSES, classify_hits
from filters.contamination.scan import scan_texts
from pipelines.records import ITEM


def unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, 16)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def test_the_nearest_item_of_each_benchmark_is_found_and_no_other() -> None:
    rng = np.random.default_rng(2)
    texts, items = unit(rng, 2 * TEXTS_PER_BLOCK + 7), unit(rng, 90)
    bench = np.repeat([0, 1, 2], [40, 20, 30]).astype(np.int32)
    owner = np.concatenate([np.tile(np.arange(20), 2), np.arange(20, 40), np.tile(np.arange(40, 55), 2)]).astype(
        np.int32
    )
    text, item, cosine = nearest_items(texts, items, owner, bench, 0.6)
    expected = []
    for row, vector in enumerate(texts):
        for number in range(3):
            values = {int(owner[i]): -2.0 for i in np.flatnonzero(bench == number)}
            for i in np.flatnonzero(bench == number):
                values[int(owner[i])] = max(values[int(owner[i])], float(vector @ items[i]))
            best = max(values, key=lambda key: values[key])
            if values[best] >= 0.6:
                expected.append((row, best, values[best]))
    assert len(expected) > 50
    assert list(zip(text.tolist(), item.tolist(), strict=True)) == [(row, best) for row, best, _ in expected]
    assert cosine == pytest.approx(np.array([value for _, _, value in expected]), abs=1e-6)


def test_texts_near_nothing_and_no_texts_have_no_nearest_items() -> None:
    rng = np.random.default_rng(3)
    items, owner = unit(rng, 5), np.arange(5, dtype=np.int32)
    bench = np.zeros(5, np.int32)
    assert len(nearest_items(unit(rng, 4), items, owner, bench, 1.0)[0]) == 0
    assert len(nearest_items(unit(rng, 0), items, owner, bench, 0.1)[0]) == 0


def test_a_pair_that_n_grams_found_keeps_its_class() -> None:
    question = "Which of the keepers lit the lamp on the night of the great storm of eighteen sixty?"
    item = {"id": "b/0", "split": "test", "question": question, "answer": "Ada", "choices": [], "passage": ""}
    index = build_index([("b", pa.Table.from_pylist([item], ITEM))])
    found = scan_texts(index, pa.array(["A walk.", question, ""]), pa.array(["", "Ada", "Who lit it?"]))
    judged = classify_hits(index, found.hits, "ngram13", np.empty(0, np.uint64))
    near = pa.table(
        {
            "row": pa.array([1, 2], pa.int32()),
            "item": pa.array([0, 0], pa.int32()),
            "similarity": pa.array([1.0, 0.8], pa.float32()),
        }
    )
    both = add_paraphrases(judged, near, np.array([[7, 0], [len(question), 3], [0, 11]]))
    assert both.schema.equals(judged.schema)
    assert list(zip(both["row"].to_pylist(), both["class"].to_pylist(), strict=True)) == [
        (1, "test_leak"),
        (2, PARAPHRASE),
    ]
    last = both.slice(1).to_pylist()[0]
    assert (last["score"], last["field"], last["start"], last["end"]) == (pytest.approx(0.8), 1, 0, 11)
    assert last["rules"] == []
    assert PARAPHRASE in CLASSES


def test_the_measured_quality_is_that_of_the_benchmark() -> None:
    """The table in docs/benchmarks, and the words at a similarity."""
    path = max((Path(__file__).parents[3] / "docs" / "benchmarks").glob("paraphrase-*.md"))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in path.read_text().splitlines() if "|" in line]
    head, lines = rows[0], {float(row[0].split()[0]): row for row in rows if row[0][:2] == "0."}
    recalls = ("rephrased_mmlu: near some item", "rephrased_humaneval: near some item")
    columns = (*recalls, "gsm8k_train near gsm8k", "precision")
    assert lines.keys() == MEASURED.keys()
    for similarity, row in lines.items():
        values = [float(row[head.index(name)]) for name in columns]
        assert list(MEASURED[similarity]) == pytest.approx(values, abs=1e-3)
    assert measured(0.77) == MEASURED[0.75] and measured(0.5) is None
    assert "9.7% of GSM8K's training problems are wrongly near" in str(measured(0.75))
