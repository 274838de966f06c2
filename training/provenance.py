"""Which rows a step was trained on, read back from the packs: a step's batch follows from its number alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.audit.why import scores
from pipelines.errors import RunError, WinnowError
from training import checkpoint as checkpoints
from training import journal
from training.batches import Packs, batch_of_step
from training.finding import find_packs, run_of


def trace(checkpoint: str, step: int, root: str, packs: str | None = None) -> dict[str, Any]:
    """The rows of the batch of `step` (from 1) of the training that `checkpoint` belongs to.

    packs: a folder of pack shards, for a training on such a folder; else the run under `root` that made them is found.
    Returns {checkpoint, run (null for a folder), step, total_steps, epoch, digest (of the batch), same (whether
    metrics.jsonl has that digest; null where it does not have the step), rows: [{pack, id, source, scores}]}, rows as
    they lie in the batch.

    Errors: WinnowError for a step that the training does not have, RunError where its packs are not to be found.
    """
    last = checkpoints.read(Path(checkpoint))
    progress = last.progress
    if not 1 <= step <= progress.total_steps:
        raise WinnowError(f"--step {step}: the training of {last.folder} has steps 1 to {progress.total_steps}")
    run = run_of(checkpoint, root) if packs is None else None
    if run is None and packs is None:
        raise RunError(f"{last.folder}: no run below {root} made its packs; say where they lie: --packs FOLDER")
    found = find_packs(packs or (run.id if run else ""), root)
    if found.key != progress.run_key:
        raise RunError(f"--packs {packs}: not what {last.folder} was trained on ({found.key}, not {progress.run_key})")
    size = progress.config.batch_packs
    shards = Packs(found.shards)
    batch = batch_of_step(shards, step, size)
    places = [index for index in range((step - 1) * size, step * size) for _ in shards[index].ids]
    lines = journal.read_metrics(last.folder.parent)
    told = next((line["digest"] for line in lines if line["step"] == step), None)
    known = scores(run, batch.ids).to_pylist() if run else [{"id": name} for name in batch.ids]
    return {
        "checkpoint": str(last.folder),
        "run": run.id if run else None,
        "step": step,
        "total_steps": progress.total_steps,
        "epoch": batch.epoch,
        "digest": batch.digest,
        "same": None if told is None else told == batch.digest,
        "rows": [
            {
                "pack": place,
                "id": row["id"],
                "source": row.get("source") or row["id"].split("/")[0],
                "scores": {name: value for name, value in row.items() if name.startswith("score_")},
            }
            for place, row in zip(places, known, strict=True)
        ],
    }
