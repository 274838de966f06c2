"""Checkpoints: all that a run needs to carry on as if nothing had happened.

    OUT/step-00000123/  model.safetensors      weights
                        ema.safetensors        their moving average: what is evaluated and exported
                        optimizer.safetensors  exp_avg.<name>, exp_avg_sq.<name>
                        rng.safetensors        the state of torch's generators
                        tokenizer.json
                        checkpoint.json        step, epoch, cursor, schedule, configuration, data; written last

A checkpoint is written into a folder aside and renamed when its `checkpoint.json` is in, so a folder named `step-...`
is whole; which is the latest is read off the folder names, there is no pointer that could be stale.

The tensors are whole, whether one worker held them or many a piece each, and the first worker writes: a run may carry
on with any number of workers. `snapshot` copies what a step left, and `write` may then take its time in a thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.errors import RunError
from training.configs import TrainConfig
from training.model import HrmText
from training.optimizer import AdamAtan2
from training.parallel import Weights, cut, rank_and_world, whole

FORMAT = 1


class CheckpointError(RunError):
    """A checkpoint that is missing, damaged, or of another run; the message says which and what to do."""


class Progress(BaseModel):
    """`checkpoint.json`: where a run stands and what run it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    run_key: str  # names the data: the pack step's key, or the fingerprint of the shards
    config: TrainConfig
    total_steps: int  # the schedule's length; bp_steps depends on it
    step: int  # steps done
    epoch: int  # of the last pack used
    cursor: int  # packs used: the next step starts there
    special: dict[str, int]  # boq eoq eoa pad and the conditions -> token id
    context: int
    optimizer_steps: dict[str, int]  # per parameter; the embedding has fewer, see training/model.py


class Checkpoint(NamedTuple):
    """A finished checkpoint on disk."""

    folder: Path
    progress: Progress


Tensors = dict[str, dict[str, Tensor]]
"""What a checkpoint's files hold: file -> name -> tensor on the CPU, owned by nobody else."""


def snapshot(model: HrmText, weights: Weights, optimizer: AdamAtan2) -> Tensors:
    """Copy weights, average, moments and random state as they are now; the run may go on at once.

    All workers must ask; the first gets the tensors, whole, the others nothing. Takes 16 bytes of its memory per
    parameter. Raises nothing of its own.
    """
    first = rank_and_world()[0] == 0
    made: Tensors = {name: {} for name in ("model", "ema", "optimizer", "rng")}

    def copy(file: str, name: str, held: Tensor, parameter: Tensor) -> None:
        full = whole(held, parameter)
        if first:
            made[file][name] = full.to("cpu", copy=True).contiguous()

    for name, (parameter, held) in weights.items():
        copy("model", name, held, parameter)
        copy("ema", name, optimizer.average(held), parameter)
        if held in optimizer.state:
            for moment in ("exp_avg", "exp_avg_sq"):
                copy("optimizer", f"{moment}.{name}", optimizer.state[held][moment], parameter)
    for name, buffer in model.named_buffers():
        for file in ("model", "ema"):
            copy(file, name, buffer, buffer)
    made["rng"]["torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        made["rng"]["cuda"] = torch.cuda.get_rng_state()
    return made


def write(out: Path, progress: Progress, tensors: Tensors, tokenizer: Path, keep: int) -> Checkpoint:
    """Write the checkpoint of `progress.step` below `out`, then remove all but the latest `keep`."""
    folder = out / f"step-{progress.step:08d}"
    aside = out / f".{folder.name}.{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, named in tensors.items():
        save_file(named, aside / f"{name}.safetensors")
    shutil.copyfile(tokenizer, aside / "tokenizer.json")
    manifest = aside / "checkpoint.json"
    for path in aside.iterdir():
        _flush(path)
    manifest.write_text(progress.model_dump_json(indent=1) + "\n")
    for path in (manifest, aside):
        _flush(path)
    if folder.exists():  # a run that was set back to an earlier step comes by again
        shutil.rmtree(folder)
    aside.rename(folder)
    _flush(out)
    for old in _folders(out)[:-keep]:
        shutil.rmtree(old)
    return Checkpoint(folder, progress)


def latest(out: Path) -> Checkpoint | None:
    """The furthest finished checkpoint below `out`; None when there is none."""
    folders = _folders(out)
    return read(folders[-1]) if folders else None


def read(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`; for a run folder, its latest. Raises CheckpointError when there is none."""
    if not (folder / "checkpoint.json").is_file():
        folders = _folders(folder)
        if not folders:
            raise CheckpointError(f"{folder}: no checkpoint there; give a training run's folder, or a step-... in it")
        folder = folders[-1]
    try:
        said = json.loads((folder / "checkpoint.json").read_text())
        if said.get("format") != FORMAT:
            raise CheckpointError(f"{folder}: checkpoint format {said.get('format')}, this version reads {FORMAT}")
        return Checkpoint(folder, Progress.model_validate(said))
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{folder}/checkpoint.json is damaged: {error}") from None


def restore(checkpoint: Checkpoint, model: HrmText, weights: Weights, optimizer: AdamAtan2) -> None:
    """Put weights, optimiser, average and random state back, bit for bit, whatever number of workers wrote them.

    Each worker reads the files itself, a tensor at a time, and keeps its pieces.
    """
    had = checkpoint.progress.optimizer_steps
    try:
        with contextlib.ExitStack() as opened, torch.no_grad():
            last, ema, moments, rng = (
                opened.enter_context(_open(checkpoint.folder / f"{name}.safetensors"))
                for name in ("model", "ema", "optimizer", "rng")
            )
            for name, buffer in model.named_buffers():
                buffer.copy_(last.get_tensor(name))
            for name, (parameter, held) in weights.items():
                held.copy_(cut(last.get_tensor(name), parameter))
                optimizer.state.pop(held, None)
                if name in had:
                    optimizer.state[held] = {
                        "step": had[name],
                        "exp_avg": cut(moments.get_tensor(f"exp_avg.{name}"), parameter),
                        "exp_avg_sq": cut(moments.get_tensor(f"exp_avg_sq.{name}"), parameter),
                        "param_ema": cut(ema.get_tensor(name), parameter),
                    }
            torch.set_rng_state(rng.get_tensor("torch"))
            if torch.cuda.is_available() and "cuda" in rng.keys():  # noqa: SIM118 - not a mapping
                torch.cuda.set_rng_state(rng.get_tensor("cuda"))
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{checkpoint.folder}: the tensors are not those of its configuration: {error}") from None


def load_model(checkpoint: Checkpoint, average: bool = True) -> HrmText:
    """The model alone, in float32, ready to be asked: the moving average of the weights, or the last ones."""
    with torch.device("meta"):
        model = HrmText(checkpoint.progress.config.model)
    try:
        model.load_state_dict(_read(checkpoint.folder / f"{'ema' if average else 'model'}.safetensors"), assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint.folder}: the tensors are not those of its configuration: {error}") from None
    return model.eval().requires_grad_(False)


def clear_leftovers(out: Path) -> None:
    """Remove what a killed writer left half-written."""
    for path in out.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def _folders(out: Path) -> list[Path]:
    """Finished checkpoints, in order of steps."""
    return sorted(path for path in out.glob("step-*") if (path / "checkpoint.json").is_file())


def _read(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error}); use an earlier checkpoint") from None


def _open(path: Path) -> Any:
    """A file of tensors, mapped."""
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error}); use an earlier checkpoint") from None


def _flush(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
