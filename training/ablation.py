"""Does a change of a recipe help? Small models, trained on the corpora of several recipes, on the same held-out items.

An arm is a recipe, or a control: as many tokens of the first recipe's corpus, chosen at random or the longest rows.
Each arm is trained with several seeds, each time on the same number of tokens. All models are measured on the same
items.

The interval of a difference has two sources of chance. Another set of items would give another difference: its variance
is that of the mean over items (or their clusters) of the paired differences, averaged over seeds. Another training
would too: its variance is estimated from the means of all arms and seeds, after arm and seed are taken out, so that
three seeds of four arms give six degrees of freedom. The variances are added, and the quantile is Student's t with
Satterthwaite's degrees of freedom. The noise of a single item in a single training is in both, so an interval is rather
too wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from pipelines.errors import WinnowError
from training.evaluation.statistics import (
    ALPHA,
    CONFIDENCE,
    POWER,
    Sample,
    effective_number,
    holm,
    standard_error,
)

Verdict = Literal["shown to help", "shown to hurt", "not shown to help"]

Kind = Literal["recipe", "random", "longest"]

MIN_ITEMS = 20
"""Items below which a metric, or a group of one, is not compared."""

_Floats = npt.NDArray[np.float64]


class Arm(BaseModel):
    """What is compared. name: of the recipe, or `<arm>: random` for a control.

    kind: a recipe or a control. of: the arm whose control it is. recipe: path of the file; null for a control.
    changes: what the recipe has and the first has not, and the reverse. run: the recorded run that holds its corpus.
    rows, tokens: of the corpus, as much of each row as the context holds. epochs: draws of the recipe's sampling that
    a training reads; above 1 rows are repeated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind
    of: str | None = None
    recipe: str | None = None
    changes: tuple[str, ...] = ()
    run: str
    rows: int
    tokens: int
    epochs: float


class Metric(NamedTuple):
    """What was measured of every item by every model.

    name: with the unit. lower: whether a lower value is better. values: [arms, seeds, items]. weights: of the items in
    the mean, with sum 1. clusters, groups: of each item; items of a cluster are not independent.
    """

    name: str
    lower: bool
    values: _Floats
    weights: _Floats
    clusters: tuple[str, ...]
    groups: tuple[str, ...]

    def of_group(self, group: str) -> Metric:
        """The items of one group."""
        chosen = np.array([one == group for one in self.groups], np.bool_)
        clusters = tuple(one for one, use in zip(self.clusters, chosen, strict=True) if use)
        weights = self.weights[chosen] / self.weights[chosen].sum()
        return Metric(self.name, self.lower, self.values[:, :, chosen], weights, clusters, (group,) * len(clusters))

    @property
    def means(self) -> _Floats:
        """[arms, seeds]."""
        return np.asarray(self.values @ self.weights, np.float64)


class Effect(BaseModel):
    """An arm against another on one metric.

    group: of the items, empty for all. difference: arm minus other, with its 95 % interval. items: their number.
    standard_error: of the difference; of which items and trainings. degrees_of_freedom: Satterthwaite's. p_value: of
    Student's t test. adjusted_p_value: by Holm, over the comparisons of arms on this metric; null for a group and for
    comparisons of controls with the first arm, which are only described. minimum_detectable: the smallest true
    difference that this design finds with a power of 80 %; null if no value differs, which tells nothing of it.
    verdict: by the adjusted p-value, if there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    group: str
    arm: str
    against: str
    items: int
    lower_is_better: bool
    difference: float
    low: float
    high: float
    standard_error: float
    standard_error_of_items: float
    standard_error_of_trainings: float
    degrees_of_freedom: float
    p_value: float
    adjusted_p_value: float | None = None
    minimum_detectable: float | None
    verdict: Verdict


class Conclusion(BaseModel):
    """What an arm was shown to do, by the first metric. reason: the comparisons that it rests on, as a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: str
    verdict: Verdict
    reason: str


def mean_weights(sizes: npt.ArrayLike, groups: Sequence[str]) -> _Floats:
    """Weights of items with which each group counts equally, and within it each unit of size: sum 1, [items]."""
    size = np.asarray(sizes, np.float64)
    _, group = np.unique(np.asarray(groups, np.str_), return_inverse=True)
    totals = np.bincount(group, size)
    return np.asarray(size / totals[group] / len(totals), np.float64)


def effect(metric: Metric, arms: Sequence[str], arm: str, against: str, group: str = "") -> Effect:
    """Compare two arms. arms: names of those in `metric.values`, in order. group: compare only its items."""
    # Imported here because it takes half a second to load.
    from scipy.stats import t

    used = metric.of_group(group) if group else metric
    a, b = arms.index(arm), arms.index(against)
    means = used.means
    each = (used.values[a] - used.values[b]).mean(axis=0)
    cluster = np.unique(np.asarray(used.clusters, np.str_), return_inverse=True)[1].astype(np.int64)
    sample = Sample(each, used.weights, cluster)
    of_items, of_trainings = standard_error(sample), training_error(means)
    error = float(np.hypot(of_items, of_trainings.standard_error))
    freedoms = (effective_number(sample.cluster_weights) - 1, of_trainings.degrees_of_freedom)
    parts = (of_items**4 / max(freedoms[0], 1.0), of_trainings.standard_error**4 / freedoms[1])
    freedom = error**4 / sum(parts) if sum(parts) > 0 else freedoms[1]
    difference = float(means[a].mean() - means[b].mean())
    reach = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    p_value = float(2 * t.sf(abs(difference) / error, freedom)) if error > 0 else float(difference == 0)
    return Effect(
        metric=metric.name,
        group=group,
        arm=arm,
        against=against,
        items=used.values.shape[2],
        lower_is_better=metric.lower,
        difference=difference,
        low=difference - reach,
        high=difference + reach,
        standard_error=error,
        standard_error_of_items=of_items,
        standard_error_of_trainings=of_trainings.standard_error,
        degrees_of_freedom=freedom,
        p_value=p_value,
        minimum_detectable=float(t.ppf(1 - ALPHA / 2, freedom) + t.ppf(POWER, freedom)) * error if error > 0 else None,
        verdict=verdict(difference, p_value, metric.lower),
    )


class TrainingError(NamedTuple):
    """The standard error of the difference of two arms' means, from the noise of trainings."""

    standard_error: float
    degrees_of_freedom: float


def training_error(means: _Floats) -> TrainingError:
    """From the means of all arms and seeds [arms, seeds]: what is left when arm and seed are taken out.

    Raises: WinnowError: with fewer than two arms or seeds.
    """
    arms, seeds = means.shape
    if arms < 2 or seeds < 2:
        raise WinnowError("the noise of trainings needs at least two arms and two seeds")
    left = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0, keepdims=True) + means.mean()
    freedom = (arms - 1) * (seeds - 1)
    return TrainingError(float(np.sqrt(2 * (left**2).sum() / freedom / seeds)), float(freedom))


def verdict(difference: float, p_value: float, lower: bool) -> Verdict:
    """In words. A difference that is not significant may be large: `not shown` is not `shown not to`."""
    if p_value >= ALPHA or not difference:
        return "not shown to help"
    return "shown to help" if (difference < 0) == lower else "shown to hurt"


def effects(metric: Metric, arms: Sequence[Arm]) -> list[Effect]:
    """The comparisons on one metric: each recipe with the first and with its controls, each control with the first.

    Those of recipes have p-values adjusted for their number. For each group with enough items the recipes are compared
    with the first.
    """
    names = [arm.name for arm in arms]
    first, later = arms[0], [arm for arm in arms[1:] if arm.kind == "recipe"]
    controls = [arm for arm in arms if arm.kind != "recipe"]
    pairs = [(arm, first) for arm in later] + [
        (arm, other) for arm in later for other in controls if other.of == arm.name
    ]
    tested = [effect(metric, names, arm.name, other.name) for arm, other in pairs]
    adjusted = [
        one.model_copy(update={"adjusted_p_value": p, "verdict": verdict(one.difference, p, one.lower_is_better)})
        for one, p in zip(tested, holm([one.p_value for one in tested]), strict=True)
    ]
    described = [effect(metric, names, control.name, first.name) for control in controls]
    found = sorted(set(metric.groups))
    groups = [group for group in found if metric.groups.count(group) >= MIN_ITEMS] if len(found) > 1 else []
    by_group = [effect(metric, names, arm.name, first.name, group) for group in groups for arm in later]
    return [*adjusted, *described, *by_group]


def conclude(found: Sequence[Effect], arms: Sequence[Arm]) -> list[Conclusion]:
    """The conclusion of each recipe after the first. found: the effects on the metric that decides.

    A recipe is shown to help if it is better than the first recipe and than each of its controls.
    """
    conclusions = []
    for arm in arms[1:]:
        own = [one for one in found if one.arm == arm.name and one.adjusted_p_value is not None]
        if arm.kind != "recipe" or not own:
            continue
        verdicts = {one.verdict for one in own}
        outcome: Verdict = "not shown to help"
        if verdicts == {"shown to help"}:
            outcome = "shown to help"
        elif "shown to hurt" in verdicts and "shown to help" not in verdicts:
            outcome = "shown to hurt"
        conclusions.append(Conclusion(arm=arm.name, verdict=outcome, reason="; ".join(map(_sentence, own))))
    return conclusions


def _sentence(one: Effect) -> str:
    better = (one.difference < 0) == one.lower_is_better
    word = (
        "not shown to differ from" if one.verdict == "not shown to help" else "better than" if better else "worse than"
    )
    interval = f"{one.difference:+.4f}, 95 % interval {one.low:+.4f} to {one.high:+.4f}"
    found = "" if one.minimum_detectable is None else f", detectable from {one.minimum_detectable:.4f} on"
    return f"{word} {one.against} ({interval}{found})"


def changes(first: Mapping[str, object], other: Mapping[str, object]) -> tuple[str, ...]:
    """What differs between two recipes, as short texts. Both are dumps of recipes as JSON values."""
    found: list[str] = []
    for key in first:
        before, after = first[key], other.get(key)
        if before == after or key in ("name", "tokenizer", "mirror"):
            continue
        if isinstance(before, list) and isinstance(after, list):
            found += [f"+ {_short(one)}" for one in after if one not in before]
            found += [f"- {_short(one)}" for one in before if one not in after]
            if sorted(map(str, before)) == sorted(map(str, after)):
                found.append(f"{key} in another order")
        else:
            found.append(f"{key}: {_short(after)}")
    return tuple(found)


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        named = value.get("kind") or value.get("name") or value.get("prefix")
        if named:
            label = value.get("name") if value.get("kind") == "score" else None
            return f"{named} {label}" if label else str(named)
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
