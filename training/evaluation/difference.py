"""How much do the scores of two groups of items differ? The difference of two shares, stratified, with its interval.

Items of one subset of a benchmark (a subject, a task, a split) are compared with each other alone. So a difference is
not due to leaks that lie in an easy subset. Method:

- difference: the mean of the differences in the strata, with Mantel and Haenszel's weights n1 * n2 / (n1 + n2)
  (Greenland and Robins 1985);
- interval: Miettinen and Nurminen's stratified score interval (1985, Statistics in Medicine 4: 213-226): all
  differences that a test with these weights does not reject, with variances at that difference. It holds for few items
  in many strata, and for shares of 0 and 1, where the interval of Newcombe does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

CONFIDENCE = 0.95

METHOD = "Mantel-Haenszel weights, Miettinen-Nurminen score interval"

_Floats = npt.NDArray[np.float64]


class Difference(BaseModel):
    """The share of right answers among items that were not found in the training rows, minus that among those found.

    difference, low, high: -1 to 1, with the 95 % interval; null if no subset has items of both groups. A negative
    difference means that the items found score higher. not_found, found: items that are compared; those of subsets
    without items of both groups are left out. subsets: how many are compared. method: of the interval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    difference: float | None
    low: float | None
    high: float | None
    not_found: int
    found: int
    subsets: int
    method: str = METHOD


def stratified_difference(correct: Sequence[bool], found: Sequence[bool], subset: Sequence[str]) -> Difference:
    """Compare items: whether each is right, whether training rows hold it, and its subset of the benchmark."""
    # Imported here because it takes half a second to load.
    from scipy.optimize import brentq
    from scipy.stats import norm

    is_right, is_found = np.asarray(correct, np.bool_), np.asarray(found, np.bool_)
    names, stratum = np.unique(np.asarray(subset, np.str_), return_inverse=True)
    n = np.array([np.bincount(stratum[is_found == group], minlength=len(names)) for group in (False, True)])
    right = np.array(
        [np.bincount(stratum[(is_found == group) & is_right], minlength=len(names)) for group in (False, True)]
    )
    both = n.min(axis=0) > 0
    n, right = n[:, both], right[:, both]
    if not both.any():
        return Difference(difference=None, low=None, high=None, not_found=0, found=0, subsets=0)
    weight = n.prod(axis=0) / n.sum(axis=0)
    weight /= weight.sum()
    shares = right / n
    difference = float((shares[0] - shares[1]) @ weight)
    z = norm.ppf((1 + CONFIDENCE) / 2)

    def excess(delta: float, sign: int) -> float:
        """Distance from `delta` to the observed difference, in standard errors at `delta`, beyond z."""
        error = max(float(np.sqrt(weight**2 @ variance(right, n, delta))), 1e-12)
        return sign * (difference - delta) / error - float(z)

    # The score falls as delta moves away from the observed difference. At the ends of -1 to 1 it may stay below z.
    low = -1.0 if excess(-1.0, 1) <= 0 else brentq(excess, -1.0, difference, args=(1,))
    high = 1.0 if excess(1.0, -1) <= 0 else brentq(excess, difference, 1.0, args=(-1,))
    return Difference(
        difference=difference,
        low=float(low),
        high=float(high),
        not_found=int(n[0].sum()),
        found=int(n[1].sum()),
        subsets=int(both.sum()),
    )


def variance(right: npt.NDArray[np.int64], n: npt.NDArray[np.int64], delta: float) -> _Floats:
    """The variance of the difference of two shares in each stratum, if the true difference is `delta`; [strata].

    right, n: [2, strata]. The two true shares are their maximum-likelihood estimates p and p - delta under that
    condition: the root of a cubic equation (Miettinen and Nurminen 1985, appendix I).
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
