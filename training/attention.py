"""Who may look at whom in a packed batch, and ways to compute it.

A batch is a row of sequences without padding. A sequence is a prefix (the instruction, whose tokens all see each other)
and a suffix (the response, whose tokens see the prefix and what went before them):

    allow(q, k)  =  same sequence  and  ( k <= q  or  (q < p and k < p) )             p = prefix length

`reference` writes that line down as a dense [N, N] mask. `attend` computes the same with two small attention calls per
group of sequences of like length, prefix rows and suffix rows, so neither other sequences nor the forbidden corner
(prefix looking at suffix) cost anything. It holds when every response is one token long and there are no suffix rows.
On a GPU `attend` makes the same two passes with kernels that take sequences of any length (`attend_varlen`), and
`flexible` leaves all to FlexAttention; which is the faster there, `python -m tests.benchmarks.gpu` says.

Shape suffixes: N tokens, H heads, K head width, S sequences of a group, P and C its longest prefix and suffix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

PADDING = 1.25
"""Sequences share a group while the longest is at most this many times the shortest."""


WRITTEN_OUT = 1 << 22
"""Scores of an attention call in bf16 that may lie in memory until its gradient is taken: 8 MB a call."""


class Group(NamedTuple):
    """Sequences of like length, laid out side by side. Rows of padding point at row 0; nobody reads their results."""

    rows_SL: Tensor  # int64: P prefix rows, then C suffix rows of each sequence
    prefix: int  # P
    prefix_mask: Tensor | None  # [S, 1, 1, P], 0 or -inf; None where all prefixes are equally long
    suffix_mask: Tensor | None  # [S or 1, 1, C, P + C]; None where there are no suffix rows


class Passes(NamedTuple):
    """Prefix rows, suffix rows and whole sequences, where each sequence's begin and end among them, and the longest."""

    prefix_rows: Tensor  # int64
    suffix_rows: Tensor  # int64, perhaps none
    prefix_bounds: Tensor  # int32 [S + 1]
    suffix_bounds: Tensor
    bounds: Tensor
    longest_prefix: int
    longest_suffix: int
    longest: int


class Layout(NamedTuple):
    """The sequences of a packed batch, and how `attend` groups them."""

    prefix_lengths: tuple[int, ...]
    suffix_lengths: tuple[int, ...]
    groups: tuple[Group, ...]
    order_N: Tensor  # int64: where each token's result stands among the groups' results
    passes: Passes


Lengths = Sequence[int] | NDArray[np.int64]


def layout(prefix_lengths: Lengths, suffix_lengths: Lengths, dtype: torch.dtype = torch.float32) -> Layout:
    """Plan attention for sequences of these lengths (prefix >= 1, suffix >= 0), for q, k and v of `dtype`.

    Done once per batch: the plan serves every attention call of the step.
    """
    prefixes = np.asarray(prefix_lengths, dtype=np.int64)
    suffixes = np.asarray(suffix_lengths, dtype=np.int64)
    if len(prefixes) == 0 or prefixes.min() < 1 or suffixes.min() < 0 or len(prefixes) != len(suffixes):
        raise ValueError("a batch needs sequences, each with a prefix of at least one token")
    lengths = prefixes + suffixes
    starts = np.cumsum(lengths) - lengths
    order_N = np.empty(int(lengths.sum()), dtype=np.int64)
    groups, placed = [], 0
    for members in _alike(prefixes, suffixes):
        p, c, start = prefixes[members, None], suffixes[members, None], starts[members, None]
        P, C = int(p.max()), int(c.max())
        column_P, column_C = np.arange(P), np.arange(C)
        rows = np.concatenate((start + column_P, start + p + column_C), 1)
        real = np.concatenate((column_P < p, column_C < c), 1)
        rows[~real] = 0
        # Results come out as all prefix rows [S, P], then all suffix rows [S, C].
        S = len(members)
        place = np.concatenate((np.arange(S * P).reshape(S, P), S * P + np.arange(S * C).reshape(S, C)), 1)
        order_N[rows[real]] = placed + place[real]
        placed += S * (P + C)
        even = int(p.min()) == P
        # A suffix row of padding (beyond c) sees the prefix as well: a row that sees nothing would be NaN.
        prefix_SCP = np.broadcast_to((column_P < p)[:, None, :], (S, C, P))
        past_SCC = np.broadcast_to(column_C <= column_C[:, None], (S, C, C))
        seen = np.concatenate((prefix_SCP, past_SCC), 2)
        groups.append(
            Group(
                rows_SL=torch.from_numpy(rows),
                prefix=P,
                prefix_mask=None if even else _additive(column_P < p, dtype)[:, None, None, :],
                suffix_mask=_additive(seen[:1] if even else seen, dtype)[:, None] if C else None,
            )
        )
    told = (tuple(prefixes.tolist()), tuple(suffixes.tolist()))
    return Layout(*told, tuple(groups), torch.from_numpy(order_N), _passes(prefixes, suffixes))


def _passes(prefixes: NDArray[np.int64], suffixes: NDArray[np.int64]) -> Passes:
    lengths = prefixes + suffixes
    starts = np.cumsum(lengths) - lengths
    inside = np.arange(int(lengths.sum())) - np.repeat(starts, lengths) < np.repeat(prefixes, lengths)
    bounds = [
        torch.from_numpy(np.append(0, np.cumsum(part)).astype(np.int32)) for part in (prefixes, suffixes, lengths)
    ]
    return Passes(
        torch.from_numpy(np.flatnonzero(inside)),
        torch.from_numpy(np.flatnonzero(~inside)),
        bounds[0],
        bounds[1],
        bounds[2],
        int(prefixes.max()),
        int(suffixes.max()),
        int(lengths.max()),
    )


def _alike(prefixes: NDArray[np.int64], suffixes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Sequence numbers in groups of like prefix and suffix length, so that padding stays small."""
    waiting = np.lexsort((suffixes, prefixes))[::-1]
    groups = []
    while len(waiting):
        p, c = prefixes[waiting[0]], suffixes[waiting[0]]
        # Short ones are worth padding to 16 whatever the proportion: a call costs more than the rows.
        near = (prefixes[waiting] * PADDING + 16 >= p) & (np.abs(suffixes[waiting] - c) <= c * (PADDING - 1) + 16)
        groups.append(waiting[near])
        waiting = waiting[~near]
    return groups


def _additive(allowed: NDArray[np.bool_], dtype: torch.dtype) -> Tensor:
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill_(torch.from_numpy(~allowed), -torch.inf)


def attend(plan: Layout, q_NHK: Tensor, k_NHK: Tensor, v_NHK: Tensor) -> Tensor:
    """PrefixLM attention over a packed batch: a_NHK, in the dtype of the arguments; scale 1/sqrt(K)."""
    if q_NHK.is_cuda and q_NHK.dtype in (torch.bfloat16, torch.float16):
        return attend_varlen(plan, q_NHK, k_NHK, v_NHK)
    results = []
    for group in plan.groups:
        P = group.prefix
        q, k, v = (_taken(x, group.rows_SL).transpose(1, 2) for x in (q_NHK, k_NHK, v_NHK))
        a = _weighted(q[:, :, :P], k[:, :, :P], v[:, :, :P], group.prefix_mask)
        results.append(a.transpose(1, 2).flatten(0, 1))
        if group.suffix_mask is not None:
            a = _weighted(q[:, :, P:], k, v, group.suffix_mask)
            results.append(a.transpose(1, 2).flatten(0, 1))
    together = torch.cat(results)
    return together if len(plan.prefix_lengths) == 1 else together.index_select(0, plan.order_N)


def _taken(x_NHK: Tensor, rows_SL: Tensor) -> Tensor:
    """The rows of a group, [S, L, H, K]. Those of one sequence lie together and are not copied."""
    S, L = rows_SL.shape
    if S == 1:
        return x_NHK.narrow(0, int(rows_SL[0, 0]), L)[None]
    return x_NHK.index_select(0, rows_SL.flatten()).view(S, L, *x_NHK.shape[1:])


def _weighted(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """One attention call, [S, H, rows, K] each. torch's kernel for a CPU multiplies in float32 whatever it is given; in
    bf16 two products and a softmax take half its time, as long as their scores stay small."""
    scores = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    if q.is_cuda or q.dtype != torch.bfloat16 or scores > WRITTEN_OUT:
        return F.scaled_dot_product_attention(q, k, v, mask)
    scores_SHCL: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores_SHCL = scores_SHCL + mask
    return scores_SHCL.softmax(-1) @ v


def attend_varlen(
    plan: Layout, q_NHK: Tensor, k_NHK: Tensor, v_NHK: Tensor, kernel: Callable[..., Any] | None = None
) -> Tensor:
    """The same as `attend` by two calls of FlashAttention's variable-length kernel (bf16 or fp16, on a GPU).

    Prefix rows among themselves, then suffix rows, causally, over their whole sequences: the kernel aligns a causal
    mask at the last row and column, so suffix row c sees the prefix and c + 1 of the suffix. There is no second call
    where no sequence has suffix rows; upstream's backward pass aborts there.
    """
    if kernel is None:
        # Here, since it loads all of torch's compiler, more than a second that a CPU has no use for.
        from torch.nn.attention.varlen import varlen_attn

        kernel = cast(Callable[..., Any], varlen_attn)
    passes = plan.passes
    q, k, v = (x.index_select(0, passes.prefix_rows) for x in (q_NHK, k_NHK, v_NHK))
    bounds, longest = passes.prefix_bounds, passes.longest_prefix
    a_NHK = torch.empty_like(q_NHK).index_copy(0, passes.prefix_rows, kernel(q, k, v, bounds, bounds, longest, longest))
    if passes.longest_suffix:
        q = q_NHK.index_select(0, passes.suffix_rows)
        a = kernel(
            q, k_NHK, v_NHK, passes.suffix_bounds, passes.bounds, passes.longest_suffix, passes.longest,
            window_size=(-1, 0),
        )  # fmt: skip
        a_NHK = a_NHK.index_copy(0, passes.suffix_rows, a)
    return a_NHK


def flexible(plan: Layout, device: torch.device) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """`attend` for this plan by FlexAttention: (q_NHK, k_NHK, v_NHK) -> a_NHK. Its block mask is made once, here.

    It is compiled on a GPU; on a CPU it is as slow as `reference`, and has no gradient.
    """
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    lengths = torch.tensor(plan.prefix_lengths) + torch.tensor(plan.suffix_lengths)
    sequence_N = torch.repeat_interleave(torch.arange(len(lengths)), lengths).to(device)
    ends = lengths.cumsum(0) - lengths + torch.tensor(plan.prefix_lengths)
    prefix_end_N = ends.to(device)[sequence_N]

    def allowed(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (sequence_N[q] == sequence_N[k]) & ((k <= q) | (k < prefix_end_N[q]))

    tokens = len(sequence_N)
    mask = create_block_mask(allowed, None, None, tokens, tokens, device=str(device))
    compute: Any = _compiled_flex() if device.type == "cuda" else flex_attention

    def attend_flex(q_NHK: Tensor, k_NHK: Tensor, v_NHK: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in (q_NHK, k_NHK, v_NHK))
        out: Tensor = compute(q, k, v, block_mask=mask)[0].transpose(0, 1)
        return out

    return attend_flex


@lru_cache
def _compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def reference(plan: Layout, q_NHK: Tensor, k_NHK: Tensor, v_NHK: Tensor) -> Tensor:
    """The same as `attend`, from the definition: one softmax over a dense [N, N] mask."""
    lengths = torch.tensor(plan.prefix_lengths) + torch.tensor(plan.suffix_lengths)
    sequence_N = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    row_N = torch.arange(len(sequence_N))
    prefix_end_N = (lengths.cumsum(0) - lengths + torch.tensor(plan.prefix_lengths))[sequence_N]
    inside_N = row_N < prefix_end_N
    allowed_NN = (sequence_N[:, None] == sequence_N) & ((row_N <= row_N[:, None]) | (inside_N[:, None] & inside_N))
    scores_HNN = torch.einsum("qhk,phk->hqp", q_NHK, k_NHK) / q_NHK.shape[-1] ** 0.5
    weights_HNN = scores_HNN.float().masked_fill(~allowed_NN, -torch.inf).softmax(-1).to(v_NHK.dtype)
    return torch.einsum("hqp,phk->qhk", weights_HNN, v_NHK)
