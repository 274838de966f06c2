"""Which rows does an epoch draw, and in which order? HRM-Text's sampler (sapientinc/data_io, `sample_tokenized`).

An epoch is a draw, not a pass. Each file gives `min(max_per_file, rows) * repeat` rows per epoch: it walks a
permutation of its rows, and each epoch continues where the last one stopped. For the same lengths and seed the draw has
the same rows in the same order as upstream's, except for two of its defects: a response cut to a single token is left
out (upstream keeps it, although there is nothing to train on), and `repeat` on a small corpus does not overflow.

A file corresponds to one of upstream's folders: a source's name and the file part of a record's id, `<source>/<file>`.
Files are sorted by their names with `/` written as `__`, which is the name of upstream's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.exact import digest128, halves
from pipelines.recipe import Group, Sampling

MIN_RESPONSE = 2
"""Tokens of the shortest response that can be trained on: the first token is predicted from the instruction's last one,
the second from the first."""

ALL = Group(prefix="")
"""The rule of a file that matches no group: all its rows, once per epoch, long responses cut."""

ID = r"^(?P<file>[^/]+/.+?)/(?:0|[1-9]\d*)(?:/[^/]*)?$"
"""How a record's id names its file. A variant may be a number as well, so the file ends at the first number that could
be a row's: file `7` in a folder `en` reads as row 7 of `en`, while `0007` and `part-7` cannot be rows."""

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.unsignedinteger]
"""Row numbers, in the smallest unsigned type that holds them."""


def draw(rows: Sequence[int], groups: Sequence[Group], seed: int, epochs: int) -> Iterator[Rows]:
    """Yield each epoch's draw, in training order: positions into the rows of all files, one file after another.

    rows: usable rows of each file, files in sorted order. groups: each file's rule.

    One Philox generator makes every choice, in upstream's order: in each epoch, file by file, a new permutation if the
    file has none or has used it up; after the last file, a permutation of everything drawn. Memory: 4 bytes per row
    that a file's permutation still holds, and 16 per row drawn in an epoch while it is shuffled (twice that from 2**32
    rows on).
    """
    generator = np.random.Generator(np.random.Philox(seed))
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(rows, np.int64))])
    kind = np.uint32 if starts[-1] < 1 << 32 else np.uint64
    ahead: dict[int, Rows] = {}
    wanted = [rows_per_epoch(rule, count) for rule, count in zip(groups, rows, strict=True)]
    for epoch in range(epochs):
        drawn: list[Rows] = [np.empty(0, kind)]
        for file, (count, want) in enumerate(zip(rows, wanted, strict=True)):
            while want:
                if not len(ahead.get(file, ())):
                    order = generator.permutation(np.arange(count, dtype=kind))
                    # Later epochs cannot reach the rest of the permutation: with a cap, most of a large file's.
                    ahead[file] = order[: want + (epochs - 1 - epoch) * wanted[file]].copy()
                part = ahead[file][:want]
                ahead[file] = ahead[file][len(part) :]
                drawn.append(part + kind(starts[file]))
                want -= len(part)
        together = np.concatenate(drawn)
        yield together[generator.permutation(np.arange(len(together), dtype=kind))]


def rows_per_epoch(rule: Group, rows: int) -> int:
    """Rows that a file of `rows` usable rows gives to each epoch."""
    return (rows if rule.max_per_file is None else min(rule.max_per_file, rows)) * rule.repeat


def fit(
    instruction: npt.NDArray[np.integer], response: npt.NDArray[np.integer], context: int, cut: npt.NDArray[np.bool_]
) -> tuple[Ints, npt.NDArray[np.uint8]]:
    """How many response tokens of each row fit into the context, and why a row cannot be used.

    instruction, response: tokens, with envelope and end token. cut: whether a response that is too long is cut (its end
    token is lost, so the model does not learn to stop there) or its row left out. All [rows]. Returns the response
    lengths (int64) and an index into FAULTS (0 = usable).
    """
    room = context - np.minimum(instruction, context).astype(np.int64)
    kept = np.minimum(response, room)
    short, full, long = response < MIN_RESPONSE, room < MIN_RESPONSE, (response > room) & ~cut
    return kept, np.select([short, full, long], [1, 2, 3], 0).astype(np.uint8)


FAULTS = ("", "response_too_short", "instruction_fills_context", "longer_than_context", "left_out_by_weight")
"""Why a row is never drawn. The row's tokens stay: it may be usable in another context."""


def rule_of(name: str, groups: Sequence[Group]) -> Group:
    """The first of `groups` whose prefix the file's name starts with; `/` and `__` are the same."""
    return next((group for group in groups if matches(name, group)), ALL)


def matches(name: str, group: Group) -> bool:
    """Whether the file's name starts with the rule's prefix."""
    return _folder(name).startswith(_folder(group.prefix))


def _folder(name: str) -> str:
    return name.replace("/", "__")


@dataclass(frozen=True)
class Pool:
    """All usable rows, file after file in the sampler's order: 4 + 2 + 2 bytes a row.

    files: names, sorted. rules, counts: each file's rule and number of usable rows. row: a row's number over all token
    shards. instruction, response: tokens to train on. Those three [rows]. With `sampling.weights` a row stands there as
    often as its weight says, one entry after another, and `counts` counts entries. unused: rows that are not usable, by
    reason. truncated: usable rows whose response is cut.
    """

    files: tuple[str, ...]
    rules: tuple[Group, ...]
    counts: tuple[int, ...]
    row: Rows
    instruction: Rows
    response: Rows
    unused: dict[str, int]
    truncated: int


def measure(lengths: pa.Table, times: npt.NDArray[np.uint16] | None = None) -> pa.Table:
    """What the sampler reads of a shard: file (string, run-end encoded), instruction and response lengths (int32), and
    with `sampling.weights` the `times` that each row stands in its file (uint16; see `times_by_weight`).

    lengths: `token_rows.LENGTHS`.
    """
    named = pc.extract_regex(lengths["id"].combine_chunks(), ID)
    assert named.null_count == 0, "an id is <source>/<file>/<row>, or <source>/<file>/<row>/<variant>"
    columns = [lengths[name].combine_chunks() for name in ("instruction", "response")]
    table = pa.table([pc.run_end_encode(named.field("file")), *columns], ["file", "instruction", "response"])
    return table if times is None else table.append_column(TIMES, pa.array(times))


TIMES = "times"


def times_by_weight(
    ids: pa.StringArray, records: pa.Table, weights: Mapping[str, Mapping[str, float]], seed: int
) -> npt.NDArray[np.uint16]:
    """How often each row of a token shard stands in its file: uint16 [rows].

    ids: of the token rows [rows]. records: `id` and the columns of `weights`, of the same rows or more, in any order.
    The whole part of a row's weight counts in full. For the rest, a hash of its id and the seed decides, so the choice
    for a row depends on no other row.
    """
    weight = np.ones(records.num_rows)
    for column, values in weights.items():
        names = as_array(records[column]).cast(pa.string())
        known = pc.index_in(names, value_set=pa.array(list(values), pa.string()))
        weight *= np.array([*values.values(), 1.0])[pc.fill_null(known, len(values)).to_numpy(zero_copy_only=False)]
    weight = weight[pc.index_in(ids, value_set=as_array(records["id"])).to_numpy()]
    whole = np.floor(weight)
    hashes = halves(digest128(ids, pa.array([str(seed)] * len(ids), pa.string())))[:, 0]
    return np.asarray(whole + (hashes < (weight - whole) * 2.0**64), np.uint16)


def pool(measures: Sequence[pa.Table], settings: Sampling) -> Pool:
    """Gather the usable rows of all shards by file, in their order. measures: `measure` of each shard, in order."""
    names = sorted({name for table in measures for name in _runs(table)[0]}, key=lambda name: (_folder(name), name))
    number = {name: index for index, name in enumerate(names)}
    rules = tuple(rule_of(name, settings.groups) for name in names)
    cuts = np.array([rule.long_context == "truncate" for rule in rules], np.bool_)
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum([table.num_rows for table in measures])]).astype(np.int64)
    counts = np.zeros(len(names), np.int64)
    faults = np.zeros(len(FAULTS), np.int64)
    for table in measures:
        file, _, _, fault = _judged(table, number, cuts, settings.context)
        usable_rows = np.flatnonzero(fault == 0)
        counts += np.bincount(file[_repeated(usable_rows, table)], minlength=len(names))
        faults += np.bincount(fault, minlength=len(FAULTS))

    usable = int(counts.sum())
    row: Rows = np.empty(usable, np.uint32 if first[-1] < 1 << 32 else np.uint64)
    instructions: Rows = np.empty(usable, np.min_scalar_type(settings.context))
    responses: Rows = np.empty_like(instructions)
    cursor = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])[:-1]
    truncated = 0
    for index, table in enumerate(measures):
        file, instruction, response, fault = _judged(table, number, cuts, settings.context)
        # A stable sort by file keeps the rows of a file in the order of the shards.
        order = np.argsort(file, kind="stable")
        order = order[fault[order] == 0]
        truncated += int(np.count_nonzero(response[order] < table["response"].to_numpy()[order]))
        order = _repeated(order, table)
        added = np.bincount(file[order], minlength=len(names))
        place = np.repeat(cursor - (np.cumsum(added) - added), added) + np.arange(len(order))
        row[place] = order + first[index]
        instructions[place] = instruction[order]
        responses[place] = response[order]
        cursor += added
    unused = {FAULTS[index]: int(faults[index]) for index in range(1, len(FAULTS)) if faults[index]}
    return Pool(tuple(names), rules, tuple(counts.tolist()), row, instructions, responses, unused, truncated)


def _repeated(rows: Ints, table: pa.Table) -> Ints:
    """Rows of a measured shard, each as often as it stands in its file."""
    return np.repeat(rows, table[TIMES].to_numpy()[rows]) if TIMES in table.column_names else rows


def judge_rows(measures: Sequence[pa.Table], settings: Sampling) -> Iterator[tuple[pa.Array, npt.NDArray[np.bool_]]]:
    """For each shard, why each of its rows cannot be drawn (string, "" if it can), and whether its response is cut."""
    names = sorted({name for table in measures for name in _runs(table)[0]})
    number = {name: index for index, name in enumerate(names)}
    cuts = np.array([rule_of(name, settings.groups).long_context == "truncate" for name in names], np.bool_)
    for table in measures:
        _, _, response, fault = _judged(table, number, cuts, settings.context)
        truncated = (fault == 0) & (response < table["response"].to_numpy())
        yield pa.array(FAULTS, pa.string()).take(pa.array(fault)), truncated


def _runs(table: pa.Table) -> tuple[list[str], Ints]:
    """The file name and the number of rows of each run of rows."""
    column = table["file"].combine_chunks()
    ends = column.run_ends.to_numpy().astype(np.int64)
    return column.values.to_pylist(), np.diff(ends, prepend=np.int64(0))


def _judged(
    table: pa.Table, number: dict[str, int], cuts: npt.NDArray[np.bool_], context: int
) -> tuple[Ints, Ints, Ints, npt.NDArray[np.uint8]]:
    """For each row: its file's number, instruction tokens, response tokens that fit, and an index into FAULTS."""
    names, lengths = _runs(table)
    file = np.repeat(np.array([number[name] for name in names], np.int64), lengths)
    instruction, response = (table[name].to_numpy() for name in ("instruction", "response"))
    kept, fault = fit(instruction, response, context, cuts[file])
    if TIMES in table.column_names:
        fault[(fault == 0) & (table[TIMES].to_numpy() == 0)] = FAULTS.index("left_out_by_weight")
    return file, instruction, kept, fault


def held_out(lengths: pa.Table, share: float) -> npt.NDArray[np.bool_]:
    """Which rows of a token shard are held out for validation: bool [rows]. lengths: `token_rows.LENGTHS`.

    The hash of the instruction's tokens decides. So the choice depends on the text alone, and all answers to a question
    fall on the same side, whatever their condition.
    """
    limit = np.uint64(min(int(share * 2**64), 2**64 - 1))
    return np.asarray(lengths["question"].to_numpy() < limit)


def first_entries(row: Rows) -> npt.NDArray[np.bool_]:
    """Which entries of the pool are the first of their row: bool [rows]. row: `Pool.row`, or a file's part of it."""
    first = np.ones(len(row), np.bool_)
    first[1:] = row[1:] != row[:-1]
    return first


def coverage(pool: Pool, draws: npt.NDArray[np.integer]) -> dict[str, int]:
    """What the epochs draw of each source, as upstream's table has it: `coverage/<source>/<quantity>` -> whole number.

    draws: how often each entry of the pool was drawn [rows]. Quantities: files, rows, tokens (of the pool, each row
    once); drawn_rows, drawn_tokens, drawn_instruction_tokens, drawn_response_tokens (with repetition); unique_rows,
    unique_tokens.
    """
    totals: dict[str, int] = {}
    start = 0
    for name, count in zip(pool.files, pool.counts, strict=True):
        part = slice(start, start + count)
        start += count
        # The entries of a row are neighbours: its draws are summed, so that each row is one.
        entries = np.flatnonzero(first_entries(pool.row[part]))
        instruction, response = (column[part][entries].astype(np.int64) for column in (pool.instruction, pool.response))
        times = np.add.reduceat(draws[part].astype(np.int64), entries) if count else draws[part].astype(np.int64)
        drawn_instruction, drawn_response = instruction @ times, response @ times
        numbers = {
            "files": 1,
            "rows": len(entries),
            "tokens": instruction.sum() + response.sum(),
            "drawn_rows": times.sum(),
            "drawn_tokens": drawn_instruction + drawn_response,
            "drawn_instruction_tokens": drawn_instruction,
            "drawn_response_tokens": drawn_response,
            "unique_rows": np.count_nonzero(times),
            "unique_tokens": (instruction + response)[times > 0].sum(),
        }
        for quantity, number in numbers.items():
            key = f"coverage/{name.split('/')[0]}/{quantity}"
            totals[key] = totals.get(key, 0) + int(number)
    return totals
