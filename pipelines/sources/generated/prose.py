"""Prose from templates: sentences with blanks that are filled with words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.names import MONTHS, NAMES, PLACES, THINGS, WEEKDAYS

WORDS: dict[str, Sequence[str]] = {
    "name": NAMES,
    "things": THINGS,
    "place": PLACES,
    "weekday": WEEKDAYS,
    "month": MONTHS,
    "minutes": tuple(str(n) for n in (5, 8, 10, 12, 15, 20, 25, 30, 35, 40, 45, 50, 55, 70, 80, 90)),
    "small": ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    "number": tuple(str(n) for n in range(13, 980, 7)),
    "relative": (
        "my sister", "my brother", "my neighbour", "my aunt", "my uncle", "my cousin", "my old teacher", "a friend",
        "my grandmother", "my colleague", "my landlord", "my flatmate",
    ),
    "when": (
        "in the early morning", "right after breakfast", "around noon", "late in the evening",
        "on a quiet afternoon", "before work", "at the end of the week", "once the children are asleep",
        "on your day off", "when the shops have closed",
    ),
    "feeling": (
        "calm", "proud", "relieved", "curious", "hopeful", "cheerful", "patient", "confident", "grateful",
        "surprised", "content",
    ),
    "quality": (
        "sturdy", "simple", "reliable", "light", "clever", "cheap", "elegant", "noisy", "heavy", "bright",
        "fragile", "comfortable", "slow", "generous", "narrow", "clumsy", "modern", "pretty",
    ),
    "animal": (
        "fox", "heron", "donkey", "owl", "badger", "goat", "hedgehog", "otter", "crow", "squirrel", "mole", "hare",
        "turtle", "frog",
    ),
    "object": (
        "compass", "silver key", "torn map", "blue umbrella", "brass bell", "wooden flute", "glass bead",
        "red scarf", "clock without hands", "letter with no stamp", "lantern", "chess piece", "rusty bicycle",
        "basket of pears",
    ),
    "weather": (
        "a thin fog", "heavy rain", "the first snow", "a warm wind", "a bright moon", "a sudden storm",
        "the long drought", "soft drizzle",
    ),
    "landscape": (
        "the pine forest", "the salt marsh", "the stone bridge", "the sleepy harbour", "the windy hill",
        "the ruined abbey", "the orchard wall", "the empty railway line", "the high meadow", "the frozen lake",
    ),
}  # fmt: skip
"""Blank -> the words that can fill it."""


class _Blanks(dict[str, str]):
    """The words for the blanks of one text: fixed ones, and for any other blank a new word each time."""

    def __init__(self, dice: Dice, fixed: Mapping[str, str]) -> None:
        super().__init__(fixed)
        self.dice = dice

    def __missing__(self, blank: str) -> str:
        return self.dice.pick(WORDS[blank])


def write(dice: Dice, sentences: Sequence[str], fixed: Mapping[str, str], joined: str = " ") -> str:
    """Fill the blanks of sentences and join them. fixed: blank -> its word in all of the sentences."""
    blanks = _Blanks(dice, fixed)
    return joined.join(sentence.format_map(blanks) for sentence in sentences)
