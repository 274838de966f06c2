"""Does contamination lift the score? The test that HRM-Text's paper runs (section 4.2), after Llama 2 (section A.6).

An item's contamination is the share of its tokens inside n-grams of the training corpus, for n = 13 and 20. Four
overlapping subsets of the items are compared with all of them; an effect is claimed only where every one of the four
departs by more than two standard errors, the cleaner ones downwards and the dirtier ones upwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

CLEAN, DIRTY = 0.2, 0.8
"""Clean: less than 20 % covered; dirty: 80 % or more; not clean and not dirty are the rest of each."""
SIGNIFICANT = 2.0


class Subset(BaseModel):
    """`n` items and their mean score; z = (subset mean - overall mean) / (overall standard deviation / sqrt(n)).

    `score` is null without items, `z` also where all items of the benchmark score alike.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    score: float | None
    z: float | None


class Contrast(BaseModel):
    """The four subsets by n-grams of one length, and whether all four say that contamination lifts the score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ngram: int
    clean: Subset
    not_clean: Subset
    not_dirty: Subset
    dirty: Subset
    significant: bool


def contrast(ngram: int, scores: Sequence[float], shares: Sequence[float]) -> Contrast:
    """The test over items: their scores (0 to 1) and the covered shares (0 to 1), in the same order."""
    score, share = np.asarray(scores, np.float64), np.asarray(shares, np.float64)
    assert score.shape == share.shape
    mean, deviation = float(score.mean()), float(score.std())  # of all items: they are the population

    def subset(chosen: np.ndarray) -> Subset:
        n = int(chosen.sum())
        part = float(score[chosen].mean()) if n else None
        z = None if part is None or deviation == 0 else (part - mean) / (deviation / n**0.5)
        return Subset(n=n, score=part, z=z)

    clean, not_clean = subset(share < CLEAN), subset(share >= CLEAN)
    not_dirty, dirty = subset(share < DIRTY), subset(share >= DIRTY)
    worse = all(part.z is not None and part.z < -SIGNIFICANT for part in (clean, not_dirty))
    better = all(part.z is not None and part.z > SIGNIFICANT for part in (not_clean, dirty))
    return Contrast(
        ngram=ngram, clean=clean, not_clean=not_clean, not_dirty=not_dirty, dirty=dirty, significant=worse and better
    )
