"""A run that fails, is stopped or is killed leaves a record that can be looked at, until the recipe is built."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flows.build import build
from flows.why import why
from pipelines.audit.runs import RunEntry, runs
from pipelines.errors import CheckFailed, RunError
from pipelines.ledger import storage
from pipelines.ledger.runs import failures, open_run

WINNOW = Path(sys.executable).parent / "winnow"
RECIPE = """
name: strict
sources: [{name: sums, adapter: generated_arithmetic, rows: 6000}]
stages: [{kind: length, min_chars: 1}]
near_duplicates: false
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 129}
"""
NOTHING_STAYS = ("sources.0.rows=120", "stages.length.min_chars=9000")


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and a root, in which the recipe lost every row."""
    folder = tmp_path_factory.mktemp("failed")
    (folder / "strict.yaml").write_text(RECIPE, encoding="utf-8")
    with pytest.raises(CheckFailed, match="no row is left of 120"):
        build(str(folder / "strict.yaml"), str(folder / "root"), "local", 1, NOTHING_STAYS)
    return folder


def only_failure(root: Path) -> RunEntry:
    (entry,) = (entry for entry in runs(str(root)).runs if entry.status != "finished")
    return entry


def winnow(*words: str | Path, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([WINNOW, *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.fault("a build drops every row", "recorded as failed, with its report")
def test_a_run_that_lost_every_row_is_recorded_with_its_report(failed: Path) -> None:
    root = failed / "root"
    entry = only_failure(root)
    assert (entry.status, entry.step, entry.rows_in, entry.rows_kept) == ("failed", "tokenizer", 120, 0)
    assert entry.error and "no row is left of 120" in entry.error and (entry.steps_done, entry.steps) == (3, 6)
    folder = root / "failed" / entry.run
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "no row is left of 120" in page and "length/too_short" in page
    digests: dict[str, str] = json.loads((folder / "checksums.json").read_text(encoding="utf-8"))
    assert {f"failed/{entry.run}/run.json", f"failed/{entry.run}/recipe.yaml"} < set(digests)
    assert all(storage.digest(str(root / path)) == digest for path, digest in digests.items())


def test_questions_can_be_asked_of_a_failed_run_by_its_id_but_it_is_never_the_latest(failed: Path) -> None:
    root = str(failed / "root")
    run = only_failure(failed / "root").run
    fate = why("sums/generated/7", run, root)
    assert fate.verdict == "dropped" and fate.history[-1].reason == "too_short"
    with pytest.raises(RunError, match="no runs here"):
        open_run(root, "latest")
    with pytest.raises(RunError, match=r"has not finished \(failed, 3 of 6 steps\)"):
        open_run(root, run)
    listed = winnow("runs", "--root", root, folder=failed).stdout
    assert "failed" in listed and "3 of 6 steps at tokenizer: no row is left" in listed
    assert winnow("report", run, "--root", root, folder=failed).stdout.strip().endswith(f"{run}/report.html")
    assert "has not finished" in winnow("export", run, "--root", root, "--out", "x", folder=failed, code=2).stderr


def test_a_run_that_ends_before_any_row_is_read_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"q": "a", "a": "b"}\n{"q": "c"\n', encoding="utf-8")
    source = "{name: mine, path: rows.jsonl, columns: {instruction: q, response: a}, condition: direct}"
    recipe = RECIPE.replace("{name: sums, adapter: generated_arithmetic, rows: 6000}", source)
    (tmp_path / "strict.yaml").write_text(recipe + "on_bad_row: fail\n", encoding="utf-8")
    with pytest.raises(ValueError, match="broken_json"):
        build(str(tmp_path / "strict.yaml"), str(tmp_path / "root"), "local", 1)
    entry = only_failure(tmp_path / "root")
    assert (entry.status, entry.step, entry.steps_done, entry.rows_in) == ("failed", "ingest", 0, None)
    page = (tmp_path / "root/failed" / entry.run / "report.html").read_text(encoding="utf-8")
    assert "broken_json" in page


def interrupted(folder: Path, root: Path, signum: signal.Signals) -> None:
    """Build the recipe and send a signal when the second step is finished: the first one is then recorded."""
    words = [WINNOW, "build", "strict.yaml", "--engine", "local", "--workers", "1", "--root", root]
    with subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert any("refine" in line for line in process.stderr)
        os.kill(process.pid, signum)
        process.wait(timeout=60)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGKILL, "killed"), (signal.SIGTERM, "stopped")])
@pytest.mark.fault("a build is killed or stopped", "listed as such until it succeeds")
def test_a_run_that_is_killed_or_stopped_is_listed_and_leaves_the_list_when_it_succeeds(
    failed: Path, tmp_path: Path, signum: signal.Signals, status: str
) -> None:
    interrupted(failed, tmp_path / "root", signum)
    while (
        entry := only_failure(tmp_path / "root")
    ).status == "running":  # the kernel ends the command after its parent
        time.sleep(0.1)
    assert entry.status in (status, "killed") and entry.steps_done >= 1 and entry.rows_in == 6000
    assert winnow("report", entry.run, "--root", tmp_path / "root", folder=failed).stdout
    if signum is signal.SIGKILL:
        answer: dict[str, Any] = json.loads(
            winnow(
                "build", "strict.yaml", "--engine", "local", "--root", tmp_path / "root", "--json", folder=failed
            ).stdout
        )
        assert answer["steps"][0]["reused"] and not (tmp_path / "root/failed").exists()
        assert [entry.status for entry in runs(str(tmp_path / "root")).runs] == ["finished"]


def test_a_run_that_goes_on_is_listed_as_running_and_is_not_opened(failed: Path, tmp_path: Path) -> None:
    from pipelines.ledger.runs import Attempt

    attempt = Attempt(str(tmp_path), "strict", "", {}, ["ingest"])
    assert only_failure(tmp_path).status == "running"
    with pytest.raises(RunError, match="is still going: recipe strict"):
        open_run(str(tmp_path), attempt.id, failed=True)
    attempt.succeed()
    assert not list(failures(str(tmp_path)))
