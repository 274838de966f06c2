"""Intervals, tests and minimum detectable differences agree with published values, and with other ways to get them.

Coverage and power by simulation are in docs/benchmarks (`python -m tests.benchmarks statistics`).
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, norm, t

from flows.cli.render import difference_line
from training.evaluation.difference import stratified_difference
from training.evaluation.statistics import (
    POWER,
    bootstrap_interval,
    detectable,
    detectable_line,
    holm,
    make_sample,
    mcnemar,
    mcnemar_power,
    mean_interval,
    minimum_detectable_difference,
    paired_difference,
    sign_flip_test,
    tango_interval,
)


def pairs(improved: int, worsened: int, n: int) -> tuple[list[float], list[float]]:
    """Scores of n items in two evaluations, right in both where they agree."""
    same = n - improved - worsened
    return [0.0] * improved + [1.0] * (worsened + same), [1.0] * improved + [0.0] * worsened + [1.0] * same


def names(numbers: np.ndarray) -> list[str]:
    return [f"passage {number}" for number in numbers]


# ---------------------------------------------------------------------------------------------------------- one score


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(10, 20, 0.2993, 0.7007), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_the_interval_of_a_share_is_wilsons(right: int, n: int, low: float, high: float) -> None:
    """81 of 263: Newcombe 1998, Statistics in Medicine 17: 857-872, table I, method 3."""
    made = mean_interval([1.0] * right + [0.0] * (n - right))
    assert made is not None and made.clusters is None and made.effective_items == n
    assert (made.low, made.high) == pytest.approx((low, high), abs=1e-4)


def test_the_standard_error_of_independent_scores_is_that_of_the_mean() -> None:
    scores = [0.0, 1.0, 0.5, 0.25, 1.0, 1.0]
    made = mean_interval(scores)
    assert made is not None and made.standard_error == pytest.approx(np.std(scores, ddof=1) / len(scores) ** 0.5)


def test_clusters_give_the_sandwich_variance_and_the_interval_of_fewer_items() -> None:
    """Five passages of four questions that are all right or all wrong are five items."""
    cluster = np.repeat(np.arange(5), 4)
    scores = np.array([1.0, 1.0, 0.0, 1.0, 0.0])[cluster]
    plain, made = mean_interval(scores), mean_interval(scores, names(cluster))
    assert plain is not None and made is not None and made.clusters == 5
    # CRV1: G / (G - 1) times the sum of the squared residual sums of the clusters, by n^2
    assert made.standard_error == pytest.approx((5 / 4 * 16 * (3 * 0.4**2 + 2 * 0.6**2)) ** 0.5 / 20)
    assert made.effective_items == pytest.approx(4)  # 0.6 * 0.4 / standard error^2
    quantile = float(t.ppf(0.975, 4))
    for end in (made.low, made.high):  # Wilson: the ends are `quantile` standard errors at the end away
        assert abs(0.6 - end) / (end * (1 - end) / 4) ** 0.5 == pytest.approx(quantile)
    assert made.low < plain.low and plain.high < made.high


def test_clusters_of_one_item_change_the_quantile_alone() -> None:
    scores = [1.0] * 30 + [0.0] * 10
    plain, made = mean_interval(scores), mean_interval(scores, names(np.arange(40)))
    assert plain is not None and made is not None
    assert made.standard_error == pytest.approx(plain.standard_error)
    assert made.effective_items == pytest.approx(39) and (made.low, made.high) == pytest.approx(
        (plain.low, plain.high), abs=0.01
    )


def test_a_score_that_is_the_mean_over_subjects_weights_subjects_equally() -> None:
    scores = [1.0] * 9 + [0.0] + [0.0, 1.0]
    subjects = ["anatomy"] * 10 + ["law"] * 2
    made = mean_interval(scores, strata=subjects)
    assert made is not None and made.low < 0.7 < made.high
    assert made.effective_items == pytest.approx(4 / (1 / 10 + 1 / 2))
    by_subject = mean_interval(scores, subjects, subjects)
    assert by_subject is not None and by_subject.standard_error == pytest.approx(np.std([0.9, 0.5], ddof=1) / 2**0.5)


def test_scores_that_are_all_equal_have_an_interval_with_a_width() -> None:
    cluster = np.repeat(np.arange(10), 3)
    made = mean_interval([1.0] * 30, names(cluster))
    assert made is not None and made.effective_items == 10 and made.low < 0.7 and made.high == 1.0
    assert mean_interval([]) is None and mean_interval([1.0, 0.0], ["a", "a"]) is None
    assert mean_interval([1.0]) is not None


# -------------------------------------------------------------------------------------------------- paired differences


def test_the_paired_interval_has_the_published_value() -> None:
    """Fagerland, Lydersen and Laake 2014, BMC Medical Research Methodology 14:54: airway hyper-responsiveness."""
    made = paired_difference(*pairs(1, 7, 21))
    assert (made.interval.low, made.interval.high) == pytest.approx((-0.517, -0.026), abs=5e-4)
    assert made.mcnemar == pytest.approx(0.0703, abs=1e-4)


@pytest.mark.parametrize(("improved", "worsened", "n"), [(12, 2, 50), (40, 20, 160), (0, 5, 9), (0, 0, 30), (6, 0, 6)])
def test_the_paired_interval_holds_what_the_score_test_does_not_reject(improved: int, worsened: int, n: int) -> None:
    """The test, with the maximum of the likelihood found numerically, is at its limit at both ends."""
    made = paired_difference(*pairs(improved, worsened, n))

    def statistic(delta: float) -> float:
        def loss(lost: float) -> float:
            shares = np.array([lost + delta, lost, 1 - 2 * lost - delta])
            counts = np.array([improved, worsened, n - improved - worsened])
            return -float((counts[counts > 0] * np.log(np.maximum(shares[counts > 0], 1e-300))).sum())

        lost = minimize_scalar(loss, bounds=(max(0.0, -delta), (1 - delta) / 2), options={"xatol": 1e-12}).x
        return float((made.difference - delta) / ((2 * lost + delta * (1 - delta)) / n) ** 0.5)

    for end, sign in ((made.interval.low, 1), (made.interval.high, -1)):
        if abs(end) < 1:
            assert sign * statistic(end) == pytest.approx(norm.ppf(0.975), abs=2e-3)
        else:
            assert made.difference == end or sign * statistic(end * (1 - 1e-9)) < norm.ppf(0.975)


def test_no_flip_among_30_items_leaves_a_difference_of_11_points_possible() -> None:
    made = paired_difference(*pairs(0, 0, 30))
    z2 = norm.ppf(0.975) ** 2
    assert made.interval.high == pytest.approx(z2 / (30 + z2)) and made.interval.low == pytest.approx(
        -made.interval.high
    )
    assert (made.p_value, made.bootstrap_low, made.bootstrap_high) == (1.0, None, None)


def test_mcnemars_p_value_is_binomial() -> None:
    assert mcnemar(1, 8) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar(5, 5) == 1.0 and mcnemar(0, 0) == 1.0


def test_the_sign_flip_test_of_independent_items_is_mcnemars_and_of_clusters_counts_all_signs() -> None:
    for improved, worsened in ((1, 8), (3, 4), (7, 0)):
        first, second = pairs(improved, worsened, 30)
        sample = make_sample(np.subtract(second, first), None, None)
        assert sign_flip_test(sample) == pytest.approx(mcnemar(improved, worsened))
    sums = [3, 1, 1, -2, 4]
    changed = np.concatenate([[np.sign(s)] * abs(s) for s in sums])
    cluster = np.repeat(np.arange(5), np.abs(sums))
    every = [abs(sum(s * sign for s, sign in zip(sums, signs, strict=True)))
             for signs in itertools.product((1, -1), repeat=5)]  # fmt: skip
    made = sign_flip_test(make_sample(changed, names(cluster), None))
    assert made == pytest.approx(np.mean([value >= abs(sum(sums)) for value in every]))
    assert sign_flip_test(make_sample([1, 1, 1, 0, 0], names(np.array([0, 0, 0, 1, 1])), None)) == 1.0  # one cluster


def test_clusters_widen_the_paired_interval_and_raise_the_p_value() -> None:
    """Ten passages, each with eight questions that flip together: eight flips up, two down, not 64 and 16."""
    cluster = np.repeat(np.arange(20), 8)
    first = np.zeros(160) + (cluster >= 18)
    second = first + (cluster < 8) - (cluster >= 18)
    plain, made = paired_difference(first, second), paired_difference(first, second, names(cluster))
    assert plain.difference == made.difference == pytest.approx(0.3)
    assert made.clustered is not None and made.clustered.clusters == 20
    assert made.clustered.low < plain.interval.low and plain.interval.high < made.clustered.high
    assert plain.p_value < 1e-6 and made.p_value == pytest.approx(mcnemar(8, 2))
    assert made.mcnemar == plain.mcnemar  # the plain one is beside it
    assert made.minimum_detectable is not None and plain.minimum_detectable is not None
    assert made.minimum_detectable > 2 * plain.minimum_detectable


def test_the_bootstrap_resamples_clusters_and_repeats_itself() -> None:
    rng = np.random.default_rng(3)
    cluster = np.repeat(np.arange(60), rng.integers(1, 9, 60))
    change = rng.choice([-1.0, 0.0, 1.0], len(cluster), p=[0.1, 0.7, 0.2]) + rng.normal(0, 0.3, 60)[cluster]
    sample = make_sample(np.clip(change, -1, 1), names(cluster), None)
    low, high = bootstrap_interval(sample)
    assert (low, high) == bootstrap_interval(sample)
    error = tango_interval(sample, True).standard_error
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_the_order_of_items_and_the_names_of_clusters_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.integers(0, 2, (2, 80)).astype(float)
    cluster = rng.integers(0, 12, 80)
    order = rng.permutation(80)
    made = paired_difference(first, second, names(cluster))
    again = paired_difference(first[order], second[order], [f"x{99 - c}" for c in cluster[order]])
    assert made.clustered is not None and again.clustered is not None
    assert made.clustered.low == pytest.approx(again.clustered.low)
    assert (made.improved, made.worsened) == (again.improved, again.worsened)
    reversed_ = paired_difference(second, first, names(cluster))
    assert reversed_.clustered is not None and reversed_.clustered.low == pytest.approx(-made.clustered.high)
    assert reversed_.p_value == pytest.approx(made.p_value, abs=0.02)


def test_fractional_scores_have_no_mcnemar_test() -> None:
    made = paired_difference([0.5, 0.0, 1.0, 0.2], [0.75, 0.0, 1.0, 0.1])
    assert made.mcnemar is None and (made.improved, made.worsened) == (1, 1)
    assert made.difference == pytest.approx(0.0375) and made.p_value == 1.0


def test_holm_adjusts_by_rank() -> None:
    """Smallest times 4, next times 3, and so on, never below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


# ------------------------------------------------------------------------------------------------ what n items can show


def test_the_power_of_mcnemars_test_is_the_sum_over_all_outcomes() -> None:
    items, discordant, difference = 40, 0.3, 0.15
    gain, loss = (discordant + difference) / 2, (discordant - difference) / 2
    power = sum(
        binom.pmf(flips, items, discordant) * binom.pmf(up, flips, gain / (gain + loss))
        for flips in range(items + 1)
        for up in range(flips + 1)
        if mcnemar(up, flips - up) <= 0.05
    )
    assert mcnemar_power(items, discordant, difference) == pytest.approx(power, abs=1e-8)


def test_the_minimum_detectable_difference_has_a_power_of_80_percent_and_falls_with_the_root_of_n() -> None:
    for n in (30, 300, 3000):
        made = minimum_detectable_difference(n)
        assert made is not None and mcnemar_power(n, max(0.25, made), made) == pytest.approx(POWER, abs=1e-3)
    large, larger = minimum_detectable_difference(4000), minimum_detectable_difference(16000)
    assert large is not None and larger is not None and large / larger == pytest.approx(2, abs=0.06)
    # Normal approximation: (1.960 + 0.842) * sqrt(discordant / n)
    assert larger == pytest.approx(2.8016 * (0.25 / 16000) ** 0.5, rel=0.02)
    clustered, half = minimum_detectable_difference(8000, design_effect=2), minimum_detectable_difference(4000)
    assert clustered == half


def test_an_unpaired_difference_needs_what_the_tables_say() -> None:
    """Cohen 1988, table 2.4.1: an effect of 0.2 standard deviations needs 393 items in each group."""
    made = minimum_detectable_difference(393, paired=False)
    assert made == pytest.approx(0.2 * 0.5, abs=2e-4)


def test_five_items_find_no_difference() -> None:
    """Five flips in one direction have p = 0.0625."""
    assert minimum_detectable_difference(5) is None and minimum_detectable_difference(0, paired=False) is None
    assert detectable(5, 1.0) is None and detectable(6, 1.0) is not None
    assert detectable_line(5) == "5 items: too few to find any difference between two checkpoints"
    assert detectable_line(9536, 588).endswith(
        "they share 588 passages or subjects, so only from more on if these are answered alike"
    )
    assert (
        detectable_line(1319, 1319)
        == detectable_line(1319)
        == (
            "1,319 items: differences from 3.9 points on are found between two checkpoints on the same items, "
            "from 5.5 against a score on other items"
        )
    )


# ----------------------------------------------------------------------------------------------- found and not found


def test_fractional_scores_are_compared_as_shares_are() -> None:
    rng = np.random.default_rng(2)
    scores, found = rng.random(60).round(2), rng.random(60) < 0.4
    made = stratified_difference(scores, found, ["a"] * 60)
    assert made.difference == pytest.approx(scores[~found].mean() - scores[found].mean())
    assert made.low is not None and made.high is not None and made.clustered is None
    error = (scores[~found].var(ddof=1) / (~found).sum() + scores[found].var(ddof=1) / found.sum()) ** 0.5
    assert made.low < made.difference - 1.96 * error and made.difference + 1.96 * error < made.high


def test_clusters_widen_the_difference_of_found_and_not_found() -> None:
    """Passages were found, not questions: the questions of a passage share their score."""
    cluster = np.repeat(np.arange(30), 6)
    scores, found = 1.0 * (cluster % 3 > 0), cluster % 4 == 0
    made = stratified_difference(scores, found, ["a"] * 180, names(cluster))
    assert made.low is not None and made.high is not None and made.clustered is not None
    ratio = (made.clustered.high - made.clustered.low) / (made.high - made.low)
    assert 6**0.5 < ratio < 1.3 * 6**0.5 and made.clustered.clusters == 30
    assert "95 % interval by 30 clusters" in difference_line(made)
    alone = stratified_difference(scores, found, ["a"] * 180, ["one"] * 180)
    assert alone.clustered is None and alone.low == made.low
    equal = stratified_difference([1.0] * 180, found, ["a"] * 180, names(cluster))
    assert equal.clustered is not None and equal.clustered.effective_items == pytest.approx(30)
    assert equal.low is not None and equal.clustered.low < equal.low
