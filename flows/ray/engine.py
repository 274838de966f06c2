"""How does Ray run the work items of a step? Each is one Ray task; the results come back in order.

Ray is imported when the first item is run: it takes half a second, and a run that reuses every step needs none.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from flows.ray.roots import check_shared
from flows.reach import check_ray
from pipelines.errors import RESUME
from pipelines.ledger.engine import ONE_CPU, QUEUED_PER_WORKER, TaskDied, cpus, one_core, over_memory, parallel_tasks
from pipelines.ledger.processes import limited_memory, started
from pipelines.ledger.step import Resources

Item = TypeVar("Item")
Result = TypeVar("Result")

OBJECT_STORE_BYTES = 256 << 20
"""Size of the object store of a local Ray. Tasks exchange paths and digests, never rows, so it stays nearly empty.
Ray's default is 30 % of the memory."""

MAX_RETRIES = 3
"""How often Ray runs a task again after its worker died. A task commits its files before its receipt, so a second run
of it has the same result."""


def start_ray(num_cpus: int) -> None:
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
    with _signal_handler_kept():
        _init(num_cpus)


def _init(num_cpus: int) -> None:
    import ray

    if joins_cluster():
        ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level=logging.ERROR)
        return
    # A local Ray listens on loopback, where other users of the machine are. Unless RAY_AUTH_MODE says otherwise, it
    # takes commands only from who has its token, which is in the environment of its processes alone. Ray makes its
    # folders open to all: they lie in one that is not.
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        RAY_DEDUP_LOGS="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
        RAY_task_oom_retries=str(MAX_RETRIES),  # for ever, by default
    )
    for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    ray.init(
        address="local",
        num_cpus=num_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",
        _temp_dir=f"{_private_folder()}/r",
    )


FOLDERS = "winnow-ray"
"""Beginning of the names of folders with the files of local Rays: their process id follows."""


def _private_folder() -> str:
    """A new folder that only this user can read, for the sockets and logs of a Ray that starts here.

    Those of processes that have ended are removed. The name is short: paths of sockets have at most 107 bytes.
    """
    place = Path(os.environ.get("RAY_TMPDIR") or "/tmp")
    for left in place.glob(f"{FOLDERS}-*-*"):
        process = left.name.split("-")[2]
        if process.isdecimal() and not started(int(process)) and left.stat().st_uid == os.getuid():
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"{FOLDERS}-{os.getpid()}-", dir=place)  # mode 0700
    global _folder
    _folder = folder
    return folder


_folder: str | None = None


def stop_ray() -> None:
    """Leave the cluster, or end the local Ray and remove its files."""
    import ray

    global _folder
    ray.shutdown()
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)
        _folder = None


@contextlib.contextmanager
def _signal_handler_kept() -> Iterator[None]:
    """Keep the handler of SIGTERM that somebody set: `ray.init` replaces it by one that exits.

    Prefect's worker asks a flow run to end through its own handler, and a run without it ends as Crashed, not as
    Cancelled.
    """
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def joins_cluster() -> bool:
    """Whether RAY_ADDRESS names a cluster, rather than a Ray that is started here."""
    return os.environ.get("RAY_ADDRESS", "") not in ("", "local")


def gpus() -> int:
    """The GPUs of the Ray that runs, on all its nodes."""
    import ray

    return int(ray.cluster_resources().get("GPU", 0))


@contextlib.contextmanager
def ray_session(num_cpus: int) -> Iterator[None]:
    """Ray for the length of a block. A Ray that was running before keeps running after it."""
    import ray

    was_running = ray.is_initialized()
    start_ray(num_cpus)
    try:
        yield
    finally:
        if not was_running:
            stop_ray()


@functools.lru_cache(maxsize=1)
def _fetched(reference: Any) -> Any:
    """The work of a phase, unpickled once in each worker process: it may list 100,000 files."""
    import ray

    return ray.get(reference)


def _call(references: Sequence[Any], memory: int | None, item: Any) -> Any:
    one_core()
    try:
        with limited_memory(memory):
            return _fetched(references[0])(item)
    except Exception as error:
        import ray

        error.add_note(f"on node {ray.util.get_node_ip_address()}")
        raise


class RayEngine:
    """Runs each item as one Ray task.

    Ray starts with the first item, so a run that reuses every step never starts it. Before that item, every node proves
    that it shares the root.
    """

    def __init__(self, workers: int | None = None, root: str | None = None, memory: int | None = None) -> None:
        """workers: tasks of one CPU that run at a time; None for one per CPU of the cluster. A Ray that this engine
        starts has so many CPUs. root: where the items read and write. memory: bytes that the process of a task may
        hold."""
        assert workers is None or workers >= 1
        self._workers, self._memory = workers, memory
        self._started = False
        self._unchecked_root = root

    @property
    def workers(self) -> int:
        """Tasks of one CPU that run at a time. Before Ray runs, those of this machine."""
        import ray

        if self._workers is None and ray.is_initialized():
            return max(1, int(ray.cluster_resources().get("CPU", 1)))
        return self._workers or cpus()

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        """Yield `work(item)` in the order of the items. resources: reserved by Ray for each task.

        At most QUEUED_PER_WORKER tasks per worker are submitted at a time. A slow task does not hold back those after
        it.

        Raises: whatever `work` raised, with a note that names the node. TaskDied: if the process of a task was killed
        in every try. InputError: if a node does not share the root.
        """
        queue = list(items)
        if not queue:
            return
        import ray
        from ray.exceptions import RayError, RayTaskError

        if not ray.is_initialized():
            start_ray(self._workers or cpus())
            self._started = True
        if self._unchecked_root is not None:
            check_shared(self._unchecked_root)
            self._unchecked_root = None
        task: Any = ray.remote(
            num_cpus=resources.cpus, num_gpus=resources.gpus, memory=resources.memory, max_retries=MAX_RETRIES
        )(_call)
        max_submitted = QUEUED_PER_WORKER * parallel_tasks(self.workers, resources)
        shared = [ray.put(work)]
        remaining = iter(enumerate(queue))
        submitted: dict[Any, int] = {}
        results: dict[int, Result] = {}
        try:
            for index in range(len(queue)):
                while index not in results:
                    for number, item in itertools.islice(remaining, max_submitted - len(submitted)):
                        submitted[task.remote(shared, self._memory, item)] = number
                    for reference in _some_finished(list(submitted)):
                        number = submitted[reference]
                        results[number] = ray.get(reference)
                        del submitted[reference]
                yield results.pop(index)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            limit = "" if self._memory is None else f" Perhaps by {over_memory(self._memory)}."
            raise TaskDied(
                f"its worker process died in each of {MAX_RETRIES + 1} tries ({_one_line(error)}).{limit} If it needs "
                f"more memory than a node has, or its input makes a library crash, mend that; {RESUME}",
                queue[number],
            ) from error
        finally:
            for reference in submitted:
                ray.cancel(reference, force=False)

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            stop_ray()
            self._started = False


def _some_finished(references: list[Any]) -> list[Any]:
    """Wait for some tasks: an eighth of them, or those that are finished after half a second.

    Each call looks at all tasks. With 20,000 at a time, a call for each would take longer than the tasks.
    """
    import ray

    while True:
        finished, _ = ray.wait(references, num_returns=max(1, len(references) // 8), timeout=0.5)
        if finished:
            return list(finished)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
