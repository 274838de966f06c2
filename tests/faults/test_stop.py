"""Ctrl-C and SIGTERM at any moment: one line, the exit code, no process left; then the same command carries on."""

from __future__ import annotations

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

from tests.compare_roots import digests
from tests.trainings import train_on

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")

WINNOW = Path(sys.executable).parent / "winnow"
MARK = "WINNOW_TEST_MARK"
LINE = "stopped; the same command carries on"
STOP_SECONDS = 5.0
RECIPE = """
name: stopped
sources:
  - {name: sums, adapter: generated_arithmetic, rows: 2000}
  - {name: web, adapter: generated_web, rows: 1000}
  - {name: problems, adapter: generated_word_problems, rows: 1000}
stages: [{kind: strip_thinking}, {kind: length}, {kind: gopher_repetition}]
contamination: {benchmarks: [{name: generated, rows: 300}]}
tokenizer: {vocab_size: 600}
sampling: {epochs: 1, context: 257}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a run and a checkpoint, made in one process without a signal."""
    root = tmp_path_factory.mktemp("root")
    train_on(root, RECIPE)
    return root


class Command:
    """A command in a session of its own, which it and all that it starts can be recognised by."""

    def __init__(self, words: list[str | Path], folder: Path) -> None:
        self.mark = uuid.uuid4().hex
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment |= {MARK: self.mark, "PREFECT_HOME": str(folder / "prefect")}
        self.output = folder / f"{self.mark}.txt"
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                words, cwd=folder, env=environment, stdout=file, stderr=file, start_new_session=True
            )

    def stop(self, signum: int, group: bool) -> tuple[int, float]:
        """Signal the group or the process alone; returns the exit code and the seconds until it ended."""
        started = time.monotonic()
        (os.killpg if group else os.kill)(self.process.pid, signum)
        code = self.process.wait(timeout=60)
        return code, time.monotonic() - started

    def lines(self) -> list[str]:
        """What it has printed."""
        return self.output.read_text(encoding="utf-8").splitlines()

    def processes(self) -> list[str]:
        """Command lines of the processes that it has started and that are alive."""
        return list(self._alive())

    def _alive(self) -> Iterator[str]:
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    yield " ".join(process.cmdline())
            except psutil.Error:
                continue


def wait_until_watched(command: Command) -> None:
    """Wait for the fork: before it, in the first hundredths of a second, Python itself answers signals."""
    while command.process.poll() is None and not psutil.Process(command.process.pid).children():
        time.sleep(0.005)


def stop_at(words: list[str | Path], folder: Path, delay: float, signum: int, group: bool, line: str = LINE) -> bool:
    """Start a command and signal it after `delay` seconds. Returns False if it had ended by then. line: its last."""
    command = Command(words, folder)
    wait_until_watched(command)
    time.sleep(delay)
    if command.process.poll() is not None:
        assert command.process.returncode == 0, command.lines()
        return False
    code, seconds = command.stop(signum, group)
    lines, left = command.lines(), command.processes()
    assert code == 128 + signum, (delay, lines)
    assert lines[-1] == line and not any("Traceback" in line or "rror" in line for line in lines), (delay, lines)
    assert not left, (delay, left)
    assert seconds < STOP_SECONDS, (delay, seconds)
    return True


@pytest.mark.parametrize(("engine", "longest"), [("local", (0.0, 1.0, 4.0)), ("ray", (4.0, 10.0))])
@pytest.mark.fault("Ctrl-C and SIGTERM at random moments of a build", "one line, nothing left; same bytes after")
def test_a_build_that_is_stopped_again_and_again_ends_with_the_same_bytes(
    tmp_path: Path, trained: Path, engine: str, longest: tuple[float, ...]
) -> None:
    moments = random.Random(engine)
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    words: list[str | Path] = [WINNOW, "build", "recipe.yaml", "--root", "root", "--engine", engine, "--workers", "2"]
    stops = [
        stop_at(words, tmp_path, moments.uniform(seconds / 2, seconds), signum, group)
        for seconds, signum, group in zip(
            longest, (signal.SIGINT, signal.SIGTERM, signal.SIGINT), (True, False, True), strict=False
        )
    ]
    assert sum(stops) >= len(stops) - 1, "the build ended before it could be stopped often enough to mean something"
    last = Command(words, tmp_path)
    assert last.process.wait(timeout=300) == 0, last.lines()
    assert not last.processes()
    assert digests(tmp_path / "root" / "steps") == digests(trained / "steps")


@pytest.mark.parametrize(
    ("words", "longest"),
    [
        (["scan", "corpus.jsonl", "--benchmarks", "generated=300"], 6.0),
        (["train", "latest", "--steps", "2000"], 12.0),
        (["evaluate", "one"], 6.0),
    ],
    ids=["scan", "train", "evaluate"],
)
@pytest.mark.fault("Ctrl-C of any command", "one line, nothing left")
def test_any_command_is_stopped(tmp_path: Path, trained: Path, words: list[str | Path], longest: float) -> None:
    moment = random.Random(str(words)).uniform(1.0, longest)
    (tmp_path / "corpus.jsonl").write_text('{"instruction": "a", "response": "b"}\n' * 20_000, encoding="utf-8")
    named = [trained / "training" / "one" if word == "one" else word for word in words]
    root = tmp_path / "root" if words[0] == "scan" else trained
    stop_at([WINNOW, *named, "--root", root], tmp_path, moment, signal.SIGTERM, True)


@pytest.mark.parametrize("words", [["ui", "--port", "0"], ["serve", "one", "--port", "0"]], ids=["ui", "serve"])
@pytest.mark.fault("Ctrl-C of a server", "one line that promises nothing, nothing left")
def test_a_server_is_stopped_and_there_is_nothing_to_carry_on(tmp_path: Path, trained: Path, words: list[str]) -> None:
    named = [trained / "training" / "one" if word == "one" else word for word in words]
    assert stop_at([WINNOW, *named, "--root", trained], tmp_path, 5.0, signal.SIGINT, True, "stopped")


STUBBORN = """
import os, signal, subprocess, sys, time
from flows.cli.supervise import supervise

DAEMON = '''
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    open(sys.argv[1], "w").close()
    time.sleep(600)
'''

def command():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})  # as a long call into C
    subprocess.run([sys.executable, "-c", DAEMON, sys.argv[1]])
    time.sleep(600)

supervise(command)
"""


@pytest.mark.fault("Ctrl-C of a command that hangs in C, with daemons", "they end, and no process of others")
def test_a_command_that_hangs_and_its_daemons_end_but_no_process_of_others(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        command = Command([sys.executable, "-c", STUBBORN, tmp_path / "started"], tmp_path)
        # Until the daemon has started, and what started it has ended. The others: command, watcher, guard.
        for _ in range(1000):
            if (tmp_path / "started").exists() and len(command.processes()) == 4:
                break
            time.sleep(0.02)
        assert len(command.processes()) == 4
        code, seconds = command.stop(signal.SIGINT, True)
        assert (code, command.lines(), command.processes()) == (130, [LINE], [])
        assert seconds < STOP_SECONDS
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
