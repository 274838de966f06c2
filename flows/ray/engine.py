"""How does Ray run the work items of a step? Each is one Ray task; the results come back in order.

Ray is imported when the first item is run: it takes half a second, and a run that reuses every step needs none.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from flows.ray.roots import check_shared
from flows.reach import check_ray
from pipelines.errors import RESUME, CheckFailed
from pipelines.ledger.engine import ONE_CPU, QUEUED_PER_WORKER, one_core, parallel_tasks
from pipelines.ledger.step import Resources

Item = TypeVar("Item")
Result = TypeVar("Result")

OBJECT_STORE_BYTES = 256 << 20
"""Size of the object store of a local Ray. Tasks exchange paths and digests, never rows, so it stays nearly empty.
Ray's default is 30 % of the memory."""

MAX_RETRIES = 3
"""How often Ray runs a task again after its worker died. A task commits its files before its receipt, so a second run
of it has the same result."""


def start_ray(cpus: int) -> None:
    """Join the cluster of RAY_ADDRESS, or start a local Ray with so many CPUs. Does nothing if Ray is running.

    The driver must be inside the cluster (`ray job submit`, or a pod of it). An address `ray://` is refused: with Ray
    Client, a short network failure would end the run.

    Raises: WinnowError: for such an address, and if no cluster answers.
    """
    import ray

    if ray.is_initialized():
        return
    check_ray()
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    address = os.environ.get("RAY_ADDRESS")
    if address and address != "local":
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        return
    # A local Ray listens on loopback only, so it needs no authentication.
    os.environ.update(
        RAY_AUTH_MODE="disabled",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_DEDUP_LOGS="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    )
    for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",
    )


@contextlib.contextmanager
def ray_session(cpus: int) -> Iterator[None]:
    """Ray for the length of a block. A Ray that was running before keeps running after it."""
    import ray

    was_running = ray.is_initialized()
    start_ray(cpus)
    try:
        yield
    finally:
        if not was_running:
            ray.shutdown()


def _call(work: Callable[[Item], Result], item: Item) -> Result:
    one_core()
    return work(item)


class RayEngine:
    """Runs each item as one Ray task.

    workers: CPUs of a Ray that this engine starts. Ray starts with the first item, so a run that reuses every step
    never starts it. root: where the items read and write; before the first one, every node proves that it shares it.
    """

    def __init__(self, workers: int, root: str | None = None) -> None:
        assert workers >= 1
        self.workers = workers
        self._started = False
        self._unchecked_root = root

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        """Yield `work(item)` in the order of the items. resources: reserved by Ray for each task.

        Raises: whatever `work` raised. CheckFailed: if Ray gave up on a task after its retries. InputError: if a node
        does not share the root.
        """
        queue = list(items)
        if not queue:
            return
        import ray
        from ray.exceptions import OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError

        if not ray.is_initialized():
            start_ray(self.workers)
            self._started = True
        if self._unchecked_root is not None:
            check_shared(self._unchecked_root)
            self._unchecked_root = None
        task: Any = ray.remote(
            num_cpus=resources.cpus, num_gpus=resources.gpus, memory=resources.memory, max_retries=MAX_RETRIES
        )(_call)
        max_waiting = QUEUED_PER_WORKER * parallel_tasks(self.workers, resources)
        shared = ray.put(work)
        waiting: deque[Any] = deque()
        try:
            for item in queue:
                waiting.append(task.remote(shared, item))
                if len(waiting) >= max_waiting:
                    yield ray.get(waiting.popleft())
            while waiting:
                yield ray.get(waiting.popleft())
        except RayTaskError as error:
            raise error.cause from None
        except (WorkerCrashedError, OutOfMemoryError, RayError) as error:
            raise CheckFailed(f"Ray gave up on a task after {MAX_RETRIES} retries: {error}; {RESUME}") from error
        finally:
            for reference in waiting:
                ray.cancel(reference, force=False)

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            import ray

            ray.shutdown()
            self._started = False
