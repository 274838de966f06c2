"""Which checkpoint a person means."""

from __future__ import annotations

from pathlib import Path

from pipelines.errors import RunError
from training import checkpoint as checkpoints


def find_checkpoint(name: str, root: str) -> str:
    """A checkpoint's folder, a training folder (its latest), or `latest`: the newest of all trainings below `root`.

    Errors: RunError where there is none.
    """
    if Path(name).is_dir():
        return name
    trainings = Path(root) / "training"
    found = [last for folder in sorted(trainings.glob("*")) if (last := checkpoints.latest(folder)) is not None]
    if name != "latest" or not found:
        raise RunError(f"{name}: no such checkpoint; `winnow train latest --root {root}` makes one below {trainings}")
    return str(max(found, key=lambda one: (one.folder / "checkpoint.json").stat().st_mtime_ns).folder)
