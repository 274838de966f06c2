"""Errors that are put into good texts, so that a classifier has texts that differ by nothing but the errors.

Their seed is the text: the same text always gets the same errors.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from typing import Literal

Error = Literal["agreement", "article", "confusion", "drop", "ending", "repeat", "spelling", "swap"]
"""agreement: is for are, has for have. article: a for an, or none. confusion: their for there, then for than. drop: a
function word is missing. ending: a word without its -s, -ed or -ing, or with another. repeat: a word twice. spelling:
two letters exchanged. swap: two words exchanged."""

WORDS_PER_ERROR = 12
"""One error in so many words, at least one."""

MIN_WORDS = 8
"""A text with fewer words gets no error: without it and with it, it may be the same fragment of a sentence."""

_AGREEMENT = {"is": "are", "are": "is", "was": "were", "were": "was", "has": "have", "have": "has", "do": "does"}
_AGREEMENT |= {"does": "do", "this": "these", "these": "this", "that": "those", "those": "that", "am": "is"}
_AGREEMENT |= {"don't": "doesn't", "doesn't": "don't", "isn't": "aren't", "wasn't": "weren't"}
_CONFUSIONS = (
    ("their", "there"),
    ("its", "it's"),
    ("your", "you're"),
    ("then", "than"),
    ("to", "too"),
    ("of", "off"),
    ("loose", "lose"),
    ("affect", "effect"),
    ("who", "whom"),
    ("he", "him"),
    ("they", "them"),
    ("we", "us"),
    ("much", "many"),
    ("in", "on"),
    ("at", "in"),
    ("for", "to"),
    ("with", "by"),
)
_CONFUSION = {a: b for pair in _CONFUSIONS for a, b in (pair, pair[::-1])}
_FUNCTION = frozenset(("a", "an", "and", "are", "at", "be", "by", "for", "from", "has", "have", "in", "is", "it", "of"))
_FUNCTION |= {"on", "that", "the", "to", "was", "were", "which", "with"}
_WORD = re.compile(r"([A-Za-z]+(?:'[a-z]+)?)")


def corrupt(text: str, errors: Sequence[Error]) -> str:
    """The text with errors of the given kinds; as it is, if it is short or has no place for one."""
    parts = _WORD.split(text)  # words at odd places, what is between them at even ones
    if len(parts) < 2 * MIN_WORDS + 1:
        return text
    chance = random.Random(hashlib.blake2b(text.encode(), digest_size=8).digest())
    places = range(1, len(parts), 2)
    changed: set[int] = set()
    for _ in range(max(1, len(places) // WORDS_PER_ERROR)):
        error = _ERRORS[chance.choice(errors)]
        start = chance.randrange(len(places))
        for place in (*places[start:], *places[:start]):
            if changed.isdisjoint((place - 2, place, place + 2)) and error(parts, place, chance):
                changed.add(place)
                break
    return "".join(parts)


def _agreement(parts: list[str], place: int, chance: random.Random) -> bool:
    return _replace(parts, place, _AGREEMENT.get(parts[place].lower()))


def _article(parts: list[str], place: int, chance: random.Random) -> bool:
    word = parts[place].lower()
    if word not in ("a", "an", "the"):
        return False
    return _replace(parts, place, {"a": "an", "an": "a", "the": "a"}[word])


def _confusion(parts: list[str], place: int, chance: random.Random) -> bool:
    return _replace(parts, place, _CONFUSION.get(parts[place].lower()))


def _drop(parts: list[str], place: int, chance: random.Random) -> bool:
    if parts[place].lower() not in _FUNCTION or parts[place + 1] != " ":
        return False
    parts[place] = parts[place + 1] = ""
    return True


def _ending(parts: list[str], place: int, chance: random.Random) -> bool:
    word = parts[place]
    if len(word) < 4 or not word.islower() or word in _FUNCTION or "'" in word:
        return False
    for ending in ("ing", "ed", "s"):
        if word.endswith(ending) and not word.endswith(("ss", "us", "is")):
            return _replace(parts, place, word.removesuffix(ending))
    return _replace(parts, place, word + chance.choice(("s", "ing", "ed")))


def _repeat(parts: list[str], place: int, chance: random.Random) -> bool:
    return parts[place].islower() and _replace(parts, place, f"{parts[place]} {parts[place]}")


def _spelling(parts: list[str], place: int, chance: random.Random) -> bool:
    word = parts[place]
    if len(word) < 5 or not word.isalpha():
        return False
    at = chance.randrange(1, len(word) - 2)
    return word[at] != word[at + 1] and _replace(parts, place, word[:at] + word[at + 1] + word[at] + word[at + 2 :])


def _swap(parts: list[str], place: int, chance: random.Random) -> bool:
    if place + 2 >= len(parts) or parts[place + 1] != " " or not (parts[place] + parts[place + 2]).islower():
        return False
    parts[place], parts[place + 2] = parts[place + 2], parts[place]
    return parts[place] != parts[place + 2]


def _replace(parts: list[str], place: int, word: str | None) -> bool:
    if word is None:
        return False
    parts[place] = word.capitalize() if parts[place][0].isupper() else word
    return True


_ERRORS: dict[Error, Callable[[list[str], int, random.Random], bool]] = {
    "agreement": _agreement,
    "article": _article,
    "confusion": _confusion,
    "drop": _drop,
    "ending": _ending,
    "repeat": _repeat,
    "spelling": _spelling,
    "swap": _swap,
}
