"""How does a process end with the one that started it? On Linux the kernel signals it; elsewhere nothing does."""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""Options of prctl(2)."""


def end_with_parent(parent: int, signum: int = signal.SIGKILL) -> None:
    """Have this process signalled when its parent ends, however that ends. parent: process id, as seen before the start
    of this process: if it has ended since, this process ends now."""
    if sys.platform == "linux":
        _prctl(PR_SET_PDEATHSIG, signum)
        if os.getppid() != parent:
            os.kill(os.getpid(), signum)


def adopt_orphans() -> None:
    """Make this process the parent of all its descendants whose own parents end, also of daemons."""
    if sys.platform == "linux":
        _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(option, value)
