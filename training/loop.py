"""The training loop: the same on one CPU and inside Ray Train, where torch.distributed is up before it is called.

What makes a run repeat itself bit for bit: a step's packs follow from its number (training/batches.py), weights from
the seed and their names, and a checkpoint holds all the rest. What keeps it the same on any number of workers: losses
are divided by the labels of the whole step, and gradients are added up, not averaged. So a gradient does not grow with
the number of workers, as upstream's does (there it is harmless only because Adam-atan2 ignores scale).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from pipelines.errors import CheckFailed
from training import checkpoint
from training.attention import attend
from training.batches import Batch, Packs, ShardError, batches
from training.checkpoint import Checkpoint, CheckpointError, Progress
from training.configs import DTYPES, TrainConfig, bp_steps, learning_rate
from training.model import HrmText, build
from training.optimizer import AdamAtan2

METRICS = "metrics.jsonl"

Metrics = dict[str, Any]
"""A line of metrics.jsonl: step, total_steps, epoch, loss (mean CE per label, nats), token_accuracy, sequence_accuracy
(share of sequences whose every label is right), grad_norm, lr, bp_steps, inputs and labels (tokens of the step), digest
(of its packs), seconds, tokens_per_second (inputs) and input_wait (share of the step's time spent waiting for data)."""


def train(
    shards: Sequence[str],
    tokenizer: str,
    config: TrainConfig,
    out: str,
    run_key: str | None = None,
    on_step: Callable[[Metrics], None] | None = None,
) -> Metrics:
    """Train on pack shards until the schedule ends; carry on from the latest checkpoint below `out` if there is one.

    tokenizer: path of the tokenizer.json the shards were made with; every checkpoint gets a copy.
    run_key: a name for the data (the pack step's key); by default the fingerprint of the shards.
    on_step: called by every worker after every step with that step's metrics.

    Writes `out`/metrics.jsonl and `out`/step-... (training/checkpoint.py). Returns the last step's metrics with
    `steps`, `checkpoint` (a path), `resumed_from` (a step, 0 for a fresh run) and `tokens` (input tokens of the run).

    Raises ShardError for shards that cannot be trained on, CheckpointError when `out` holds another run's checkpoints,
    CheckFailed when the loss is no longer a number.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    folder = Path(out)
    packs = Packs(shards)
    total_steps = steps_of(config, packs)
    key = run_key or packs.fingerprint()

    torch.manual_seed(config.seed)
    model = build(config.model, config.seed)
    optimizer = AdamAtan2(model.parameters(), config.lr, config.betas, config.weight_decay, config.ema_decay)
    done = _resume(folder, config, key, total_steps, model, optimizer, rank, world)

    if rank == 0:
        _start_log(folder, done)
    dtype = DTYPES[config.precision]
    metrics: Metrics = {}
    clock = time.perf_counter()
    for step, batch in enumerate(
        batches(packs, range(done + 1, total_steps + 1), config.batch_packs, rank, world, dtype, config.objective),
        start=done + 1,
    ):
        waited = time.perf_counter() - clock
        lr, depth = learning_rate(config, step), bp_steps(config, step, total_steps)
        measured = _step(model, optimizer, batch, lr, depth, dtype, world)
        now = time.perf_counter()
        metrics = {
            "step": step,
            "total_steps": total_steps,
            "epoch": batch.epoch,
            **measured,
            "lr": lr,
            "bp_steps": depth,
            "inputs": batch.inputs,
            "labels": batch.labelled,
            "digest": batch.digest,
            "seconds": round(now - clock, 6),
            "tokens_per_second": round(batch.inputs / (now - clock), 1),
            "input_wait": round(waited / (now - clock), 4),
        }
        clock = now
        if not math.isfinite(metrics["loss"]):
            raise CheckFailed(f"step {step}: the loss is {metrics['loss']}; try a lower lr than {config.lr}")
        if rank == 0:
            with (folder / METRICS).open("a") as log:
                log.write(json.dumps(metrics) + "\n")
        if rank == 0 and (step % config.checkpoint_steps == 0 or step == total_steps):
            progress = Progress(
                run_key=key,
                config=config,
                total_steps=total_steps,
                step=step,
                epoch=batch.epoch,
                cursor=step * config.batch_packs,
                special=dict(packs.info.special),
                context=packs.info.context,
                optimizer_steps={
                    name: optimizer.state[p]["step"] for name, p in model.named_parameters() if p in optimizer.state
                },
            )
            checkpoint.save(folder, progress, model, optimizer, Path(tokenizer), config.keep)
        if on_step:
            on_step(metrics)
    if world > 1:
        dist.barrier()  # so that no worker returns before the last checkpoint is whole
    return summary(folder, done)


def summary(out: Path, resumed_from: int = 0) -> Metrics:
    """What a finished run comes to, from its folder: the last step's metrics and where the checkpoint is."""
    last = checkpoint.latest(out)
    assert last is not None, "a finished run has a checkpoint"
    lines = read_metrics(out)
    return {
        **lines[-1],
        "steps": last.progress.step,
        "tokens": sum(line["inputs"] for line in lines),
        "seconds": round(sum(line["seconds"] for line in lines), 3),
        "checkpoint": str(last.folder),
        "resumed_from": resumed_from,
    }


def read_metrics(out: Path) -> list[Metrics]:
    """The lines of a run's metrics.jsonl; none when there is no such file, and without a last line cut short."""
    path = out / METRICS
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}\n")]


def _start_log(out: Path, done: int) -> None:
    """Take the lines of steps that a resumed run does again out of metrics.jsonl."""
    kept = [line for line in read_metrics(out) if line["step"] <= done]
    aside = out / f".{METRICS}"
    aside.write_text("".join(json.dumps(line) + "\n" for line in kept))
    aside.replace(out / METRICS)


def losses(model: HrmText, batch: Batch, depth: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cross entropy of each label [M], float32, and whether the model's first choice was right [M]."""
    arguments = (batch.tokens_N, batch.positions_N, partial(_see, batch), depth, batch.rows_M)
    if dtype == torch.float32:
        logits_MV = model(*arguments)
    else:  # cast once, not once per call: each weight is used two to six times
        weights = {name: p.to(dtype) for name, p in model.named_parameters()}
        logits_MV = torch.func.functional_call(model, weights, arguments)
    loss_M = F.cross_entropy(logits_MV.float(), batch.labels_M, reduction="none")
    return loss_M, logits_MV.detach().argmax(-1) == batch.labels_M


def _see(batch: Batch, slot: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(batch.plan, q, k, v)


def _step(
    model: HrmText, optimizer: AdamAtan2, batch: Batch, lr: float, depth: int, dtype: torch.dtype, world: int
) -> Metrics:
    """One step over all workers; the metrics are theirs together."""
    optimizer.zero_grad(set_to_none=True)
    loss_M, right_M = losses(model, batch, depth, dtype)
    loss = loss_M.sum() / batch.labelled
    loss.backward()  # type: ignore[no-untyped-call]
    wrong_S = torch.zeros(len(batch.ids), dtype=torch.int64).index_add_(0, batch.sequence_M, (~right_M).long())
    sums = torch.stack((loss.detach().double(), right_M.sum().double(), (wrong_S == 0).sum().double()))
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if world > 1:
        together = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(together)
        dist.all_reduce(sums)
        at = 0
        for gradient in gradients:
            gradient.copy_(together[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()
    norm = torch.stack(torch._foreach_norm(gradients)).norm()
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    mean_loss, right, whole = sums.tolist()
    return {
        "loss": mean_loss,
        "token_accuracy": right / batch.labelled,
        "sequence_accuracy": whole / batch.sequences,
        "grad_norm": norm.item(),
    }


def steps_of(config: TrainConfig, packs: Packs) -> int:
    """The steps of a run. Raises ShardError where the data does not fit the configuration."""
    if packs.info.vocab_size > config.model.vocab_size:
        raise ShardError(
            f"{packs.shards[0]}: its vocabulary of {packs.info.vocab_size} tokens does not fit the model's "
            f"{config.model.vocab_size}; make the configuration with the shards' own vocab_size"
        )
    if packs.info.capacity > config.model.max_positions:
        raise ShardError(
            f"{packs.shards[0]}: packed for a context of {packs.info.context} tokens, the model reads "
            f"{config.model.max_positions}; make the configuration with the shards' own context"
        )
    possible = len(packs) // config.batch_packs
    if not possible:
        raise ShardError(
            f"{packs.shards[0]}: {len(packs)} packs do not fill one batch of {config.batch_packs}; "
            "lower batch_packs or the context, or train on more data"
        )
    return min(possible, config.steps or possible)


def same_run(last: Checkpoint, config: TrainConfig, key: str, total_steps: int) -> None:
    """Raise CheckpointError unless a run of this configuration on this data may carry on from `last`."""
    had, out = last.progress, last.folder.parent
    advice = "give another output folder, or remove this one to start again"
    if had.run_key != key:
        raise CheckpointError(f"{out} holds checkpoints of a run on other data ({had.run_key}, not {key}); {advice}")
    free = {"checkpoint_steps", "keep"}  # these change nothing in what is computed
    mine, theirs = config.model_dump(exclude=free), had.config.model_dump(exclude=free)
    changed = [name for name in mine if mine[name] != theirs[name]]
    if changed or had.total_steps != total_steps:
        what = ", ".join(f"{name} {theirs[name]} -> {mine[name]}" for name in changed) or "the number of steps"
        raise CheckpointError(f"{out} holds checkpoints of a run with another configuration ({what}); {advice}")


def _resume(
    out: Path,
    config: TrainConfig,
    key: str,
    total_steps: int,
    model: HrmText,
    optimizer: AdamAtan2,
    rank: int,
    world: int,
) -> int:
    """Restore the latest checkpoint below `out` and return its step; 0 when there is none."""
    found: list[str | None] = [None]
    if rank == 0:
        out.mkdir(parents=True, exist_ok=True)
        checkpoint.clear_leftovers(out)
        latest = checkpoint.latest(out)
        found = [str(latest.folder) if latest else None]
    if world > 1:
        dist.broadcast_object_list(found)  # the first worker says: all must start from the same step
    if found[0] is None:
        return 0
    last = checkpoint.read(Path(found[0]))
    same_run(last, config, key, total_steps)
    checkpoint.restore(last, model, optimizer)
    return last.progress.step
