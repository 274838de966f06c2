"""Pack shards, and the batches made of them.

A shard is an Arrow file whose rows are packs: sequences of instruction and response tokens that together fill at most
`capacity` token slots. Step s trains on the packs [(s - 1) * batch_packs, s * batch_packs), counted over all training
shards in order; of W workers, worker r takes the packs r, r + W, ... of them. The rows of a step are therefore a
function of the step alone: there is no sampler state, and the number of workers does not matter. Shares differ by one
pack at most. A share is divided into micro-batches of at most `micro_packs` packs; the loss of each is divided by the
labels of the whole step.

Local shards are memory-mapped: only the pages of packs in use are in memory. Of shards on an object store, windows of a
few MB are read by range requests. Validation packs are in shards of their own, marked in their metadata.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.errors import InputError, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.arrow_file import ArrowFile
from training.attention import AttentionPlan, Kernel, plan_attention
from training.configs import Objective

Split = Literal["train", "validation"]

CPU = torch.device("cpu")

PACK_COLUMNS = ("tokens", "instruction_lengths", "response_lengths", "ids")

WINDOW_BYTES = 4 << 20
"""Bytes of a remote shard that are read at a time. Steps read packs in order, so each is read once."""

WINDOWS = 4
"""Windows of remote shards held at a time."""

OPENED_AT_ONCE = 16
"""Shards that are opened at a time: a remote one takes three requests."""


class ShardError(InputError):
    """A pack shard that cannot be used for training. The message names the file and the reason."""


class PackInfo(NamedTuple):
    """Metadata common to all shards of a pack step."""

    context: int  # largest number of tokens of a sequence
    capacity: int  # token slots of a pack: context - 1
    vocab_size: int
    epochs: int
    special: Mapping[str, int]  # boq eoq eoa pad direct cot noisy synth -> token id


class Pack(NamedTuple):
    """One pack. `tokens` holds, for each sequence, the instruction and then the response."""

    tokens: NDArray[np.integer]
    instruction_lengths: NDArray[np.integer]
    response_lengths: NDArray[np.integer]
    ids: list[str]


class Batch(NamedTuple):
    """One worker's share of a step, or a micro-batch of it. N input tokens, M labels, in S sequences."""

    step: int
    tokens_N: Tensor  # int64
    positions_N: Tensor  # int64, 0 at each sequence's start
    rows_M: Tensor  # int64: rows of the input that have a label
    labels_M: Tensor  # int64
    sequence_M: Tensor  # int64: the sequence (0..S-1) a label belongs to
    plan: AttentionPlan
    ids: tuple[str, ...]  # record ids, one per sequence
    # of the whole step, over all workers
    labelled: int  # labels
    sequences: int
    inputs: int  # input tokens
    digest: str  # of the step's packs, record ids included
    epoch: int


class Layout(NamedTuple):
    """How the packs of a step are divided, and the form of a batch.

    batch_packs: packs of a step. rank, world: the worker and their number. micro_packs: packs of a micro-batch at most,
    None for a worker's whole share. dtype: of attention masks. kernel: the attention kernel to plan for. device: where
    the batches go.
    """

    batch_packs: int
    rank: int = 0
    world: int = 1
    micro_packs: int | None = None
    dtype: torch.dtype = torch.float32
    objective: Objective = "prefix_lm"
    kernel: Kernel = "groups"
    device: torch.device = CPU


class Packs(Sequence[Pack]):
    """The packs of one split of `shards`, in order. They are read on access. The validation split may be empty."""

    info: PackInfo

    def __init__(self, shards: Sequence[str], split: Split = "train") -> None:
        """Map the shards.

        Raises:
            ShardError: if there are no shards or no training packs, if one cannot be read or is not a pack shard, or if
                the shards come from different pack steps.
        """
        if not shards:
            raise ShardError("no pack shards to train on: name at least one Arrow file of the pack step")
        with ThreadPoolExecutor(OPENED_AT_ONCE) as pool:
            files = list(pool.map(_open, shards))
        metadata = [_metadata(file.path, file.schema) for file in files]
        self.info = metadata[0].info
        for path, shard_metadata in zip(shards, metadata, strict=True):
            if shard_metadata.info != self.info:
                raise ShardError(
                    f"{path} was packed differently from {shards[0]}: {shard_metadata.info} is not {self.info}"
                )
        of_split = [index for index, shard_metadata in enumerate(metadata) if shard_metadata.split == split]
        self.shards = [shards[index] for index in of_split]
        self._files = [files[index] for index in of_split]
        self._epochs = [metadata[index].epoch for index in of_split]
        self._ends: list[int] = list(itertools.accumulate(file.rows for file in self._files))
        self._windows: dict[int, tuple[int, pa.RecordBatch]] = {}  # number of a file -> the rows of it read last
        if split == "train" and not len(self):
            raise ShardError(f"the {len(shards)} pack shards contain no training packs (the first is {shards[0]})")

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def epoch(self, index: int) -> int:
        """The epoch (from 0) that pack `index` belongs to."""
        return self._epochs[bisect.bisect_right(self._ends, index)]

    def __getitem__(self, index: int) -> Pack:  # type: ignore[override]
        """Pack `index`.

        Raises:
            IndexError: if there is no such pack.
            ShardError: if its lengths do not add up, or a token is outside the vocabulary.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard = bisect.bisect_right(self._ends, index)
        row = index - self._ends[shard] + self._files[shard].rows
        first, batch = self._window(shard, row)
        columns = [batch.column(name)[row - first].values for name in PACK_COLUMNS]
        tokens, instructions, responses = (c.to_numpy(zero_copy_only=True) for c in columns[:3])
        where = f"{self.shards[shard]}: pack {index}"
        count = len(columns[3])
        if len(tokens) != instructions.sum() + responses.sum() or {len(instructions), len(responses)} != {count}:
            raise ShardError(f"{where}: the lengths of its {count} sequences do not add up to {len(tokens)} tokens")
        if not len(tokens) or instructions.min() < 1 or responses.min() < 1:
            raise ShardError(f"{where}: a sequence needs at least one instruction token and one response token")
        if tokens.max() >= self.info.vocab_size:
            raise ShardError(f"{where}: token {tokens.max()} is outside the vocabulary of {self.info.vocab_size}")
        return Pack(tokens, instructions, responses, columns[3].to_pylist())

    def _window(self, shard: int, row: int) -> tuple[int, pa.RecordBatch]:
        """Rows of a shard that contain `row`, and the first of them. Of remote shards few are held at a time."""
        first, batch = self._windows.get(shard, (0, None))
        if batch is None or not first <= row < first + batch.num_rows:
            while len(self._windows) >= WINDOWS and not storage.is_local(self.shards[shard]):
                self._windows.pop(next(iter(self._windows)), None)
            first, batch = self._windows[shard] = self._files[shard].window(row, WINDOW_BYTES)
        return first, batch

    def fingerprint(self) -> str:
        """A hash of this data, the same on every machine: of each shard's size, metadata, first and last pack."""
        digest = hashlib.blake2b(digest_size=16)
        first = 0
        for file in self._files:
            digest.update(file.schema.metadata[b"winnow"] + str(file.rows).encode())
            if file.rows:
                _digest(digest, (self[first], self[first + file.rows - 1]))
            first += file.rows
        return digest.hexdigest()


def _digest(digest: hashlib.blake2b, packs: Sequence[Pack]) -> None:
    for pack in packs:
        for part in pack[:3]:
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update("\n".join(pack.ids).encode())


def assemble(
    packs: Sequence[Pack],
    share: slice,
    epoch: int,
    dtype: torch.dtype = torch.float32,
    objective: Objective = "prefix_lm",
    step: int = 0,
) -> Batch:
    """The batch of the worker that trains on `packs[share]` of a step's `packs`.

    A sequence of n instruction and m response tokens gives n + m - 1 inputs (all tokens but the last) and m labels: the
    input rows n - 1 .. n + m - 2 predict the response. `causal_all` has n + m - 1 labels: all tokens but the first.

    dtype: of the attention masks.
    """
    layout = Layout(len(packs), dtype=dtype, objective=objective)
    return _assemble(packs[share], layout, _totals(packs, objective), epoch, step)


class _Totals(NamedTuple):
    """The last fields of a batch, except for its epoch."""

    labelled: int
    sequences: int
    inputs: int
    digest: str


def _totals(packs: Sequence[Pack], objective: Objective) -> _Totals:
    digest = hashlib.blake2b(digest_size=16)
    _digest(digest, packs)
    inputs = sum(len(p.tokens) - len(p.ids) for p in packs)
    labelled = inputs if objective == "causal_all" else int(sum(p.response_lengths.sum() for p in packs))
    return _Totals(labelled, sum(len(p.ids) for p in packs), inputs, digest.hexdigest())


def _assemble(
    chosen: Sequence[Pack], layout: Layout, totals: _Totals, epoch: int, step: int, slots: int | None = None
) -> Batch:
    """slots: input tokens to pad to, so that all batches have one shape; padding rows have no label."""
    tokens = np.concatenate([p.tokens for p in chosen]).astype(np.int64)
    n = np.concatenate([p.instruction_lengths for p in chosen]).astype(np.int64)
    m = np.concatenate([p.response_lengths for p in chosen]).astype(np.int64)
    ends = np.cumsum(n + m)
    starts = ends - n - m
    sequence = np.repeat(np.arange(len(n)), n + m)
    position = np.arange(len(tokens)) - starts[sequence]
    is_input = position < (n + m - 1)[sequence]
    is_label = position >= (1 if layout.objective == "causal_all" else n[sequence])
    # The row that predicts token t is the one before it; each earlier sequence has one input row less than tokens.
    rows = np.flatnonzero(is_label) - 1 - sequence[is_label]
    inputs, positions = tokens[is_input], position[is_input]
    padding = max(0, (slots or 0) - len(inputs))
    prefixes, suffixes = (n, m - 1) if layout.objective == "prefix_lm" else (np.ones_like(n), n + m - 2)
    return Batch(
        step=step,
        tokens_N=torch.from_numpy(np.pad(inputs, (0, padding))),
        positions_N=torch.from_numpy(np.pad(positions, (0, padding))),
        rows_M=torch.from_numpy(rows),
        labels_M=torch.from_numpy(tokens[is_label]),
        sequence_M=torch.from_numpy(sequence[is_label]),
        plan=plan_attention(prefixes, suffixes, layout.dtype, layout.kernel, padding),
        ids=tuple(itertools.chain.from_iterable(p.ids for p in chosen)),
        **totals._asdict(),
        epoch=epoch,
    )


def packs_of_step(step: int, batch_packs: int) -> range:
    """Indices of the packs that `step` (from 1) trains on."""
    return range((step - 1) * batch_packs, step * batch_packs)


def share_of_step(packs: Packs, step: int, layout: Layout) -> tuple[Batch, ...]:
    """The micro-batches of worker `layout.rank` in `step` (from 1), on `layout.device`."""
    indices = packs_of_step(step, layout.batch_packs)
    # Wraps around, because the validation split may be smaller than one batch.
    everything = [packs[index % len(packs)] for index in indices]
    return in_micro_batches(everything, layout, packs.info.capacity, packs.epoch(indices.start), step)


def in_micro_batches(
    packs: Sequence[Pack], layout: Layout, capacity: int, epoch: int = 0, step: int = 0
) -> tuple[Batch, ...]:
    """The micro-batches of worker `layout.rank` in a step with these packs. capacity: token slots of a pack."""
    totals = _totals(packs, layout.objective)
    share = packs[layout.rank :: layout.world]
    size = layout.micro_packs or len(share)
    # A compiled kernel needs one shape for all batches of as many packs.
    capacity = capacity if layout.kernel == "flex" else 0
    micro = [share[start : start + size] for start in range(0, len(share), size)]
    made = [_assemble(chosen, layout, totals, epoch, step, len(chosen) * capacity) for chosen in micro]
    return tuple(to_device(batch, layout.device) for batch in made)


def batch_of_step(
    packs: Packs,
    step: int,
    batch_packs: int,
    rank: int = 0,
    world: int = 1,
    dtype: torch.dtype = torch.float32,
    objective: Objective = "prefix_lm",
    device: torch.device = CPU,
) -> Batch:
    """The whole share of worker `rank` in `step` (from 1), on `device`."""
    (batch,) = share_of_step(
        packs, step, Layout(batch_packs, rank, world, dtype=dtype, objective=objective, device=device)
    )
    return batch


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with all its tensors on `device`. The copy to a GPU is asynchronous, from page-locked memory."""
    return batch if device == CPU else move_tensors(batch, device)


Value = TypeVar("Value")


def move_tensors(value: Value, device: torch.device) -> Value:
    """`value` with every tensor in it on `device`. Looks into tuples, named or not."""
    moved: Any = value
    if isinstance(value, Tensor):
        pinned = value.pin_memory() if device.type == "cuda" else value
        moved = pinned.to(device, non_blocking=True)
    elif isinstance(value, tuple) and any(isinstance(part, Tensor | tuple) for part in value):
        parts = [move_tensors(part, device) for part in value]
        moved = type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return cast(Value, moved)


def check_share(batch_packs: int, world: int) -> None:
    """Check that each of `world` workers gets a pack of every batch.

    Raises:
        WinnowError: if there are more workers than packs.
    """
    if batch_packs < world:
        raise WinnowError(
            f"{world} workers cannot share batches of {batch_packs} packs: each needs at least one; "
            f"use at most {batch_packs} workers, or raise batch_packs"
        )


def batches(packs: Packs, steps: range, layout: Layout) -> Iterator[tuple[Batch, ...]]:
    """The micro-batches of this worker, step by step. A thread prepares the next step while the current one is used."""
    check_share(layout.batch_packs, layout.world)
    make = partial(share_of_step, packs, layout=layout)
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        pending = [pool.submit(make, step) for step in steps[:1]]
        for step in steps:
            current = pending.pop()
            pending += [pool.submit(make, following) for following in (step + steps.step,) if following in steps]
            yield current.result()


def _open(path: str) -> ArrowFile:
    try:
        file = ArrowFile(path)
    except FileNotFoundError:
        raise ShardError(f"{path}: no such pack shard") from None
    except (InputError, OSError) as error:
        raise ShardError(f"{path}: not a complete Arrow file ({error}); build it again") from None
    missing = [name for name in PACK_COLUMNS if name not in file.schema.names]
    if missing:
        raise ShardError(f"{path}: not a pack shard, it lacks the columns {', '.join(missing)}")
    return file


class _ShardMetadata(NamedTuple):
    """A shard's metadata: the part common to all shards, its epoch and its split."""

    info: PackInfo
    epoch: int
    split: str


def _metadata(path: str, schema: pa.Schema) -> _ShardMetadata:
    try:
        value = json.loads((schema.metadata or {})[b"winnow"])
        info = PackInfo(*(value[key] for key in PackInfo._fields))
        return _ShardMetadata(info, int(value["epoch"]), value.get("split", "train"))
    except (KeyError, ValueError) as error:
        raise ShardError(f"{path}: not a pack shard, its `winnow` metadata lacks {error}") from None
