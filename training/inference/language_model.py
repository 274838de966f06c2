"""What evaluation needs of a model, whoever runs it: text in, text out, with counts of tokens and log-probabilities.

A checkpoint, a transformers folder and an HTTP endpoint each implement `LanguageModel`. A `TokenModel` measures texts
token by token: a checkpoint or a transformers folder. This module loads none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:  # it loads torch
    from training.inference.prompt import Prompt

BATCH = 32
"""Sequences decoded together by default."""

Finish = Literal["stop", "length", "none"]
"""Why a completion ended: its end token or a stop string; the limit on tokens; or it had no room to begin."""


class Request(NamedTuple):
    """An instruction with its condition: comma-joined tags as in the corpus, such as `direct` or `synth,cot`."""

    condition: str
    instruction: str


class Completion(NamedTuple):
    """A generated text.

    tokens: generated, without the end token. log_prob: sum of the log-probabilities of these tokens and of the end
    token, in nats, at temperature 1; None if the model gives none. prompt_tokens: of the request with its envelope;
    None if the model does not say.
    """

    text: str
    tokens: int
    log_prob: float | None
    finish: Finish
    prompt_tokens: int | None = None


class LogLikelihood(NamedTuple):
    """Of a continuation: the sum of its tokens' log-probabilities (nats), and whether greedy decoding yields it.

    margin: by how many nats the likeliest tokens are above those of the continuation, summed over its tokens. worst:
    the same of the token at which it is largest. Both are 0 for what greedy decoding yields.
    """

    log_prob: float
    is_greedy: bool
    margin: float = 0.0
    worst: float = 0.0


class LanguageModel(Protocol):
    """A model that completes instructions.

    name: for people, such as a folder or a URL. identity: what determines the completions, such as a digest of weights
    and tokenizer. It is part of the key of stored answers. conditioned: whether the condition of a request changes
    what is asked. Only HRM-Text was trained with conditions.
    """

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def conditioned(self) -> bool: ...

    def generate(
        self,
        requests: Sequence[Request],
        n: int = 1,
        *,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        context: int | None = None,
        stop: Sequence[str] = (),
        seed: int = 0,
        on_done: Callable[[int], None] | None = None,
    ) -> list[list[Completion]]:
        """`n` completions of each request, in the order of the requests.

        A sample is determined by the seed, its request and its number among the `n`, not by other requests of the call.

        Args:
            temperature: 0 for greedy decoding.
            max_tokens: of a completion; None for no limit but the context.
            context: most tokens of prompt and completion together; None for the model's own limit.
            stop: a completion is cut before the first of these strings.
            on_done: called with the number of finished completions.

        Raises:
            WinnowError: if the model cannot do what is asked.
        """
        ...

    def log_likelihoods(self, pairs: Sequence[tuple[Request, str]]) -> list[LogLikelihood | None]:
        """The log-likelihood of each continuation given its request, in the order of the pairs.

        None for a pair that is longer than the context.

        Raises:
            WinnowError: if the model gives no likelihoods.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """The number of tokens of a text."""
        ...


class TokenModel(Protocol):
    """A model that gives the likelihood of tokens, with its tokenizer.

    context: most tokens of prompt and continuation together. vocabulary: digest of the tokens and their ids; losses per
    token of two models can be compared only if it is equal.
    """

    @property
    def context(self) -> int: ...

    @property
    def vocabulary(self) -> str: ...

    def prompt(self, condition: str, instruction: str) -> Prompt:
        """The prompt of an instruction, at least one token. The instruction may be empty.

        Raises:
            WinnowError: if a condition tag is unknown, or the model has no token that may begin a text.
        """
        ...

    def response_ids(self, text: str, ends: bool) -> list[int]:
        """The tokens of a response. ends: with the token that ends a response, if the model has one."""
        ...

    def token_log_likelihoods(
        self, requests: Sequence[tuple[Prompt, Sequence[int]]], batch: int | None = None
    ) -> list[LogLikelihood]:
        """The log-likelihood of each continuation given its prompt, in the order of the requests.

        An empty continuation has log-probability 0. batch: most sequences in a forward pass; None for the model's
        choice. It changes results by rounding alone.
        """
        ...
