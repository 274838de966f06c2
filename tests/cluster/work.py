"""What the cluster must do."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cluster.bench import RECIPE, Bench, Row, winnow
from tests.cluster.cluster import Cluster, until


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


def two_builds(bench: Bench) -> Row:
    """The same recipe, built on two nodes at once, into one root."""
    root, inside = bench.root("two-builds")
    command = ("winnow", "build", RECIPE, "--engine", "local", "--workers", "1", "--root", inside)
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda name: bench.cluster.execute(name, *command), ("ray-worker-1", "ray-worker-2")))
    assert any("waiting" in done.stderr for done in both), "neither build waited for the other"
    bench.check_same(root)
    return Row("two builds at once on one root, on two nodes", "one waited for the steps of the other; same bytes")
