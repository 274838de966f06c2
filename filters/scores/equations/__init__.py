"""Equations between numbers in text: found, read and evaluated exactly.

An equation is checked if both sides are numbers, at least one has an operator, and nothing else could be meant. What is
read: `16 - 3 = 13`, `<<16-3=13>>`, `12 x $2 = $24`, `50% of 80 = 40`, `\\frac{1}{2} + 1 = \\frac{3}{2}`, `2^3 = 8`,
`5! = 120`, `√25 = 5`, units (`3 apples + 4 apples = 7 apples`), chains (`2 * 3 + 1 = 6 + 1 = 7`), thousands separators,
Unicode operators, and `equals`. Delimiters of formulas, emphasis, list numbers, borders of table cells and HTML tags
are read as blanks or ends of lines.

What is not checked: sides with unknowns, functions or unbalanced brackets; definitions (`1 hour = 60 minutes`);
remainders and congruences; proportions (`1 : 2 = 5 : 10`); code; struck text. An equation that does not hold is not
counted if another reading of it might hold, if it may convert units, if it rounds a quotient up or down, or if the text
does not say that it holds (`is wrong`, a question).

Of `20 + 30 = 50 + 10 = 60`, where each calculation begins with the result of the one before, only the last link is
counted. Of `2 + 2 = 4 = 5`, both are.

Per cent has three readings: a hundredth, a unit (`20% + 30% = 50%`), and a share of what is before it
(`100 - 25% = 75`).

Numbers are fractions; roots that are none are computed to ROOT_DIGITS decimals. Nothing is evaluated as code; the sizes
of numbers and expressions are limited.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from filters.scores.equations.readings import (
    has_bar,
    is_dotted,
    is_near,
    is_product,
    is_share_of,
    may_convert,
    may_mean_otherwise,
    nearly,
    percent_readings,
    runs_on,
)
from filters.scores.equations.sides import MAX_TOKENS, is_result, left_start, right_end
from filters.scores.equations.tokens import SAID, WORK, Token, Unreadable, blank, tokenize, without_markup
from filters.scores.equations.values import PERCENT, Side, compare

WINDOW = 200
"""Characters on each side of an equals sign that are looked at."""


class Equation(NamedTuple):
    """A checked equation. start, end: characters of the text. left, right: the sides as written. holds: whether they
    are equal, or one is the other rounded."""

    start: int
    end: int
    left: str
    right: str
    holds: bool


_ANNOTATION = re.compile(r"<<([^<>\n]{1,200})>>")
_CANDIDATE = re.compile(r"(?<![<>!=:~+*/-])(?:[=＝]|≈|\\approx(?![a-z]))(?![=>])(?=[\s&$]*(?:[\d(\\£€.{½¼¾⅓⅔−-]))")
CANDIDATE_ROW = (
    r"[\d½¼¾⅓⅔⅛][^\n]*(?:=|≈|\\approx|\bequals\b|\bequal to\b|＝)"
    r"|[\d)}][\s$&\\]*\n[\s$&\\]*(?:=|≈|\\approx)"
)
"""A regular expression (RE2) that every text with an equation matches."""


def equations(text: str) -> list[Equation]:
    """The equations of a text that can be checked, in order."""
    found: list[Equation] = []
    bare = text
    if "<<" in text:
        for match in _ANNOTATION.finditer(text):
            found += _equations(match[1], match.start(1), annotation=True)
        bare = _ANNOTATION.sub(blank, text)
    for one in _equations(without_markup(bare), 0, annotation=False):
        end = one.start + len(one.left)
        found.append(one._replace(left=text[one.start : end], right=text[one.end - len(one.right) : one.end]))
    return sorted(set(found))


def _equations(text: str, shift: int, annotation: bool) -> Iterator[Equation]:
    regions: list[list[int]] = []
    for match in _CANDIDATE.finditer(text):
        start, end = max(0, match.start() - WINDOW), min(len(text), match.end() + WINDOW)
        if regions and start <= regions[-1][1]:
            regions[-1][1] = end
        else:
            regions.append([start, end])
    for start, end in regions:
        tokens = tokenize(text, start, end)
        for at, token in enumerate(tokens):
            if token.kind == "equals" and 0 < at < len(tokens) - 1:
                equation = _check(text, tokens, at, annotation)
                if equation is not None:
                    yield equation._replace(start=equation.start + shift, end=equation.end + shift)


def _check(text: str, tokens: list[Token], at: int, annotation: bool) -> Equation | None:
    """The equation around the equals sign tokens[at], or None if it cannot be checked."""
    try:
        first = left_start(text, tokens, at, annotation)
        last = right_end(text, tokens, at)
    except Unreadable:
        return None
    left, right = tokens[first:at], tokens[at + 1 : last]
    if not left or not right or len(left) > MAX_TOKENS or len(right) > MAX_TOKENS:
        return None
    numbers = not any(token.kind in WORK for token in (*left, *right)) and not (is_product(left) or is_product(right))
    if numbers and not is_result(text, tokens, first, annotation):
        return None
    approximate = tokens[at].text not in ("=", SAID)
    holds = readable = doubt = False
    percent = any(token.kind == "percent" for token in (*left, *right))
    dotted = is_dotted(left, right)
    barred = any(has_bar(side) for side in (left, right))
    for bar, reading, mixed, dots in itertools.product(
        (False, True) if barred else (False,),
        percent_readings(left, right) if percent else PERCENT[:1],
        (True, False),
        (False, True) if dotted else (False,),
    ):
        try:
            one, other = (Side(side, reading, mixed, dots, bar) for side in (left, right))
            values = one.value(), other.value()
        except Unreadable:
            continue
        equal = compare(*values, one, other, approximate)
        if bar:
            doubt |= equal is True
            continue
        readable, (value, result) = True, values
        if equal:
            holds = True
            break
        doubt |= equal is None or one.doubt or other.doubt or runs_on(one, value, right)
        doubt |= any(is_share_of(value, right[:i]) for i, token in enumerate(right) if token.kind == "of")
        doubt |= percent and nearly(value, result, one, other, approximate)
        doubt |= numbers and (may_convert(value, result) or is_near(value, result))
    if not readable or (not holds and (doubt or may_mean_otherwise(text, tokens, first, at, last, value, result))):
        return None
    return Equation(
        left[0].start, right[-1].end, text[left[0].start : left[-1].end], text[right[0].start : right[-1].end], holds
    )
