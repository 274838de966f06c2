"""Weights in four bits: one integer from -8 to 7 for each weight, and one scale for each 128 weights of a row.

    weight[i, j]  =  scale[i, j // 128] * code[i, j]

Nothing is calibrated on data. A group's scale is the one among a few below the largest absolute value that gives the
smallest squared error. Eight codes, plus 8 each, are stored in an int32, the first in the lowest bits: the layout of
`pack-quantized` in compressed-tensors, which transformers and vLLM read.

A model in four bits is an `HrmText` whose matrices are `Int4Linear` and whose embedding is an `Int4Embedding`. Torch
restores a matrix each time it is used. On a CPU the compiled decoder computes with the codes themselves.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

GROUP = 128
"""Weights of a row that share a scale."""

LOWEST, HIGHEST = -8, 7
CODES_PER_WORD = 8
FRACTIONS = tuple(np.linspace(0.6, 1.0, 17).tolist())
"""Scales that are tried for a group, as shares of the one that reaches its largest absolute value."""

AnyModel = TypeVar("AnyModel", bound=nn.Module)

BYTES_PER_WEIGHT = 0.5 + 2 / GROUP


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The words (int32 [rows, k / 8]) and scales (float16 [rows, k / 128]) of a matrix [rows, k].

    Raises:
        ValueError: if k is not a multiple of 128.
    """
    rows, k = weight.shape
    if k % GROUP:
        raise ValueError(f"rows of {k} weights: groups of {GROUP} need a multiple of {GROUP}")
    groups = weight.detach().float().reshape(rows, k // GROUP, GROUP)
    # The sign is chosen such that the value with the largest magnitude can be -8, one step further than 7.
    extreme = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    best = torch.full_like(extreme, torch.inf)
    scales, codes = torch.ones_like(extreme), torch.zeros_like(groups)
    for fraction in FRACTIONS:
        scale = (extreme * fraction / LOWEST).half().float()
        scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        code = (groups / scale).round_().clamp_(LOWEST, HIGHEST)
        error = (code * scale - groups).square_().sum(-1, keepdim=True)
        better = error < best
        best, scales = torch.where(better, error, best), torch.where(better, scale, scales)
        codes = torch.where(better, code, codes)
    shifts = torch.arange(0, 32, 4)
    nibbles = (codes.reshape(rows, -1, CODES_PER_WORD).long() - LOWEST) << shifts
    words = nibbles.sum(-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).int(), scales.squeeze(-1).half()


def dequantize(words: Tensor, scales: Tensor) -> Tensor:
    """The matrix of words [rows, k / 8] and scales [rows, k / 128]: float32 [rows, k]."""
    shifts = torch.arange(0, 32, 4, device=words.device, dtype=torch.int32)
    codes = ((words[..., None] >> shifts) & 15) + LOWEST
    groups = codes.reshape(len(words), -1, GROUP) * scales.float()[..., None]
    return groups.reshape(len(words), -1)


class Int4Linear(nn.Module):
    """`nn.Linear` without a bias, in four bits. It computes in the dtype that the module is converted to."""

    words: Tensor
    scale_bits: Tensor
    like: Tensor

    def __init__(self, words: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.register_buffer("words", words)
        # As integers: a conversion of the module to another dtype leaves them as they are.
        self.register_buffer("scale_bits", scales.view(torch.int16))
        self.register_buffer("like", torch.empty(0), persistent=False)

    @property
    def scales(self) -> Tensor:
        """float16 [rows, k / 128]."""
        return self.scale_bits.view(torch.float16)

    @property
    def weight(self) -> Tensor:
        """The matrix [rows, k], restored."""
        return dequantize(self.words, self.scales).to(self.like.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)

    def codes(self) -> NDArray[np.uint8]:
        """The codes plus 8: uint8 [rows, k]."""
        halves = self.words.numpy().view(np.uint8)
        return np.stack([halves & 15, halves >> 4], -1).reshape(len(halves), -1)


class Int4Embedding(Int4Linear):
    """`nn.Embedding` in four bits."""

    def forward(self, x: Tensor) -> Tensor:
        return dequantize(self.words[x], self.scales[x]).to(self.like.dtype)


def quantized(model: AnyModel, embedding: bool = True) -> AnyModel:
    """The model with every matrix in four bits. It is changed in place. embedding: also the embedding.

    Raises:
        ValueError: if the rows of a matrix are no multiple of 128 long.
    """
    kinds = nn.Linear | nn.Embedding if embedding else nn.Linear
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, kinds)]
    for name, layer in layers:
        kind = Int4Embedding if isinstance(layer, nn.Embedding) else Int4Linear
        model.set_submodule(name, kind(*quantize(layer.weight)))
    return model
