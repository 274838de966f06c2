"""Adaptive-Consistency (Aggarwal et al., arXiv 2305.11860): sample until the leading answer is unlikely to change.

The shares of the answers have a uniform prior, so their posterior given the votes is a Dirichlet distribution. Sampling
stops once the probability that the leading answer has the largest share reaches `confidence`. `rule: beta` compares the
leader with the runner-up alone, as the paper does by default; `rule: dirichlet` with all answers seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from training.inference.answer import Answer
from training.inference.language_model import Completion, LanguageModel, Request
from training.inference.strategies.self_consistency import Temperature, Tie, count_votes, vote, votes_in_words
from training.inference.strategies.strategy import Meter, Question, Sampling, Strategy


class AdaptiveConsistency(Strategy):
    """The most frequent of as many sampled answers as it takes.

    n: most samples. confidence: at which sampling stops. step: samples per round. rule: `beta` compares the two most
    frequent answers, `dirichlet` all. temperature: of the sampling. tie: how equally frequent answers are told apart.
    """

    name: ClassVar[str] = "adaptive-consistency"

    n: Annotated[int, Field(ge=1, le=4096)] = 16
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    step: Annotated[int, Field(ge=1)] = 1
    rule: Literal["beta", "dirichlet"] = "beta"
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
        lead = lead_over_second if self.rule == "beta" else lead_over_all
        samples: list[list[Completion]] = [[] for _ in questions]
        extracted: list[list[str | None]] = [[] for _ in questions]
        asked, round = list(range(len(questions))), 0
        while asked:
            count = min(self.step, self.n - round * self.step)
            requests = {at: Request(questions[at].condition, questions[at].instruction) for at in asked}
            for at, completions in meter.ask("sample", requests, count, self.temperature, round).items():
                samples[at] += completions
                extracted[at] += [questions[at].extract(completion.text) for completion in completions]
            round += 1
            unsure = [at for at in asked if lead(list(count_votes(extracted[at]).values())) < self.confidence]
            asked = unsure if round * self.step < self.n else []
            if on_done:
                on_done(len(questions) - len(asked))
        answers = []
        for at in range(len(questions)):
            confidence = lead(list(count_votes(extracted[at]).values()))
            meter.decide(at, f"{votes_in_words(extracted[at])}; confidence {confidence:.3f}")
            answers.append(meter.answer(at, samples[at][vote(samples[at], extracted[at], self.tie)]))
        return answers


def lead_over_second(votes: Sequence[int]) -> float:
    """The probability that the first answer is more frequent than the second, given votes in falling order.

    Of two answers alone the first one's share has the distribution Beta(votes + 1, votes of the second + 1). The result
    is the probability that it exceeds one half; 0.5 without votes.
    """
    from scipy.special import betainc

    first, second = (*votes, 0, 0)[:2]
    return float(betainc(second + 1, first + 1, 0.5))


def lead_over_all(votes: Sequence[int]) -> float:
    """The probability that the first answer has the largest share, given votes in falling order; 0.5 without votes.

    A Dirichlet variable is a vector of gamma variables divided by their sum, so this is the probability that the first
    of independent gamma variables, with shapes votes + 1, is the largest. An answer not seen yet counts as one more.
    """
    from scipy.integrate import quad
    from scipy.special import gammainc
    from scipy.stats import gamma

    first, *others = [*votes, 0, 0] if not votes else [*votes, 0]

    def density(x: float) -> float:
        product = float(gamma.pdf(x, first + 1))
        for other in others:
            product *= float(gammainc(other + 1, x))
        return product

    upper = float(gamma.isf(1e-12, first + 1))
    return float(quad(density, 0, upper, points=[first + 1], limit=200)[0])
