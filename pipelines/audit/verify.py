"""Is a run still what it was when it was recorded? Every file, count and id is checked from the run's own files."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from pipelines.errors import CheckFailed
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.runs import CHECKSUMS, EVALUATIONS, RECIPE, RUN, RecordedRun

BUILD_AGAIN = "build the recipe again, which records the run anew"


class Verified(BaseModel):
    """What was checked: steps, files (with their digests), and rows of the corpus (with distinct ids)."""

    model_config = ConfigDict(frozen=True)

    steps: int
    files: int
    rows: int


def verify(run: RecordedRun) -> Verified:
    """Check the digest of every file of a run and of its steps, every count, and that every id stands once.

    Raises: CheckFailed: naming the file, and what to do.
    """
    files = _check_run(run) + _check_steps(run)
    ids = pa.chunked_array(
        [storage.read_parquet(shard.path, ["id"])["id"].combine_chunks() for shard in run.records.shards]
        or [pa.array([], pa.string())]
    )
    distinct = pl.Series(ids).n_unique()
    if distinct != len(ids):
        raise CheckFailed(f"run {run.id}: {len(ids) - distinct} ids of the corpus stand twice")
    return Verified(steps=len(run.steps), files=files, rows=len(ids))


def _check_run(run: RecordedRun) -> int:
    """The files of the run's own folder and the manifests of its steps, against `checksums.json`."""
    path = storage.join(run.folder, CHECKSUMS)
    if not storage.exists(path):
        raise CheckFailed(f"{path}: missing, so nothing vouches for the run's files; {BUILD_AGAIN}")
    digests: dict[str, str] = storage.read_json(path)
    listed = {storage.join(run.root, name): digest for name, digest in digests.items()}
    needed = [storage.join(run.folder, name) for name in (RUN, RECIPE)]
    needed += [manifests.path_of(run.root, step.folder) for step in run.steps]
    evaluations = storage.join(run.folder, EVALUATIONS)
    needed += [evaluations] if storage.exists(evaluations) else []
    for file in needed:
        if file not in listed:
            raise CheckFailed(f"{file}: {CHECKSUMS} does not list it; {BUILD_AGAIN}")
    for file, digest in listed.items():
        if not storage.exists(file):
            raise CheckFailed(f"{file}: missing; {BUILD_AGAIN}")
        if storage.digest(file) != digest:
            raise CheckFailed(f"{file}: changed since it was recorded; {BUILD_AGAIN}")
    return len(listed) + 1


def _check_steps(run: RecordedRun) -> int:
    """The files that the manifests name, and the conservation of rows in every part and from step to step."""
    checked = 0
    by_key = {step.key: step for step in run.steps}
    for step in run.steps:
        for index, part in enumerate(step.parts):
            part.check(step.kept, f"step {step.step}, part {index}")
        parent = by_key.get(step.parents[0]) if step.parents else None
        if step.kept and parent is not None and parent.kept and step.rows_in != parent.rows_kept:
            raise CheckFailed(
                f"step {step.step}: took {step.rows_in} rows, but step {parent.step} kept {parent.rows_kept}"
            )
        for file in step.all_files:
            mend = f"remove {storage.join(run.root, 'steps', step.folder)} and build again"
            if storage.size(file.path) < 0:
                raise CheckFailed(f"{file.path}: missing; {mend}")
            if storage.size(file.path) != file.bytes or storage.digest(file.path) != file.digest:
                raise CheckFailed(f"{file.path}: changed since it was written; {mend}")
            checked += 1
    return checked
