"""What runs the work items? Anything with an ordered `map`. Ray's engine is in `flows`; this one is plain Python."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import struct
import sys
import types
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pyarrow as pa

from pipelines.errors import RESUME, CheckFailed
from pipelines.ledger.processes import (
    NOTE_BYTES,
    OVER_MEMORY,
    death,
    end_with_parent,
    limited_memory,
    note_in,
    share_note,
)
from pipelines.ledger.step import Resources

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")

ONE_CPU = Resources()

POLL_SECONDS = 1.0
"""How often a pool is asked whether it still lives, while it is waited for a result."""

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


MAX_TRIES = 2
"""How often an item is tried whose process is killed. The kernel may have killed it for another one's memory."""


class LocalEngine:
    """Runs in this process (`workers=1`) or in a pool of processes that lives as long as the engine."""

    def __init__(self, workers: int = 1, memory: int | None = None) -> None:
        """memory: bytes that each worker may hold; with it one worker is a process of its own too."""
        assert workers >= 1
        self.workers, self.memory = workers, memory
        self._pool: ProcessPoolExecutor | None = None
        self._slots: list[memoryview] = []

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        """Yield `work(item)` in the order of the items.

        resources: a task of several CPUs runs beside fewer others; memory and GPUs are not limited on one machine.

        Raises: TaskDied: if the process of an item was killed, and again in a new one. It names the signal, and what
            the process was at.
        """
        if self.workers == 1 and self.memory is None:
            yield from map(work, items)
            return
        # Loaded here: a command that makes nothing needs no pool.
        from concurrent.futures.process import BrokenProcessPool

        parallel = parallel_tasks(self.workers, resources)
        # With fewer tasks at a time than processes, none may wait in the pool's queue: an idle process would take it.
        queued = QUEUED_PER_WORKER * parallel if parallel == self.workers else parallel
        remaining = enumerate(items)
        waiting: deque[tuple[int, Item, Future[Result]]] = deque()
        deaths: Counter[int] = Counter()
        try:
            while True:
                for number, item in itertools.islice(remaining, queued - len(waiting)):
                    waiting.append((number, item, self._submit(work, number, item)))
                if not waiting:
                    return
                try:
                    result = self._result(waiting[0][2])
                except BrokenProcessPool as error:
                    number, how = self._end_broken_pool()
                    deaths[number] += 1
                    dead = [item for other, item, _ in waiting if other == number]
                    if not dead or deaths[number] == MAX_TRIES:
                        raise TaskDied(f"{how}; {RESUME}", *dead) from error
                    for index, (number, item, future) in enumerate(waiting):
                        if isinstance(future.exception(), BrokenProcessPool):
                            waiting[index] = number, item, self._submit(work, number, item)
                    continue
                waiting.popleft()
                yield result
        finally:
            for *_, future in waiting:
                future.cancel()

    def _submit(self, work: Callable[[Item], Result], number: int, item: Item) -> Future[Result]:
        import multiprocessing
        from concurrent.futures import Future, ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool

        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            board, taken = context.RawArray("B", self.workers * _SLOT_BYTES), context.Value("i", 0)
            self._slots = [
                memoryview(board).cast("B")[at : at + _SLOT_BYTES] for at in range(0, len(board), _SLOT_BYTES)
            ]
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(), board, taken)
            )
        try:
            with _no_main_module():
                return self._pool.submit(_call, work, number, item, self.memory)
        except BrokenProcessPool as error:  # found by the caller when it is this item's turn
            broken: Future[Result] = Future()
            broken.set_exception(error)
            return broken

    def _result(self, future: Future[Result]) -> Result:
        """The result of a task, when it is there. Raises: CheckFailed: if the pool's own thread has ended."""
        from concurrent.futures import wait

        while not wait([future], POLL_SECONDS).done:
            assert self._pool is not None
            manager: Any = self._pool._executor_manager_thread
            if not manager.is_alive() and not future.done():
                for worker in list(self._pool._processes.values()):
                    worker.kill()  # nothing would end them
                self._pool = None
                raise CheckFailed(
                    "the pool of worker processes ended, as a thread of it could not start: memory or processes are "
                    f"limited too low (`ulimit -v`, `ulimit -u`); raise the limit, and {RESUME}"
                )
        return future.result()

    def _end_broken_pool(self) -> tuple[int, str]:
        """The number of the item whose process was killed, -1 if it is not known, and how and at what."""
        assert self._pool is not None
        processes = list(self._pool._processes.values())
        self._pool.shutdown(cancel_futures=True)
        self._pool = None
        # The pool ends the others with SIGTERM.
        killed = {p.pid: p.exitcode for p in processes if p.exitcode not in (None, 0, -signal.SIGTERM)}
        for slot in self._slots:
            pid, number = _SLOT.unpack_from(slot)
            if pid in killed:
                note = note_in(slot[_SLOT.size :])
                cause = over_memory(self.memory) if killed[pid] == OVER_MEMORY else death(killed[pid])
                how = f"its worker process was ended by {cause}{f' while {note}' if note else ''}"
                return number, f"{how}, in each of {MAX_TRIES} tries"
        return -1, "a worker process was killed (out of memory?)"

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


def over_memory(memory: int | None) -> str:
    """What ends a worker that holds more than `memory` bytes, and the mend."""
    return f"its limit of {(memory or 0) / 1e9:.2f} GB (give it more with --memory)"


_SLOT = struct.Struct("qq")
"""What a worker shares with the engine: its process id, and the number of its item, -1 for none. Its note follows."""

_SLOT_BYTES = _SLOT.size + NOTE_BYTES

_slot: memoryview | None = None


def _start_worker(parent: int, board: Any, taken: Any) -> None:
    """A worker ends with its pool: by the pool's word, or with the process that holds it, however that ends.

    board: shared memory with a slot for each worker. taken: how many have one.
    """
    global _slot
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)
    with taken.get_lock():
        start = taken.value * _SLOT_BYTES
        taken.value += 1
    _slot = memoryview(board).cast("B")[start : start + _SLOT_BYTES]
    _SLOT.pack_into(_slot, 0, os.getpid(), -1)
    share_note(_slot[_SLOT.size :])
    one_core()


def _call(work: Callable[[Item], Result], number: int, item: Item, memory: int | None) -> Result:
    assert _slot is not None
    _SLOT.pack_into(_slot, 0, os.getpid(), number)
    try:
        with limited_memory(memory):
            return work(item)
    finally:
        _SLOT.pack_into(_slot, 0, os.getpid(), -1)


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
