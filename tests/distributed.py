"""Some processes that know of each other, over gloo, for what needs more than one worker and no Ray."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def together(world: int, work: Callable[..., None], *arguments: object) -> None:
    """Call `work` in `world` processes. Raises what torch.multiprocessing.spawn raises where one of them fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    mp.spawn(_join, (world, port, work, arguments), nprocs=world)


def _join(rank: int, world: int, port: int, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    work(*arguments)
    dist.destroy_process_group()
    # FSDP keeps the group beyond its end, and with it gloo's threads. A thread that lets go of a tensor while the
    # interpreter is being taken down aborts the process ("terminate called without an active exception"): so it is not
    # taken down.
    os._exit(0)
