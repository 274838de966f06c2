"""What the cluster must do, and survive. A scenario takes the running cluster and returns a row of the table.

Each works in a root of its own (`Bench.root`) and leaves every service running. To add one, write a function in the
module of its subject and name it in SCENARIOS.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster, until
from tests.cluster.compose import ROOT
from tests.compare_roots import digests

RECIPE = "tests/cluster/small.yaml"
"""Path of the small recipe below the checkout, which is the folder of commands in containers."""


@dataclass(frozen=True)
class Row:
    """A line of the table. end: the state that was reached and checked."""

    fault: str
    end: str


@dataclass
class Bench:
    """What scenarios use beside the cluster: roots, and corpora of plain local builds to compare with."""

    cluster: Cluster
    _plain: dict[str, Path] = field(default_factory=dict)

    def root(self, name: str) -> tuple[Path, str]:
        """The root of a scenario on the shared volume: as this process and as the nodes see it."""
        return self.cluster.data / name, f"/data/{name}"

    def plain(self, recipe: str = RECIPE, *options: str) -> Path:
        """The root of a build by `--engine local` outside of the cluster, made once. options: `--set` and others."""
        key = " ".join((recipe, *options))
        if key not in self._plain:
            root = self.cluster.work / "plain" / str(len(self._plain))
            winnow("build", recipe, "--engine", "local", "--root", str(root), *options)
            self._plain[key] = root
        return self._plain[key]

    def check_same(self, root: Path, plain: Path | None = None) -> None:
        """Raises: AssertionError: unless a root has every file of a plain build, byte for byte, and passes `verify`."""
        expected, found = digests(plain or self.plain()), digests(root)
        different = [path for path, digest in expected.items() if found.get(path) != digest]
        assert not different, f"{root.name}: {len(different)} of {len(expected)} files differ: {different[:5]}"
        winnow("verify", "latest", "--root", str(root))


def winnow(*arguments: str, code: int = 0) -> str:
    """Run `winnow` beside the cluster; returns stdout. Raises: AssertionError: for another exit code."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PREFECT_"))}
    done = subprocess.run(
        [str(Path(sys.executable).parent / "winnow"), *arguments],
        cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, f"winnow {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr[-3000:]}"
    return done.stdout


def build(bench: Bench) -> Row:
    """A build by deployment, started from the command line, on two nodes that share the volume alone."""
    cluster = bench.cluster
    root, inside = bench.root("build")
    name = f"curate/{cluster.deployment('curate')['name']}"
    printed = cluster.execute(
        "prefect-worker", "prefect", "deployment", "run", name, "--watch",
        "--param", f"recipe={RECIPE}", "--param", f"root={inside}",
    )  # fmt: skip
    assert "Completed" in printed.stdout + printed.stderr, printed.stdout + printed.stderr
    bench.check_same(root)
    why = json.loads(winnow("why", "generated_arithmetic/generated/3", "--root", str(root), "--json"))
    assert why, "winnow why has no answer"
    until(lambda: cluster.scheduled("curate") > 0, 60, "a scheduled run of the nightly build")
    private = cluster.execute("ray-worker-1", "sh", "-c", "touch /tmp/private && ls /data")
    assert "build" in private.stdout
    assert cluster.execute("ray-worker-2", "ls", "/tmp/private", check=False).returncode, "nodes share /tmp"
    nodes = json.loads(cluster.execute("prefect-worker", "python", "-c", NODES).stdout)
    assert sorted(nodes) == ["ray-worker-1", "ray-worker-2"], nodes
    return Row("none: build by deployment, two nodes", "same bytes as a local build; verify and why answer")


NODES = """
import json, socket, time, ray
ray.init(address="auto", log_to_driver=False)
@ray.remote(num_cpus=1)
def host():
    time.sleep(2)
    return socket.gethostname()
print(json.dumps(sorted(set(ray.get([host.remote() for _ in range(4)])))))
"""
"""Which nodes run tasks?"""


def train(bench: Bench) -> Row:
    """Some steps of training and an evaluation, by deployment, on the corpus of `build`."""
    root, inside = bench.root("build")
    bench.cluster.completed("train", root=inside, run="latest", config="tiny", steps=4)
    bench.cluster.completed("evaluate", root=inside, checkpoint="latest", limit=8, device="cpu")
    assert list(root.glob("training/*/metrics.jsonl")), "no metrics of the training"
    return Row("none: train and evaluate by deployment", "completed; checkpoint and scores on the shared root")


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


def build_on_s3(bench: Bench) -> Row:
    """The same build on the S3 store."""
    cluster = bench.cluster
    cluster.completed("curate", recipe=RECIPE, root="s3://winnow/build")
    bench.check_same(_downloaded(cluster, "build"))
    cluster.execute("prefect-worker", "winnow", "verify", "latest", "--root", "s3://winnow/build")
    return Row("none: build by deployment on S3", "same bytes as a local build; verify on S3")


def _downloaded(cluster: Cluster, name: str) -> Path:
    """A copy of a root on the store."""
    program = f"import fsspec; fsspec.filesystem('s3').get('winnow/{name}/', '/data/s3-{name}/', recursive=True)"
    cluster.execute("prefect-worker", "python", "-c", program)
    return cluster.data / f"s3-{name}"


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


def two_builds(bench: Bench) -> Row:
    """The same recipe, built on two nodes at once, into one root."""
    root, inside = bench.root("two-builds")
    command = ("winnow", "build", RECIPE, "--engine", "local", "--workers", "1", "--root", inside)
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda name: bench.cluster.execute(name, *command), ("ray-worker-1", "ray-worker-2")))
    assert any("waiting" in done.stderr for done in both), "neither build waited for the other"
    bench.check_same(root)
    return Row("two builds at once on one root, on two nodes", "one waited for the steps of the other; same bytes")


Scenario = Callable[[Bench], Row]

CORE: tuple[Scenario, ...] = (build, kill_ray_worker)
"""What CI runs."""

SCENARIOS: tuple[Scenario, ...] = (
    build, kill_ray_worker, kill_prefect_server, stop_postgres, two_builds, build_on_s3, train,
    kill_training_worker,
)  # fmt: skip


def named() -> dict[str, Scenario]:
    """The scenarios by name."""
    return {scenario.__name__.replace("_", "-"): scenario for scenario in SCENARIOS}


def row(name: str, result: Row, seconds: float, error: str = "") -> dict[str, Any]:
    """A line of the table, for `--json` too."""
    return {"scenario": name, "fault": result.fault, "end": result.end, "seconds": round(seconds, 1), "error": error}
