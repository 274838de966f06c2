"""What below a root does nothing refer to? Steps, runs that were replaced, and remains of killed processes.

Kept is every step of a recorded run, of one that has not succeeded, of a training or an ablation, and what was made
from these (indexes). A step that is in use by no run is removed once it is old enough that no stopped build will carry
on with it. Steps and runs that a receipt of `winnow forget` says are replaced are removed whatever their age: their
bytes are what was to be forgotten.

While a build is going on, nothing is removed, and a build that begins meanwhile waits (`wait_for_gc`). A manifest is
removed before the files that it names, and a run before its steps, so that a kill leaves no run or step that lacks a
file; the next `winnow gc` removes the rest.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from flows.console import current_console
from flows.execute import absolute
from flows.forget import is_replaced, receipts, replaced_runs
from pipelines.audit.rows import PACK_INDEX, ROW_INDEX, TEXT_INDEX
from pipelines.audit.similar import SIMILAR
from pipelines.errors import CheckFailed, RunError
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.checksums import write_checksums
from pipelines.ledger.lease import Busy, hold, holder_of
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import WORK
from pipelines.ledger.runs import FAILED, GC_LEASE, RUN, failed_folder, failures, now, recorded, run_folder, status_of
from pipelines.ledger.tombstones import RECEIPT
from training.folders import LEASE, all_trainings, trainings
from training.verify import run_keys_of

MIN_AGE_HOURS = 24.0
"""Default age of a step that no run refers to: a build that was stopped may carry on with it."""

INDEXES = (SIMILAR.name, ROW_INDEX.name, PACK_INDEX.name, TEXT_INDEX.name)
"""Steps that no recipe has: they are made from the steps of a run, and kept with them."""

LOOK_SECONDS = 12.0
"""How long a lease of another machine is watched. Its holder raises a counter every 5 s."""


class Garbage(BaseModel):
    """A folder or file to remove. folder: relative to the root. why: no run refers to it, or which receipt says so."""

    model_config = ConfigDict(frozen=True)

    folder: str
    files: int
    bytes: int
    why: str


class GcAnswer(BaseModel):
    """What was, or would be, removed. `winnow gc --json` prints it.

    kept: folders that nothing refers to and that were kept all the same, with the reason.
    """

    model_config = ConfigDict(frozen=True)

    removed: bool
    garbage: tuple[Garbage, ...]
    bytes: int
    kept: dict[str, str]


class _Steps(NamedTuple):
    """The steps below a root: folder -> manifest, None for one that is not finished."""

    manifests: dict[str, Manifest | None]

    def with_indexes(self, folders: set[str]) -> set[str]:
        """These, and the indexes of them."""
        keys = {folder.rpartition("-")[2] for folder in folders}
        indexes = {
            folder
            for folder, manifest in self.manifests.items()
            if manifest is not None and manifest.step in INDEXES and keys.issuperset(manifest.parents)
        }
        return folders | indexes

    def descendants(self, folders: set[str]) -> set[str]:
        """These, and every step that reads one of them, directly or not."""
        keys = {folder.rpartition("-")[2] for folder in folders}
        more = set(folders)
        while True:
            added = {
                folder
                for folder, manifest in self.manifests.items()
                if folder not in more and manifest is not None and keys & set(manifest.parents)
            }
            if not added:
                return more
            more |= added
            keys |= {folder.rpartition("-")[2] for folder in added}


def gc(root: str = "./winnow-data", dry_run: bool = True, min_age_hours: float = MIN_AGE_HOURS) -> GcAnswer:
    """List what nothing refers to and, unless `dry_run`, remove it.

    Raises: RunError: if there is no root. CheckFailed: if a build is going on, or the ledger is damaged, so that it
    cannot be told what is in use.
    """
    root = absolute(root)
    if not any(storage.folders(storage.join(root, name)) for name in ("runs", "steps")):
        raise RunError(f"{root}: no runs and no steps here; `--root` names another place")
    console = current_console()
    with console, _alone(root):
        kept: dict[str, str] = {}
        garbage = list(_garbage(root, min_age_hours, kept))
        if not dry_run:
            removed: list[Garbage] = []
            total = sum(one.bytes for one in garbage)
            for one in garbage:
                _check_nothing_runs(root)
                console.move_bar("gc: MB", sum(done.bytes for done in removed) >> 20, max(total >> 20, 1))
                if _remove(root, one, kept):
                    removed.append(one)
            garbage = removed
            _note_in_receipts(root, removed)
    return GcAnswer(removed=not dry_run, garbage=tuple(garbage), bytes=sum(one.bytes for one in garbage), kept=kept)


@contextlib.contextmanager
def _alone(root: str) -> Iterator[None]:
    """One `gc` at a time, and no build."""
    _check_nothing_runs(root)
    try:
        with hold(storage.join(root, GC_LEASE), "winnow gc", patience=LOOK_SECONDS):
            yield
    except Busy as error:
        raise CheckFailed(f"{root}: {error.holder} is at work; wait for it") from None


def _check_nothing_runs(root: str) -> None:
    """Raises: CheckFailed: if a build is going on, or may be."""
    for name, info in failures(root):
        status = status_of(info)
        if status in ("running", "unknown"):
            what = "is going on" if status == "running" else "may be going on, on another machine"
            folder = failed_folder(root, name)
            raise CheckFailed(
                f"run {name} {what}, so nothing is removed; wait for it"
                + ("" if status == "running" else f", or remove {folder} if it has ended")
            )


def _garbage(root: str, min_age_hours: float, kept: dict[str, str]) -> Iterator[Garbage]:
    """What is to be removed, in the order in which it is: runs before their steps."""
    steps = _read_steps(root)
    replaced = replaced_runs(root)
    runs: dict[str, dict[str, Any]] = {}
    gone: list[str] = []
    for folder_of, found in (
        (run_folder, recorded(root, strict=True)),
        (failed_folder, failures(root, strict=True)),
    ):
        there = dict(found)
        in_use_here = {name: info for name, info in there.items() if not is_replaced(replaced, name, info)}
        runs |= {f"{folder_of(root, name)}": info for name, info in in_use_here.items()}
        # A folder without a run.json is what a killed `gc` left.
        gone += [folder_of(root, name) for name in sorted(replaced) if name not in in_use_here]
    named = {str(step["folder"]) for info in runs.values() for step in info["steps"]}
    by_receipt = {folder for run in replaced.values() for folder in run["steps"]} - named
    packs = _packs_in_use(root)
    # What was made from replaced steps holds the same rows: indexes, and steps of builds that did not finish.
    doomed = steps.descendants(by_receipt) - named
    busy = {folder for folder in doomed for key in packs if folder.endswith(f"-{key}") and packs[key]}
    for folder in busy:
        kept[storage.join("steps", folder)] = "a training that is going on reads it"
    busy |= {
        folder
        for folder in doomed
        for pack in busy
        if (manifest := steps.manifests.get(pack)) and folder.rpartition("-")[2] in manifest.parents
        if folder.startswith("tokenizer-")
    }
    doomed -= busy
    for folder in doomed & steps.manifests.keys():
        for training in packs.get(folder.rpartition("-")[2], []) or _trainings_on(root, folder):
            own = run_keys_of(training)[:1] == (folder.rpartition("-")[2],)
            kept.setdefault(
                training,
                "trained on packs that are removed: it saw forgotten rows and cannot carry on"
                if own
                else "started from a model that was trained on packs that are removed: it saw forgotten rows",
            )
    in_use = named | {
        folder for folder in steps.manifests if folder.rpartition("-")[2] in packs and folder not in doomed
    }
    parents = {parent for folder in in_use if (manifest := steps.manifests.get(folder)) for parent in manifest.parents}
    in_use |= {
        folder
        for folder in steps.manifests
        if folder.rpartition("-")[2] in parents and folder.startswith("tokenizer-") and folder not in doomed
    }
    in_use = steps.with_indexes(in_use)
    for folder in gone:
        if storage.sizes(folder):
            by = replaced[folder.rpartition("/")[2]]["by"]
            yield _entry(root, folder, f"replaced by {by or 'no run'} (winnow forget)")
    for path in sorted({path for _, receipt in receipts(root) for path in receipt.get("held_out", ())}):
        if storage.exists(storage.join(root, path)):
            size = storage.size(storage.join(root, path))
            yield Garbage(folder=path, files=1, bytes=size, why="texts with forgotten rows (winnow forget)")
    for folder in sorted(doomed):
        if folder in steps.manifests:
            yield _entry(root, storage.join(root, "steps", folder), "only replaced runs used it (winnow forget)")
    for folder in sorted(steps.manifests.keys() - doomed - in_use - busy):
        path = storage.join(root, "steps", folder)
        hours = (time.time() - _newest(path)) / 3600
        if hours < min_age_hours:
            kept[storage.join("steps", folder)] = f"{hours:.1f} h old; removed from {min_age_hours:g} h on"
            continue
        what = "no run refers to it" if steps.manifests[folder] else "a build left it unfinished"
        yield _entry(root, path, what)


def _read_steps(root: str) -> _Steps:
    """Every step below a root. Raises: CheckFailed: if a manifest is damaged: it cannot be told what it is."""
    folders = storage.folders(storage.join(root, "steps"))
    return _Steps({name: manifests.load(root, name) for name in folders if not name.startswith(".")})


def _packs_in_use(root: str) -> dict[str, list[str]]:
    """Key of packs -> the trainings on them that are going on, for each key of packs that the weights of a training
    below the root have read. Only its own packs are read by a training that is going on."""
    found: dict[str, list[str]] = {}
    for training in all_trainings(root):
        keys = run_keys_of(training)
        going_on = _is_held(storage.join(training, LEASE))
        if not keys and going_on:
            raise CheckFailed(f"{training}: a training is going on that has no checkpoint yet; wait for its first")
        for key in keys:
            if key is not None:
                found.setdefault(key, [])
        if going_on and keys[0] is not None:
            found[keys[0]].append(training)
    return found


def _trainings_on(root: str, folder: str) -> list[str]:
    key = folder.rpartition("-")[2]
    return [training for training in trainings(root) if key in run_keys_of(training)]


def _is_held(folder: str) -> bool:
    """Whether a living process holds the lease of a folder."""
    holder = holder_of(folder)
    if holder is None:
        return False
    if (ended := holder.has_ended()) is not None:
        return not ended
    try:
        with hold(folder, "winnow gc", patience=LOOK_SECONDS):
            return False
    except Busy:
        return True


def _newest(folder: str) -> float:
    """When the newest file of a step was written, in seconds since 1970: its manifest, if it has one."""
    manifest = storage.join(folder, "manifest.json")
    if storage.exists(manifest):
        return storage.modified(manifest)
    return max((storage.modified(storage.join(folder, name)) for name in storage.files_below(folder)), default=0.0)


def _entry(root: str, folder: str, why: str) -> Garbage:
    sizes = storage.sizes(folder)
    return Garbage(folder=folder.removeprefix(root).lstrip("/"), files=len(sizes), bytes=sum(sizes.values()), why=why)


def _remove(root: str, garbage: Garbage, kept: dict[str, str]) -> bool:
    """Remove a folder, the file that vouches for it first. A step that a process began to make meanwhile stays."""
    folder = storage.join(root, garbage.folder)
    if _is_held(storage.join(folder, WORK, "lease")):
        kept[garbage.folder] = "a process is making it"
        return False
    for name in (RUN, "manifest.json"):
        storage.remove(storage.join(folder, name))
    storage.remove(folder)
    if garbage.folder.startswith(f"{FAILED}/"):
        storage.remove_empty(storage.join(root, FAILED))
    return True


def _note_in_receipts(root: str, removed: list[Garbage]) -> None:
    """Add to the receipts what was removed for them, and when."""
    for folder, receipt in receipts(root):
        runs = {run["run"] for run in receipt["replaced"]}
        steps = {step for run in receipt["replaced"] for step in run["steps"]}
        texts = set(receipt.get("held_out", ()))
        own = [one.folder for one in removed if one.folder.rpartition("/")[2] in runs | steps or one.folder in texts]
        derived = [one.folder for one in removed if one.why.endswith("(winnow forget)") and one.folder not in own]
        if own:
            value: dict[str, Any] = {
                **receipt,
                "removed": [*receipt["removed"], {"time": now(), "folders": [*own, *derived]}],
            }
            storage.write_json(storage.join(folder, RECEIPT), value)
            write_checksums(folder)
