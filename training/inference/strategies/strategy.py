"""A strategy: how a model's calls become an answer.

A strategy is a frozen value. Its fields are its parameters. It answers all questions in lockstep: a round asks the
requests of every unfinished question in one call of the model, so that the model can batch them.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from training.inference.answer import Answer, Call
from training.inference.language_model import Completion, LanguageModel, Request


class Question(NamedTuple):
    """What is asked. extract: a text -> its final answer in a canonical form, by which answers are compared; None if
    there is none."""

    condition: str
    instruction: str
    extract: Callable[[str], str | None]


class Sampling(NamedTuple):
    """How a model is called; the arguments of `LanguageModel.generate`.

    temperature: of a single answer. A strategy that draws several has a temperature of its own. max_tokens: of one
    completion.
    """

    max_tokens: int | None = None
    context: int | None = None
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0


class Strategy(BaseModel, ABC):
    """A way to find an answer. `str(strategy)` is its canonical form: the name and every parameter.

    name: as it is written in `--strategy`. version: increase it when the same parameters yield other calls.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    version: ClassVar[int] = 1

    @abstractmethod
    def run(
        self,
        questions: Sequence[Question],
        model: LanguageModel,
        sampling: Sampling,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """The answers, in the order of the questions.

        An answer is determined by its question, the model, the strategy and the sampling, not by other questions.

        Args:
            on_done: called with the number of finished questions.

        Raises:
            WinnowError: if the model cannot do what is asked.
        """

    @property
    def identity(self) -> str:
        """What determines the calls: the canonical form and the version. It is part of the key of stored answers."""
        return f"{self} v{self.version}"

    @staticmethod
    def without_version(identity: str) -> str:
        """The canonical form in an identity."""
        return identity.rpartition(" v")[0] or identity

    def __str__(self) -> str:
        parameters = ",".join(f"{key}={value}" for key, value in self.model_dump(mode="json").items())
        return f"{self.name}:{parameters}" if parameters else self.name


class Meter:
    """Calls a model for several questions at once, and counts and records the calls of each.

    Every completion counts, also those that are discarded. A prompt counts once, however many completions it has.
    """

    def __init__(self, questions: Sequence[Question], model: LanguageModel, sampling: Sampling) -> None:
        self._model = model
        self._sampling = sampling
        self._calls: list[list[Call]] = [[] for _ in questions]
        self._prompt_tokens: list[int | None] = [0 for _ in questions]

    def ask(
        self,
        role: str,
        requests: Mapping[int, Request],
        n: int = 1,
        temperature: float | None = None,
        round: int = 0,
        on_done: Callable[[int], None] | None = None,
    ) -> dict[int, list[Completion]]:
        """`n` completions for each question's request, by the number of the question.

        Args:
            role: recorded in the trace.
            temperature: None for that of the sampling.
            round: another round of the same request draws other samples.
        """
        sampling = self._sampling
        temperature = sampling.temperature if temperature is None else temperature
        results = self._model.generate(
            list(requests.values()),
            n,
            temperature=temperature,
            max_tokens=sampling.max_tokens,
            context=sampling.context,
            stop=sampling.stop,
            seed=derived_seed(sampling.seed, role, round),
            on_done=on_done,
        )
        for (question, request), completions in zip(requests.items(), results, strict=True):
            for completion in completions:
                call = Call(role, *request, completion.text, completion.tokens, completion.log_prob)
                self._calls[question].append(call)
            before, prompt = self._prompt_tokens[question], completions[0].prompt_tokens
            self._prompt_tokens[question] = None if before is None or prompt is None else before + prompt
        return dict(zip(requests, results, strict=True))

    def decide(self, question: int, text: str) -> None:
        """Record what the strategy concluded."""
        self._calls[question].append(Call("decision", "", "", text, 0, None))

    def answer(self, question: int, chosen: Completion) -> Answer:
        """The answer to a question: the chosen completion, with all that was spent."""
        calls = self._calls[question]
        return Answer(
            chosen.text,
            sum(call.tokens for call in calls),
            chosen.finish,
            chosen.log_prob,
            trace=tuple(calls) if len(calls) > 1 else (),
            prompt_tokens=self._prompt_tokens[question],
        )


def derived_seed(seed: int, role: str, round: int) -> int:
    """The seed of a strategy's call. The first samples of an answer have the seed itself, so that strategies share
    them; others have a hash of seed, role and round."""
    if role == "sample" and round == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}/{role}/{round}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


def mean_log_prob(completion: Completion) -> float | None:
    """Per token, the end token included; None if the model gives none."""
    if completion.log_prob is None:
        return None
    return completion.log_prob / (completion.tokens + (completion.finish == "stop") or 1)
