"""How much do the scores of two groups of items differ? The difference of two means, stratified, with its interval.

Items of one subset of a benchmark (a subject, a task, a split) are compared with each other alone. So a difference is
not due to leaks that lie in an easy subset. Method:

- difference: the mean of the differences in the strata, with Mantel and Haenszel's weights n1 * n2 / (n1 + n2)
  (Greenland and Robins 1985);
- interval: Miettinen and Nurminen's stratified score interval (1985, Statistics in Medicine 4: 213-226): all
  differences that a test with these weights does not reject, with variances at that difference. It holds for few items
  in many strata, and for shares of 0 and 1, where the interval of Newcombe does not;
- scores between 0 and 1 are used like shares, whose variance is at least as large;
- items that share a passage: the variance is multiplied by the design effect, which is the variance by clusters (CRV1)
  divided by that of independent items, both of the least-squares coefficient that equals the difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from training.evaluation.statistics import CONFIDENCE, Interval, effective_number

METHOD = "Mantel-Haenszel weights, Miettinen-Nurminen score interval"

_Floats = npt.NDArray[np.float64]


class Difference(BaseModel):
    """The mean score of items that were not found in the training rows, minus that of those found.

    difference, low, high: -1 to 1, with the 95 % interval; null if no subset has items of both groups. A negative
    difference means that the items found score higher. clustered: the interval by the items' clusters; null without
    clusters, or if there is one. not_found, found: items that are compared; those of subsets without items of both
    groups are left out. subsets: how many are compared. method: of the interval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    difference: float | None
    low: float | None
    high: float | None
    clustered: Interval | None = None
    not_found: int
    found: int
    subsets: int
    method: str = METHOD


def stratified_difference(
    scores: Sequence[float], found: Sequence[bool], subset: Sequence[str], clusters: Sequence[str] | None = None
) -> Difference:
    """Compare items: the score of each, whether training rows hold it, its subset of the benchmark, and its cluster.

    scores: 0 to 1. clusters: of items that share a passage; by default the items are independent.
    """
    # Imported here because it takes half a second to load.
    from scipy.stats import norm, t

    score, is_found = np.asarray(scores, np.float64), np.asarray(found, np.bool_)
    names, stratum = np.unique(np.asarray(subset, np.str_), return_inverse=True)
    n = np.array([np.bincount(stratum[is_found == group], minlength=len(names)) for group in (False, True)])
    total = np.array(
        [np.bincount(stratum[is_found == group], score[is_found == group], len(names)) for group in (False, True)]
    )
    both = n.min(axis=0) > 0
    if not both.any():
        return Difference(difference=None, low=None, high=None, not_found=0, found=0, subsets=0)
    compared = both[stratum]
    n, total = n[:, both], total[:, both]
    weight = n.prod(axis=0) / n.sum(axis=0)
    weight /= weight.sum()
    difference = float((total[0] / n[0] - total[1] / n[1]) @ weight)
    low, high = _interval(total, n, weight, difference, float(norm.ppf((1 + CONFIDENCE) / 2)))
    clustered = None
    cluster = (
        np.unique(np.asarray(clusters, np.str_)[compared], return_inverse=True)[1] if clusters is not None else None
    )
    if cluster is not None and cluster.max() > 0:
        effect, error, effective_clusters = _design_effect(
            score[compared], is_found[compared], stratum[compared], cluster
        )
        quantile = float(t.ppf((1 + CONFIDENCE) / 2, max(effective_clusters - 1, 1.0)))
        ends = _interval(total, n, weight, difference, quantile * effect**0.5)
        clustered = Interval(
            low=ends[0],
            high=ends[1],
            standard_error=error,
            effective_items=float(n.sum() / effect),
            clusters=int(cluster.max()) + 1,
        )
    return Difference(
        difference=difference,
        low=low,
        high=high,
        clustered=clustered,
        not_found=int(n[0].sum()),
        found=int(n[1].sum()),
        subsets=int(both.sum()),
    )


def _interval(
    total: _Floats, n: npt.NDArray[np.int64], weight: _Floats, difference: float, z: float
) -> tuple[float, float]:
    """All differences that are at most z standard errors from the observed one; total, n: [2, strata]."""
    from scipy.optimize import brentq

    def excess(delta: float, sign: int) -> float:
        """Distance from `delta` to the observed difference, in standard errors at `delta`, beyond z."""
        error = max(float(np.sqrt(weight**2 @ variance(total, n, delta))), 1e-12)
        return sign * (difference - delta) / error - z

    # The score falls as delta moves away from the observed difference. At the ends of -1 to 1 it may stay below z.
    low = -1.0 if excess(-1.0, 1) <= 0 else brentq(excess, -1.0, difference, args=(1,))
    high = 1.0 if excess(1.0, -1) <= 0 else brentq(excess, difference, 1.0, args=(-1,))
    return float(low), float(high)


def _design_effect(
    score: _Floats, found: npt.NDArray[np.bool_], stratum: npt.NDArray[np.int64], cluster: npt.NDArray[np.int64]
) -> tuple[float, float, float]:
    """Variance of the difference by clusters, divided by that of independent items, at least 1; its standard error by
    clusters; and the effective number of clusters."""
    from statsmodels.regression.linear_model import OLS

    # With a constant per stratum, the coefficient of "not found" has Mantel and Haenszel's weights. Subtracting the
    # means of the strata is the same as these constants (Frisch and Waugh).
    size = np.bincount(stratum)
    y, x = (values - (np.bincount(stratum, values) / np.maximum(size, 1))[stratum] for values in (score, 1.0 * ~found))
    model = OLS(y, x)
    error = float(model.fit(cov_type="cluster", cov_kwds={"groups": cluster}).bse[0])
    independent = float(model.fit(cov_type="HC1").bse[0])
    if independent > 1e-12:
        effect = (error / independent) ** 2
    else:
        # All scores of a group are equal. This is the effect if those of a cluster are always equal.
        effect = float((np.bincount(cluster) ** 2).sum()) / len(score)
    return max(effect, 1.0), error, effective_number(np.asarray(np.bincount(cluster, x * x), np.float64))


def variance(right: _Floats, n: npt.NDArray[np.int64], delta: float) -> _Floats:
    """The variance of the difference of two shares in each stratum, if the true difference is `delta`; [strata].

    right: sums of scores. right, n: [2, strata]. The two true shares are their maximum-likelihood estimates p and
    p - delta under that condition: the root of a cubic equation (Miettinen and Nurminen 1985, appendix I).
    """
    total, all_right = n.sum(axis=0), right.sum(axis=0)
    c2 = ((n[0] + 2 * n[1]) * delta - total - all_right) / (3 * total)
    c1 = ((n[1] * delta - total - 2 * right[1]) * delta + all_right) / total
    c0 = right[1] * delta * (1 - delta) / total
    p = c2**3 - c1 * c2 / 2 + c0 / 2
    q = np.where(p < 0, -1.0, 1.0) * np.sqrt(np.maximum(c2**2 - c1 / 3, 0))
    cosine = np.divide(p, q**3, out=np.zeros_like(p), where=q != 0)
    angle = (np.pi + np.arccos(np.clip(cosine, -1, 1))) / 3
    found = np.clip(2 * q * np.cos(angle) - c2, max(0.0, -delta), min(1.0, 1 - delta))
    not_found = found + delta
    by_group = not_found * (1 - not_found) / n[0] + found * (1 - found) / n[1]
    return np.asarray(by_group * total / np.maximum(total - 1, 1), np.float64)
