"""A search over mixtures finds the better one where there is one, and proposes none where losses are noise."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import WinnowError
from pipelines.recipe import Group
from pipelines.steps.sampling import Pool
from training.mixtures import GroupRows, draw_mixtures, groups_of, rules_for, search, weights_of

FOUND = [
    GroupRows(Group(prefix="a"), (1000, 200), 50.0),
    GroupRows(Group(prefix="b", max_per_file=300), (5000,), 20.0),
    GroupRows(Group(prefix="c", repeat=2), (100,), 80.0),
]


def test_rules_draw_the_weights_that_are_asked_for_within_two_percent() -> None:
    current, tokens = weights_of(FOUND, [one.group for one in FOUND])
    for weights in draw_mixtures(current, 20):
        made, _ = weights_of(FOUND, rules_for(FOUND, weights.tolist(), tokens))
        assert np.abs(made - weights).max() < 0.02


def test_mixtures_lie_around_the_present_one() -> None:
    current = np.array([0.7, 0.2, 0.1])
    drawn = draw_mixtures(current, 2000)
    assert np.allclose(drawn.sum(axis=1), 1)
    assert np.abs(drawn.mean(axis=0) - (0.8 * current + 0.2 / 3)).max() < 0.02


def test_a_search_moves_towards_the_group_that_lowers_the_loss() -> None:
    current = np.array([0.6, 0.3, 0.1])
    mixtures = np.concatenate([current[None], draw_mixtures(current, 23)])
    losses = 2 - 0.1 * np.log(mixtures[:, 2]) + np.random.default_rng(0).normal(0, 0.01, 24)
    found = search("abc", current, mixtures, losses)
    assert found.fits[0].r2 > 0.5
    assert found.proposal is not None and found.predicted is not None
    assert found.proposal[2] > 0.2 and found.predicted[1] < found.predicted[0]


def test_noise_gives_no_proposal_most_of_the_time() -> None:
    current = np.array([0.6, 0.3, 0.1])
    mixtures = np.concatenate([current[None], draw_mixtures(current, 23)])
    rng = np.random.default_rng(1)
    proposals = [search("abc", current, mixtures, rng.normal(2, 0.1, 24)).proposal for _ in range(3)]
    assert sum(one is not None for one in proposals) <= 1


def test_a_file_without_a_group_is_named() -> None:
    ints = np.ones(2, np.uint16)
    pool = Pool(("a/x", "z/y"), (Group(prefix=""),) * 2, (1, 1), ints, ints, ints, {}, 0)
    with pytest.raises(WinnowError, match="z/y is in no group"):
        groups_of(pool, [Group(prefix="a")])
