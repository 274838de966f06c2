"""The weights of a model as the compiled CPU decoder reads them: in panels, in float32 or in four bits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from training.inference.cpu_kernels import (
    INT4_BLOCK,
    NORM_MAGIC,
    NORM_POST,
    NORM_PRE,
    PANEL_ROWS,
    Bytes,
    Floats,
    Integers,
)
from training.int4 import GROUP, LOWEST, Int4Linear
from training.model import Block, HrmText, schedule

MATRICES = ("attn.gqkv_proj", "attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
"""The matrices of a block that the kernels compute with. A block with other ones runs in torch only."""

NORMS = {"magic": NORM_MAGIC, "pre": NORM_PRE, "post": NORM_POST}


Panels = Floats | Bytes
"""Matrices [M, panels, k, 16] in float32, or [M, panels, groups, INT4_BLOCK] in four bits."""


class PackedWeights(NamedTuple):
    """A second copy of a model's weights, in float32 or in four bits.

    A matrix is stored as panels of 16 rows, [panels, k, 16], so that a product reads it from beginning to end. Panels
    in four bits are [panels, k / 128, INT4_BLOCK]: for each group of 128 columns the 16 scales (float32), then the
    codes, of which a byte holds those of two neighbouring columns. The matrices of a block have a leading dimension:
    all blocks of H, then all blocks of L.
    """

    calls: Integers  # [calls, 4], see cpu_kernels.CALL_MODULE
    norm: int  # NORM_MAGIC, NORM_PRE or NORM_POST
    blocks: int  # per module
    embed: Callable[[Integers], Floats]  # tokens [N] -> their rows of the embedding [N, D]
    vocabulary: int
    start_D: Floats  # z_L_init
    gqkv: Panels
    output: Panels
    gate_up: Panels
    down: Panels
    head: Panels  # without the leading dimension
    heads: int
    feed_forward: int
    theta: float


def can_pack(model: HrmText) -> bool:
    """Whether the kernels can run this model: it is on the CPU, and its blocks have the matrices they compute with."""
    names = tuple(matrix.name for matrix in Block.matrices(model.config))
    return model.z_L_init.device.type == "cpu" and names == MATRICES


def pack(model: HrmText) -> PackedWeights:
    """Pack the weights of a model for which `can_pack` is true."""
    config = model.config
    calls = schedule(config)
    names = sorted({call.module for call in calls})
    blocks: list[Block] = []
    for name in names:
        layers = model.get_submodule(f"{name}_module.layers")
        assert isinstance(layers, nn.ModuleList)
        blocks += [block for block in layers if isinstance(block, Block)]
    call_rows = [(names.index(c.module), "HL".index(c.into), "H" in c.of, "L" in c.of) for c in calls]
    gqkv, output, gate_up, down = (
        _panels([block.get_submodule(matrix.name) for block in blocks]) for matrix in Block.matrices(config)
    )
    embedding = copy.deepcopy(model.embed_tokens).float()

    def embed(tokens_N: Integers) -> Floats:
        rows: Floats = embedding(torch.from_numpy(tokens_N)).detach().numpy()
        return rows

    return PackedWeights(
        calls=np.array(call_rows, dtype=np.int64),
        norm=NORMS[config.norm],
        blocks=len(blocks) // len(names),
        embed=embed,
        vocabulary=config.vocab_size,
        start_D=model.z_L_init.float().contiguous().numpy(),
        gqkv=gqkv,
        output=output,
        gate_up=gate_up,
        down=down,
        head=_panels([model.lm_head])[0],
        heads=config.heads,
        feed_forward=config.feed_forward,
        theta=config.rope_theta,
    )


def _panels(layers: Sequence[nn.Module]) -> Panels:
    """The matrices of M linear layers [rows, k] in panels; missing rows of the last panel are 0."""
    if isinstance(layers[0], Int4Linear):
        return np.stack([_int4_panels(layer) for layer in layers if isinstance(layer, Int4Linear)])
    matrices = [layer.get_parameter("weight") for layer in layers]
    rows, k = matrices[0].shape
    panels = -(-rows // PANEL_ROWS)
    packed = empty_floats(len(matrices), panels, k, PANEL_ROWS)
    for target, matrix in zip(packed, matrices, strict=True):
        padded = torch.zeros(panels * PANEL_ROWS, k)
        padded[:rows] = matrix.detach()
        target.copy_(padded.view(panels, PANEL_ROWS, k).transpose(1, 2))
    return packed.numpy()


def _int4_panels(layer: Int4Linear) -> Bytes:
    """One matrix in four bits: uint8 [panels, groups, INT4_BLOCK]."""
    codes, scales = layer.codes(), layer.scales.float().numpy()
    rows, groups = scales.shape
    panels = -(-rows // PANEL_ROWS)
    codes = np.pad(codes, ((0, panels * PANEL_ROWS - rows), (0, 0)), constant_values=-LOWEST)
    scales = np.pad(scales, ((0, panels * PANEL_ROWS - rows), (0, 0)))
    # [panels, 16, groups, 64 pairs, 2] -> [panels, groups, 64 pairs, 16, 2]
    pairs = codes.reshape(panels, PANEL_ROWS, groups, GROUP // 2, 2).transpose(0, 2, 3, 1, 4)
    packed = np.empty((panels, groups, INT4_BLOCK), np.uint8)
    scale_bytes = 4 * PANEL_ROWS
    by_group = np.ascontiguousarray(scales.reshape(panels, PANEL_ROWS, groups).transpose(0, 2, 1))
    packed[:, :, :scale_bytes] = by_group.view(np.uint8)
    packed[:, :, scale_bytes:] = (pairs[..., 0] | pairs[..., 1] << 4).reshape(panels, groups, -1)
    return packed


def empty_floats(*shape: int) -> Tensor:
    """An uninitialised float32 tensor in memory from NumPy.

    NumPy requests large pages from the system, torch does not. In small pages, reading the weights in order took a
    quarter longer.
    """
    return torch.from_numpy(np.empty(shape, np.float32))
