"""Does contamination raise the score? The test of HRM-Text's paper (section 4.2), after Llama 2 (section A.6), and
whether it could have said so.

An item's overlap is the share of its tokens within n-grams of the training rows, for n = 13 and 20. Four overlapping
subsets of the items are compared with all items. The effect is significant only if each of the four differs by more
than two standard errors: the cleaner subsets score lower, the dirtier ones higher.

With few dirty items the four cannot all differ that much, however the scores fall. The test is then `undecidable`, and
that it is not significant says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

CLEAN, DIRTY = 0.2, 0.8
"""Clean: less than 20 % of the tokens covered. Dirty: 80 % or more. Not clean and not dirty are the complements."""

SIGNIFICANT_Z = 2.0
"""Smallest |z| of an effect, as in the paper."""


class Subset(BaseModel):
    """`n` items and their mean score; z = (subset mean - overall mean) / (overall standard deviation / sqrt(n)).

    `score` is null without items; `z` also if all items of the benchmark have the same score.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    score: float | None
    z: float | None


class Contrast(BaseModel):
    """The four subsets by n-grams of one length, and whether contamination raises the score significantly.

    clean, not_clean, not_dirty, dirty: the paper's names for a share under 20 %, from 20 % on, under 80 %, from 80 %
    on. best_case: whether the test would be significant if the highest of these scores were those of the items with
    the largest shares. power: the probability, 0 to 1, that the test is significant if every item that is not clean
    were right, and clean ones as often as they were; null for scores other than 0 and 1, and without clean items.
    verdict: `undecidable` if the best case is not significant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ngram: int
    clean: Subset
    not_clean: Subset
    not_dirty: Subset
    dirty: Subset
    significant: bool
    best_case: bool
    power: float | None
    verdict: Literal["significant", "not significant", "undecidable"]


_Floats = npt.NDArray[np.float64]


def contrast(ngram: int, scores: Sequence[float], shares: Sequence[float]) -> Contrast:
    """Test the items: their scores (0 to 1) and covered shares (0 to 1), in the same order."""
    assert len(scores) == len(shares)
    score, share = np.asarray(scores, np.float64), np.asarray(shares, np.float64)
    clean, not_clean, not_dirty, dirty = subsets = _subsets(score, share)
    significant = _significant(subsets)
    # No other order of the scores gives the two cleaner subsets lower means, nor the two dirtier ones higher means.
    best_case = _significant(_subsets(np.sort(score), np.sort(share)))
    return Contrast(
        ngram=ngram,
        clean=clean,
        not_clean=not_clean,
        not_dirty=not_dirty,
        dirty=dirty,
        significant=significant,
        best_case=best_case,
        power=_power(score, share),
        verdict="significant" if significant else "not significant" if best_case else "undecidable",
    )


def _subsets(score: _Floats, share: _Floats) -> tuple[Subset, Subset, Subset, Subset]:
    """Clean, not clean, not dirty and dirty."""
    mean, deviation = float(score.mean()), float(score.std())  # population values, of all items

    def subset(chosen: npt.NDArray[np.bool_]) -> Subset:
        n = int(chosen.sum())
        part = float(score[chosen].mean()) if n else None
        z = None if part is None or deviation == 0 else (part - mean) / (deviation / n**0.5)
        return Subset(n=n, score=part, z=z)

    return subset(share < CLEAN), subset(share >= CLEAN), subset(share < DIRTY), subset(share >= DIRTY)


def _significant(subsets: tuple[Subset, Subset, Subset, Subset]) -> bool:
    clean, not_clean, not_dirty, dirty = subsets
    worse = all(part.z is not None and part.z < -SIGNIFICANT_Z for part in (clean, not_dirty))
    better = all(part.z is not None and part.z > SIGNIFICANT_Z for part in (not_clean, dirty))
    return worse and better


def _power(score: _Floats, share: _Floats) -> float | None:
    """The exact probability of a significant result under the largest effect: see `Contrast`.

    The number of clean items that are right is binomial. Each of its values gives the four subsets and a result.
    """
    # Imported here because it takes half a second to load.
    from scipy.stats import binom

    is_clean, is_dirty = share < CLEAN, share >= DIRTY
    n, n_clean, n_dirty = len(score), int(is_clean.sum()), int(is_dirty.sum())
    if not n_clean or not np.isin(score, (0.0, 1.0)).all():
        return None
    if n_clean == n or not n_dirty:
        return 0.0
    right = np.arange(n_clean + 1)
    mean = (right + n - n_clean) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        z_clean, z_not_clean, z_not_dirty, z_dirty = (
            (part - mean) * np.sqrt(size) / np.sqrt(mean * (1 - mean))
            for part, size in (
                (right / n_clean, n_clean),
                (1.0, n - n_clean),
                ((right + n - n_clean - n_dirty) / (n - n_dirty), n - n_dirty),
                (1.0, n_dirty),
            )
        )
        lower = np.maximum(z_clean, z_not_dirty) < -SIGNIFICANT_Z
        significant = lower & (np.minimum(z_not_clean, z_dirty) > SIGNIFICANT_Z)
    return float(binom.pmf(right, n_clean, score[is_clean].mean())[significant].sum())
