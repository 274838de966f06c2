"""Self-consistency (Wang et al., arXiv 2203.11171): sample several answers and return the most frequent one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from training.inference.answer import Answer
from training.inference.language_model import Completion, LanguageModel, Request
from training.inference.strategies.strategy import Meter, Question, Sampling, Strategy, mean_log_prob

Tie = Literal["first", "log_prob"]
"""How equally frequent answers are told apart: the one that was sampled first, or the one whose samples have the
highest mean log-probability per token."""

Temperature = Annotated[float, Field(gt=0, le=10)]


class SelfConsistency(Strategy):
    """The most frequent of several sampled answers.

    n: samples. temperature: of the sampling. tie: how equally frequent answers are told apart.
    """

    name: ClassVar[str] = "self-consistency"

    n: Annotated[int, Field(ge=1, le=4096)] = 8
    temperature: Temperature = 0.7
    tie: Tie = "first"

    def run(
        self,
        questions: Sequence[Question],
        model: LanguageModel,
        sampling: Sampling,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        meter = Meter(questions, model, sampling)
        requests = {at: Request(question.condition, question.instruction) for at, question in enumerate(questions)}
        samples = meter.ask("sample", requests, self.n, self.temperature)
        answers = []
        for at, question in enumerate(questions):
            extracted = [question.extract(sample.text) for sample in samples[at]]
            chosen = vote(samples[at], extracted, self.tie)
            if self.n > 1:
                meter.decide(at, votes_in_words(extracted))
            answers.append(meter.answer(at, samples[at][chosen]))
            if on_done:
                on_done(at + 1)
        return answers


def count_votes(extracted: Sequence[str | None]) -> dict[str, int]:
    """Answer -> votes, the most frequent first, then in the order of their first vote. None is no vote."""
    counts: dict[str, int] = {}
    for answer in extracted:
        if answer is not None:
            counts[answer] = counts.get(answer, 0) + 1
    return dict(sorted(counts.items(), key=lambda entry: -entry[1]))


def vote(samples: Sequence[Completion], extracted: Sequence[str | None], tie: Tie = "first") -> int:
    """The index of the first sample with the most frequent answer; 0 if no sample has an answer."""
    votes = count_votes(extracted)
    best = [answer for answer, count in votes.items() if count == max(votes.values())]
    if not best:
        return 0
    if tie == "log_prob" and len(best) > 1:
        best.sort(key=lambda answer: -_confidence(samples, extracted, answer))
    return extracted.index(best[0])


def _confidence(samples: Sequence[Completion], extracted: Sequence[str | None], answer: str) -> float:
    means = [mean_log_prob(sample) for sample, given in zip(samples, extracted, strict=True) if given == answer]
    known = [mean for mean in means if mean is not None]
    return sum(known) / len(known) if known else float("-inf")


def votes_in_words(extracted: Sequence[str | None]) -> str:
    """The votes as a line of a trace."""
    votes = ", ".join(f"{answer!r} {count}" for answer, count in count_votes(extracted).items())
    return f"votes: {votes or 'none'}; without an answer: {sum(answer is None for answer in extracted)}"
