"""Exact and near duplicates: one row of each kind stays, and every row that goes names it.

Both steps have the same shape. (1) By shard: a small file of keys sorted by key, and one of what is needed to say who
survives. (2) By range of keys: rows that share a key meet, whatever shards they came from. (3) By shard: rows go. A
row is known by its number in the parent's shards, taken in order. Nothing leaves a task but committed files, so a task
that is run again cannot meet what its dead self sent; who survives depends on the rows alone, never on how they were
divided.

Near duplicates need what happened elsewhere before a row's fate is sure: between (2) and (3) the verified pairs are
settled, and the few buckets that this leaves in doubt are walked again (see `dedup/clusters.py`).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup import clusters, exact, minhash, probability, similarity
from dedup.probability import Banding
from dedup.shingles import Shingles, normalise, shingle_hashes
from filters.stage import DROP_FIELDS, Outcome
from pipelines import storage
from pipelines.manifest import Manifest, Part, Step
from pipelines.recipe import ExactDuplicates, NearDuplicates, TextField
from pipelines.run import Desk, Run, Target, commit
from pipelines.storage import ShardRef

Numbers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

KEEP = ("priority", "score", "length", "id")
"""Who survives: the source of higher priority, the higher mean of the `score_*` columns, the longer text, the lesser
id."""

KEYS_PER_TASK = 1 << 20
"""Keys that one range task takes on average. A bucketed row brings its shingles, 4 bytes a token, so this bounds
memory."""

SETTLED = pa.schema(
    [
        ("row", pa.int64()),
        ("twin", pa.int64()),
        ("twin_id", pa.string()),
        ("jaccard", pa.float64()),
        ("suspect", pa.bool_()),
    ]
)
"""What is known of the rows that have a pair. twin: the row that stays in this one's place, -1 where this row stays."""


class Survival(NamedTuple):
    """What decides who survives: the order of the keys, and the sources' priorities (0 where none is given)."""

    keep: tuple[str, ...]
    priorities: Mapping[str, int]
    fields: tuple[TextField, ...]


class Index(NamedTuple):
    """The files of the first phase. keys[i] and rows[i] are of shard i, whose rows are numbered from starts[i]."""

    keys: tuple[ShardRef, ...]
    rows: tuple[ShardRef, ...]
    starts: tuple[int, ...]


class Range(NamedTuple):
    """One task's share of the keys: from low to high, both included. again: its buckets of the first walk and what is
    settled."""

    low: int
    high: int
    again: tuple[ShardRef, ShardRef] | None = None


def drop_exact_duplicates(
    run: Run, records: Manifest, settings: ExactDuplicates, priorities: Mapping[str, int]
) -> Manifest:
    """Drop records whose normalised `fields` are those of another (stage and reason `exact_duplicate`, evidence
    `twin`)."""
    survival = Survival(KEEP, dict(priorities), settings.fields)
    step = Step("exact-duplicates", 1, {"fields": settings.fields, "priorities": _relevant(priorities)}, (records.key,))

    def work(desk: Desk) -> Sequence[Part]:
        index = _index(desk.map(functools.partial(_digest_shard, survival), records.shards, "digests"), records.shards)
        ranges = _ranges(records.rows_kept)
        settled = desk.map(functools.partial(_repeats, index, survival.keep), ranges, "repeats")
        return _remove(desk, records, "exact_duplicate", [part.shards[0] for part in settled])

    return run.do(step, work, of=records)


def drop_near_duplicates(
    run: Run, records: Manifest, settings: NearDuplicates, priorities: Mapping[str, int]
) -> Manifest:
    """Drop records that have a kept twin whose shingles' Jaccard is at or above the threshold.

    Stage and reason are `near_duplicate`, evidence `twin` (its id) and `jaccard`. Records too short to shingle stay:
    `drop_exact_duplicates` has settled them.
    """
    banding = banding_of(settings)
    survival = Survival(settings.keep, dict(priorities), settings.fields)
    parameters = {**settings.model_dump(mode="json"), "banding": list(banding), "priorities": _relevant(priorities)}
    step = Step("near-duplicates", 1, parameters, (records.key,))

    def work(desk: Desk) -> Sequence[Part]:
        sign = functools.partial(_sign_shard, survival, banding, settings.seed)
        index = _index(desk.map(sign, records.shards, "signatures"), records.shards)
        ranges = _ranges(records.rows_kept * banding.bands)
        walked = desk.map(functools.partial(_walk, index, survival.keep, settings.threshold), ranges, "walk-0")
        edges = [part.shards[0] for part in walked]
        state = _settle_all(desk, index, survival.keep, edges, 0)
        # One task that walked alone has explored to the end. Several may each have missed what another's pairs uncover.
        turn = 0
        while len(ranges) > 1:
            turn += 1
            again = [one._replace(again=(part.shards[1], state)) for one, part in zip(ranges, walked, strict=True)]
            parts = desk.map(functools.partial(_walk, index, survival.keep, settings.threshold), again, f"walk-{turn}")
            if not sum(part.counts["pairs"] for part in parts):
                break
            edges += [part.shards[0] for part in parts]
            state = _settle_all(desk, index, survival.keep, edges, turn)
        return _remove(desk, records, "near_duplicate", [state])

    return run.do(step, work, of=records)


def banding_of(settings: NearDuplicates) -> Banding:
    """The preset's bands, or bands for the threshold within 128 permutations."""
    return probability.PRESETS[settings.preset] if settings.preset else probability.choose(settings.threshold)


def _relevant(priorities: Mapping[str, int]) -> dict[str, int]:
    """The priorities that differ from the default, so that a source added without one changes no step's address."""
    return {name: priority for name, priority in sorted(priorities.items()) if priority}


# Phase 1, by shard: keys, and what decides who survives.


def _digest_shard(survival: Survival, shard: ShardRef, target: Target) -> Part:
    """Two files: (high, low, row) sorted by high, the halves of each row's digest; and the survival columns."""
    records = storage.read_parquet(shard.path).combine_chunks()
    halves = exact.halves(exact.digest128(*(_canonical(_text(records, field)) for field in survival.fields)))
    order = np.argsort(halves[:, 0], kind="stable")
    keys = pa.table({"key": halves[order, 0], "low": halves[order, 1], "row": order.astype(np.uint32)})
    rows = pa.table(_survival_columns(records, survival))
    return Part(
        shards=(
            storage.write_arrow(target.path("keys", ".arrow"), keys),
            storage.write_arrow(target.path("rows", ".arrow"), rows),
        )
    )


def _canonical(text: pa.StringArray) -> pa.StringArray:
    """Normalised text; where nothing is left of it, a space and the text itself, which no normalised text equals.

    Else all rows of nothing but punctuation would be one row.
    """
    normal = normalise(text)
    bare = pc.and_(pc.equal(pc.binary_length(normal), 0), pc.greater(pc.binary_length(text), 0))
    return pc.if_else(bare, pc.binary_join_element_wise("", text, " "), normal) if pc.any(bare).as_py() else normal


def _sign_shard(survival: Survival, banding: Banding, seed: int, shard: ShardRef, target: Target) -> Part:
    """Two files: (key, row) of every band of every row, sorted by key; and the survival columns with the shingles."""
    wanted = list(dict.fromkeys(("id", "source", *survival.fields)))
    table = storage.read_parquet(shard.path, None if "score" in survival.keep else wanted).combine_chunks()
    columns = [_text(table, field) for field in survival.fields]
    text = columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, "\n")
    shingles = shingle_hashes(text, banding.ngram, banding.unit)
    signed = minhash.signatures(shingles, banding.num_perm, seed)
    valid = np.flatnonzero(signed.valid)
    bands = minhash.band_keys(signed.values[valid], banding.bands, banding.rows).ravel()
    order = np.argsort(bands, kind="stable")
    keys = pa.table({"key": bands[order], "row": np.repeat(valid.astype(np.uint32), banding.bands)[order]})
    lists = pa.ListArray.from_arrays(pa.array(shingles.offsets.astype(np.int32)), pa.array(shingles.hash))
    rows = pa.table({**_survival_columns(table, survival), "shingles": lists})
    return Part(
        shards=(
            storage.write_arrow(target.path("keys", ".arrow"), keys),
            storage.write_arrow(target.path("rows", ".arrow"), rows),
        )
    )


def _text(records: pa.Table, field: str) -> pa.StringArray:
    column = records[field]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _survival_columns(records: pa.Table, survival: Survival) -> dict[str, pa.Array]:
    """priority int64, score float64, length int64 (bytes of the compared fields) and id of records [rows]."""
    names = list(survival.priorities)
    known = pa.array([survival.priorities[name] for name in names], pa.int64())
    places = pc.index_in(records["source"], value_set=pa.array(names, pa.string()))
    scores = [
        np.asarray(records[name].to_numpy(), np.float64) for name in records.column_names if name.startswith("score_")
    ]
    score = np.nan_to_num(np.mean(scores, axis=0), nan=-np.inf) if scores else np.zeros(records.num_rows)
    length = sum(
        (pc.binary_length(records[field]).to_numpy().astype(np.int64) for field in survival.fields),
        np.zeros(records.num_rows, np.int64),
    )
    return {
        "priority": known.take(places).fill_null(0),
        "score": pa.array(score),
        "length": pa.array(length),
        "id": records["id"],
    }


# Phase 2, by range of keys: rows that share one meet.


def _index(parts: Sequence[Part], shards: Sequence[ShardRef]) -> Index:
    starts = np.concatenate([[0], np.cumsum([shard.rows for shard in shards], dtype=np.int64)])[:-1]
    return Index(
        tuple(part.shards[0] for part in parts),
        tuple(part.shards[1] for part in parts),
        tuple(int(start) for start in starts),
    )


def _ranges(keys: int) -> list[Range]:
    """Equal ranges of 64-bit keys; their number follows from the corpus alone, not from shards or workers."""
    count = max(1, -(-keys // KEYS_PER_TASK))
    return [Range((i << 64) // count, ((i + 1 << 64) // count) - 1) for i in range(count)]


def _keys_in(index: Index, part: Range, columns: Sequence[str]) -> tuple[list[Keys], Numbers]:
    """`columns` (uint64) of the keys in a range, and the numbers of their rows, over all shards."""
    found: list[list[Keys]] = [[] for _ in columns]
    rows: list[Numbers] = []
    for file, start in zip(index.keys, index.starts, strict=True):
        table = storage.map_arrow(file.path)
        keys = table["key"].to_numpy()
        first, after = (
            np.searchsorted(keys, np.uint64(part.low), "left"),
            np.searchsorted(keys, np.uint64(part.high), "right"),
        )
        for at, column in enumerate(columns):
            found[at].append(table[column].to_numpy()[first:after])
        rows.append(table["row"].to_numpy()[first:after].astype(np.int64) + start)
    return [np.concatenate([np.empty(0, np.uint64), *pieces]) for pieces in found], np.concatenate(
        [np.empty(0, np.int64), *rows]
    )


def _rows_of(index: Index, rows: Numbers, columns: Sequence[str]) -> pa.Table:
    """The given `columns` of rows int64 [n], ascending, from the files of the first phase."""
    starts = np.array(index.starts, np.int64)
    borders = np.append(np.searchsorted(rows, starts), len(rows))
    pieces = []
    for at, file in enumerate(index.rows):
        if borders[at + 1] > borders[at]:
            local = rows[borders[at] : borders[at + 1]] - starts[at]
            pieces.append(storage.map_arrow(file.path).select(list(columns)).take(pa.array(local)))
    if pieces:
        return pa.concat_tables(pieces).combine_chunks()
    types = {
        "priority": pa.int64(),
        "score": pa.float64(),
        "length": pa.int64(),
        "id": pa.string(),
        "shingles": pa.list_(pa.uint32()),
    }
    return pa.table({name: pa.array([], types[name]) for name in columns})


def _survivor_order(rows: pa.Table, keep: Sequence[str]) -> Numbers:
    """The rows' indices with the one to be preferred first: int64 [n]. Ids are distinct, so the order is total."""
    named = [*(name for name in keep if name != "id"), "id"] if "id" not in keep else keep[: keep.index("id") + 1]
    by = [(name, "ascending" if name == "id" else "descending") for name in named]
    return np.asarray(pc.sort_indices(rows.select([name for name, _ in by]), sort_keys=by).to_numpy(), np.int64)


def _repeats(index: Index, keep: Sequence[str], part: Range, target: Target) -> Part:
    """Which rows of a range of digests repeat another: a SETTLED file."""
    (high, low), rows = _keys_in(index, part, ("key", "low"))
    order = np.lexsort((low, high))
    high, low, rows = high[order], low[order], rows[order]
    same = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    several = np.zeros(len(rows), np.bool_)
    several[1:] |= same
    several[:-1] |= same
    halves, rows = np.stack([high[several], low[several]], axis=1), rows[several]
    order = np.argsort(rows)
    halves, rows = halves[order], rows[order]
    order = _survivor_order(_rows_of(index, rows, KEEP), keep)
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows))
    survivor = exact.repeats(halves, rank)
    twin = np.where(survivor >= 0, rows[survivor], -1) if len(rows) else rows
    return Part(shards=(_write_settled(index, target, rows, twin, np.ones(len(rows)), np.zeros(len(rows), np.bool_)),))


def _walk(index: Index, keep: Sequence[str], threshold: float, part: Range, target: Target) -> Part:
    """Explore the buckets of a range of band keys: the verified pairs, and in the first walk the buckets too."""
    if part.again is None:
        (keys,), rows = _keys_in(index, part, ("key",))
        groups = clusters.buckets(keys, rows)
    else:
        groups = _in_doubt(*part.again)
    involved = np.unique(groups.members)
    table = _rows_of(index, involved, (*KEEP, "shingles"))
    order = _survivor_order(table, keep)
    lists = table["shingles"].combine_chunks()
    shingles = Shingles(lists.values.to_numpy(), lists.offsets.to_numpy().astype(np.int64))
    place = np.empty(len(involved), np.int64)
    place[order] = np.arange(len(involved))
    members = place[np.searchsorted(involved, groups.members)]
    bucket = np.repeat(np.arange(len(groups.offsets) - 1), np.diff(groups.offsets))
    ranked = clusters.Buckets(members[np.lexsort((members, bucket))], groups.offsets)
    edges, compared = clusters.explore(ranked, similarity.shingle_sets(shingles, order), threshold)
    numbers = involved[order]
    pairs = pa.table({"later": numbers[edges.later], "earlier": numbers[edges.earlier], "jaccard": edges.jaccard})
    files = [storage.write_arrow(target.path("pairs", ".arrow"), pairs)]
    if part.again is None:
        lists = pa.ListArray.from_arrays(pa.array(groups.offsets.astype(np.int32)), pa.array(groups.members))
        files.append(storage.write_arrow(target.path("buckets", ".arrow"), pa.table({"members": lists})))
    return Part(shards=tuple(files), counts={"pairs": pairs.num_rows, "compared": compared})


def _in_doubt(walked: ShardRef, state: ShardRef) -> clusters.Buckets:
    """The buckets of the first walk that must be walked again among the rows that stay."""
    lists = storage.map_arrow(walked.path)["members"].combine_chunks()
    members, offsets = lists.values.to_numpy(), lists.offsets.to_numpy().astype(np.int64)
    settled = storage.map_arrow(state.path)
    known = settled["row"].to_numpy()
    if not len(known):
        return clusters.Buckets(np.empty(0, np.int64), np.zeros(1, np.int64))
    at = np.minimum(np.searchsorted(known, members), len(known) - 1)
    met = known[at] == members
    removed = met & (settled["twin"].to_numpy()[at] >= 0)
    suspect = met & settled["suspect"].to_numpy(zero_copy_only=False)[at]
    numbered = clusters.Buckets(np.arange(len(members)), offsets)
    doubtful = clusters.suspicious(numbered, removed, suspect)
    return clusters.Buckets(members[doubtful.members], doubtful.offsets)


def _settle_all(desk: Desk, index: Index, keep: Sequence[str], edges: Sequence[ShardRef], turn: int) -> ShardRef:
    (part,) = desk.map(functools.partial(_settle, index, keep), [tuple(edges)], f"settle-{turn}")
    return part.shards[0]


def _settle(index: Index, keep: Sequence[str], edges: Sequence[ShardRef], target: Target) -> Part:
    """Decide over all pairs found so far: a SETTLED file. Holds the pairs and the survival columns of their rows."""
    tables = [storage.map_arrow(file.path) for file in edges]
    later, earlier, jaccard = (
        np.concatenate([table[name].to_numpy() for table in tables]) for name in ("later", "earlier", "jaccard")
    )
    rows = np.unique(np.concatenate([later, earlier]))
    order = _survivor_order(_rows_of(index, rows, KEEP), keep)
    place = np.empty(len(rows), np.int64)
    place[order] = np.arange(len(rows))
    ranked = clusters.Edges(place[np.searchsorted(rows, later)], place[np.searchsorted(rows, earlier)], jaccard)
    settled = clusters.settle(len(rows), clusters.unique_edges(ranked))
    twin = np.where(settled.twin >= 0, rows[order[settled.twin]], -1)[place] if len(rows) else rows
    return Part(shards=(_write_settled(index, target, rows, twin, settled.jaccard[place], settled.suspect[place]),))


def _write_settled(
    index: Index,
    target: Target,
    rows: Numbers,
    twin: Numbers,
    jaccard: npt.NDArray[np.float64],
    suspect: npt.NDArray[np.bool_],
) -> ShardRef:
    twins = np.unique(twin[twin >= 0])
    ids = _rows_of(index, twins, ("id",))["id"].combine_chunks()
    places = pa.array(np.searchsorted(twins, twin), mask=twin < 0)
    columns = [pa.array(rows), pa.array(twin), ids.take(places), pa.array(jaccard), pa.array(suspect)]
    return storage.write_arrow(target.path("settled", ".arrow"), pa.table(columns, schema=SETTLED))


# Phase 3, by shard: rows go.


def _remove(desk: Desk, records: Manifest, reason: str, settled: Sequence[ShardRef]) -> list[Part]:
    starts = _index([], records.shards).starts
    return desk.map(
        functools.partial(_remove_from_shard, reason, tuple(settled)), list(zip(records.shards, starts, strict=True))
    )


def _remove_from_shard(reason: str, settled: Sequence[ShardRef], item: tuple[ShardRef, int], target: Target) -> Part:
    shard, start = item
    pieces = []
    for file in settled:
        table = storage.map_arrow(file.path)
        first, after = np.searchsorted(table["row"].to_numpy(), [start, start + shard.rows])
        pieces.append(table.slice(first, after - first))
    gone = pa.concat_tables(pieces).combine_chunks()
    gone = gone.filter(pc.greater_equal(gone["twin"], 0)).sort_by("row")
    records = storage.read_parquet(shard.path)
    local = gone["row"].to_numpy() - start
    stays = np.ones(shard.rows, np.bool_)
    stays[local] = False
    dropped = records.take(pa.array(local))
    near = reason == "near_duplicate"
    # A loop over the dropped only.
    evidence = [
        json.dumps({"twin": twin, "jaccard": round(jaccard, 4)} if near else {"twin": twin})
        for twin, jaccard in zip(gone["twin_id"].to_pylist(), gone["jaccard"].to_pylist(), strict=True)
    ]
    marks = [
        pa.array([reason] * len(local), pa.string()),
        pa.array([reason] * len(local), pa.string()),
        pa.array(evidence, pa.string()),
    ]
    for field, column in zip(DROP_FIELDS, marks, strict=True):
        dropped = dropped.append_column(field, column)
    return commit(Outcome(records.filter(pa.array(stays)), dropped), shard.rows, target)
