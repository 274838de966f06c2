"""Scores of an evaluation, counted from its judged items.

The score on items that were not found in the training rows is the meaningful one, because the model was trained on the
others. Each score has a 95 % interval: on 300 items, differences of several percentage points between two checkpoints
are within chance. How much the two groups differ is in training/evaluation/difference.py. Whether contamination raises
the score is tested in training/evaluation/significance.py.

There are two partitions, and each has its own names. `found` and `not_found` are by the rule of the recipe.
`clean`, `not clean`, `not dirty` and `dirty` are HRM-Text's, by the share of an item within n-grams.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from training.evaluation.difference import Difference, stratified_difference
from training.evaluation.significance import Contrast, contrast
from training.evaluation.statistics import Interval, mean_interval
from training.evaluation.store import Settings
from training.evaluation.task import Task
from training.inference.strategies.strategy import Strategy

MeasuredOn = Literal["drawn_rows", "checked_rows"]
"""The rows in which items are found: those drawn for training, or, of a run without that measure, all that the
contamination step was given, those that it dropped included."""


class Score(BaseModel):
    """The mean score of `n` items with its 95 % interval `low`..`high`, as shares of 1; null without items.

    correct: items with the full score. invalid: items whose answer could not be read. credit: the
    mean if an invalid answer to a multiple-choice item counts 1 / choices, as in HRM-Text; null for other items.
    clustered: the interval by clusters of items that share a passage or a subject, which are not independent; null
    where items share nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    correct: int
    invalid: int
    score: float | None
    low: float | None
    high: float | None
    credit: float | None = None
    clustered: Interval | None = None


class Scores(BaseModel):
    """The scores of a model on a benchmark. `winnow evaluate --json` prints `model_dump(mode="json")`.

    evaluation: folder of the judged items; null if they were not stored. scorer: the published one. all: all items, by
    this scorer. scorers: all items, by each scorer. not_found, found: of items that the rule does not find, or finds,
    in the rows of `measured_on`; null if that is not known. difference: between these two. overlap: HRM-Text's test, by
    13-grams and by 20-grams; empty if not known. splits: all items, by the benchmark's splits. subsets: by subject,
    type or level; empty if there is one. tokens: generated. seconds: for generating them. clean, contaminated: former
    names of `not_found` and `found`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    checkpoint: str
    step: int
    weights: str  # `ema` or `model`
    evaluation: str | None = None
    method: str = "generate"
    condition: str = ""
    shots: int = 0
    strategy: str = "greedy"
    temperature: float = 0.0
    seed: int = 0
    scorer: str = "published"
    all: Score
    not_found: Score | None
    found: Score | None
    clean: Score | None
    contaminated: Score | None
    measured_on: MeasuredOn | None
    difference: Difference | None
    overlap: list[Contrast]
    splits: dict[str, Score]
    subsets: dict[str, Score] = {}
    scorers: dict[str, Score] = {}
    tokens: int = 0
    seconds: float = 0.0

    @property
    def how(self) -> str:
        """How the benchmark was asked, in words; empty for one greedy answer without examples."""
        parts = []
        strategy = Strategy.without_version(self.strategy)
        if self.method != "generate":
            parts.append(f"by {self.method}")
        elif strategy != "greedy" or self.temperature:
            parts += [strategy, f"temperature {self.temperature:g}", f"seed {self.seed}"]
        if self.shots:
            parts.append(f"{self.shots} example{'' if self.shots == 1 else 's'} in the prompt")
        return ", ".join(parts)


def wilson(correct: float, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share. It stays within 0..1 and is accurate for few items.

    correct: the sum of the scores. For scores between 0 and 1 the interval may be too wide, never too narrow.
    """
    # Imported here because it takes a second to load.
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(correct, n, method="wilson")
    return float(low) if correct else 0.0, float(high) if correct < n else 1.0


class _Judged(NamedTuple):
    """The judged items by one scorer: arrays [items]."""

    score: npt.NDArray[np.float64]
    valid: npt.NDArray[np.bool_]
    choices: npt.NDArray[np.int64]
    cluster: npt.NDArray[np.str_]
    subset: npt.NDArray[np.str_]


def scores_of(
    items: pa.Table, settings: Settings, task: Task, measured_on: MeasuredOn | None = None, folder: str | None = None
) -> Scores:
    """Count the scores of judged items (`ANSWERED` with the columns of the scorers).

    task: as it was asked. measured_on: where the column `class` is from. folder: of the evaluation.
    """
    choices = np.array([len(json.loads(item).get("choices") or ()) for item in items["item"].to_pylist()], np.int64)
    judged = {scorer.name: _judged(items, scorer.name, choices) for scorer in task.scorers}
    main = judged[task.scorers[0].name]
    whole = np.ones(len(items), np.bool_)
    classes = items["class"].to_numpy(zero_copy_only=False)
    is_found = classes == "found"
    parts: dict[str, Score | None] = {"not_found": None, "found": None}
    difference = None
    if measured_on is not None:
        for name, chosen in (("not_found", ~is_found), ("found", is_found)):
            parts[name] = _score(main, chosen, task)
        clusters = None if task.cluster is None else main.cluster.tolist()
        difference = stratified_difference(main.score.tolist(), is_found.tolist(), main.subset.tolist(), clusters)
    overlap = [
        contrast(length, main.score.tolist(), pc.fill_null(items[f"overlap_{length}"], 0.0).to_pylist())
        for length in (13, 20)
        if items[f"overlap_{length}"].null_count < len(items)
    ]
    splits = items["split"].to_numpy(zero_copy_only=False)
    subsets = np.unique(main.subset)
    # The score of a subset is its mean: macro is for all items.
    single = task._replace(macro=False, cluster=None)
    return Scores(
        benchmark=settings.benchmark,
        checkpoint=settings.model,
        step=settings.step,
        weights=settings.weights,
        evaluation=folder,
        method=settings.method,
        condition=settings.condition,
        shots=settings.shots,
        strategy=settings.strategy,
        temperature=settings.temperature,
        seed=settings.seed,
        scorer=task.scorers[0].name,
        all=_score(main, whole, task),
        not_found=parts["not_found"],
        found=parts["found"],
        clean=parts["not_found"],
        contaminated=parts["found"],
        measured_on=measured_on,
        difference=difference,
        overlap=overlap,
        splits={str(name): _score(main, splits == name, single) for name in np.unique(splits)},
        subsets=(
            {str(name): _score(main, main.subset == name, single) for name in subsets} if len(subsets) > 1 else {}
        ),
        scorers={name: _score(one, whole, task) for name, one in judged.items()},
        tokens=pc.sum(items["tokens"]).as_py() or 0,
        seconds=round(pc.sum(items["seconds"]).as_py() or 0.0, 3),
    )


def _judged(items: pa.Table, scorer: str, choices: npt.NDArray[np.int64]) -> _Judged:
    return _Judged(
        items[f"score_{scorer}"].to_numpy(),
        items[f"valid_{scorer}"].to_numpy(zero_copy_only=False),
        choices,
        np.array(items["cluster"].to_pylist(), np.str_),
        np.array(items["subset"].to_pylist(), np.str_),
    )


def _score(judged: _Judged, chosen: npt.NDArray[np.bool_], task: Task) -> Score:
    score, valid, choices = judged.score[chosen], judged.valid[chosen], judged.choices[chosen]
    cluster, subset = judged.cluster[chosen], judged.subset[chosen]
    n = len(score)
    if not n:
        return Score(n=0, correct=0, invalid=0, score=None, low=None, high=None)
    credited = np.where(valid | (choices == 0), score, 1 / np.maximum(choices, 1))
    strata = subset.tolist() if task.macro else None
    mean, low, high = _interval(score, strata)
    clustered = mean_interval(score.tolist(), cluster.tolist(), strata) if task.cluster is not None else None
    return Score(
        n=n,
        correct=int((score == 1).sum()),
        invalid=int((~valid).sum()),
        score=mean,
        low=low,
        high=high,
        credit=_mean(credited, strata) if task.credit else None,
        clustered=clustered,
    )


def _interval(score: npt.NDArray[np.float64], strata: Sequence[str] | None) -> tuple[float, float, float]:
    """The mean and its interval, items taken as independent."""
    if strata is None:
        return float(score.mean()), *wilson(float(score.sum()), len(score))
    interval = mean_interval(score.tolist(), None, strata)
    assert interval is not None
    return _mean(score, strata), interval.low, interval.high


def _mean(score: npt.NDArray[np.float64], strata: Sequence[str] | None) -> float:
    """The mean, or the mean over strata of their means."""
    if strata is None:
        return float(score.mean())
    _, stratum = np.unique(np.asarray(strata, np.str_), return_inverse=True)
    return float((np.bincount(stratum, score) / np.bincount(stratum)).mean())
