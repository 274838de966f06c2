"""Questions about whole numbers: which is larger, even or odd, what comes next, the last digit.

Nothing has to be calculated, so a small model learns this before arithmetic. As there, no wording is part of another.
"""

from __future__ import annotations

from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.problem import Problem, Row, draw_where, row_of

LARGER = (
    "Which is larger, {a} or {b}?",
    "Which number is greater: {a} or {b}?",
    "Write down the larger of {a} and {b}.",
    "Out of {a} and {b}, name the bigger number.",
    "Of the two numbers {a} and {b}, which one is the greater one?",
)
SMALLER = (
    "Which is smaller, {a} or {b}?",
    "Which number is less: {a} or {b}?",
    "Write down the smaller of {a} and {b}.",
    "Out of {a} and {b}, name the lesser number.",
    "Of the two numbers {a} and {b}, which one is the smaller one?",
)
WHETHER = (
    "Is {a} greater than {b}?",
    "Is {a} more than {b}? Answer yes or no.",
    "Yes or no: {a} > {b}",
    "Would you say that {a} is larger than {b}?",
)
LAST_DIGIT = (
    "What is the last digit of {a}?",
    "Which digit does {a} end with?",
    "Give the ones digit of {a}.",
)
PARITY = (
    "Is {a} even or odd?",
    "Is the number {a} odd or even?",
    "Say whether {a} is even or odd.",
    "Even or odd: {a}",
    "Would you call {a} an even number or an odd number?",
)
AFTER = (
    "What number comes right after {a}?",
    "Which whole number follows {a}?",
    "Counting up by one, what comes after {a}?",
    "Name the next whole number after {a}.",
)
BEFORE = (
    "What number comes right before {a}?",
    "Which whole number precedes {a}?",
    "Counting down by one, what comes after {a}?",
    "Name the whole number just before {a}.",
)


def draw(dice: Dice) -> Problem:
    """A problem, held out or not."""
    kind = dice.below(100)
    if kind < 45:
        a, b = dice.between(1, 99), dice.between(1, 99)
        b += a == b
        large, small = max(a, b), min(a, b)
        key = ("compare", small, large)
        if kind < 28:
            answer, sign = ("yes", ">") if a > b else ("no", "<")
            return Problem(key, dice.pick(WHETHER).format(a=a, b=b), f"{a} {sign} {b}.", answer)
        if kind < 37:
            steps = f"Since {large} > {small}, the larger one is {large}."
            return Problem(key, dice.pick(LARGER).format(a=a, b=b), steps, str(large))
        steps = f"Since {small} < {large}, the smaller one is {small}."
        return Problem(key, dice.pick(SMALLER).format(a=a, b=b), steps, str(small))
    if kind < 72:
        a = dice.between(1, 1999)
        answer = "odd" if a % 2 else "even"
        steps = f"The last digit of {a} is {a % 10}, which is {answer}."
        return Problem(("parity", a), dice.pick(PARITY).format(a=a), steps, answer)
    if kind < 88:
        a = dice.between(100, 1999)
        return Problem(("last_digit", a), dice.pick(LAST_DIGIT).format(a=a), f"{a} ends with {a % 10}.", str(a % 10))
    a, up = dice.between(1, 999), dice.chance(60)
    b = a + 1 if up else a - 1
    steps = f"{a} {'+' if up else '-'} 1 = {b}."
    return Problem(("after" if up else "before", a), dice.pick(AFTER if up else BEFORE).format(a=a), steps, str(b))


def row(dice: Dice) -> Row:
    """A training row without a defect."""
    return row_of(draw_where(draw, dice, held_out=False), dice, cot_percent=8)
