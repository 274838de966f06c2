"""Data parallelism, applied to the model and the optimiser from outside.

Two modes. Replicated: every worker holds the full model, and gradients are summed after the backward pass. Sharded:
FSDP2 gives each worker a shard of every parameter, of its gradient and of the optimiser state. The FSDP units are the
blocks, then the root module with embedding and head. Gathered weights are kept until their gradients are reduced,
because a step calls each block two to six times. Gradients are summed, not averaged: the gradient is that of the whole
batch for any number of workers.

A local shard is the tensor that this worker updates: a range of rows of a sharded parameter, else the full parameter.
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
    """This worker's rank and the number of workers; (0, 1) if torch.distributed is not initialised."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def this_device() -> torch.device:
    """The current CUDA device if torch sees one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def apply_fsdp(model: nn.Module, dtype: torch.dtype) -> None:
    """Shard every parameter over the workers (FSDP2). Weights are gathered in `dtype`, gradients reduced in float32.

    All workers must call it, each with the same full float32 model.
    """
    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    # Casting the inputs would also cast the RoPE angles, which must stay float32.
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    units = [*(module for module in model.modules() if isinstance(module, Block)), model]
    for unit in units:
        fully_shard(unit, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
        assert isinstance(unit, FSDPModule)
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)


def compile_blocks(model: nn.Module, backend: str = "inductor") -> None:
    """Compile each block with torch.compile, except for its attention call. Call it before `apply_fsdp`.

    The attention kernels are already fused. The attention plan of a batch is Python data that the compiler must not
    trace, so the same few graphs serve every block, every step and every batch length.
    """
    current_call: list[tuple[Attend, int]] = []

    def attend_uncompiled(_: int, q_NHK: Tensor, k_NHK: Tensor, v_NHK: Tensor) -> Tensor:
        attend, slot = current_call[0]
        return attend(slot, q_NHK, k_NHK, v_NHK)

    opaque_attend = torch.compiler.disable(attend_uncompiled)  # type: ignore[no-untyped-call]

    def compile_forward(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        compiled = torch.compile(forward, dynamic=True, backend=backend)

        def call(u_ND: Tensor, angles: tuple[Tensor, Tensor], attend: Attend, slot: int) -> Tensor:
            current_call[:] = [(attend, slot)]
            return compiled(u_ND, angles, opaque_attend, 0)

        return call

    for module in model.modules():
        if isinstance(module, Block):
            module.forward = compile_forward(module.forward)  # type: ignore[method-assign]


class LocalShard(NamedTuple):
    """A parameter and this worker's shard of it. They share memory."""

    parameter: Tensor
    local: Tensor


LocalShards = dict[str, LocalShard]
"""Parameter name -> shard. Made before the first step: during a step FSDP replaces the parameters by gathered ones."""


def local_shards(model: nn.Module) -> LocalShards:
    """This worker's shards of the model's parameters. The optimiser updates these tensors."""
    return {name: LocalShard(parameter, _local(parameter)) for name, parameter in model.named_parameters()}


def is_sharded(model: nn.Module) -> bool:
    """Whether `apply_fsdp` has sharded the model."""
    return isinstance(model, FSDPModule)


class Gradients(NamedTuple):
    """The gradients of those local shards that have one. Each is also the `.grad` of its shard."""

    tensors: list[Tensor]
    sharded: bool


def gradients(shards: LocalShards) -> Gradients:
    """Set `.grad` of every local shard to its part of the gradient summed over all workers.

    All workers must call it after the backward pass.
    """
    for parameter, local in shards.values():
        local.grad = None if parameter.grad is None else _local(parameter.grad)
    tensors = [local.grad for _, local in shards.values() if local.grad is not None]
    sharded = any(isinstance(parameter, DTensor) for parameter, _ in shards.values())
    if not sharded and rank_and_world()[1] > 1:
        _all_reduce(tensors)
    return Gradients(tensors, sharded)


def norm_squared(of: Gradients) -> Tensor:
    """This worker's share of the squared norm of the full gradient: a float64 scalar, to be summed over the workers."""
    square = torch.stack(torch._foreach_norm(of.tensors)).double().square().sum()
    return square if of.sharded else square / rank_and_world()[1]


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor


def gather_full(local: Tensor, parameter: Tensor) -> Tensor:
    """The full tensor, of the shape of `parameter`, of which this worker holds the shard `local`.

    All workers must call it.
    """
    if not isinstance(parameter, DTensor):
        return local.detach()
    mesh, placements = parameter.device_mesh, parameter.placements
    return DTensor.from_local(
        local, mesh, placements, run_check=False, shape=parameter.shape, stride=parameter.stride()
    ).full_tensor()


def shard_of(full: Tensor, parameter: Tensor) -> Tensor:
    """This worker's shard of `full`, a tensor of the shape of `parameter`, as a copy on the parameter's device.

    No communication takes place.
    """
    full = full.to(parameter.device, copy=True)  # a tensor read from a file may be a view of the mapped file
    if not isinstance(parameter, DTensor):
        return full
    return distribute_tensor(full, parameter.device_mesh, parameter.placements, src_data_rank=None).to_local().clone()


def _all_reduce(tensors: list[Tensor]) -> None:
    """Sum the tensors over all workers, in place, with a single collective."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    offset = 0
    for tensor in tensors:
        tensor.copy_(flat[offset : offset + tensor.numel()].view_as(tensor))
        offset += tensor.numel()
