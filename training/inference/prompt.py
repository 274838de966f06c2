"""Prompts: token ids in segments, which tokens see which, and the attention among them.

A segment is bidirectional (its tokens see each other) or causal. Every token also sees all earlier segments:

    allow(q, k)  =  k <= q  or  (q and k are in the same bidirectional segment)

HRM-Text defines one segment per prompt: the instruction with its control tokens, bidirectional in a PrefixLM, causal in
a causal model. A response is causal. A conversation is expressed with more segments, e.g. instruction (bidirectional),
response (causal), instruction (bidirectional).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.attention import Queries, Selected, attend, each_head, eager_kernel, plan_attention
from training.batches import move_tensors


class Segment(NamedTuple):
    """Consecutive tokens of a prompt."""

    ids: tuple[int, ...]
    bidirectional: bool


Prompt = tuple[Segment, ...]


def instruction_prompt(ids: Sequence[int], causal: bool = False) -> Prompt:
    """The prompt of a single instruction, control tokens included. causal: for a causal model."""
    return (Segment(tuple(ids), not causal),)


def token_ids(prompt: Prompt) -> list[int]:
    """All token ids of a prompt, in order."""
    return [token for segment in prompt for token in segment.ids]


def visible_positions(prompt: Prompt) -> NDArray[np.int64]:
    """For each token the number of positions that it sees, from the first one on: int64 [tokens]."""
    visible, start = [np.empty(0, np.int64)], 0
    for ids, bidirectional in prompt:
        end = start + len(ids)
        visible.append(np.full(len(ids), end) if bidirectional else np.arange(start, end) + 1)
        start = end
    return np.concatenate(visible)


def attention_among(
    prompts: Sequence[Prompt], dtype: torch.dtype, device: torch.device
) -> Callable[[Queries, Tensor, Tensor], Tensor]:
    """Attention of packed prompts: (q_NHK, k_NHK, v_NHK) -> a_NHK, scale 1/sqrt(K). No prompt may be empty."""
    lengths = [_prefix_and_suffix(prompt) for prompt in prompts]
    prefix_lm = [pair for pair in lengths if pair is not None]
    if len(prefix_lm) == len(prompts):
        prefixes, suffixes = ([pair[side] for pair in prefix_lm] for side in (0, 1))
        plan = plan_attention(prefixes, suffixes, dtype, eager_kernel(device, dtype))
        return partial(attend, move_tensors(plan, device))

    visible = [visible_positions(prompt) for prompt in prompts]
    masks = [torch.from_numpy(np.arange(len(seen)) < seen[:, None]).to(device) for seen in visible]

    def attend_each(q_NHK: Queries, k_NHK: Tensor, v_NHK: Tensor) -> Tensor:
        if isinstance(q_NHK, Selected):
            return each_head(
                q_NHK,
                lambda q_NSK: attend_each(q_NSK, k_NHK[:, : q_NSK.shape[1]], v_NHK[:, : q_NSK.shape[1]]),
                lambda head, q_nK, row_n: attend_rows(q_nK, row_n, k_NHK[:, head], v_NHK[:, head]),
            )
        results, start = [], 0
        for mask in masks:
            q, k, v = (x[start : start + len(mask)].transpose(0, 1)[None] for x in (q_NHK, k_NHK, v_NHK))
            results.append(F.scaled_dot_product_attention(q, k, v, mask)[0].transpose(0, 1))
            start += len(mask)
        return torch.cat(results)

    def attend_rows(q_nK: Tensor, row_n: Tensor, k_NK: Tensor, v_NK: Tensor) -> Tensor:
        results, start = [], 0
        for mask in masks:
            end = start + len(mask)
            own = (row_n >= start) & (row_n < end)
            q, seen = q_nK[own][None], mask[row_n[own] - start]
            results.append(F.scaled_dot_product_attention(q, k_NK[None, start:end], v_NK[None, start:end], seen)[0])
            start = end
        return torch.cat(results)

    return attend_each


def _prefix_and_suffix(prompt: Prompt) -> tuple[int, int] | None:
    """The lengths of a prompt that is one prefix and a causal suffix, as training batches are; None for others."""
    segments = [segment for segment in prompt if segment.ids]
    tokens = sum(len(segment.ids) for segment in segments)
    if any(segment.bidirectional for segment in segments[1:]):
        return None
    # A causal sequence is a prefix of one token, which sees itself, and a suffix.
    prefix = len(segments[0].ids) if segments[0].bidirectional else 1
    return prefix, tokens - prefix
