"""How long does a command take to start, to find that nothing is to be done, and to stop?

CPU time is user and system time of the command and of all that it started and waited for. The first line is the first
that the command prints, on stdout or stderr. Medians of `REPEATS`, after one run that is not counted.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

WINNOW = Path(sys.executable).parent / "winnow"
RECIPE = Path(__file__).parents[2] / "pipelines" / "recipes" / "demo.yaml"
REPEATS = 5


class Cost(NamedTuple):
    """Seconds that a command took."""

    cpu: float
    wall: float
    first_line: float


def bench(_: Path | None) -> dict[str, list[dict[str, object]]]:
    """Rows of what was measured, by heading."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PREFECT_HOME"] = str(Path(folder) / "prefect")
        roots = {engine: Path(folder) / engine for engine in ("ray", "local")}
        build = {engine: ["build", RECIPE, "--root", root, "--engine", engine] for engine, root in roots.items()}
        rows = [_row(f"build demo.yaml --engine {engine}", [_run(words)]) for engine, words in build.items()]
        commands: dict[str, list[str | Path]] = {
            **{f"build demo.yaml --engine {engine}, every step reused": words for engine, words in build.items()},
            "--help": ["--help"],
            "why (a row)": ["why", "generated_kinds/generated/0", "--root", roots["local"]],
            "plan demo.yaml": ["plan", RECIPE],
        }
        for name, words in commands.items():
            _run(words)
            rows.append(_row(name, [_run(words) for _ in range(REPEATS)]))
        stops = [
            _stop(
                f"build --engine {engine}, after {delay:g} s", [*words[:3], Path(folder) / "stopped", *words[4:]], delay
            )
            for engine, words in build.items()
            for delay in (0.5, 3.0, 6.0)
        ]
        stops += [
            _stop(f"train, after {delay:g} s", ["train", "latest", "--root", roots["local"]], delay)
            for delay in (4, 15)
        ]
    return {"Commands": rows, "Stopped by SIGINT to the process group": stops}


def _row(name: str, costs: Sequence[Cost]) -> dict[str, object]:
    cpu, wall, first = (statistics.median(column) for column in zip(*costs, strict=True))
    return {
        "command": name,
        "CPU seconds": f"{cpu:.2f}",
        "wall seconds": f"{wall:.2f}",
        "first line after, seconds": f"{first:.2f}",
    }


def _run(words: Sequence[str | Path]) -> Cost:
    before, started = os.times(), time.monotonic()
    with subprocess.Popen([WINNOW, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        process.stdout.readline()
        first = time.monotonic() - started
        process.stdout.read()
    assert process.returncode == 0, f"winnow {words}: exit code {process.returncode}"
    wall, after = time.monotonic() - started, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(cpu, wall, first)


def _stop(name: str, words: Sequence[str | Path], delay: float) -> dict[str, object]:
    process = subprocess.Popen(
        [WINNOW, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(delay)
    assert process.poll() is None, f"{name}: ended before, with exit code {process.returncode}"
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    code = process.wait()
    return {"command": name, "exit code": code, "seconds until its end": f"{time.monotonic() - started:.2f}"}
