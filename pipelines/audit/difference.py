"""Where do two texts differ? They are compared by words, spaces and signs."""

from __future__ import annotations

import difflib
import re
from itertools import takewhile

MAX_DIFF_TOKENS = 2000
"""Tokens of a text that are compared, after equal ones at the start. The time of a diff grows with the square of
them."""

MAX_GAP_TOKENS = 5
"""Two differences with at most so many tokens between them are shown as one: a word or two and their spaces."""


def difference(left: str, right: str) -> list[tuple[str, str]]:
    """Pairs of what `left` has and what `right` has in its place. Differences with a word or two between them are
    merged. A part that one text lacks is found whatever its length, if the texts agree before and after it."""
    a, b = (re.findall(r"\w+|\s+|[^\w\s]", text) for text in (left, right))
    before = _equal_tokens(a, b)
    a, b = a[before:], b[before:]
    after = _equal_tokens(a[::-1], b[::-1])
    a, b = a[: len(a) - after], b[: len(b) - after]
    if not a or not b:
        return [("".join(a), "".join(b))] if a or b else []
    a, b = a[:MAX_DIFF_TOKENS], b[:MAX_DIFF_TOKENS]
    spans: list[tuple[int, int, int, int]] = []
    for kind, a_start, a_stop, b_start, b_stop in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        if spans and a_start - spans[-1][1] <= MAX_GAP_TOKENS:
            a_start, _, b_start, _ = spans.pop()
        spans.append((a_start, a_stop, b_start, b_stop))
    return [("".join(a[i:j]), "".join(b[k:m])) for i, j, k, m in spans]


def _equal_tokens(a: list[str], b: list[str]) -> int:
    """How many tokens are equal at the start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
