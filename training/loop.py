"""The training loop: the same on one CPU and inside Ray Train, where torch.distributed is up before it is called.

What makes a run repeat itself bit for bit: a step's packs follow from its number (training/batches.py), weights from
the seed and their names, and a checkpoint holds all the rest. What keeps it the same on any number of workers: losses
are divided by the labels of the whole step, and gradients are added up, not averaged. So a gradient does not grow with
the number of workers, as upstream's does (there it is harmless only because Adam-atan2 ignores scale).

Beside the steps, on threads of their own, the next batch is made and the last checkpoint is written.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from pipelines.errors import CheckFailed, InputError
from training import checkpoint, journal, parallel
from training.attention import attend
from training.batches import Batch, Packs, ShardError, batch_of_step, batches
from training.checkpoint import Checkpoint, CheckpointError, Progress, Tensors
from training.configs import DTYPES, TrainConfig, bp_steps, learning_rate
from training.cost import flops_per_token
from training.export import load_weights
from training.journal import Journal, Metrics
from training.model import HrmText, build
from training.optimizer import AdamAtan2
from training.parallel import Weights, rank_and_world
from training.throughput import peak_flops


def train(
    shards: Sequence[str],
    tokenizer: str,
    config: TrainConfig,
    out: str,
    run_key: str | None = None,
    on_step: Callable[[Metrics], None] | None = None,
) -> Metrics:
    """Train on pack shards until the schedule ends; carry on from the latest checkpoint below `out` if there is one.

    shards: those of the pack step, validation included. tokenizer: path of the tokenizer.json they were made with;
    every checkpoint gets a copy. run_key: a name for the data (the pack step's key); by default the fingerprint of the
    shards. on_step: called by every worker after every step with that step's metrics.

    Writes `out`/step-... (training/checkpoint.py) and what training/journal.py names. Returns the last step's metrics
    with `steps`, `checkpoint` (a path), `resumed_from` (a step, 0 for a fresh run) and `tokens` (input tokens of the
    run).

    Raises ShardError for shards that cannot be trained on, CheckpointError when `out` holds another run's checkpoints,
    CheckFailed when the loss is no longer a number.
    """
    rank, world = rank_and_world()
    device, dtype = parallel.this_device(), DTYPES[config.precision]
    folder = Path(out)
    packs, held_out = Packs(shards), Packs(shards, "validation")
    total_steps = steps_of(config, packs)
    key = run_key or packs.fingerprint()

    torch.manual_seed(config.seed)
    model = build(config.model, config.seed, str(device))
    if device.type == "cuda":
        parallel.compile_blocks(model)
    if config.sharded and world > 1:
        parallel.shard(model, dtype)
    weights = parallel.hold(model)
    pieces = [held.piece for held in weights.values()]
    optimizer = AdamAtan2(pieces, config.lr, config.betas, config.weight_decay, config.ema_decay)
    done = _resume(folder, config, key, total_steps, model, weights, optimizer, rank, world)
    if config.start and not done:
        _begin(config.start, tokenizer, model, weights)
    steps = range(done + 1, total_steps + 1)
    if not steps:
        return summary(folder, done)

    peak = peak_flops(device, dtype) * world
    metrics: Metrics = {}
    log = Journal(folder, done) if rank == 0 else None
    writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
    writing: Future[Checkpoint] | None = None
    try:
        saved = clock = time.perf_counter()
        for batch in batches(packs, steps, config.batch_packs, rank, world, dtype, config.objective, device):
            step, waited = batch.step, time.perf_counter() - clock
            lr, depth = learning_rate(config, step), bp_steps(config, step, total_steps)
            minutes = (time.perf_counter() - saved) / 60
            due = config.checkpoint_minutes is not None and minutes >= config.checkpoint_minutes
            measured, due = _step(model, weights, optimizer, batch, lr, depth, dtype, due and rank == 0)
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
                "mfu": round(batch.inputs * flops_per_token(config.model, depth) / (now - clock) / peak, 4),
                "input_wait": round(waited / (now - clock), 4),
                "memory": _memory(device),
            }
            if not math.isfinite(metrics["loss"]):
                raise CheckFailed(f"step {step}: the loss is {metrics['loss']}; try a lower lr than {config.lr}")
            if len(held_out) and (step % config.validation_steps == 0 or step == total_steps):
                metrics |= validate(model, held_out, config, dtype, device)
            if log:
                log.write(metrics)
            if due or step % config.checkpoint_steps == 0 or step == total_steps:
                tensors = checkpoint.snapshot(model, weights, optimizer)
                if rank == 0:
                    if writing:
                        writing.result()  # one at a time; what went wrong with the one before is told here
                    progress = _progress(config, key, total_steps, batch, packs, weights, optimizer)
                    writing = writer.submit(_put_down, folder, progress, tensors, Path(tokenizer))
                saved = time.perf_counter()
            if on_step:
                on_step(metrics)
            clock = time.perf_counter()
    finally:
        writer.shutdown()  # waits: a checkpoint that was begun is finished
        if log:
            log.close()
    if writing:
        writing.result()
    if world > 1:
        dist.barrier()  # so that no worker returns before the last checkpoint is whole
    return summary(folder, done)


def _begin(start: str, tokenizer: str, model: HrmText, weights: Weights) -> None:
    """Put the weights of `start` in the place of the new ones; of a checkpoint its moving average.

    Raises InputError where those are of another shape, or have learnt other tokens than the packs are made of.
    """
    given = load_weights(start)
    mine, theirs = model.config.model_dump(), given.config.model_dump()
    if other := [f"{name} {theirs[name]}, not {mine[name]}" for name in mine if mine[name] != theirs[name]]:
        mend = "; --set model.<key>=<value> gives the configuration the shape of the weights"
        raise InputError(f"start: {start} is another model: {', '.join(other)}{mend}")
    known = Path(start) / "tokenizer.json"
    if known.is_file() and json.loads(known.read_text()) != json.loads(Path(tokenizer).read_text()):
        mend = f"build the packs with `tokenizer: {{path: {known}}}` in the recipe"
        raise InputError(f"start: {start} has learnt the tokens of another tokenizer; {mend}")
    whole = given.state_dict()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(whole[name])
        for name, (parameter, held) in weights.items():
            held.copy_(parallel.cut(whole[name], parameter))


def _put_down(out: Path, progress: Progress, tensors: Tensors, tokenizer: Path) -> Checkpoint:
    made = checkpoint.write(out, progress, tensors, tokenizer, progress.config.keep)
    journal.draw(out, f"{progress.config.name}, {progress.step} of {progress.total_steps} steps")
    return made


def _progress(
    config: TrainConfig,
    key: str,
    total_steps: int,
    batch: Batch,
    packs: Packs,
    weights: Weights,
    optimizer: AdamAtan2,
) -> Progress:
    """Where a run stands after the step of `batch`."""
    return Progress(
        run_key=key,
        config=config,
        total_steps=total_steps,
        step=batch.step,
        epoch=batch.epoch,
        cursor=batch.step * config.batch_packs,
        special=dict(packs.info.special),
        context=packs.info.context,
        optimizer_steps={
            name: int(optimizer.state[held.piece]["step"])
            for name, held in weights.items()
            if held.piece in optimizer.state
        },
    )


def _memory(device: torch.device) -> int:
    """Bytes that this worker holds; on a GPU, the most that it has held there."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def summary(out: Path, resumed_from: int = 0) -> Metrics:
    """What a finished run comes to, from its folder: the last step's metrics and where the checkpoint is."""
    last = checkpoint.latest(out)
    assert last is not None, "a finished run has a checkpoint"
    lines = journal.read_metrics(out)
    return {
        **lines[-1],
        "steps": last.progress.step,
        "tokens": sum(line["inputs"] for line in lines),
        "seconds": round(sum(line["seconds"] for line in lines), 3),
        "checkpoint": str(last.folder),
        "resumed_from": resumed_from,
    }


def losses(model: HrmText, batch: Batch, depth: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cross entropy of each label [M], float32, and whether the model's first choice was right [M]."""
    arguments = (batch.tokens_N, batch.positions_N, partial(_see, batch), depth, batch.rows_M)
    if dtype == torch.float32 or parallel.is_sharded(model):  # FSDP casts the weights that it gathers
        logits_MV = model(*arguments)
    else:  # cast once, not once per call: each weight is used two to six times
        weights = {name: p.to(dtype) for name, p in model.named_parameters() if not name.startswith("embed_tokens")}
        logits_MV = torch.func.functional_call(model, weights, arguments)
    loss_M = F.cross_entropy(logits_MV.float(), batch.labels_M, reduction="none")
    return loss_M, logits_MV.detach().argmax(-1) == batch.labels_M


def _see(batch: Batch, slot: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(batch.plan, q, k, v)


def _step(
    model: HrmText,
    weights: Weights,
    optimizer: AdamAtan2,
    batch: Batch,
    lr: float,
    depth: int,
    dtype: torch.dtype,
    due: bool,
) -> tuple[Metrics, bool]:
    """One step over all workers; the metrics are theirs together, and so is whether any of them said `due`."""
    for parameter, _ in weights.values():
        parameter.grad = None
    loss_M, right_M = losses(model, batch, depth, dtype)
    loss = loss_M.sum() / batch.labelled
    loss.backward()  # type: ignore[no-untyped-call]
    square = parallel.norm_squared(parallel.gradients(weights))
    sums = torch.stack((loss.detach().double(), *_right(batch, right_M), square, torch.tensor(due).to(square)))
    if dist.is_initialized():
        dist.all_reduce(sums)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    mean_loss, right, whole, norm, asked = sums.tolist()
    return {
        "loss": mean_loss,
        "token_accuracy": right / batch.labelled,
        "sequence_accuracy": whole / batch.sequences,
        "grad_norm": math.sqrt(norm),
    }, asked > 0


def _right(batch: Batch, right_M: Tensor) -> tuple[Tensor, Tensor]:
    """How many labels, and how many sequences with all their labels, are right: two float64 scalars."""
    wrong_S = torch.zeros(len(batch.ids), dtype=torch.int64, device=right_M.device)
    wrong_S.index_add_(0, batch.sequence_M, (~right_M).long())
    return right_M.sum().double(), (wrong_S == 0).sum().double()


@torch.no_grad()
def validate(model: HrmText, held_out: Packs, config: TrainConfig, dtype: torch.dtype, device: torch.device) -> Metrics:
    """Loss and token accuracy on the first `validation_packs` packs of rows that are never trained on.

    They are read as batches, as many as are whole or one that is not, so that all workers call the model equally often.
    """
    rank, world = rank_and_world()
    size = config.batch_packs
    whole = min(len(held_out), config.validation_packs) // size
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    for step in range(1, max(1, whole) + 1):
        batch = batch_of_step(held_out, step, size, rank, world, dtype, config.objective, device)
        loss_M, right_M = losses(model, batch, 2, dtype)
        sums += torch.stack((loss_M.double().sum(), right_M.sum().double(), torch.tensor(len(loss_M)).to(sums)))
    if dist.is_initialized():
        dist.all_reduce(sums)
    loss, right, labels = sums.tolist()
    return {"validation_loss": loss / labels, "validation_token_accuracy": right / labels}


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
    # these change nothing in what is computed
    free = {"checkpoint_steps", "checkpoint_minutes", "keep", "validation_steps", "validation_packs", "sharded"}
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
    weights: Weights,
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
    checkpoint.restore(last, model, weights, optimizer)
    return last.progress.step
