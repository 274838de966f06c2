"""How well does the n-gram model predict held-out rows, what do its scores tell apart, and how fast is it?"""

from __future__ import annotations

import csv
import gzip
import json
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from filters.scores import ngrams
from filters.scores.perplexity import Perplexity, shuffle_words
from tests.benchmarks.__main__ import Row

Pairs = list[tuple[str, str]]
ROWS = 2000
"""Rows of each source that are ranked."""


def bench(data: Path | None) -> dict[str, list[Row]]:
    """The tables. Without real data there is nothing to measure."""
    if data is None:
        return {}
    sources = load(data / "sources")
    good = [row for name in ("gsm8k", "math") for row in sources[name]]
    random.Random(0).shuffle(good)
    held_out, trained = good[:1500], good[1500:]
    return {
        "Order of the model (trained on GSM8K and MATH)": _orders(trained, held_out),
        "Sources and damage under one model of GSM8K, MATH and creak": _ranks(sources),
    }


def load(folder: Path) -> dict[str, Pairs]:
    """Rows of sources, by name."""
    sources: dict[str, Pairs] = {}
    with (folder / "gsm8k_train.jsonl").open(encoding="utf-8") as file:
        sources["gsm8k"] = [(row["question"], row["answer"]) for row in map(json.loads, file)]
    models = pq.read_table(folder / "math_train.parquet")["reward_model"].to_pylist()
    sources["math"] = [(row["ground_truth"]["question"], row["ground_truth"]["solution"]) for row in models]
    for name in ("creak", "ecqa", "strategyqa"):
        with (folder / f"flan_cot/{name}_train.tsv").open(encoding="utf-8", newline="") as file:
            rows = [line for line in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if len(line) == 3]
        sources[f"flan {name}"] = [(row[0].replace("\\n", "\n"), f"{row[2]} The answer is {row[1]}") for row in rows]
    with gzip.open(folder / "t0_p3_50k.jsonl.gz", "rt", encoding="utf-8") as file:
        sources["t0"] = [
            (row["prompt"], row["completion"].removesuffix("<|endoftext|>")) for row in map(json.loads, file)
        ]
    with (folder / "self_instruct_seed_tasks.jsonl").open(encoding="utf-8") as file:
        sources["self-instruct"] = [
            (f"{row['instruction']}\n{each['input']}", each["output"])
            for row in map(json.loads, file)
            for each in row["instances"]
        ]
    for name in ("codegen-instruct", "roleplay-simple-deduped-roleplay-instruct"):
        rows = json.loads((folder / f"gpteacher/{name}.json").read_text(encoding="utf-8"))
        sources[name.partition("-")[0]] = [(f"{row['instruction']}\n{row['input']}", row["response"]) for row in rows]
    return sources


def columns(rows: Pairs) -> tuple[pa.Array, pa.Array]:
    """Instructions and responses."""
    return pa.array([row[0] for row in rows], pa.string()), pa.array([row[1] for row in rows], pa.string())


def _orders(trained: Pairs, held_out: Pairs) -> list[Row]:
    ngrams.train(*columns(trained[:200]), 3)  # compiled
    table: list[Row] = []
    texts, fitted, asked = columns(trained[750:]), columns(trained[:750]), columns(held_out)
    size = sum(column.nbytes for column in texts) / 1e6
    for order in (2, 3, 4, 5):
        started = time.process_time()
        model = ngrams.train(*texts, order)
        training = time.process_time() - started
        model = ngrams.fit_weights(model, *fitted)
        found = ngrams.measure(model, *asked)
        started = time.process_time()
        found = ngrams.measure(model, *asked)
        measuring = time.process_time() - started
        mixed = ngrams.measure(model, asked[0], shuffle_words(asked[1]))
        total = found.bytes.sum()
        table.append(
            {
                "order": order,
                "bits per byte, given": -found.given.sum() / total,
                "alone": -found.alone.sum() / total,
                "words shuffled": -mixed.given.sum() / total,
                "perplexity per token": 2 ** (-found.given.sum() / found.tokens.sum()),
                "file MB": sum(array.nbytes for array in model) / 1e6,
                "training MB/s": size / training,
                "measuring MB/s": sum(column.nbytes for column in asked) / 1e6 / measuring,
            }
        )
    return table


def _ranks(sources: dict[str, Pairs]) -> list[Row]:
    rng = random.Random(0)
    drawn = {name: rng.sample(rows, min(ROWS, len(rows))) for name, rows in sources.items()}
    chosen = ("gsm8k", "math", "flan creak")
    good = [row for name in chosen for row in sorted(set(sources[name]) - set(drawn[name]))]
    rng.shuffle(good)
    score = Perplexity(name="perplexity", rows=chosen)  # type: ignore[arg-type]
    table: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model"
        score.train(_table(good), path)
        base = drawn["gsm8k"]
        others = [response for _, response in base]
        rng.shuffle(others)
        damaged = {
            "gsm8k, words shuffled": [
                (row[0], text) for row, text in zip(base, shuffle_words(columns(base)[1]).to_pylist(), strict=True)
            ],
            "gsm8k, response of another row": [(row[0], text) for row, text in zip(base, others, strict=True)],
            "gsm8k, letters swapped": [(row[0], _misspelt(rng, row[1])) for row in base],
            "gsm8k, cut in half": [(row[0], row[1][: len(row[1]) // 2]) for row in base],
            "gsm8k, one line repeated": [(row[0], (row[1].partition("\n")[0] + "\n") * 6) for row in base],
        }
        reference = _columns(score, path, base)
        trained = {"gsm8k and others, trained on": good[:ROWS]}
        for name, rows in (drawn | trained | damaged).items():
            rows = [row for row in rows if row[1].strip()]
            values = _columns(score, path, rows)
            lengths = np.array([len(row[1]) for row in rows])
            line: Row = {"rows": name, "number": len(rows)}
            for label, value in values.items():
                line[label] = float(np.median(value))
                if name in damaged:
                    line[f"AUC {label}"] = _auc(reference[label], value)
                line[f"{label} and length"] = _spearman(value, lengths)
            table.append(line)
    return table


def _table(rows: Pairs) -> pa.Table:
    return pa.table(dict(zip(("instruction", "response"), columns(rows), strict=True)))


def _columns(score: Perplexity, path: str, rows: Pairs) -> dict[str, npt.NDArray[np.float64]]:
    measured = score.measure(_table(rows), path)
    return {name: measured[i].to_numpy() for i, name in enumerate(("given", "alone", "ifd"))}


def _misspelt(rng: random.Random, text: str) -> str:
    letters = list(text)
    for _ in range(len(text) // 20):
        i = rng.randrange(len(text) - 1)
        letters[i], letters[i + 1] = letters[i + 1], letters[i]
    return "".join(letters)


def _auc(good: npt.NDArray[np.float64], bad: npt.NDArray[np.float64]) -> float:
    """The probability that a good row has the higher value."""
    ordered = np.sort(bad)
    below = np.searchsorted(ordered, good, "left") + np.searchsorted(ordered, good, "right")
    return float(below.mean() / 2 / len(bad))


def _spearman(values: npt.NDArray[np.float64], others: npt.NDArray[np.int64]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(values, others).statistic)
