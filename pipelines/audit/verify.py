"""Is a run still what it was when it was recorded? Every file, count and id is checked from the run's own files."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from pipelines.errors import CheckFailed
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import CHECKSUMS, EVALUATIONS, LINEAGE, RECIPE, RUN, RecordedRun

BUILD_AGAIN = "build the recipe again, which records the run anew"


class Verified(BaseModel):
    """What was checked: steps, files (with their digests), and rows of the corpus (with distinct ids)."""

    model_config = ConfigDict(frozen=True)

    steps: int
    files: int
    rows: int


def verify(run: RecordedRun) -> Verified:
    """Check the digest of every file of a run and of its steps, every count, and that every id stands once.

    The report is not checked, since `winnow report` writes it again at any time.

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
        raise CheckFailed(f"{path}: missing, so the run's files cannot be checked; {BUILD_AGAIN}")
    digests: dict[str, str] = storage.read_json(path)
    recorded = {storage.join(run.root, name): digest for name, digest in digests.items()}
    evaluations = storage.join(run.folder, EVALUATIONS)
    mends = {storage.join(run.folder, name): BUILD_AGAIN for name in (RUN, RECIPE)}
    mends[storage.join(run.folder, LINEAGE)] = f"remove it and {BUILD_AGAIN}"
    mends |= {manifests.path_of(run.root, step.folder): _remake(run, step) for step in run.steps}
    if storage.exists(evaluations) or evaluations in recorded:
        mends[evaluations] = "remove it and score the checkpoints again with `winnow evaluate`"
    for file, mend in mends.items():
        if file not in recorded:
            raise CheckFailed(f"{file}: {CHECKSUMS} does not list it; {mend}")
        if not storage.exists(file):
            raise CheckFailed(f"{file}: missing; {mend.removeprefix('remove it and ')}")
        if storage.digest(file) != recorded[file]:
            raise CheckFailed(f"{file}: changed since it was recorded; {mend}")
    if unknown := recorded.keys() - mends.keys():
        raise CheckFailed(f"{path}: lists {min(unknown)}, which is no file of the run; {BUILD_AGAIN}")
    return len(mends) + 1


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
            if storage.size(file.path) < 0:
                raise CheckFailed(f"{file.path}: missing; {_remake(run, step)}")
            if storage.size(file.path) != file.bytes or storage.digest(file.path) != file.digest:
                raise CheckFailed(f"{file.path}: changed since it was written; {_remake(run, step)}")
            checked += 1
        _check_reasons(run, step)
        manifest = manifests.path_of(run.root, step.folder)
        _check_nothing_added(manifest.rpartition("/")[0], {manifest, *(file.path for file in step.all_files)})
    return checked


def _check_reasons(run: RecordedRun, step: Manifest) -> None:
    """The reasons that the manifest counts, against the dropped rows themselves."""
    counted: Counter[str] = Counter()
    for file in step.dropped:
        table = pl.DataFrame(storage.read_parquet(file.path, ["stage", "reason"]))
        for stage, reason, rows in table.group_by("stage", "reason").len().iter_rows():
            counted[f"{stage}/{reason}"] += rows
    if counted != Counter(step.reasons):
        path = manifests.path_of(run.root, step.folder)
        raise CheckFailed(f"{path}: its reasons are not those of the rows dropped; {_remake(run, step)}")


def _check_nothing_added(folder: str, known: set[str]) -> None:
    """No file that the manifest does not name: whoever reads all files of a folder would take it for the step's."""
    for name in storage.files_below(folder):
        if storage.join(folder, name) not in known:
            raise CheckFailed(f"{storage.join(folder, name)}: no manifest names this file; remove it")


def _remake(run: RecordedRun, step: Manifest) -> str:
    return f"remove {storage.join(run.root, 'steps', step.folder)} and build again"
