"""Are trainings and evaluations as they were written? Their digests are checked, without importing torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipelines.errors import CheckFailed
from pipelines.ledger import storage
from pipelines.ledger.checksums import CHECKSUMS, checksum_problems
from training.evaluation.store import EVALUATIONS
from training.folders import MANIFEST, checkpoints, digest_of, trainings
from training.start import Start

OnBytes = Callable[[int], None]


def training_problems(training: str, files: list[str], on_bytes: OnBytes = lambda count: None) -> Iterator[str]:
    """What is wrong with the files of a training folder: its checkpoints, and its record if it is complete.

    files: the files that were checked are added. A checkpoint of an earlier version has no digests: it is not checked.
    """
    complete = checkpoints(training)
    for folder in complete:
        yield from _checkpoint_problems(folder, files, on_bytes)
    for name in storage.folders(training):
        folder = storage.join(training, name)
        if name.startswith("step-") and folder not in complete and storage.sizes(folder):
            yield f"{folder}: a checkpoint without {MANIFEST}, so it cannot be used; remove the folder"
    yield from checksum_problems(
        training, "the checkpoints are not affected; remove this file and checksums.json to accept it", complete=False
    )
    path = storage.join(training, CHECKSUMS)
    if storage.exists(path):
        files.append(path)
        try:
            files += [storage.join(training, name) for name in storage.read_json(path)]
        except CheckFailed:
            return  # told above


def _checkpoint_problems(folder: str, files: list[str], on_bytes: OnBytes) -> Iterator[str]:
    path = storage.join(folder, MANIFEST)
    mend = "use an earlier checkpoint: remove this one's folder to resume from it"
    files.append(path)
    try:
        state = storage.read_json(path)
        digests = dict(state["digests"])
    except (CheckFailed, KeyError, TypeError, ValueError):
        yield f"{path}: damaged since it was written; {mend}"
        return
    if state.get("digest") and state["digest"] != digest_of(state):
        yield f"{path}: changed since it was written; {mend}"
    present = storage.sizes(folder)
    for name in sorted(digests.keys() | (present.keys() - {MANIFEST} if digests else set())):
        file = storage.join(folder, name)
        files.append(file)
        on_bytes(present.get(name, 0))
        if name not in digests:
            yield f"{file}: {MANIFEST} does not list it; remove it"
        elif name not in present:
            yield f"{file}: missing; {mend}"
        elif storage.digest(file) != digests[name]:
            yield f"{file}: changed since it was written; {mend}"


def run_keys_of(training: str) -> tuple[str | None, ...]:
    """The keys of the packs that the weights of a training have read: its own, then those of what it started from.

    Read from its latest checkpoint; empty if it has none that can be read. None: a model whose packs are not known.
    """
    for folder in reversed(checkpoints(training)):
        try:
            state = storage.read_json(storage.join(folder, MANIFEST))
            start = Start.model_validate(state["start"]) if state.get("start") else None
            return (str(state["run_key"]), *(one.run_key for one in (start.chain() if start else ())))
        except (CheckFailed, KeyError, TypeError, ValueError):
            continue
    return ()


def trainings_of(root: str, key: str) -> list[str]:
    """The training folders below a root whose weights have read the packs of this key, and those whose keys cannot be
    read."""
    keys = {training: run_keys_of(training) for training in trainings(root)}
    return [training for training, own in keys.items() if key in own or not own]


def evaluation_folders(root: str) -> list[str]:
    """The folders of all evaluations below a root, also of those that are not finished."""
    parent = storage.join(root, EVALUATIONS)
    return [storage.join(parent, name) for name in storage.folders(parent)]
