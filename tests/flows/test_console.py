"""What the console shows of a run and of a training."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from flows.console import Console, output_of
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import StepResult
from pipelines.ledger.step import StepType
from pipelines.ledger.storage import FileRef, TableRef

METRICS = {
    "step": 400, "total_steps": 500, "loss": 1.2345, "token_accuracy": 0.61, "sequence_accuracy": 0.25,
    "grad_norm": 0.875, "tokens_per_second": 5120.0, "mfu": 0.37, "input_wait": 0.004, "memory": 1_250_000_000,
}  # fmt: skip


def result(kept: str | None, files: Mapping[str, tuple[FileRef, ...]], reused: bool = False) -> StepResult:
    """A finished step with these files."""
    products = dict.fromkeys(files, "files of a test")
    step = StepType(name="step", products=products, kept=kept).step({})
    rows_in = sum(file.rows for product in files.values() for file in product if isinstance(file, TableRef))
    part = Part(files=dict(files), rows_in=rows_in if kept else None)
    manifest = Manifest(step="step", key="0" * 16, code={}, parameters={}, parents=(), kept=kept, parts=(part,))
    return StepResult(step, manifest, reused, 1.5)


def table(rows: int) -> TableRef:
    return TableRef(path="x.parquet", bytes=1, digest="", rows=rows)


def printed(step: StepResult, capsys: pytest.CaptureFixture[str]) -> str:
    Console().step_finished(step)
    return capsys.readouterr().err.rstrip()


def test_a_step_without_rows_shows_its_files_and_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    one = result(None, {"tokenizer": (FileRef(path="tokenizer.json", bytes=1, digest=""),)})
    assert output_of(one) == "1 file"
    assert " 1 file " in (line := printed(one, capsys)) and "kept" not in line and "rows" not in line
    # A file of packs has rows, but they are packs: neither kept nor dropped.
    packs = result(None, {"packs": (table(2_000), table(363)), "fates": (table(9),)})
    assert output_of(packs) == "2 files"
    assert " 2 files " in (line := printed(packs, capsys)) and "kept" not in line and "2,363" not in line


def test_a_step_with_rows_shows_the_rows_kept_and_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    refined = result("records", {"records": (table(29_000),), "dropped": (table(500),)})
    assert output_of(refined) == "29,000 rows kept, 500 dropped"
    assert "29,000 kept" in (line := printed(refined, capsys)) and "500 dropped" in line and "19,667 rows/s" in line
    assert printed(refined._replace(reused=True), capsys).endswith("reused")


def test_the_bar_of_a_training_shows_every_metric() -> None:
    console = Console(quiet=True)
    console.watch_training(METRICS)
    (task,) = console.bars.tasks
    for text in (
        "loss 1.234",
        "61% of tokens",
        "25% of answers",
        "gradient norm 0.88",
        "5,120 tokens/s",
        "MFU 37%",
        "1.2 GB",
    ):
        assert text in task.fields["text"]
    assert (task.completed, task.total) == (400, 500)


def test_steps_of_an_earlier_start_do_not_count_as_speed() -> None:
    console = Console(quiet=True)
    console.watch_training(METRICS)
    console.watch_training(METRICS | {"step": 401})
    (task,) = console.bars.tasks
    assert task.completed == 401
    assert sum(sample.completed for sample in task._progress) == 1  # the remaining time is estimated from these
