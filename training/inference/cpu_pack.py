"""The weights of a model as the compiled CPU decoder reads them: in panels, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from training.inference.cpu_kernels import NORM_MAGIC, NORM_POST, NORM_PRE, PANEL_ROWS, Floats, Integers
from training.model import Block, HrmText, schedule

MATRICES = ("attn.gqkv_proj", "attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
"""The matrices of a block that the kernels compute with. A block with other ones runs in torch only."""

NORMS = {"magic": NORM_MAGIC, "pre": NORM_PRE, "post": NORM_POST}


class PackedWeights(NamedTuple):
    """A second copy of a model's weights, in float32.

    A matrix is stored as panels of 16 rows, [panels, k, 16], so that a product reads it from beginning to end. The
    matrices of a block have a leading dimension: all blocks of H, then all blocks of L.
    """

    calls: Integers  # [calls, 4], see cpu_kernels.CALL_MODULE
    norm: int  # NORM_MAGIC, NORM_PRE or NORM_POST
    blocks: int  # per module
    embedding_VD: Floats
    start_D: Floats  # z_L_init
    gqkv: Floats
    output: Floats
    gate_up: Floats
    down: Floats
    head: Floats  # [panels, D, 16]
    heads: int
    feed_forward: int
    theta: float


def can_pack(model: HrmText) -> bool:
    """Whether the kernels can run this model: it is on the CPU, and its blocks have the matrices they compute with."""
    names = tuple(matrix.name for matrix in Block.matrices(model.config))
    return model.lm_head.weight.device.type == "cpu" and names == MATRICES


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
        _panels([block.get_parameter(f"{matrix.name}.weight") for block in blocks]) for matrix in Block.matrices(config)
    )
    return PackedWeights(
        calls=np.array(call_rows, dtype=np.int64),
        norm=NORMS[config.norm],
        blocks=len(blocks) // len(names),
        embedding_VD=model.embed_tokens.weight.detach().float().contiguous().numpy(),
        start_D=model.z_L_init.float().contiguous().numpy(),
        gqkv=gqkv,
        output=output,
        gate_up=gate_up,
        down=down,
        head=_panels([model.lm_head.weight])[0],
        heads=config.heads,
        feed_forward=config.feed_forward,
        theta=config.rope_theta,
    )


def _panels(matrices: Sequence[Tensor]) -> Floats:
    """[M, panels, k, 16] from M matrices [rows, k]; missing rows of the last panel are 0."""
    rows, k = matrices[0].shape
    panels = -(-rows // PANEL_ROWS)
    packed = empty_floats(len(matrices), panels, k, PANEL_ROWS)
    for target, matrix in zip(packed, matrices, strict=True):
        padded = torch.zeros(panels * PANEL_ROWS, k)
        padded[:rows] = matrix.detach()
        target.copy_(padded.view(panels, PANEL_ROWS, k).transpose(1, 2))
    return packed.numpy()


def empty_floats(*shape: int) -> Tensor:
    """An uninitialised float32 tensor in memory from NumPy.

    NumPy requests large pages from the system, torch does not. In small pages, reading the weights in order took a
    quarter longer.
    """
    return torch.from_numpy(np.empty(shape, np.float32))
