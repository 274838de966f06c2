"""Scores of a checkpoint on a benchmark: on all items, and separately on items found and not found in the corpus.

The score on clean items is the meaningful one, because the model was trained on the others. Each score has a 95 %
interval: on 300 items, differences of several percentage points between two checkpoints are within chance. Whether
contamination raises the score is tested in training/evaluation/significance.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from pipelines.errors import WinnowError, nearest
from pipelines.ledger import storage
from training.configs import Precision
from training.evaluation import gsm8k
from training.evaluation.evaluation import Evaluation, Judgement
from training.evaluation.generated import GENERATED
from training.evaluation.significance import Contrast, contrast
from training.inference.generate import load_text_generator

EVALUATIONS: dict[str, Evaluation] = {
    "generated": GENERATED,
    "gsm8k": gsm8k.GSM8K,
}
"""A benchmark's name -> how its items are asked and judged."""


class CorpusOverlap(NamedTuple):
    """Which items of a benchmark occur in the corpus, from the contamination step's `clean_ids/<benchmark>.json`.

    clean: ids of the items that were not found. overlap: n-gram length -> item id -> share of the item's tokens within
    n-grams of the corpus; 0 for items that are missing.
    """

    clean: set[str]
    overlap: Mapping[str, Mapping[str, float]]


class Score(BaseModel):
    """The score of `n` items and its 95 % Wilson interval `low`..`high`, as shares of 1; null without items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    correct: int
    invalid: int
    score: float | None
    low: float | None
    high: float | None


class Scores(BaseModel):
    """A checkpoint's scores on a benchmark. `winnow evaluate --json` prints `model_dump(mode="json")`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    checkpoint: str
    step: int
    weights: str  # `ema` or `model`
    all: Score
    clean: Score | None  # null if it is not known which items the corpus contains
    contaminated: Score | None
    overlap: list[Contrast]  # HRM-Text's test, by 13-grams and by 20-grams; empty if `clean` is null
    splits: dict[str, Score]  # all items, by the benchmark's splits


def wilson(correct: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share. It stays within 0..1 and is accurate for few items."""
    # Imported here because it takes half a second to load.
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    interval = binomtest(correct, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def score(judgements: Sequence[Judgement]) -> Score:
    """Count judgements."""
    n, correct = len(judgements), sum(j.correct for j in judgements)
    low, high = wilson(correct, n) if n else (None, None)
    return Score(
        n=n,
        correct=correct,
        invalid=sum(not j.valid for j in judgements),
        score=correct / n if n else None,
        low=low,
        high=high,
    )


def evaluate(
    checkpoint: str,
    items: pa.Table,
    benchmark: str,
    corpus_overlap: CorpusOverlap | None = None,
    limit: int | None = None,
    batch: int = 32,
    average: bool = True,
    answers: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
) -> Scores:
    """Ask the model of a checkpoint (or a training folder's latest) benchmark items and score its answers.

    A question that leaves no room in the context gets an empty answer.

    Args:
        items: a table of the ITEM schema.
        corpus_overlap: which items the corpus contains.
        limit: ask only the first items.
        batch: largest number of questions answered together.
        average: evaluate the moving average of the weights, as published scores do, or else the last weights.
        answers: a path for a JSON line per item: question, answer, expected answer, judgement.
        on_progress: called with (items done, items).
        device, precision: as in `load_text_generator`.

    Raises:
        WinnowError: if the benchmark or the device is unknown, or there are no items.
        CheckpointError: if there is no checkpoint.
    """
    if benchmark not in EVALUATIONS:
        raise WinnowError(f"benchmark {benchmark}: {nearest(benchmark, EVALUATIONS)}")
    evaluation = EVALUATIONS[benchmark]
    rows = items.slice(0, limit).to_pylist()
    if not rows:
        raise WinnowError(f"benchmark {benchmark} has no items to ask")
    generator = load_text_generator(checkpoint, average, device, precision)
    questions = [evaluation.prompt(row) for row in rows]
    texts = generator.answer(
        questions,
        evaluation.condition,
        evaluation.max_new_tokens,
        batch,
        on_done=(lambda done: on_progress(done, len(rows))) if on_progress else None,
    )
    judgements = [evaluation.judge(text, row) for text, row in zip(texts, rows, strict=True)]
    if answers:
        with storage.write_file(answers) as file:
            for row, question, text, (correct, valid) in zip(rows, questions, texts, judgements, strict=True):
                line = {"id": row["id"], "asked": question, "said": text, "expected": row["answer"]}
                if corpus_overlap is not None:
                    line["clean"] = row["id"] in corpus_overlap.clean
                line |= {"correct": correct, "valid": valid}
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
    clean = None if corpus_overlap is None else [row["id"] in corpus_overlap.clean for row in rows]
    values = [float(judgement.correct) for judgement in judgements]
    overlap = [
        contrast(int(length), values, [shares.get(row["id"], 0.0) for row in rows])
        for length, shares in sorted(corpus_overlap.overlap.items() if corpus_overlap else ())
    ]
    splits: dict[str, list[Judgement]] = {}
    for row, judgement in zip(rows, judgements, strict=True):
        splits.setdefault(row["split"], []).append(judgement)
    return Scores(
        benchmark=benchmark,
        checkpoint=str(generator.folder),
        step=generator.step,
        weights="ema" if average else "model",
        all=score(judgements),
        clean=None if clean is None else score([j for j, c in zip(judgements, clean, strict=True) if c]),
        contaminated=None if clean is None else score([j for j, c in zip(judgements, clean, strict=True) if not c]),
        overlap=overlap,
        splits={name: score(part) for name, part in sorted(splits.items())},
    )
