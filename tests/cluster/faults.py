"""What the cluster must survive."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from tests.cluster.bench import RECIPE, Bench, Row
from tests.cluster.cluster import Cluster, until
from tests.compare_roots import digests


def kill_training_worker(bench: Bench) -> Row:
    """SIGKILL to a worker of Ray Train, between two checkpoints; compared with a training that nobody disturbed."""
    cluster = bench.cluster
    root, inside = bench.root("build")
    settings = {"root": inside, "run": "latest", "config": "tiny", "steps": 12, "settings": ["checkpoint_steps=4"]}
    run = cluster.run("train", out=f"{inside}/killed", **settings)
    metrics = root / "killed" / "metrics.jsonl"
    until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) >= 5, 240, "five steps of the training")
    workers = [pid for name in ("ray-worker-1", "ray-worker-2") for pid in cluster.processes(name, "RayTrainWorker")]
    assert workers, "no training worker runs"
    os.kill(workers[0], signal.SIGKILL)
    state = cluster.wait(run)
    assert state["type"] == "COMPLETED", state
    cluster.completed("train", out=f"{inside}/undisturbed", **settings)
    expected, found = digests(root / "undisturbed"), digests(root / "killed")
    different = [path for path in expected if "step" in path and found.get(path) != expected[path]]
    assert expected and not different, f"files of checkpoints differ: {different[:5]}"
    return Row("kill -9 of a training worker", "completed from the last checkpoint, same weights as undisturbed")


def kill_ray_worker(bench: Bench) -> Row:
    """SIGKILL to a node of Ray during a build; it is started again, as the file says."""
    row = _build_with(bench, "kill-ray-worker", lambda: bench.cluster.kill("ray-worker-1"),
                      "kill -9 of a Ray node during a build")  # fmt: skip
    bench.cluster.wait_healthy("ray-worker-1")
    return row


def kill_prefect_server(bench: Bench) -> Row:
    """SIGKILL to the Prefect server during a build; it is started again, as the file says."""
    return _build_with(bench, "kill-prefect-server", lambda: bench.cluster.kill("prefect-server"),
                       "kill -9 of the Prefect server during a build")  # fmt: skip


def stop_postgres(bench: Bench) -> Row:
    """PostgreSQL is away for 20 s during a build."""

    def fault() -> None:
        bench.cluster.stop("postgres")
        time.sleep(20)
        bench.cluster.start("postgres")

    return _build_with(bench, "stop-postgres", fault, "PostgreSQL stopped for 20 s during a build")


def _build_with(bench: Bench, name: str, fault: Callable[[], None], text: str) -> Row:
    """A build by deployment, with a fault once its first step is made. It must complete, and Prefect must say so."""
    root, inside = bench.root(name)
    run = bench.cluster.run("curate", recipe=RECIPE, root=inside)
    until(lambda: bool(list(root.glob("steps/ingest-*/manifest.json"))), 180, "the first step of the build")
    fault()
    state = bench.cluster.wait(run)
    assert state["type"] == "COMPLETED", state
    bench.check_same(root)
    return Row(text, "completed in Prefect too, same bytes")


def kill_raylet(bench: Bench) -> Row:
    """SIGKILL to the raylet of a node: the node's container ends, and is started again, as the file says."""

    def fault() -> None:
        raylets = bench.cluster.processes("ray-worker-1", "/raylet/raylet ")
        assert raylets, "no raylet runs"
        for pid in raylets:
            os.kill(pid, signal.SIGKILL)

    row = _build_with(bench, "kill-raylet", fault, "kill -9 of a raylet during a build")
    bench.cluster.wait_healthy("ray-worker-1")
    return row


def kill_driver(bench: Bench) -> Row:
    """SIGKILL to the process of the flow run. Prefect sees it, Ray ends its tasks, and the next run carries on."""
    cluster = bench.cluster
    run, parameters = _long_build(bench, "kill-driver")
    drivers = cluster.processes("prefect-worker", "-m prefect.")
    assert drivers, "the flow run has no process"
    killed = time.monotonic()
    for pid in drivers:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not cluster.running_tasks(), 60, "the end of the killed driver's Ray tasks")
    ended = time.monotonic() - killed
    state = cluster.wait(run, 60)
    assert state["type"] == "CRASHED", state
    shown = time.monotonic() - killed
    _carry_on(bench, "kill-driver", parameters)
    end = f"no Ray task after {ended:.1f} s, Crashed after {shown:.1f} s; the next run carried on, same bytes"
    return Row("kill -9 of the driver during a build", end)


def kill_prefect_worker(bench: Bench) -> Row:
    """SIGKILL to the worker and the run in it. The automation of the file marks the run; the next one carries on."""
    cluster = bench.cluster
    _set_heartbeat_limit(cluster, 60)
    run, parameters = _long_build(bench, "kill-prefect-worker")
    killed = time.monotonic()
    cluster.kill("prefect-worker")
    cluster.wait_healthy("prefect-worker")
    until(lambda: not cluster.running_tasks(), 60, "the end of the killed driver's Ray tasks")
    state = cluster.wait(run, 180)
    assert state["type"] == "CRASHED", state
    shown = time.monotonic() - killed
    _carry_on(bench, "kill-prefect-worker", parameters)
    end = f"Crashed after {shown:.0f} s by the automation, told to wait for 60 s; the next run carried on, same bytes"
    return Row("kill -9 of the Prefect worker and its run", end)


def cancel(bench: Bench) -> Row:
    """A run cancelled as the button of the UI does. Ray's work must end within ten seconds."""
    cluster = bench.cluster
    run, parameters = _long_build(bench, "cancel")
    begun = time.monotonic()
    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": False}
    cluster.api(f"/flow_runs/{run}/set_state", cancelling)
    until(lambda: not cluster.running_tasks(), 10, "the end of the cancelled run's Ray tasks")
    ended = time.monotonic() - begun
    state = cluster.wait(run, 60)
    assert state["type"] == "CANCELLED", state
    shown = time.monotonic() - begun
    _carry_on(bench, "cancel", parameters)
    end = f"no Ray task after {ended:.1f} s, Cancelled after {shown:.1f} s; the next run carried on, same bytes"
    return Row("cancelled in Prefect during a build", end)


def _set_heartbeat_limit(cluster: Cluster, seconds: int) -> None:
    """Let the automation of `flows/prefect/zombies.yaml` wait so long for a sign of life, in place of five minutes."""
    (automation,) = cluster.api("/automations/filter", {})
    automation["trigger"]["within"] = seconds
    wanted = {key: automation[key] for key in ("name", "description", "enabled", "trigger", "actions")}
    cluster.api(f"/automations/{automation['id']}", wanted, "PUT")


LONGER = ("sources.generated_web.rows=40000",)
"""Settings of a build that takes long enough to be stopped in the middle."""


def _long_build(bench: Bench, name: str) -> tuple[str, dict[str, object]]:
    """Start a build; returns its run and parameters once tasks of its second step run."""
    root, inside = bench.root(name)
    parameters: dict[str, object] = {"recipe": RECIPE, "root": inside, "settings": list(LONGER)}
    run = bench.cluster.run("curate", **parameters)
    until(lambda: bool(list(root.glob("steps/ingest-*/manifest.json"))), 180, "the first step of the build")
    until(lambda: bench.cluster.running_tasks() > 0, 30, "a Ray task of the build")
    assert not list(root.glob("runs/*/run.json")), "the build ended before the fault"
    return run, parameters


def _carry_on(bench: Bench, name: str, parameters: dict[str, object]) -> None:
    """The same build again: it reuses what was finished, and its bytes are those of a build that nobody disturbed."""
    before = set(bench.root(name)[0].glob("steps/*/manifest.json"))
    times = {path: path.stat().st_mtime_ns for path in before}
    bench.cluster.completed("curate", **parameters)
    assert all(path.stat().st_mtime_ns == times[path] for path in before), "a finished step was made again"
    bench.check_same(bench.root(name)[0], bench.plain(RECIPE, "--set", LONGER[0]))
