"""Who works in a folder? One process at a time, on any machine that reaches it: the others wait for it or take over.

    FOLDER/000001.json    who holds the lease: made by the one process that manages to create it
           000001.beat    a counter that the holder raises while it lives

The highest number holds. A holder whose process has ended, or whose counter has not moved for `DEAD_SECONDS`, is dead,
and whoever creates the next number has the lease. A process knows of its own leases which of them it has released,
however slow their counters are. Creating a file that is not there is all that a store has to offer, so this works on
local disks, NFS and object stores. No two clocks are compared: a counter is watched with the waiting process's own
monotonic clock.

A process can lose its lease without noticing, when it is stopped for longer than `DEAD_SECONDS`. So a lease prevents
double work, and keeps one from deleting what another is writing. That results are right follows from elsewhere: files
appear complete, and the same step has the same bytes whoever makes it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.errors import CheckFailed
from pipelines.ledger import storage
from pipelines.ledger.processes import machine, started

BEAT_SECONDS = 5.0
"""Interval at which a holder raises its counter."""

DEAD_SECONDS = 60.0
"""A holder on another machine whose counter has not moved for so long is dead. More than a store is slow or away."""

POLL_SECONDS = 0.5
"""Interval at which a waiting process looks at a local folder."""

REMOTE_POLL_SECONDS = 2.0
"""The same for an object store, where a look is three requests."""

_held: set[str] = set()
"""The tokens of this process's leases."""


class Holder(BaseModel):
    """Who holds a lease. work: what for, in words. since: for people; it is not compared with any clock.

    machine, started: tell the process from others of the same number (`pipelines.ledger.processes`).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    token: str
    work: str
    process: int
    host: str
    since: str
    machine: str
    started: str

    def __str__(self) -> str:
        return f"{self.work} (process {self.process} on {self.host}, since {self.since})"

    def has_ended(self) -> bool | None:
        """Whether the process has ended; None if it ran on another machine."""
        return None if self.machine != machine() else started(self.process) != self.started


def this_process(work: str) -> Holder:
    """This process as a holder. work: what it does, in words."""
    return Holder(
        token=uuid.uuid4().hex,
        work=work,
        process=os.getpid(),
        host=socket.gethostname(),
        since=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=machine(),
        started=started(os.getpid()),
    )


class Lost(CheckFailed):
    """Another process took the lease over, since this one showed no sign of life."""


class Busy(CheckFailed):
    """Another process holds the lease, and lives. holder: which."""

    def __init__(self, message: str, holder: Holder) -> None:
        super().__init__(message)
        self.holder = holder


class Lease:
    """A lease that this process got. `check` says whether it still has it."""

    def __init__(self, folder: str, number: int, holder: Holder) -> None:
        self.folder, self.number, self.holder = folder, number, holder
        self._lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def check(self, look: bool = True) -> None:
        """Check that no other process took the lease over. look: at the folder; else only what the last beat saw.

        Raises: Lost: if one did. OSError: if the folder cannot be reached.
        """
        if look and not self._lost:
            self._lost = _numbers(self.folder)[-1:] != [self.number] or not self._is_own()
        if self._lost:
            raise Lost(f"{self.holder.work}: another process took over, since this one was stopped for too long")

    def is_gone(self) -> bool:
        """Whether the lease's file is not there, and no other process has one: taken over, it would."""
        try:
            return not _numbers(self.folder)
        except OSError:
            return True

    def release(self) -> None:
        """End the lease. What cannot be removed now is removed by the next holder. The second call does nothing."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if self._is_own():
                _remove(self.folder, [self.number])
        _held.discard(self.holder.token)

    def _is_own(self) -> bool:
        holder = _read(self.folder, self.number)
        return holder is not None and holder.token == self.holder.token

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(BEAT_SECONDS):
            count += 1
            with contextlib.suppress(OSError):  # a store that is away for a while: the next beat tries again
                if _numbers(self.folder)[-1:] != [self.number] or not self._is_own():
                    self._lost = True
                    return
                storage.write_bytes(_path(self.folder, self.number, "beat"), f"{self.holder.token} {count}".encode())


@contextlib.contextmanager
def hold(
    folder: str,
    work: str,
    on_wait: Callable[[Holder, float], None] | None = None,
    patience: float | None = None,
) -> Iterator[Lease]:
    """Hold the lease of a folder during the block. Waits while a living process holds it, and takes over from a dead
    one.

    folder: of the lease's files alone; it is removed when nobody holds it. work: what this process does, for those that
    wait. on_wait: called at every look while another process holds it, with who that is and the seconds waited.
    patience: seconds to wait for a process that lives; None for as long as it takes.

    Raises: Busy: after `patience`.
    """
    lease = _acquire(folder, work, on_wait, patience)
    try:
        yield lease
    finally:
        lease.release()


def _acquire(folder: str, work: str, on_wait: Callable[[Holder, float], None] | None, patience: float | None) -> Lease:
    here = this_process(work)
    _held.add(here.token)
    try:
        return Lease(folder, _take(folder, here, on_wait, patience), here)
    except BaseException:
        _held.discard(here.token)
        raise


def _take(folder: str, here: Holder, on_wait: Callable[[Holder, float], None] | None, patience: float | None) -> int:
    """Wait for the lease and create its next number; returns the number."""
    begun = time.monotonic()
    watched: _Watched | None = None
    while True:
        try:
            numbers, holder = _look(folder)
            last = numbers[-1] if numbers else 0
            beat = _read_beat(folder, last)
            if numbers and (watched is None or not watched.is_of(last, holder)):
                watched = _Watched(last, holder)
            is_free = watched is None or not numbers or watched.is_dead(beat)
            if is_free and numbers and _look(folder) != (numbers, holder):
                continue  # a holder that released it since the look looks dead, and the next one has its number
        except OSError:
            if watched is None or watched.seconds_unreached() > DEAD_SECONDS:
                raise
            time.sleep(POLL_SECONDS)
            continue
        if is_free or watched is None:
            if _create(folder, last + 1, here):
                _remove(folder, numbers)
                return last + 1
            continue
        if holder is not None:
            waited = time.monotonic() - begun
            if patience is not None and waited > patience and watched.is_alive():
                raise Busy(f"{folder}: held by {holder}", holder)
            if on_wait:
                on_wait(holder, waited)
        time.sleep(POLL_SECONDS if storage.is_local(folder) else REMOTE_POLL_SECONDS)


class _Watched:
    """The holder that a waiting process watches, and when its counter was seen to move, on this process's clock."""

    def __init__(self, number: int, holder: Holder | None) -> None:
        self.number, self.holder = number, holder
        self.beat: bytes | None = None
        self.moved = self.reached = time.monotonic()
        self.beats = -1

    def is_of(self, number: int, holder: Holder | None) -> bool:
        """Whether this is the same holder. One that could not be read is the same."""
        tokens = [one.token if one else None for one in (holder, self.holder)]
        return number == self.number and tokens[0] == tokens[1]

    def is_dead(self, beat: bytes) -> bool:
        """Whether it is dead. beat: its counter, as read now."""
        now = time.monotonic()
        # Time in which this process could not look, or was stopped itself, says nothing of the holder.
        if now - self.reached > DEAD_SECONDS / 4:
            self.moved += now - self.reached
        self.reached = now
        if beat != self.beat:
            self.beat, self.moved, self.beats = beat, now, self.beats + 1
        if self._is_here():
            assert self.holder is not None
            if self.holder.has_ended():
                return True
            if self.holder.process == os.getpid():
                return self.holder.token not in _held  # known, however slow its counter is
        return now - self.moved > DEAD_SECONDS

    def is_alive(self) -> bool:
        """Whether it is known to live: its process is there, or its counter moved."""
        return self._is_here() or self.beats > 0

    def _is_here(self) -> bool:
        return self.holder is not None and self.holder.machine == machine()

    def seconds_unreached(self) -> float:
        """How long the folder could not be read."""
        return time.monotonic() - self.reached


def holder_of(folder: str) -> Holder | None:
    """Who holds the lease of a folder, dead or alive; None where nobody does."""
    return _look(folder)[1]


def _path(folder: str, number: int, suffix: str) -> str:
    return storage.join(folder, f"{number:06d}.{suffix}")


def _numbers(folder: str) -> list[int]:
    names = [name.partition(".") for name in storage.files(folder)]
    return sorted(int(stem) for stem, _, suffix in names if suffix == "json" and stem.isdecimal())


def _look(folder: str) -> tuple[list[int], Holder | None]:
    """The numbers that are there, and the holder of the last one."""
    numbers = _numbers(folder)
    return numbers, _read(folder, numbers[-1]) if numbers else None


def _read(folder: str, number: int) -> Holder | None:
    """None where the file is gone, or not complete: some file systems show a file before it is written."""
    try:
        return Holder.model_validate(json.loads(storage.read_bytes(_path(folder, number, "json"))))
    except (FileNotFoundError, ValueError, ValidationError):
        return None


def _read_beat(folder: str, number: int) -> bytes:
    try:
        return storage.read_bytes(_path(folder, number, "beat"))
    except FileNotFoundError:
        return b""


def _create(folder: str, number: int, holder: Holder) -> bool:
    path, data = _path(folder, number, "json"), holder.model_dump_json().encode()
    for _ in range(10):
        with contextlib.suppress(FileNotFoundError):  # a process that releases it removes the folder
            return storage.create(path, data)
    return storage.create(path, data)


def _remove(folder: str, numbers: list[int]) -> None:
    for number in numbers:
        for suffix in ("beat", "json"):
            storage.remove(_path(folder, number, suffix))
    storage.remove_empty(folder)
