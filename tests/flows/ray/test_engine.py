"""Ray as an engine: a local Ray listens on loopback only, and tasks get the resources that their step reserves."""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import ray

from flows.ray.engine import RayEngine, ray_session
from pipelines.ledger import storage
from pipelines.ledger.engine import TaskDied
from pipelines.ledger.manifest import Part, part
from pipelines.ledger.run import Run, StepContext, StepResult, Target
from pipelines.ledger.step import Resources, StepType
from pipelines.ledger.storage import TableRef

LISTENERS = """
import json, psutil
from flows.ray.engine import ray_session
import ray
with ray_session(1):
    @ray.remote
    def one():
        return 1
    assert ray.get(one.remote()) == 1
    driver = psutil.Process()
    sockets = [
        socket
        for process in (driver, *driver.children(recursive=True))
        for socket in process.net_connections("inet")
        if socket.status == psutil.CONN_LISTEN
    ]
    print(json.dumps(sorted({socket.laddr.ip for socket in sockets})))
"""


def test_a_local_ray_listens_on_loopback_only() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", LISTENERS], capture_output=True, text=True, timeout=300, check=True, env=environment
    )
    addresses = json.loads(done.stdout.splitlines()[-1])
    assert addresses, "Ray listens somewhere"
    assert set(addresses) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}, addresses


MEETING_SECONDS = 120.0
"""A busy machine may take long to start the second worker process."""

Span = tuple[float, float, float]
"""Start and end of a task (seconds), and the CPUs that Ray assigned to it."""


def timed(item: int) -> Span:
    """Take 0.4 s. `time.monotonic` has one origin for all processes of the machine."""
    started = time.monotonic()
    time.sleep(0.4)
    return started, time.monotonic(), ray.get_runtime_context().get_assigned_resources()["CPU"]


def met(folder: Path, item: int) -> bool:
    """Whether the other of two tasks runs at the same time: each waits for the other's file."""
    (folder / str(item)).touch()
    deadline = time.monotonic() + MEETING_SECONDS
    while time.monotonic() < deadline:
        if (folder / str(1 - item)).exists():
            return True
        time.sleep(0.05)
    return False


def timed_part(item: int, target: Target) -> Part:
    """The same as a work item of a step."""
    return part(spans=storage.write_json(target.path(suffix=".json"), timed(item)))


def overlaps(spans: Sequence[Sequence[float]]) -> bool:
    """Whether any two tasks ran at the same time."""
    ordered = sorted((span[0], span[1]) for span in spans)
    return any(later[0] < earlier[1] for earlier, later in itertools.pairwise(ordered))


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    """An engine on a Ray of two CPUs."""
    with ray_session(2):
        yield RayEngine(2)


def test_a_task_that_reserves_two_cpus_runs_alone_on_two(engine: RayEngine, tmp_path: Path) -> None:
    alone = list(engine.map(timed, range(3), Resources(cpus=2)))
    assert not overlaps(alone) and {cpus for _, _, cpus in alone} == {2}
    assert list(engine.map(functools.partial(met, tmp_path), range(2), Resources(cpus=1))) == [True, True]


def test_the_resources_of_a_step_type_reach_ray_and_a_phase_may_have_its_own(engine: RayEngine, tmp_path: Path) -> None:
    kind = StepType(name="wide", products={"spans": "times of the tasks"}, resources=Resources(cpus=2))
    scratch: list[Part] = []

    def work(context: StepContext) -> list[Part]:
        scratch.extend(context.map(timed_part, range(2), phase="narrow", resources=Resources(cpus=1)))
        files = [storage.read_json(part.file("spans").path) for part in scratch]
        assert {cpus for _, _, cpus in files} == {1}
        return context.map(timed_part, range(2))

    manifest = Run(str(tmp_path), engine).do(kind.step({}), work)
    spans = [storage.read_json(file.path) for file in manifest.files("spans")]
    assert not overlaps(spans) and {cpus for _, _, cpus in spans} == {2}


def poisoned(file: TableRef, target: Target) -> Part:
    """A work item that kills its process where its file says so."""
    if "poison" in file.path and Path(file.path).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return part(spans=storage.write_json(target.path(suffix=".json"), target.index))


def test_a_task_that_dies_in_every_try_is_named_and_the_same_step_carries_on(engine: RayEngine, tmp_path: Path) -> None:
    kind = StepType(name="fragile", products={"spans": "a number"})
    files = [TableRef(path=f"{tmp_path}/{name}", bytes=0, digest="", rows=0) for name in ("a", "b", "poison")]
    (tmp_path / "poison").touch()

    def make() -> StepResult:
        run = Run(str(tmp_path / "root"), engine)
        run.do(kind.step({}), lambda context: context.map(poisoned, files))
        return run.results[0]

    with pytest.raises(TaskDied, match=rf"step fragile, phase shards, item 2 \({tmp_path}/poison\): .* in each of 4"):
        make()
    assert len(list((tmp_path / "root").rglob("receipts/shards/*.json"))) == 2
    (tmp_path / "poison").unlink()
    assert len(make().manifest.parts) == 3


def test_results_are_in_order_and_one_slow_task_holds_back_no_other(engine: RayEngine, tmp_path: Path) -> None:
    assert list(engine.map(functools.partial(after_all_others, tmp_path), range(12))) == list(range(12))


def after_all_others(folder: Path, item: int) -> int:
    """The first of 12 tasks ends when all others have run."""
    (folder / str(item)).touch()
    deadline = time.monotonic() + MEETING_SECONDS
    while item == 0 and len(list(folder.iterdir())) < 12 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert time.monotonic() < deadline
    return item


def test_workers_default_to_the_cpus_of_the_cluster(engine: RayEngine) -> None:
    assert RayEngine().workers == 2 == engine.workers


def test_an_error_of_a_task_names_the_node(engine: RayEngine) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        list(engine.map(functools.partial(divmod, 1), [0]))
    assert [note.startswith("on node ") for note in raised.value.__notes__] == [True]
