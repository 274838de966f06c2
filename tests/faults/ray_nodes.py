"""A cluster of two Ray nodes on this machine, the second in a mount namespace of its own. Needs root (`unshare -m`)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil


class Cluster(NamedTuple):
    """environment: for a process that joins it. second: process id within the second node's mount namespace."""

    environment: dict[str, str]
    second: int

    def on_second(self, *command: str) -> None:
        """Run a command in the mount namespace of the second node."""
        subprocess.run(["nsenter", "-m", "-t", str(self.second), *command], check=True)


@contextlib.contextmanager
def two_nodes(before_second: str) -> Iterator[Cluster]:
    """Two nodes of one CPU each. before_second: a shell command run in the second node's namespace before it starts."""
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    ray = Path(sys.executable).with_name("ray")  # the environment need not be on the PATH
    common = "--num-cpus=1 --node-ip-address=127.0.0.1 --object-store-memory=80000000 --disable-usage-stats --block"
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        head = f"exec {ray} start --head --port={port} --include-dashboard=false --temp-dir={folder}/ray {common}"
        second = f"{before_second} && exec {ray} start --address=127.0.0.1:{port} {common}"
        processes: list[subprocess.Popen[bytes]] = []
        with Path(folder, "log").open("wb") as log:
            try:
                processes.append(subprocess.Popen(head, shell=True, env=environment, stdout=log, stderr=log))
                deadline = time.monotonic() + 120
                while not listens(port):
                    assert processes[0].poll() is None and time.monotonic() < deadline, Path(folder, "log").read_text()
                    time.sleep(0.1)
                processes.append(
                    subprocess.Popen(["unshare", "-m", "sh", "-c", second], env=environment, stdout=log, stderr=log)
                )
                yield Cluster({**environment, "RAY_ADDRESS": f"127.0.0.1:{port}"}, processes[1].pid)
            finally:
                for process in reversed(processes):
                    end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for member in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
