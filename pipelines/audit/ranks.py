"""Rank measures of rows with weights, in linear time: a resample is a vector of weights, and nothing is sorted again.

Values are given by dense codes, int64 [n]: equal values have equal codes, in their order. A row of weight 2 counts as
two rows. NaN stands for a measure that is not defined.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dedup.kernel import kernel

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@kernel
def _middle_ranks(codes: Codes, weights: Floats) -> Floats:
    """The mid-rank of each code."""
    size = 0
    for code in codes:
        size = max(size, code + 1)
    ranks = np.zeros(size)
    for row in range(len(codes)):
        ranks[codes[row]] += weights[row]
    below = 0.0
    for code in range(size):
        mass = ranks[code]
        ranks[code] = below + mass / 2
        below += mass
    return ranks


@kernel
def spearman(x: Codes, y: Codes, weights: Floats) -> float:
    """The rank correlation of two series; NaN if one of them is constant."""
    of_x, of_y = _middle_ranks(x, weights), _middle_ranks(y, weights)
    total = weights.sum()
    mean = total / 2  # of mid-ranks
    xx = yy = xy = 0.0
    for row in range(len(x)):
        a, b, weight = of_x[x[row]] - mean, of_y[y[row]] - mean, weights[row]
        xx += weight * a * a
        yy += weight * b * b
        xy += weight * a * b
    scale = math.sqrt(xx) * math.sqrt(yy)
    return xy / scale if scale > 1e-9 else math.nan


@kernel
def auc(x: Codes, good: npt.NDArray[np.bool_], weights: Floats) -> float:
    """The area under the ROC curve; NaN if all rows are good, or none."""
    size = 0
    for code in x:
        size = max(size, code + 1)
    positive, negative = np.zeros(size), np.zeros(size)
    for row in range(len(x)):
        if good[row]:
            positive[x[row]] += weights[row]
        else:
            negative[x[row]] += weights[row]
    below = wins = 0.0
    for code in range(size):
        wins += positive[code] * (below + negative[code] / 2)
        below += negative[code]
    pairs = positive.sum() * below
    return wins / pairs if pairs > 0 else math.nan


@kernel
def accuracy(difference: Floats, preference: Floats, weights: Floats) -> float:
    """The share of pairs with a preference whose difference has its sign, differences of 0 half; NaN without any."""
    total = right = 0.0
    for row in range(len(difference)):
        if preference[row] != 0:
            total += weights[row]
            product = difference[row] * preference[row]
            right += weights[row] * (1.0 if product > 0 else 0.5 if difference[row] == 0 else 0.0)
    return right / total if total > 0 else math.nan
