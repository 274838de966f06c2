"""How far can chance move a score, or the difference of two evaluations? Intervals, tests, and what n items can show.

Every interval is a score interval: all values that a test, with the variance at that value, does not reject. It stays
within the possible values, and it has a width where all items are right or no item differs.

- one score: Wilson (1927);
- difference of two evaluations on the same items: Tango (1998, Statistics in Medicine 17: 891-908);
- difference of two groups of items: Miettinen and Nurminen (difference.py).

Scores from 0 to 1 (an F1) are used like shares. Their variance is at most that of a share of the same mean, so an
interval may be too wide for them, never too narrow.

Items that share a passage or a subject are not independent. The variance of a mean is then estimated from the sums of
the clusters (statsmodels, CRV1), and the interval is computed for the smaller number of independent items that has this
variance: n / design effect. Few or unequal clusters give a rough estimate of the variance, so the quantile is Student's
t with the effective number of clusters, (sum n)^2 / sum n^2, minus 1 degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

CONFIDENCE = 0.95

ALPHA, POWER = 0.05, 0.8
"""Of the minimum detectable difference."""

RESAMPLES = 9_999
"""Of the bootstrap and of the sign-flip test. The smallest p-value of the latter is 2 / (RESAMPLES + 1)."""

SEED = 0

TYPICAL_SCORE, TYPICAL_CORRELATION = 0.5, 0.5
"""Of two evaluations that have not been run: the score with the largest variance, and a correlation between their
answers of the size that Miller (arXiv 2411.00640) reports."""

_MAX_VALUES = 1 << 22
"""Numbers in an array of resamples."""

_Floats = npt.NDArray[np.float64]

Values = Sequence[float] | _Floats


class Interval(BaseModel):
    """A 95 % interval `low`..`high` of a mean or a difference, and its standard error.

    effective_items: the number of independent items with this variance; at most the number of items. clusters: of
    which the variance was estimated; null if the items were taken as independent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float
    standard_error: float
    effective_items: float
    clusters: int | None


class PairedDifference(BaseModel):
    """Score of B minus score of A on the same items.

    n: items. difference: -1 to 1. interval: score interval, items taken as independent. clustered: by the items'
    clusters; null without. bootstrap_low, bootstrap_high: 95 % percentile interval of 9,999 resamples of the clusters,
    or items; null if no item differs or there is one cluster. improved, worsened: items on which B scores higher or
    lower; of scores 0 and 1, the flips wrong to right and right to wrong. mcnemar: exact p-value; null for other
    scores than 0 and 1. p_value: that of McNemar's test, and with clusters or other scores that of the sign-flip test,
    which is the same test where both apply. minimum_detectable: the smallest true difference that this comparison
    finds with a power of 80 %; null if it finds none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    difference: float
    interval: Interval
    clustered: Interval | None
    bootstrap_low: float | None
    bootstrap_high: float | None
    improved: int
    worsened: int
    mcnemar: float | None
    p_value: float
    minimum_detectable: float | None

    @property
    def best_interval(self) -> Interval:
        """The clustered one if there is one."""
        return self.clustered or self.interval


class Sample(NamedTuple):
    """Values of n items, the weight of each in the mean, and the number of its cluster; each array is [n]."""

    values: _Floats
    weights: _Floats
    cluster: npt.NDArray[np.int64]

    @property
    def mean(self) -> float:
        return float(self.values @ self.weights / self.weights.sum())

    @property
    def cluster_sums(self) -> _Floats:
        """Weighted sums of the values of each cluster; [clusters]."""
        return np.asarray(np.bincount(self.cluster, self.values * self.weights), np.float64)

    @property
    def cluster_weights(self) -> _Floats:
        return np.asarray(np.bincount(self.cluster, self.weights), np.float64)


def effective_number(weights: _Floats) -> float:
    """The number of equal weights that give a mean the same variance as these do (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def make_sample(values: npt.ArrayLike, clusters: Sequence[str] | None, strata: Sequence[str] | None) -> Sample:
    """Values with their weights and clusters: see `mean_interval`."""
    value = np.asarray(values, np.float64)
    weights = np.ones(len(value))
    if strata is not None:
        _, stratum, sizes = np.unique(np.asarray(strata, np.str_), return_inverse=True, return_counts=True)
        weights = 1 / sizes[stratum]
    number = np.arange(len(value))
    if clusters is not None:
        number = np.unique(np.asarray(clusters, np.str_), return_inverse=True)[1].astype(np.int64)
    return Sample(value, weights, number)


# ------------------------------------------------------------------------------------------------------------ one score


def mean_interval(
    scores: Values, clusters: Sequence[str] | None = None, strata: Sequence[str] | None = None
) -> Interval | None:
    """The interval of the mean of scores.

    Args:
        scores: one per item, 0 to 1.
        clusters: the cluster of each item. By default the items are independent.
        strata: the subset of each item, if the score is the mean over subsets (MMLU) and not over items.

    Returns:
        The interval; None without items, or if all are in one cluster.
    """
    # Imported here because these take 1.5 seconds to load.
    from scipy.stats import norm
    from statsmodels.stats.proportion import proportion_confint

    if not len(scores) or (clusters is not None and len(set(clusters)) < 2):
        return None
    sample = make_sample(scores, clusters, strata)
    mean, error = sample.mean, standard_error(sample)
    items, quantile = _effective(sample, mean * (1 - mean), error, clusters is not None)
    # statsmodels takes the tail probability of a normal quantile, and numbers of items that are not whole.
    low, high = proportion_confint(mean * items, items, 2 * norm.sf(quantile), "wilson")
    return Interval(
        low=float(low) if mean > 0 else 0.0,
        high=float(high) if mean < 1 else 1.0,
        standard_error=error,
        effective_items=items,
        clusters=None if clusters is None else len(set(clusters)),
    )


def rate_interval(totals: Values, sizes: Values) -> Interval | None:
    """The interval of a rate: the sum of `totals`, divided by the sum of `sizes`, over independent rows.

    Args:
        totals: of each row, such as nats; not negative.
        sizes: of each row, such as tokens; positive.

    Returns:
        The interval, by Student's t; None with fewer than two rows.
    """
    # Imported here because it takes half a second to load.
    from scipy.stats import t

    if len(sizes) < 2:
        return None
    weights = np.asarray(sizes, np.float64)
    sample = Sample(np.asarray(totals, np.float64) / weights, weights, np.arange(len(weights)))
    error, rows = standard_error(sample), effective_number(weights)
    reach = float(t.ppf((1 + CONFIDENCE) / 2, max(rows - 1, 1.0))) * error
    return Interval(
        low=max(0.0, sample.mean - reach),
        high=sample.mean + reach,
        standard_error=error,
        effective_items=rows,
        clusters=len(weights),
    )


def standard_error(sample: Sample) -> float:
    """The standard error of a weighted mean, from the sums of the clusters (CRV1); 0 for a single item."""
    # Imported here because it takes a second to load.
    from statsmodels.regression.linear_model import WLS

    if len(sample.values) < 2:
        return 0.0
    model = WLS(sample.values, np.ones(len(sample.values)), weights=sample.weights)
    return float(model.fit(cov_type="cluster", cov_kwds={"groups": sample.cluster}).bse[0])


def _effective(sample: Sample, variance: float, error: float, clustered: bool) -> tuple[float, float]:
    """The number of independent items, and the quantile for an interval.

    variance: the largest that the values of items can have, given their mean. error: of the mean.
    """
    from scipy.stats import norm, t

    items = effective_number(sample.weights)
    if not clustered:
        return items, float(norm.ppf((1 + CONFIDENCE) / 2))
    clusters = effective_number(sample.cluster_weights)
    # Equal values do not tell how alike the items of a cluster are. Each cluster then counts as one item.
    independent = variance / error**2 if error > 1e-12 else clusters
    return min(independent, items), float(t.ppf((1 + CONFIDENCE) / 2, max(clusters - 1, 1.0)))


# ---------------------------------------------------------------------------------------------- two scores, same items


def paired_difference(
    first: Values,
    second: Values,
    clusters: Sequence[str] | None = None,
    strata: Sequence[str] | None = None,
) -> PairedDifference:
    """Compare two evaluations: the scores of the same items, in the same order.

    Args:
        first, second: of A and B, one per item, 0 to 1. There is at least one item.
        clusters, strata: as in `mean_interval`.
    """
    assert len(first) == len(second) > 0
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    improved, worsened = int((b > a).sum()), int((b < a).sum())
    whole = bool(np.isin(np.concatenate([a, b]), (0.0, 1.0)).all())
    one_cluster = clusters is not None and len(set(clusters)) < 2
    each, grouped = make_sample(b - a, None, strata), make_sample(b - a, clusters, strata)
    clustered = tango_interval(grouped, True) if clusters is not None and not one_cluster else None
    exact = mcnemar(improved, worsened) if whole else None
    differs = improved + worsened > 0
    low, high = bootstrap_interval(grouped) if differs and not one_cluster else (None, None)
    interval = tango_interval(each, False)
    return PairedDifference(
        n=len(a),
        difference=each.mean,
        interval=interval,
        clustered=clustered,
        bootstrap_low=low,
        bootstrap_high=high,
        improved=improved,
        worsened=worsened,
        mcnemar=exact,
        p_value=exact if exact is not None and clusters is None and strata is None else sign_flip_test(grouped),
        minimum_detectable=detectable(
            int((clustered or interval).effective_items), float(np.average(np.abs(b - a), weights=each.weights))
        ),
    )


def tango_interval(sample: Sample, clustered: bool) -> Interval:
    """The score interval of the mean of paired differences, each -1 to 1."""
    # Imported here because it takes half a second to load.
    from scipy.optimize import brentq

    gained, lost = (float(np.average(np.maximum(sign * sample.values, 0), weights=sample.weights)) for sign in (1, -1))
    difference = gained - lost
    error = standard_error(sample)
    items, quantile = _effective(sample, gained + lost - difference**2, error, clustered)

    def excess(delta: float, sign: int) -> float:
        """Distance from `delta` to the observed difference, in standard errors at `delta`, beyond the quantile."""
        # The most likely share of losses if the true difference is delta: the root of a quadratic equation.
        b = (2 - difference) * delta - gained - lost
        share_lost = (np.sqrt(max(b * b + 8 * lost * delta * (1 - delta), 0.0)) - b) / 4
        variance = max(2 * share_lost + delta * (1 - delta), 1e-15)
        return float(sign * (difference - delta) / np.sqrt(variance / items) - quantile)

    low = -1.0 if excess(-1.0, 1) <= 0 else brentq(excess, -1.0, difference, args=(1,))
    high = 1.0 if excess(1.0, -1) <= 0 else brentq(excess, difference, 1.0, args=(-1,))
    return Interval(
        low=float(low),
        high=float(high),
        standard_error=error,
        effective_items=items,
        clusters=len(sample.cluster_weights) if clustered else None,
    )


def bootstrap_interval(sample: Sample) -> tuple[float, float]:
    """The percentile interval of the weighted mean, over resamples of the clusters. The seed is fixed."""
    # Imported here because it takes half a second to load.
    from scipy.stats import bootstrap

    def mean(sums: _Floats, weights: _Floats, axis: int = -1) -> _Floats:
        return np.asarray(sums.sum(axis) / weights.sum(axis), np.float64)

    result = bootstrap(
        (sample.cluster_sums, sample.cluster_weights),
        mean,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _MAX_VALUES // len(sample.cluster_weights)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def mcnemar(improved: int, worsened: int) -> float:
    """The p-value of McNemar's exact test, two-sided: are flips in both directions equally likely?"""
    # Imported here because it takes a second to load.
    from statsmodels.stats.contingency_tables import mcnemar as test

    # The items on which both agree do not matter.
    return float(test([[0, improved], [worsened, 0]], exact=True).pvalue)


def sign_flip_test(sample: Sample) -> float:
    """The p-value of the difference, two-sided, if the two evaluations of a cluster were exchangeable.

    The signs of the clusters' sums are drawn at random: all combinations if there are few, or else RESAMPLES with a
    fixed seed. Of independent items with scores 0 and 1 it is McNemar's test.
    """
    # Imported here because it takes half a second to load.
    from scipy.stats import permutation_test

    sums = sample.cluster_sums
    sums = sums[np.abs(sums) > 1e-12]  # a sum of 0 has no sign
    if len(sums) < 2:
        return 1.0

    def total(sums: _Floats, axis: int = -1) -> _Floats:
        return np.asarray(sums.sum(axis), np.float64)

    result = permutation_test(
        (sums,),
        total,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _MAX_VALUES // len(sums)),
        rng=np.random.default_rng(SEED),
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number by Holm's method: those below 0.05 hold together with an error of 5 %."""
    # Imported here because it takes a second to load.
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if len(p_values) else []


# ------------------------------------------------------------------------------------------------ what n items can show


def minimum_detectable_difference(
    n: int,
    paired: bool = True,
    score: float = TYPICAL_SCORE,
    correlation: float = TYPICAL_CORRELATION,
    design_effect: float = 1.0,
) -> float | None:
    """The smallest true difference between two evaluations of n items that is found with a power of 80 % at 5 %.

    Args:
        paired: the same items in both; or else n items each.
        score: of both, about.
        correlation: between the scores of an item in two paired evaluations, 0 to 1.
        design_effect: variance of the mean with the items' clusters, divided by that of independent items.

    Returns:
        The difference, 0 to 1; None if n items are too few for any.
    """
    # Imported here because it takes a second to load.
    from statsmodels.stats.power import NormalIndPower

    assert n >= 0 and 0 <= score <= 1 and 0 <= correlation <= 1 and design_effect > 0
    items = int(n / design_effect)
    variance = score * (1 - score)
    if paired:
        return detectable(items, 2 * variance * (1 - correlation))
    if items < 2:
        return None
    effect = NormalIndPower().solve_power(nobs1=items, alpha=ALPHA, power=POWER)
    difference = float(effect) * variance**0.5
    return difference if difference <= 1 else None


def detectable(items: int, discordant: float) -> float | None:
    """The smallest true difference that McNemar's exact test finds, if the evaluations differ on this share of items.

    The difference cannot exceed that share. If none within it is found, the share is taken to be the difference: all
    items that differ do so in the same direction.
    """
    # Imported here because it takes half a second to load.
    from scipy.optimize import brentq

    def lack(difference: float) -> float:
        return POWER - mcnemar_power(items, max(discordant, difference), difference)

    if items < 1 or lack(1.0) > 0:
        return None
    return float(brentq(lack, 0.0, 1.0, xtol=1e-5))


def mcnemar_power(items: int, discordant: float, difference: float) -> float:
    """The probability that McNemar's exact test rejects at 5 %: over the number of items that differ, which is
    binomial, and the number of these that improve."""
    # Imported here because it takes half a second to load.
    from scipy.stats import binom

    # Numbers beyond these have a probability below 1e-9 together.
    least, most = binom.ppf(5e-10, items, discordant), binom.isf(5e-10, items, discordant)
    flips = np.arange(max(least, 1), most + 1)
    # The largest number in the smaller direction at which the test rejects; -1 if there is none.
    limit = binom.ppf(ALPHA / 2, flips, 0.5)
    limit -= binom.cdf(limit, flips, 0.5) > ALPHA / 2
    improving = (1 + difference / discordant) / 2 if discordant > 0 else 0.5
    rejects = binom.cdf(limit, flips, improving) + binom.sf(flips - limit - 1, flips, improving)
    return float(binom.pmf(flips, items, discordant) @ rejects)


def detectable_line(n: int, clusters: int | None = None) -> str:
    """What an evaluation of n items can show, as a sentence. It is printed before the evaluation runs.

    clusters: of the items, None if they are independent. How alike the items of a cluster are is not known before.
    """
    same, other = (minimum_detectable_difference(n, paired) for paired in (True, False))
    noun = "1 item" if n == 1 else f"{n:,} items"
    if same is None:
        return f"{noun}: too few to find any difference between two checkpoints"
    found = f"{noun}: differences from {100 * same:.1f} points on are found between two checkpoints on the same items"
    found += f", from {100 * other:.1f} against a score on other items" if other is not None else ""
    if clusters is not None and clusters < n:
        found += f"; they share {clusters:,} passages or subjects, so only from more on if these are answered alike"
    return found
