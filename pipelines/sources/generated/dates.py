"""Days, months, years and the clock."""

# ruff: noqa: E501 - a sentence is easier to read on one line

from __future__ import annotations

import datetime

from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.names import MONTHS, NAMES, PLACES, WEEKDAYS
from pipelines.sources.generated.problem import Problem, Row, draw_where, row_of

LATER = (
    "What day of the week is {k} days after {day}?",
    "Today is {day}. Which weekday will it be in {k} days?",
    "If it is {day} now, what day comes {k} days later?",
    "{name} met {other} {place} on a {day}. They want to meet again {k} days later. On which day of the week will {name} see {other}?",
    "The parcel that {name} sent to {other} left on {day} and needs {k} days. On which weekday can {other} pick it up {place}?",
)
EARLIER = (
    "What day of the week was {k} days before {day}?",
    "Today is {day}. Which weekday was it {k} days ago?",
    "{name} saw {other} {place} on a {day}. The letter from {other} had come {k} days before. On which weekday did the letter reach {name}?",
)
DATE = (
    "What date is {k} days after {d} {month} {year}? Write it as YYYY-MM-DD.",
    "Add {k} days to {d} {month} {year} and give the date as YYYY-MM-DD.",
    "{name} borrowed a book {place} on {d} {month} {year} for {k} days. When does {name} have to return it? Answer as YYYY-MM-DD.",
)
ISO = (
    "Write {d} {month} {year} as YYYY-MM-DD.",
    "Give the date {month} {d}, {year} in the form YYYY-MM-DD.",
    "{name} was born on {d} {month} {year} and the form {place} asks for YYYY-MM-DD. What should {name} write?",
)
MONTH = (
    "Which month comes {k} months after {month}?",
    "It is {month} now. Which month will it be {k} months from today?",
    "{name} planted a tree with {other} {place} in {month}. {k} months later {name} came back. In which month did {name} come back?",
)
CLOCK = (
    "It is {h}:{m:02d}. What time will it be in {k} hours? Use the 24-hour clock.",
    "A film starts at {h}:{m:02d} and lasts {k} hours. When does it end on the 24-hour clock?",
    "{name} left the house {place} at {h}:{m:02d} and walked for {k} hours to see {other}. At what time on the 24-hour clock did {name} arrive?",
)
LEAP = (
    "Was {year} a leap year?",
    "Is the year {year} a leap year? Answer yes or no.",
    "Does February {year} have 29 days?",
)


def draw(dice: Dice) -> Problem:
    """A problem, held out or not."""
    kind = dice.below(100)
    name, other = dice.sample(NAMES, 2)
    place = dice.pick(PLACES)
    if kind < 34:
        later, first, k = kind < 22, dice.below(7), dice.between(1, 20)
        day, answer = WEEKDAYS[first], WEEKDAYS[(first + (k if later else -k)) % 7]
        question = dice.pick(LATER if later else EARLIER).format(k=k, day=day, name=name, other=other, place=place)
        steps = f"{k} is {k // 7} * 7 + {k % 7}, so we go {'on' if later else 'back'} by {k % 7} from {day} and reach {answer}."
        return Problem(("later" if later else "earlier", first, k), question, steps, answer)
    if kind < 62:
        date = datetime.date(1950, 1, 1) + datetime.timedelta(days=dice.below(36_000))
        k = dice.between(2, 40) if kind < 46 else 0
        end = date + datetime.timedelta(days=k)
        words = {
            "d": date.day,
            "month": MONTHS[date.month - 1],
            "year": date.year,
            "k": k,
            "name": name,
            "place": place,
        }
        steps = f"{date.day} {words['month']} {date.year} is {date}" + (
            f", and {k} days later it is {end}." if k else "."
        )
        return Problem(("date", str(date), k), dice.pick(DATE if k else ISO).format_map(words), steps, str(end))
    if kind < 76:
        first, k = dice.below(12), dice.between(2, 24)
        month, answer = MONTHS[first], MONTHS[(first + k) % 12]
        question = dice.pick(MONTH).format(k=k, month=month, name=name, other=other, place=place)
        return Problem(("month", first, k), question, f"Counting {k} months on from {month} gives {answer}.", answer)
    if kind < 90:
        hour, minute, k = dice.between(5, 14), 5 * dice.below(12), dice.between(2, 9)
        question = dice.pick(CLOCK).format(h=hour, m=minute, k=k, name=name, other=other, place=place)
        answer = f"{hour + k}:{minute:02d}"
        return Problem(
            ("clock", hour, minute, k),
            question,
            f"{hour} + {k} = {hour + k}, and the minutes stay, so it is {answer}.",
            answer,
        )
    year = dice.between(1601, 2399)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    fact = "is" if year % 4 == 0 else "is not"
    steps = f"{year} {fact} divisible by 4" + (
        f", and century years must be divisible by 400, which {year} {'is' if leap else 'is not'}."
        if year % 100 == 0
        else "."
    )
    return Problem(("leap", year), dice.pick(LEAP).format(year=year), steps, "yes" if leap else "no")


def row(dice: Dice) -> Row:
    """A training row without a defect."""
    return row_of(draw_where(draw, dice, held_out=False), dice, cot_percent=20)
