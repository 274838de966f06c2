"""Words and lists: reverse, sort, count, pick. Most of it is copying, which small models learn first."""

from __future__ import annotations

from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.names import NAMES, PLACES, WORDS
from pipelines.sources.generated.problem import Problem, Row, draw_where, row_of

REVERSE = ("Reverse the word {w}.", "Spell {w} backwards.", "Write the letters of {w} in reverse order.")
FIRST = (
    "What is the first letter of {w}?",
    "Which letter does the word {w} begin with?",
    "Give only the first letter of {w}.",
)
LAST = (
    "What is the last letter of {w}?",
    "Which letter does the word {w} end with?",
    "Give only the last letter of {w}.",
)
LENGTH = (
    "How many letters does the word {w} have?",
    "Count the letters in {w}.",
    "How long is the word {w}, in letters?",
)
COUNT = (
    "How many times does the letter {c} appear in {w}?",
    "Count the letter {c} in the word {w}.",
    "How often can you find {c} in {w}?",
)
SORT = (
    "Sort these words alphabetically: {l}.",
    "Put the words {l} in alphabetical order.",
    "{name} wrote the words {l} on the board {place}. Write them again in alphabetical order, separated by commas.",
)
SORT_NUMBERS = (
    "Sort from smallest to largest: {l}.",
    "Put these numbers in ascending order: {l}.",
    "{name} read out the numbers {l} {place}. Write them for {other} in ascending order, separated by commas.",
)
LARGEST = (
    "What is the largest number in this list: {l}?",
    "Which of the numbers {l} is the greatest?",
    "The scores that {name} and {other} noted {place} were {l}. Which of these scores was the highest one?",
)
PICK_FIRST = (
    "What is the first item of the list {l}?",
    "Which word comes first in {l}?",
    "{name} packed {l} for the trip with {other}, in just this order. What did {name} pack first of all {place}?",
)
PICK_LAST = (
    "What is the last item of the list {l}?",
    "Which word comes last in {l}?",
    "{name} bought {l} for {other}, in just this order. What was the last thing that {name} bought {place}?",
)


def draw(dice: Dice) -> Problem:
    """A problem, held out or not."""
    kind = dice.below(100)
    name, other = dice.sample(NAMES, 2)
    place = dice.pick(PLACES)
    if kind < 40:
        word = dice.pick(WORDS)
        if kind < 10:
            letters = " ".join(word)
            return Problem(
                ("reverse", word),
                dice.pick(REVERSE).format(w=word),
                f"The letters are {letters}, read from the end.",
                word[::-1],
            )
        if kind < 17:
            return Problem(("first", word), dice.pick(FIRST).format(w=word), f"{word} begins with {word[0]}.", word[0])
        if kind < 24:
            return Problem(("last", word), dice.pick(LAST).format(w=word), f"{word} ends with {word[-1]}.", word[-1])
        if kind < 30:
            answer = str(len(word))
            return Problem(
                ("length", word),
                dice.pick(LENGTH).format(w=word),
                f"The letters are {' '.join(word)}, {answer} in all.",
                answer,
            )
        letter = dice.pick(word) if dice.chance(85) else dice.pick("aeiou")
        answer = str(word.count(letter))
        return Problem(
            ("count", word, letter),
            dice.pick(COUNT).format(w=word, c=letter),
            f"Spelled out: {' '.join(word)}.",
            answer,
        )
    if kind < 65:
        numbers = dice.sample(range(1, 100), dice.between(3, 5))
        listed = ", ".join(map(str, numbers))
        if kind < 52:
            question = dice.pick(SORT_NUMBERS).format(l=listed, name=name, other=other, place=place)
            answer = ", ".join(map(str, sorted(numbers)))
            return Problem(
                ("sort_numbers", *numbers),
                question,
                f"The smallest is {min(numbers)} and the largest is {max(numbers)}.",
                answer,
            )
        question = dice.pick(LARGEST).format(l=listed, name=name, other=other, place=place)
        return Problem(
            ("largest", *numbers), question, f"Comparing {listed}, none is above {max(numbers)}.", str(max(numbers))
        )
    words = dice.sample(WORDS, dice.between(3, 5))
    listed = ", ".join(words)
    if kind < 76:
        answer = ", ".join(sorted(words))
        return Problem(
            ("sort", *words),
            dice.pick(SORT).format(l=listed, name=name, place=place),
            f"{min(words)} comes first.",
            answer,
        )
    first = kind < 88
    answer = words[0] if first else words[-1]
    question = dice.pick(PICK_FIRST if first else PICK_LAST).format(l=listed, name=name, other=other, place=place)
    return Problem(("first_of" if first else "last_of", *words), question, f"The list is {listed}.", answer)


def row(dice: Dice) -> Row:
    """A training row without a defect."""
    return row_of(draw_where(draw, dice, held_out=False), dice, cot_percent=8)
