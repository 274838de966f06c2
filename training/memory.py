"""Does a training fit into memory? Checked before it starts, with the settings that help."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil
import torch

from pipelines.errors import WinnowError
from training.configs import TrainConfig
from training.cost import Memory, memory

USABLE = 0.92
"""Share of a GPU's memory that an estimate may use: the rest is for kernels, libraries and fragmentation."""

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files with the limit of a container, in bytes or `max`."""


def fitting_micro_packs(config: TrainConfig, workers: int, device: torch.device) -> int:
    """The packs that a worker computes together: `config.micro_packs`, or as many of its share as fit into memory.

    workers: of the training. On CPUs they share this machine's memory, unless LOCAL_WORLD_SIZE says how many do.

    Raises:
        WinnowError: if not even one pack fits, or not `config.micro_packs`, with what to change.
    """
    available = available_memory(device)
    here = 1 if device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE") or workers)
    share = math.ceil(config.batch_packs / workers)
    wanted = min(config.micro_packs or share, share)
    sizes = [wanted] if config.micro_packs else list(range(wanted, 0, -1))
    gpu = device.type == "cuda"
    for packs in sizes:
        if here * sum(memory(config, workers, packs, gpu)) <= available:
            return packs
    need = memory(config, workers, sizes[-1], gpu)
    raise WinnowError(_message(config, workers, here, sizes[-1], need, available, gpu))


def _message(config: TrainConfig, workers: int, here: int, packs: int, need: Memory, available: int, gpu: bool) -> str:
    parts = ", ".join(f"{name} {size / 1e9:,.1f}" for name, size in need._asdict().items())
    where = "GPU" if gpu else f"machine for {here} worker{'s' if here > 1 else ''}"
    mends = []
    if packs > 1:
        mends.append("--set micro_packs=1")
    if not config.recompute and need.activations > 0.1 * sum(need):
        mends.append("--set recompute=true")
    fixed = need.state + need.weights
    if gpu and need.state > 0.3 * sum(need):
        mends.append("more GPUs" if config.sharded else "--set sharded=true and more GPUs")
    elif not gpu and here > 1 and here * fixed > available >= fixed:
        mends.append("--workers 1")
    mends.append("a smaller --config")
    return (
        f"{config.name} needs about {here * sum(need) / 1e9:,.1f} GB of memory, and this {where} has "
        f"{available / 1e9:,.1f} GB (per worker: {parts} GB, with {packs} pack{'s' if packs > 1 else ''} computed "
        f"together, {workers} worker{'s' if workers > 1 else ''}); use {' or '.join(mends)}"
    )


def available_memory(device: torch.device) -> int:
    """Bytes that a training may use: most of a GPU's memory, or all of the machine's or the container's."""
    if device.type == "cuda":
        return int(USABLE * torch.cuda.get_device_properties(device).total_memory)
    total = int(psutil.virtual_memory().total)
    for path in CGROUP_LIMITS:
        try:
            limit = Path(path).read_text().strip()
        except OSError:
            continue
        if limit.isdigit():
            total = min(total, int(limit))
    return total
