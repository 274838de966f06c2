"""The training loop. It is the same on one CPU and within Ray Train, which initialises torch.distributed before.

A run is reproducible bit for bit: the packs of a step follow from its number (training/batches.py), the initial weights
from the seed and the tensors' names, and a checkpoint holds all other state. Results do not depend on the number of
workers or the size of micro-batches, except for the order of additions: the loss is divided by the labels of the whole
step, and gradients are summed, not averaged. (Upstream's gradient grows with the number of workers, which is harmless
only because Adam-atan2 ignores its scale.)

A step whose loss or gradient is not finite changes neither weights nor averages nor moments. The decision is made on
the device. On a GPU the loop reads the results of several steps at once, so that the GPU does not wait for the CPU.

Two threads prepare the next batch and write the last checkpoint while steps are computed.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import psutil
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from pipelines.errors import CheckFailed
from pipelines.ledger import storage
from pipelines.ledger.lease import Lease
from training import checkpoint, initial, journal, parallel
from training.attention import Queries, attend, flexible
from training.batches import Batch, Layout, Packs, ShardError, batches, check_share, share_of_step
from training.checkpoint import Checkpoint, CheckpointError, Tensors, TrainingState
from training.configs import DTYPES, TrainConfig, bp_steps, learning_rate
from training.cost import flops_per_token
from training.journal import Journal, Metrics
from training.lora import add_lora
from training.losses import linear_cross_entropy
from training.memory import fitting_micro_packs
from training.model import HrmText, ModelConfig, Routings, build, module_blocks, routers, schedule, update_routers
from training.optimizer import AdamAtan2
from training.parallel import LocalShards, rank_and_world
from training.start import Start
from training.throughput import peak_flops

SUMMARY_STEPS = 50
"""Steps at the end of a run over which its summary averages the train loss: the loss of one step is noisy."""

STEPS_PER_READ = {"cpu": 1, "cuda": 10}
"""Steps after which the results of steps are read from a device."""

DUE = 4
"""Which of the sums of a step is the number of workers on which a checkpoint is due."""

SETTINGS_THAT_MAY_CHANGE = {
    "checkpoint_steps", "checkpoint_minutes", "keep", "validation_steps", "validation_packs", "sharded", "micro_packs",
    "recompute", "skip_limit",
}  # fmt: skip
"""Settings that may differ when a run resumes: they do not change what a step computes."""


def train(
    shards: Sequence[str],
    tokenizer: str,
    config: TrainConfig,
    out: str,
    run_key: str | None = None,
    on_step: Callable[[Metrics], None] | None = None,
) -> Metrics:
    """Train on pack shards until the schedule ends, resuming from the latest checkpoint below `out` if there is one.

    Args:
        shards: paths of all shards of the pack step, validation included. They must be local, because they are mapped.
        tokenizer: the tokenizer.json with which the shards were made. Every checkpoint gets a copy.
        out: the training folder, a local path or a URL. It gets step-... folders (training/checkpoint.py) and the
            record of the run (training/journal.py).
        run_key: identifies the data (the pack step's key). Default: the fingerprint of the shards.
        on_step: called by every worker after every step with the step's metrics.

    Returns:
        The summary of the run; see `summary`.

    Raises:
        ShardError: if the shards cannot be used with this configuration.
        CheckpointError: if `out` holds checkpoints of another run, another training is writing there, or its disk is
            full.
        WinnowError: if there are too many workers, or too little memory; the message says what to change.
        InputError: if the model of `config.start` does not fit (training/initial.py).
        CheckFailed: if the loss or its gradient is not finite in `config.skip_limit` steps in a row, or this process
            was stopped for so long that another training took over.
    """
    rank, world = rank_and_world()
    with _exclusive(out, rank, world) as lease:
        return _train(shards, tokenizer, config, out, run_key, on_step, lease)


@contextlib.contextmanager
def _exclusive(out: str, rank: int, world: int) -> Iterator[Lease | None]:
    """The first worker holds the folder's lease; all workers fail if it cannot get it."""
    with contextlib.ExitStack() as held:
        problem: list[str | None] = [None]
        lease: Lease | None = None
        if rank == 0:
            try:
                lease = held.enter_context(checkpoint.locked(out))
            except CheckpointError as error:
                problem = [str(error)]
        if world > 1:
            dist.broadcast_object_list(problem)
        if problem[0] is not None:
            raise CheckpointError(problem[0])
        yield lease


def _train(
    shards: Sequence[str],
    tokenizer: str,
    config: TrainConfig,
    out: str,
    run_key: str | None,
    on_step: Callable[[Metrics], None] | None,
    lease: Lease | None,
) -> Metrics:
    """The training itself. lease: of `out`, for the first worker."""
    rank, world = rank_and_world()
    device, dtype = parallel.this_device(), DTYPES[config.precision]
    packs, validation_packs = Packs(shards), Packs(shards, "validation")
    total_steps = steps_of(config, packs)
    key = run_key or packs.fingerprint()
    layout = layout_of(config, rank, world, device)

    torch.manual_seed(config.seed)
    model = build(config.model, config.seed, str(device))
    checkpoint.check_space(out, model)
    if config.lora_rank:
        add_lora(model, config.lora_rank, config.lora_scale, config.seed)
    if device.type == "cuda":
        parallel.compile_blocks(model, whole=layout.kernel == "flex")
    if config.recompute:
        parallel.checkpoint_blocks(model)
    if config.sharded and world > 1:
        parallel.apply_fsdp(model, dtype)
    weights = parallel.local_shards(model, dtype)
    optimizer = AdamAtan2(
        [shard.local for shard in weights.values()], config.lr, config.betas, config.weight_decay, config.ema_decay
    )
    resumed = _resume(out, config, key, total_steps, model, weights, optimizer, rank, world)
    resumed_from, start = (resumed.step, resumed.start) if resumed else (0, None)
    if config.start and not resumed:
        _set_initial_weights(initial.read_initial(config.start, config.model, packs.info, tokenizer), model, weights)
        start = initial.record(config.start) if rank == 0 else None
    steps = range(resumed_from + 1, total_steps + 1)
    if not steps:
        return summary(out, resumed_from)

    peak = peak_flops(device, dtype) * world
    log = Journal(out, resumed_from) if rank == 0 else None
    writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
    writing: Future[None] | None = None
    waiting: list[_Waiting] = []  # steps whose results are not read yet
    skipped = 0  # steps in a row, up to the last one read
    try:
        saved = clock = idle = time.perf_counter()
        waited = 0.0
        for batches_of_step in batches(packs, steps, layout):
            batch = batches_of_step[0]
            step = batch.step
            waited += time.perf_counter() - idle
            lr, depth = learning_rate(config, step, total_steps), bp_steps(config, step, total_steps)
            minutes = (time.perf_counter() - saved) / 60
            due = config.checkpoint_minutes is not None and minutes >= config.checkpoint_minutes
            clip = config.clip_norm
            sums = _step(model, weights, optimizer, batches_of_step, lr, depth, dtype, clip, due and rank == 0)
            waiting.append(_Waiting(batch, lr, depth, sums))
            idle = time.perf_counter()
            validates = bool(len(validation_packs)) and (step % config.validation_steps == 0 or step == total_steps)
            saves = step % config.checkpoint_steps == 0 or step == total_steps
            if not (validates or saves or len(waiting) >= STEPS_PER_READ[device.type]):
                continue
            results = torch.stack([entry.sums for entry in waiting]).tolist()  # waits for the device
            seconds = (time.perf_counter() - clock) / len(waiting)
            lines = []
            for entry, values in zip(waiting, results, strict=True):
                measured = {
                    "seconds": round(seconds, 6),
                    "tokens_per_second": round(entry.batch.inputs / seconds, 1),
                    "mfu": round(
                        entry.batch.inputs
                        * flops_per_token(config.model, entry.depth, config.lora_rank)
                        / seconds
                        / peak,
                        4,
                    ),
                    "input_wait": round(waited / len(waiting) / seconds, 4),
                    "memory": _memory(device),
                }
                lines.append(_line(entry, values, total_steps, config) | measured)
            saves = saves or any(values[DUE] > 0 for values in results)
            waiting, waited = [], 0.0
            if validates:
                lines[-1] |= validate(model, validation_packs, config, layout)
            for line in lines:
                if log:
                    with checkpoint.writing_to(out):
                        log.write(line)
                skipped = skipped + 1 if line.get("skipped") else 0
                if skipped >= config.skip_limit:
                    if writing:
                        writing.result()
                    raise CheckFailed(_diverged(line["step"], skipped, config, out))
            if saves:
                tensors = checkpoint.snapshot(model, weights, optimizer, config)
                if log:
                    if writing:
                        writing.result()  # one checkpoint at a time; raises the error of the previous one
                    state = _state(config, key, total_steps, batch, packs, weights, optimizer, start)
                    writing = writer.submit(_write_checkpoint, out, lease, log, state, tensors, tokenizer)
                saved = time.perf_counter()
            if on_step:
                for line in lines:
                    on_step(line)
            clock = idle = time.perf_counter()
    finally:
        writer.shutdown()  # waits, so that a checkpoint that was begun is completed
        if log:
            with contextlib.suppress(OSError):  # of a full disk; the steps after the last checkpoint are made again
                log.close()
    if writing:
        writing.result()
    if world > 1:
        dist.barrier()  # no worker returns before the last checkpoint is complete
    return summary(out, resumed_from)


class _Waiting(NamedTuple):
    """A step whose results are still on the device."""

    batch: Batch
    lr: float
    depth: int
    sums: Tensor


def layout_of(config: TrainConfig, rank: int, world: int, device: torch.device) -> Layout:
    """How the steps of this configuration are divided among `world` workers with such a device.

    Raises:
        WinnowError: if there are more workers than packs in a step, or a worker has not enough memory.
    """
    check_share(config.batch_packs, world)
    half = config.precision == "bf16"
    wide_enough = config.model.hidden // config.model.heads >= 16  # for FlexAttention
    return Layout(
        batch_packs=config.batch_packs,
        rank=rank,
        world=world,
        micro_packs=fitting_micro_packs(config, world, device),
        dtype=DTYPES[config.precision],
        objective=config.objective,
        kernel="flex" if device.type == "cuda" and half and wide_enough else "groups",
        device=device,
    )


def _diverged(step: int, skipped: int, config: TrainConfig, out: str) -> str:
    clip = "" if config.clip_norm else ", or clip the gradient (--set clip_norm=1)"
    return (
        f"step {step}: the loss or its gradient was not finite in {skipped} steps in a row, which were skipped; "
        f"{checkpoint.last_good(out)}. Train in another folder with an lr below {config.lr}{clip}"
    )


def _set_initial_weights(of: HrmText, model: HrmText, weights: LocalShards) -> None:
    """Copy the weights of another model of the same shape into the model. Low-rank factors stay as they are."""
    tensors = of.state_dict()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(tensors[name])
        for name, (parameter, local) in weights.items():
            if name not in tensors:
                continue
            local.copy_(parallel.shard_of(tensors[name], parameter))
    parallel.publish(weights)


def _write_checkpoint(
    out: str, lease: Lease | None, log: Journal, state: TrainingState, tensors: Tensors, tokenizer: str
) -> None:
    """Write a checkpoint and update the record beside it. Raises: CheckFailed: if another training took over."""
    if lease:
        lease.check()
    checkpoint.write(out, state, tensors, tokenizer, state.config.keep)
    with checkpoint.writing_to(out):
        log.upload()
        journal.draw(out, f"{state.config.name}, {state.step} of {state.total_steps} steps")


def _state(
    config: TrainConfig,
    key: str,
    total_steps: int,
    batch: Batch,
    packs: Packs,
    weights: LocalShards,
    optimizer: AdamAtan2,
    start: Start | None,
) -> TrainingState:
    """The state of the run after the step of `batch`."""
    return TrainingState(
        run_key=key,
        config=config,
        total_steps=total_steps,
        step=batch.step,
        epoch=batch.epoch,
        cursor=batch.step * config.batch_packs,
        special=dict(packs.info.special),
        context=packs.info.context,
        optimizer_steps={
            name: int(optimizer.state[shard.local]["step"])
            for name, shard in weights.items()
            if shard.local in optimizer.state
        },
        start=start,
    )


def _memory(device: torch.device) -> int:
    """Bytes of memory that this worker uses; on a GPU, the peak since its start."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def summary(out: str, resumed_from: int = 0) -> Metrics:
    """The summary of a finished run, read from its training folder.

    The last step's metrics (training/journal.py) with: `steps` of the run; `tokens`, its input tokens; `seconds`, their
    sum over the steps; `mean_train_loss`, over the last 50 steps (nats per label); `checkpoint`, the folder of the last
    one; `resumed_from`, a step, 0 for a run from the start; and, if steps were skipped, their number, `skipped`.
    """
    last = checkpoint.latest(out)
    assert last is not None, "a finished run has a checkpoint"
    lines = journal.read_metrics(out)
    computed = [line for line in lines if not line.get("skipped")]
    skipped = {"skipped": len(lines) - len(computed)} if len(computed) < len(lines) else {}
    return {
        **(computed or lines)[-1],
        **skipped,
        "step": lines[-1]["step"],
        "steps": last.state.step,
        "tokens": sum(line["inputs"] for line in lines),
        "seconds": round(sum(line["seconds"] for line in lines), 3),
        "mean_train_loss": journal.mean_loss(lines[-SUMMARY_STEPS:]),
        "checkpoint": last.folder,
        "resumed_from": resumed_from,
    }


def losses(
    model: HrmText, batch: Batch, depth: int, dtype: torch.dtype, routings: Routings | None = None
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each label, float32 [M], and whether the most likely token is the label, bool [M].

    depth: module calls that are differentiated (`bp_steps`). dtype: to compute in; weights of another dtype are cast.
    routings: gets what the routers of a variant did.
    """
    gpu = batch.tokens_N.is_cuda
    head = partial(_head_losses, batch.labels_M) if gpu else None
    arguments = (batch.tokens_N, batch.positions_N, BatchAttention(batch), depth, batch.rows_M, head, routings)
    if parallel.is_sharded(model) or model.lm_head.weight.dtype == dtype:  # FSDP casts the weights that it gathers
        out = model(*arguments)
    else:
        weights = {name: p.to(dtype) for name, p in model.named_parameters() if not name.startswith("embed_tokens")}
        out = torch.func.functional_call(model, weights, arguments)
    if gpu:
        loss_M, correct_M = out
        return loss_M, correct_M
    loss_M = F.cross_entropy(out.float(), batch.labels_M, reduction="none")
    return loss_M, out.detach().argmax(-1) == batch.labels_M


def _head_losses(labels_M: Tensor, z_MD: Tensor, weight_VD: Tensor) -> tuple[Tensor, Tensor]:
    return linear_cross_entropy(z_MD, weight_VD, labels_M)


class BatchAttention:
    """The attention of a batch, by the kernel that its plan is for: a model's `attend`."""

    def __init__(self, batch: Batch) -> None:
        # Chosen heads are only gathered on a CPU, where the plan has groups.
        self.compute: Callable[[Any, Tensor, Tensor], Tensor] = (
            flexible(batch.plan) if batch.plan.blocks else partial(attend, batch.plan)
        )

    def __call__(self, slot: int, q: Queries, k: Tensor, v: Tensor) -> Tensor:
        return self.compute(q, k, v)


def _step(
    model: HrmText,
    weights: LocalShards,
    optimizer: AdamAtan2,
    micro_batches: Sequence[Batch],
    lr: float,
    depth: int,
    dtype: torch.dtype,
    clip_norm: float | None,
    due: bool,
) -> Tensor:
    """One step over all workers. Does not wait for a GPU.

    Returns:
        float64 [5] on the device, sums over all workers: the loss, correct labels, correct sequences, the squared norm
        of the gradient, and the number of workers on which a checkpoint is `due`. A variant adds how many tokens each
        slot's router sent to each part, [slots * parts].
    """
    parallel.clear_gradients(weights)
    device = micro_batches[0].tokens_N.device
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    choices: list[Tensor] = []  # of each micro-batch: tokens by slot and part
    for batch in micro_batches:
        parallel.start_backward(model, last=batch is micro_batches[-1])
        routings: Routings = []
        loss_M, correct_M = losses(model, batch, depth, dtype, routings)
        loss = loss_M.sum() / batch.labelled
        total = loss + _balance_term(model, routings, batch.inputs) if routings else loss
        total.backward()  # type: ignore[no-untyped-call]
        if routings:
            choices.append(torch.stack([torch.cat([routing.counts for routing in block]) for block in routings]))
        sums += torch.stack((loss.detach().double(), *_correct(batch, correct_M)))
    parallel.finish_backward(model)
    gradients = parallel.gradients(weights)
    square = parallel.norm_squared(gradients)
    sums = torch.cat((sums, torch.stack((square, torch.full_like(square, float(due))))))
    if choices:
        sums = torch.cat((sums, torch.stack(choices).sum(0).double().flatten()))
    if dist.is_initialized():
        dist.all_reduce(sums)
    norm = sums[3].sqrt()
    if clip_norm is not None:
        torch._foreach_mul_(gradients.tensors, (clip_norm / norm).clamp(max=1.0).float())
    for group in optimizer.param_groups:
        group["lr"] = lr
    finite = torch.isfinite(sums[0]) & torch.isfinite(norm)
    optimizer.step(finite)
    parallel.publish(weights)
    if choices:
        update_routers(model, sums[DUE + 1 :].view_as(choices[0]), finite)
    return sums


def _balance_term(model: HrmText, routings: Routings, inputs: int) -> Tensor | float:
    """This batch's share of the balance term (training/routing.py). inputs: tokens of the whole step."""
    penalties = [routing.penalty for block in routings for routing in block if routing.penalty.requires_grad]
    if not penalties:
        return 0.0
    return torch.stack(penalties).sum() * (model.config.selective.balance / (inputs * len(penalties)))


def _line(entry: _Waiting, values: Sequence[float], total_steps: int, config: TrainConfig) -> Metrics:
    """The results of a step, without what is measured."""
    batch = entry.batch
    mean_loss, correct_labels, correct_sequences, square, _, *counts = values
    finite = math.isfinite(mean_loss) and math.isfinite(square)
    return {
        "step": batch.step,
        "total_steps": total_steps,
        "epoch": batch.epoch,
        "loss": mean_loss if finite else None,
        "token_accuracy": correct_labels / batch.labelled,
        "sequence_accuracy": correct_sequences / batch.sequences,
        "grad_norm": math.sqrt(square) if finite else None,
        **({} if finite else {"skipped": True}),
        "lr": entry.lr,
        "bp_steps": entry.depth,
        "inputs": batch.inputs,
        "labels": batch.labelled,
        "digest": batch.digest,
        **(_part_use(counts, config.model) if counts else {}),
    }


def _part_use(counts: Sequence[float], model: ModelConfig) -> Metrics:
    """How the routers of a step used their parts. counts: tokens by slot and part."""
    by_part = torch.tensor(counts).view(len(schedule(model)), module_blocks(model), -1)
    kinds = routers(model)
    use: Metrics = {}
    for (name, kind), count_SBR in zip(
        kinds.items(), torch.split(by_part, [kind.parts for kind in kinds.values()], -1), strict=True
    ):
        share_SBR = count_SBR / count_SBR[0, 0].sum() * kind.active
        use[name] = [[round(share, 4) for share in call] for call in share_SBR.mean(1).tolist()]
        use[f"{name}_peak"] = round(float(share_SBR.max() / share_SBR.mean()), 4)
    return use


def _correct(batch: Batch, correct_M: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers of correct labels and of sequences whose labels are all correct: two float64 scalars."""
    wrong_S = torch.zeros(len(batch.ids), dtype=torch.int64, device=correct_M.device)
    wrong_S.index_add_(0, batch.sequence_M, (~correct_M).long())
    return correct_M.sum().double(), (wrong_S == 0).sum().double()


@torch.no_grad()
def validate(model: HrmText, packs: Packs, config: TrainConfig, layout: Layout) -> Metrics:
    """Loss and token accuracy on the first `validation_packs` validation packs.

    Only full batches are read, or a single partial one, so that all workers call the model.
    """
    full_batches = min(len(packs), config.validation_packs) // layout.batch_packs
    sums = torch.zeros(3, dtype=torch.float64, device=layout.device)
    for step in range(1, max(1, full_batches) + 1):
        for batch in share_of_step(packs, step, layout):
            loss_M, correct_M = losses(model, batch, 2, layout.dtype)
            sums += torch.stack((loss_M.double().sum(), correct_M.sum().double(), torch.tensor(len(loss_M)).to(sums)))
    if dist.is_initialized():
        dist.all_reduce(sums)
    loss, correct, labels = sums.tolist()
    return {"validation_loss": loss / labels, "validation_token_accuracy": correct / labels}


def steps_of(config: TrainConfig, packs: Packs) -> int:
    """The number of steps of a run.

    Raises:
        ShardError: if the data does not fit the configuration.
    """
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


def check_same_run(last: Checkpoint, config: TrainConfig, key: str, total_steps: int) -> None:
    """Check that a run of this configuration on this data may resume from `last`.

    Raises:
        CheckpointError: if it may not.
    """
    state, out = last.state, last.folder.rstrip("/").rpartition("/")[0]
    advice = "name another output folder, or remove this one to start again"
    if state.run_key != key:
        raise CheckpointError(f"{out} holds checkpoints of a run on other data ({state.run_key}, not {key}); {advice}")
    new, old = (c.model_dump(exclude=SETTINGS_THAT_MAY_CHANGE) for c in (config, state.config))
    changed = [name for name in {**new, **old} if new.get(name) != old.get(name)]
    if changed or state.total_steps != total_steps:
        what = ", ".join(f"{name} {old.get(name)} -> {new.get(name)}" for name in changed) or "the number of steps"
        raise CheckpointError(f"{out} holds checkpoints of a run with another configuration ({what}); {advice}")


def _resume(
    out: str,
    config: TrainConfig,
    key: str,
    total_steps: int,
    model: HrmText,
    weights: LocalShards,
    optimizer: AdamAtan2,
    rank: int,
    world: int,
) -> TrainingState | None:
    """Restore the latest checkpoint below `out` and return its state; None if there is none."""
    folder: list[str | None] = [None]
    if rank == 0:
        storage.sweep(out)
        latest = checkpoint.latest(out)
        folder = [latest.folder if latest else None]
    if world > 1:
        dist.broadcast_object_list(folder)  # all workers must resume from the same step
    if folder[0] is None:
        return None
    last = checkpoint.read(folder[0])
    check_same_run(last, config, key, total_steps)
    checkpoint.restore(last, model, weights, optimizer)
    return last.state
