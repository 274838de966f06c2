"""The stratified difference of two shares: published values, coverage by simulation, and what stratifying is for."""

from __future__ import annotations

import numpy as np
import pytest

from flows.cli.render import difference_line
from training.evaluation.difference import stratified_difference


def items(*groups: tuple[str, bool, int, int]) -> tuple[list[bool], list[bool], list[str]]:
    """Items of groups (subset, found, right, n): correct, found, subset."""
    correct, found, subset = [], [], []
    for name, is_found, right, n in groups:
        correct += [True] * right + [False] * (n - right)
        found += [is_found] * n
        subset += [name] * n
    return correct, found, subset


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17: 873-890, table II, method 6
        ((56, 70), (48, 80), 0.0528, 0.3382),
        ((9, 10), (3, 10), 0.1700, 0.8406),
        ((6, 7), (2, 7), 0.0342, 0.8534),
        ((5, 56), (0, 29), -0.0326, 0.1933),
        ((0, 10), (0, 20), -0.1658, 0.2844),
        ((0, 10), (0, 10), -0.2879, 0.2879),
        ((10, 10), (0, 20), 0.7156, 1.0),
    ],
)
def test_one_subset_gives_the_published_score_interval(
    one: tuple[int, int], other: tuple[int, int], low: float, high: float
) -> None:
    made = stratified_difference(*items(("a", False, *one), ("a", True, *other)))
    assert made.difference == pytest.approx(one[0] / one[1] - other[0] / other[1])
    assert made.low == pytest.approx(low, abs=1e-4) and made.high == pytest.approx(high, abs=1e-4)
    mirrored = stratified_difference(*items(("a", False, *other), ("a", True, *one)))
    assert mirrored.low == pytest.approx(-made.high) and mirrored.high == pytest.approx(-made.low)


def test_leaks_in_an_easy_subset_are_no_difference() -> None:
    """Within each subset both groups score alike; without subsets the found items would look 30 points better."""
    easy = (("easy", False, 90, 100), ("easy", True, 45, 50))
    hard = (("hard", False, 60, 200), ("hard", True, 3, 10))
    made = stratified_difference(*items(*easy, *hard))
    assert made.difference == pytest.approx(0.0) and made.low is not None and made.high is not None
    assert made.low < 0 < made.high
    assert (made.not_found, made.found, made.subsets) == (300, 60, 2)
    assert pytest.approx(-0.3) == 150 / 300 - 48 / 60


def test_subsets_with_items_of_one_group_are_left_out() -> None:
    made = stratified_difference(*items(("a", False, 5, 10), ("a", True, 5, 5), ("b", False, 1, 100)))
    assert (made.not_found, made.found, made.subsets) == (10, 5, 1)
    nothing = stratified_difference(*items(("a", False, 5, 10), ("b", True, 1, 2)))
    assert nothing.difference is nothing.low is nothing.high is None and nothing.subsets == 0
    assert "no subset" in difference_line(nothing)


@pytest.mark.parametrize(
    ("sizes", "rates"),
    [
        (((283, 17),), ((0.35, 0.5),)),
        (((60, 5), (80, 4), (143, 8)), ((0.2, 0.3), (0.5, 0.6), (0.9, 0.95))),
        (((12, 3), (40, 2), (8, 8), (30, 1)), ((0.5, 0.5), (0.1, 0.1), (0.7, 0.7), (0.95, 0.95))),
        (((20, 2),) * 20, ((0.4, 0.6),) * 20),
        (((100, 1),) * 57, ((0.3, 0.9),) * 57),
    ],
)
def test_the_interval_holds_the_true_difference_in_95_percent_of_cases(
    sizes: tuple[tuple[int, int], ...], rates: tuple[tuple[float, float], ...]
) -> None:
    """The expectation of the difference is the weighted mean of the subsets' differences."""
    rng = np.random.default_rng(7)
    n, rate = np.array(sizes), np.array(rates)
    weight = n.prod(axis=1) / n.sum(axis=1)
    truth = (weight * (rate[:, 0] - rate[:, 1])).sum() / weight.sum()
    held = 0
    for _ in range(400):
        right = rng.binomial(n, rate)
        groups = [
            (str(s), group == 1, int(right[s, group]), int(n[s, group])) for s in range(len(n)) for group in (0, 1)
        ]
        made = stratified_difference(*items(*groups))
        assert made.low is not None and made.high is not None
        held += made.low <= truth <= made.high
    assert 0.92 <= held / 400 <= 0.995


def test_the_words_give_the_difference_in_points() -> None:
    made = stratified_difference(*items(("a", False, 48, 80), ("a", True, 56, 70)))
    assert difference_line(made) == (
        "not found minus found -20.0 points, 95 % interval -33.8 to -5.3 (80 and 70 items in 1 subset)"
    )
