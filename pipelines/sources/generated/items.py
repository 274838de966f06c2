"""The test items of the generated benchmark: held-out problems of the families that training rows are drawn from."""

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
"""Item n is of family n modulo 20; half of them are of the two families that are learnt first."""

LEAK_EVERY = 10
"""One item in so many is leaked into the training rows."""

LEAKED_AMONG = 300
"""The items that leaks are taken from: as many as the benchmark has by default."""

SEED = 0
"""An evaluation set is the same whatever the seed of the corpus, so leaks are always of the items of this seed."""


class Item(NamedTuple):
    """A test item; `family` is its split in the benchmark."""

    family: str
    question: str
    answer: str


def item(number: int, seed: int = SEED) -> Item:
    """Item `number` of the benchmark."""
    family, draw = FAMILIES[number % len(FAMILIES)]
    problem = draw_where(draw, Dice("item", seed, number), held=True)
    return Item(family, problem.question, problem.answer)


def is_leaked(number: int) -> bool:
    """Whether the training rows may hold item `number`."""
    return number < LEAKED_AMONG and number // len(FAMILIES) % LEAK_EVERY == number % LEAK_EVERY


def leaked(dice: Dice) -> Item:
    """One of the leaked items."""
    return item(dice.pick(_LEAKED))


_LEAKED = tuple(number for number in range(LEAKED_AMONG) if is_leaked(number))
