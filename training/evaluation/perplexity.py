"""How likely does a model find a text? Its perplexity: of responses given their instructions, or of plain text.

A response is measured as in training: every token, and the end of a response, given the instruction. The mean is the
validation loss. Plain text is measured as a response to an empty instruction, without EOA, because a part of a document
does not end an answer.

What is longer than the context is measured in windows: the first is the whole context, each further one measures half a
context of tokens, given the instruction and the half context before them. Every token is measured once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict

from training.evaluation.statistics import rate_interval
from training.inference.language_model import TokenModel

if TYPE_CHECKING:  # it loads torch
    from training.inference.prompt import Prompt

BATCH_TOKENS = 1 << 14
"""Tokens that are measured between two reports of progress."""


class Passage(NamedTuple):
    """A text to measure. ends: the end of a response is measured too."""

    id: str
    condition: str
    instruction: str
    text: str
    ends: bool


class Likelihood(NamedTuple):
    """Of a passage: tokens measured, UTF-8 bytes of the text, and minus the log-probability in nats.

    windows: more than 1 for a passage that is longer than the context. margin, worst: as of `LogLikelihood`, of the
    whole passage.
    """

    tokens: int
    bytes: int
    nats: float
    windows: int
    margin: float = 0.0
    worst: float = 0.0


class Rate(BaseModel):
    """A mean with its 95 % interval, by which the rows are taken as independent; null with fewer than two rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float | None
    high: float | None


class Perplexity(BaseModel):
    """Of all passages together: each token counts equally.

    rows: passages measured. skipped: reason -> passages that were not. windowed: passages longer than the context.
    tokens: with the EOA of responses. bytes: UTF-8, of the texts. perplexity: exp of nats_per_token. bits_per_byte: it
    does not depend on the tokenizer; null without bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    skipped: dict[str, int]
    windowed: int
    tokens: int
    bytes: int
    nats: float
    nats_per_token: Rate
    perplexity: Rate
    bits_per_byte: Rate | None


def windows(model: TokenModel, passage: Passage) -> list[tuple[Prompt, list[int]]] | str:
    """The prompts and continuations whose log-likelihoods add up to the passage's; or why it cannot be measured.

    Raises:
        WinnowError: if a condition tag is unknown.
    """
    from training.inference.prompt import Segment, token_ids

    prompt = model.prompt(passage.condition, passage.instruction)
    ids = model.response_ids(passage.text, passage.ends)
    room = model.context - len(token_ids(prompt))
    if not ids:
        return "empty"
    if room < 2:
        return "instruction longer than the context"
    # Half a context is measured given the half before it.
    before = room // 2
    pieces = [(prompt, ids[:room])]
    for start in range(room, len(ids), room - before):
        given = Segment(tuple(ids[start - before : start]), False)
        pieces.append(((*prompt, given), ids[start : start + room - before]))
    return pieces


def likelihoods(
    model: TokenModel,
    passages: Sequence[Passage],
    on_progress: Callable[[int, int], None] | None = None,
    sequences: int | None = None,
) -> Iterator[Likelihood | str]:
    """The likelihood of each passage, in order, or why it cannot be measured.

    on_progress: called with (passages, tokens) measured. sequences: most in a forward pass.
    """
    batch: list[list[tuple[Prompt, list[int]]] | str] = []
    waiting = done = tokens = 0
    for index, passage in enumerate(passages):
        pieces = windows(model, passage)
        batch.append(pieces)
        waiting += 0 if isinstance(pieces, str) else sum(len(ids) for _, ids in pieces)
        if waiting < BATCH_TOKENS and index + 1 < len(passages):
            continue
        # Sorted by length over the whole batch, so that little is padded.
        readable = [pieces for pieces in batch if not isinstance(pieces, str)]
        results = iter(model.token_log_likelihoods([piece for pieces in readable for piece in pieces], sequences))
        for measured, pieces in zip(passages[done : index + 1], batch, strict=True):
            if isinstance(pieces, str):
                yield pieces
                continue
            parts = [next(results) for _ in pieces]
            nats, margin = -sum(part.log_prob for part in parts), sum(part.margin for part in parts)
            size = sum(len(ids) for _, ids in pieces)
            worst = max(part.worst for part in parts)
            yield Likelihood(size, len(measured.text.encode()), nats, len(pieces), margin, worst)
        tokens += waiting
        done, waiting, batch = index + 1, 0, []
        if on_progress:
            on_progress(done, tokens)


def summary(measured: Sequence[Likelihood | str], skipped: dict[str, int]) -> Perplexity | None:
    """The perplexity of all passages. skipped: reason -> rows that could not be read. None if none was measured."""
    reasons = dict(skipped)
    for one in measured:
        if isinstance(one, str):
            reasons[one] = reasons.get(one, 0) + 1
    rows = [one for one in measured if not isinstance(one, str)]
    if not rows:
        return None
    tokens, size, nats = (sum(getattr(row, name) for row in rows) for name in ("tokens", "bytes", "nats"))
    per_token = _rate([row.nats for row in rows], [row.tokens for row in rows])
    # A row without bytes, an empty response, has nats for its EOA but no rate of its own.
    texts = [row for row in rows if row.bytes]
    per_byte = _rate([row.nats / math.log(2) for row in texts], [row.bytes for row in texts]) if texts else None
    return Perplexity(
        rows=len(rows),
        skipped=dict(sorted(reasons.items())),
        windowed=sum(row.windows > 1 for row in rows),
        tokens=tokens,
        bytes=size,
        nats=nats,
        nats_per_token=per_token,
        perplexity=Rate(**{name: None if value is None else math.exp(value) for name, value in per_token}),
        bits_per_byte=per_byte,
    )


def _rate(totals: Sequence[float], sizes: Sequence[int]) -> Rate:
    interval = rate_interval(totals, [float(size) for size in sizes])
    return Rate(
        value=sum(totals) / sum(sizes),
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
    )
