"""Which runs are there below a root, and how large are they?"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipelines.errors import Damaged, DamageWarning, WinnowError
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.lease import Holder
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import FAILED, Status, failures, manifest_digests, recorded, status_of


class RunEntry(BaseModel):
    """A run.

    status: `finished`, or what became of it. finished: time in UTC, ISO 8601; of a run that has not finished, when its
    record was written last. rows_in, rows_kept: None if the manifests of these steps are gone; of a run that has not
    finished, `rows_kept` is that of its last step. tokens: that the epochs draw, None for a scan. bytes: of all files
    of its steps, which other runs may share. packs: whether all of its packs are there, None if it never had any.
    steps_done, steps: how many steps are finished, and how many there are.

    Only of a run that has not finished: step, error: the step that it was at, and the message. process: that made it.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    recipe: str
    status: Status
    finished: str
    rows_in: int | None
    rows_kept: int | None
    tokens: int | None
    bytes: int
    packs: bool | None
    steps_done: int
    steps: int
    step: str | None = None
    error: str | None = None
    process: str | None = None


class Runs(BaseModel):
    """The runs below a root, the newest first. `winnow runs --json` prints it."""

    model_config = ConfigDict(frozen=True)

    root: str
    runs: tuple[RunEntry, ...]


def runs(root: str) -> Runs:
    """The runs below `root`, also those that have not finished. No file of a step but its manifest is read.

    Warns: of each damaged `run.json` or manifest; the run, or the numbers of the step, are missing then.
    """
    entries = [_entry(root, "runs", run, info) for run, info in recorded(root)]
    entries += [_entry(root, FAILED, run, info) for run, info in failures(root)]
    return Runs(root=root, runs=tuple(sorted(entries, key=lambda entry: entry.finished, reverse=True)))


def _entry(root: str, folder: str, run: str, info: Mapping[str, Any]) -> RunEntry:
    try:
        digests = manifest_digests(root, folder, run, info)
    except Damaged as error:
        warnings.warn(str(error), DamageWarning, stacklevel=2)
        digests = {}
    steps = [_load(root, step["folder"], digests.get(step["folder"])) for step in info["steps"]]
    made = {step.key: step for step in steps if step is not None}
    corpus, packs = made.get(info.get("corpus", "")), made.get(info.get("packs", ""))
    tokens = packs and sum(n for name, n in packs.counts.items() if _counts_tokens(name))
    return RunEntry(
        run=info["run"],
        recipe=info["recipe"],
        status=status_of(info),
        finished=info["finished"],
        rows_in=steps[0].rows_in if steps and steps[0] else None,
        rows_kept=corpus.rows_kept if corpus else None,
        tokens=tokens,
        bytes=sum(file.bytes for step in made.values() for file in step.all_files),
        packs=None if "packs" not in info else packs is not None and _is_there(packs),
        steps_done=len(steps),
        steps=len(info.get("wanted", steps)),
        step=info.get("step"),
        error=info.get("error"),
        process=str(Holder.model_validate(info["holder"])) if "holder" in info else None,
    )


def _counts_tokens(name: str) -> bool:
    return name.startswith("coverage/") and name.endswith("/drawn_tokens")


def _load(root: str, folder: str, digest: str | None) -> Manifest | None:
    try:
        return manifests.load(root, folder, digest)
    except WinnowError as error:  # its numbers are missing from the entry
        warnings.warn(str(error), DamageWarning, stacklevel=2)
        return None


def _is_there(step: Manifest) -> bool:
    found = storage.sizes_of(file.path for file in step.all_files)
    return all(found.get(file.path) == file.bytes for file in step.all_files)
