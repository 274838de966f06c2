"""A problem: a question with one short answer, and what makes it that problem and no other.

Training rows and test items are drawn from the same families. What keeps them apart is the problem's `key` (its kind
and its numbers, not its wording): one key in eight is held out, whatever the seed, so no training row asks what a test
item asks.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from pipelines.sources.generated.dice import Dice


class Problem(NamedTuple):
    """key: what is asked, apart from the wording. steps: sentences that lead to the answer."""

    key: tuple[str | int, ...]
    question: str
    steps: str
    answer: str


class Row(NamedTuple):
    """A row's text before it is a record; None stands for a null."""

    condition: str | None
    instruction: str | None
    response: str | None


def held_out(key: tuple[str | int, ...]) -> bool:
    """Whether a problem belongs to the test items: one key in eight does."""
    return blake2b(repr(key).encode(), digest_size=1).digest()[0] % 8 == 0


def draw_where(draw: Callable[[Dice], Problem], dice: Dice, held: bool) -> Problem:
    """The next problem of the family that is (`held`) or is not held out."""
    while True:
        problem = draw(dice)
        if held_out(problem.key) == held:
            return problem


def row_of(problem: Problem, dice: Dice, cot_percent: int) -> Row:
    """The problem as a training row: mostly the bare answer (`direct`), else steps and a final answer (`cot`)."""
    if not dice.chance(cot_percent):
        return Row("direct", problem.question, problem.answer)
    final = "The answer is {}." if dice.chance(70) else "So the final answer is \\boxed{{{}}}."
    return Row(
        "cot" if dice.chance(60) else "synth,cot", problem.question, f"{problem.steps} {final.format(problem.answer)}"
    )
