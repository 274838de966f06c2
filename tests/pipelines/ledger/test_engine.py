"""An engine runs items in order, and says which one a process died of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.ledger.engine import LocalEngine, TaskDied
from pipelines.ledger.processes import noted


def killed(signum: int, number: int) -> int:
    """Its process ends by a signal at item 5."""
    if number == 5:
        with noted(f"reading file-{number}"):
            os.kill(os.getpid(), signum)
    return number * 2


def killed_once(folder: str, number: int) -> int:
    """The process of each third item ends by SIGKILL the first time."""
    if number % 3 == 0:
        try:
            Path(folder, str(number)).touch(exist_ok=False)
        except FileExistsError:
            return number * 2
        os.kill(os.getpid(), signal.SIGKILL)
    return number * 2


class Work:
    """Work with an argument, that can be sent to processes."""

    def __init__(self, function: object, argument: object) -> None:
        self.function, self.argument = function, argument

    def __call__(self, number: int) -> int:
        return self.function(self.argument, number)  # type: ignore[operator, no-any-return]


@pytest.mark.fault("a worker killed by a signal, again in every try", "an error that names item, file and signal")
@pytest.mark.parametrize("signum", [signal.SIGSEGV, signal.SIGBUS, signal.SIGKILL])
def test_the_error_for_a_killed_worker_names_its_item_the_signal_and_what_it_read(signum: signal.Signals) -> None:
    results: list[int] = []
    with LocalEngine(2) as engine, pytest.raises(TaskDied, match=rf"{signum.name}.* while reading file-5") as raised:
        results.extend(engine.map(Work(killed, signum), range(20)))
    assert raised.value.item == 5
    assert results == [0, 2, 4, 6, 8]


@pytest.mark.fault("workers killed once", "their items run again, in order, nothing lost")
def test_items_whose_processes_are_killed_once_are_tried_again(tmp_path: Path) -> None:
    with LocalEngine(3) as engine:
        assert list(engine.map(Work(killed_once, str(tmp_path)), range(10))) == [2 * n for n in range(10)]
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.fault("a file that makes a library crash the command's own process", "the signal and the file are named")
def test_a_command_that_crashes_while_it_reads_names_the_file() -> None:
    code = (
        "import ctypes; from flows.cli.supervise import supervise; from pipelines.ledger.processes import noted\n"
        "def command():\n"
        "    with noted('reading a.parquet'): ctypes.string_at(0)\n"
        "supervise(command)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the command was ended by SIGSEGV while reading a.parquet; ")
