"""Questions whose answer depends on one word: what kind of thing it names, or whether somebody liked something.

A model of a million parameters learns such words within a few hundred steps. The key of a problem includes the scene
(who, what and where), so a test item asks about a known word in a sentence that no training row contains.
"""

from __future__ import annotations

from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.names import NAMES, PLACES, THINGS
from pipelines.sources.generated.problem import Problem, Row, draw_where, row_of

KINDS = {
    "animal": ("falcon", "badger", "horse", "salmon", "spider", "turtle", "donkey", "parrot", "tiger", "goat"),
    "plant": ("tulip", "birch", "cactus", "fern", "rose", "willow", "daisy", "poppy", "bamboo", "reed"),
    "tool": ("hammer", "saw", "drill", "chisel", "wrench", "shovel", "rake", "ladder", "crowbar", "file"),
    "food": ("pancake", "noodle", "sausage", "biscuit", "dumpling", "sandwich", "waffle", "pretzel", "muffin", "pizza"),
}
LIKED = ("wonderful", "lovely", "great", "charming", "superb", "delightful", "perfect", "brilliant", "splendid", "nice")
DISLIKED = ("awful", "ugly", "terrible", "dreadful", "horrible", "useless", "poor", "nasty", "disappointing", "bad")

WHICH = (
    "{n} showed {m} a {w} {p}. What kind of thing is that: animal, plant, tool or food?",
    "{p2}, {n} talked with {m} about a {w}. Is it an animal, a plant, a tool or a food?",
    "A {w} was all that {n} and {m} could see {p}. Name its kind: plant, food, animal or tool.",
)
WHETHER = (
    "{n} told {m} that the {t} {p} were {w}. Did {n} like the {t}?",
    "{p2}, {n} looked at the {t} of {m} and said: how {w}! Was {n} pleased with the {t}?",
    "The {t} that {m} sold {p} were {w}, if we believe {n}. Was {n} happy with the {t}?",
)


def draw(dice: Dice) -> Problem:
    """A problem, held out or not."""
    n, m = dice.sample(NAMES, 2)
    t, p = dice.pick(THINGS), dice.pick(PLACES)
    words = {"n": n, "m": m, "t": t, "p": p, "p2": p[0].upper() + p[1:]}
    if dice.chance(60):
        kind = dice.pick(tuple(KINDS))
        word = dice.pick(KINDS[kind])
        question = dice.pick(WHICH).format_map({**words, "w": word})
        return Problem(("kind", word, n, m, p), question, f"A {word} is a kind of {kind}.", kind)
    pleased = dice.chance(50)
    word = dice.pick(LIKED if pleased else DISLIKED)
    question = dice.pick(WHETHER).format_map({**words, "w": word})
    steps = f"{n} found the {t} {word}, which is {'praise' if pleased else 'no praise'}."
    return Problem(("liked", word, n, m, t, p), question, steps, "yes" if pleased else "no")


def row(dice: Dice) -> Row:
    """A training row without a defect."""
    return row_of(draw_where(draw, dice, held_out=False), dice, cot_percent=8)
