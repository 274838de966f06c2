"""Two runs on one root at once, in processes of their own: each ends with the bytes of a run that was alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.curate import curate
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.recipe import load
from tests.faults.test_kill import command, digests

PAUSED = """
import sys, time
from pathlib import Path
from pipelines.ledger import lease, storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Part
from pipelines.ledger.run import Run
from tests.steps import plain_step
import pyarrow as pa

lease.BEAT_SECONDS, lease.DEAD_SECONDS, lease.POLL_SECONDS, lease.REMOTE_POLL_SECONDS = 0.1, 1.5, 0.05, 0.05
root, log = sys.argv[1], Path(sys.argv[2])

def work(item, target):
    with log.open("a") as file:
        file.write(f"{item}\\n")
    while item == 3 and not (log.parent / "go").exists():
        time.sleep(0.02)
    return Part(rows_in=1, files={"records": (storage.write_parquet(target.path(), pa.table({"row": [item]})),)})

def watch(progress):
    print(progress.phase, progress.done, progress.holder, flush=True)

if __name__ == "__main__":
    run = Run(root, LocalEngine(), watch=watch, name="paused")
    run.do(plain_step("paused"), lambda context: context.map(work, range(12)))
"""


class PausedRun:
    """A process that makes a step of twelve items, and begins the fourth but does not end it before the file `go` is
    there. log: has a line for each item it began."""

    def __init__(self, folder: Path, root: str, name: str) -> None:
        script = folder / "paused.py"
        script.write_text(PAUSED, encoding="utf-8")
        self.log = folder / f"{name}.log"
        self.log.touch()
        self.process = subprocess.Popen(
            [sys.executable, script, root, self.log], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def until(self, condition: Callable[[str], bool]) -> str:
        """Read its output up to a line that meets the condition, and return that line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if condition(line):
                return line
        raise AssertionError(self.process.communicate()[1])

    def end(self) -> list[str]:
        """Wait for it to end well; returns the rest of its output."""
        output, errors = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, errors
        return output.splitlines()

    @property
    def items(self) -> list[int]:
        """The items that it began."""
        return [int(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    remote = getattr(request, "param", "local") == "s3"
    return f"{request.getfixturevalue('s3')}/root" if remote else str(tmp_path / "root")


def check_step(root: str) -> None:
    """The step is finished, has its twelve files, and nothing else lies below the root."""
    (folder,) = storage.folders(f"{root}/steps")
    names = [f"shards/part-{number:05d}.parquet" for number in range(12)]
    assert storage.files_below(f"{root}/steps/{folder}") == ["manifest.json", *names]


def begin_two(folder: Path, root: str) -> tuple[PausedRun, PausedRun]:
    """Two runs of the same step, of which the first has made three items and the second waits for it."""
    first = PausedRun(folder, root, "first")
    first.until(lambda line: line.startswith("shards 3"))
    second = PausedRun(folder, root, "second")
    waiting = second.until(lambda line: line.startswith("waiting"))
    assert f"recipe paused (process {first.process.pid} on " in waiting and ", since 20" in waiting
    return first, second


def test_the_second_run_waits_for_the_first_and_reuses_its_step(tmp_path: Path, root: str) -> None:
    first, second = begin_two(tmp_path, root)
    (tmp_path / "go").touch()
    first.end()
    assert second.end()[-1].startswith("reused 12")
    assert first.items == list(range(12)) and second.items == []
    check_step(root)


@pytest.mark.parametrize("root", ["local", "s3"], indirect=True)
@pytest.mark.fault("one of two builds on one root is killed", "the other takes over its step")
def test_the_second_run_carries_on_from_the_receipts_of_a_killed_first(tmp_path: Path, root: str) -> None:
    first, second = begin_two(tmp_path, root)
    first.process.kill()
    first.process.communicate()
    (tmp_path / "go").touch()
    second.end()
    assert first.items == [0, 1, 2, 3] and second.items == list(range(3, 12))
    check_step(root)


def test_a_run_that_was_stopped_and_lost_its_step_reuses_what_the_other_makes(tmp_path: Path, root: str) -> None:
    first, second = begin_two(tmp_path, root)
    first.process.send_signal(signal.SIGSTOP)
    second.until(lambda line: line.startswith("shards"))
    first.process.send_signal(signal.SIGCONT)
    (tmp_path / "go").touch()
    second.end()
    assert first.end()[-1].startswith("reused 12")
    assert second.items == list(range(3, 12))
    check_step(root)


@pytest.mark.fault("two builds at once on one root", "one waits; the bytes of one after the other")
def test_two_builds_at_once_that_share_steps_leave_the_bytes_of_one_after_the_other(tmp_path: Path) -> None:
    """One in this process and one on Ray; the second recipe is another from the packs on."""
    commands = []
    for name, engine in (("first", "local"), ("second", "ray")):
        (tmp_path / name).mkdir()
        commands.append(command(tmp_path / name, "root", engine, 1))
        recipe = Path(commands[-1][2])
        text = recipe.read_text().replace("000}\n", "00}\n", 3)  # a tenth of the rows
        recipe.write_text(text if name == "first" else text.replace("epochs: 2", "epochs: 3"))
    roots = [str(tmp_path / name) for name in ("apart", "together")]
    for one in commands:
        curate(Run(roots[0], LocalEngine()), load(str(one[2])))
    both = [subprocess.Popen([*one[:3], roots[1], *one[4:]], stderr=subprocess.PIPE) for one in commands]
    errors = [process.communicate(timeout=300)[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert digests(Path(roots[1])) == digests(Path(roots[0]))
    steps = [name.rpartition("-")[0] for name in storage.folders(f"{roots[1]}/steps")]
    assert (steps.count("ingest"), steps.count("pack")) == (1, 2)
