"""Which trainings and checkpoints are there? Their folders, found without importing torch."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from typing import Any

from pipelines.errors import RunError
from pipelines.ledger import storage

MANIFEST = "checkpoint.json"
"""The file of a checkpoint that is written last: a folder that has it is complete."""


ABLATIONS = "ablations"
"""The folder below a root of what ablations leave: their trainings, texts and answers."""

LEASE = ".lease"
"""The folder in a training folder for the lease of the training that writes there."""


def trainings(root: str) -> list[str]:
    """The training folders below `root`, sorted."""
    folder = storage.join(root, "training")
    return [storage.join(folder, name) for name in storage.folders(folder)]


def proxies(root: str) -> list[str]:
    """The training folders of ablations below `root`, sorted."""
    folder = storage.join(root, ABLATIONS, "proxies")
    return [storage.join(folder, name) for name in storage.folders(folder)]


def all_trainings(root: str) -> list[str]:
    """The training folders below `root`, then those of ablations."""
    return [*trainings(root), *proxies(root)]


def ablation_texts(root: str) -> list[str]:
    """The tables of texts by which ablations below `root` judge, sorted."""
    folder = storage.join(root, ABLATIONS, "texts")
    return [storage.join(folder, name) for name in storage.files(folder)]


def checkpoints(training: str) -> list[str]:
    """The folders of the complete checkpoints of a training, in order of steps."""
    found = (name.split("/") for name in storage.sizes(training))  # one request, where each folder took one
    steps = sorted(parts[0] for parts in found if len(parts) == 2 and parts[1] == MANIFEST)
    return [storage.join(training, step) for step in steps if step.startswith("step-")]


def step_of(checkpoint: str) -> int:
    """The step in the name of a checkpoint's folder."""
    return int(posixpath.basename(checkpoint.rstrip("/")).removeprefix("step-"))


def digest_of(state: Mapping[str, Any]) -> str:
    """The digest of the content of a `checkpoint.json`, whatever its `digest` says: xxh3-128 of its canonical JSON."""
    content = {name: value for name, value in state.items() if name != "digest"}
    return storage.digest_of(json.dumps(content, sort_keys=True).encode())


def find_checkpoint(name: str, root: str, but: str | None = None) -> str:
    """The folder that `name` means: a checkpoint's folder, a training folder, or `latest` for the newest checkpoint of
    all trainings below `root`.

    but: a training folder in which `latest` does not look.

    Raises:
        RunError: if there is none.
    """
    if storage.is_folder(name):
        return name
    others = [one for one in trainings(root) if but is None or storage.absolute(one) != storage.absolute(but)]
    newest = [folders[-1] for training in others if (folders := checkpoints(training))]
    if name != "latest" or not newest:
        place = storage.join(root, "training")
        raise RunError(f"{name}: no such checkpoint; `winnow train latest --root {root}` makes one below {place}")
    return max(newest, key=lambda folder: storage.modified(storage.join(folder, MANIFEST)))
