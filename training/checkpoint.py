"""Checkpoints: the complete state of a training run, so that it continues exactly where it stopped.

    OUT/step-00000123/  model.safetensors      weights
                        ema.safetensors        their moving average: used for evaluation and export
                        optimizer.safetensors  exp_avg.<name>, exp_avg_sq.<name>
                        rng.safetensors        the states of torch's random generators
                        lora.safetensors       only of a training of low-rank updates (training/lora.py)
                        tokenizer.json
                        checkpoint.json        step, epoch, cursor, schedule, configuration, data; written last

OUT is a local folder or the URL of an object store. A checkpoint is complete if it has a `checkpoint.json`: a local one
is written aside and renamed, a remote one is uploaded with that file last (pipelines/ledger/storage.py). The latest
checkpoint is the one with the highest step in its folder's name; there is no pointer that could be out of date.

The tensors are full, for any number of workers, and the first worker writes them. A run may therefore continue with
another number of workers. `snapshot` copies the state, and `write` may run in a thread afterwards.

`checkpoint.json` has a digest of every other file, which is checked before a file is used, and one of itself. One
training at a time writes to a folder: it holds the lease OUT/.lease.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.errors import CheckFailed, RunError
from pipelines.ledger import storage
from pipelines.ledger.lease import Busy, Lease, hold
from training.configs import TrainConfig
from training.folders import LEASE, MANIFEST, checkpoints, digest_of
from training.lora import FILE, merge
from training.model import HrmText
from training.optimizer import AdamAtan2
from training.parallel import LocalShards, gather_full, publish, rank_and_world, shard_of
from training.start import Start

FORMAT = 1
"""Version of the files; increased when they change incompatibly."""


LOCK_SECONDS = 10.0
"""How long a training waits for one that lives: workers that are restarted may meet the last ones' end."""

BYTES_PER_PARAMETER = 16
"""Of a checkpoint: weight, average and two moments in float32."""


class CheckpointError(RunError):
    """A checkpoint that is missing, damaged or of another run. The message says which, and what to do."""


class TrainingState(BaseModel):
    """`checkpoint.json`: which run this is, and how far it has come."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    run_key: str  # identifies the data: the pack step's key, or the fingerprint of the shards
    config: TrainConfig
    total_steps: int  # length of the schedule; bp_steps depends on it
    step: int  # steps completed
    epoch: int  # of the last pack used
    cursor: int  # packs used; the next step starts there
    special: dict[str, int]  # boq eoq eoa pad and the conditions -> token id
    context: int
    optimizer_steps: dict[str, int]  # per parameter; the embedding has fewer, see training/model.py
    start: Start | None = Field(default=None, exclude_if=lambda value: value is None)  # of `config.start`
    digests: dict[str, str] = {}  # file -> xxh3-128 of its bytes
    digest: str = ""  # of this file without this line, see `digest_of`; empty in checkpoints of earlier versions


class Checkpoint(NamedTuple):
    """A complete checkpoint: its folder (a path or URL) and the content of its `checkpoint.json`."""

    folder: str
    state: TrainingState


@contextlib.contextmanager
def locked(out: str, name: str = LEASE) -> Iterator[Lease]:
    """Hold a lease of a training folder (pipelines/ledger/lease.py). That of a dead training is taken over.

    Raises:
        CheckpointError: if another process holds it and lives.
    """
    try:
        with hold(storage.join(out, name), "a training", patience=LOCK_SECONDS) as lease:
            yield lease
    except Busy as error:
        raise CheckpointError(
            f"{out}: {error.holder} is writing there; wait for it to end, or name another output folder with --out"
        ) from None


def check_space(out: str, model: HrmText) -> None:
    """Check that the disk of a local training folder has room for a checkpoint.

    Raises:
        CheckpointError: if not.
    """
    if not storage.is_local(out):
        return
    needed = BYTES_PER_PARAMETER * sum(parameter.numel() for parameter in model.parameters())
    folder = Path(storage.absolute(out))
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise CheckpointError(
            f"{out}: a checkpoint takes {needed / 1e9:,.2f} GB, and {free / 1e9:,.2f} GB are free on that disk; "
            "free some space, or name another output folder with --out"
        )


Tensors = dict[str, dict[str, Tensor]]
"""File -> tensor name -> tensor. Copies on the CPU, not shared with the model."""


def snapshot(model: HrmText, shards: LocalShards, optimizer: AdamAtan2, config: TrainConfig) -> Tensors:
    """Copy weights, average, moments and random states. Training may continue as soon as it returns.

    Low-rank updates are merged into weights and average.

    All workers must call it. The first worker gets the full tensors, the others empty dicts. The copy takes 16 bytes of
    the first worker's memory per parameter.
    """
    is_first = rank_and_world()[0] == 0
    tensors: Tensors = {file: {} for file in ("model", "ema", "optimizer", "rng")}

    def copy(file: str, name: str, local: Tensor, parameter: Tensor) -> None:
        full = gather_full(local, parameter)
        if is_first:
            tensors[file][name] = full.to("cpu", copy=True).contiguous()

    for name, (parameter, local) in shards.items():
        copy("model", name, local, parameter)
        copy("ema", name, optimizer.average(local), parameter)
        if local in optimizer.state:
            for moment in ("exp_avg", "exp_avg_sq"):
                copy("optimizer", f"{moment}.{name}", optimizer.state[local][moment], parameter)
    for name, buffer in model.named_buffers():
        for file in ("model", "ema"):
            copy(file, name, buffer, buffer)
    tensors["rng"]["torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng"]["cuda"] = torch.cuda.get_rng_state()
    if config.lora_rank and is_first:
        merge(tensors, config.lora_scale)
    return tensors


def write(out: str, state: TrainingState, tensors: Tensors, tokenizer: str, keep: int) -> Checkpoint:
    """Write the checkpoint of `state.step` below `out`, then remove all checkpoints except the latest `keep`.

    A checkpoint of the same step is replaced: a run that was set back to an earlier step passes it again.

    Raises:
        CheckpointError: if it cannot be written, because the disk is full, for example. Nothing of it remains.
        CheckFailed: if a weight is not a finite number. Nothing is written.
    """
    for file, named in tensors.items():
        for name, tensor in named.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise CheckFailed(
                    f"step {state.step}: {file} {name} is not finite, so no checkpoint is written; {last_good(out)}"
                )
    folder = storage.join(out, f"step-{state.step:08d}")
    with writing_to(out), storage.write_folder(folder, last=MANIFEST) as aside:
        for file, named in tensors.items():
            save_file(named, aside / f"{file}.safetensors")
        (aside / "tokenizer.json").write_bytes(storage.read_bytes(tokenizer))
        digests = {path.name: storage.digest(str(path)) for path in sorted(aside.iterdir())}
        state = state.model_copy(update={"digests": digests})
        state = state.model_copy(update={"digest": digest_of(json.loads(state.model_dump_json()))})
        (aside / MANIFEST).write_text(state.model_dump_json(indent=1) + "\n")
    for outdated in checkpoints(out)[:-keep]:
        storage.remove(outdated)
    return Checkpoint(folder, state)


@contextlib.contextmanager
def writing_to(out: str) -> Iterator[None]:
    """Turn an error of the disk into one that says what to do.

    Raises:
        CheckpointError: if the block cannot write.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{out}: cannot be written to ({reason}); free some space or make the folder writable, then run the same "
            f"command again: {last_good(out)}"
        ) from error


def last_good(out: str) -> str:
    """The latest checkpoint below `out`, as the end of an error message."""
    complete = checkpoints(out)
    return f"the last good checkpoint is {complete[-1]}" if complete else "there is no earlier checkpoint"


def check_files(checkpoint: Checkpoint, *files: str) -> None:
    """Check the digests of these files of a checkpoint.

    Raises:
        CheckpointError: naming a file that is missing or does not have its digest.
    """
    digests = checkpoint.state.digests
    for file in files:
        path = storage.join(checkpoint.folder, file)
        try:
            if file in digests and storage.digest(path) != digests[file]:
                raise _damaged(path, "its bytes changed after it was written")
        except OSError as error:
            raise _damaged(path, error) from None


def latest(out: str) -> Checkpoint | None:
    """The complete checkpoint with the highest step below `out`; None if there is none."""
    complete = checkpoints(out)
    return read(complete[-1]) if complete else None


def read(folder: str) -> Checkpoint:
    """The checkpoint in `folder`, or the latest one if `folder` is a training folder.

    Raises:
        CheckpointError: if there is none, or its `checkpoint.json` is damaged or of another format.
    """
    if not storage.exists(storage.join(folder, MANIFEST)):
        complete = checkpoints(folder)
        if not complete:
            raise CheckpointError(f"{folder}: no checkpoint there; name a training folder, or a step-... folder in one")
        folder = complete[-1]
    try:
        value = storage.read_json(storage.join(folder, MANIFEST))
        if value.get("format") != FORMAT:
            raise CheckpointError(f"{folder}: checkpoint format {value.get('format')}; this version reads {FORMAT}")
        return Checkpoint(folder, TrainingState.model_validate(value))
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{folder}/{MANIFEST} is damaged: {error}") from None


def restore(checkpoint: Checkpoint, model: HrmText, shards: LocalShards, optimizer: AdamAtan2) -> None:
    """Restore weights, optimiser state, average and random states bit for bit, for any number of workers.

    Each worker reads the files itself, one tensor at a time, and keeps its shards.

    Raises:
        CheckpointError: if a file is missing or damaged, or its tensors are not those of the model.
    """
    optimizer_steps = checkpoint.state.optimizer_steps
    names = ("model", "ema", "optimizer", "rng", *((FILE,) if checkpoint.state.config.lora_rank else ()))
    files = [f"{file}.safetensors" for file in names]
    check_files(checkpoint, *sorted(checkpoint.state.digests.keys() - files))
    try:
        with contextlib.ExitStack() as opened, torch.no_grad():
            last, ema, moments, rng, *lora = (opened.enter_context(_open_tensors(checkpoint, file)) for file in files)
            unmerged = dict.fromkeys(lora[0].keys(), lora[0]) if lora else {}
            for name, buffer in model.named_buffers():
                buffer.copy_(last.get_tensor(name))
            for name, (parameter, local) in shards.items():
                key = next((one for one in (f"base.{name}", f"model.{name}") if one in unmerged), None)
                local.copy_(shard_of(unmerged[key].get_tensor(key) if key else last.get_tensor(name), parameter))
                optimizer.state.pop(local, None)
                if name in optimizer_steps:
                    optimizer.state[local] = {
                        "step": optimizer_steps[name],
                        "exp_avg": shard_of(moments.get_tensor(f"exp_avg.{name}"), parameter),
                        "exp_avg_sq": shard_of(moments.get_tensor(f"exp_avg_sq.{name}"), parameter),
                        "param_ema": shard_of(
                            lora[0].get_tensor(f"ema.{name}") if lora else ema.get_tensor(name), parameter
                        ),
                    }
            publish(shards)
            torch.set_rng_state(rng.get_tensor("torch"))
            if torch.cuda.is_available() and "cuda" in rng.keys():  # noqa: SIM118 - not a mapping
                torch.cuda.set_rng_state(rng.get_tensor("cuda"))
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{checkpoint.folder}: the tensors do not match its configuration: {error}") from None


def read_model(checkpoint: Checkpoint, average: bool = True) -> HrmText:
    """The model in float32, without gradients: the moving average of the weights, or the last weights.

    Raises:
        CheckpointError: if the file is missing or damaged, or its tensors are not those of the configuration.
    """
    file = f"{'ema' if average else 'model'}.safetensors"
    with torch.device("meta"):
        model = HrmText(checkpoint.state.config.model)
    try:
        with _checked_copy(checkpoint, file) as local:
            tensors: dict[str, Tensor] = load_file(local)
    except (OSError, SafetensorError) as error:
        raise _damaged(storage.join(checkpoint.folder, file), error) from None
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint.folder}: the tensors do not match its configuration: {error}") from None
    return model.eval().requires_grad_(False)


@contextlib.contextmanager
def _checked_copy(checkpoint: Checkpoint, file: str) -> Iterator[str]:
    """A local path of a file of a checkpoint, which has its digest. A remote file is read once."""
    path, digest = storage.join(checkpoint.folder, file), checkpoint.state.digests.get(file)
    with storage.local_copy(path) as local:
        if digest is not None and storage.digest(local) != digest:
            raise _damaged(path, "its bytes changed after it was written")
        yield local


@contextlib.contextmanager
def _open_tensors(checkpoint: Checkpoint, file: str) -> Iterator[Any]:
    """A mapped safetensors file. A remote one is downloaded for as long as it is open."""
    with contextlib.ExitStack() as opened:
        try:
            local = opened.enter_context(_checked_copy(checkpoint, file))
            tensors = opened.enter_context(safe_open(local, framework="pt"))
        except (OSError, SafetensorError) as error:
            raise _damaged(storage.join(checkpoint.folder, file), error) from None
        yield tensors


def _damaged(path: str, error: Exception | str) -> CheckpointError:
    return CheckpointError(
        f"{path} is missing or damaged ({error}); use an earlier checkpoint: remove this one's folder to resume from it"
    )
