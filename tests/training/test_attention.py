"""The fast attention equals the definition for every mix of lengths, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.attention import attend, layout, reference

lengths = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40)), min_size=1, max_size=12)


def agree(sequences: list[tuple[int, int]]) -> None:
    plan = layout([p for p, _ in sequences], [c for _, c in sequences])
    tokens = sum(p + c for p, c in sequences)
    generator = torch.Generator().manual_seed(tokens)
    q, k, v, g = (torch.randn(tokens, 2, 8, generator=generator, dtype=torch.float32) for _ in range(4))
    results = []
    for compute in (attend, reference):
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        a = compute(plan, *inputs)
        a.backward(g)
        results.append([a.detach(), *(x.grad for x in inputs)])
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(lengths)
def test_fast_path_equals_the_definition(sequences: list[tuple[int, int]]) -> None:
    agree(sequences)


def test_responses_of_one_token_each_leave_no_suffix_rows() -> None:
    agree([(5, 0), (9, 0), (300, 0)])


def test_a_suffix_row_sees_its_prefix_and_its_past_only() -> None:
    plan = layout([2, 3], [2, 1])
    v = torch.eye(8).reshape(8, 1, 8)
    zero = torch.zeros(8, 1, 8)
    seen = attend(plan, zero, zero, v)[:, 0] > 0
    expected = [[0, 1], [0, 1], [0, 1, 2], [0, 1, 2, 3], [4, 5, 6], [4, 5, 6], [4, 5, 6], [4, 5, 6, 7]]
    assert [row.nonzero().flatten().tolist() for row in seen] == expected


def test_sequences_of_like_length_share_a_call() -> None:
    plan = layout([20, 21, 22, 400], [10, 11, 9, 300])
    assert sorted(len(group.rows_SL) for group in plan.groups) == [1, 3]


@pytest.mark.parametrize("prefixes", [[], [0, 3]])
def test_a_sequence_without_a_prefix_is_refused(prefixes: list[int]) -> None:
    with pytest.raises(ValueError, match="prefix"):
        layout(prefixes, [1] * len(prefixes))
