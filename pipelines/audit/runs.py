"""Which runs are there below a root, and how large are they?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipelines.errors import WinnowError
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import recorded


class RunEntry(BaseModel):
    """A recorded run.

    finished: time in UTC, ISO 8601. rows_in, rows_kept: None if the manifests of these steps are gone. tokens: that the
    epochs draw, None for a scan. bytes: of all files of its steps, which other runs may share. packs: whether all of
    its packs are there, None if it never had any.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    recipe: str
    finished: str
    rows_in: int | None
    rows_kept: int | None
    tokens: int | None
    bytes: int
    packs: bool | None


class Runs(BaseModel):
    """The runs below a root, the newest first. `winnow runs --json` prints it."""

    model_config = ConfigDict(frozen=True)

    root: str
    runs: tuple[RunEntry, ...]


def runs(root: str) -> Runs:
    """The recorded runs below `root`. No file of a step but its manifest is read."""
    entries = [_entry(root, info) for _, info in recorded(root)]
    return Runs(root=root, runs=tuple(sorted(entries, key=lambda entry: entry.finished, reverse=True)))


def _entry(root: str, info: Mapping[str, Any]) -> RunEntry:
    steps = [_load(root, step["folder"]) for step in info["steps"]]
    made = {step.key: step for step in steps if step is not None}
    corpus, packs = made.get(info["corpus"]), made.get(info.get("packs", ""))
    tokens = packs and sum(n for name, n in packs.counts.items() if _counts_tokens(name))
    return RunEntry(
        run=info["run"],
        recipe=info["recipe"],
        finished=info["finished"],
        rows_in=steps[0].rows_in if steps and steps[0] else None,
        rows_kept=corpus.rows_kept if corpus else None,
        tokens=tokens,
        bytes=sum(file.bytes for step in made.values() for file in step.all_files),
        packs=None if "packs" not in info else packs is not None and _is_there(packs),
    )


def _counts_tokens(name: str) -> bool:
    return name.startswith("coverage/") and name.endswith("/drawn_tokens")


def _load(root: str, folder: str) -> Manifest | None:
    try:
        return manifests.load(root, folder)
    except (WinnowError, RuntimeError):  # damaged: `winnow verify` says how
        return None


def _is_there(step: Manifest) -> bool:
    found = storage.sizes_of(file.path for file in step.all_files)
    return all(found.get(file.path) == file.bytes for file in step.all_files)
