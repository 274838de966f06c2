"""Low-rank updates (LoRA, Hu et al. 2021, arXiv 2106.09685): the matrices of the blocks are frozen, and each gets two
small trained factors.

    y = x W^T + scale (x A^T) B^T        A [rank, in], B [out, rank]

B begins as zeros, so the model begins as the one that it starts from. Embedding and head are frozen too. A fused matrix
has one pair of factors for all its parts.

In a checkpoint the factors are merged: `model.safetensors` and `ema.safetensors` hold W + scale B A, as after a
training of all weights, so whatever reads a checkpoint knows nothing of factors. `lora.safetensors` has what a resume
needs besides: the frozen matrices as `base.<name>`, and the factors as `model.<name>` and `ema.<name>`. W is kept,
because subtracting the update from the merged matrix would not give it back bit for bit.
"""

from __future__ import annotations

import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model import Block, HrmText

FILE = "lora"
"""The file of a checkpoint, without its suffix."""

A, B = "lora_A", "lora_B"


class LoraLinear(nn.Module):
    """A frozen linear layer with a trained low-rank update. It has the parameters `weight`, `lora_A` and `lora_B`."""

    def __init__(self, linear: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        rows, columns = linear.weight.shape
        self.scale = scale
        self.weight = linear.weight
        self.lora_A = nn.Parameter(torch.empty(rank, columns, device=linear.weight.device))
        self.lora_B = nn.Parameter(torch.zeros(rows, rank, device=linear.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        return F.linear(x, self.weight) + F.linear(F.linear(x, self.lora_A), self.lora_B) * self.scale


def add_lora(model: HrmText, rank: int, scale: float, seed: int) -> None:
    """Freeze all weights, and give each matrix of a block factors. Their initial values depend only on `seed`.

    Call it before the blocks are compiled or sharded.
    """
    model.requires_grad_(False)
    matrices = Block.matrices(model.config)
    for name, block in model.named_modules():
        if not isinstance(block, Block):
            continue
        for matrix in matrices:
            linear = block.get_submodule(matrix.name)
            assert isinstance(linear, nn.Linear)
            layer = LoraLinear(linear, rank, scale)
            digest = hashlib.blake2b(f"{seed}/{name}.{matrix.name}.{A}".encode(), digest_size=8).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
            with torch.no_grad():
                initial = torch.randn(layer.lora_A.shape, generator=generator) / math.sqrt(matrix.columns)
                layer.lora_A.copy_(initial)
            block.set_submodule(matrix.name, layer)


def merge(tensors: dict[str, dict[str, Tensor]], scale: float) -> None:
    """Merge the factors among the tensors of a checkpoint, file -> name -> tensor, in place. They move to `lora`."""
    factors = tensors.setdefault(FILE, {})
    layers = [name.removesuffix(A) for name in tensors["model"] if name.endswith(f".{A}")]
    for layer in layers:
        base = factors[f"base.{layer}weight"] = tensors["model"][f"{layer}weight"]
        for file in ("model", "ema"):
            a, b = (tensors[file].pop(f"{layer}{name}") for name in (A, B))
            factors[f"{file}.{layer}{A}"], factors[f"{file}.{layer}{B}"] = a, b
            tensors[file][f"{layer}weight"] = torch.addmm(base, b, a, alpha=scale)
