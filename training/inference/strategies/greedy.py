"""One answer per question. It is greedy at temperature 0, the default, and one sample at a higher temperature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from training.inference.answer import Answer
from training.inference.language_model import LanguageModel, Request
from training.inference.strategies.strategy import Meter, Question, Sampling, Strategy


class Greedy(Strategy):
    """One answer per question."""

    name: ClassVar[str] = "greedy"

    def run(
        self,
        questions: Sequence[Question],
        model: LanguageModel,
        sampling: Sampling,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        meter = Meter(questions, model, sampling)
        requests = {at: Request(question.condition, question.instruction) for at, question in enumerate(questions)}
        completions = meter.ask("sample", requests, on_done=on_done)
        return [meter.answer(at, completions[at][0]) for at in requests]
