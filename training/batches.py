"""Packed shards, memory-mapped, to batches.

A shard is an Arrow file whose rows are packs: some sequences of instruction and response tokens that together fill at
most `capacity` token slots. A global batch is `batch_packs` consecutive packs; of W workers, worker r takes the packs
r, r + W, ... So which rows a step trains on is a function of the step alone, not of the number of workers, of a
sampler's state or of what happened before: step s uses packs [(s - 1) * batch_packs, s * batch_packs).

Only the pages of the packs in use are in memory. Packs of the rows that are held out for validation lie in shards of
their own, which say so; training does not see them.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.errors import InputError, WinnowError
from training.attention import Layout, layout
from training.configs import Objective

Split = Literal["train", "validation"]

CPU = torch.device("cpu")

COLUMNS = ("tokens", "instruction_lengths", "response_lengths", "ids")


class ShardError(InputError):
    """A pack shard that cannot be trained on; the message names the file and what is wrong with it."""


class PackInfo(NamedTuple):
    """What the shards' metadata says of all of them."""

    context: int  # tokens of the longest sequence
    capacity: int  # token slots of a pack: context - 1
    vocab_size: int
    epochs: int
    special: Mapping[str, int]  # boq eoq eoa pad direct cot noisy synth -> token id


class Pack(NamedTuple):
    """One pack: `tokens` is each sequence's instruction, then its response, one after another."""

    tokens: NDArray[np.integer]
    instruction_lengths: NDArray[np.integer]
    response_lengths: NDArray[np.integer]
    ids: list[str]


class Batch(NamedTuple):
    """One worker's share of a step. N input tokens, M labels, in S sequences."""

    step: int
    tokens_N: Tensor  # int64
    positions_N: Tensor  # int64, 0 at each sequence's start
    rows_M: Tensor  # int64: rows of the input that have a label
    labels_M: Tensor  # int64
    sequence_M: Tensor  # int64: the sequence (0..S-1) a label belongs to
    plan: Layout
    ids: tuple[str, ...]  # record ids, one per sequence
    # of the whole step, over all workers
    labelled: int  # labels
    sequences: int
    inputs: int  # input tokens
    digest: str  # of the step's packs, ids included
    epoch: int


class Packs(Sequence[Pack]):
    """The packs of one split of `shards`, in order, without reading them. Of validation there may be none."""

    info: PackInfo

    def __init__(self, shards: Sequence[str], split: Split = "train") -> None:
        """Map the shards. Raises ShardError for none, an unreadable or foreign one, or two that do not fit together."""
        if not shards:
            raise ShardError("no pack shards to train on: give at least one Arrow file of the pack step")
        tables = [_open(path) for path in shards]
        places = [_place(path, table.schema) for path, table in zip(shards, tables, strict=True)]
        self.info = places[0].info
        for path, place in zip(shards, places, strict=True):
            if place.info != self.info:
                raise ShardError(f"{path} was packed differently from {shards[0]}: {place.info} is not {self.info}")
        mine = [index for index, place in enumerate(places) if place.split == split]
        self.shards = [shards[index] for index in mine]
        self._tables = [tables[index] for index in mine]
        self._epochs = [places[index].epoch for index in mine]
        batches = [(shard, batch) for shard, table in enumerate(self._tables) for batch in table.to_batches()]
        self._batches = [batch for _, batch in batches]
        self._shard_of = [shard for shard, _ in batches]
        self._ends: list[int] = list(itertools.accumulate(batch.num_rows for batch in self._batches))
        if split == "train" and not len(self):
            raise ShardError(f"the {len(shards)} pack shards hold no packs to train on, {shards[0]} among them")

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def epoch(self, index: int) -> int:
        """The epoch (from 0) that pack `index` belongs to."""
        return self._epochs[self._shard_of[bisect.bisect_right(self._ends, index)]]

    def __getitem__(self, index: int) -> Pack:  # type: ignore[override]
        """Pack `index`. Raises ShardError if its lengths do not add up or a token is outside the vocabulary."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        at = bisect.bisect_right(self._ends, index)
        row = index - self._ends[at] + self._batches[at].num_rows
        columns = [self._batches[at].column(name)[row].values for name in COLUMNS]
        tokens, instructions, responses = (c.to_numpy(zero_copy_only=True) for c in columns[:3])
        where = f"{self.shards[self._shard_of[at]]}: pack {index}"
        count = len(columns[3])
        if len(tokens) != instructions.sum() + responses.sum() or {len(instructions), len(responses)} != {count}:
            raise ShardError(f"{where}: the lengths of its {count} sequences do not add up to {len(tokens)} tokens")
        if not len(tokens) or instructions.min() < 1 or responses.min() < 1:
            raise ShardError(f"{where}: a sequence needs at least one instruction token and one response token")
        if tokens.max() >= self.info.vocab_size:
            raise ShardError(f"{where}: token {tokens.max()} is outside the vocabulary of {self.info.vocab_size}")
        return Pack(tokens, instructions, responses, columns[3].to_pylist())

    def fingerprint(self) -> str:
        """A name for this data, the same on any machine: of each shard's size, metadata, first and last pack."""
        digest = hashlib.blake2b(digest_size=16)
        first = 0
        for table in self._tables:
            digest.update(table.schema.metadata[b"winnow"] + str(table.num_rows).encode())
            if table.num_rows:
                _digest(digest, (self[first], self[first + table.num_rows - 1]))
            first += table.num_rows
        return digest.hexdigest()


def _digest(digest: hashlib.blake2b, packs: Sequence[Pack]) -> None:
    for pack in packs:
        for part in pack[:3]:
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update("\n".join(pack.ids).encode())


def assemble(
    packs: Sequence[Pack],
    mine: slice,
    epoch: int,
    dtype: torch.dtype = torch.float32,
    objective: Objective = "prefix_lm",
    step: int = 0,
) -> Batch:
    """The batch of the worker that trains on `packs[mine]` of a step's `packs`. `dtype` is attention's.

    A sequence of n instruction and m response tokens gives n + m - 1 inputs (all but its last token) and m labels: the
    input rows n - 1 .. n + m - 2 predict the response. `causal_all` has n + m - 1 labels: every token but the first.
    """
    share = packs[mine]
    tokens = np.concatenate([p.tokens for p in share]).astype(np.int64)
    n = np.concatenate([p.instruction_lengths for p in share]).astype(np.int64)
    m = np.concatenate([p.response_lengths for p in share]).astype(np.int64)
    ends = np.cumsum(n + m)
    starts = ends - n - m
    sequence = np.repeat(np.arange(len(n)), n + m)
    position = np.arange(len(tokens)) - starts[sequence]
    is_input = position < (n + m - 1)[sequence]
    everything = objective == "causal_all"
    is_label = position >= (1 if everything else n[sequence])
    # The input row that predicts token t stands one earlier, and each sequence before took one row less than tokens.
    rows = np.flatnonzero(is_label) - 1 - sequence[is_label]
    digest = hashlib.blake2b(digest_size=16)
    _digest(digest, packs)
    inputs = sum(len(p.tokens) - len(p.ids) for p in packs)
    return Batch(
        step=step,
        tokens_N=torch.from_numpy(tokens[is_input]),
        positions_N=torch.from_numpy(position[is_input]),
        rows_M=torch.from_numpy(rows),
        labels_M=torch.from_numpy(tokens[is_label]),
        sequence_M=torch.from_numpy(sequence[is_label]),
        plan=layout(n, m - 1, dtype) if objective == "prefix_lm" else layout(np.ones_like(n), n + m - 2, dtype),
        ids=tuple(itertools.chain.from_iterable(p.ids for p in share)),
        labelled=inputs if everything else int(sum(p.response_lengths.sum() for p in packs)),
        sequences=sum(len(p.ids) for p in packs),
        inputs=inputs,
        digest=digest.hexdigest(),
        epoch=epoch,
    )


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
    """The share of worker `rank` in step `step` (from 1), on `device`."""
    first = (step - 1) * batch_packs
    # Past the end it starts again: of validation there may be less than one batch.
    chosen = [packs[index % len(packs)] for index in range(first, first + batch_packs)]
    batch = assemble(chosen, slice(rank, None, world), packs.epoch(first), dtype, objective, step)
    return to_device(batch, device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch, with all that is in it, on `device`."""
    return batch if device == CPU else Batch(*_move(batch, device))


def _move(value: Any, device: torch.device) -> Any:
    """`value` with every tensor in it on `device`."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple) and any(isinstance(part, Tensor | tuple) for part in value):
        parts = [_move(part, device) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def even_share(batch_packs: int, world: int) -> int:
    """Packs of a batch for each of `world` workers. Raises WinnowError if they cannot take the same number."""
    if batch_packs % world:
        raise WinnowError(
            f"{world} workers cannot share batches of {batch_packs} packs evenly: "
            "choose batch_packs as a multiple of the number of workers"
        )
    return batch_packs // world


def batches(
    packs: Packs,
    steps: range,
    batch_packs: int,
    rank: int = 0,
    world: int = 1,
    dtype: torch.dtype = torch.float32,
    objective: Objective = "prefix_lm",
    device: torch.device = CPU,
) -> Iterator[Batch]:
    """The batches of `steps`, each made in the background while the one before it is trained on."""
    even_share(batch_packs, world)
    shape = {"batch_packs": batch_packs, "rank": rank, "world": world}
    make = partial(batch_of_step, packs, **shape, dtype=dtype, objective=objective, device=device)
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        ahead = [pool.submit(make, step) for step in steps[:1]]
        for step in steps:
            now = ahead.pop()
            ahead += [pool.submit(make, following) for following in (step + steps.step,) if following in steps]
            yield now.result()


def _open(path: str) -> pa.Table:
    try:
        table = pa.ipc.open_file(pa.memory_map(path)).read_all()
    except FileNotFoundError:
        raise ShardError(f"{path}: no such pack shard") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(f"{path}: not a whole Arrow file ({error}); build it again") from None
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ShardError(f"{path}: not a pack shard, it lacks the columns {', '.join(missing)}")
    return table


class _Place(NamedTuple):
    """What a shard's metadata says: of all shards, and of this one."""

    info: PackInfo
    epoch: int
    split: str


def _place(path: str, schema: pa.Schema) -> _Place:
    try:
        said = json.loads((schema.metadata or {})[b"winnow"])
        info = PackInfo(*(said[key] for key in PackInfo._fields))
        return _Place(info, int(said["epoch"]), said.get("split", "train"))
    except (KeyError, ValueError) as error:
        raise ShardError(f"{path}: not a pack shard, its `winnow` metadata lacks {error}") from None
