"""Statistics of evaluations: how often the 95 % intervals hold the truth, how wide they are, and the power of tests.

Evaluations are drawn from known shares, thousands of times. Each interval is beside those that others use. The truth of
paired evaluations is known too: each item has a chance to be right in A, and B repeats A's answer or draws its own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import binomtest, norm

from training.evaluation.difference import stratified_difference
from training.evaluation.statistics import (
    CONFIDENCE,
    Interval,
    bootstrap_interval,
    make_sample,
    mcnemar,
    mean_interval,
    minimum_detectable_difference,
    sign_flip_test,
    standard_error,
    tango_interval,
)

Row = dict[str, object]
Z = float(norm.ppf((1 + CONFIDENCE) / 2))


def bench(data: Path | None) -> dict[str, list[Row]]:
    """Coverage of each interval, and power of each test."""
    return {
        "One score, independent items: coverage (mean width)": one_score(),
        "One score, clusters: coverage (mean width)": clusters(),
        "Paired difference: coverage (mean width)": paired(),
        "Found and not found, clusters: coverage (mean width)": found(),
        "False alarms of paired tests without a difference (5 % nominal)": false_alarms(),
        "Power at the minimum detectable difference (80 % nominal)": power(),
    }


class Coverage:
    """How often intervals hold the truth, and their mean width; by method."""

    def __init__(self, truth: float) -> None:
        self.truth = truth
        self.held: dict[str, list[bool]] = {}
        self.widths: dict[str, list[float]] = {}

    def add(self, method: str, low: float, high: float) -> None:
        """Count an interval."""
        self.held.setdefault(method, []).append(low - 1e-12 <= self.truth <= high + 1e-12)
        self.widths.setdefault(method, []).append(high - low)

    def cells(self) -> Row:
        """Method -> `coverage (width)`."""
        return {name: f"{np.mean(held):.1%} ({np.mean(self.widths[name]):.3f})" for name, held in self.held.items()}


def one_score() -> list[Row]:
    """Few and many items, shares and fractional scores."""
    rows: list[Row] = []
    exact = functools.cache(lambda right, n, method: binomtest(right, n).proportion_ci(method=method))
    for n, share in ((10, 0.5), (10, 0.9), (30, 0.9), (30, 0.99), (100, 0.8), (1319, 0.85)):
        rng, coverage = np.random.default_rng(n), Coverage(share)
        for _ in range(4000):
            right = int(rng.binomial(n, share))
            mean = right / n
            for method in ("wilson", "exact"):
                ends = exact(right, n, method)
                coverage.add({"wilson": "Wilson (used)", "exact": "Clopper-Pearson"}[method], ends.low, ends.high)
            reach = Z * (mean * (1 - mean) / max(n - 1, 1)) ** 0.5
            coverage.add("mean ± 1.96 standard errors", mean - reach, mean + reach)
        rows.append({"items": n, "truth": share, "scores": "0 and 1", **coverage.cells()})
    for n in (20, 200):
        rng, coverage = np.random.default_rng(n), Coverage(0.7 + 0.1 * 0.5)
        for _ in range(1000):
            # Like an F1: 70 % right, 20 % wrong, 10 % between.
            scores = rng.choice([1.0, 0.0, 0.5], n, p=[0.7, 0.2, 0.1])
            interval = mean_interval(list(scores))
            assert interval is not None
            coverage.add("Wilson (used)", interval.low, interval.high)
            reach = Z * interval.standard_error
            coverage.add("mean ± 1.96 standard errors", scores.mean() - reach, scores.mean() + reach)
        rows.append({"items": n, "truth": 0.75, "scores": "0, 0.5, 1", **coverage.cells()})
    return rows


def draw_clusters(
    rng: np.random.Generator, sizes: Sequence[int], share: float, correlation: float
) -> tuple[np.ndarray, list[str]]:
    """Scores whose correlation within clusters is as given (beta-binomial), and the clusters."""
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    chance = np.full(len(sizes), share)
    if correlation:
        scale = 1 / correlation - 1
        chance = rng.beta(share * scale, (1 - share) * scale, len(sizes))
    return (rng.random(len(cluster)) < chance[cluster]).astype(float), [str(number) for number in cluster]


SHAPES: dict[str, list[int]] = {
    "5 of 10": [10] * 5,
    "10 of 5": [5] * 10,
    "60 of 16 (DROP, a tenth)": [16] * 60,
    "57, unequal (MMLU, a tenth)": [153, 89, 78, *range(10, 64)],
    "10 of 1 and 3 of 30": [1] * 10 + [30] * 3,
    "200 of 1 to 3 (BoolQ)": [1] * 140 + [2] * 40 + [3] * 20,
}


def clusters() -> list[Row]:
    """Passages and subjects of several shapes."""
    rows: list[Row] = []
    for name, sizes in SHAPES.items():
        for share, correlation in ((0.7, 0.0), (0.7, 0.2), (0.95, 0.2)):
            rng, coverage = np.random.default_rng(len(sizes)), Coverage(share)
            for _ in range(800):
                scores, cluster = draw_clusters(rng, sizes, share, correlation)
                ours, plain = mean_interval(list(scores), cluster), mean_interval(list(scores))
                assert ours is not None and plain is not None
                coverage.add("clustered (used)", ours.low, ours.high)
                reach = Z * ours.standard_error
                coverage.add("mean ± 1.96 clustered errors", scores.mean() - reach, scores.mean() + reach)
                coverage.add("Wilson, as independent", plain.low, plain.high)
            rows.append({"clusters": name, "truth": share, "correlation": correlation, **coverage.cells()})
    return rows


def draw_pair(
    rng: np.random.Generator, sizes: Sequence[int], share: float, gain: float, loss: float, correlation: float
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A and B: of an item that A has wrong (right), B has it right (wrong) with a chance that gives gain (loss).

    The chances of a cluster vary with the correlation. The true difference is gain - loss.
    """
    a, cluster = draw_clusters(rng, sizes, share, correlation)
    number = np.repeat(np.arange(len(sizes)), sizes)
    flip = np.full((2, len(sizes)), [[gain], [loss]])
    if correlation:
        scale = 1 / correlation - 1
        flip = rng.beta(flip * scale, (1 - flip) * scale)
    chance = rng.random(len(a))
    b = np.where(chance < flip[0][number], 1.0, np.where(chance > 1 - flip[1][number], 0.0, np.nan))
    # Flips are drawn first, so that gain and loss do not depend on the share; the others are equal in both.
    a = np.where(b == 1, 0.0, np.where(b == 0, 1.0, a))
    return a, np.where(np.isnan(b), a, b), cluster


def paired() -> list[Row]:
    """Differences of two evaluations."""
    rows: list[Row] = []
    cases: list[tuple[str, list[int], float, float, float]] = [
        ("20 items", [1] * 20, 0.1, 0.1, 0.0),
        ("50 items", [1] * 50, 0.05, 0.02, 0.0),
        ("50 items", [1] * 50, 0.25, 0.05, 0.0),
        ("300 items", [1] * 300, 0.1, 0.06, 0.0),
        ("10 of 5", [5] * 10, 0.15, 0.1, 0.2),
        ("60 of 16 (DROP, a tenth)", [16] * 60, 0.12, 0.08, 0.1),
        ("57, unequal (MMLU, a tenth)", SHAPES["57, unequal (MMLU, a tenth)"], 0.12, 0.08, 0.1),
    ]
    for name, sizes, gain, loss, correlation in cases:
        rng, coverage = np.random.default_rng(len(sizes)), Coverage(gain - loss)
        for _ in range(400):
            a, b, cluster = draw_pair(rng, sizes, 0.6, gain, loss, correlation)
            each = make_sample(b - a, None, None)
            grouped = make_sample(b - a, cluster, None) if correlation else each
            used, plain = tango_interval(grouped, bool(correlation)), tango_interval(each, False)
            coverage.add("Tango (used)", used.low, used.high)
            coverage.add("paired bootstrap", *(bootstrap_interval(grouped) if (b != a).any() else (0.0, 0.0)))
            coverage.add("Tango, as independent", plain.low, plain.high)
            unpaired = [mean_interval(part) for part in (a, b)]
            coverage.add("two Wilson errors, as unpaired", *_unpaired(a, b, unpaired))
        rows.append({"items": name, "gain": gain, "loss": loss, "correlation": correlation, **coverage.cells()})
    return rows


def _unpaired(a: np.ndarray, b: np.ndarray, intervals: Sequence[Interval | None]) -> tuple[float, float]:
    errors = [interval.standard_error for interval in intervals if interval is not None]
    reach = Z * float(np.hypot(*errors))
    return float(b.mean() - a.mean() - reach), float(b.mean() - a.mean() + reach)


def found() -> list[Row]:
    """Passages that the training rows hold or not, with fewer right answers to those not held."""
    rows: list[Row] = []
    for passages, size, share, effect, correlation in (
        (300, 1, 0.2, 0.1, 0.0),
        (100, 10, 0.3, 0.1, 0.3),
        (60, 16, 0.1, 0.0, 0.2),
        (40, 5, 0.3, 0.2, 0.2),
    ):
        rng = np.random.default_rng(passages)
        coverage = Coverage(-effect)
        for _ in range(400):
            held = rng.random(passages) < share
            if held.all() or not held.any():
                continue
            scale = 1 / correlation - 1 if correlation else 0
            mean = np.where(held, 0.7, 0.7 - effect)
            chance = rng.beta(mean * scale, (1 - mean) * scale) if correlation else mean
            number = np.repeat(np.arange(passages), size)
            scores = (rng.random(len(number)) < chance[number]).astype(float)
            # Passages lie in one of two subsets.
            subset = [str(one % 2) for one in number]
            made = stratified_difference(list(scores), held[number], subset, [str(one) for one in number])
            if made.clustered is None or made.low is None or made.high is None:
                continue
            coverage.add("clustered (used)", made.clustered.low, made.clustered.high)
            coverage.add("as independent", made.low, made.high)
        case = {"passages": passages, "items of each": size, "found": share, "truth": -effect}
        rows.append({**case, "correlation": correlation, **coverage.cells()})
    return rows


def false_alarms() -> list[Row]:
    """Both directions equally likely: how often is p below 5 %?"""
    rows: list[Row] = []
    for name, sizes, flips, correlation in (
        ("30 items", [1] * 30, 0.2, 0.0),
        ("300 items", [1] * 300, 0.2, 0.0),
        ("10 of 5", [5] * 10, 0.3, 0.2),
        ("60 of 16 (DROP, a tenth)", [16] * 60, 0.2, 0.1),
        ("57, unequal (MMLU, a tenth)", SHAPES["57, unequal (MMLU, a tenth)"], 0.2, 0.1),
    ):
        rng = np.random.default_rng(len(sizes))
        alarms: dict[str, list[bool]] = {}
        for _ in range(300):
            a, b, cluster = draw_pair(rng, sizes, 0.6, flips / 2, flips / 2, correlation)
            sample = make_sample(b - a, cluster, None)
            exact = mcnemar(int((b > a).sum()), int((b < a).sum()))
            used = sign_flip_test(sample) if correlation else exact
            error = float(np.hypot(*(standard_error(make_sample(part, None, None)) for part in (a, b))))
            for method, alarm in (
                ("used", used < 0.05),
                ("McNemar, as independent", exact < 0.05),
                ("z-test, as unpaired", abs(b.mean() - a.mean()) > Z * error),
            ):
                alarms.setdefault(method, []).append(alarm)
        rates = {method: f"{np.mean(values):.1%}" for method, values in alarms.items()}
        rows.append({"items": name, "flips": flips, "correlation": correlation, **rates})
    return rows


def power() -> list[Row]:
    """Evaluations with the minimum detectable difference: how often is it found?"""
    rows: list[Row] = []
    for n in (30, 100, 300, 1319):
        difference = minimum_detectable_difference(n)
        assert difference is not None
        flips = max(0.25, difference)
        rng = np.random.default_rng(n)
        hits = []
        for _ in range(3000):
            differ = int(rng.binomial(n, flips))
            up = int(rng.binomial(differ, (1 + difference / flips) / 2))
            hits.append(mcnemar(up, differ - up) <= 0.05)
        rows.append(_power_row(n, difference, "same items", hits))
    for n in (30, 300, 1319):
        difference = minimum_detectable_difference(n, paired=False)
        assert difference is not None
        rng = np.random.default_rng(n)
        low, high = rng.binomial(n, [[0.5 - difference / 2], [0.5 + difference / 2]], (2, 3000)) / n
        error = ((low * (1 - low) + high * (1 - high)) / n) ** 0.5
        hits = list(np.abs(high - low) > Z * error)
        rows.append(_power_row(n, difference, "other items", hits))
    for n, effect in ((960, 2.5),):
        # 60 passages of 16 items, with the variance of the flips that the correlation gives.
        difference = minimum_detectable_difference(n, design_effect=effect)
        assert difference is not None
        rng, hits = np.random.default_rng(1), []
        gain, loss = (0.25 + difference) / 2, (0.25 - difference) / 2
        for _ in range(400):
            a, b, cluster = draw_pair(rng, [16] * 60, 0.6, gain, loss, (effect - 1) / 15)
            hits.append(sign_flip_test(make_sample(b - a, cluster, None)) <= 0.05)
        rows.append(_power_row("60 of 16", difference, "same items", hits))
    return rows


def _power_row(items: object, difference: float, pairs: str, hits: Sequence[bool]) -> Row:
    return {"items": items, "difference": f"{difference:.1%}", "pairs": pairs, "found": f"{np.mean(hits):.1%}"}
