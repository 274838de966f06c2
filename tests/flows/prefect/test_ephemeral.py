"""The Prefect server of a command answers, and ends with the command, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

SCRIPT = """
import os, sys, time
from flows.prefect.ephemeral import start_server
start_server()()
print(os.environ["PREFECT_API_URL"], flush=True)
time.sleep(float(sys.argv[1]))
"""


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a child when its parent ends")
@pytest.mark.parametrize("killed", [True, False])
def test_the_server_runs_as_long_as_its_command(tmp_path: Path, killed: bool) -> None:
    environment = os.environ | {"PREFECT_HOME": str(tmp_path)}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-c", SCRIPT, "600" if killed else "0.5"]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        assert answers(url)
        if killed:
            process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    for _ in range(100):
        if not answers(url):
            break
        time.sleep(0.2)
    assert not answers(url)


def test_a_configured_server_is_used(tmp_path: Path) -> None:
    script = "from flows.prefect.ephemeral import configured; print(configured())"
    api = {"PREFECT_API_URL": "http://127.0.0.1:1/api"}
    for variables, file, expected in (
        (api, "", "True"),
        ({}, "POSTGRES_PASSWORD=a\n", "False"),
        ({}, "PREFECT_API_URL=http://127.0.0.1:1/api\n", "True"),
    ):
        (tmp_path / ".env").write_text(file)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment |= {"PREFECT_HOME": str(tmp_path), **variables}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.stdout.strip() == expected, done.stderr
