"""Forgetting on the demo recipe, end to end: build, train, forget a row and a source, prove, collect, verify.

`python -m tests.benchmarks forget`
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from flows.build import build
from flows.configure import configure
from flows.forget import forget
from flows.gc import gc
from flows.verify import verify
from pipelines.audit.forget import Selection
from pipelines.ledger import storage
from training import loop
from training.provenance import find_packs, trace

T = TypeVar("T")

STEPS, STEP = 60, 7
"""Steps of the training, and the one of which a row is forgotten."""


def bench(data: Path | None) -> list[dict[str, object]]:
    """A row for each thing that is done, with its seconds and what came of it."""
    rows: list[dict[str, object]] = []

    def timed(what: str, work: Callable[[], T], say: Callable[[T], str]) -> T:
        begun = time.monotonic()
        value = work()
        megabytes = sum(storage.sizes(f"{root}/steps").values()) / 1e6
        rows.append({"what": what, "seconds": time.monotonic() - begun, "MB of steps": megabytes, "result": say(value)})
        return value

    def erase(what: str, selection: Selection) -> None:
        timed(
            f"list {what}",
            lambda: forget(selection, root=root),
            lambda answer: (
                f"{len(answer.runs[0].rows)} rows in {len(answer.runs[0].places)} files, "
                f"read at {sum(len(use.read_at) for use in answer.trainings)} training steps, "
                f"in {sum(len(use.checkpoints) for use in answer.trainings)} checkpoints"
            ),
        )
        answer = timed(
            f"forget {what} --apply",
            lambda: forget(selection, root=root, apply=True),
            lambda answer: (
                f"{answer.proofs[0].forgotten} forgotten, {answer.proofs[0].rows} others as before, "
                f"{len(answer.proofs[0].kept_now)} kept now, {len(answer.proofs[0].dropped_now)} dropped now, "
                f"{answer.proofs[0].searched} files searched"
            ),
        )
        assert answer.receipt is not None
        timed(
            f"gc after {what}",
            lambda: gc(root, dry_run=False),
            lambda answer: f"{sum(one.files for one in answer.garbage)} files, {answer.bytes / 1e6:.1f} MB removed",
        )

    with tempfile.TemporaryDirectory() as folder:
        root = f"{folder}/root"
        timed("build demo", lambda: build("demo", root, "local"), lambda answer: f"{answer.rows_kept} rows kept")
        packs = find_packs("latest", root)
        config = configure("tiny", packs.shards, STEPS, ["checkpoint_steps=20"])
        out = f"{root}/training/demo"
        timed(
            f"train {STEPS} steps",
            lambda: loop.train(packs.shards, packs.tokenizer, config, out, packs.key),
            lambda answer: "",
        )
        row = trace(out, STEP, root).rows[0].id
        erase("one row", Selection(ids=(row,)))
        erase("one source", Selection(sources=("generated_web",)))
        timed(
            "verify --deep",
            lambda: verify("latest", root, deep=True),
            lambda answer: f"{answer.files} files; {'; '.join(answer.deep)}",
        )
        timed("build demo again", lambda: build("demo", root, "local"), lambda answer: f"{answer.rows_kept} rows kept")
    return rows
