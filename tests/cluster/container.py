"""The first process of a container without Docker. It reads what it shall be, a JSON object, from standard input.

It starts in new mount, PID, host name and IPC name spaces, and in the network name space of its container. It gives the
container a file system of its own: the host's, copied on write, with an empty /tmp, its volumes, and the checkout where
the image has it. Then it runs the command, collects orphans, and ends with the command.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any


def mount(*arguments: str) -> None:
    """Call mount(8)."""
    subprocess.run(["mount", *arguments], check=True)


def file_system(spec: dict[str, Any]) -> Path:
    """Mount the container's file system; returns its root."""
    layer = Path(spec["layer"])
    layer.mkdir(parents=True, exist_ok=True)
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "tmpfs", str(layer))
    root = layer / "root"
    for name in ("root", "upper", "work", "code", "code_work"):
        (layer / name).mkdir()
    mount("-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={layer}/upper,workdir={layer}/work", str(root))
    mount("-t", "proc", "proc", str(root / "proc"))
    mount("--rbind", "/dev", str(root / "dev"))
    mount("--rbind", "/sys", str(root / "sys"))
    mount("-t", "tmpfs", "-o", f"size={spec['shm_bytes']}", "tmpfs", str(root / "dev/shm"))
    for name in ("tmp", "run"):
        mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(root / name))
    for name in spec["read"]:  # Python's own folders, which may lie below /tmp or on another disk
        inside = root / name[1:]
        if not inside.is_dir() or not any(inside.iterdir()):
            inside.mkdir(parents=True, exist_ok=True)
            mount("--bind", name, str(inside))
        for parent in Path(name).parents:
            path = root / str(parent)[1:]
            path.chmod(path.stat().st_mode | 0o055)
    for source, target in spec["volumes"]:
        inside = root / target[1:]
        inside.mkdir(parents=True, exist_ok=True)
        mount("--bind", source, str(inside))
    code = root / spec["code_at"][1:]
    code.mkdir(parents=True, exist_ok=True)
    lower = f"lowerdir={spec['code']},upperdir={layer}/code,workdir={layer}/code_work"
    mount("-t", "overlay", "overlay", "-o", lower, str(code))
    for folder in (code, *(path for path in code.rglob("*") if path.is_dir())):  # Numba uses a cache that it can write
        os.chown(folder, spec["user"], spec["user"])
    home = root / "home/container"
    home.mkdir(parents=True)
    os.chown(home, spec["user"], spec["user"])
    (root / "etc/hosts").write_text(spec["hosts"], encoding="utf-8")
    # Names that are not in hosts (and IPv6 addresses of those that are) are refused at once, not asked for in vain.
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n", encoding="utf-8")
    return root


def run(spec: dict[str, Any]) -> int:
    """Run the command as the container's user, and wait for its end; returns its exit code."""
    socket.sethostname(spec["name"])
    os.chroot(file_system(spec))
    os.chdir(spec["folder"])
    child = os.fork()
    if child == 0:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.setgroups([])
        os.setgid(spec["user"])
        os.setuid(spec["user"])
        os.execvpe(spec["command"][0], spec["command"], spec["environment"])

    def forward(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    signal.signal(signal.SIGTERM, forward)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(run(json.load(sys.stdin)) & 0xFF)
