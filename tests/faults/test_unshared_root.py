"""A root that a node does not share ends the build before any step, and poisons nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.ledger import storage
from tests.faults.ray_nodes import two_nodes

BUILD = """
import sys, time
import pyarrow as pa
import ray
from flows.ray.engine import RayEngine, start_ray
from pipelines.errors import WinnowError
from pipelines.ledger.run import Run
from tests.steps import keep, plain_step

if __name__ == "__main__":
    start_ray(1)
    while sum(node["Alive"] for node in ray.nodes()) < 2:
        time.sleep(0.1)
    tables = [pa.table({"row": [row]}) for row in range(6)]
    try:
        Run(sys.argv[1], RayEngine(2, sys.argv[1])).do(plain_step(), lambda context: context.map(keep, tables))
    except WinnowError as error:
        sys.exit(f"error: {error}")
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="unshare -m needs root, which CI has")
@pytest.mark.fault("a root that one node does not share", "an error names the node, at once")
def test_a_root_that_one_node_does_not_share_fails_at_once_and_the_same_command_builds_when_it_does(
    tmp_path: Path,
) -> None:
    """The second node has a file system of its own mounted over the root."""
    root, script = tmp_path / "root", tmp_path / "build.py"
    root.mkdir()
    script.write_text(BUILD, encoding="utf-8")
    command = [sys.executable, str(script), str(root)]
    with two_nodes(f"mount -t tmpfs none {root}") as cluster:
        failed = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, timeout=300)
        assert failed.returncode == 1, failed.stderr
        message = failed.stderr.splitlines()[-1]
        assert re.match(rf"error: {root}: node \S+ \(id \w{{8}}, host \S+\) does not see files there", message), message
        assert "put it on a shared file system or an object store" in message
        assert not list(root.rglob("*.parquet")) and not list(root.rglob("*.json"))
        cluster.on_second("umount", str(root))
        subprocess.run(command, env=cluster.environment, check=True, timeout=300)
    (folder,) = storage.folders(f"{root}/steps")
    shards = [f"steps/{folder}/shards/part-{number:05d}.parquet" for number in range(6)]
    assert storage.files_below(str(root)) == [f"steps/{folder}/manifest.json", *shards]
