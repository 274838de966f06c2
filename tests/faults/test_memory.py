"""`--memory`: a worker that holds more than its limit ends the build with a message."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import typer

from flows.cli.options import memory_bytes
from flows.ray.engine import RayEngine
from pipelines.ledger.engine import LocalEngine, TaskDied
from pipelines.ledger.processes import noted

LIMIT = 800_000_000
"""More than a worker holds before it does anything."""


def hold(megabytes: int) -> int:
    """Hold so much memory, half of it of Arrow's."""
    with noted(f"reading a file of {megabytes} MB"):
        half = np.full(megabytes << 19, 1, np.uint8)
        return (len(half) + pa.array(half).nbytes) >> 20


@pytest.mark.fault("a worker takes more memory than --memory", "exit with the step, item, file and limit")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_holds_more_than_its_limit_is_named(workers: int) -> None:
    with LocalEngine(workers, LIMIT) as engine:
        message = r"ended by its limit of 0\.80 GB \(give it more with --memory\) while reading a file of 2000 MB"
        with pytest.raises(TaskDied, match=message) as error:
            list(engine.map(hold, [10, 2000, 10]))
        assert error.value.item == 2000


@pytest.mark.fault("a worker of Ray takes more memory than --memory", "exit with the step, item, file and limit")
def test_a_task_of_ray_that_holds_more_than_its_limit_is_named() -> None:
    with RayEngine(1, memory=LIMIT) as engine:
        with pytest.raises(TaskDied, match=r"limit of 0\.80 GB") as error:
            list(engine.map(hold, [10, 2000, 10]))
        assert error.value.item == 2000


@pytest.mark.parametrize("make", [lambda: LocalEngine(1, LIMIT), lambda: RayEngine(1, memory=LIMIT)])
def test_workers_below_their_limit_go_on(make: Any) -> None:
    engine: AbstractContextManager[Any] = make()
    with engine as running:
        assert list(running.map(hold, [100, 20] * 5)) == [100, 20] * 5


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4_000_000_000), ("1.5 GiB", 3 << 29), ("500mb", 500_000_000), ("2T", 2_000_000_000_000)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert memory_bytes(text) == size


@pytest.mark.parametrize("text", ["4", "GB", "0GB", "-1GB", "4 GB 5", "4PB", ""])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no size"):
        memory_bytes(text)
