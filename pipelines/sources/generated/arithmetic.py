"""Arithmetic in one line: sums, differences, products, comparisons, parity, neighbours, missing numbers.

Half of it is easy enough for a model of a million parameters to learn within a minute (copying, comparing, small sums).
No wording begins or ends inside another one, so that a short test item can only match a row that asks just that.
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
MISSING = (
    "Which number is missing? {a} + ? = {c}",
    "{a} plus what makes {c}?",
    "Fill in the gap: {a} + __ = {c}",
    "What must be added to {a} to get {c}?",
)


def draw(dice: Dice) -> Problem:
    """One problem, from either side of the held-out line."""
    kind = dice.below(100)
    if kind < 14:
        high = dice.pick((9, 20, 60))
        a, b = dice.between(1, high), dice.between(1, high)
        answer = str(a + b)
        steps = f"We add the two numbers: {a} + {b} = {answer}."
        return Problem(("sum", min(a, b), max(a, b)), dice.pick(SUM).format(a=a, b=b), steps, answer)
    if kind < 20:
        high = dice.pick((12, 30, 90))
        b, rest = dice.between(1, high), dice.between(1, high)
        a = b + rest
        steps = f"We take {b} from {a}: {a} - {b} = {rest}."
        return Problem(("difference", a, b), dice.pick(DIFFERENCE).format(a=a, b=b), steps, str(rest))
    if kind < 24:
        a, b = dice.between(2, 30), dice.between(2, 10)
        answer = str(a * b)
        return Problem(
            ("product", a, b), dice.pick(PRODUCT).format(a=a, b=b), f"We multiply: {a} * {b} = {answer}.", answer
        )
    if kind < 58:
        high = dice.pick((99, 99, 999))
        a, b = dice.between(1, high), dice.between(1, high)
        b += a == b
        large, small = max(a, b), min(a, b)
        key = ("compare", small, large)
        if kind < 48:
            answer, sign = ("yes", ">") if a > b else ("no", "<")
            return Problem(key, dice.pick(WHETHER).format(a=a, b=b), f"{a} {sign} {b}.", answer)
        if kind < 54:
            steps = f"Since {large} > {small}, the larger one is {large}."
            return Problem(key, dice.pick(LARGER).format(a=a, b=b), steps, str(large))
        steps = f"Since {small} < {large}, the smaller one is {small}."
        return Problem(key, dice.pick(SMALLER).format(a=a, b=b), steps, str(small))
    if kind < 80:
        a = dice.between(1, 999)
        answer = "odd" if a % 2 else "even"
        steps = f"The last digit of {a} is {a % 10}, which is {answer}."
        return Problem(("parity", a), dice.pick(PARITY).format(a=a), steps, answer)
    if kind < 90:
        a = dice.between(100, 999)
        return Problem(("last_digit", a), dice.pick(LAST_DIGIT).format(a=a), f"{a} ends with {a % 10}.", str(a % 10))
    if kind < 96:
        a, up = dice.between(1, 999), dice.chance(60)
        b = a + 1 if up else a - 1
        steps = f"{a} {'+' if up else '-'} 1 = {b}."
        return Problem(("after" if up else "before", a), dice.pick(AFTER if up else BEFORE).format(a=a), steps, str(b))
    a, b = dice.between(1, 40), dice.between(1, 40)
    steps = f"{a + b} - {a} = {b}, so {a} + {b} = {a + b}."
    return Problem(("missing", a, a + b), dice.pick(MISSING).format(a=a, c=a + b), steps, str(b))


def row(dice: Dice) -> Row:
    """A clean training row."""
    return row_of(draw_where(draw, dice, held=False), dice, cot_percent=12)
