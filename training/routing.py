"""Routers: which parts of a block compute a token? Parts are heads of attention, or experts (training/model.py).

    score = sigmoid(W u)                      one for each part, in float32
    a token uses the `active` parts with the highest scores, each weighted with 2 * score

A router chooses anew in every module call. Parts are balanced by the choices of the last step, counted over all tokens,
module calls and workers, so the balance depends neither on the number of workers nor on micro-batches. (On a GPU the
padding of packs counts too.) There are two ways:

Heads: a term of the loss. f_i is the share of the choices that part i had at the last step, over the mean of all parts.
The term is 1 where all parts are used alike (Switch Transformer, arXiv 2101.03961, with the last step's choices):

    balance * mean over tokens and differentiated block calls of  sum_i f_i score_i / sum_j score_j

Experts: no term. `rate * level` of a part is added to its score where parts are chosen, not where they are weighted.
After each step the level of a part rises by 1 if it was used less than the mean, and falls by 1 if more (arXiv
2408.15664).

Shape suffixes: N tokens, D hidden, R parts to choose from, A parts that a token uses, P = N A pairs of both.
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


class Experts(BaseModel):
    """Experts beside the feed-forward layer, which every token uses (the shared expert).

    count: experts to choose from; 0 for none. active: experts that a token uses. width: of each. rate: by which the
    balance moves in a step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(default=0, ge=0)
    active: int = Field(default=0, ge=0)
    width: int = Field(default=0, ge=0)
    rate: float = Field(default=0.001, gt=0, allow_inf_nan=False)


class Routing(NamedTuple):
    """What a router did in one block call. counts: int64 [R], how many tokens chose each part. penalty: float32, the
    sum of the balance term over tokens; without a gradient where levels balance."""

    counts: Tensor
    penalty: Tensor


class Choice(NamedTuple):
    """The parts that each token uses, int64 [N, A], and their weights, float32 [N, A]."""

    part_NA: Tensor
    weight_NA: Tensor


class Router(nn.Module):
    """Chooses `active` of `parts` for each token. tally: int64 [R], the choices at the last step, or levels.

    rate: of levels; None for a term of the loss.
    """

    tally: Tensor

    def __init__(self, hidden: int, parts: int, active: int, rate: float | None = None) -> None:
        super().__init__()
        self.active, self.rate = active, rate
        self.weight = nn.Parameter(torch.empty(parts, hidden))
        # Integers stay what they are when a model is converted to another dtype.
        self.register_buffer("tally", torch.zeros(parts, dtype=torch.int64))

    def forward(self, u_ND: Tensor) -> tuple[Choice, Routing]:
        score_NR = torch.sigmoid(F.linear(u_ND.float(), self.weight.float()))
        wanted_NR = score_NR.detach()
        if self.rate is None:
            use_R = (self.tally + 1).float()
            penalty = (score_NR / score_NR.sum(-1, keepdim=True) @ (use_R / use_R.mean())).sum()
        else:
            wanted_NR, penalty = wanted_NR + self.rate * self.tally, score_NR.new_zeros(())
        part_NA = wanted_NR.topk(self.active).indices
        chosen_P = part_NA.flatten()
        counts_R = torch.zeros_like(self.tally).scatter_add_(0, chosen_P, torch.ones_like(chosen_P))
        return Choice(part_NA, 2 * score_NR.gather(1, part_NA)), Routing(counts_R, penalty)

    @torch.no_grad()
    def update(self, counts_R: Tensor, applied: Tensor) -> None:
        """Balance by the choices of a step. applied: a boolean scalar; if it is false nothing is changed."""
        if self.rate is not None:
            counts_R = self.tally + (counts_R.sum() - counts_R * len(counts_R)).sign()
        self.tally.copy_(torch.where(applied, counts_R, self.tally))


def dense_weights(choice: Choice, parts: int) -> Tensor:
    """The weights of all parts, float32 [N, R]; 0 of those that a token does not use."""
    weight_NR = choice.weight_NA.new_zeros(len(choice.weight_NA), parts)
    return weight_NR.scatter(1, choice.part_NA, choice.weight_NA)


class Pairs(NamedTuple):
    """The pairs of a token and a part, sorted by part, then by token: their places among the pairs in the order of
    tokens, int64; their tokens, int64; and their weights, float32."""

    order_P: Tensor
    token_P: Tensor
    weight_P: Tensor


def by_part(choice: Choice) -> Pairs:
    """The pairs of a choice, so that those of a part are a range. `Routing.counts` has the length of each."""
    order_P = choice.part_NA.flatten().argsort(stable=True)
    return Pairs(order_P, order_P // choice.part_NA.shape[1], choice.weight_NA.flatten()[order_P])
