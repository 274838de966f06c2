"""Feed damaged inputs to what reads the user's files.

    python -m tests.fuzz [TARGET ...] [--seconds N | --cases N] [--seed N]

Cases run in batches in processes of their own with a limit of memory. A case fails if it raises anything but Winnow's
own errors, breaks a property, takes longer than `CASE_SECONDS`, or ends its process (a signal, the memory). The input
of a failed case is kept in the folder `fuzz-failures`, and `--replay FILE` runs it again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

CASE_SECONDS = float(os.environ.get("WINNOW_FUZZ_CASE_SECONDS", 10))
"""Time for one case. Inputs are at most a megabyte."""

MEMORY_BYTES = 3 << 30
"""Memory that a process may allocate."""

BATCH = 200
"""Cases of one process."""

FAILURES = Path("fuzz-failures")

SHOWN = 10
"""Failures of a target that are printed."""

INPUTS = "inputs"
"""The folder of right inputs, below that of a target."""


class Failure(NamedTuple):
    """A case that failed: of which target, its number, what happened, and the file with its input."""

    target: str
    case: int
    what: str
    file: Path


def fuzz(
    target: str, seed: int, folder: Path, seconds: float = math.inf, cases: float = math.inf
) -> tuple[int, list[Failure]]:
    """Run cases of a target for so long, or so many; returns how many there were, and those that failed."""
    from tests.fuzz.targets import TARGETS

    case, failures = 0, list[Failure]()
    with tempfile.TemporaryDirectory() as place:
        _prepare(TARGETS[target], Path(place))
        begun = time.monotonic()
        while (left := seconds - (time.monotonic() - begun)) > 0 and case < cases:
            progress = Path(place, "progress")
            words = [target, str(seed), str(case), str(min(case + BATCH, cases)), str(left), place]
            command = [sys.executable, "-m", "tests.fuzz", "--batch", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            last = json.loads(progress.read_text())
            case = last["case"] + 1
            if done.returncode == 0:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            kept = folder / f"{target}-{seed}-{last['case']}"
            kept.write_bytes(Path(place, "input").read_bytes())
            failures.append(Failure(target, last["case"], _what(done), kept))
    return case, failures


def _prepare(target: Target, place: Path) -> None:
    """Write the right inputs of a target below `place`."""
    (place / INPUTS).mkdir()
    for number, data in enumerate(target.prepare(place)):
        (place / INPUTS / f"{number:04d}").write_bytes(data)


def _what(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of a process that failed, or the signal that ended it."""
    if done.returncode < 0:
        return signal.Signals(-done.returncode).name
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"exit code {done.returncode}"


def _batch(target: str, seed: int, first: int, end: int, seconds: float, place: Path) -> None:
    """Run the cases from `first` to `end`. The number and the input of each are written before it runs."""
    from tests.fuzz.targets import TARGETS

    own = TARGETS[target]
    inputs = [path.read_bytes() for path in sorted((place / INPUTS).iterdir())]
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _too_long)
    begun = time.monotonic()
    for case in range(first, end):
        data = own.change(inputs, random.Random(f"{target} {seed} {case}"))
        (place / "progress").write_text(json.dumps({"case": case}))
        (place / "input").write_bytes(data)
        _one(target, data, place)
        if time.monotonic() - begun > seconds:
            return


def _one(target: str, data: bytes, place: Path) -> None:
    from pipelines.errors import CheckFailed, WinnowError
    from tests.fuzz.targets import TARGETS

    signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS)
    try:
        TARGETS[target].run(data, place)
    except (WinnowError, CheckFailed) as error:
        assert str(error).strip(), "an error without a message"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _too_long(signum: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"longer than {CASE_SECONDS:g} s")


def main() -> int:
    """Fuzz the targets named, by default all, and print a line for each; 1 if a case failed."""
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"by default all: {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target (default: 10)")
    parser.add_argument("--cases", type=int, default=math.inf, help="at most so many cases of each target")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other inputs (default: 0)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one kept input of the one TARGET named")
    given = parser.parse_args()
    unknown = set(given.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"unknown target {', '.join(sorted(unknown))}; known: {', '.join(TARGETS)}")
    if given.replay:
        with tempfile.TemporaryDirectory() as place:
            _prepare(TARGETS[given.targets[0]], Path(place))
            signal.signal(signal.SIGALRM, _too_long)
            _one(given.targets[0], given.replay.read_bytes(), Path(place))
        return 0
    failed = Counter[str]()
    for target in given.targets or TARGETS:
        cases, failures = fuzz(target, given.seed, FAILURES, given.seconds, given.cases)
        print(f"{target:<12} {cases:>7,} cases  {len(failures)} failed", flush=True)
        for failure in failures[:SHOWN]:
            print(f"  case {failure.case}: {failure.what}\n    python -m tests.fuzz {target} --replay {failure.file}")
        failed[target] += len(failures)
    return 1 if failed.total() else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--batch"]:
        name, number, start, end, left, where = sys.argv[2:]
        try:
            _batch(name, int(number), int(start), int(end), float(left), Path(where))
        except BaseException:
            traceback.print_exc()
            os._exit(1)  # without waiting for threads that may hang
        os._exit(0)
    sys.exit(main())
