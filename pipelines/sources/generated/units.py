"""Unit conversions, most of them by powers of ten, in short questions and in questions of a sentence or two."""

# ruff: noqa: E501 - a sentence is easier to read on one line

from __future__ import annotations

from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.names import NAMES, PLACES
from pipelines.sources.generated.problem import Problem, Row, draw_where, row_of

UNITS = (
    ("metre", "centimetre", 100),
    ("kilometre", "metre", 1000),
    ("kilogram", "gram", 1000),
    ("centimetre", "millimetre", 10),
    ("litre", "millilitre", 1000),
    ("dollar", "cent", 100),
    ("tonne", "kilogram", 1000),
    ("decade", "year", 10),
    ("century", "year", 100),
    ("hour", "minute", 60),
    ("minute", "second", 60),
    ("day", "hour", 24),
    ("week", "day", 7),
    ("year", "month", 12),
)
"""(large unit, small unit, small units in a large one)."""

SHORT = (
    "Convert {n} {x} to {y}.",
    "How many {y} are there in {n} {x}?",
    "Express {n} {x} in {y}.",
    "{n} {x} = ? {y}",
    "Write {n} {x} as a number of {y}.",
    "Turn {n} {x} into {y}.",
)
LONG = (
    "{name} wrote down {n} {x} in the notebook {place}, but {other} wants to see {y}. How many {y} should {name} write instead?",
    "The label {place} says {n} {x}. {name} would rather know it in {y} before {other} asks. What number of {y} is that?",
    "{name} and {other} measured {n} {x} {place}. The form asks for {y}, so how many {y} do {name} and {other} have to fill in?",
    "For the project {place}, {name} needs {n} {x} in all. The shop that {other} found counts in {y}. How many {y} must {name} order?",
    "{other} told {name} that it was exactly {n} {x}, as shown {place}. Say the same for {name} in {y}: how many {y} are {n} {x}?",
)


def _plural(unit: str) -> str:
    return "centuries" if unit == "century" else unit + "s"


def draw(dice: Dice) -> Problem:
    """A problem, held out or not."""
    large, small, factor = dice.pick(UNITS[:9] if dice.chance(75) else UNITS)
    count = dice.between(2, 60 if factor % 10 == 0 else 20)
    down = dice.chance(70)
    x, y = (large, small) if down else (small, large)
    n, answer = (count, count * factor) if down else (count * factor, count)
    operation = f"{n} {'*' if down else '/'} {factor} = {answer}."
    steps = (
        f"One {large} is {factor} {_plural(small)}, so we {'multiply' if down else 'divide'} by {factor}: {operation}"
    )
    x, y = _plural(x), _plural(y)
    name, other = dice.sample(NAMES, 2)
    question = dice.pick(SHORT if dice.chance(55) else LONG).format(
        n=n, x=x, y=y, name=name, other=other, place=dice.pick(PLACES)
    )
    return Problem((x, y, n), question, steps, str(answer))


def row(dice: Dice) -> Row:
    """A training row without a defect."""
    return row_of(draw_where(draw, dice, held_out=False), dice, cot_percent=15)
