"""An evaluation: how a benchmark's items are asked and how an answer is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Item = Mapping[str, Any]
"""A row of the ITEM schema (pipelines/records.py): id, split, question, answer, choices, passage."""


class Judgement(NamedTuple):
    """correct: the answer is right. valid: an answer could be parsed. An invalid answer is not correct."""

    correct: bool
    valid: bool


class Evaluation(NamedTuple):
    """How one benchmark is asked and judged. Decoding is greedy."""

    name: str
    condition: str
    max_new_tokens: int
    prompt: Callable[[Item], str]  # the instruction, without envelope
    judge: Callable[[str, Item], Judgement]


def boxed(text: str) -> str | None:
    """The content of the last \\boxed{...} or \\fbox{...} with balanced braces; None if there is none."""
    start, opening = max((text.rfind(opening), opening) for opening in ("\\boxed{", "\\fbox{"))
    if start < 0:
        return None
    content = text[start + len(opening) :]
    depth = 1
    for at, character in enumerate(content):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return content[:at]
    return None
