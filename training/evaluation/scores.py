"""Scores: on all items, and apart on those that the corpus does and does not hold.

A score on items that were trained on says little; the clean one is the one to believe. Each comes with its 95 %
interval, without which a difference between two checkpoints on 300 items is easily taken for more than it is; whether
contamination lifts the score at all is what `significance` tests.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from pipelines.errors import WinnowError, nearest
from training.evaluation import gsm8k
from training.evaluation.evaluation import Evaluation, Judgement
from training.evaluation.generated import GENERATED
from training.evaluation.significance import Contrast, contrast
from training.inference.generate import Speaker, generate, load, prompt

EVALUATIONS: dict[str, Evaluation] = {
    "generated": GENERATED,
    "gsm8k": gsm8k.GSM8K,
}
"""A benchmark's name -> how it is asked and judged."""

Z95 = 1.959963984540054


class Held(NamedTuple):
    """What the corpus held of a benchmark, as the contamination step's `clean_ids/<benchmark>.json` has it.

    clean: ids of the items that it did not hold. overlap: length of the n-grams -> id -> share of its tokens covered
    (an item that is not named has none).
    """

    clean: set[str]
    overlap: Mapping[str, Mapping[str, float]]


class Score(BaseModel):
    """Of `n` items. `score`, `low`, `high` are shares of 1, null without items; `low`..`high` is Wilson's interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    correct: int
    invalid: int
    score: float | None
    low: float | None
    high: float | None


class Scores(BaseModel):
    """What a checkpoint scores on a benchmark. `model_dump(mode="json")` is what `winnow evaluate --json` prints."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    checkpoint: str
    step: int
    weights: str  # `ema` or `model`
    all: Score
    clean: Score | None  # null where it is not known which items the corpus holds
    contaminated: Score | None
    overlap: list[Contrast]  # the paper's test, by 13-grams and by 20-grams; empty where `clean` is null
    splits: dict[str, Score]  # all items, by the benchmark's own splits


def wilson(correct: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): within 0..1, and honest for few items and shares near the ends."""
    share, z2 = correct / n, Z95 * Z95
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At the ends the interval touches them, which rounding would miss by 1e-17.
    return middle - half if correct else 0.0, middle + half if correct < n else 1.0


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
    held: Held | None = None,
    limit: int | None = None,
    batch: int = 32,
    average: bool = True,
    answers: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Ask the model of a checkpoint folder (or a run's latest) the first `limit` of `items` and score its answers.

    items: a table of the ITEM schema. held: what the corpus held of them. average: judge the moving average of the
    weights, as published scores do. answers: a path for a JSON line per item with what was asked, said and expected.
    on_progress: told (items done, items).

    A question that leaves no room in the context gets an empty answer. Raises WinnowError for an unknown benchmark or
    no items, CheckpointError where there is no checkpoint.
    """
    if benchmark not in EVALUATIONS:
        raise WinnowError(f"benchmark {benchmark}: {nearest(benchmark, EVALUATIONS)}")
    evaluation = EVALUATIONS[benchmark]
    rows = items.slice(0, limit).to_pylist()
    if not rows:
        raise WinnowError(f"benchmark {benchmark} has no items to ask")
    speaker = load(checkpoint, average)
    asked = [evaluation.prompt(row) for row in rows]
    told: Callable[[int], None] | None = None
    if on_progress:
        progress, count = on_progress, len(rows)

        def told(done: int) -> None:
            progress(done, count)

    said = _say(speaker, asked, evaluation, batch, told)
    judged = [evaluation.judge(text, row) for text, row in zip(said, rows, strict=True)]
    if answers:
        with Path(answers).open("w") as file:
            for row, question, text, (correct, valid) in zip(rows, asked, said, judged, strict=True):
                line = {"id": row["id"], "asked": question, "said": text, "expected": row["answer"]}
                if held is not None:
                    line["clean"] = row["id"] in held.clean
                file.write(json.dumps({**line, "correct": correct, "valid": valid}, ensure_ascii=False) + "\n")
    clean = None if held is None else [row["id"] in held.clean for row in rows]
    values = [float(judgement.correct) for judgement in judged]
    overlap = [
        contrast(int(length), values, [shares.get(row["id"], 0.0) for row in rows])
        for length, shares in sorted(held.overlap.items() if held else ())
    ]
    splits: dict[str, list[Judgement]] = {}
    for row, judgement in zip(rows, judged, strict=True):
        splits.setdefault(row["split"], []).append(judgement)
    return Scores(
        benchmark=benchmark,
        checkpoint=str(speaker.folder),
        step=speaker.step,
        weights="ema" if average else "model",
        all=score(judged),
        clean=None if clean is None else score([j for j, c in zip(judged, clean, strict=True) if c]),
        contaminated=None if clean is None else score([j for j, c in zip(judged, clean, strict=True) if not c]),
        overlap=overlap,
        splits={name: score(some) for name, some in sorted(splits.items())},
    )


def _say(
    speaker: Speaker,
    asked: Sequence[str],
    evaluation: Evaluation,
    batch: int,
    on_done: Callable[[int], None] | None,
) -> list[str]:
    prompts = [prompt(speaker, evaluation.condition, question) for question in asked]
    spoken = generate(speaker, prompts, evaluation.max_new_tokens, batch, on_done)
    return [speaker.tokenizer.decode(ids) for ids in spoken]
