"""Runs are recorded by one process at a time, and the latest is the one that was recorded last."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.ledger import runs, storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from tests.steps import records_of


def record(root: str, recipe: str, number: int = 0) -> runs.RecordedRun:
    run = Run(root, LocalEngine())
    manifest = records_of(run, [pa.table({"row": [1, 2]})], number=number)
    return runs.record(root, recipe, "", {}, {"corpus": manifest}, run.results)


def test_latest_is_the_run_recorded_last_though_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, year in enumerate((2126, 2026, 2025)):
        monkeypatch.setattr(runs, "now", lambda year=year: f"{year}-11-28T10:00:00.000+00:00")
        recorded = record(str(tmp_path), f"recipe-{number}", number)
        assert runs.open_run(str(tmp_path), "latest").id == recorded.id
    times = [runs.open_run(str(tmp_path), f"recipe-{number}").info["finished"] for number in range(3)]
    assert times == [f"2126-11-28T10:00:00.00{number}+00:00" for number in range(3)]


SCORES = """
import sys
from pipelines.ledger import runs
run = runs.open_run(sys.argv[1], "latest")
for step in range(5):
    line = {"benchmark": "sums", "checkpoint": f"{sys.argv[2]}-{step}", "evaluation": "e", "score": 1.0}
    runs.record_scores(run, [line])
"""


def test_scores_that_two_processes_add_at_once_are_all_kept(tmp_path: Path) -> None:
    run = record(str(tmp_path), "recipe")
    processes = [subprocess.Popen([sys.executable, "-c", SCORES, tmp_path, name]) for name in ("a", "b")]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert {line["checkpoint"] for line in runs.read_scores(run)} == {f"{p}-{n}" for p in "ab" for n in range(5)}
    recorded = storage.read_json(f"{run.folder}/{runs.CHECKSUMS}")
    path = f"{run.folder}/{runs.EVALUATIONS}"
    assert recorded[path.removeprefix(f"{tmp_path}/")] == storage.digest(path)
