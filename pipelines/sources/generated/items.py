"""The items of the generated benchmark: held-out problems of the families that training rows are drawn from."""

from __future__ import annotations

from typing import NamedTuple

from pipelines.sources.generated import arithmetic, dates, kinds, numbers, units, word_problems, words
from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.problem import draw_where

FAMILIES = (
    ("word_problems", word_problems.draw),
    ("kinds", kinds.draw),
    ("word_problems", word_problems.draw),
    ("numbers", numbers.draw),
    ("units", units.draw),
    ("kinds", kinds.draw),
    ("word_problems", word_problems.draw),
    ("numbers", numbers.draw),
    ("words", words.draw),
    ("arithmetic", arithmetic.draw),
    ("word_problems", word_problems.draw),
    ("kinds", kinds.draw),
    ("word_problems", word_problems.draw),
    ("numbers", numbers.draw),
    ("dates", dates.draw),
    ("kinds", kinds.draw),
    ("word_problems", word_problems.draw),
    ("numbers", numbers.draw),
    ("kinds", kinds.draw),
    ("arithmetic", arithmetic.draw),
)
"""Item n is of family n modulo 20. Half of the items are of the two families that a model learns first."""

LEAK_EVERY = 10
"""One item in this many is leaked into the training rows."""

LEAKS_FROM_FIRST = 300
"""Leaks are taken from this many first items: as many as the benchmark has by default."""

SEED = 0
"""The seed of the items that are leaked. It does not depend on the seed of the corpus: an evaluation set is fixed."""


class GeneratedItem(NamedTuple):
    """An item of the benchmark; `family` is its split."""

    family: str
    question: str
    answer: str


def item(number: int, seed: int = SEED) -> GeneratedItem:
    """Item `number` of the benchmark."""
    family, draw = FAMILIES[number % len(FAMILIES)]
    problem = draw_where(draw, Dice("item", seed, number), held_out=True)
    return GeneratedItem(family, problem.question, problem.answer)


def is_leaked(number: int) -> bool:
    """Whether item `number` is leaked into the training rows."""
    return number < LEAKS_FROM_FIRST and number // len(FAMILIES) % LEAK_EVERY == number % LEAK_EVERY


def leaked(dice: Dice) -> GeneratedItem:
    """One of the leaked items."""
    return item(dice.pick(_LEAKED))


_LEAKED = tuple(number for number in range(LEAKS_FROM_FIRST) if is_leaked(number))
