"""A build that is submitted to a cluster through its dashboard, as docs/cluster.md says."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from flows import build as builds
from tests.faults.ray_nodes import end, free_port, listens

RECIPE = """
name: small
sources: [{name: sums, adapter: generated_arithmetic, rows: 3000}]
contamination: {benchmarks: [{name: generated, rows: 60}]}
tokenizer: {vocab_size: 600}
sampling: {epochs: 1, context: 257}
"""
BIN = Path(sys.executable).parent


@pytest.mark.skipif(sys.platform != "linux", reason="Ray's dashboard")
def test_a_submitted_build_makes_the_bytes_of_a_local_one(tmp_path: Path) -> None:
    folder, root = tmp_path / "job", tmp_path / "shared"
    folder.mkdir()
    (folder / "small.yaml").write_text(RECIPE)
    port, dashboard, agent = free_port(), free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "a-token-of-a-test-with-forty-characters-",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as temporary:
        log = Path(temporary, "log")
        head = [
            BIN / "ray", "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1", f"--port={port}",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}",
            "--object-store-memory=80000000", "--disable-usage-stats", f"--temp-dir={temporary}/ray",
        ]  # fmt: skip
        with log.open("wb") as out:
            process = subprocess.Popen(head, env=environment, stdout=out, stderr=out)
        try:
            deadline = time.monotonic() + 120
            while not (listens(dashboard) and listens(agent)):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            job = ["job", "submit", "--address", f"http://127.0.0.1:{dashboard}", "--working-dir", folder, "--"]
            command = ["winnow", "build", "small.yaml", "--root", str(root)]
            done = subprocess.run(
                [BIN / "ray", *job, *command], env=environment, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, done.stdout + done.stderr
        finally:
            end(process)
    local = builds.build(str(folder / "small.yaml"), str(tmp_path / "local"), "local", 1)
    submitted = builds.build(str(folder / "small.yaml"), str(root), "local", 1)  # every step is there: nothing is made
    assert all(step.reused for step in submitted.steps) and "rows kept" in done.stdout
    names = [
        [Path(path).relative_to(answer.root) for path in answer.corpus + answer.tokens] for answer in (local, submitted)
    ]
    assert names[0] == names[1] and names[0]
    for name in names[0]:
        assert (root / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
