"""Do two evaluations of a benchmark differ by more than chance? They are compared item by item.

Two evaluations can be compared if they asked the same questions and judged the answers by the same rules. What answered
them may differ: the checkpoint, the strategy, the temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from pipelines.errors import WinnowError, nearest
from training.evaluation.statistics import ALPHA, Interval, PairedDifference, holm, mean_interval, paired_difference
from training.evaluation.store import Settings

SAME = ("benchmark", "condition", "shots", "method", "context")
"""Settings that are part of the question. Evaluations that differ in one are not compared."""

VARIABLE = ("weights", "strategy", "temperature", "max_tokens", "seed", "precision")
"""Settings of the answer. Evaluations that differ in one are compared, and the difference is named."""

SCORE = "score_"
"""Prefix of the columns of scores, before the name of the scorer."""

NAMED_IDS = 3
"""Ids that a message names."""


class Evaluation(NamedTuple):
    """Judged answers to the items of a benchmark.

    folder: where they are stored. items: a row per item, as in `training.evaluation.store.ANSWERED`. macro: the score
    is the mean over subsets.
    """

    folder: str
    settings: Settings
    items: pa.Table
    macro: bool = False


class Flip(BaseModel):
    """An item on which B scores higher than A (`improved`), or lower."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    improved: bool
    scores: tuple[float, float]
    prompt: str
    expected: str
    answers: tuple[str, str]


class Compared(BaseModel):
    """The scores of A and B on `n` items, each with its interval, and B minus A."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    scores: tuple[float, float]
    intervals: tuple[Interval, Interval]
    difference: PairedDifference


class Comparison(BaseModel):
    """Evaluation B against A on one benchmark.

    names, folders: of A and B. scorer: whose scores are compared, and its version. macro: the scores are means over
    subsets. left_out: items that only A, or only B, has. settings: those of the answers that differ, setting -> values
    of A and B. all: of all common items. classes: by contamination class: `found` or `not_found` in the training rows;
    empty if it is not known. adjusted_p_value: by Holm, over all comparisons that were made together. verdict: whether
    it is below 5 %, and who then scores higher. flips: ids of the items on which B scores higher and lower. rows: the
    first of these items, with the answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    names: tuple[str, str]
    folders: tuple[str, str]
    scorer: str
    version: str
    macro: bool
    left_out: tuple[int, int]
    settings: dict[str, tuple[Any, Any]]
    all: Compared
    classes: dict[str, Compared]
    adjusted_p_value: float
    verdict: str
    improved: tuple[str, ...]
    worsened: tuple[str, ...]
    rows: tuple[Flip, ...]


def compare(
    first: Evaluation, second: Evaluation, scorer: str | None = None, common: bool = False, rows: int = 0
) -> Comparison:
    """Compare B (`second`) with A (`first`). The p-value is not adjusted yet: see `adjusted`.

    Args:
        scorer: whose scores to compare; by default the published one.
        common: compare the items that both have, if they have not the same.
        rows: items that differ to show.

    Raises:
        WinnowError: if a setting of the questions, the scorers or the items differ.
    """
    where = f"{first.folder} and {second.folder}"
    for name in SAME:
        values = [getattr(evaluation.settings, name) for evaluation in (first, second)]
        if values[0] != values[1]:
            raise WinnowError(
                f"{where}: cannot be compared, because `{name}` differs: {_shown(values[0])} and {_shown(values[1])}; "
                f"evaluate one of them again as the other"
            )
    scorer, version = _scorer(first, second, scorer)
    a, b, left_out = _joined(first, second, common)
    scores = [table[f"{SCORE}{scorer}"].to_numpy() for table in (a, b)]
    missing = [int(np.isnan(part).sum()) for part in scores]
    if any(missing):
        raise WinnowError(f"{where}: {sum(missing)} answers have no score by {scorer!r}; run `winnow rescore`")
    strata = a["subset"].to_pylist() if first.macro else None
    clusters = _clusters(a)
    improved, worsened = ([a["id"][int(i)].as_py() for i in np.flatnonzero(mask)]
                          for mask in (scores[1] > scores[0], scores[1] < scores[0]))  # fmt: skip
    settings = {
        name: (getattr(first.settings, name), getattr(second.settings, name))
        for name in VARIABLE
        if getattr(first.settings, name) != getattr(second.settings, name)
    }
    whole = _compared(scores, clusters, strata)
    return Comparison(
        benchmark=first.settings.benchmark,
        names=(first.settings.model, second.settings.model),
        folders=(first.folder, second.folder),
        scorer=scorer,
        version=version,
        macro=first.macro,
        left_out=left_out,
        settings=settings,
        all=whole,
        classes=_classes(a, b, scores, clusters, strata),
        adjusted_p_value=whole.difference.p_value,
        verdict=verdict(whole.difference, whole.difference.p_value),
        improved=tuple(improved),
        worsened=tuple(worsened),
        rows=tuple(_rows(a, b, scores, rows)),
    )


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with p-values adjusted for their number, and the verdicts that follow."""
    p_values = holm([comparison.all.difference.p_value for comparison in comparisons])
    return [
        comparison.model_copy(update={"adjusted_p_value": p, "verdict": verdict(comparison.all.difference, p)})
        for comparison, p in zip(comparisons, p_values, strict=True)
    ]


def verdict(difference: PairedDifference, p_value: float) -> str:
    """`B scores higher`, `A scores higher` or `no difference found`."""
    if p_value >= ALPHA or not difference.difference:
        return "no difference found"
    return f"{'B' if difference.difference > 0 else 'A'} scores higher"


def _compared(
    scores: Sequence[npt.NDArray[np.float64]], clusters: Sequence[str] | None, strata: Sequence[str] | None
) -> Compared:
    difference = paired_difference(scores[0], scores[1], clusters, strata)
    intervals = [mean_interval(part, clusters, strata) or mean_interval(part, None, strata) for part in scores]
    assert intervals[0] is not None and intervals[1] is not None, "there are items"
    means = [np.mean(part) if strata is None else _macro_mean(part, strata) for part in scores]
    return Compared(
        n=difference.n,
        scores=(float(means[0]), float(means[1])),
        intervals=(intervals[0], intervals[1]),
        difference=difference,
    )


def _macro_mean(scores: npt.NDArray[np.float64], strata: Sequence[str]) -> float:
    _, stratum = np.unique(np.asarray(strata, np.str_), return_inverse=True)
    return float((np.bincount(stratum, scores) / np.bincount(stratum)).mean())


def _classes(
    a: pa.Table,
    b: pa.Table,
    scores: Sequence[npt.NDArray[np.float64]],
    clusters: Sequence[str] | None,
    strata: Sequence[str] | None,
) -> dict[str, Compared]:
    """By the contamination class, if both evaluations know it. An item is found if the rows of either model hold it."""
    of_a, of_b = (np.array(table["class"].to_pylist()) for table in (a, b))
    if "unknown" in (known := {*of_a, *of_b}) or len(known) < 2:
        return {}
    found = (of_a == "found") | (of_b == "found")
    return {
        name: _compared(
            [part[mask] for part in scores],
            None if clusters is None else [one for one, use in zip(clusters, mask, strict=True) if use],
            None if strata is None else [one for one, use in zip(strata, mask, strict=True) if use],
        )
        for name, mask in (("not_found", ~found), ("found", found))
        if mask.any()
    }


def _rows(a: pa.Table, b: pa.Table, scores: Sequence[npt.NDArray[np.float64]], count: int) -> list[Flip]:
    """The items with the largest changes, losses and gains in turn."""
    change = scores[1] - scores[0]
    order = np.argsort(-np.abs(change), kind="stable")
    lost, gained = ([int(i) for i in order if sign * change[i] > 0] for sign in (-1, 1))
    turns: list[int] = []
    for place in range(max(len(lost), len(gained))):
        turns += lost[place : place + 1] + gained[place : place + 1]
    columns = {name: a[name] for name in ("id", "prompt", "expected")}
    return [
        Flip(
            **{name: column[i].as_py() or "" for name, column in columns.items()},
            improved=bool(change[i] > 0),
            scores=(float(scores[0][i]), float(scores[1][i])),
            answers=(a["answer"][i].as_py() or "", b["answer"][i].as_py() or ""),
        )
        for i in turns[:count]
    ]


def _scorer(first: Evaluation, second: Evaluation, scorer: str | None) -> tuple[str, str]:
    """The scorer to compare by, and its version."""
    # The columns are in the order of the task's scorers: the published one is first.
    columns = [name.removeprefix(SCORE) for name in first.items.column_names if name.startswith(SCORE)]
    shared = [name for name in columns if name in first.settings.scorers and name in second.settings.scorers]
    where = f"{first.folder} and {second.folder}"
    if not shared:
        raise WinnowError(f"{where}: have no scorer in common; run `winnow rescore`")
    chosen = scorer or shared[0]
    if chosen not in shared:
        raise WinnowError(f"{first.settings.benchmark}: scorer {chosen!r}: {nearest(chosen, shared)}")
    versions = first.settings.scorers[chosen], second.settings.scorers[chosen]
    if versions[0] != versions[1]:
        raise WinnowError(
            f"{where}: cannot be compared, because they were judged by version {versions[0]} and version {versions[1]} "
            f"of {chosen!r}; run `winnow rescore {first.folder} {second.folder}`"
        )
    return chosen, versions[0]


def _joined(first: Evaluation, second: Evaluation, common: bool) -> tuple[pa.Table, pa.Table, tuple[int, int]]:
    """The items of both in the order of A, and the number of items that only A, or only B, has."""
    ids = [evaluation.items["id"] for evaluation in (first, second)]
    only = [pc.invert(pc.is_in(one, value_set=other)) for one, other in (ids, ids[::-1])]
    counts = [int(pc.sum(mask).as_py() or 0) for mask in only]
    if sum(counts) == len(ids[0]) + len(ids[1]):
        raise WinnowError(f"{first.folder} and {second.folder}: have no item in common")
    if any(counts) and not common:
        names = [
            f"{count:,} of {len(one):,} items of {evaluation.folder} are not in the other "
            f"({', '.join(one.filter(mask).slice(0, NAMED_IDS).to_pylist())}{', ...' if count > NAMED_IDS else ''})"
            for evaluation, one, mask, count in zip((first, second), ids, only, counts, strict=True)
            if count
        ]
        raise WinnowError(
            f"{first.settings.benchmark}: the evaluations have not the same items: {'; '.join(names)}; "
            "compare the common ones with --common, or evaluate both with the same --limit and --path"
        )
    a = first.items.filter(pc.invert(only[0]))
    b = second.items.take(pc.index_in(a["id"], value_set=second.items["id"]))
    changed = pc.and_kleene(pc.not_equal(a["prompt"], b["prompt"]), True)
    if different := int(pc.sum(changed).as_py() or 0):
        example = a["id"].filter(changed)[0].as_py()
        raise WinnowError(
            f"{first.settings.benchmark}: {different:,} of {len(a):,} items have another prompt in the other "
            f"evaluation, such as {example}; evaluate both on the same files"
        )
    return a, b, (counts[0], counts[1])


def _clusters(items: pa.Table) -> list[str] | None:
    """The cluster of each item; None if each item is for itself."""
    clusters = pc.coalesce(items["cluster"], items["id"])
    return None if len(pc.unique(clusters)) == len(clusters) else clusters.to_pylist()


def _shown(value: Any) -> str:
    return "none" if value is None else repr(value)
