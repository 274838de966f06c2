"""How does a command end at once, with all that it started? A second process watches it.

`winnow` forks before it imports anything. The child runs the command in a session of its own, so a terminal's Ctrl-C
does not reach it, nor its pool, its Ray or its Prefect server. The parent waits for the child and for signals. On a
signal it interrupts the child, gives it `GRACE_SECONDS` to tell Prefect, and then ends every descendant. It adopts
orphans, so daemons are among its descendants. Neither a long call into C nor a server that hangs can delay this. Files
are written aside and renamed, so a kill at any moment is safe.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from pipelines.ledger.processes import NOTE_BYTES, adopt_orphans, death, end_with_parent, note_in, share_note

GRACE_SECONDS = 2.0
"""Time for the command to end by itself once it is interrupted."""

TERMINATE_SECONDS = 1.0
"""Time between SIGTERM and SIGKILL for what is left of it."""

KILL_SECONDS = 5.0
"""Time for the kernel to end what was killed. A process that hangs in a system call is left to it."""

REPEATED_SECONDS = 0.5
"""A second signal within this time is the same request, sent to the process and to its group. A later one is
impatience: the grace ends."""

POLL_SECONDS = 0.02

COMMAND = "WINNOW_COMMAND"
"""The environment variable that names a command, in all processes that it starts."""

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that stop a command. Its exit code is 128 + the signal's number."""

SERVERS = ("ui", "serve")
"""Commands that run until they are stopped: nothing is left to carry on."""

INTERRUPT = signal.SIGUSR1
"""What the parent sends to the child. Neither Prefect nor Ray handles it."""


def supervise(command: Callable[[], None]) -> None:
    """Run a command in a child process, and exit with its exit code. Returns in the child alone.

    A signal of `STOP`, to this process or to its group, ends the command with everything that it started, and prints
    one line.
    """
    watched = {signal.SIGCHLD, signal.SIGTSTP, *STOP}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # under nohup
        watched.remove(signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    adopt_orphans()
    global _shared
    _shared = session = mmap.mmap(-1, 9)
    guard, held = _start_guard(session)
    note = mmap.mmap(-1, NOTE_BYTES)
    parent, child = os.getpid(), os.fork()
    if child:
        os._exit(_watch(child, watched, note, guard, session))
    os.close(held)
    share_note(memoryview(note))
    os.setsid()
    session[:8] = os.getpid().to_bytes(8, "little")
    end_with_parent(parent)
    interrupted = False

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        """Print nothing from now on, and unwind."""
        nonlocal interrupted
        interrupted = True
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        raise KeyboardInterrupt

    signal.signal(INTERRUPT, interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)
    try:
        command()
    finally:
        if interrupted:
            os._exit(128 + signal.SIGINT)  # without waiting for threads, workers or servers: the parent ends them
        note_end()


_shared: mmap.mmap | None = None
"""What the command tells the process that watches it: the id of its session, and whether it came to its end."""


def note_end() -> None:
    """The command came to its end. Without this a library or a plugin has ended the process, whatever its exit code."""
    if _shared is not None:
        _shared[8] = 1


def _start_guard(session: mmap.mmap) -> tuple[int, int]:
    """Start a process that ends what is left of the command, such as Ray's agents, once this one is killed: nothing
    else can, then. Returns its id, and the end of a pipe that must stay open in this process alone. session: where the
    command writes the id of its session."""
    name = os.environ[COMMAND] = os.urandom(8).hex()
    ended, held = os.pipe()
    guard = os.fork()
    if guard:
        os.close(ended)
        return guard, held
    os.close(held)
    os.setsid()
    for stream in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    os.read(ended, 1)  # until the process that holds the other end is gone
    deadline = time.monotonic() + KILL_SECONDS
    while (left := _processes_of(name, int.from_bytes(session[:8], "little"))) and time.monotonic() < deadline:
        for process in left:
            _signal(process, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    os._exit(0)


def _processes_of(command: str, session: int) -> list[int]:
    """The ids of the processes that inherited the name of a command or are in its session (0: in none); on Linux only.

    Ray's agents write their title over their environment, and their parent may be gone before they are looked for.
    """
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            own = int((path / "stat").read_text().rpartition(")")[2].split()[3])
            if own == session > 0 or f"{COMMAND}={command}".encode() in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
    return found


def _watch(child: int, watched: set[signal.Signals], note: mmap.mmap, guard: int, session: mmap.mmap) -> int:
    """Wait for the child or a signal; returns the exit code. note: what the child notes of its work. guard: a process
    that is not needed once this one ends by itself. session: as `_shared`."""
    while True:
        signum = signal.sigwait(watched)
        if signum == signal.SIGTSTP:
            _pause()
        elif signum in STOP:
            _interrupt_child(child)
            return _stopped(signum, guard)
        elif (status := _reap(child)) is not None:
            break
    code = os.waitstatus_to_exitcode(status)
    if -code in STOP or code == 128 + signal.SIGINT:  # the signal went to the child
        return _stopped(-code if code < 0 else signal.SIGINT, guard)
    _signal(guard, signal.SIGKILL)
    _end_descendants(TERMINATE_SECONDS)
    if code >= 0 and session[8]:
        return code
    what = note_in(note[:])
    _print(f"error: the command was ended by {death(code)}{f' while {what}' if what else ''}; {_resume()}")
    return 1


def _interrupt_child(child: int) -> None:
    os.kill(child, INTERRUPT)
    started = time.monotonic()
    while (waited := time.monotonic() - started) < GRACE_SECONDS and _reap(child) is None:
        repeated = signal.sigpending() & set(STOP)
        if repeated and waited > REPEATED_SECONDS:
            return
        time.sleep(POLL_SECONDS)


def _stopped(signum: int, guard: int) -> int:
    _signal(guard, signal.SIGKILL)
    _end_descendants(0.0)
    _print("stopped" if len(sys.argv) > 1 and sys.argv[1] in SERVERS else f"stopped; {_resume()}")
    return 128 + signum


def _resume() -> str:
    from pipelines.errors import RESUME

    return RESUME


def _print(line: str) -> None:
    # A progress bar that was cut off leaves its line, and the cursor hidden.
    start = "\r\x1b[K\x1b[?25h" if sys.stderr.isatty() else ""
    os.write(2, f"{start}{line}\n".encode())


def _reap(child: int) -> int | None:
    """Collect every descendant that has ended; returns the status of the child if it is among them."""
    status = None
    try:
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            if ended[0] == child:
                status = ended[1]
    except ChildProcessError:
        pass
    return status


def _end_descendants(patience: float) -> None:
    """End every descendant. patience: seconds before SIGTERM, for those that are about to end by themselves."""
    started = time.monotonic()
    signalled: dict[int, int] = {}
    while (waited := time.monotonic() - started) < patience + TERMINATE_SECONDS + KILL_SECONDS:
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        if waited >= patience:
            signum = signal.SIGTERM if waited < patience + TERMINATE_SECONDS else signal.SIGKILL
            for process in descendants(os.getpid()):
                if signalled.get(process) != signum:
                    _signal(process, signum)
                    signalled[process] = signum
        time.sleep(POLL_SECONDS)


def _signal(process: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signum)


def _pause() -> None:
    """Ctrl-Z: stop the command with this process, and let it go on with it."""
    for process in descendants(os.getpid()):
        _signal(process, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})  # this process stops here
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})
    for process in descendants(os.getpid()):
        _signal(process, signal.SIGCONT)


def descendants(process: int) -> list[int]:
    """The ids of all processes that a process started, directly or not."""
    if not Path("/proc/self/stat").exists():
        import psutil

        return [child.pid for child in psutil.Process(process).children(recursive=True)]
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stat = path.read_bytes()
        except OSError:  # it has ended
            continue
        # <pid> (<name>) <state> <parent> ...; the name may hold spaces and parentheses
        children.setdefault(int(stat[stat.rindex(b")") + 1 :].split()[1]), []).append(int(path.parent.name))
    found = list(children.get(process, ()))
    for one in found:
        found += children.get(one, ())
    return found
