"""Which checkpoint, run or packs a person means. Knows nothing of Prefect and Ray, which take seconds to load."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pipelines.errors import RunError
from pipelines.ledger import storage
from pipelines.ledger.runs import RecordedRun, open_run, run_that_made
from pipelines.steps.pack import PACK, pack_files
from pipelines.steps.train_tokenizer import TOKENIZER, TOKENIZER_JSON
from training import checkpoint as checkpoints
from training.batches import Packs
from training.export import is_transformers


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


def run_of(checkpoint: str, root: str) -> RecordedRun | None:
    """The recorded run under `root` whose packs the checkpoint was trained on; None when it is not there."""
    if is_transformers(checkpoint):
        return None
    key = checkpoints.read(Path(checkpoint)).progress.run_key
    return run_that_made(root, key)


class Packed(NamedTuple):
    """What there is to train on."""

    shards: list[str]
    tokenizer: str
    key: str  # the pack step's key, or the shards' fingerprint


def find_packs(run: str, root: str) -> Packed:
    """The packs of a recorded run under `root`, or of a folder that holds *.arrow shards and a tokenizer.json.

    Raises RunError where there is neither.
    """
    folder = Path(run)
    if folder.is_dir():
        shards = sorted(str(path.resolve()) for path in (*folder.glob("*.arrow"), *folder.glob("shards/*.arrow")))
        tokenizer = folder / "tokenizer.json"
        if not shards or not tokenizer.is_file():
            raise RunError(f"{run}: to train on a folder it must hold *.arrow pack shards and their tokenizer.json")
        return Packed(shards, str(tokenizer.resolve()), Packs(shards).fingerprint())
    found = open_run(root, run)
    packs, tokenizers = found.step(PACK.name), found.step(TOKENIZER.name)
    if packs is None or tokenizers is None:
        raise RunError(f"run {found.id} has no packs; name a run that `winnow build` made (a scan ends with text)")
    paths = [file.path for file in pack_files(packs)]
    if not storage.is_local(root):
        raise RunError(f"{root}: training maps its shards, so they must lie on a file system; copy the run to a folder")
    return Packed(paths, tokenizers.file(TOKENIZER_JSON).path, packs.key)
