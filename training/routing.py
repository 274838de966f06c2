"""Routers: which parts of a block compute a token? The parts are heads of attention (training/model.py).

    score = sigmoid(W u)                     one for each part, in float32
    a token uses the `active` parts with the highest scores, each weighted with 2 * score

A router chooses in every module call anew. Balance among the parts comes from the choices at the last step, counted over
all tokens, module calls and workers, so it depends neither on the number of workers nor on micro-batches. The term
that is added to the loss is

    balance * mean over tokens and differentiated block calls of  sum_i f_i score_i / sum_j score_j

where f_i is the share of the choices that part i had at the last step, over the mean of all parts. It is 1 where all
parts are used alike (Switch Transformer, arXiv 2101.03961, with the choices of the step before).

Shape suffixes: N tokens, D hidden, R parts to choose from, A parts that a token uses, P = N A pairs of a token and a part.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class SelectiveHeads(BaseModel):
    """Selective attention (mixture of attention heads, Jin et al., arXiv 2410.11842): a token uses some heads.

    active: heads that a token uses, the shared ones included; 0 for all heads without a router. shared: heads that
    every token uses, the first ones. balance: factor of the balance term.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    active: int = Field(default=0, ge=0)
    shared: int = Field(default=0, ge=0)
    balance: float = Field(default=0.01, ge=0, allow_inf_nan=False)


class Routing(NamedTuple):
    """What a router did in one block call. counts: int64 [R], how many tokens chose each part. penalty: float32, the
    sum of the balance term over tokens."""

    counts: Tensor
    penalty: Tensor


class Choice(NamedTuple):
    """The parts that each token uses, int64 [N, A], and their weights, float32 [N, A]."""

    part_NA: Tensor
    weight_NA: Tensor


class Router(nn.Module):
    """Chooses `active` of `parts` for each token. chosen: int64 [R], the choices at the last step."""

    chosen: Tensor

    def __init__(self, hidden: int, parts: int, active: int) -> None:
        super().__init__()
        self.active = active
        self.weight = nn.Parameter(torch.empty(parts, hidden))
        # Integers stay what they are when a model is converted to another dtype.
        self.register_buffer("chosen", torch.zeros(parts, dtype=torch.int64))

    def forward(self, u_ND: Tensor) -> tuple[Choice, Routing]:
        score_NR = torch.sigmoid(F.linear(u_ND.float(), self.weight.float()))
        part_NA = score_NR.detach().topk(self.active).indices
        counts_R = torch.zeros_like(self.chosen).scatter_add_(0, part_NA.flatten(), torch.ones_like(part_NA.flatten()))
        use_R = (self.chosen + 1).float()
        penalty = (score_NR / score_NR.sum(-1, keepdim=True) @ (use_R / use_R.mean())).sum()
        return Choice(part_NA, 2 * score_NR.gather(1, part_NA)), Routing(counts_R, penalty)

    @torch.no_grad()
    def update(self, counts_R: Tensor, applied: Tensor) -> None:
        """Balance by the choices of a step. applied: a boolean scalar; if it is false nothing is changed."""
        self.chosen.copy_(torch.where(applied, counts_R, self.chosen))


def dense_weights(choice: Choice, parts: int) -> Tensor:
    """The weights of all parts, float32 [N, R]; 0 of those that a token does not use."""
    weight_NR = choice.weight_NA.new_zeros(len(choice.weight_NA), parts)
    return weight_NR.scatter(1, choice.part_NA, choice.weight_NA)


class Pairs(NamedTuple):
    """The pairs of a token and a part, sorted by part, then by token. token_P: int64. weight_P: float32. counts: of
    each part, on the CPU."""

    token_P: Tensor
    weight_P: Tensor
    counts: list[int]


def by_part(choice: Choice, parts: int) -> Pairs:
    """The pairs of a choice, so that those of a part are a range. A GPU waits for the CPU here."""
    part_P = choice.part_NA.flatten()
    order_P = part_P.argsort(stable=True)
    counts = torch.bincount(part_P, minlength=parts).tolist()
    return Pairs(order_P // choice.part_NA.shape[1], choice.weight_NA.flatten()[order_P], counts)
