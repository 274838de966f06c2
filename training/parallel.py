"""Data parallelism and precision, applied to the model and the optimiser from outside.

Two modes. Replicated: every worker holds the full model, and gradients are summed after the backward pass. Sharded:
FSDP2 gives each worker a shard of every parameter, of its gradient and of the optimiser state. The FSDP units are the
blocks, then the root module with embedding and head. A step calls each block two to six times per micro-batch, but
gathers its weights once, in the first call, and reduces its gradient once, in the last backward pass through it
(`start_backward`). The number of collectives therefore does not depend on the number of micro-batches, which may differ
between workers. Gradients are summed, not averaged: the gradient is that of the whole batch for any number of workers.

A local shard is the float32 tensor that this worker updates: a range of rows of a sharded parameter, else the full
parameter, or its float32 original if the model computes in bf16.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint

from training.attention import Queries
from training.model import Attend, Block

RECOMPILE_LIMIT = 64
"""Graphs that a process may compile of a block."""


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
        if isinstance(unit, Block):
            unit.register_forward_hook(_reduce_in_first_call)


def start_backward(model: nn.Module, last: bool) -> None:
    """Call it before the forward pass of each micro-batch. last: whether it is this worker's last one of the step.

    FSDP would reduce and gather a block again in every call. So reduction is off, and turned on for a block's first
    differentiated call of the last micro-batch: its backward pass is the last one through the block. Gathered weights
    are kept until `finish_backward`: freed earlier, they would be prefetched again.
    """
    if not isinstance(model, FSDPModule):
        return
    model.set_is_last_backward(last)
    model.set_requires_gradient_sync(False)
    model.set_reshard_after_backward(False)
    if last:  # the root module is called once
        model.set_requires_gradient_sync(True, recurse=False)
    for module in model.modules():
        if isinstance(module, Block):
            module.awaits_reduction = last  # type: ignore[assignment]


def finish_backward(model: nn.Module) -> None:
    """Free the gathered weights. Call it after the backward pass of the last micro-batch."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _reduce_in_first_call(block: nn.Module, _: object, out: Tensor | tuple[Tensor, object]) -> None:
    if isinstance(out, tuple):  # of a variant
        out = out[0]
    if not out.requires_grad or not getattr(block, "awaits_reduction", False):
        return
    block.awaits_reduction = False  # type: ignore[assignment]

    def reduce(_: Tensor) -> None:
        assert isinstance(block, FSDPModule)
        block.set_requires_gradient_sync(True, recurse=False)

    out.register_hook(reduce)  # type: ignore[no-untyped-call]


def compile_blocks(model: nn.Module, whole: bool = False, backend: str = "inductor") -> None:
    """Compile each block with torch.compile. Call it before `apply_fsdp`.

    The same few graphs serve every block and every step. whole: trace the attention call too; then it must be a
    FlexAttention call, and all batches have one shape. Otherwise the attention call is left out: the plan of a batch is
    Python data that the compiler must not trace, and the graphs serve every batch length.
    """
    import torch._dynamo.config  # the compiler takes more than a second to load

    # A graph for each size of a batch, with and without gradient; beyond the limit torch runs eagerly, or fails.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILE_LIMIT)
    current_call: list[tuple[Attend, int]] = []

    def attend_uncompiled(_: int, q_NHK: Queries, k_NHK: Tensor, v_NHK: Tensor) -> Tensor:
        attend, slot = current_call[0]
        return attend(slot, q_NHK, k_NHK, v_NHK)

    opaque_attend = torch.compiler.disable(attend_uncompiled)  # type: ignore[no-untyped-call]

    def compile_forward(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        compiled = torch.compile(forward, dynamic=not whole, fullgraph=whole, backend=backend)

        def call(u_ND: Tensor, angles: tuple[Tensor, Tensor], attend: Attend, slot: int) -> Tensor:
            if whole:
                return compiled(u_ND, angles, attend, 0)
            current_call[:] = [(attend, slot)]
            return compiled(u_ND, angles, opaque_attend, 0)

        return call

    for module in model.modules():
        if isinstance(module, Block):
            module.forward = compile_forward(module.forward)  # type: ignore[method-assign]


def checkpoint_blocks(model: nn.Module) -> None:
    """Keep only the input of each differentiated block, and compute the block again in the backward pass.

    The results are the same. A differentiated call costs a third more operations. Call it after `compile_blocks` and
    before `apply_fsdp`.
    """

    def keep_input(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*arguments: Any) -> Tensor:
            if not torch.is_grad_enabled():
                return forward(*arguments)
            out: Tensor = checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False)
            return out

        return call

    for module in model.modules():
        if isinstance(module, Block):
            module.forward = keep_input(module.forward)  # type: ignore[method-assign]


class LocalShard(NamedTuple):
    """A parameter and this worker's shard of it. In one dtype they share memory."""

    parameter: Tensor
    local: Tensor

    @property
    def rounded(self) -> bool:
        """Whether the parameter is a copy in bf16 of the full local shard."""
        return self.parameter is not self.local and not isinstance(self.parameter, DTensor)


LocalShards = dict[str, LocalShard]
"""Parameter name -> shard. Made before the first step: during a step FSDP replaces the parameters by gathered ones."""


def local_shards(model: nn.Module, dtype: torch.dtype = torch.float32) -> LocalShards:
    """This worker's shards of the model's parameters. The optimiser updates these tensors.

    dtype: of the forward and backward pass. In bf16 an unsharded model is given rounded parameters, all but the
    embedding; their gradients are summed in float32, and `publish` rounds the shards again. So a step casts each weight
    once, however many micro-batches and calls use it.
    """
    if dtype == torch.float32 or is_sharded(model):
        return {name: LocalShard(parameter, _local(parameter)) for name, parameter in model.named_parameters()}
    shards: LocalShards = {}
    for name, parameter in model.named_parameters():
        shards[name] = LocalShard(parameter, parameter)
        if not name.startswith("embed_tokens"):
            shards[name] = LocalShard(parameter, parameter.detach())
            parameter.data = parameter.detach().to(dtype)
            if not parameter.requires_grad:  # frozen (training/lora.py)
                continue
            add = partial(_add_gradient, shards[name].local)
            parameter.register_post_accumulate_grad_hook(add)  # type: ignore[no-untyped-call]
    return shards


def _add_gradient(local: Tensor, parameter: Tensor) -> None:
    assert parameter.grad is not None
    if local.grad is None:
        local.grad = parameter.grad.to(local.dtype)
    else:
        local.grad.add_(parameter.grad)
    parameter.grad = None


@torch.no_grad()
def publish(shards: LocalShards) -> None:
    """Round the local shards to the parameters that the model computes with. Call it after changing the shards."""
    rounded = [shard for shard in shards.values() if shard.rounded]
    if rounded:
        torch._foreach_copy_([shard.parameter for shard in rounded], [shard.local for shard in rounded])


def clear_gradients(shards: LocalShards) -> None:
    """Forget all gradients."""
    for parameter, local in shards.values():
        parameter.grad = local.grad = None


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
    for shard in shards.values():
        if not shard.rounded:
            shard.local.grad = None if shard.parameter.grad is None else _local(shard.parameter.grad)
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
