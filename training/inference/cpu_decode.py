"""Prompts and decoding steps on a CPU, computed by compiled kernels instead of torch operations.

An optional implementation behind the Runner (training/inference/runner.py). It computes what `HrmText.forward` does
with the attention of training/inference/cache.py, and tests compare the two. All sums are float32, whatever the dtype
of the model's weights. Threads, as many as torch is set to, share the sequences.

Shape suffixes: B sequences, N new tokens (one per sequence, or whole prompts), M of them with logits, V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.inference.cpu_kernels import PANEL_ROWS, Floats, Integers, forward
from training.inference.cpu_pack import PackedWeights
from training.inference.prompt import Prompt, token_ids, visible_positions
from training.model import rotation

TOKENS_PER_READ = 512
"""Prompt tokens that are computed together: several short prompts, or a longer one alone. More would not make the
products faster, and their activations would leave the cache."""

ROWS_PER_THREAD = 8
"""Sequences that a thread gets at least in a step: a product computes eight rows at once, for the price of one."""


class _Share(NamedTuple):
    """New tokens of some sequences, computed by one thread."""

    tokens_N: Integers
    rows_N: Integers  # cache row of each token
    positions_N: Integers
    visible_N: Integers  # number of positions that each token sees, from the first one on
    ends_M: Integers  # tokens after which logits are computed


def decode(
    weights: PackedWeights,
    keys: Tensor,
    values: Tensor,
    rows: Sequence[int],
    tokens: Sequence[int],
    positions: Sequence[int],
) -> Tensor:
    """Logits, float32 [B, V], after one more token in each of B cache rows, at `positions`.

    keys, values: float32 [slots, rows, H, T, K], contiguous. The tokens' keys and values are written there.
    """
    count = len(rows)
    parts = min(torch.get_num_threads(), -(-count // ROWS_PER_THREAD))
    bounds = [count * part // parts for part in range(parts + 1)]
    row_B, token_B, position_B = (np.asarray(column, np.int64) for column in (rows, tokens, positions))
    shares = [
        _Share(token_B[a:b], row_B[a:b], position_B[a:b], position_B[a:b] + 1, np.arange(b - a))
        for a, b in pairwise(bounds)
    ]
    return _compute(weights, keys, values, shares)


def prefill(
    weights: PackedWeights, keys: Tensor, values: Tensor, rows: Sequence[int], prompts: Sequence[Prompt]
) -> Tensor:
    """Logits, float32 [B, V], after each of B non-empty prompts.

    The keys and values of a prompt's tokens are written to its cache row, from position 0 on.
    """
    ids = [token_ids(prompt) for prompt in prompts]
    visible = [visible_positions(prompt) for prompt in prompts]
    shares, first = [], 0
    while first < len(prompts):
        # As many prompts as TOKENS_PER_READ allows, at least one.
        after, count = first + 1, len(ids[first])
        while after < len(prompts) and count + len(ids[after]) <= TOKENS_PER_READ:
            count += len(ids[after])
            after += 1
        lengths = np.array([len(tokens) for tokens in ids[first:after]])
        ends = np.cumsum(lengths)
        shares.append(
            _Share(
                np.fromiter(itertools.chain.from_iterable(ids[first:after]), np.int64, count),
                np.repeat(np.asarray(rows[first:after], np.int64), lengths),
                np.arange(count) - np.repeat(ends - lengths, lengths),
                np.concatenate(visible[first:after]),
                ends - 1,
            )
        )
        first = after
    return _compute(weights, keys, values, shares)


def _compute(weights: PackedWeights, keys: Tensor, values: Tensor, shares: Sequence[_Share]) -> Tensor:
    """The logits of all shares, in order."""

    def compute(share: _Share) -> Floats:
        cos, sin = (
            x[:, 0].numpy() for x in rotation(torch.from_numpy(share.positions_N), keys.shape[-1], weights.theta)
        )
        logits_MV = np.empty((len(share.ends_M), weights.head.shape[0] * PANEL_ROWS), np.float32)
        forward(
            weights.calls, weights.norm, weights.blocks, weights.embed(share.tokens_N), weights.start_D, weights.gqkv,
            weights.output, weights.gate_up, weights.down, weights.head, weights.feed_forward, keys.numpy(),
            values.numpy(), share.rows_N, share.positions_N, share.visible_N, cos, sin, share.ends_M, logits_MV,
        )  # fmt: skip
        return logits_MV

    threads = min(torch.get_num_threads(), len(shares))
    if threads == 1:
        logits = [compute(share) for share in shares]
    else:
        with ThreadPoolExecutor(threads) as pool:
            logits = list(pool.map(compute, shares))
    return torch.from_numpy(np.concatenate(logits))[:, : weights.vocabulary]
