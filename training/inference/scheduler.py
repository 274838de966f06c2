"""Continuous batching: sequences decoded together, one token per step, in a cache of fixed size.

    scheduler = Scheduler(runner, rows=8, positions=512, end=eoa)
    scheduler.submit(Generation(prompt, limit=100))
    while scheduler.busy:
        scheduler.step()

A prompt takes a row of the cache once one is free. Its row is free again as soon as it ends or is cancelled. Sequences
may be submitted at any time between steps. The tokens of a sequence do not depend on the others, up to rounding
(training/inference/runner.py).

Shape suffixes: B sequences, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from training.inference.language_model import Finish
from training.inference.prompt import Prompt, token_ids

if TYPE_CHECKING:
    from training.inference.runner import Runner

REFILL_SHARE = 8
"""Rows are refilled once an eighth of them is free. A prompt costs about a step of the whole batch, so refilling rows
one by one would slow down the running sequences of a large batch."""


class Sampling:
    """How a sequence chooses its tokens: greedily at temperature 0, else by its own random numbers.

    top_p: sample from the fewest tokens that have at least this probability together. seed, stream: of the random
    numbers, 0 to 2^64 - 1 each.
    """

    def __init__(self, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0, stream: int = 0) -> None:
        if temperature < 0:
            raise ValueError(f"temperature {temperature} is negative")
        self.temperature, self.top_p = temperature, top_p
        self.random = np.random.Generator(np.random.Philox(key=[seed, stream])) if temperature else None


class Generation:
    """A sequence that is being generated.

    ids: generated so far, without the end token. log_probs: of these and of the end token, in nats, at temperature 1.
    alternatives: for each of these the `top` most likely tokens with their log-probabilities. finish: why it ended,
    None until then.
    """

    def __init__(
        self,
        prompt: Prompt,
        limit: int,
        sampling: Sampling | None = None,
        stopped: Callable[[list[int]], bool] | None = None,
        top: int = 0,
    ) -> None:
        """limit: most tokens to generate. stopped: whether these ids end the sequence."""
        self.prompt, self.limit, self.sampling = prompt, limit, sampling or Sampling()
        self.stopped, self.top = stopped, top
        self.length = len(token_ids(prompt))
        self.ids: list[int] = []
        self.log_probs: list[float] = []
        self.alternatives: list[list[tuple[int, float]]] = []
        self.finish: Finish | None = None


class Scheduler:
    """Generates sequences in the rows of one cache."""

    def __init__(self, runner: Runner, rows: int, positions: int, end: int) -> None:
        """rows: sequences decoded together. positions: most tokens of a sequence. end: the token that ends one."""
        self.runner, self.end, self.positions = runner, end, positions
        self.cache = runner.new_cache(rows, positions)
        self.waiting: deque[Generation] = deque()
        self.active: dict[int, Generation] = {}
        """Cache row -> the sequence in it."""

    @property
    def busy(self) -> bool:
        """Whether a sequence is waiting or being generated."""
        return bool(self.waiting or self.active)

    def submit(self, generation: Generation) -> None:
        """Add a sequence.

        Raises:
            ValueError: if its prompt is empty, it may have no token, or it does not fit the cache.
        """
        tokens = generation.length + generation.limit
        if generation.length < 1 or generation.limit < 1 or tokens > self.positions:
            raise ValueError(f"a prompt of {generation.length} tokens and {generation.limit} new ones do not fit")
        self.waiting.append(generation)

    def cancel(self, generation: Generation) -> None:
        """Drop a sequence, wherever it is. Its row is free for the next step."""
        if generation in self.waiting:
            self.waiting.remove(generation)
        self.active = {row: other for row, other in self.active.items() if other is not generation}

    def step(self, last: bool = False) -> list[Generation]:
        """Read the next prompts if rows are free, else generate a token of each active sequence; returns the sequences
        that got a token.

        last: nothing will be submitted any more, so rows that stay idle may be dropped.
        """
        cache = self.cache
        free = [row for row in range(cache.rows) if row not in self.active][: len(self.waiting)]
        if free and (len(free) * REFILL_SHARE >= cache.rows or len(free) == len(self.waiting)):
            self.active |= {row: self.waiting.popleft() for row in free}
            return self._choose(free, self.runner.prefill(cache, free, [self.active[row].prompt for row in free]))
        if not self.active:
            return []
        if last and not self.waiting and not self.runner.compiled and len(self.active) <= cache.rows // 2:
            # torch computes idle rows too, so drop them once no prompt will fill them.
            rows = sorted(self.active)
            cache.keep(rows)
            self.active = {new: self.active[old] for new, old in enumerate(rows)}
        rows = sorted(self.active)
        return self._choose(rows, self.runner.step(cache, rows, [self.active[row].ids[-1] for row in rows]))

    def _choose(self, rows: Sequence[int], logits_BV: Tensor) -> list[Generation]:
        """Append a token to the sequence in each of `rows`, and free the rows whose sequences have ended."""
        generations = [self.active[row] for row in rows]
        logits_BV = logits_BV.float()
        tokens_B = choose_tokens(logits_BV, [generation.sampling for generation in generations])
        normalizer_B = log_normalizers(logits_BV)
        log_prob_B = logits_BV.gather(-1, tokens_B[:, None])[:, 0] - normalizer_B
        for index, (row, generation, token, log_prob) in enumerate(
            zip(rows, generations, tokens_B.tolist(), log_prob_B.tolist(), strict=True)
        ):
            generation.log_probs.append(log_prob)
            if generation.top:
                best = (logits_BV[index] - normalizer_B[index]).topk(min(generation.top, logits_BV.shape[-1]))
                generation.alternatives.append(list(zip(best.indices.tolist(), best.values.tolist(), strict=True)))
            generation.finish = "stop"
            if token != self.end:
                generation.ids.append(token)
                if not (generation.stopped and generation.stopped(generation.ids)):
                    generation.finish = "length" if len(generation.ids) >= generation.limit else None
            if generation.finish:
                del self.active[row]
        return generations


def log_normalizers(logits_BV: Tensor) -> Tensor:
    """Log of the sum of the exponentials of each row, float32 [B].

    On a CPU numpy computes it in one thread. torch would wake its threads for a few rows in every step, and these would
    take the cores from the compiled decoder.
    """
    if logits_BV.device.type != "cpu":
        return logits_BV.logsumexp(-1)
    values_BV = logits_BV.numpy()
    largest_B = values_BV.max(-1)
    return torch.from_numpy(largest_B + np.log(np.exp(values_BV - largest_B[:, None]).sum(-1)))


def choose_tokens(logits_BV: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """A token for each row, int64 [B]."""
    tokens_B = logits_BV.argmax(-1)
    rows = [row for row, sampling in enumerate(samplings) if sampling.random]
    if not rows:
        return tokens_B
    chosen = [samplings[row] for row in rows]
    uniform = [sampling.random.random() for sampling in chosen if sampling.random]
    logits_BV = logits_BV if len(rows) == len(samplings) else logits_BV[rows]
    tokens_B[rows] = sample(logits_BV, [one.temperature for one in chosen], uniform, [one.top_p for one in chosen])
    return tokens_B


def sample(
    logits_BV: Tensor,
    temperature: float | Sequence[float],
    uniform: Sequence[float],
    top_p: Sequence[float] | None = None,
) -> Tensor:
    """A token for each row, int64 [B], drawn from softmax(logits / temperature) by one number in [0, 1) per row.

    Inverts the cumulative distribution, in float64. temperature, top_p: for all rows, or one for each.
    """

    def column(values: float | Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).reshape(-1, 1).to(logits_BV.device)

    prob_BV = (logits_BV.double() / column(temperature)).softmax(-1)
    if top_p is not None and min(top_p) < 1:
        sorted_BV, token_BV = prob_BV.sort(dim=-1, descending=True, stable=True)
        beyond_BV = sorted_BV.cumsum(-1) - sorted_BV >= column(top_p)
        beyond_BV[:, 0] = False
        prob_BV = prob_BV.masked_fill(torch.zeros_like(beyond_BV).scatter(-1, token_BV, beyond_BV), 0.0)
    cumulative_BV = prob_BV.cumsum(-1)
    threshold_B1 = column(uniform) * cumulative_BV[:, -1:]
    # right=True: the first token whose cumulative probability exceeds the threshold has a probability above 0.
    return torch.searchsorted(cumulative_BV, threshold_B1, right=True)[:, 0].clamp(max=logits_BV.shape[-1] - 1)
