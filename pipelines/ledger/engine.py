"""What runs the work items? Anything with an ordered `map`. Ray's engine is in `flows`; this one is plain Python."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar

import pyarrow as pa

from pipelines.errors import RESUME, CheckFailed
from pipelines.ledger.processes import end_with_parent
from pipelines.ledger.step import Resources

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")

ONE_CPU = Resources()

QUEUED_PER_WORKER = 2
"""Items submitted per worker: enough to keep it busy, few enough that results waiting behind a slow item stay few."""


def cpus() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_tasks(workers: int, resources: Resources) -> int:
    """Tasks that run at a time where `workers` CPUs are free, at least one."""
    return max(1, int(workers / max(resources.cpus, 1)))


class TaskDied(CheckFailed):
    """The process of a task was killed, and again in every retry. The message ends with what to do.

    item: what the task was called with; None where it is not known which of several tasks it was.
    """

    def __init__(self, message: str, item: object = None) -> None:
        super().__init__(message)
        self.item = item


class Engine(Protocol):
    """Runs a picklable function over items."""

    @property
    def workers(self) -> int:
        """Tasks of one CPU that run at a time."""
        ...

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        """Yield `work(item)` in the order of the items, whatever the parallelism. resources: of one call."""
        ...


class LocalEngine:
    """Runs in this process (`workers=1`) or in a pool of processes that lives as long as the engine."""

    def __init__(self, workers: int = 1) -> None:
        assert workers >= 1
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        """Yield `work(item)` in the order of the items.

        resources: a task of several CPUs runs beside fewer others; memory and GPUs are not limited on one machine.

        Raises: TaskDied: if a worker process was killed.
        """
        if self.workers == 1:
            yield from map(work, items)
            return
        # Loaded here: a command that makes nothing needs no pool.
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool

        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),)
            )
        parallel = parallel_tasks(self.workers, resources)
        # With fewer tasks at a time than processes, none may wait in the pool's queue: an idle process would take it.
        queued = QUEUED_PER_WORKER * parallel if parallel == self.workers else parallel
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                with _no_main_module():
                    waiting.append(self._pool.submit(work, item))
                if len(waiting) >= queued:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            self._pool = None
            raise TaskDied(f"a worker process was killed (out of memory?); {RESUME}") from error
        finally:
            for future in waiting:
                future.cancel()

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        if kind is not None and not issubclass(kind, Exception):  # Ctrl-C does not wait for the items at work
            for worker in list(self._pool._processes.values()):
                worker.kill()
        self._pool.shutdown(cancel_futures=True)
        self._pool = None


def _start_worker(parent: int) -> None:
    """A worker ends with its pool: by the pool's word, or with the process that holds it, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)
    one_core()


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Let processes that start within the block not import the caller's script again.

    A script that calls `winnow.build` without `if __name__ == "__main__"` would otherwise run once more in every
    worker. No work item is defined in a script.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def one_core() -> None:
    """Limit a worker's libraries to one thread: the engine does the parallel work."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["NUMBA_NUM_THREADS"] = "1"
    pa.set_cpu_count(1)
    pa.set_io_thread_count(2)
