"""Does contamination raise the score? The test of HRM-Text's paper (section 4.2), after Llama 2 (section A.6).

An item's contamination is the share of its tokens within n-grams of the training corpus, for n = 13 and 20. Four
overlapping subsets of the items are compared with all items. The effect is significant only if each of the four differs
by more than two standard errors: the cleaner subsets score lower, the dirtier ones higher.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
    """The four subsets by n-grams of one length, and whether contamination raises the score significantly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ngram: int
    clean: Subset
    not_clean: Subset
    not_dirty: Subset
    dirty: Subset
    significant: bool


def contrast(ngram: int, scores: Sequence[float], shares: Sequence[float]) -> Contrast:
    """Test the items: their scores (0 to 1) and covered shares (0 to 1), in the same order."""
    assert len(scores) == len(shares)
    score, share = np.asarray(scores, np.float64), np.asarray(shares, np.float64)
    mean, deviation = float(score.mean()), float(score.std())  # population values, of all items

    def subset(chosen: np.ndarray) -> Subset:
        n = int(chosen.sum())
        part = float(score[chosen].mean()) if n else None
        z = None if part is None or deviation == 0 else (part - mean) / (deviation / n**0.5)
        return Subset(n=n, score=part, z=z)

    clean, not_clean = subset(share < CLEAN), subset(share >= CLEAN)
    not_dirty, dirty = subset(share < DIRTY), subset(share >= DIRTY)
    worse = all(part.z is not None and part.z < -SIGNIFICANT_Z for part in (clean, not_dirty))
    better = all(part.z is not None and part.z > SIGNIFICANT_Z for part in (not_clean, dirty))
    return Contrast(
        ngram=ngram, clean=clean, not_clean=not_clean, not_dirty=not_dirty, dirty=dirty, significant=worse and better
    )
