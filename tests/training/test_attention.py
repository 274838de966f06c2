"""Fast attention equals the definition for every mix of lengths, in results and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training import attention
from training.attention import BLOCK, attend, attend_varlen, flexible, plan_attention, reference

lengths = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40)), min_size=1, max_size=12)


def agree(
    sequences: list[tuple[int, int]], fast: Callable[..., Tensor] = attend, dtype: torch.dtype = torch.float32
) -> None:
    """`fast` in `dtype` has the results and gradients of the definition in float32."""
    plan = plan_attention([p for p, _ in sequences], [c for _, c in sequences], dtype)
    tokens = sum(p + c for p, c in sequences)
    generator = torch.Generator().manual_seed(tokens)
    q, k, v, g = (torch.randn(tokens, 2, 8, generator=generator).to(dtype) for _ in range(4))
    results = []
    for compute, kind in ((fast, dtype), (reference, torch.float32)):
        inputs = [x.to(kind, copy=True).requires_grad_() for x in (q, k, v)]
        a = compute(plan, *inputs)
        a.backward(g.to(kind))
        results.append([a.detach(), *(x.grad for x in inputs)])
    for quick, slow in zip(*results, strict=True):
        if dtype == torch.float32:
            torch.testing.assert_close(quick, slow, rtol=1e-4, atol=1e-5)
        else:  # 8-bit mantissas, and sums of some tens of values
            assert (quick.float() - slow).abs().max() < 0.02 * slow.abs().max()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(lengths)
def test_fast_path_equals_the_definition(sequences: list[tuple[int, int]]) -> None:
    agree(sequences)


@pytest.mark.parametrize("stored", [0, 1 << 22])
@pytest.mark.parametrize("sequences", [[(5, 7), (11, 0), (3, 16), (1, 1)], [(5, 0), (9, 0)], [(100, 60)]])
def test_bf16_differs_from_the_definition_by_its_rounding(
    sequences: list[tuple[int, int]], stored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "MAX_STORED_SCORES", stored)
    agree(sequences, dtype=torch.bfloat16)


def kernel(q, k, v, bounds_q, bounds_k, longest_q, longest_k, window_size=(-1, -1)) -> Tensor:
    """varlen_attn as documented, one sequence at a time: causal masks are aligned at the lower right corner."""
    out = []
    for a, b, c, d in zip(bounds_q, bounds_q[1:], bounds_k, bounds_k[1:], strict=False):
        assert b - a <= longest_q and d - c <= longest_k
        scores = torch.einsum("qhk,phk->hqp", q[a:b], k[c:d]) / q.shape[-1] ** 0.5
        if window_size == (-1, 0):
            late = torch.arange(d - c) > torch.arange(b - a)[:, None] + (d - c) - (b - a)
            scores = scores.masked_fill(late, -torch.inf)
        out.append(torch.einsum("hqp,phk->qhk", scores.softmax(-1), v[c:d]))
    return torch.cat(out)


@pytest.mark.parametrize("sequences", [[(5, 7), (11, 0), (3, 16), (1, 1)], [(5, 0), (9, 0)], [(1, 30)]])
def test_two_passes_of_a_variable_length_kernel_equal_the_definition(sequences: list[tuple[int, int]]) -> None:
    """The kernel needs a GPU. Its arguments, and the use of its results, can be tested without one."""
    agree(sequences, lambda plan, q, k, v: attend_varlen(plan, q, k, v, kernel))


@pytest.mark.parametrize("sequences", [[(5, 7), (11, 0), (3, 16), (1, 1)], [(5, 0), (9, 0)], [(100, 60)]])
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_equals_the_definition(sequences: list[tuple[int, int]]) -> None:
    tokens, padding = sum(p + c for p, c in sequences), 37
    plan = plan_attention([p for p, _ in sequences], [c for _, c in sequences], kernel="flex", padding=padding)
    assert not plan.groups and plan.passes is None  # nothing that another kernel needs is made
    q, k, v = torch.randn(3, tokens + padding, 2, 8)
    a = flexible(plan)(q, k, v)
    torch.testing.assert_close(a[:tokens], reference(plan, q[:tokens], k[:tokens], v[:tokens]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(a[tokens:], v[tokens:], rtol=1e-4, atol=1e-5)  # a padding row sees itself


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300)), min_size=1, max_size=12), st.integers(0, 200))
def test_the_table_of_blocks_is_that_of_the_dense_mask(sequences: list[tuple[int, int]], padding: int) -> None:
    prefixes, suffixes = zip(*sequences, strict=True)
    blocks = plan_attention(prefixes, suffixes, kernel="flex", padding=padding).blocks
    tokens = len(blocks.first_N)
    count = -(-tokens // BLOCK)
    column = torch.arange(tokens)
    visible = (blocks.first_N[:, None] <= column) & (column < blocks.last_N[:, None])
    padded = torch.zeros(count * BLOCK, count * BLOCK)
    padded[:tokens, :tokens] = visible
    pairs = padded.view(count, BLOCK, count, BLOCK).sum((1, 3))
    rows = torch.tensor([min(BLOCK, tokens - start) for start in range(0, tokens, BLOCK)])[:, None]
    wanted = (((pairs > 0) & (pairs < rows * BLOCK)), pairs == rows * BLOCK)
    tables = ((blocks.partial_B, blocks.partial_BB), (blocks.full_B, blocks.full_BB))
    for expected, (used, listed) in zip(wanted, tables, strict=True):
        for row in range(count):
            assert listed[row, : used[row]].tolist() == expected[row].nonzero().flatten().tolist()


def test_responses_of_one_token_each_leave_no_suffix_rows() -> None:
    agree([(5, 0), (9, 0), (300, 0)])


def test_a_suffix_row_sees_its_prefix_and_its_past_only() -> None:
    plan = plan_attention([2, 3], [2, 1])
    v = torch.eye(8).reshape(8, 1, 8)
    zero = torch.zeros(8, 1, 8)
    seen = attend(plan, zero, zero, v)[:, 0] > 0
    expected = [[0, 1], [0, 1], [0, 1, 2], [0, 1, 2, 3], [4, 5, 6], [4, 5, 6], [4, 5, 6], [4, 5, 6, 7]]
    assert [row.nonzero().flatten().tolist() for row in seen] == expected


def test_sequences_of_similar_length_share_a_call() -> None:
    plan = plan_attention([20, 21, 22, 400], [10, 11, 9, 300])
    assert sorted(len(group.rows_SL) for group in plan.groups) == [1, 3]


@pytest.mark.parametrize("prefixes", [[], [0, 3]])
def test_a_sequence_without_a_prefix_is_refused(prefixes: list[int]) -> None:
    with pytest.raises(ValueError, match="prefix"):
        plan_attention(prefixes, [1] * len(prefixes))
