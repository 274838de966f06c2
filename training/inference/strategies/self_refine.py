"""Self-Refine (Madaan et al., arXiv 2303.17651): answer, criticise the answer, write it again.

It ends when the critique says that nothing is wrong, when the final answer repeats, or after `rounds`. The last answer
counts, as in the paper; nothing tells whether it is better than the one before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from training.inference.answer import Answer
from training.inference.language_model import LanguageModel, Request
from training.inference.strategies.strategy import Meter, Question, Sampling, Strategy

CORRECT = re.compile(r"(?i)\W*(?:the (?:proposed )?(?:answer|solution) is )?(?:correct|right)\W*")
"""The last line of a critique that finds nothing. "Correct the sum" is not one."""


class SelfRefine(Strategy):
    """An answer, criticised and written again.

    rounds: most critiques.
    """

    name: ClassVar[str] = "self-refine"

    rounds: Annotated[int, Field(ge=1, le=20)] = 3

    def run(
        self,
        questions: Sequence[Question],
        model: LanguageModel,
        sampling: Sampling,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        meter = Meter(questions, model, sampling)
        requests = {at: Request(question.condition, question.instruction) for at, question in enumerate(questions)}
        current = {at: completions[0] for at, completions in meter.ask("sample", requests).items()}
        active = [at for at in requests if current[at].finish != "none"]
        for round in range(1, self.rounds + 1):
            if on_done:
                on_done(len(questions) - len(active))
            if not active:
                break
            critiques = meter.ask(
                "critique",
                {
                    at: Request(questions[at].condition, critique_prompt(questions[at].instruction, current[at].text))
                    for at in active
                },
                round=round,
            )
            for at in active:
                if finds_nothing(critiques[at][0].text):
                    meter.decide(at, f"round {round}: the critique finds nothing")
            active = [at for at in active if not finds_nothing(critiques[at][0].text)]
            refined = meter.ask(
                "refine",
                {
                    at: Request(
                        questions[at].condition,
                        refine_prompt(questions[at].instruction, current[at].text, critiques[at][0].text),
                    )
                    for at in active
                },
                round=round,
            )
            remaining = []
            for at in active:
                if refined[at][0].finish == "none":
                    meter.decide(at, f"round {round}: no room in the context")
                    continue
                before, after = (questions[at].extract(c.text) for c in (current[at], refined[at][0]))
                current[at] = refined[at][0]
                if after is not None and after == before:
                    meter.decide(at, f"round {round}: the answer {after!r} repeats")
                else:
                    remaining.append(at)
            active = remaining
        if on_done and questions:
            on_done(len(questions))
        return [meter.answer(at, current[at]) for at in requests]


def finds_nothing(critique: str) -> bool:
    """Whether a critique is empty, or its last line says that the answer is right."""
    lines = critique.strip().splitlines()
    return not lines or CORRECT.fullmatch(lines[-1]) is not None


def critique_prompt(instruction: str, answer: str) -> str:
    """Ask what is wrong with an answer."""
    return (
        f"{instruction}\n\nProposed answer:\n{answer.strip()}\n\n"
        "Check the proposed answer step by step. If it is right, write only CORRECT. Otherwise say what is wrong."
    )


def refine_prompt(instruction: str, answer: str, critique: str) -> str:
    """Ask for the answer again, given what is wrong with it."""
    return (
        f"{instruction}\n\nProposed answer:\n{answer.strip()}\n\nCritique:\n{critique.strip()}\n\n"
        "Answer the question again and correct what the critique found."
    )
