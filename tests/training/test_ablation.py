"""The verdict of an ablation, on made-up measurements whose true effect is known."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import WinnowError
from training.ablation import Arm, Effect, Kind, Metric, changes, conclude, effect, effects, mean_weights

NAMES = ("first", "second", "second: random")
SEEDS, ITEMS = 3, 80


def metric(
    rng: np.random.Generator,
    shift: float = 0.0,
    trainings: float = 0.02,
    items: float = 0.2,
    lower: bool = True,
    count: int = ITEMS,
) -> Metric:
    """Losses of three arms: items differ much, each arm has its own taste of items, each training its luck.

    shift: true difference of the second arm. trainings, items: standard deviations of a training's mean, and of an
    arm's deviation on an item.
    """
    values = 2 + rng.normal(0, 0.5, count) + rng.normal(0, items, (3, 1, count)) + rng.normal(0, 0.1, (3, SEEDS, count))
    values += rng.normal(0, trainings, (3, SEEDS, 1))
    values[1] += shift
    names = tuple(map(str, range(count)))
    return Metric("loss", lower, values, np.full(count, 1 / count), names, ("",) * count)


def arms(*kinds: Kind) -> list[Arm]:
    return [
        Arm(name=name, kind=kind, of="second" if kind != "recipe" else None, run="run", rows=1, tokens=1, epochs=1)
        for name, kind in zip(NAMES, kinds, strict=False)
    ]


def shown(*, shift: float, trainings: float, items: float, lower: bool = True, times: int = 300) -> float:
    """How often an effect is shown."""
    rng = np.random.default_rng(0)
    found = [effect(metric(rng, shift, trainings, items, lower), NAMES, "second", "first") for _ in range(times)]
    return float(np.mean([one.verdict != "not shown to help" for one in found]))


@pytest.mark.parametrize(("trainings", "items"), [(0.02, 0.2), (0.1, 0.02), (0.0, 0.3)])
def test_no_effect_is_shown_in_at_most_five_percent_of_ablations_without_one(trainings: float, items: float) -> None:
    assert shown(shift=0, trainings=trainings, items=items) <= 0.05 + 0.025  # two standard errors of 300 trials


def test_the_detectable_difference_is_found_with_the_power_that_is_named() -> None:
    rng = np.random.default_rng(1)
    named = np.median([effect(metric(rng), NAMES, "second", "first").minimum_detectable for _ in range(50)])
    assert 0.7 <= shown(shift=float(named), trainings=0.02, items=0.2) <= 0.95


def test_more_items_do_not_hide_the_noise_of_trainings() -> None:
    rng = np.random.default_rng(2)
    few, many = (effect(metric(rng, trainings=0.1, count=n), NAMES, "second", "first") for n in (40, 4000))
    assert many.standard_error_of_items < few.standard_error_of_items / 5
    assert many.high - many.low > 4 * many.standard_error_of_trainings


def test_a_lower_loss_helps_and_a_lower_accuracy_hurts() -> None:
    rng = np.random.default_rng(3)
    assert effect(metric(rng, -1.0), NAMES, "second", "first").verdict == "shown to help"
    assert effect(metric(rng, -1.0, lower=False), NAMES, "second", "first").verdict == "shown to hurt"


def test_an_arm_helps_only_if_it_is_better_than_its_random_control_too() -> None:
    rng = np.random.default_rng(4)
    lone = metric(rng, -0.5)
    both = arms("recipe", "recipe", "random")
    assert conclude(effects(lone, both), both)[0].verdict == "shown to help"
    as_good = lone._replace(values=lone.values.copy())
    as_good.values[2] -= 0.5  # the control gains as much: fewer rows of any kind would do
    (conclusion,) = conclude(effects(as_good, both), both)
    assert conclusion.verdict == "not shown to help"
    assert "better than first" in conclusion.reason
    assert "not shown to differ from second: random" in conclusion.reason


def test_p_values_are_adjusted_for_the_comparisons_of_recipes_alone() -> None:
    found: list[Effect] = effects(metric(np.random.default_rng(5), -0.02), arms("recipe", "recipe", "random"))
    by_pair = {(one.arm, one.against): one for one in found}
    assert by_pair["second: random", "first"].adjusted_p_value is None
    tested = [by_pair["second", "first"], by_pair["second", "second: random"]]
    assert all(one.adjusted_p_value is not None and one.adjusted_p_value >= one.p_value for one in tested)


def test_every_group_counts_equally_and_within_it_every_byte() -> None:
    weights = mean_weights([1, 3, 10], ["a", "a", "b"])
    assert weights.tolist() == [0.125, 0.375, 0.5]


def test_one_training_of_an_arm_is_refused_because_its_noise_is_unknown() -> None:
    one = metric(np.random.default_rng(6))
    with pytest.raises(WinnowError, match="two seeds"):
        effect(one._replace(values=one.values[:, :1]), NAMES, "second", "first")


def test_changes_name_the_stages_that_differ() -> None:
    first = {"name": "a", "stages": [{"kind": "loop"}, {"kind": "echo"}], "seed": 0}
    other = {"name": "b", "stages": [{"kind": "loop"}, {"kind": "score", "name": "education"}], "seed": 1}
    assert changes(first, other) == ("+ score education", "- echo", "seed: 1")


def test_equal_values_do_not_claim_that_any_difference_could_be_found() -> None:
    nothing = metric(np.random.default_rng(7))._replace(values=np.zeros((3, SEEDS, ITEMS)))
    found = effect(nothing, NAMES, "second", "first")
    assert found.minimum_detectable is None and found.verdict == "not shown to help"
