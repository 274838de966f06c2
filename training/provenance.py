"""Which run made a checkpoint's packs, and which rows did a training step read? (`row_use` has the way back.)

The packs of a step follow from its number (training/batches.py), so nothing but the packs is needed to answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from pipelines.audit.scores import scores
from pipelines.errors import RunError, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.runs import RecordedRun, open_run, run_that_made
from pipelines.ledger.storage import FileRef
from pipelines.steps.pack import PACK, pack_files
from pipelines.steps.products import TOKENIZER_JSON
from pipelines.steps.train_tokenizer import TOKENIZER
from training import checkpoint as checkpoints
from training import journal
from training.batches import Packs, batch_of_step, packs_of_step
from training.export import is_transformers
from training.start import Start

# ------------------------------------------------------------------------------------------ checkpoints, runs and packs


def run_of(checkpoint: str, root: str) -> RecordedRun | None:
    """The recorded run below `root` that made the packs of a checkpoint; None if it is not there."""
    if is_transformers(checkpoint):
        return None
    return run_that_made(root, checkpoints.read(checkpoint).state.run_key)


class Earlier(NamedTuple):
    """What a training started from, and the recorded run that made the packs which that was trained on, if known."""

    start: Start
    run: RecordedRun | None


def earlier_of(checkpoint: str, root: str) -> list[Earlier]:
    """What a checkpoint's training started from, what that started from, and so on; none for initial weights."""
    if is_transformers(checkpoint):
        return []
    start = checkpoints.read(checkpoint).state.start
    return [
        Earlier(one, run_that_made(root, one.run_key) if one.run_key else None)
        for one in (start.chain() if start else ())
    ]


class PackFiles(NamedTuple):
    """The data of a training: pack shards and their tokenizer.

    key: the pack step's key, or the fingerprint of the shards. files: shards and tokenizer as their manifests know
    them; none where they lie in a folder.
    """

    shards: list[str]
    tokenizer: str
    key: str
    files: tuple[FileRef, ...] = ()


def check_packs(packs: PackFiles, watch: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Check that packs and tokenizer have the digests of their manifests. Those on an object store are not read.

    watch: called with the bytes read and the bytes of all files, after each.

    Raises: CheckFailed: naming the first file that changed since it was written.
    """
    local = [file for file in packs.files if storage.is_local(file.path)]
    total, done = sum(file.bytes for file in local), 0
    for file in local:
        with storage.verified([file]):
            storage.check_digest(file.path)
        done += file.bytes
        watch(done, total)


def find_packs(run: str, root: str) -> PackFiles:
    """The packs of a recorded run below `root`, or of a folder that holds *.arrow shards and a tokenizer.json.

    Raises:
        RunError: if there is neither.
    """
    if storage.is_folder(run):
        folder = storage.absolute(run)
        places = (folder, storage.join(folder, "shards"))
        shards = sorted(
            storage.join(place, name) for place in places for name in storage.files(place) if name.endswith(".arrow")
        )
        tokenizer = storage.join(folder, "tokenizer.json")
        if not shards or not storage.exists(tokenizer):
            raise RunError(f"{run}: to train on a folder it must hold *.arrow pack shards and their tokenizer.json")
        return PackFiles(shards, tokenizer, Packs(shards).fingerprint())
    recorded = open_run(root, run)
    packs, tokenizers = recorded.step(PACK.name), recorded.step(TOKENIZER.name)
    if packs is None or tokenizers is None:
        raise RunError(f"run {recorded.id} has no packs; name a run of `winnow build` (a scan makes none)")
    tokenizer_json, made = tokenizers.file(TOKENIZER_JSON), pack_files(packs)
    return PackFiles([file.path for file in made], tokenizer_json.path, packs.key, (tokenizer_json, *made))


# --------------------------------------------------------------------------------------------------- step to its rows


class TracedRow(BaseModel):
    """A row that a step read. pack: index of its pack in training order, from 0. scores: its `score_*` columns."""

    model_config = ConfigDict(frozen=True)

    pack: int
    id: str
    source: str
    scores: dict[str, float | None]


class TracedStep(BaseModel):
    """The rows that a training step read, in the order of the batch. `winnow trace --json` prints it.

    checkpoint: folder. run: that made the packs, None for packs in a folder. digest: of the batch. same: whether
    metrics.jsonl has that digest, None if it does not have the step. start: what the training started from, which read
    other rows; left out if there is none.
    """

    model_config = ConfigDict(frozen=True)

    checkpoint: str
    run: str | None
    step: int
    total_steps: int
    epoch: int
    digest: str
    same: bool | None
    rows: tuple[TracedRow, ...]
    start: Start | None = Field(default=None, exclude_if=lambda value: value is None)


def trace(checkpoint: str, step: int, root: str, packs: str | None = None) -> TracedStep:
    """The rows that `step` (from 1) of a checkpoint's training read.

    packs: a folder of pack shards, if the training was on such a folder. Else the run below `root` that made the packs
    is looked up.

    Raises:
        WinnowError: if the training has no such step.
        RunError: if its packs cannot be found.
    """
    last = checkpoints.read(checkpoint)
    state = last.state
    if not 1 <= step <= state.total_steps:
        raise WinnowError(f"--step {step}: the training of {last.folder} has steps 1 to {state.total_steps}")
    run = run_of(checkpoint, root) if packs is None else None
    if run is None and packs is None:
        raise RunError(f"{last.folder}: no run below {root} made its packs; name their folder: --packs FOLDER")
    files = find_packs(packs or (run.id if run else ""), root)
    if files.key != state.run_key:
        raise RunError(f"--packs {packs}: not what {last.folder} was trained on ({files.key}, not {state.run_key})")
    size = state.config.batch_packs
    shards = Packs(files.shards)
    batch = batch_of_step(shards, step, size)
    pack_of_row = [index for index in packs_of_step(step, size) for _ in shards[index].ids]
    training = last.folder.rstrip("/").rpartition("/")[0]
    recorded = next((line["digest"] for line in journal.read_metrics(training) if line["step"] == step), None)
    rows = scores(run, batch.ids).to_pylist() if run else [{"id": name} for name in batch.ids]
    return TracedStep(
        checkpoint=last.folder,
        run=run.id if run else None,
        step=step,
        total_steps=state.total_steps,
        epoch=batch.epoch,
        digest=batch.digest,
        same=None if recorded is None else recorded == batch.digest,
        rows=tuple(
            TracedRow(
                pack=pack,
                id=row["id"],
                source=row.get("source") or row["id"].split("/")[0],
                scores={name: value for name, value in row.items() if name.startswith("score_")},
            )
            for pack, row in zip(pack_of_row, rows, strict=True)
        ),
        start=state.start,
    )
