"""An answer of a model, and the calls that led to it."""

from __future__ import annotations

from typing import NamedTuple


class Call(NamedTuple):
    """One call of a model within a strategy.

    role: what the call was for, such as `sample` or `critique`. A `decision` is not a call: its text says what the
    strategy concluded, and it has no tokens.
    """

    role: str
    condition: str
    instruction: str
    text: str
    tokens: int
    log_prob: float | None


class Answer(NamedTuple):
    """What a model answered to an item.

    text: that is judged. tokens: generated in all calls together. finish, log_prob: as in `Completion`, of the call
    that gave the text. log_probs: of the continuations, of a task that is scored by likelihood. trace: the calls of a
    strategy that makes more than one, in order. prompt_tokens: of the prompts of all calls, each request once; None if
    the model does not say.
    """

    text: str
    tokens: int
    finish: str
    log_prob: float | None = None
    log_probs: tuple[float, ...] = ()
    trace: tuple[Call, ...] = ()
    prompt_tokens: int | None = None
