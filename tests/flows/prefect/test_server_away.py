"""A Prefect server that fails or is killed ends no build, and is brought up to date; its calls do not grow with shards.

The flows run in processes of their own, against the tests' server behind a proxy that can answer like one without its
database.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.flows.prefect.proxy import Proxy

BIN = Path(sys.executable).parent

RECIPE = """
name: away
sources: [{name: sums, adapter: generated_arithmetic, rows: 300}]
near_duplicates: false
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 129}
"""

# A run of one step whose shards are as many as the argument says.
SHARDS = """
import sys
from prefect import flow
from flows.prefect.tracker import PrefectTracker, reported
from pipelines.ledger.run import Progress

@flow(name="shards")
@reported
def shards(number: int) -> int:
    tracker = PrefectTracker()
    tracker.start(1)
    for done in range(number + 1):
        tracker.watch(Progress("ingest", "shards", done, number, done, done, 1.0))
    return number

shards(int(sys.argv[1]))
"""

# A flow whose work makes the server fail, and another whose work mends it before it ends.
WORK = """
import sys, urllib.request
from prefect import flow
from flows.prefect.tracker import PrefectTracker, REPORT, call_flow, reported

@flow(name="work")
@reported
def work(fail: bool) -> str:
    print("begun", flush=True)
    with REPORT.get().step("ingest", "ingest-1"):
        sys.stdin.readline()
    if fail:
        raise ValueError("row 7 of part-00003.parquet: no text")
    return "done"

try:
    print(call_flow(work, lambda: print("unreported", flush=True), sys.argv[1] == "fail"), flush=True)
except ValueError as error:
    print("error:", error, flush=True)
"""


def call(url: str, path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(f"{url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.load(reply)


def newest(url: str, flow: str) -> dict[str, Any]:
    runs = call(url, "flow_runs/filter", {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_DESC"})
    return dict(runs[0])


def start(environment: dict[str, str], script: str, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *words]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(("status", "how"), [(500, "succeed"), (503, "fail")])
def test_a_run_whose_server_failed_meanwhile_is_finished_and_reported(
    server: dict[str, str], status: int, how: str
) -> None:
    with Proxy(server["PREFECT_API_URL"]) as proxy:
        process = start(server | {"PREFECT_API_URL": proxy.url}, WORK, how)
        assert process.stdin and process.stdout and process.stderr
        assert process.stdout.readline() == "begun\n"
        proxy.away = status
        process.stdin.write("\n")
        process.stdin.flush()
        while proxy.refused < 2:
            time.sleep(0.1)
        proxy.away = None
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0
        assert out.splitlines()[-1] == ("done" if how == "succeed" else "error: row 7 of part-00003.parquet: no text")
        assert f"! the Prefect server does not answer (status {status}); the work goes on" in err
        assert "! the Prefect server answers again; the run is up to date there" in err
    run = newest(server["PREFECT_API_URL"], "work")
    assert run["state_name"] == ("Completed" if how == "succeed" else "Failed")
    (step,) = call(server["PREFECT_API_URL"], "task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [run["id"]]}}})
    assert step["name"] == "ingest-1" and step["state_name"] == "Completed"
    if how == "fail":
        assert "row 7 of part-00003.parquet" in run["state"]["message"]


def test_ten_thousand_shards_make_no_more_calls_than_ten(server: dict[str, str]) -> None:
    counts = []
    for number in (10, 10_000):
        with Proxy(server["PREFECT_API_URL"]) as proxy:
            process = start(server | {"PREFECT_API_URL": proxy.url}, SHARDS, str(number))
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            counts.append(
                {kind: count for kind, count in proxy.requests.items() if "artifact" in kind or "log" in kind}
            )
    assert counts[1] == counts[0] and sum(counts[0].values()) <= 6


@pytest.mark.skipif(sys.platform != "linux", reason="the server of a command is found among its descendants")
@pytest.mark.fault("Prefect's own server is killed during a build", "the build ends with its answer")
def test_a_build_whose_own_server_is_killed_ends_with_its_answer(tmp_path: Path) -> None:
    (tmp_path / "away.yaml").write_text(RECIPE, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment["PREFECT_HOME"] = str(tmp_path / "home")
    (tmp_path / "home").mkdir()
    command = [BIN / "winnow", "build", "away.yaml", "--root", "root", "--workers", "1"]
    process = subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "root" / "steps").exists():
        assert process.poll() is None
        time.sleep(0.05)
    (killed,) = (one for one in psutil.Process(process.pid).children(recursive=True) if "uvicorn" in str(one.cmdline()))
    killed.kill()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "rows kept" in out and "Traceback" not in err
    assert [line for line in err.splitlines() if "server" in line] == [
        line for line in err.splitlines() if line.startswith(" ! the Prefect server")
    ]
