"""Under a real Prefect server a build is one flow run, a step one task run, and deployments run on a process worker."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
RECIPE = """
name: small
sources:
  - {name: sums, adapter: generated_arithmetic, rows: 400}
  - {name: problems, adapter: generated_word_problems, rows: 400}
stages: [{kind: strip_thinking}, {kind: length}]
tokenizer: {vocab_size: 600}
sampling: {epochs: 1, context: 257}
"""


def call(url: str, path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(f"{url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.load(reply)


def build(environment: dict[str, str], folder: Path) -> dict[str, Any]:
    recipe = folder / "small.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    command = [
        BIN / "winnow",
        "build",
        recipe,
        "--root",
        folder / "root",
        "--engine",
        "local",
        "--workers",
        "1",
        "--json",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def task_runs(url: str, flow_run: dict[str, Any]) -> dict[str, str]:
    """Task name -> state name of one flow run."""
    steps = call(url, "task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [flow_run["id"]]}}})
    return {run["name"].rsplit("-", 1)[0]: run["state_name"] for run in steps}


def test_a_build_is_one_flow_run_with_a_task_run_per_step_and_reused_steps_are_cached(
    server: dict[str, str], tmp_path: Path
) -> None:
    url = server["PREFECT_API_URL"]
    first, second = build(server, tmp_path), build(server, tmp_path)
    runs = [run for run in call(url, "flow_runs/filter", {}) if run["parameters"].get("root") == str(tmp_path / "root")]
    flow_runs = sorted(runs, key=lambda run: str(run["start_time"]))
    assert [run["state_name"] for run in flow_runs] == ["Completed", "Completed"]
    names = [step["name"] for step in first["steps"]]
    # The server stores task runs from a queue, a moment after they happened.
    for flow_run, state in zip(flow_runs, ("Completed", "Cached"), strict=True):
        for _ in range(60):
            if len(task_runs(url, flow_run)) == len(names):
                break
            time.sleep(0.5)
        assert task_runs(url, flow_run) == dict.fromkeys(names, state)
    assert all(step["reused"] for step in second["steps"]) and second["tokens"] == first["tokens"]

    artifacts = call(url, "artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_runs[0]["id"]]}}})
    by_key = {artifact["key"]: artifact for artifact in artifacts}
    assert float(by_key["winnow-progress"]["data"]) == 100.0
    funnel = json.loads(by_key["winnow-funnel"]["data"])
    assert [line["step"] for line in funnel] == [name for name in names if name not in ("tokenizer", "pack")]
    assert funnel[0]["rows in"] == 800 and all(line["kept"] + line["dropped"] == line["rows in"] for line in funnel)
    assert f"/runs/{first['run']}/report.html)" in by_key["winnow-report"]["data"]
    thinking = json.loads(by_key["winnow-thinking"]["data"])
    assert thinking[0]["finding"] == "thinking in what was read" and thinking[0]["source"] == "problems"
    steps = call(url, "task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [flow_runs[0]["id"]]}}})
    messages = {run["name"].rsplit("-", 1)[0]: run["state"]["message"] for run in steps}
    assert messages["tokenizer"].startswith("1 file, ") and " rows kept" in messages["ingest"]


def test_a_night_without_new_rows_is_completed_and_leaves_no_failed_run(server: dict[str, str], tmp_path: Path) -> None:
    """The command still says with its exit code that it made no corpus."""
    run = build(server, tmp_path)["run"]
    script = (
        "from flows.prefect.curate import curate_flow\n"
        f"state = curate_flow({str(tmp_path / 'small.yaml')!r}, {str(tmp_path / 'root')!r}, 'local', 1,"
        " settings=['sampling.epochs=2'], against=['small-*'], return_state=True)\n"
        "print(state.name, state.message)"
    )
    night = subprocess.run([sys.executable, "-c", script], env=server, capture_output=True, text=True, check=False)
    assert night.stdout.startswith("Completed nothing new: all "), night.stdout + night.stderr
    assert run in night.stdout and not (tmp_path / "root" / "failed").exists()
    command = [BIN / "winnow", "build", tmp_path / "small.yaml", "--root", tmp_path / "root", "--workers", "1"]
    by_hand = subprocess.run(
        [*command, "--set", "sampling.epochs=2", "--set", f"against=[{run}]"],
        env=server,
        capture_output=True,
        text=True,
        check=False,
    )
    assert by_hand.returncode == 1 and "nothing new" in by_hand.stderr


def test_deployments_are_accepted_and_a_process_worker_runs_one(server: dict[str, str], tmp_path: Path) -> None:
    url = server["PREFECT_API_URL"]
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")

    environment = server | {"WINNOW_ROOT": str(tmp_path / "root")}

    def prefect(*words: str | Path) -> str:
        done = subprocess.run(
            [BIN / "prefect", *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    prefect("work-pool", "create", "winnow", "--type", "process")
    prefect("--no-prompt", "deploy", "--all")
    deployments = {deployment["name"]: deployment for deployment in call(url, "deployments/filter", {})}
    assert set(deployments) == {"curate", "scan", "train", "evaluate", "curate-train-evaluate"}
    (schedule,) = deployments["curate"]["schedules"]
    assert schedule["schedule"] == {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "day_or": True}
    with pytest.raises(urllib.error.HTTPError, match="409"):  # the bounds of the form hold for the API too
        call(url, f"deployments/{deployments['curate']['id']}/create_flow_run", {"parameters": {"workers": -1}})

    parameters = {"recipe": str(recipe), "engine": "local", "workers": 1}
    run = call(
        url,
        f"deployments/{deployments['curate']['id']}/create_flow_run",
        {"parameters": parameters, "state": {"type": "SCHEDULED"}},
    )
    prefect("worker", "start", "--pool", "winnow", "--run-once")
    for _ in range(240):
        with urllib.request.urlopen(f"{url}/flow_runs/{run['id']}", timeout=20) as reply:
            state = json.load(reply)["state"]
        if state["type"] in ("COMPLETED", "FAILED", "CRASHED"):
            break
        time.sleep(0.5)
    assert state["type"] == "COMPLETED", state
    assert list((tmp_path / "root" / "runs").glob("small-*/report.html"))
