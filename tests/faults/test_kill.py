"""kill -9 at any moment, then the same command: it carries on and ends with the same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines.curate import curate
from pipelines.ledger.run import Run
from pipelines.recipe import load
from tests.faults.killed_workers import KilledOnRay

BIN = Path(sys.executable).parent
RECIPE = """
name: killed
sources:
  - {name: sums, adapter: generated_arithmetic, rows: 12000}
  - {name: web, adapter: generated_web, rows: 6000}
  - {name: problems, adapter: generated_word_problems, rows: 12000}
stages: [{kind: strip_thinking}, {kind: length}, {kind: gopher_repetition}]
contamination: {benchmarks: [{name: generated, rows: 300}]}
tokenizer: {vocab_size: 1000}
sampling: {epochs: 2, context: 257}
"""


def command(folder: Path, root: str, engine: str, workers: int) -> list[str | Path]:
    recipe = folder / "killed.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    script = (
        "import sys; from pipelines.curate import curate; from pipelines.recipe import load\n"
        "from pipelines.ledger.run import Run\n"
        "from pipelines.ledger.engine import LocalEngine; from flows.ray.engine import RayEngine\n"
        "if __name__ == '__main__':\n"
        "    recipe, root, engine, workers = sys.argv[1:]\n"
        "    with (RayEngine if engine == 'ray' else LocalEngine)(int(workers)) as running:\n"
        "        curate(Run(root, running), load(recipe))\n"
    )
    (folder / "curate_once.py").write_text(script, encoding="utf-8")
    return [sys.executable, folder / "curate_once.py", recipe, folder / root, engine, str(workers)]


def digests(root: Path) -> dict[str, str]:
    """Every file below a root and the digest of its bytes."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def files(root: Path) -> int:
    """How many files lie below a root in which a run may be at work: what vanishes on the way is passed over."""
    return sum(len(names) for _, _, names in os.walk(root))


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for the driver and for every process that it started."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root that an undisturbed run in one process leaves behind."""
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run(command(folder, "root", "local", 1), check=True, timeout=300)
    return folder / "root"


@pytest.mark.parametrize(
    ("engine", "workers"),
    [
        ("local", 4),
        ("ray", 2),
        pytest.param("local", 2, marks=pytest.mark.slow),
        pytest.param("ray", 1, marks=pytest.mark.slow),
    ],
)
def test_any_engine_and_number_of_workers_leaves_the_same_bytes(
    tmp_path: Path, clean: Path, engine: str, workers: int
) -> None:
    subprocess.run(command(tmp_path, "root", engine, workers), check=True, timeout=300)
    assert digests(tmp_path / "root") == digests(clean)


@pytest.mark.fault("kill -9 of a build at random moments, again and again", "same bytes")
def test_a_run_killed_again_and_again_ends_with_the_same_bytes(tmp_path: Path, clean: Path) -> None:
    random.seed(8)
    kills = 0
    for _ in range(6):
        before = files(tmp_path / "root")
        process = subprocess.Popen(command(tmp_path, "root", "local", 2))
        deadline = time.monotonic() + 300
        # Kill once the run has added a few files, which is somewhere in the middle of a step.
        more = random.randint(1, 12)
        while process.poll() is None and time.monotonic() < deadline:
            if files(tmp_path / "root") >= before + more:
                time.sleep(random.random() * 0.3)
                break
            time.sleep(0.01)
        if process.poll() is None:
            kill_tree(process)
            kills += 1
        else:
            assert process.returncode == 0
            break
    subprocess.run(command(tmp_path, "root", "local", 2), check=True, timeout=300)
    assert kills >= 3, "the run ended before it could be killed often enough to mean something"
    assert digests(tmp_path / "root") == digests(clean)


@pytest.mark.fault("kill -9 of a worker in every phase of every step", "completed, same bytes")
def test_a_worker_killed_in_every_phase_of_every_step_leaves_the_same_bytes(tmp_path: Path, clean: Path) -> None:
    recipe = tmp_path / "killed.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    phases: set[str] = set()
    with KilledOnRay(2, tmp_path) as engine:
        curate(
            Run(str(tmp_path / "root"), engine, watch=lambda at: phases.add(f"{at.step}-{at.phase}")), load(str(recipe))
        )
        assert engine.killed() == sorted(phases)
    assert digests(tmp_path / "root") == digests(clean)


def test_every_row_of_every_step_is_kept_or_dropped_for_a_counted_reason(clean: Path) -> None:
    manifests = [json.loads(path.read_text(encoding="utf-8")) for path in clean.rglob("manifest.json")]
    parts = [(one, part) for one in manifests for part in one["parts"] if one["kept"] is not None]
    assert {one["step"] for one, _ in parts} == {
        "ingest",
        "refine",
        "exact-duplicates",
        "near-duplicates",
        "contamination",
        "tokens",
    }
    for one, part in parts:
        rows = {name: sum(file.get("rows", 0) for file in files) for name, files in part.get("files", {}).items()}
        kept, dropped = rows.get(one["kept"], 0), rows.get("dropped", 0)
        assert part["rows_in"] == kept + dropped, one["step"]
        assert sum(part.get("counts", {}).values()) == dropped, one["step"]


@pytest.mark.fault("RLIMIT_AS is below what the workers need", "an error that names the limit, no hang")
def test_a_limit_of_memory_that_ends_the_pools_thread_is_an_error(tmp_path: Path) -> None:
    # The pool's own thread ends as it would if a thread could not start: no result would ever come.
    program = """
import functools, multiprocessing.queues, sys
from pipelines.errors import CheckFailed
from pipelines.ledger.engine import LocalEngine

def no_thread(self):
    raise RuntimeError("can't start new thread")

multiprocessing.queues.Queue._start_thread = no_thread
with LocalEngine(2) as engine:
    try:
        list(engine.map(abs, range(4)))
    except CheckFailed as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert "limited too low" in done.stdout, done.stderr
