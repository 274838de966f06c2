"""Run a model: logits of given tokens, and generation, on a CPU or a GPU.

The Runner is the only code that runs a model after training. It holds the device, the precision and the choice of
implementation. Plain torch, on any device, is the reference. On a CPU, decoding steps and float32 prompts go through
compiled kernels (training/inference/cpu_decode.py) if these can run the model; everything else goes through torch.
Another kind of block needs no change here: it runs in torch, and `cpu_pack.can_pack` declines it.

Generation decodes a batch of sequences together, one token per step. When sequences end, prompts from the queue take
their rows (continuous batching). A sequence's tokens do not depend on the others in its batch, up to rounding: with the
compiled kernels they are identical; torch may choose another order of additions for another number of rows.

Shape suffixes: B sequences, N packed tokens, M tokens to predict, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.errors import WinnowError
from training.configs import DTYPES, Precision
from training.inference import cpu_decode
from training.inference.cache import Cache
from training.inference.cpu_pack import can_pack, pack
from training.inference.language_model import Finish, LogLikelihood
from training.inference.prompt import Prompt, Segment, attention_among, token_ids
from training.inference.scheduler import Generation, Sampling, Scheduler
from training.model import HrmText

LOGIT_TOKENS = 4096
"""Tokens in a forward pass that gives logits. More would not be faster, and logits take much memory."""


class Generated(NamedTuple):
    """A continuation. ids: without the end token. log_prob: of the ids and the end token, in nats, at temperature 1."""

    ids: list[int]
    log_prob: float
    finish: Finish


def find_device(name: str) -> torch.device:
    """The device of a name: `auto` (a GPU if torch sees one, else the CPU), `cpu`, `cuda`, `cuda:1`, ...

    Raises:
        WinnowError: if there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise WinnowError(f"device {name!r}: use auto, cpu, cuda or cuda:<number>")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise WinnowError(f"device {name!r}: torch sees {torch.cuda.device_count()} GPUs; use cpu")
    return device


def batches_by_length(lengths: Sequence[int], batch: int | None = None) -> Iterator[list[int]]:
    """The numbers of sequences, in batches of similar length, the shortest first. Those of length 0 are left out.

    A batch has at most LOGIT_TOKENS tokens, padded to its longest sequence, or one sequence. batch: most sequences.
    """
    chosen: list[int] = []
    for i in sorted((i for i, length in enumerate(lengths) if length), key=lambda i: lengths[i]):
        if chosen and ((len(chosen) + 1) * lengths[i] > LOGIT_TOKENS or len(chosen) == batch):
            yield chosen
            chosen = []
        chosen.append(i)
    if chosen:
        yield chosen


def log_likelihood(logits_MV: Tensor, target_M: Tensor) -> LogLikelihood:
    """The likelihood of tokens [M], at least one, that logits [M, V] predict."""
    log_probs_MV = F.log_softmax(logits_MV.float(), -1)
    given_M = log_probs_MV.gather(-1, target_M[:, None])[:, 0]
    margin_M = log_probs_MV.max(-1).values - given_M
    is_greedy = bool((logits_MV.argmax(-1) == target_M).all())
    # One transfer from the device for the three numbers.
    total, margin, worst = torch.stack(
        [given_M.double().sum(), margin_M.double().sum(), margin_M.max().double()]
    ).tolist()
    return LogLikelihood(total, is_greedy, margin, worst)


class Runner:
    """A model on a device, in a precision, ready to be run. It converts the model in place."""

    def __init__(
        self, model: HrmText, device: torch.device | str = "cpu", precision: Precision = "fp32", compiled: bool = True
    ) -> None:
        """compiled: use the compiled CPU decoder where it applies. It keeps a second copy of the weights."""
        self.device, self.dtype = torch.device(device), DTYPES[precision]
        self.model = model.to(self.device, self.dtype).eval().requires_grad_(False)
        self._packed = pack(self.model) if compiled and can_pack(self.model) else None

    # ------------------------------------------------------------------------------------------------- given tokens

    @torch.inference_mode()
    def logits(self, requests: Sequence[tuple[Prompt, Sequence[int]]]) -> list[Tensor]:
        """Logits for each token of given continuations: one tensor [M, V] per (prompt, continuation).

        A token is predicted from the prompt and the continuation's tokens before it, which are causal. Computed in one
        forward pass. Neither a prompt nor a continuation may be empty.
        """
        # The last token of a continuation predicts nothing that is asked for.
        sequences = [(*prompt, Segment(tuple(continuation[:-1]), False)) for prompt, continuation in requests]
        ids = [token_ids(sequence) for sequence in sequences]
        counts = [len(continuation) for _, continuation in requests]
        if not all(len(tokens) >= count > 0 for tokens, count in zip(ids, counts, strict=True)):
            raise ValueError("logits need a prompt and a continuation of at least one token each")
        attend = attention_among(sequences, self.dtype, self.device)
        ends = np.cumsum([len(tokens) for tokens in ids])
        rows_M = np.concatenate([np.arange(end - count, end) for end, count in zip(ends, counts, strict=True)])
        logits_MV = self.model(
            self._tensor([token for tokens in ids for token in tokens]),
            torch.cat([torch.arange(len(tokens)) for tokens in ids]).to(self.device),
            lambda slot, q_NHK, k_NHK, v_NHK: attend(q_NHK, k_NHK, v_NHK),
            rows_M=torch.from_numpy(rows_M).to(self.device),
        )
        return list(logits_MV.split(counts))

    def log_likelihoods(
        self, requests: Sequence[tuple[Prompt, Sequence[int]]], batch: int | None = None
    ) -> list[LogLikelihood]:
        """Log-likelihood of each continuation given its prompt, in the order of the requests.

        An empty continuation has log-probability 0. A prompt may not be empty, because nothing would predict the first
        token. batch: most sequences in a forward pass; None for as many as LOGIT_TOKENS allow.
        """
        results = [LogLikelihood(0.0, True)] * len(requests)
        lengths = [len(token_ids(prompt)) + len(c) if len(c) else 0 for prompt, c in requests]
        for chosen in batches_by_length(lengths, batch):
            for i, logits_MV in zip(chosen, self.logits([requests[i] for i in chosen]), strict=True):
                results[i] = log_likelihood(logits_MV, self._tensor(requests[i][1]))
        return results

    # --------------------------------------------------------------------------------------------------- generation

    def generate(
        self,
        prompts: Sequence[Prompt],
        end: int,
        max_new_tokens: int,
        context: int,
        batch: int = 32,
        temperature: float = 0.0,
        seed: int = 0,
        stopped: Callable[[list[int]], bool] | None = None,
        on_done: Callable[[int], None] | None = None,
        streams: Sequence[int] | None = None,
    ) -> list[list[int]]:
        """The token ids of `complete`, which has the same arguments."""
        completed = self.complete(
            prompts, end, max_new_tokens, context, batch, temperature, seed, stopped, on_done, streams
        )
        return [generated.ids for generated in completed]

    def complete(
        self,
        prompts: Sequence[Prompt],
        end: int,
        max_new_tokens: int,
        context: int,
        batch: int = 32,
        temperature: float = 0.0,
        seed: int = 0,
        stopped: Callable[[list[int]], bool] | None = None,
        on_done: Callable[[int], None] | None = None,
        streams: Sequence[int] | None = None,
    ) -> list[Generated]:
        """Continuations of `prompts`, in their order.

        A continuation ends with the token `end`, when `stopped` returns true for its ids, after `max_new_tokens`, or
        when prompt and continuation have `context` tokens. A prompt that is empty or leaves no room gets none.

        Args:
            batch: largest number of sequences decoded together.
            temperature: 0 for greedy decoding, else the logits are divided by it and a token is sampled.
            seed: of the sampling. Each prompt has its own random numbers, determined by the seed and its stream.
            on_done: called with the number of finished prompts, after every `batch` of them and at the end.
            streams: a number from 0 to 2^64 - 1 for each prompt; by default its index.

        Raises:
            ValueError: if the temperature is negative.
        """
        numbers = range(len(prompts)) if streams is None else streams
        generations = [
            Generation(
                prompt, min(max_new_tokens, context - length) if (length := len(token_ids(prompt))) else 0,
                Sampling(temperature, seed=seed, stream=number), stopped,
            )
            for prompt, number in zip(prompts, numbers, strict=True)
        ]  # fmt: skip
        # Longest first: the first prompts then determine the size of the cache.
        queue = sorted((one for one in generations if one.limit > 0), key=lambda one: -one.length)
        if queue:
            positions = max(one.length + one.limit for one in queue)
            scheduler = Scheduler(self, min(batch, len(queue)), positions, end)
            for one in queue:
                scheduler.submit(one)
            finished = reported = len(prompts) - len(queue)
            while scheduler.busy:
                finished += sum(one.finish is not None for one in scheduler.step(last=True))
                if on_done and (finished // batch > reported // batch or finished == len(prompts)):
                    reported = finished
                    on_done(finished)
        return [Generated(one.ids, sum(one.log_probs), one.finish or "none") for one in generations]

    @property
    def compiled(self) -> bool:
        """Whether the compiled CPU decoder runs decoding steps."""
        return self._packed is not None

    def new_cache(self, rows: int, positions: int) -> Cache:
        """A cache for `rows` sequences of at most `positions` tokens."""
        return Cache(self.model.config, rows, positions, self.device, self.dtype, self._packed is not None)

    @torch.inference_mode()
    def prefill(self, cache: Cache, rows: Sequence[int], prompts: Sequence[Prompt]) -> Tensor:
        """Logits [B, V] after each of B prompts, whose keys and values are stored in `rows` of the cache."""
        ids = [token_ids(prompt) for prompt in prompts]
        lengths = [len(tokens) for tokens in ids]
        # In bf16, torch is faster for many rows, because it uses the processor's bf16 matrix instructions; but it would
        # restore weights in four bits first.
        if self._packed and (self.dtype == torch.float32 or self._packed.head.dtype == np.uint8):
            for row, length in zip(rows, lengths, strict=True):
                cache.lengths[row] = length
            return cpu_decode.prefill(self._packed, cache.keys, cache.values, rows, prompts)
        attend = cache.prefill_attention(rows, lengths, attention_among(prompts, self.dtype, self.device))
        logits_BV: Tensor = self.model(
            self._tensor([token for tokens in ids for token in tokens]),
            torch.cat([torch.arange(length) for length in lengths]).to(self.device),
            attend,
            rows_M=self._tensor(lengths).cumsum(0) - 1,
        )
        return logits_BV

    @torch.inference_mode()
    def step(self, cache: Cache, rows: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Logits [B, V] after one more token in each of B `rows` of the cache."""
        if self._packed:
            positions = [cache.lengths[row] for row in rows]
            for row in rows:
                cache.lengths[row] += 1
            return cpu_decode.decode(self._packed, cache.keys, cache.values, rows, tokens, positions)
        token_of_row = dict(zip(rows, tokens, strict=True))
        position_B, attend = cache.step_attention(rows)
        logits_BV: Tensor = self.model(
            self._tensor([token_of_row.get(row, 0) for row in range(cache.rows)]), position_B, attend
        )
        return logits_BV if len(rows) == cache.rows else logits_BV[self._tensor(rows)]

    def _tensor(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64).to(self.device)
