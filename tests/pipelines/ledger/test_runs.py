"""Runs are recorded by one process at a time, and the latest is the one that was recorded last."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.audit.runs import runs as list_runs
from pipelines.audit.verify import run_problems
from pipelines.errors import Damaged, DamageWarning
from pipelines.ledger import manifest as manifests
from pipelines.ledger import runs, storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.lease import hold
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


@pytest.mark.fault("run.json, recipe.yaml or a manifest is changed and can still be read", "no command believes it")
def test_a_file_of_a_run_that_was_changed_and_can_still_be_read_is_not_believed(tmp_path: Path) -> None:
    root = str(tmp_path)
    run = record(root, "recipe")
    manifest = manifests.path_of(root, run.steps[0].folder)
    for path in (f"{run.folder}/{runs.RUN}", manifest):
        before = storage.read_bytes(path)
        Path(path).write_bytes(before + b" ")
        with pytest.raises(Damaged, match="its digest is not the one recorded") as error:
            runs.open_run(root, "latest")
        assert path in str(error.value)
        assert runs.open_run(root, "latest", check=False).id == run.id  # `verify` tells of all files that changed
        if path == manifest:
            with pytest.warns(DamageWarning, match="its digest is not the one recorded"):
                assert [(entry.run, entry.rows_kept) for entry in list_runs(root).runs] == [(run.id, None)]
        with pytest.raises(Damaged, match="its digest"), warnings.catch_warnings():
            warnings.simplefilter("ignore", DamageWarning)
            list(runs.recorded(root, strict=True))
            runs.open_run(root, "latest")
        Path(path).write_bytes(before)
    assert runs.open_run(root, "latest") == run
    for text in (b"name: another\n", b"\xff"):
        Path(f"{run.folder}/{runs.RECIPE}").write_bytes(text)
        with pytest.raises(Damaged, match=r"recipe\.yaml: damaged since it was written"):
            runs.read_recipe(run)
    storage.remove(f"{run.folder}/{runs.RECIPE}")
    assert runs.read_recipe(run) is None


@pytest.mark.fault("checksums.json is changed and can still be read", "it is named, and no run is believed without it")
@pytest.mark.parametrize("change", ["a list", "an empty digest", "without run.json", "without a manifest"])
def test_checksums_that_cannot_vouch_for_a_run_are_named(tmp_path: Path, change: str) -> None:
    root = str(tmp_path)
    run = record(root, "recipe")
    path = Path(run.folder, runs.CHECKSUMS)
    digests = json.loads(path.read_text())
    names = [f"runs/{run.id}/run.json", f"steps/{run.steps[0].folder}/manifest.json"]
    match change:
        case "a list":
            digests = list(digests)
        case "an empty digest":
            digests[names[0]] = ""
        case "without run.json":
            del digests[names[0]]
        case "without a manifest":
            digests = {name.replace("steps/", "stepz/"): digest for name, digest in digests.items()}
    path.write_text(json.dumps(digests))
    with pytest.raises(Damaged, match=r"checksums\.json: damaged since it was written"):
        runs.open_run(root, run.id)
    told = next(run_problems(runs.open_run(root, run.id, check=False), []))  # by `verify`
    assert "checksums.json" in told or told.startswith(f"{run.folder}/run.json: changed")
    assert record(root, "recipe") == run == runs.open_run(root, run.id)  # what the message says mends it


def test_a_run_that_is_being_recorded_is_not_called_damaged(tmp_path: Path) -> None:
    root = str(tmp_path)
    run = record(root, "recipe")
    path = Path(run.folder, runs.RUN)
    before = path.read_bytes()
    with hold(storage.join(run.folder, ".lease"), "recording a run"):
        path.write_bytes(before + b" ")  # what follows is its digest
        threading.Timer(0.5, path.write_bytes, [before]).start()
        assert runs.open_run(root, run.id) == run


def test_an_attempt_that_begins_again_and_is_killed_is_not_called_damaged(tmp_path: Path) -> None:
    root = str(tmp_path)
    for error in (RuntimeError("first"), None):
        attempt = runs.Attempt(root, "recipe", "name: recipe\n", {}, ["ingest"])
        if error is not None:
            assert runs.open_run(root, attempt.fail(error).id, failed=True).info["error"] == "first"
    assert [info["status"] for _, info in runs.failures(root, strict=True)] == ["running"]
