"""Word problems of one or two steps.

Any dozen words of a problem contain several names or numbers. So two problems from the same template have no long n-gram
in common, and few shingles.
"""

# ruff: noqa: E501 - a sentence is easier to read on one line

from __future__ import annotations

from typing import NamedTuple

from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.names import NAMES, PLACES, THINGS
from pipelines.sources.generated.problem import Problem, Row, draw_where, row_of


class Story(NamedTuple):
    """A template of question and steps. Blanks: {n} {m} people, {t} {u} things, {p} a place, {a} {b} {c} {r} numbers."""

    question: str
    steps: str


SUM = (
    Story(
        "{n} found {a} {t} {p} and {m} gave {n} another {b} {t}. How many {t} does {n} have now?",
        "{n} has {a} + {b} = {r} {t}.",
    ),
    Story(
        "There were {a} {t} {p}. Then {n} and {m} brought {b} more {t}. How many {t} are {p} in the end?",
        "Together that is {a} + {b} = {r} {t}.",
    ),
    Story(
        "{n} sold {a} {t} {p} on Monday and {b} {u} on Tuesday. How many things did {n} sell to {m} and the others?",
        "In total {n} sold {a} + {b} = {r} things.",
    ),
    Story(
        "{n} counts {a} {t} and {b} {u} {p}. {m} wants to know how many things {n} has counted altogether.",
        "We add both counts: {a} + {b} = {r}.",
    ),
    Story(
        "{m} carried {a} {t} home, and {n}, who started {p}, carried {b} {t}. How many {t} did {m} and {n} carry together?",
        "{a} + {b} = {r} {t} were carried.",
    ),
    Story(
        "After lunch {n} made {a} {t} for {m} and later {b} {t} for friends {p}. How many {t} did {n} make that day?",
        "For {m} and the friends {n} made {a} + {b} = {r} {t}.",
    ),
)
DIFFERENCE = (
    Story(
        "{n} had {a} {t} {p} and gave {b} of the {t} to {m}. How many {t} does {n} still have?",
        "{a} - {b} = {r}, so {n} has {r} {t} left.",
    ),
    Story(
        "A box {p} held {a} {t}. {n} took out {b} {t} for {m}. How many {t} are left in the box {p}?",
        "We take the {b} {t} away: {a} - {b} = {r}.",
    ),
    Story(
        "{n} owns {a} {t}, and {m} owns {b} {t} and keeps them {p}. How many more {t} does {n} own than {m}?",
        "The difference is {a} - {b} = {r}.",
    ),
    Story(
        "{n} wants to collect {a} {t} {p} and has {b} {t} so far. How many {t} must {m} still bring to {n}?",
        "{n} needs {a} - {b} = {r} more {t}.",
    ),
    Story(
        "Of the {a} {t} {p}, {n} found that {b} {t} were broken. How many good {t} can {n} pass on to {m}?",
        "Without the broken ones there are {a} - {b} = {r} {t}.",
    ),
)
PRODUCT = (
    Story(
        "{n} packs {a} bags {p} with {b} {t} in each bag for {m}. How many {t} does {n} pack?",
        "{a} bags with {b} {t} each make {a} * {b} = {r} {t}.",
    ),
    Story(
        "There are {a} shelves {p}, and {n} puts {b} {t} on each shelf while {m} watches. How many {t} are on the shelves?",
        "{a} * {b} = {r} {t} are on the shelves.",
    ),
    Story(
        "{n} buys {a} {t} {p} that cost {b} dollars each. How many dollars does {n} have to ask {m} for?",
        "The price is {a} * {b} = {r} dollars.",
    ),
    Story(
        "{m} walks {b} kilometres a day with {n}. How many kilometres have {m} and {n} walked {p} after {a} days?",
        "In {a} days they walk {a} * {b} = {r} kilometres.",
    ),
)
SHARE = (
    Story(
        "{n} shares {a} {t} equally among {b} children {p}. How many {t} does {m}, one of the children, get?",
        "{a} / {b} = {r}, so each child gets {r} {t}.",
    ),
    Story(
        "{n} and {m} put {a} {t} {p} into {b} equal rows. How many {t} are there in each row?",
        "Each row has {a} / {b} = {r} {t}.",
    ),
    Story(
        "{b} {t} fit into one box. How many boxes does {n} need {p} for the {a} {t} that {m} brought?",
        "{n} needs {a} / {b} = {r} boxes.",
    ),
)
MORE = (
    Story(
        "{n} has {a} {t} {p} and {m} has {b} {t}. Who has more {t}, {n} or {m}?",
        "{n} has {a} and {m} has {b}, and {hi} > {lo}.",
    ),
    Story(
        "{p2}, {n} scored {a} points with {t} and {m} scored {b} points with {u}. Which of the two won, {n} or {m}?",
        "{n} has {a} points, {m} has {b}, and {hi} > {lo}.",
    ),
    Story(
        "{n} pays {a} dollars for {t} {p}, and {m} pays {b} dollars for {u}. Who pays more, {n} or {m}?",
        "{n} pays {a}, {m} pays {b}, and {hi} > {lo}.",
    ),
    Story(
        "{n} is {a} years old and collects {t}, {m} is {b} and collects {u}. Who is older, {n} or {m}?",
        "{n} is {a} and {m} is {b}, and {hi} > {lo}.",
    ),
)
WHETHER = (
    Story(
        "{n} has {a} {t} {p} and {m} has {b} {t}. Does {n} have more {t} than {m}?",
        "{n} has {a} and {m} has {b}, and {hi} > {lo}.",
    ),
    Story(
        "{n} ran {a} metres and {m} ran {b} metres {p}. Did {n} run farther than {m}?",
        "{n} ran {a} and {m} ran {b}, and {hi} > {lo}.",
    ),
    Story(
        "{n} sold {b} {u} {p} and {m} needs {a} {u}. Does {m} need more {u} than {n} sold?",
        "{m} needs {a}, {n} sold {b}, and {hi} > {lo}.",
    ),
    Story(
        "{m} paid {b} dollars {p} for {u}, and {n} paid {a} dollars for {t}. Were the {t} of {n} dearer than the {u} of {m}?",
        "The {t} cost {a}, the {u} cost {b}, and {hi} > {lo}.",
    ),
)
RENAME = (
    Story(
        "{n} keeps {a} {t} {p}, while {m} keeps {b} {u}. How many {t} does {n} keep?",
        "The {b} {u} belong to {m}, and {n} keeps {a} {t}.",
    ),
    Story(
        "{m} brought {b} {u} {p}. {n} brought nothing but {a} {t}. What number of {t} was brought by {n}?",
        "{n} brought {a} {t}.",
    ),
    Story(
        "On the list {p} stand {a} {t} for {n} and {b} {u} for {m}. How many {t} is {n} supposed to get?",
        "The list gives {n} {a} {t}.",
    ),
)
TWO_STEPS = (
    Story(
        "{n} has {a} {t}, buys {b} more {t} {p} and then gives {c} {t} to {m}. How many {t} does {n} have at last?",
        "First {a} + {b} = {s}. Then {s} - {c} = {r}.",
    ),
    Story(
        "{n} picked {a} {t} and {m} picked {b} {t} {p}. They sold {c} of the {t}. How many {t} do {n} and {m} have left?",
        "Together they picked {a} + {b} = {s} {t}. After the sale {s} - {c} = {r} are left.",
    ),
    Story(
        "A bus leaves with {a} people, and {b} people get on {p}. {c} people get off with {n} and {m} staying. How many people are on the bus?",
        "{a} + {b} = {s} people, and {s} - {c} = {r} stay.",
    ),
)
OPENINGS = (
    "",
    "",
    "",
    "One morning, ",
    "On a rainy day, ",
    "Last summer, ",
    "During the holidays, ",
    "Before dinner, ",
    "At the weekend, ",
)


def draw(dice: Dice) -> Problem:
    """A problem, held out or not."""
    kind = dice.below(100)
    n, m = dice.sample(NAMES, 2)
    t, u = dice.sample(THINGS, 2)
    place = dice.pick(PLACES)
    words: dict[str, str | int] = {"n": n, "m": m, "t": t, "u": u, "p": place, "p2": place.capitalize()}
    a = b = c = 0
    stories: tuple[Story, ...]
    if kind < 20:
        stories, name = SUM, "sum"
        high = dice.pick((10, 30, 60))
        a, b = dice.between(2, high), dice.between(2, high)
        result = a + b
    elif kind < 34:
        stories, name = DIFFERENCE, "difference"
        b, result = dice.between(2, 40), dice.between(2, 40)
        a = b + result
    elif kind < 40:
        stories, name = PRODUCT, "product"
        a, b = dice.between(2, 25), dice.between(2, 12)
        result = a * b
    elif kind < 45:
        stories, name = SHARE, "share"
        b, result = dice.between(2, 12), dice.between(2, 25)
        a = b * result
    elif kind < 80:
        stories, name = (MORE, "who") if kind < 58 else (WHETHER, "whether")
        a, b, result = dice.between(2, 99), dice.between(2, 99), 0
        b += a == b
        words |= {"hi": max(a, b), "lo": min(a, b)}
    elif kind < 92:
        stories, name = RENAME, "which"
        a, b = dice.between(2, 99), dice.between(2, 99)
        result = a
    else:
        stories, name = TWO_STEPS, "two_steps"
        a, b = dice.between(2, 40), dice.between(2, 40)
        c = dice.between(1, a + b - 1)
        words["s"], result = a + b, a + b - c
    answer = str(result)
    if name == "who":
        answer = n if a > b else m
    elif name == "whether":
        answer = "yes" if a > b else "no"
    words |= {"a": a, "b": b, "c": c, "r": result}
    story = dice.pick(stories)
    question = story.question.format_map(words)
    opening = dice.pick(OPENINGS)
    if opening and question.startswith((n, m)):
        question = opening + question
    # The keys of arithmetic.py, so that the steps of a story never contain a held-out sum.
    key = (name, a, b) if name in ("difference", "product", "share") else (name, min(a, b), max(a, b))
    return Problem(key, question, story.steps.format_map(words), answer)


def row(dice: Dice) -> Row:
    """A training row without a defect."""
    return row_of(draw_where(draw, dice, held_out=False), dice, cot_percent=35)
