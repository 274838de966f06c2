"""One model on many workers, from outside: the model and the optimiser know nothing of it.

Either every worker holds the whole model and gradients are added up after the backward pass, or (`sharded`) FSDP2 gives
each a piece of every parameter, of its gradient, and so of the optimiser's state. FSDP's units are the blocks, then the
root with embedding and head. Gathered weights stay until their gradients are reduced, since a block is called two to
six times in a step. Gradients are added up, never averaged, so that a gradient is that of the whole batch on any number
of workers.

A "piece" is the tensor that this worker updates: a range of rows of a sharded parameter, else the parameter itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from training.model import Attend, Block


def rank_and_world() -> tuple[int, int]:
    """This worker's number and how many there are; (0, 1) where torch.distributed is not up."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def this_device() -> torch.device:
    """The GPU that this worker was given, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def shard(model: nn.Module, dtype: torch.dtype) -> None:
    """Leave each worker its piece of every parameter (FSDP2). Weights are gathered in `dtype`, gradients in float32.

    Every worker must hold the same whole float32 model before.
    """
    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    # Casting inputs too would cast RoPE's angles.
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    units = [*(module for module in model.modules() if isinstance(module, Block)), model]
    for unit in units:
        fully_shard(unit, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
        assert isinstance(unit, FSDPModule)
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)


def compile_blocks(model: nn.Module, backend: str = "inductor") -> None:
    """Let torch.compile fuse each block around its attention, whose kernels it would not better; call before `shard`.

    The same few graphs serve every block, every step and every length of a packed batch: how attention is laid out is
    Python data of one batch, so the compiler does not see it.
    """
    now: list[tuple[Attend, int]] = []

    def outside(_: int, q_NHK: Tensor, k_NHK: Tensor, v_NHK: Tensor) -> Tensor:
        attend, slot = now[0]
        return attend(slot, q_NHK, k_NHK, v_NHK)

    hidden = torch.compiler.disable(outside)  # type: ignore[no-untyped-call]

    def around(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        compiled = torch.compile(forward, dynamic=True, backend=backend)

        def call(u_ND: Tensor, turn: tuple[Tensor, Tensor], attend: Attend, slot: int) -> Tensor:
            now[:] = [(attend, slot)]
            return compiled(u_ND, turn, hidden, 0)

        return call

    for module in model.modules():
        if isinstance(module, Block):
            module.forward = around(module.forward)  # type: ignore[method-assign]


class Held(NamedTuple):
    """A parameter and this worker's piece of it, which share memory."""

    parameter: Tensor
    piece: Tensor


Weights = dict[str, Held]
"""By name. Taken before the first step: within one, FSDP puts gathered tensors in the parameters' place."""


def hold(model: nn.Module) -> Weights:
    """This worker's pieces of a model's parameters: what the optimiser updates."""
    return {name: Held(parameter, _local(parameter)) for name, parameter in model.named_parameters()}


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` has divided the model."""
    return isinstance(model, FSDPModule)


class Gradients(NamedTuple):
    """Of the pieces that have one: `parts` lie in `.grad` of each piece."""

    parts: list[Tensor]
    sharded: bool


def gradients(weights: Weights) -> Gradients:
    """Give each piece its part of the gradient of all workers, after the backward pass."""
    for parameter, piece in weights.values():
        piece.grad = None if parameter.grad is None else _local(parameter.grad)
    parts = [piece.grad for _, piece in weights.values() if piece.grad is not None]
    sharded = any(isinstance(parameter, DTensor) for parameter, _ in weights.values())
    if not sharded and rank_and_world()[1] > 1:
        _add_up(parts)
    return Gradients(parts, sharded)


def norm_squared(of: Gradients) -> Tensor:
    """This worker's share of the squared norm of the whole gradient, a scalar to be added up over the workers."""
    square = torch.stack(torch._foreach_norm(of.parts)).double().square().sum()
    return square if of.sharded else square / rank_and_world()[1]


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor


def whole(held: Tensor, parameter: Tensor) -> Tensor:
    """The whole of a tensor shaped as `parameter`, of which this worker holds `held`; all workers must ask."""
    if not isinstance(parameter, DTensor):
        return held.detach()
    mesh, places = parameter.device_mesh, parameter.placements
    return DTensor.from_local(
        held, mesh, places, run_check=False, shape=parameter.shape, stride=parameter.stride()
    ).full_tensor()


def cut(full: Tensor, parameter: Tensor) -> Tensor:
    """This worker's piece of `full`, a tensor shaped as `parameter`, on its device. No worker waits for another."""
    full = full.to(parameter.device, copy=True)  # a file's tensor is a view of the file
    if not isinstance(parameter, DTensor):
        return full
    return distribute_tensor(full, parameter.device_mesh, parameter.placements, src_data_rank=None).to_local().clone()


def _add_up(made: list[Tensor]) -> None:
    together = torch.cat([gradient.flatten() for gradient in made])
    dist.all_reduce(together)
    at = 0
    for gradient in made:
        gradient.copy_(together[at : at + gradient.numel()].view_as(gradient))
        at += gradient.numel()
