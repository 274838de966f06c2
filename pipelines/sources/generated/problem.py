"""A problem: a question with one short answer, and a key that identifies it.

Training rows and test items are drawn from the same families. The `key` of a problem (its kind and its numbers, not its
wording) decides which of the two it is: one key in eight is held out, whatever the seed. So no training row asks the
same as a test item.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from pipelines.sources.generated.dice import Dice


class Problem(NamedTuple):
    """key: identifies the problem, whatever its wording. steps: sentences that lead to the answer."""

    key: tuple[str | int, ...]
    question: str
    steps: str
    answer: str


class Row(NamedTuple):
    """The text of a row before it is a record; None is null."""

    condition: str | None
    instruction: str | None
    response: str | None


def is_held_out(key: tuple[str | int, ...]) -> bool:
    """Whether the problem with this key is held out for test items: one key in eight is."""
    return blake2b(repr(key).encode(), digest_size=1).digest()[0] % 8 == 0


def draw_where(draw: Callable[[Dice], Problem], dice: Dice, held_out: bool) -> Problem:
    """Draw until a problem is held out, or is not."""
    while True:
        problem = draw(dice)
        if is_held_out(problem.key) == held_out:
            return problem


def row_of(problem: Problem, dice: Dice, cot_percent: int) -> Row:
    """The problem as a training row: in `cot_percent` % of cases with steps (`cot`), else the answer (`direct`)."""
    if not dice.chance(cot_percent):
        return Row("direct", problem.question, problem.answer)
    final = "The answer is {}." if dice.chance(70) else "So the final answer is \\boxed{{{}}}."
    return Row(
        "cot" if dice.chance(60) else "synth,cot", problem.question, f"{problem.steps} {final.format(problem.answer)}"
    )
