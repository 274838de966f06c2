"""Scores of a checkpoint on a benchmark: on all items, and separately on items found and not found in training rows.

The score on items that were not found is the meaningful one, because the model was trained on the others. Each score
has a 95 % interval: on 300 items, differences of several percentage points between two checkpoints are within chance.
How much the two groups differ is in training/evaluation/difference.py. Whether contamination raises the score is tested
in training/evaluation/significance.py.

There are two partitions, and each has its own names. `found` and `not_found` are by the rule of the recipe.
`clean`, `not clean`, `not dirty` and `dirty` are HRM-Text's, by the share of an item within n-grams.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from pipelines.errors import WinnowError, nearest
from pipelines.ledger import storage
from training.configs import Precision
from training.evaluation.difference import Difference, stratified_difference
from training.evaluation.significance import Contrast, contrast
from training.evaluation.task import Answer, Judgement
from training.evaluation.tasks import TASKS
from training.inference.generate import load_text_generator


class TrainingOverlap(NamedTuple):
    """Which items of a benchmark the training rows hold.

    found: ids of the items that the recipe's rule finds. overlap: n-gram length -> item id -> share of the item's
    tokens within n-grams of the rows; 0 for items that are missing. measured_on: the rows that the packs hold
    (`drawn_rows`), or, of a run without that measure, all that the contamination step was given (`checked_rows`), those
    that it dropped included.
    """

    found: set[str]
    overlap: Mapping[str, Mapping[str, float]]
    measured_on: Literal["drawn_rows", "checked_rows"]


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
    """A checkpoint's scores on a benchmark. `winnow evaluate --json` prints `model_dump(mode="json")`.

    not_found, found: of items that the rule does not find, or finds, in the rows of `measured_on`; null if that is not
    known. difference: between these two. overlap: HRM-Text's test, by 13-grams and by 20-grams; empty if not known.
    splits: all items, by the benchmark's splits. clean, contaminated: former names of `not_found` and `found`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    checkpoint: str
    step: int
    weights: str  # `ema` or `model`
    all: Score
    not_found: Score | None
    found: Score | None
    clean: Score | None
    contaminated: Score | None
    measured_on: Literal["drawn_rows", "checked_rows"] | None
    difference: Difference | None
    overlap: list[Contrast]
    splits: dict[str, Score]


def wilson(correct: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share. It stays within 0..1 and is accurate for few items."""
    # Imported here because it takes half a second to load.
    from scipy.stats import binomtest

    interval = binomtest(correct, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def score(judgements: Sequence[Judgement]) -> Score:
    """Count judgements."""
    n, correct = len(judgements), sum(j.score == 1 for j in judgements)
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
    training_overlap: TrainingOverlap | None = None,
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
        training_overlap: which items the training rows hold.
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
    if benchmark not in TASKS:
        raise WinnowError(f"benchmark {benchmark}: {nearest(benchmark, TASKS)}")
    task = TASKS[benchmark]
    rows = items.slice(0, limit).to_pylist()
    if not rows:
        raise WinnowError(f"benchmark {benchmark} has no items to ask")
    generator = load_text_generator(checkpoint, average, device, precision)
    questions = [task.prompt(row, ()) for row in rows]
    texts = generator.answer(
        questions,
        task.condition,
        task.max_tokens or task.context,
        batch,
        on_done=(lambda done: on_progress(done, len(rows))) if on_progress else None,
    )
    judgements = task.scorers[0].judge([Answer(text, 0, "stop") for text in texts], rows)
    if answers:
        with storage.write_file(answers) as file:
            for row, question, text, judgement in zip(rows, questions, texts, judgements, strict=True):
                line = {"id": row["id"], "asked": question, "said": text, "expected": row["answer"]}
                if training_overlap is not None:
                    found = row["id"] in training_overlap.found
                    line |= {"found": found, "clean": not found}  # `clean` is the former name
                line |= {"correct": judgement.score == 1, "valid": judgement.valid}
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
    parts: dict[str, Score | None] = {"not_found": None, "found": None}
    difference = None
    if training_overlap is not None:
        is_found = [row["id"] in training_overlap.found for row in rows]
        for name, group in (("not_found", False), ("found", True)):
            parts[name] = score([j for j, one in zip(judgements, is_found, strict=True) if one is group])
        # An id is <benchmark>/<file or family>/<number>.
        subsets = [row["id"].rpartition("/")[0] for row in rows]
        difference = stratified_difference([j.score == 1 for j in judgements], is_found, subsets)
    values = [judgement.score for judgement in judgements]
    overlap = [
        contrast(int(length), values, [shares.get(row["id"], 0.0) for row in rows])
        for length, shares in sorted(training_overlap.overlap.items() if training_overlap else ())
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
        not_found=parts["not_found"],
        found=parts["found"],
        clean=parts["not_found"],
        contaminated=parts["found"],
        measured_on=training_overlap.measured_on if training_overlap else None,
        difference=difference,
        overlap=overlap,
        splits={name: score(part) for name, part in sorted(splits.items())},
    )
