"""A root that is full or away for a while: the run goes on, or fails clearly and the same command mends it.

The root is a file system of its own, mounted in a mount namespace of the process that runs: that takes root.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.ledger import storage
from tests.trainings import train_on

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="unshare -m needs root, which CI has"
)

STEP = """
import sys, time
from pathlib import Path
from flows.tracker import Tracker
from pipelines.ledger import lease, storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Part
from pipelines.ledger.run import Run
from tests.steps import plain_step
import numpy as np, pyarrow as pa

lease.BEAT_SECONDS = 0.1
root, folder = sys.argv[1], Path(sys.argv[2])

def work(item, target):
    while item == 3 and not (folder / "go").exists():
        time.sleep(0.02)
    table = pa.table({"row": np.random.default_rng(item).integers(0, 1 << 62, 4000)})  # 32 kB that do not compress
    return Part(rows_in=4000, files={"records": (storage.write_parquet(target.path(), table),)})

def watch(progress):
    print(progress.phase, progress.done, progress.holder, flush=True)

if __name__ == "__main__":
    Run(root, LocalEngine(), Tracker().perform, watch).do(
        plain_step("rows"), lambda context: context.map(work, range(12))
    )
"""


class Process:
    """A process that makes a step of twelve shards of 32 kB on a root mounted in its own namespace.

    It begins the fourth, but does not end it before the file `go` is there.
    """

    def __init__(self, folder: Path, mount: str) -> None:
        self.root, script = folder / "root", folder / "step.py"
        self.root.mkdir(exist_ok=True)
        script.write_text(STEP, encoding="utf-8")
        self.command = f"{sys.executable} {script} {self.root} {folder}"
        shell = f"{mount} && {{ {self.command} 2>{folder}/errors; echo ended $?; read line; }}"
        self.process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", shell],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def until(self, beginning: str) -> str:
        """Read its output up to a line with this beginning, and return that line."""
        assert self.process.stdout is not None
        return next(line for line in self.process.stdout if line.startswith(beginning))

    def inside(self, command: str) -> str:
        """Run a shell command in its mount namespace; returns the output."""
        enter = ["nsenter", "-m", "-t", str(self.process.pid), "sh", "-c", command]
        return subprocess.run(enter, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def started(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Process]:
    process = Process(tmp_path, request.param.format(folder=tmp_path))
    yield process
    process.process.communicate("\n", timeout=60)


SHARDS = [f"shards/part-{number:05d}.parquet" for number in range(12)]


@pytest.mark.parametrize("started", ["mount -t tmpfs -o size=250k none {folder}/root"], indirect=True)
@pytest.mark.fault("the disk of the root is full", "an error names the cause; the same command carries on")
def test_a_full_disk_ends_the_build_with_its_cause_and_the_same_command_carries_on(
    started: Process, tmp_path: Path
) -> None:
    (tmp_path / "go").touch()
    assert started.until("ended") == "ended 1\n"
    lines = (tmp_path / "errors").read_text().splitlines()
    message = next(line for line in reversed(lines) if line.startswith("OSError: "))
    assert "No space left on device; make room, and the same command carries on: " in message, message
    assert str(started.root) in message
    left = started.inside(f"find {started.root} -type f").splitlines()
    assert left and not [path for path in left if path.endswith((".tmp", "manifest.json"))]
    started.inside(f"mount -o remount,size=20m {started.root} && {started.command}")
    listed = started.inside(f"cd {started.root}/steps/rows-*; find . -type f").split()
    assert sorted(listed) == sorted(f"./{name}" for name in ["manifest.json", *SHARDS])


@pytest.mark.parametrize("started", ["mkdir {folder}/disk && mount --bind {folder}/disk {folder}/root"], indirect=True)
@pytest.mark.fault("a network root is away for a while", "waited for, same bytes")
def test_a_root_that_is_away_for_a_while_is_waited_for(started: Process, tmp_path: Path) -> None:
    started.until("shards 3")
    started.inside(f"umount -l {started.root}")
    (tmp_path / "go").touch()
    assert started.until("waiting") == f"waiting 0 {started.root}, which is not there any more\n"
    started.inside(f"mount --bind {tmp_path}/disk {started.root}")
    assert started.until("ended") == "ended 0\n", (tmp_path / "errors").read_text()
    (folder,) = storage.folders(f"{tmp_path}/disk/steps")
    assert storage.files_below(f"{tmp_path}/disk/steps/{folder}") == ["manifest.json", *SHARDS]


SMALL = """
name: small
sources: [{name: sums, adapter: generated_arithmetic, rows: 100}]
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 129, validation: 0.2}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("read-only")
    train_on(root, SMALL)
    return root


@pytest.mark.parametrize(
    ("words", "answered"),
    [
        (["runs"], True),
        (["why", "sums/generated/0"], True),
        (["clusters"], True),
        (["verify"], True),
        (["similar", "--text", "What is the sum of 3 and 4?"], False),
        (["report"], False),
        (["build", "demo"], False),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
@pytest.mark.fault("a root that may only be read", "what only reads answers; the others name the file and the mend")
def test_a_root_that_may_only_be_read_is_read_and_what_writes_says_so(
    built: Path, words: list[str], answered: bool
) -> None:
    command = " ".join(map(shlex.quote, [sys.executable, "-m", "flows.cli.main", *words, "--root", str(built)]))
    shell = f"mount --bind {built} {built} && mount -o remount,ro,bind {built} && {command}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", shell], capture_output=True, text=True)
    if answered:
        assert done.returncode == 0, done.stderr
    else:
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.returncode in (1, 2) and line.startswith(f"error: {built}") and "Errno" not in line
        assert "let this user write there" in line or "name another place with --root" in line, line
