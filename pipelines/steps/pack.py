"""Which sequences share a pack? Each epoch's draw, packed into rows of `context - 1` slots, in files that training
maps.

A sequence takes one slot less than it has tokens, since its last token is only predicted. The shuffled order of an
epoch is cut into windows of some four million slots. Within a window the longest sequences are placed first, each into
the pack with the least room that it fits (best fit decreasing). Then the packs are shuffled, so that a pack's position
does not depend on the lengths of its sequences. Packs do not depend on the number of workers that will read them.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.kernel import kernel
from pipelines.errors import CheckFailed
from pipelines.ledger import storage
from pipelines.ledger.arrow_file import ArrowFile
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, StepContext, Target
from pipelines.ledger.step import parameters
from pipelines.ledger.storage import FileRef, TableRef
from pipelines.recipe import Sampling
from pipelines.steps.encoding import load, token_type
from pipelines.steps.products import PACKS, ROW_FATES, TOKENIZER_JSON, VALIDATION_PACKS
from pipelines.steps.sampling import (
    Pool,
    Rows,
    coverage,
    draw,
    first_entries,
    held_out,
    judge_rows,
    measure,
    pool,
    times_by_weight,
)
from pipelines.steps.step import Estimate, Rates, RecipeStep, Workload, always, by_text
from pipelines.steps.token_rows import TokenShard, read_lengths, read_tokens
from pipelines.steps.tokenize import TOKENS
from pipelines.steps.train_tokenizer import TOKENIZER

WINDOW_SLOTS = 1 << 22
"""Slots that are packed together: a thousand packs of 4,096. The one pack that stays partly filled costs 0.1 %, and a
sequence moves by at most twenty batches of upstream's size."""

FILE_SLOTS = 1 << 25
"""Slots in one file, some 64 MiB of 16-bit ids."""

Ints = npt.NDArray[np.int64]


def pack(run: Run, records: Manifest, tokens: Manifest, tokenizer: Manifest, settings: Sampling, seed: int) -> Manifest:
    """Draw `settings.epochs` epochs of the tokens and pack them: Arrow files whose rows are packs, epoch 0 first.

    Rows drawn are first collected, shard by shard, into scratch files as large as the packs: a row that an epoch draws
    is encoded again there, once for all epochs, where the recipe does not store tokens.

    Rows held out for validation (see `sampling.held_out`) are in no epoch. Those that the first epoch would have drawn
    are packed into files of their own, so the validation loss is of the same mixture as training's.

    Columns: tokens list<uint16 or uint32>, each sequence's instruction ids and then its response ids, one sequence
    after another; instruction_lengths and response_lengths list<int32>; ids list<string>. The schema's metadata has
    under `winnow` a JSON object: context, capacity, vocab_size, epoch, epochs, special (ids of boq, eoq, eoa, pad,
    direct, cot, noisy, synth), split (train or validation).

    Products: `packs`, the epochs' files; `validation_packs`, those of the rows held out; `row_fates`, a Parquet file
    for each token shard with what became of its rows, in their order: reason (why no epoch can draw the row, "" if one
    can), held_out and truncated (bool), draws (uint16, how often it was drawn for training).

    records: the corpus that was encoded. It is read where `settings.weights` names its columns, and where tokens are
    not stored.

    Counts: `packs`, `sequences`, `slots`, `slots_used` of training, `validation_packs` and so on; `held_out` rows kept
    for validation, of those that could be drawn; `coverage/<source>/<what>` (see `sampling.coverage`);
    `unused/<reason>` rows that no epoch can draw; `weight/<column>/<value>` rows of the corpus to which a weight
    applies; `truncated` rows whose response is cut. What is held at once: the
    plan, 18 bytes per row, 48 per row drawn in an epoch and 8 per row of all epochs, in one worker: with four epochs of
    a tenth of the rows some 26 bytes a row, 14 GiB for HRM-Text's 594 M; everything else a file or a group of shards at
    a time.

    Raises: CheckFailed: if there is no row to draw.
    """
    step = PACK.step(parameters(sampling=settings, seed=seed), (tokens.key, tokenizer.key))
    bpe = tokenizer.file(TOKENIZER_JSON)
    shards = [TokenShard(*pair) for pair in zip(tokens.shards, records.shards, strict=True)]
    return run.do(step, lambda context: lay_and_write(context, shards, bpe, settings, seed))


PLAN_BYTES_PER_ROW, PLAN_BYTES_PER_DRAWN_ROW, PLAN_BYTES_PER_SEQUENCE = 18, 48, 8
"""Of the plan, which one task holds: of a row of the corpus, of one that an epoch draws, and of each drawing of all
epochs."""


ROW_COST = 0.75
"""Measuring and planning a row costs this share of what collecting and writing one that is drawn costs."""


def packing_work(text_bytes: float, drawn_bytes: float) -> float:
    """The bytes that the rate of this step is about. drawn_bytes: of text that the epochs draw, with repetition."""
    return ROW_COST * text_bytes + drawn_bytes


def _estimate(step: str, workload: Workload, rates: Rates) -> Estimate:
    recipe, times = workload.recipe, workload.drawn_rows * workload.recipe.sampling.epochs / max(workload.rows, 1.0)
    work = packing_work(workload.text_bytes, times * workload.text_bytes)
    estimate = by_text(step, workload._replace(text_bytes=work), rates)
    plan = PLAN_BYTES_PER_ROW * workload.rows + PLAN_BYTES_PER_DRAWN_ROW * workload.drawn_rows
    width = 2 if recipe.tokenizer.vocab_size <= 65536 else 4
    packed, seconds = workload.drawn_tokens * width * recipe.sampling.epochs, estimate.core_seconds
    plan += PLAN_BYTES_PER_SEQUENCE * workload.drawn_rows * recipe.sampling.epochs
    disk = 2 * packed  # as much again is scratch, until the step is done
    if "tokens" not in recipe.store:  # at most as many rows as the epochs draw are encoded again, each once
        seconds += min(1.0, times) * workload.text_bytes / 1e6 / rates[TOKENS.name].mb_per_core_second
    return Estimate(seconds, estimate.memory_gb + plan / 1e9, disk)


PACK = RecipeStep(
    name="pack",
    products={
        PACKS: "packs of the training epochs, epoch 0 first",
        VALIDATION_PACKS: "packs of the rows held out for validation",
        ROW_FATES: "for each token row, whether and how often training reads it, or why it does not",
    },
    wanted=always,
    make=lambda build: pack(
        build.run,
        build.records,
        build.made[TOKENS.name],
        build.made[TOKENIZER.name],
        build.recipe.sampling,
        build.recipe.seed,
    ),
    estimate=_estimate,
)


def lay_and_write(
    context: StepContext,
    shards: Sequence[TokenShard],
    tokenizer: FileRef,
    settings: Sampling,
    seed: int,
    file_slots: int = FILE_SLOTS,
) -> list[Part]:
    """The work of `pack`: lengths by shard, one plan for all shards, then files of about `file_slots` slots each."""
    with storage.verified([tokenizer]):
        bpe = load(tokenizer)
    control = tuple(bpe.special.values())
    measuring = functools.partial(_measure, settings, seed, control)
    measured = context.map(measuring, shards, phase="measure")
    weighted: Counter[str] = Counter()
    for part in measured:
        weighted.update(part.counts)
    measures = [part.file("lengths").path for part in measured]
    groups = group_shards([shard.tokens.rows for shard in shards])
    planning = functools.partial(_plan, settings, seed, file_slots, groups, context.folder)
    (plan,) = context.map(planning, [measures], phase="plan")
    metadata = {
        "context": settings.context,
        "capacity": settings.context - 1,
        "vocab_size": bpe.vocab_size,
        "epochs": settings.epochs,
        "special": bpe.special,
    }
    orders = [file for file in plan.files["orders"] if isinstance(file, TableRef)]
    wanted = [_Wanted(order, tuple(shards[first:last])) for order, (first, last) in zip(orders, groups, strict=True)]
    collected = context.map(functools.partial(_collect, tokenizer), wanted, phase="collect")
    files = tuple(part.table("tokens") for part in collected)
    bounds = storage.map_arrow(plan.file("bounds").path)
    layouts = [
        _Layout(file, tuple(starts), tuple(stops))
        for file, starts, stops in zip(
            plan.files["layouts"], bounds["start"].to_pylist(), bounds["stop"].to_pylist(), strict=True
        )
    ]
    packs = context.map(functools.partial(_write_packs, files, metadata), layouts)
    return [Part(counts=plan.counts | weighted, files={ROW_FATES: plan.files[ROW_FATES]}), *packs]


GROUPS, GROUP_ROWS, MAX_GROUP_SHARDS = 512, 1 << 16, 64
"""A file of packs has rows of all shards, drawn at random. So the rows drawn are first collected by groups of shards,
in the order of the files of packs, and a task that writes one reads a range of each group's file. A large corpus has
about GROUPS groups, of 64 shards at most: half a million ranges for the 1,900 files of HRM-Text. Shards of few rows
share a group."""


def group_shards(rows: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Groups of neighbouring shards, as the first of each and the one after its last. rows: of each shard."""
    least = min(len(rows) // GROUPS, MAX_GROUP_SHARDS)
    groups: list[tuple[int, int]] = []
    first = held = 0
    for number, count in enumerate(rows):
        held += count
        size = number + 1 - first
        if (held >= GROUP_ROWS and size >= least) or size == MAX_GROUP_SHARDS or number == len(rows) - 1:
            groups.append((first, number + 1))
            first, held = number + 1, 0
    return tuple(groups)


WEIGHT = "weight/"
"""How the counts of the rows that have a value of `sampling.weights` begin: `weight/<column>/<value>`."""


def measure_shard(
    shard: TokenShard, lengths: pa.Table, settings: Sampling, seed: int
) -> tuple[pa.Table, dict[str, int]]:
    """What the sampler reads of a shard (see `sampling.measure`), and the counts of the values that have weights.

    lengths: `token_rows.LENGTHS` of the shard.
    """
    if not settings.weights:
        return measure(lengths), {}
    records = storage.read_parquet(shard.records.path, ["id", *settings.weights])
    counts = {
        f"{WEIGHT}{column}/{value}": pc.sum(pc.equal(records[column].cast(pa.string()), value)).as_py() or 0
        for column, values in settings.weights.items()
        for value in values
    }
    return measure(lengths, times_by_weight(as_array(lengths["id"]), records, settings.weights, seed)), counts


def values_without_rows(counts: Mapping[str, int]) -> list[str]:
    """`column value` of the weights that apply to no row, from the counts of a pack step."""
    return [
        name.removeprefix(WEIGHT).replace("/", " ", 1)
        for name in counts
        if name.startswith(WEIGHT) and not counts[name]
    ]


def _measure(settings: Sampling, seed: int, control: Sequence[int], shard: TokenShard, target: Target) -> Part:
    lengths = read_lengths(shard.tokens, control)
    measured, counts = measure_shard(shard, lengths, settings, seed)
    out = pa.array(held_out(lengths, settings.validation))
    file = storage.write_arrow(target.path(suffix=".arrow"), measured.append_column("held_out", out))
    return Part(files={"lengths": (file,)}, counts=counts)


# ---- the plan: which sequences share a pack --------------------------------------------------------------------------


class EpochLayout(NamedTuple):
    """An epoch in the order it is written. position: into the pool; pack: from 0, ascending. Both [sequences]."""

    position: Rows
    pack: Ints


def _plan(
    settings: Sampling,
    seed: int,
    file_slots: int,
    groups: Sequence[tuple[int, int]],
    step_folder: str,
    measures: list[str],
    target: Target,
) -> Part:
    """Which rows each file of packs has, and in which order.

    Products: `layouts`, for each file its sequences as they are written: place among the file's rows by number, tokens
    of instruction and response, pack; `orders`, for each group of shards the rows to collect, file after file: row of
    the group, tokens of instruction and response; `bounds`, for each file where its rows lie in each group's order.
    """
    tables = [storage.map_arrow(path) for path in measures]
    rows = pool(tables, settings)
    counts = {f"unused/{reason}": number for reason, number in rows.unused.items()} | {"truncated": rows.truncated}
    if not len(rows.row):
        why = ", ".join(f"{number} {reason}" for reason, number in rows.unused.items()) or "no record is left"
        raise CheckFailed(f"there is nothing to pack: {why}; see `sampling.context` and the report")
    capacity = settings.context - 1
    per_file = max(1, file_slots // capacity)
    held_out_rows = np.concatenate([table["held_out"].to_numpy() for table in tables])[rows.row]
    draws = np.zeros(len(rows.row), np.uint32)
    layouts: list[TableRef] = []
    wanted: list[tuple[Rows, Rows, Rows]] = []  # by file, in the order of rows

    def write(drawn: Rows, split: str, epoch: int, generator: int) -> None:
        layout = lay(
            drawn, rows, capacity, np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, generator])))
        )
        for first in range(0, int(layout.pack[-1]) + 1, per_file):
            start, stop = np.searchsorted(layout.pack, [first, first + per_file])
            position = layout.position[start:stop]
            columns = [rows.row[position], rows.instruction[position], rows.response[position]]
            by_row = np.argsort(columns[0], kind="stable")
            wanted.append((columns[0][by_row], columns[1][by_row], columns[2][by_row]))
            place = np.empty(len(by_row), np.uint32)
            place[by_row] = np.arange(len(by_row), dtype=np.uint32)
            table = pa.table(
                [place, *columns[1:], layout.pack[start:stop] - first], ["place", "instruction", "response", "pack"]
            ).replace_schema_metadata({"epoch": str(epoch), "split": split})
            layouts.append(storage.write_arrow(target.path(suffix=".arrow", piece=len(layouts)), table))

    validation: Rows = np.empty(0, np.uint32)
    for epoch, drawn in enumerate(draw(rows.counts, rows.rules, seed, settings.epochs)):
        if epoch == 0:
            validation = drawn[held_out_rows[drawn]]
        trained = drawn[~held_out_rows[drawn]]
        if not len(trained):
            raise CheckFailed(f"epoch {epoch} has nothing to train on: {len(drawn)} rows drawn, all held out")
        np.add.at(draws, trained, 1)
        write(trained, "train", epoch, epoch)
    if len(validation):
        write(validation, "validation", 0, settings.epochs)
    counts["held_out"] = int(np.count_nonzero(held_out_rows & first_entries(rows.row)))
    fates = _write_fates(step_folder, tables, settings, rows, draws)
    counts |= coverage(rows, draws)
    orders, bounds = _write_orders(wanted, groups, [table.num_rows for table in tables], target)
    files = {"layouts": tuple(layouts), ROW_FATES: fates, "orders": orders, "bounds": (bounds,)}
    return Part(files=files, counts=counts)


def _write_orders(
    wanted: Sequence[tuple[Rows, Rows, Rows]], groups: Sequence[tuple[int, int]], rows: Sequence[int], target: Target
) -> tuple[tuple[TableRef, ...], TableRef]:
    """The products `orders` and `bounds` of the plan. wanted: by file of packs, rows ascending, and their tokens. rows:
    of each shard."""
    reach = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(rows, np.int64))])
    edges = reach[[0, *(last for _, last in groups)]]
    cuts = np.stack([np.searchsorted(numbers, edges) for numbers, _, _ in wanted])
    orders = []
    for group, base in enumerate(edges[:-1].tolist()):
        parts = [
            [column[begin:end] for column in columns]
            for columns, (begin, end) in zip(wanted, cuts[:, group : group + 2].tolist(), strict=True)
        ]
        row, instruction, response = (np.concatenate([part[at] for part in parts]) for at in range(3))
        table = pa.table([row.astype(np.int64) - base, instruction, response], ["row", "instruction", "response"])
        orders.append(storage.write_arrow(target.path("orders", ".arrow", piece=group), table))
    sizes = np.diff(cuts, axis=1)
    stops = np.cumsum(sizes, axis=0)
    bounds = pa.table({"start": (stops - sizes).tolist(), "stop": stops.tolist()})
    return tuple(orders), storage.write_arrow(target.path("bounds", ".arrow"), bounds)


def _write_fates(
    step_folder: str, tables: Sequence[pa.Table], settings: Sampling, rows: Pool, draws: npt.NDArray[np.uint32]
) -> tuple[TableRef, ...]:
    """One file for each token shard, written to its place in the step's folder: see `pack`."""
    draws_of_row = np.zeros(sum(table.num_rows for table in tables), np.uint32)
    np.add.at(draws_of_row, rows.row, draws)
    most = np.iinfo(np.uint16).max
    files: list[TableRef] = []
    first = 0
    for table, (reason, truncated) in zip(tables, judge_rows(tables, settings), strict=True):
        columns = {
            "reason": reason,
            "held_out": table["held_out"].combine_chunks(),
            "truncated": pa.array(truncated),
            "draws": pa.array(np.minimum(draws_of_row[first : first + table.num_rows], most).astype(np.uint16)),
        }
        path = Target(step_folder, len(files)).path("row_fates")
        files.append(storage.write_parquet(path, pa.table(columns)))
        first += table.num_rows
    return tuple(files)


def lay(
    drawn: Rows, rows: Pool, capacity: int, generator: np.random.Generator, window_slots: int = WINDOW_SLOTS
) -> EpochLayout:
    """Pack one epoch's draw (positions into `rows`), window by window; `generator` shuffles the packs of a window."""
    slots = rows.instruction[drawn].astype(np.int64) + rows.response[drawn] - 1
    position = np.empty_like(drawn)
    pack_of = np.empty(len(drawn), np.int64)
    before = 0
    for start, stop in _windows(slots, window_slots):
        window = slots[start:stop]
        placed, packs = best_fit(window, np.argsort(-window, kind="stable"), capacity)
        number = generator.permutation(packs)[placed]
        order = np.argsort(number, kind="stable")
        position[start:stop] = drawn[start:stop][order]
        pack_of[start:stop] = number[order] + before
        before += packs
    return EpochLayout(position, pack_of)


def _windows(slots: Ints, window_slots: int) -> Iterator[tuple[int, int]]:
    """Cut an epoch into windows of about equal size, each near `window_slots` slots."""
    reach = np.cumsum(slots)
    windows = max(1, round(int(reach[-1]) / window_slots))
    ends = np.searchsorted(reach, [int(reach[-1]) * (index + 1) // windows for index in range(windows)]) + 1
    starts = [0, *ends[:-1].tolist()]
    yield from ((start, stop) for start, stop in zip(starts, ends.tolist(), strict=True) if start < stop)


@kernel
def best_fit(slots: Ints, order: Ints, capacity: int) -> tuple[Ints, int]:
    """Place sequences in the `order` given, each into the open pack with the least room that it fits, or into a new
    one.

    slots: int64 [sequences], each at most `capacity`. Returns each sequence's pack (int64 [sequences]) and the number
    of packs. Among packs with equal room the newest is taken, so the result depends on the arguments alone.
    """
    pack_of = np.empty(len(slots), np.int64)
    # Packs with the same room form a linked list. One bit per room tells whether its list has any, 64 rooms to a word,
    # so the least room that fits is found by a scan over words instead of rooms.
    newest = np.full(capacity + 1, -1, np.int64)
    older = np.empty(len(slots), np.int64)
    has_packs = np.zeros(capacity // 64 + 1, np.uint64)
    one = np.uint64(1)
    packs = 0
    for item in order:
        need = slots[item]
        word = need >> 6
        bits = has_packs[word] >> np.uint64(need & 63) << np.uint64(need & 63)
        while bits == 0 and word + 1 < len(has_packs):
            word += 1
            bits = has_packs[word]
        if bits == 0:
            chosen, free = packs, capacity  # no open pack has room: open one
            packs += 1
        else:
            free = word << 6
            while not bits & one:
                bits >>= one
                free += 1
            # Take the newest pack with this room off its list.
            chosen = newest[free]
            newest[free] = older[chosen]
            if newest[free] < 0:
                has_packs[word] &= ~(one << np.uint64(free & 63))
        # Put it on the list of the room that it has now.
        free -= need
        pack_of[item] = chosen
        older[chosen] = newest[free]
        newest[free] = chosen
        has_packs[free >> 6] |= one << np.uint64(free & 63)
    return pack_of, packs


# ---- the packs ------------------------------------------------------------------------------------------------------


class _Wanted(NamedTuple):
    """A group of shards, and which of their rows to collect."""

    order: TableRef
    shards: tuple[TokenShard, ...]


class _Layout(NamedTuple):
    """A file of packs to be written: its sequences, and from where to where its rows lie in the file of each group."""

    file: FileRef
    starts: tuple[int, ...]
    stops: tuple[int, ...]


def _collect(tokenizer: FileRef, item: _Wanted, target: Target) -> Part:
    """The rows of a group of shards that are packed, in the order asked for: columns id, tokens (list)."""
    order = storage.map_arrow(item.order.path)
    rows, instruction, response = (
        order[name].to_numpy().astype(np.int64) for name in ("row", "instruction", "response")
    )
    counts = [shard.tokens.rows for shard in item.shards]
    reach = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(counts, np.int64))])

    def read(number: int) -> pa.Table:
        wanted = np.zeros(counts[number], np.bool_)
        wanted[rows[(rows >= reach[number]) & (rows < reach[number + 1])] - reach[number]] = True
        return read_tokens(item.shards[number], tokenizer, wanted)

    tokens, ids = gather(read, counts, rows, instruction, response, load(tokenizer).vocab_size)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(instruction + response)])
    lists = pa.LargeListArray.from_arrays(pa.array(starts), pa.array(tokens))
    table = pa.table([ids, lists], ["id", "tokens"])
    return Part(files={"tokens": (storage.write_arrow(target.path(suffix=".arrow"), table),)})


def _write_packs(files: Sequence[TableRef], metadata: dict[str, Any], layout: _Layout, target: Target) -> Part:
    planned = storage.map_arrow(layout.file.path)
    instruction, response = (planned[name].to_numpy().astype(np.int64) for name in ("instruction", "response"))
    pack_of = planned["pack"].to_numpy()
    packs = int(pack_of[-1]) + 1
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(instruction + response)])
    own = pa.concat_tables(
        ArrowFile(file.path, file.bytes).read(start, stop)
        for file, start, stop in zip(files, layout.starts, layout.stops, strict=True)
        if start < stop
    )
    place, lists = planned["place"].to_numpy().astype(np.int64), own["tokens"].combine_chunks()
    tokens = np.empty(starts[-1], token_type(metadata["vocab_size"]))
    _copy(lists.offsets.to_numpy(), lists.values.to_numpy(), place, starts[:-1], instruction + response, tokens)
    ids = own["id"].combine_chunks().take(pa.array(place))

    first = np.searchsorted(pack_of, np.arange(packs + 1))
    sequences = pa.array(first, pa.int32())
    table = pa.table(
        {
            "tokens": pa.ListArray.from_arrays(pa.array(starts[first], pa.int32()), pa.array(tokens)),
            "instruction_lengths": pa.ListArray.from_arrays(sequences, pa.array(instruction, pa.int32())),
            "response_lengths": pa.ListArray.from_arrays(sequences, pa.array(response, pa.int32())),
            "ids": pa.ListArray.from_arrays(sequences, ids),
        }
    )
    split = planned.schema.metadata[b"split"].decode()
    described = metadata | {"epoch": int(planned.schema.metadata[b"epoch"]), "split": split}
    table = table.replace_schema_metadata({"winnow": json.dumps(described, sort_keys=True)})
    used = len(tokens) - len(ids)
    counts = {"packs": packs, "sequences": len(ids), "slots": packs * metadata["capacity"], "slots_used": used}
    file = storage.write_arrow(target.path(suffix=".arrow"), table)
    if split == "validation":
        validation = {f"validation_{name}": count for name, count in counts.items()}
        return Part(files={VALIDATION_PACKS: (file,)}, counts=validation)
    return Part(files={PACKS: (file,)}, counts=counts)


def pack_files(packs: Manifest) -> tuple[TableRef, ...]:
    """All pack files of the step: of training first, then of validation."""
    return (*packs.tables(PACKS), *packs.tables(VALIDATION_PACKS))


def gather(
    read: Callable[[int], pa.Table],
    counts: Sequence[int],
    rows: Ints,
    instruction: Ints,
    response: Ints,
    vocab_size: int,
) -> tuple[npt.NDArray[np.uint16 | np.uint32], pa.StringArray]:
    """Collect token rows from shards, in the order of `rows`, with one copy of the tokens asked for.

    read: gives the ids of a shard by its number; it is asked for those that have rows. counts: the rows of each. rows:
    row numbers over all shards; instruction, response: how many tokens of each to take. All int64 [sequences]. Returns
    the tokens (each sequence's instruction, then its response) and the ids.
    """
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(instruction + response)])
    tokens = np.empty(starts[-1], token_type(vocab_size))
    reach = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(counts, np.int64))])
    order = np.argsort(rows, kind="stable")
    cuts = np.searchsorted(rows[order], reach)
    ids = []
    for number, (start, stop) in enumerate(itertools.pairwise(cuts.tolist())):
        if start == stop:
            continue
        wanted = order[start:stop]
        shard = read(number)
        local = rows[wanted] - reach[number]
        arrays = [shard[name].combine_chunks() for name in ("instruction", "response")]
        lists = [(array.offsets.to_numpy(), array.values.to_numpy()) for array in arrays]
        _copy(*lists[0], local, starts[:-1][wanted], instruction[wanted], tokens)
        _copy(*lists[1], local, (starts[:-1] + instruction)[wanted], response[wanted], tokens)
        ids.append(shard["id"].combine_chunks().take(pa.array(local)))
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return tokens, (pa.concat_arrays(ids) if ids else pa.array([], pa.string())).take(pa.array(back))


@kernel
def _copy(
    offsets: npt.NDArray[np.int32],
    values: npt.NDArray[np.uint16 | np.uint32],
    rows: Ints,
    places: Ints,
    lengths: Ints,
    out: npt.NDArray[np.uint16 | np.uint32],
) -> None:
    """Copy the first `lengths[i]` values of list `rows[i]` to `out[places[i]:]`, for every i."""
    for index in range(len(rows)):
        start, place = offsets[rows[index]], places[index]
        for step in range(lengths[index]):
            out[place + step] = values[start + step]
