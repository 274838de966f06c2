"""Whatever process of a build is killed, nothing of it is left ten seconds later, and the build can be carried on.

Every process that a build starts, of whatever tool, inherits its environment: a variable of the test's own marks them.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal at the death of a parent")

WINNOW = Path(sys.executable).parent / "winnow"
LEFT_SECONDS = 10.0
MARK = "WINNOW_TEST_MARK"
RECIPE = """
name: few
sources: [{name: sums, adapter: generated_arithmetic, rows: 60000}]
contamination: {benchmarks: [{name: generated, rows: 60}]}
tokenizer: {vocab_size: 600}
sampling: {epochs: 1, context: 257}
"""


def marked(mark: str) -> dict[int, str]:
    """Processes with this mark in their environment -> their command lines."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in path.read_bytes().split(b"\0"):
                state = (path.parent / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z":
                    command = (path.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(path.parent.name)] = command[:200]
    return found


def _heed_hangups() -> None:
    """Tests that run under `nohup` would pass on that SIGHUP is ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextlib.contextmanager
def build(folder: Path, engine: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    (folder / "few.yaml").write_text(RECIPE)
    mark = uuid.uuid4().hex
    environment = os.environ | {MARK: mark, "PREFECT_HOME": str(folder / "prefect")}
    for name in ("PREFECT_API_URL", "RAY_ADDRESS"):
        environment.pop(name, None)
    with (folder / "out").open("wb") as out:
        words = [WINNOW, "build", "few.yaml", "--engine", engine, "--workers", "2"]
        process = subprocess.Popen(
            words, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT, preexec_fn=_heed_hangups
        )
        try:
            yield process, mark
        finally:
            for left in marked(mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(left, signal.SIGKILL)
            process.wait()


def victim(process: subprocess.Popen[bytes], role: str) -> int:
    """The process id of the supervisor, of the command that it watches, or of a worker of that."""
    if role == "supervisor":
        return process.pid
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=role == "worker"):
            with contextlib.suppress(psutil.Error):
                name, line = child.name(), " ".join(child.cmdline())
                is_worker = "spawn_main" in line or name.startswith("ray::")
                if is_worker or (role == "command" and child.children()):  # the guard beside it has none
                    return child.pid
        time.sleep(0.05)
    raise TimeoutError(f"no {role} started")


@pytest.mark.fault("kill -9 of the supervisor, the command or a worker of a build", "after 10 s no process is left")
@pytest.mark.parametrize(
    ("engine", "role"),
    [
        ("local", "supervisor"),
        pytest.param("local", "command", marks=pytest.mark.slow),
        pytest.param("local", "worker", marks=pytest.mark.slow),
        ("ray", "supervisor"),
        pytest.param("ray", "command", marks=pytest.mark.slow),
        pytest.param("ray", "worker", marks=pytest.mark.slow),
    ],
)
def test_nothing_is_left_of_a_build_of_which_a_process_is_killed(tmp_path: Path, engine: str, role: str) -> None:
    dice = random.Random(f"{engine} {role}")
    with build(tmp_path, engine) as (process, mark):
        target = victim(process, "worker")
        time.sleep(dice.uniform(0.0, 3.0))
        target = target if role == "worker" else victim(process, role)
        with contextlib.suppress(ProcessLookupError):
            os.kill(target, signal.SIGKILL)
        if role == "worker":  # the item is run again, and the build goes on or ends by itself
            process.wait(timeout=240)
        deadline = time.monotonic() + LEFT_SECONDS
        while (left := marked(mark)) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not left, left
    assert "Traceback" not in (tmp_path / "out").read_text()


@pytest.mark.fault("SIGTERM, SIGINT or SIGHUP to a build under Ray or in a pool", "one line, and no process is left")
@pytest.mark.parametrize(
    ("engine", "signum"),
    [
        ("local", signal.SIGTERM),
        ("ray", signal.SIGTERM),
        *(
            pytest.param(engine, signum, marks=pytest.mark.slow)
            for engine in ("local", "ray")
            for signum in (signal.SIGINT, signal.SIGHUP)
        ),
    ],
)
def test_a_build_that_is_asked_to_end_ends_in_one_line(tmp_path: Path, engine: str, signum: signal.Signals) -> None:
    with build(tmp_path, engine) as (process, mark):
        victim(process, "worker")
        time.sleep(random.Random(f"{engine} {signum}").uniform(0.0, 3.0))
        process.send_signal(signum)
        assert process.wait(timeout=30) == 128 + signum
        deadline = time.monotonic() + LEFT_SECONDS
        while (left := marked(mark)) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not left, left
    lines = (tmp_path / "out").read_text().strip().splitlines()
    assert lines[-1].startswith("stopped; "), lines
    assert not any(word in line for line in lines for word in ("Traceback", "***", "@ 0x", "Aborted", "error:")), lines
