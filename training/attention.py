"""PrefixLM attention over a packed batch: the mask, and several ways to compute it.

A batch is a row of sequences without padding. A sequence is a prefix (the instruction; its tokens see each other) and a
suffix (the response; its tokens see the prefix and the suffix tokens before them):

    allow(q, k)  =  same sequence  and  ( k <= q  or  (q < p and k < p) )             p = prefix length

`reference` applies this mask as a dense [N, N] matrix. `attend` groups sequences of similar length and makes two
attention calls per group, one for prefix rows and one for suffix rows. Neither other sequences nor the pairs (prefix
query, suffix key) are computed. There may be no suffix rows at all, if every response is one token long. On a GPU
training uses FlexAttention over a table of blocks (`flexible`), and `attend` makes the same two passes with
variable-length kernels (`attend_varlen`). Neither has a dense mask. `python -m tests.benchmarks.gpu` compares the two.

Shape suffixes: N tokens, H heads, K head width, S sequences of a group, P and C its longest prefix and suffix, B blocks
of 128 tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

MAX_LENGTH_RATIO = 1.25
"""Sequences share a group if the longest is at most this many times as long as the shortest. It limits padding."""

FREE_PADDING = 16
"""Tokens of padding allowed whatever the ratio: for short sequences another attention call costs more."""

MAX_STORED_SCORES = 1 << 22
"""Largest number of bf16 scores that an attention call may store for its backward pass: 8 MB per call."""


BLOCK = 128
"""Rows and columns of a block of FlexAttention."""

Kernel = Literal["groups", "varlen", "flex"]
"""What a plan is for: torch's attention on groups of sequences, variable-length kernels, or FlexAttention."""


class Group(NamedTuple):
    """Sequences of similar length, padded to one shape. Padding rows point at row 0; their results are not used."""

    rows_SL: Tensor  # int64: rows of the batch; per sequence P prefix rows, then C suffix rows
    edges_S3: Tensor  # int64: rows of the batch where a sequence's prefix and suffix begin, and where it ends
    prefix: int  # P
    prefix_mask: Tensor | None  # [S, 1, 1, P], 0 or -inf; None if all prefixes are equally long
    suffix_mask: Tensor | None  # [S or 1, 1, C, P + C]; None if there are no suffix rows


class Passes(NamedTuple):
    """The same sequences for variable-length kernels: prefix rows, suffix rows and complete sequences."""

    prefix_rows: Tensor  # int64
    suffix_rows: Tensor  # int64, may be empty
    prefix_bounds: Tensor  # int32 [S + 1]: where each sequence's prefix begins among all prefix rows
    suffix_bounds: Tensor  # int32 [S + 1]
    bounds: Tensor  # int32 [S + 1]: where each sequence begins in the batch
    longest_prefix: int
    longest_suffix: int
    longest: int


class Blocks(NamedTuple):
    """The same sequences for FlexAttention. Row q sees the columns from first_N[q] to before last_N[q]; int32.

    Row b of each table lists the blocks of columns that a block of rows needs: those with some visible pairs, whose
    mask is computed, and those with only visible pairs.
    """

    first_N: Tensor
    last_N: Tensor
    partial_B: Tensor  # int32: how many of the table's row are used
    partial_BB: Tensor  # int32
    full_B: Tensor
    full_BB: Tensor


class AttentionPlan(NamedTuple):
    """The sequences of a packed batch, for one of the kernels."""

    prefix_lengths: tuple[int, ...]
    suffix_lengths: tuple[int, ...]
    groups: tuple[Group, ...]  # empty except for `groups`
    order_N: Tensor | None  # int64: index of each token's result among the concatenated results of the groups
    passes: Passes | None  # None for `flex`
    blocks: Blocks | None  # for `flex`


Lengths = Sequence[int] | NDArray[np.int64]


class Selected(NamedTuple):
    """Queries of tokens that use only some of H heads (training/routing.py).

    The first S heads are used by every token: q_NSK. The pairs of a token and another head are sorted by head, then by
    token: q_PK, token_P (int64), and how many each of the H - S heads has. The result of attention has the shared
    heads' rows, [N S, K], and then those of the pairs, [P, K].
    """

    q_NSK: Tensor
    q_PK: Tensor
    token_P: Tensor
    counts: list[int]


Queries = Tensor | Selected
"""q_NHK, or the queries of chosen heads."""


def plan_attention(
    prefix_lengths: Lengths,
    suffix_lengths: Lengths,
    dtype: torch.dtype = torch.float32,
    kernel: Kernel = "groups",
    padding: int = 0,
) -> AttentionPlan:
    """Plan attention for sequences of these lengths (prefix >= 1, suffix >= 0), for q, k and v of `dtype`.

    One plan per batch serves every attention call of the step. Its tensors are on the CPU. A plan for `groups` serves
    variable-length kernels too.

    padding: tokens after the last sequence, each of which sees itself. Only `flex` computes them.

    Raises:
        ValueError: if there are no sequences, or one has no prefix token.
    """
    prefixes = np.asarray(prefix_lengths, dtype=np.int64)
    suffixes = np.asarray(suffix_lengths, dtype=np.int64)
    if len(prefixes) == 0 or prefixes.min() < 1 or suffixes.min() < 0 or len(prefixes) != len(suffixes):
        raise ValueError("a batch needs sequences, each with a prefix of at least one token")
    lengths = prefixes + suffixes
    starts = np.cumsum(lengths) - lengths
    sizes = tuple(prefixes.tolist()), tuple(suffixes.tolist())
    if kernel == "flex":
        return AttentionPlan(*sizes, (), None, None, _blocks(prefixes, suffixes, padding))
    if kernel == "varlen":
        return AttentionPlan(*sizes, (), None, _passes(prefixes, suffixes), None)
    order_N = np.empty(int(lengths.sum()), dtype=np.int64)
    groups, placed = [], 0
    for members in _similar_lengths(prefixes, suffixes):
        p, c, start = prefixes[members, None], suffixes[members, None], starts[members, None]
        P, C = int(p.max()), int(c.max())
        column_P, column_C = np.arange(P), np.arange(C)
        rows = np.concatenate((start + column_P, start + p + column_C), 1)
        real = np.concatenate((column_P < p, column_C < c), 1)
        rows[~real] = 0
        # `attend` returns the results of a group as all prefix rows [S, P], then all suffix rows [S, C].
        S = len(members)
        place = np.concatenate((np.arange(S * P).reshape(S, P), S * P + np.arange(S * C).reshape(S, C)), 1)
        order_N[rows[real]] = placed + place[real]
        placed += S * (P + C)
        even = int(p.min()) == P
        # Padding rows of the suffix (beyond c) see the prefix too: a softmax over no keys would be NaN.
        prefix_SCP = np.broadcast_to((column_P < p)[:, None, :], (S, C, P))
        past_SCC = np.broadcast_to(column_C <= column_C[:, None], (S, C, C))
        visible = np.concatenate((prefix_SCP, past_SCC), 2)
        groups.append(
            Group(
                rows_SL=torch.from_numpy(rows),
                edges_S3=torch.from_numpy(np.concatenate((start, start + p, start + p + c), 1)),
                prefix=P,
                prefix_mask=None if even else _additive(column_P < p, dtype)[:, None, None, :],
                suffix_mask=_additive(visible[:1] if even else visible, dtype)[:, None] if C else None,
            )
        )
    return AttentionPlan(*sizes, tuple(groups), torch.from_numpy(order_N), _passes(prefixes, suffixes), None)


def eager_kernel(device: torch.device, dtype: torch.dtype) -> Kernel:
    """`varlen` where its kernels run: in bf16 and fp16 on a GPU. Else `groups`."""
    return "varlen" if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16) else "groups"


def _blocks(prefixes: NDArray[np.int64], suffixes: NDArray[np.int64], padding: int) -> Blocks:
    lengths = prefixes + suffixes
    starts = np.cumsum(lengths) - lengths
    tokens = int(lengths.sum())
    row_N = np.arange(tokens + padding)
    first_N, last_N = row_N.copy(), row_N + 1
    first_N[:tokens] = np.repeat(starts, lengths)
    last_N[:tokens] = np.maximum(last_N[:tokens], np.repeat(starts + prefixes, lengths))
    count = -(-len(row_N) // BLOCK)
    edges = np.arange(0, len(row_N), BLOCK)
    # A block's rows are consecutive, so the columns that they see are one range without holes.
    lowest, highest = np.minimum.reduceat(first_N, edges), np.maximum.reduceat(last_N, edges)
    seen_by_all = np.maximum.reduceat(first_N, edges), np.minimum.reduceat(last_N, edges)
    column_B = np.arange(count)
    left_B, right_B = column_B * BLOCK, (column_B + 1) * BLOCK
    some_BB = (left_B < highest[:, None]) & (right_B > lowest[:, None])
    # Columns past the end are seen by none, so the last block of columns is not full unless it is complete.
    whole_BB = (left_B >= seen_by_all[0][:, None]) & (right_B <= seen_by_all[1][:, None])

    def table(wanted_BB: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        order_BB = np.argsort(~wanted_BB, axis=1, kind="stable").astype(np.int32)
        return torch.from_numpy(wanted_BB.sum(1).astype(np.int32)), torch.from_numpy(order_BB)

    return Blocks(
        torch.from_numpy(first_N.astype(np.int32)),
        torch.from_numpy(last_N.astype(np.int32)),
        *table(some_BB & ~whole_BB),
        *table(whole_BB),
    )


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


def _similar_lengths(prefixes: NDArray[np.int64], suffixes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Indices of sequences in groups of similar prefix and suffix length, longest first."""
    waiting = np.lexsort((suffixes, prefixes))[::-1]
    groups = []
    while len(waiting):
        p, c = prefixes[waiting[0]], suffixes[waiting[0]]
        similar = (prefixes[waiting] * MAX_LENGTH_RATIO + FREE_PADDING >= p) & (
            np.abs(suffixes[waiting] - c) <= c * (MAX_LENGTH_RATIO - 1) + FREE_PADDING
        )
        groups.append(waiting[similar])
        waiting = waiting[~similar]
    return groups


def _additive(allowed: NDArray[np.bool_], dtype: torch.dtype) -> Tensor:
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill_(torch.from_numpy(~allowed), -torch.inf)


def attend(plan: AttentionPlan, q_NHK: Queries, k_NHK: Tensor, v_NHK: Tensor) -> Tensor:
    """PrefixLM attention over a packed batch, scale 1/sqrt(K): a_NHK in the dtype of the arguments.

    plan: for `groups` or `varlen`; only `groups` for the queries of chosen heads.
    """
    if isinstance(q_NHK, Selected):
        return each_head(
            q_NHK,
            lambda q_NSK: attend(plan, q_NSK, k_NHK[:, : q_NSK.shape[1]], v_NHK[:, : q_NSK.shape[1]]),
            lambda head, q_nK, row_n: _attend_head(plan, q_nK, row_n, k_NHK[:, head], v_NHK[:, head]),
        )
    if plan.order_N is None:
        return attend_varlen(plan, q_NHK, k_NHK, v_NHK)
    results = []
    for group in plan.groups:
        P = group.prefix
        q, k, v = (_rows(x, group.rows_SL).transpose(1, 2) for x in (q_NHK, k_NHK, v_NHK))
        a = _attention(q[:, :, :P], k[:, :, :P], v[:, :, :P], group.prefix_mask)
        results.append(a.transpose(1, 2).flatten(0, 1))
        if group.suffix_mask is not None:
            a = _attention(q[:, :, P:], k, v, group.suffix_mask)
            results.append(a.transpose(1, 2).flatten(0, 1))
    grouped = torch.cat(results)
    return grouped if len(plan.prefix_lengths) == 1 else grouped.index_select(0, plan.order_N)


def each_head(
    queries: Selected, shared: Callable[[Tensor], Tensor], chosen: Callable[[int, Tensor, Tensor], Tensor]
) -> Tensor:
    """Attention of chosen heads.

    shared: q_NSK of the first heads -> a_NSK. chosen: (head, its n queries [n, K], their tokens, ascending) -> [n, K].
    """
    S = queries.q_NSK.shape[1]
    results = [shared(queries.q_NSK).flatten(0, 1)] if S else []
    parts = zip(*(torch.split(of_pairs, queries.counts) for of_pairs in (queries.q_PK, queries.token_P)), strict=True)
    results += [chosen(head, q, tokens) for head, (q, tokens) in enumerate(parts, S) if len(q)]
    return torch.cat(results)


def _attend_head(plan: AttentionPlan, q_nK: Tensor, row_n: Tensor, k_NK: Tensor, v_NK: Tensor) -> Tensor:
    """Attention of one head for some rows of the batch, in ascending order."""
    out = torch.empty_like(q_nK)
    for group in plan.groups:
        # The rows of a sequence's prefix are a range of `row_n`, followed by those of its suffix.
        edges_S3 = torch.searchsorted(row_n, group.edges_S3)
        k, v = (_rows(x[:, None], group.rows_SL).transpose(1, 2) for x in (k_NK, v_NK))
        for side, mask in enumerate((group.prefix_mask, group.suffix_mask)):
            first_S, last_S = edges_S3[:, side], edges_S3[:, side + 1]
            longest = int((last_S - first_S).max())
            if not longest:
                continue
            place_SL = first_S[:, None] + torch.arange(longest)
            real_SL = place_SL < last_S[:, None]
            place_SL = place_SL.clamp(max=len(row_n) - 1)
            if side == 0:
                P = group.prefix
                a = _attention(q_nK[place_SL][:, None], k[:, :, :P], v[:, :, :P], mask)
            else:
                assert mask is not None
                c_SL = (row_n[place_SL] - group.edges_S3[:, 1:2]).clamp(0, mask.shape[2] - 1)
                sequence = torch.arange(len(mask))[:, None]  # one mask for all sequences, or one for each
                a = _attention(q_nK[place_SL][:, None], k, v, mask[sequence, 0, c_SL][:, None])
            out = out.index_put((place_SL[real_SL],), a[:, 0][real_SL])
    return out


def _rows(x_NHK: Tensor, rows_SL: Tensor) -> Tensor:
    """The rows of a group, [S, L, H, K]. The rows of a single sequence are contiguous, so that case is a view."""
    S, L = rows_SL.shape
    if S == 1:
        return x_NHK.narrow(0, int(rows_SL[0, 0]), L)[None]
    return x_NHK.index_select(0, rows_SL.flatten()).view(S, L, *x_NHK.shape[1:])


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """One attention call on tensors [S, H, rows, K].

    torch's CPU kernel computes in float32 for every dtype. In bf16, two matrix products and a softmax take half its
    time, as long as the scores are few enough to store.
    """
    scores = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    if q.is_cuda or q.dtype != torch.bfloat16 or scores > MAX_STORED_SCORES:
        return F.scaled_dot_product_attention(q, k, v, mask)
    scores_SHCL: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores_SHCL = scores_SHCL + mask
    return scores_SHCL.softmax(-1) @ v


def attend_varlen(
    plan: AttentionPlan, q_NHK: Tensor, k_NHK: Tensor, v_NHK: Tensor, kernel: Callable[..., Any] | None = None
) -> Tensor:
    """`attend` by two calls of FlashAttention's variable-length kernel (bf16 or fp16, on a GPU).

    The first call computes prefix rows among themselves. The second computes suffix rows over their full sequences with
    a causal mask. The kernel aligns that mask at the last row and column, so suffix row c sees the prefix and c + 1
    suffix tokens. The second call is left out if no sequence has suffix rows: the kernel's backward pass aborts there.

    kernel: replaces `torch.nn.attention.varlen.varlen_attn`, which needs a GPU, in tests.
    """
    if kernel is None:
        # Imported here: it loads torch's compiler, which takes more than a second and is not needed on a CPU.
        from torch.nn.attention.varlen import varlen_attn

        kernel = cast(Callable[..., Any], varlen_attn)
    passes = plan.passes
    assert passes is not None, "a plan for `varlen` or `groups`"
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


def flexible(plan: AttentionPlan) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """`attend` for a plan for `flex`: (q_NHK, k_NHK, v_NHK) -> a_NHK. The block mask is made once, here.

    torch.compile must compile the caller, or the result of this function. On a CPU it is as slow as `reference` and has
    no gradient. The head width must be at least 16 on a GPU.
    """
    return partial(_attend_flex, _block_mask(plan))


def _block_mask(plan: AttentionPlan) -> Any:
    # Imported here: it loads torch's compiler, which takes more than a second and is not needed on a CPU.
    from torch.nn.attention.flex_attention import BlockMask

    assert plan.blocks is not None, "a plan for `flex`"
    first_N, last_N, *tables = plan.blocks
    tokens = len(first_N)

    def allowed(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (first_N[q] <= k) & (k < last_N[q])

    partial_B, partial_BB, full_B, full_BB = (table[None, None] for table in tables)
    return BlockMask.from_kv_blocks(
        partial_B, partial_BB, full_B, full_BB, BLOCK_SIZE=BLOCK, mask_mod=allowed, seq_lengths=(tokens, tokens)
    )


def _attend_flex(mask: Any, q_NHK: Tensor, k_NHK: Tensor, v_NHK: Tensor) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    q, k, v = (x.transpose(0, 1)[None] for x in (q_NHK, k_NHK, v_NHK))
    out: Any = flex_attention(q, k, v, block_mask=mask)
    a_NHK: Tensor = out[0].transpose(0, 1)
    return a_NHK


def reference(plan: AttentionPlan, q_NHK: Tensor, k_NHK: Tensor, v_NHK: Tensor) -> Tensor:
    """`attend` by definition: one softmax over a dense [N, N] mask."""
    lengths = torch.tensor(plan.prefix_lengths) + torch.tensor(plan.suffix_lengths)
    sequence_N = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    row_N = torch.arange(len(sequence_N))
    prefix_end_N = (lengths.cumsum(0) - lengths + torch.tensor(plan.prefix_lengths))[sequence_N]
    inside_N = row_N < prefix_end_N
    allowed_NN = (sequence_N[:, None] == sequence_N) & ((row_N <= row_N[:, None]) | (inside_N[:, None] & inside_N))
    scores_HNN = torch.einsum("qhk,phk->hqp", q_NHK, k_NHK) / q_NHK.shape[-1] ** 0.5
    weights_HNN = scores_HNN.float().masked_fill(~allowed_NN, -torch.inf).softmax(-1).to(v_NHK.dtype)
    return torch.einsum("hqp,phk->qhk", weights_HNN, v_NHK)
