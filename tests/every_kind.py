"""A root with a file of every kind that Winnow writes below one, small enough to verify many times."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipelines.audit.report import write_report
from pipelines.audit.similar import index
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import open_run, record_calibration, record_scores
from pipelines.ledger.score_tables import ScoreWriter
from tests.trainings import train_on
from training.evaluation.store import ANSWERED, AnswerStore, Settings, folder_of
from training.inference.language_model import Completion
from training.inference.recorded import CompletionStore

RECIPE = """
name: kinds
sources:
  - {name: generated_web, adapter: generated_web, rows: 150}
  - {name: generated_conversations, adapter: generated_conversations, rows: 150}
scores: [length]
stages: [{kind: thinking}, {kind: strip_thinking}, {kind: score, name: length, top: 0.9}]
contamination: {benchmarks: [{name: generated, rows: 40}]}
tokenizer: {vocab_size: 512}
sampling: {epochs: 2, context: 129, validation: 0.2}
"""

RUN_FILES = ("run.json", "recipe.yaml", "lineage.jsonl", "evaluations.json", "calibration.json", "report.html")


def make_root(root: Path) -> str:
    """Build and train on RECIPE, and add an index, an evaluation, a score table and completions; returns the run."""
    root.mkdir(parents=True)
    train_on(root, RECIPE)
    (root / "recipe.yaml").unlink()
    run = open_run(str(root), "latest")
    index(Run(str(root), LocalEngine()), run.records, ("instruction",), 5, "word")
    settings = Settings(
        benchmark="generated", task="generated", method="generate", model="one", identity="0", step=3, weights="ema",
        device="cpu", precision="fp32", condition="direct", shots=0, strategy="greedy", temperature=0, max_tokens=8,
        context=128, stop=(), seed=0, scorers={"published": "1"},
    )  # fmt: skip
    folder = folder_of(str(root), settings)
    store = AnswerStore(folder)
    store.write_settings(settings)
    store.finish(pa.table({name: pa.array(["a"], pa.string()) for name in ANSWERED.names}), {"all": 0.5})
    store.seal()
    writer = ScoreWriter(str(root), "a", {"corpus": run.records.key})
    writer.finish(pa.table({"id": ["a/a/0"], "score_a": pa.array([0.5], pa.float32())}))
    completions = CompletionStore(str(root), "model")
    completions.add(b"0", "owner", {"prompt": "?"}, [Completion("!", 1, -0.5, "stop")])
    completions.flush()
    write_report(run)  # first: it cannot show what follows
    record_scores(run, [{"benchmark": "generated", "checkpoint": "step-3", "all": 0.5, "evaluation": folder}])
    record_calibration(run, [{"ratings": "0", "score": "length"}])
    return run.id


def every_kind(root: Path) -> Iterator[tuple[str, Path]]:
    """The kind and the path of one file of each kind below a root: paths that differ in numbers and keys are of one
    kind. The first of each that is not empty."""
    seen = set()
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root).as_posix()
        kind = re.sub(
            r"(?<=[-/])(?=[0-9a-f]*[0-9])[0-9a-f]{8,}|events\.out.*|part-[0-9-]*|kinds-[0-9a-f]+", "*", relative
        )
        if path.is_file() and path.stat().st_size and kind not in seen:
            seen.add(kind)
            yield kind, path


def flipped(path: Path, place: int) -> bytes:
    """The content of a file with one bit of one byte flipped."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    return bytes(content)
