"""Which process is it, does it live, and how does it end with the one that started it?"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""Options of prctl(2)."""


def end_with_parent(parent: int, signum: int = signal.SIGKILL) -> None:
    """Have this process signalled when its parent ends, however that ends; on Linux only. parent: process id, as seen
    before the start of this process: if it has ended since, this process ends now."""
    if sys.platform == "linux":
        _prctl(PR_SET_PDEATHSIG, signum)
        if os.getppid() != parent:
            os.kill(os.getpid(), signum)


NOTE_BYTES = 4096
"""Bytes of a process's note."""

_note: memoryview | None = None


def share_note(memory: memoryview) -> None:
    """Have this process note in shared memory what it is at, for the one that learns of its death. memory: NOTE_BYTES,
    zeros."""
    global _note
    _note = memory


@contextlib.contextmanager
def noted(what: str) -> Iterator[None]:
    """Note what this process does within the block."""
    if _note is None:
        yield
        return
    text = what.encode(errors="replace")[: NOTE_BYTES - 1]
    before = bytes(_note)
    _note[: len(text) + 1] = text + b"\0"
    try:
        yield
    finally:
        _note[:] = before


def note_in(memory: bytes | memoryview) -> str:
    """What a process that has ended had noted; empty if nothing."""
    return bytes(memory).partition(b"\0")[0].decode(errors="replace")


def death(code: int) -> str:
    """How a process ended, by its exit code; negative for a signal: `SIGKILL (out of memory?)`."""
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name + (" (out of memory?)" if -code == signal.SIGKILL else "")


OVER_MEMORY = 86
"""Exit code of a process that held more memory than it may."""

_LOOK_SECONDS = 0.02
"""How often the memory of a limited process is looked at. It allocates some 40 MB meanwhile."""

_limit: int | None = None
_watched = False


@contextlib.contextmanager
def limited_memory(limit: int | None) -> Iterator[None]:
    """End this process with OVER_MEMORY as soon as it holds more than `limit` bytes within the block; on Linux only.

    Memory is what the process has written to, without mapped files. The limits of the operating system are no use here:
    they count what allocators reserve, and libraries that cannot allocate wait or abort.
    """
    global _limit, _watched
    before, _limit = _limit, limit
    if limit is not None and not _watched and Path("/proc/self/statm").exists():
        _watched = True
        threading.Thread(target=_watch_memory, name="memory", daemon=True).start()
    try:
        yield
    finally:
        _limit = before


def _watch_memory() -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    with Path("/proc/self/statm").open("rb", buffering=0) as file:
        while True:
            if (limit := _limit) is not None:
                file.seek(0)
                _, resident, shared, *_ = map(int, file.read().split())
                if (resident - shared) * page > limit:
                    os._exit(OVER_MEMORY)
            time.sleep(_LOOK_SECONDS)


def adopt_orphans() -> None:
    """Make this process the parent of all its descendants whose own parents end, also of daemons."""
    if sys.platform == "linux":
        _prctl(PR_SET_CHILD_SUBREAPER, 1)


@functools.cache
def machine() -> str:
    """Names the boot of the machine, and the container on it, within which process ids mean the same processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        container = Path("/proc/self/ns/pid").readlink()
    except OSError:
        import uuid  # here, as every command imports this module when it starts

        return f"{os.uname().nodename} {uuid.getnode():x}"
    return f"{os.uname().nodename} {boot} {container}"


def started(process: int) -> str:
    """When a process of this machine started, in ticks that no change of the clock moves; empty if it has ended.

    With it, a process id that was given out again is told from the process that had it before.
    """
    if not Path("/proc/self/stat").exists():
        import psutil

        with contextlib.suppress(psutil.Error):
            return str(psutil.Process(process).create_time())
        return ""
    try:
        stat = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return ""
    # <pid> (<name>) <state> ... <start, the 22nd>; the name may hold spaces and parentheses
    fields = stat[stat.rindex(b")") + 1 :].split()
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def reset_peak_memory() -> None:
    """Let `peak_memory` begin anew, on Linux; elsewhere it stays the peak of the whole process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """The most memory that this process held at a time since `reset_peak_memory`, in bytes, resident."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) << 10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(option, value)
