"""Checkpoints: the complete state of a training run, so that it continues exactly where it stopped.

    OUT/step-00000123/  model.safetensors      weights
                        ema.safetensors        their moving average: used for evaluation and export
                        optimizer.safetensors  exp_avg.<name>, exp_avg_sq.<name>
                        rng.safetensors        the states of torch's random generators
                        tokenizer.json
                        checkpoint.json        step, epoch, cursor, schedule, configuration, data; written last

OUT is a local folder or the URL of an object store. A checkpoint is complete if it has a `checkpoint.json`: a local one
is written aside and renamed, a remote one is uploaded with that file last (pipelines/ledger/storage.py). The latest
checkpoint is the one with the highest step in its folder's name; there is no pointer that could be out of date.

The tensors are full, for any number of workers, and the first worker writes them. A run may therefore continue with
another number of workers. `snapshot` copies the state, and `write` may run in a thread afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.errors import RunError
from pipelines.ledger import storage
from training.configs import TrainConfig
from training.folders import MANIFEST, checkpoints
from training.model import HrmText
from training.optimizer import AdamAtan2
from training.parallel import LocalShards, gather_full, rank_and_world, shard_of

FORMAT = 1
"""Version of the files; increased when they change incompatibly."""


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


class Checkpoint(NamedTuple):
    """A complete checkpoint: its folder (a path or URL) and the content of its `checkpoint.json`."""

    folder: str
    state: TrainingState


Tensors = dict[str, dict[str, Tensor]]
"""File -> tensor name -> tensor. Copies on the CPU, not shared with the model."""


def snapshot(model: HrmText, shards: LocalShards, optimizer: AdamAtan2) -> Tensors:
    """Copy weights, average, moments and random states. Training may continue as soon as it returns.

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
    return tensors


def write(out: str, state: TrainingState, tensors: Tensors, tokenizer: str, keep: int) -> Checkpoint:
    """Write the checkpoint of `state.step` below `out`, then remove all checkpoints except the latest `keep`.

    A checkpoint of the same step is replaced: a run that was set back to an earlier step passes it again.
    """
    folder = storage.join(out, f"step-{state.step:08d}")
    with storage.write_folder(folder, last=MANIFEST) as aside:
        for file, named in tensors.items():
            save_file(named, aside / f"{file}.safetensors")
        (aside / "tokenizer.json").write_bytes(storage.read_bytes(tokenizer))
        (aside / MANIFEST).write_text(state.model_dump_json(indent=1) + "\n")
    for outdated in checkpoints(out)[:-keep]:
        storage.remove(outdated)
    return Checkpoint(folder, state)


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
    try:
        with contextlib.ExitStack() as opened, torch.no_grad():
            last, ema, moments, rng = (
                opened.enter_context(_open_tensors(storage.join(checkpoint.folder, f"{file}.safetensors")))
                for file in ("model", "ema", "optimizer", "rng")
            )
            for name, buffer in model.named_buffers():
                buffer.copy_(last.get_tensor(name))
            for name, (parameter, local) in shards.items():
                local.copy_(shard_of(last.get_tensor(name), parameter))
                optimizer.state.pop(local, None)
                if name in optimizer_steps:
                    optimizer.state[local] = {
                        "step": optimizer_steps[name],
                        "exp_avg": shard_of(moments.get_tensor(f"exp_avg.{name}"), parameter),
                        "exp_avg_sq": shard_of(moments.get_tensor(f"exp_avg_sq.{name}"), parameter),
                        "param_ema": shard_of(ema.get_tensor(name), parameter),
                    }
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
    path = storage.join(checkpoint.folder, f"{'ema' if average else 'model'}.safetensors")
    with torch.device("meta"):
        model = HrmText(checkpoint.state.config.model)
    try:
        with storage.local_copy(path) as local:
            tensors: dict[str, Tensor] = load_file(local)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from None
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint.folder}: the tensors do not match its configuration: {error}") from None
    return model.eval().requires_grad_(False)


@contextlib.contextmanager
def _open_tensors(path: str) -> Iterator[Any]:
    """A mapped safetensors file. A remote one is downloaded for as long as it is open."""
    with contextlib.ExitStack() as opened:
        try:
            local = opened.enter_context(storage.local_copy(path))
            tensors = opened.enter_context(safe_open(local, framework="pt"))
        except (OSError, SafetensorError) as error:
            raise _damaged(path, error) from None
        yield tensors


def _damaged(path: str, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} is missing or damaged ({error}); use an earlier checkpoint")
