"""Arithmetic in one line: sums, differences, products, missing numbers.

No wording is part of another one: a short test item can only match a row that asks the same.
"""

from __future__ import annotations

from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.problem import Problem, Row, draw_where, row_of

SUM = (
    "What is {a} + {b}?",
    "Calculate {a} + {b}.",
    "Add {a} and {b}.",
    "{a} + {b} = ?",
    "Find the sum of {a} and {b}.",
    "What do you get when you add {b} to {a}?",
    "Work out {a} plus {b}.",
    "How much is {a} plus {b} altogether?",
)
DIFFERENCE = (
    "What is {a} - {b}?",
    "Calculate {a} - {b}.",
    "Subtract {b} from {a}.",
    "{a} - {b} = ?",
    "How much is {a} minus {b}?",
    "Take {b} away from {a}. What is left?",
    "Find the difference between {a} and {b}.",
)
PRODUCT = (
    "What is {a} * {b}?",
    "Calculate {a} * {b}.",
    "Multiply {a} by {b}.",
    "{a} * {b} = ?",
    "What is {a} times {b}?",
    "Find the product of {a} and {b}.",
)
MISSING = (
    "Which number is missing? {a} + ? = {c}",
    "{a} plus what makes {c}?",
    "Fill in the gap: {a} + __ = {c}",
    "What must be added to {a} to get {c}?",
)


def draw(dice: Dice) -> Problem:
    """A problem, held out or not."""
    kind = dice.below(100)
    if kind < 40:
        high = dice.pick((9, 20, 60))
        a, b = dice.between(1, high), dice.between(1, high)
        answer = str(a + b)
        steps = f"We add the two numbers: {a} + {b} = {answer}."
        return Problem(("sum", min(a, b), max(a, b)), dice.pick(SUM).format(a=a, b=b), steps, answer)
    if kind < 68:
        high = dice.pick((12, 30, 90))
        b, rest = dice.between(1, high), dice.between(1, high)
        a = b + rest
        steps = f"We take {b} from {a}: {a} - {b} = {rest}."
        return Problem(("difference", a, b), dice.pick(DIFFERENCE).format(a=a, b=b), steps, str(rest))
    if kind < 88:
        a, b = dice.between(2, 30), dice.between(2, 10)
        answer = str(a * b)
        return Problem(
            ("product", a, b), dice.pick(PRODUCT).format(a=a, b=b), f"We multiply: {a} * {b} = {answer}.", answer
        )
    a, b = dice.between(1, 40), dice.between(1, 40)
    steps = f"{a + b} - {a} = {b}, so {a} + {b} = {a + b}."
    return Problem(("missing", a, a + b), dice.pick(MISSING).format(a=a, c=a + b), steps, str(b))


def row(dice: Dice) -> Row:
    """A training row without a defect."""
    return row_of(draw_where(draw, dice, held_out=False), dice, cot_percent=12)
