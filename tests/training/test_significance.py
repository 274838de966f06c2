"""The paper's test of contamination, against hand-computed values and scipy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from flows.cli.render import overlap_lines
from training.evaluation.significance import Contrast, contrast


def test_hand_computed_z() -> None:
    """100 items: 60 with share 0, half right; 40 with share 1, all but 10 right: mean 0.6, deviation sqrt(0.24)."""
    scores = [1.0] * 30 + [0.0] * 30 + [1.0] * 30 + [0.0] * 10
    made = contrast(13, scores, [0.0] * 60 + [1.0] * 40)
    assert made.clean == made.not_dirty and made.not_clean == made.dirty
    assert (made.clean.n, made.clean.score, made.dirty.n, made.dirty.score) == (60, 0.5, 40, 0.75)
    assert made.clean.z == pytest.approx(-0.1 / (math.sqrt(0.24) / math.sqrt(60)))  # -1.581
    assert made.dirty.z == pytest.approx(0.15 / (math.sqrt(0.24) / math.sqrt(40)))  # 1.936
    assert made.clean.z == pytest.approx(-1.5811, abs=1e-4) and made.dirty.z == pytest.approx(1.9365, abs=1e-4)
    assert not made.significant
    # Four times the items double every Z: now all four are beyond 2.
    assert contrast(13, scores * 4, ([0.0] * 60 + [1.0] * 40) * 4).significant


@pytest.mark.parametrize(
    ("share", "clean", "dirty"), [(0.0, 1, 0), (0.1999, 1, 0), (0.2, 0, 0), (0.7999, 0, 0), (0.8, 0, 1)]
)
def test_the_borders_are_the_papers(share: float, clean: int, dirty: int) -> None:
    made = contrast(20, [1.0], [share])
    assert (made.clean.n, made.not_clean.n) == (clean, 1 - clean)
    assert (made.dirty.n, made.not_dirty.n) == (dirty, 1 - dirty)


def test_an_effect_needs_all_four_subsets() -> None:
    """Items in between that raise the clean side prevent significance, however good the dirty ones are."""
    clear = contrast(13, [0.0] * 200 + [1.0] * 200, [0.0] * 200 + [1.0] * 200)
    assert clear.significant
    half = contrast(13, [0.0] * 200 + [1.0] * 400, [0.0] * 200 + [0.5] * 360 + [1.0] * 40)
    assert half.clean.z is not None and half.clean.z < -2 and half.dirty.z is not None and half.dirty.z > 2
    assert half.not_dirty.z is not None and half.not_dirty.z > -2 and not half.significant
    # Contaminated items that score worse do not show that contamination helps.
    assert not contrast(13, [1.0] * 200 + [0.0] * 200, [0.0] * 200 + [1.0] * 200).significant


def test_without_spread_or_items_there_is_no_z() -> None:
    made = contrast(13, [1.0, 1.0, 1.0], [0.0, 0.0, 1.0])
    assert made.clean.z is None and made.dirty.score == 1.0 and not made.significant
    assert contrast(13, [1.0, 0.0], [0.0, 0.0]).dirty.model_dump() == {"n": 0, "score": None, "z": None}


def test_z_is_scipys_z_test_of_a_subset_against_the_population() -> None:
    """For graded scores too: the sampling distribution of a mean of n is normal with the population's deviation."""
    rng = np.random.default_rng(5)
    scores, shares = rng.random(500), rng.random(500)
    made = contrast(13, scores.tolist(), shares.tolist())
    for chosen, part in ((shares < 0.2, made.clean), (shares >= 0.8, made.dirty)):
        sampling = stats.norm(scores.mean(), scores.std() / math.sqrt(chosen.sum()))
        assert part.z is not None
        assert stats.norm.cdf(part.z) == pytest.approx(sampling.cdf(scores[chosen].mean()), abs=1e-12)
    assert not made.significant


def test_without_an_effect_the_four_are_rarely_significant_together() -> None:
    rng = np.random.default_rng(1)
    shares = np.repeat([0.0, 0.5, 1.0], [200, 50, 50])
    spoke = [
        contrast(13, rng.integers(0, 2, 300).astype(float).tolist(), shares.tolist()).significant for _ in range(400)
    ]
    assert np.mean(spoke) < 0.02


def outcomes(n: int, dirty: int, between: int) -> Iterator[tuple[list[float], list[float]]]:
    """Every outcome of n items, apart from the order within a group: scores and shares."""
    clean = n - dirty - between
    for a, b, c in itertools.product(range(clean + 1), range(between + 1), range(dirty + 1)):
        right = [1.0] * a + [0.0] * (clean - a) + [1.0] * b + [0.0] * (between - b) + [1.0] * c + [0.0] * (dirty - c)
        yield right, [0.0] * clean + [0.5] * between + [1.0] * dirty


@pytest.mark.parametrize(("n", "dirty", "between"), [(14, 3, 2), (18, 6, 0), (16, 5, 3), (12, 2, 0), (10, 0, 4)])
def test_undecidable_means_that_no_outcome_with_that_score_is_significant(n: int, dirty: int, between: int) -> None:
    possible: dict[float, bool] = {}
    verdicts: dict[float, set[bool]] = {}
    for scores, shares in outcomes(n, dirty, between):
        made = contrast(13, scores, shares)
        assert made.significant == (made.verdict == "significant")
        possible[sum(scores)] = possible.get(sum(scores), False) or made.significant
        verdicts.setdefault(sum(scores), set()).add(made.verdict == "undecidable")
    assert verdicts == {right: {not one} for right, one in possible.items()}


def test_17_dirty_of_300_cannot_be_decided_at_a_usual_score() -> None:
    """As in the tutorial: 283 items under 20 %, 17 from 80 % on, about a third of all right."""
    shares = [0.0] * 283 + [1.0] * 17
    made = contrast(20, [1.0] * 100 + [0.0] * 183 + [1.0] * 17, shares)  # the dirty ones are all right
    assert (made.significant, made.best_case, made.verdict) == (False, False, "undecidable")
    assert made.power is not None and made.power < 1e-6
    few_right = contrast(20, [1.0] * 10 + [0.0] * 273 + [1.0] * 17, shares)
    assert few_right.verdict == "significant" and few_right.power is not None and few_right.power > 0.99


def test_the_power_is_the_share_of_significant_results_under_the_largest_effect() -> None:
    rng = np.random.default_rng(3)
    shares = [0.0] * 150 + [0.5] * 10 + [1.0] * 40
    observed = [1.0] * 45 + [0.0] * 105 + [0.0] * 25 + [1.0] * 25
    power = contrast(13, observed, shares).power
    simulated = [
        contrast(13, [*(rng.random(150) < 0.3).astype(float).tolist(), *[1.0] * 50], shares).significant
        for _ in range(2000)
    ]
    assert power == pytest.approx(np.mean(simulated), abs=4 * math.sqrt(0.25 / 2000))
    assert contrast(13, [0.5, 0.25, 1.0], [0.0, 0.0, 1.0]).power is None
    assert contrast(13, [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]).power == 0.0


def test_the_words_name_each_subset() -> None:
    made: Contrast = contrast(13, [1.0] * 30 + [0.0] * 30 + [1.0] * 30 + [0.0] * 10, [0.0] * 60 + [1.0] * 40)
    (line,) = overlap_lines([made])
    assert line.startswith(
        "by 13-grams  clean 60 50.0% Z -1.58, not clean 40 75.0% Z +1.94, not dirty 60 50.0% Z -1.58, "
        "dirty 40 75.0% Z +1.94: no significant effect (power "
    )
    (line,) = overlap_lines([contrast(20, [1.0] * 100 + [0.0] * 183 + [1.0] * 17, [0.0] * 283 + [1.0] * 17)])
    assert line.endswith(": cannot be decided with so few (no result at this score would be significant)")
