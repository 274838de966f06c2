"""Exact and near duplicates: one row of each kind stays, and every row that goes names it.

Both steps have the same shape. (1) By shard: a small file of keys sorted by key, and one of what is needed to say who
survives. (2) By range of keys: rows that share a key meet, whatever shards they came from. (3) By shard: rows go. A
row is known by its number in the parent's shards, taken in order. Nothing leaves a task but committed files, so a task
that is run again cannot meet what its dead self sent; who survives depends on the rows alone, never on how they were
divided.

Near duplicates need three more phases between (2) and (3), each of the same kind: a file sorted by a key, of which the
next phase's tasks take ranges. The buckets of rows that met are divided by a code of their rows, so that equal buckets
come together; they are walked, which gives verified pairs; the pairs are divided by component and settled; the few
buckets that this leaves in doubt are walked again (see `dedup/survivors.py`).

Rows of earlier runs (`against`) come first in survivor order and never go. So what is left of the new rows is what a
rebuild of both together leaves, if there the earlier rows are preferred.
"""

from __future__ import annotations

import functools
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup import exact, minhash, probability, similarity
from dedup.buckets import Buckets, buckets_with, concat_buckets, distinct_buckets, group_by_key, renumber, without_rows
from dedup.forests import Forest, merge_forests
from dedup.pairs import Pairs, unique_pairs
from dedup.probability import Banding
from dedup.shingles import shingle_hashes
from dedup.similarity import Sets
from dedup.sorting import argsort, unique_inverse, unique_values
from dedup.survivors import compare_buckets, select_survivors
from dedup.tokens import normalise
from filters.stage import DROP_FIELDS, Outcome
from pipelines.errors import CheckFailed, InputError, RunError
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import Run, StepContext, Target, commit
from pipelines.ledger.runs import step_of_run
from pipelines.ledger.step import DROPPED_ROWS, StepType
from pipelines.ledger.storage import TableRef
from pipelines.recipe import ExactDuplicates, NearDuplicates, Recipe, TextField
from pipelines.steps.step import DROPPED_RECORDS, RECORDS, Build, Estimate, Rates, RecipeStep, Workload, by_text

Numbers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

KEEP = ("priority", "score", "length", "id")
"""Who survives: the source of higher priority, the higher mean of the `score_*` columns, the longer text, the lesser
id."""

MIX = np.uint64(0x9E3779B97F4A7C15)  # spreads small numbers over 64 bits, so that equal ranges hold equally many
MERGED = 8  # forests that one task merges, and walked files of which one task walks again what is in doubt

SETTLED = pa.schema(
    [
        ("row", pa.int64()),
        ("twin", pa.int64()),
        ("twin_id", pa.string()),
        ("jaccard", pa.float64()),
        ("pairs", pa.int64()),
        ("suspect", pa.bool_()),
    ]
)
"""What is known of the rows that have a pair. twin: the row that stays in this one's place, -1 where this row stays.
pairs: how many led it to an earlier row. suspect: stays although it has such a pair, and did not do so before with as
many."""


class Sizes(NamedTuple):
    """What one task takes on average; the number of tasks follows from the corpus alone, not from shards or workers.

    keys: 20 bytes each, some 70 while they are sorted. members: rows of buckets, which bring their shingles, 4 bytes a
    token. pairs: 24 bytes each, and the survival columns of their rows. So these bound a worker's memory.
    """

    keys: int = 1 << 22
    members: int = 1 << 20
    pairs: int = 1 << 21


SIZES = Sizes()


class Survival(NamedTuple):
    """What decides who survives: the order of the keys, and the sources' priorities (0 where none is given)."""

    keep: tuple[str, ...]
    priorities: Mapping[str, int]
    fields: tuple[TextField, ...]
    scope: Literal["across", "within"]


class Index(NamedTuple):
    """The files of the first phase. keys[i] and rows[i] are of shard i, whose rows are numbered from starts[i]; the
    last start is the number of all rows. The first `fixed` rows are of earlier runs."""

    keys: tuple[TableRef, ...]
    rows: tuple[TableRef, ...]
    starts: tuple[int, ...]
    fixed: int


class Share(NamedTuple):
    """Task `number` of `of`, and its range of 64-bit keys: from low to high, both included."""

    low: int
    high: int
    number: int
    of: int


ALL = Share(0, (1 << 64) - 1, 0, 1)


def drop_exact_duplicates(
    run: Run,
    records: Manifest,
    settings: ExactDuplicates,
    priorities: Mapping[str, int],
    against: Sequence[Manifest] = (),
    sizes: Sizes = SIZES,
) -> Manifest:
    """Drop records whose normalised `fields` are those of another (stage and reason `exact_duplicate`, evidence
    `twin`).

    against: the same step of earlier runs, whose kept records stay; evidence then names that step too (`against`).
    """
    survival = Survival(KEEP, dict(priorities), settings.fields, settings.scope)
    parameters = {**settings.model_dump(mode="json"), "priorities": _relevant(priorities)}
    step = EXACT_DUPLICATES.step(parameters, (records.key, *(earlier.key for earlier in against)))

    def work(context: StepContext) -> Sequence[Part]:
        shards = _shards(against, records)
        index = _index(context.map(functools.partial(_digest_shard, survival), shards, "digests"), shards, against)
        shares = _shares(index.starts[-1], sizes.keys)
        settled = context.map(functools.partial(_repeats, index, survival.keep), shares, "repeats")
        return _remove(context, records, "exact_duplicate", index, against, _tables(settled, "settled"))

    return run.do(step, work, records)


def drop_near_duplicates(
    run: Run,
    records: Manifest,
    settings: NearDuplicates,
    priorities: Mapping[str, int],
    against: Sequence[Manifest] = (),
    sizes: Sizes = SIZES,
) -> Manifest:
    """Drop records that have a kept twin whose shingles' Jaccard is at or above the threshold.

    Stage and reason are `near_duplicate`, evidence `twin` (its id) and `jaccard`. Records too short to shingle stay:
    `drop_exact_duplicates` has settled them. against: the same step of earlier runs, whose kept records stay; evidence
    then names that step too (`against`).
    """
    banding = banding_of(settings)
    survival = Survival(settings.keep, dict(priorities), settings.fields, settings.scope)
    parameters = {**settings.model_dump(mode="json"), "banding": list(banding), "priorities": _relevant(priorities)}
    step = NEAR_DUPLICATES.step(parameters, (records.key, *(earlier.key for earlier in against)))

    def work(context: StepContext) -> Sequence[Part]:
        shards = _shards(against, records)
        sign = functools.partial(_sign_shard, survival, banding, settings.seed)
        index = _index(context.map(sign, shards, "signatures"), shards, against)
        met = context.map(
            functools.partial(_group, index), _shares(index.starts[-1] * banding.bands, sizes.keys), "buckets"
        )
        shares = _shares(sum(part.counts["members"] for part in met), sizes.members)
        buckets = _tables(met, "buckets")
        walk = functools.partial(_walk, index, survival.keep, settings.threshold)
        parts = context.map(functools.partial(walk, buckets, ()), shares, "walk-0")
        walked = _tables(parts, "buckets")
        pairs, forest = _divided(context, _tables(parts, "pairs"))
        settling = _shares(sum(file.rows for file in pairs), sizes.pairs)
        settle = functools.partial(_settle, index, survival.keep, pairs)
        state = [_tables(context.map(functools.partial(settle, (), ()), settling, "settle-0"), "settled")]
        # One task that walked alone has explored to the end. Several may each have missed what another's pairs uncover.
        late: list[TableRef] = []
        while len(shares) > 1:
            turn = len(state)
            again = _shares(len(walked), MERGED)
            parts = context.map(functools.partial(walk, walked, tuple(state)), again, f"walk-{turn}")
            new = _tables([part for part in parts if part.counts["pairs"]], "pairs")
            if not new:
                break
            reach = functools.partial(_reach, forest, len(late))
            late += new
            (reached,) = context.map(reach, [tuple(late)], f"reach-{turn}")
            settle_again = functools.partial(settle, (reached.table("pairs"), reached.table("parts")), tuple(state))
            state.append(_tables(context.map(settle_again, settling, f"settle-{turn}"), "settled"))
        return _remove(context, records, "near_duplicate", index, against, [file for files in state for file in files])

    return run.do(step, work, records)


PRODUCTS = {RECORDS: "the records that stay", DROPPED_ROWS: DROPPED_RECORDS}

MERGE_BYTES_PER_ROW = 30
"""Bytes per row of the corpus in the one task that has all rows before it: the last merge of spanning forests takes 150
bytes a row that has a duplicate (docs/decisions/0005), a fifth of the rows in the mini corpus."""


def _make_exact(build: Build) -> Manifest:
    assert build.recipe.exact_duplicates
    against = previous_runs(build.run.root, build.recipe.against, EXACT_DUPLICATES)
    return drop_exact_duplicates(
        build.run, build.records, build.recipe.exact_duplicates, _priorities(build.recipe), against
    )


def _make_near(build: Build) -> Manifest:
    assert build.recipe.near_duplicates
    against = previous_runs(build.run.root, build.recipe.against, NEAR_DUPLICATES)
    return drop_near_duplicates(
        build.run, build.records, build.recipe.near_duplicates, _priorities(build.recipe), against
    )


def _priorities(recipe: Recipe) -> dict[str, int]:
    return {source.name: source.priority for source in recipe.sources}


def _with_forest(step: str, workload: Workload, rates: Rates) -> Estimate:
    estimate = by_text(step, workload, rates)
    return estimate._replace(memory_gb=estimate.memory_gb + MERGE_BYTES_PER_ROW * workload.rows / 1e9)


EXACT_DUPLICATES = RecipeStep(
    name="exact-duplicates",
    version=2,
    products=PRODUCTS,
    kept=RECORDS,
    wanted=lambda recipe: bool(recipe.exact_duplicates),
    make=_make_exact,
)

NEAR_DUPLICATES = RecipeStep(
    name="near-duplicates",
    version=2,
    products=PRODUCTS,
    kept=RECORDS,
    wanted=lambda recipe: bool(recipe.near_duplicates),
    make=_make_near,
    estimate=_with_forest,
)


def banding_of(settings: NearDuplicates) -> Banding:
    """The preset's bands, or bands for the threshold within 128 permutations."""
    return probability.PRESETS[settings.preset] if settings.preset else probability.choose_banding(settings.threshold)


def previous_runs(root: str, runs: Sequence[str], step: StepType) -> list[Manifest]:
    """The step of that type of earlier runs, by their whole ids: an abbreviation, or `latest`, would mean another run
    some other day.

    Raises: RunError: if a run is not there, or has no such step.
    """
    manifests = []
    for name in runs:
        try:
            manifest = step_of_run(root, name, step.name)
        except RunError as error:
            raise RunError(f"against: {error}") from None
        if manifest is None:
            mend = f"build it again, or set `{step.name.replace('-', '_')}: false` in this recipe"
            raise RunError(f"against: run {name} has no step {step.name} in {root}; {mend}")
        manifests.append(manifest)
    return manifests


def _relevant(priorities: Mapping[str, int]) -> dict[str, int]:
    """The priorities that differ from the default, so that a source added without one changes no step's address."""
    return {name: priority for name, priority in sorted(priorities.items()) if priority}


def _shards(against: Sequence[Manifest], records: Manifest) -> list[TableRef]:
    return [shard for manifest in (*against, records) for shard in manifest.shards]


def _shares(items: int, per_task: int) -> list[Share]:
    """Equal ranges of 64-bit keys, of about `per_task` of `items` each."""
    count = max(1, -(-items // per_task))
    return [Share((i << 64) // count, ((i + 1 << 64) // count) - 1, i, count) for i in range(count)]


# Files between the phases: written whole, read by range.


def _map(file: TableRef) -> pa.Table:
    """A file of an earlier phase. Errors: CheckFailed where it is gone or cut short."""
    try:
        return storage.map_arrow(file.path)
    except (InputError, OSError) as error:
        raise _damaged(file, "cannot be read") from error


def _damaged(file: TableRef, what: str) -> CheckFailed:
    folder = file.path.rsplit("/work/", 1)[0]
    mend = f"remove {posixpath.join(folder, 'work')} and run the same command again, it makes this step anew"
    return CheckFailed(f"{file.path}: {what}: damaged since it was written; {mend}")


def _check(files: Sequence[TableRef], share: Share) -> None:
    """Compare a task's part of the files with their digests: the tasks of a phase check each file once between them,
    and a phase of which one task fails is not done. Errors: CheckFailed."""
    for file in files[share.number :: share.of]:
        if not storage.exists(file.path) or storage.digest(file.path) != file.digest:
            raise _damaged(file, "its bytes are not those that its receipt names")


def _in_range(files: Sequence[TableRef], share: Share) -> Iterator[pa.Table]:
    """The rows of each file, sorted by the column `key`, whose keys are in a task's range.

    One after another: whoever copies what it needs of one before it asks for the next has one mapped at a time.
    """
    _check(files, share)
    for file in files:
        table = _map(file)
        if share.of > 1:
            keys = _numbers(table, "key")
            first = int(np.searchsorted(keys, np.uint64(share.low), "left"))
            after = int(np.searchsorted(keys, np.uint64(share.high), "right"))
            table = table.slice(first, after - first)
        yield table


def _numbers(table: pa.Table, name: str) -> npt.NDArray[Any]:
    column = table[name]
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _joined(tables: Sequence[pa.Table], name: str, kind: type[np.generic]) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, kind), *(_numbers(table, name) for table in tables)])


def _lists(table: pa.Table, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The values and offsets of a list column of one chunk, not copied; the offsets may not start at 0."""
    column = table[name]
    lists = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return lists.values.to_numpy(), lists.offsets.to_numpy()


# Phase 1, by shard: keys, and what decides who survives.


def _digest_shard(survival: Survival, shard: TableRef, target: Target) -> Part:
    """Two files: (key, low, row) sorted by key, the halves of each row's digest; and the survival columns."""
    records = _records(survival, shard)
    halves = exact.halves(exact.digest128(*(_canonical(_text(records, field)) for field in survival.fields)))
    high, low = halves[:, 0] ^ _salt(records, survival), halves[:, 1]
    by_key = argsort(high)
    keys = pa.table({"key": high[by_key], "low": low[by_key], "row": by_key.astype(np.uint32)})
    rows = pa.table(_survival_columns(records, survival))
    return part(
        keys=storage.write_arrow(target.path("keys", ".arrow"), keys),
        rows=storage.write_arrow(target.path("rows", ".arrow"), rows),
    )


def _records(survival: Survival, shard: TableRef) -> pa.Table:
    wanted = list(dict.fromkeys(("id", "source", *survival.fields)))
    return storage.read_parquet(shard.path, None if "score" in survival.keep else wanted).combine_chunks()


def _salt(records: pa.Table, survival: Survival) -> Keys:
    """What the keys of each row are mixed with: a hash of its source where rows of one source only may meet, else 0."""
    if survival.scope == "across":
        return np.zeros(records.num_rows, np.uint64)
    return exact.halves(exact.digest128(_text(records, "source")))[:, 0]


def _canonical(text: pa.StringArray) -> pa.StringArray:
    """Normalised text; where nothing is left of it, a space and the text itself, which no normalised text equals.

    Else all rows of nothing but punctuation would be one row.
    """
    normal = normalise(text)
    bare = pc.and_(pc.equal(pc.binary_length(normal), 0), pc.greater(pc.binary_length(text), 0))
    return pc.if_else(bare, pc.binary_join_element_wise("", text, " "), normal) if pc.any(bare).as_py() else normal


def _sign_shard(survival: Survival, banding: Banding, seed: int, shard: TableRef, target: Target) -> Part:
    """Two files: (key, row, code) of every band of every row, sorted by key; and the survival columns with the
    shingles, as a sorted set. code: a number of the row that like rows often share, the first of its signature."""
    table = _records(survival, shard)
    columns = [_text(table, field) for field in survival.fields]
    text = columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, "\n")
    shingles = shingle_hashes(text, banding.ngram, banding.unit)
    signed = minhash.signatures(shingles, banding.num_perm, seed)
    valid = np.flatnonzero(signed.valid)
    bands = minhash.band_keys(signed.values[valid], banding.bands, banding.rows)
    bands ^= _salt(table, survival)[valid, None]
    codes = np.repeat(signed.values[valid, 0], banding.bands)
    numbers = np.repeat(valid.astype(np.uint32), banding.bands)
    by_key = argsort(bands.ravel())
    keys = pa.table({"key": bands.ravel()[by_key], "row": numbers[by_key], "code": codes[by_key]})
    sets = similarity.shingle_sets(shingles)
    lists = pa.ListArray.from_arrays(pa.array(sets.offsets.astype(np.int32)), pa.array(sets.hash))
    rows = pa.table({**_survival_columns(table, survival), "shingles": lists})
    return part(
        keys=storage.write_arrow(target.path("keys", ".arrow"), keys),
        rows=storage.write_arrow(target.path("rows", ".arrow"), rows),
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


def _index(parts: Sequence[Part], shards: Sequence[TableRef], against: Sequence[Manifest]) -> Index:
    starts = np.concatenate([[0], np.cumsum([shard.rows for shard in shards], dtype=np.int64)])
    return Index(
        _tables(parts, "keys"),
        _tables(parts, "rows"),
        tuple(int(start) for start in starts),
        sum(earlier.rows_kept or 0 for earlier in against),
    )


def _keys_in(index: Index, share: Share, column: str) -> tuple[Keys, npt.NDArray[Any], Numbers]:
    """The keys of a range uint64 [n], the `column` beside them, and the numbers of their rows, over all shards."""
    kind = np.uint64 if column == "low" else np.uint32
    pieces = [(np.empty(0, np.uint64), np.empty(0, kind), np.empty(0, np.int64))]
    spans = pairwise(index.starts)
    for file, (first, after), table in zip(index.keys, spans, _in_range(index.keys, share), strict=True):
        rows = _numbers(table, "row").astype(np.int64) + first
        if len(rows) and rows.max() >= max(after, first):
            raise _damaged(file, "it names rows that its shard does not have")
        pieces.append((_numbers(table, "key").copy(), _numbers(table, column).copy(), rows))
    keys, beside, rows = (np.concatenate(columns) for columns in zip(*pieces, strict=True))
    return keys, beside, rows


def _by_shard(index: Index, rows: Numbers) -> list[tuple[int, slice, Numbers]]:
    """Of rows int64 [n], ascending: the shards that hold any, where in `rows` theirs are, and their numbers there."""
    borders = np.searchsorted(rows, np.array(index.starts, np.int64))
    return [
        (shard, slice(first, after), rows[first:after] - index.starts[shard])
        for shard, (first, after) in enumerate(pairwise(borders.tolist()))
        if after > first
    ]


def _rows_of(index: Index, rows: Numbers, columns: Sequence[str]) -> pa.Table:
    """The given survival `columns` of rows int64 [n], ascending, and whether each is `earlier` than this run."""
    types = {"priority": pa.int64(), "score": pa.float64(), "length": pa.int64(), "id": pa.string()}
    schema = pa.schema([(name, types[name]) for name in columns])
    pieces = [
        _map(index.rows[shard]).select(list(columns)).take(pa.array(local))
        for shard, _, local in _by_shard(index, rows)
    ]
    table = pa.concat_tables([schema.empty_table(), *pieces]).combine_chunks()
    return table.append_column("earlier", pa.array((rows < index.fixed).astype(np.int8)))


def _survivor_order(rows: pa.Table, keep: Sequence[str]) -> Numbers:
    """The rows' indices with the one to be preferred first: int64 [n]. Ids are distinct, so the order is total."""
    named = [*(name for name in keep if name != "id"), "id"] if "id" not in keep else keep[: keep.index("id") + 1]
    by = [("earlier", "descending"), *((name, "ascending" if name == "id" else "descending") for name in named)]
    # A column of one value says nothing, and sorting by fewer is faster.
    by = [key for key in by if key[0] == "id" or pc.count_distinct(rows[key[0]]).as_py() > 1]
    return np.asarray(pc.sort_indices(rows.select([name for name, _ in by]), sort_keys=by).to_numpy(), np.int64)


def _places(by: Numbers) -> Numbers:
    """Where each index stands in an order int64 [n]: the inverse permutation."""
    place = np.empty(len(by), np.int64)
    place[by] = np.arange(len(by))
    return place


def _repeats(index: Index, keep: Sequence[str], share: Share, target: Target) -> Part:
    """Which rows of a range of digests repeat another: a SETTLED file."""
    _check(index.rows, share)
    high, low, rows = _keys_in(index, share, "low")
    by_key = argsort(high)
    high, low, rows = high[by_key], low[by_key], rows[by_key]
    same = high[1:] == high[:-1]
    several = np.zeros(len(rows), np.bool_)
    several[1:] |= same
    several[:-1] |= same
    halves, rows = np.stack([high[several], low[several].astype(np.uint64)], axis=1), rows[several]
    by_row = np.argsort(rows)
    halves, rows = halves[by_row], rows[by_row]
    rank = _places(_survivor_order(_rows_of(index, rows, KEEP), keep))
    survivor = exact.find_duplicates(halves, rank)
    twin = np.where(survivor >= 0, rows[survivor], -1) if len(rows) else rows
    ones, none = np.ones(len(rows)), np.zeros(len(rows), np.bool_)
    return part(settled=_write_settled(index, target, rows, twin, ones, (twin >= 0).astype(np.int64), none))


def _group(index: Index, share: Share, target: Target) -> Part:
    """The rows that share a band key: buckets (key, members), sorted by a key that equal buckets share."""
    keys, codes, rows = _keys_in(index, share, "code")
    groups, least = group_by_key(keys, rows, codes.astype(np.uint32, copy=False))
    key = _spread(least.astype(np.int64))
    by_key = argsort(key)
    table = _bucket_table(groups).take(pa.array(by_key)).append_column("key", pa.array(key[by_key]))
    file = storage.write_arrow(target.path("buckets", ".arrow"), table)
    return part(buckets=file, counts={"members": len(groups.members)})


def _bucket_table(groups: Buckets) -> pa.Table:
    return pa.table(
        {"members": pa.ListArray.from_arrays(pa.array(groups.offsets, pa.int32()), pa.array(groups.members))}
    )


def _walk(
    index: Index,
    keep: Sequence[str],
    threshold: float,
    buckets: Sequence[TableRef],
    state: Sequence[Sequence[TableRef]],
    share: Share,
    target: Target,
) -> Part:
    """Explore a share of the buckets: the verified pairs, and the buckets themselves for a later walk.

    state: what is settled so far, turn by turn; then `buckets` are those of the first walk, task by task, and of a
    share of these files only those in doubt are walked.
    """
    _check(index.rows, share)
    if state:
        groups = _in_doubt(_in_range(buckets[share.number :: share.of], ALL), state, share)
    else:
        groups = _buckets_of(pa.concat_tables(list(_in_range(buckets, share))))
    involved, members = unique_inverse(groups.members)
    by_rank = _survivor_order(_rows_of(index, involved, KEEP), keep)
    place = _places(by_rank)
    ranked = renumber(Buckets(members, groups.offsets), place)
    fixed = int(np.searchsorted(involved, index.fixed))
    edges, compared = compare_buckets(ranked, _sets_of(index, involved, place), threshold, fixed)
    numbers = involved[by_rank]
    pairs = pa.table({"later": numbers[edges.later], "earlier": numbers[edges.earlier], "jaccard": edges.jaccard})
    files = {"pairs": (storage.write_arrow(target.path("pairs", ".arrow"), pairs),)}
    if not state:
        files["buckets"] = (storage.write_arrow(target.path("buckets", ".arrow"), _bucket_table(groups)),)
    return Part(files=dict(files), counts={"pairs": pairs.num_rows, "compared": compared})


def _buckets_of(table: pa.Table) -> Buckets:
    members, offsets = _lists(table.combine_chunks(), "members")
    first, after = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
    from_0 = (offsets - first).astype(np.int64) if len(offsets) else np.zeros(1, np.int64)
    return distinct_buckets(Buckets(members[first:after].astype(np.int64, copy=False), from_0))


def _sets_of(index: Index, rows: Numbers, place: Numbers) -> Sets:
    """The shingle sets of rows int64 [n], ascending, each put at its place [n]: one copy, from one mapped file after
    another. With all of them mapped at a time, a task would come to hold as much as the corpus has shingles."""
    sizes = np.zeros(len(rows) + 1, np.int64)
    for shard, span, local in _by_shard(index, rows):
        _, offsets = _lists(_map(index.rows[shard]), "shingles")
        sizes[place[span] + 1] = (offsets[1:] - offsets[:-1])[local]
    places = np.cumsum(sizes)
    out = np.empty(places[-1], np.uint32)
    for shard, span, local in _by_shard(index, rows):
        similarity.gather(Sets(*_lists(_map(index.rows[shard]), "shingles")), local, places[place[span]], out)
    return Sets(out, places)


def _in_doubt(walked: Iterator[pa.Table], state: Sequence[Sequence[TableRef]], share: Share) -> Buckets:
    """The buckets of the first walk that must be walked again among the rows that stay: those that hold a row that has
    become suspect in the last turn. Why no other: what a row stayed next to before, it has been compared with."""
    for files in state:
        _check(files, share)
    suspects = np.sort(np.concatenate([_suspects(_map(file)) for file in state[-1]]))
    found = concat_buckets([buckets_with(Buckets(*_lists(table, "members")), suspects) for table in walked])
    involved, members = unique_inverse(found.members)
    removed = _standing(involved, state)[0] >= 0
    left = without_rows(Buckets(members, found.offsets), removed)
    return Buckets(involved[left.members], left.offsets)


def _suspects(settled: pa.Table) -> Numbers:
    rows: Numbers = _numbers(settled, "row")[_numbers(settled, "suspect").astype(np.bool_)]
    return rows


def _standing(rows: Numbers, state: Sequence[Sequence[TableRef]]) -> tuple[Numbers, Numbers]:
    """The twin of rows int64 [n], -1 for those that stay, and how many pairs led each to an earlier row; the last turn
    that knows a row has the word."""
    twin, pairs = np.full(len(rows), -1, np.int64), np.zeros(len(rows), np.int64)
    for file in (file for files in state for file in files):
        settled = _map(file)
        known = _numbers(settled, "row")
        if len(known):
            at = np.minimum(np.searchsorted(known, rows), len(known) - 1)
            met = known[at] == rows
            twin[met] = _numbers(settled, "twin")[at[met]]
            pairs[met] = _numbers(settled, "pairs")[at[met]]
    return twin, pairs


# Phase 3, by component: pairs are settled. No decision crosses a component, so tasks need not hear of each other.


def _tables(parts: Sequence[Part], product: str) -> tuple[TableRef, ...]:
    return tuple(part.table(product) for part in parts)


def _divided(context: StepContext, pairs: Sequence[TableRef]) -> tuple[tuple[TableRef, ...], TableRef]:
    """The pairs sorted by component, file by file, and the forest that names the component of every row of them.

    Spanning forests of the files are merged in a tree until one is left.
    """
    forests, level = list(pairs), 0
    while level == 0 or len(forests) > 1:
        groups = [tuple(forests[i : i + MERGED]) for i in range(0, len(forests), MERGED)]
        forests = list(_tables(context.map(_merge, groups, f"forests-{level}"), "forest"))
        level += 1
    divided = context.map(functools.partial(_divide, forests[0]), pairs, "components")
    return _tables(divided, "pairs"), forests[0]


def _merge(files: Sequence[TableRef], target: Target) -> Part:
    """One spanning forest (row, root) of files whose first two columns are connected rows: pairs, or forests."""
    tables = _in_range(files, ALL)
    forest = merge_forests([Forest(*(_numbers(table, name) for name in table.column_names[:2])) for table in tables])
    table = pa.table(forest._asdict())
    return part(forest=storage.write_arrow(target.path("forest", ".arrow"), table))


def _divide(forest: TableRef, file: TableRef, target: Target) -> Part:
    """A file of pairs sorted by `key`, a number of their component."""
    tree, pairs = _in_range((forest, file), ALL)
    key = _spread(_component(tree, _numbers(pairs, "later")))
    by_key = argsort(key)
    table = pairs.select(["later", "earlier", "jaccard"]).take(pa.array(by_key))
    table = table.append_column("key", pa.array(key[by_key]))
    return part(pairs=storage.write_arrow(target.path("pairs", ".arrow"), table))


def _component(tree: pa.Table, rows: Numbers) -> Numbers:
    """The root of the component of rows int64 [n] in a forest; a row that is in none is a root, or alone."""
    known, roots = _numbers(tree, "row"), _numbers(tree, "root")
    if not len(known) or not len(rows):
        return rows
    at = np.minimum(np.searchsorted(known, rows), len(known) - 1)
    return np.where(known[at] == rows, roots[at], rows)


def _spread(rows: Numbers) -> Keys:
    """Row numbers as keys uint64 [n] of which equal ranges hold equally many."""
    return (rows.astype(np.uint64) + np.uint64(1)) * MIX


def _reach(forest: TableRef, old: int, late: Sequence[TableRef], target: Target) -> Part:
    """What pairs that were found late, those from index `old` on in the last turn, lead to, through late ones of any
    turn.

    Two files sorted by `key`, a number of the component as it is now: the late pairs of these components, and the
    components of the first turn that are parts of them, by their own key (`part`).
    """
    tree, *tables = _in_range((forest, *late), ALL)
    counts = [table.num_rows for table in tables]
    pairs = pa.concat_tables(tables).combine_chunks()
    ends = Forest(*(_component(tree, _numbers(pairs, name)) for name in ("later", "earlier")))
    bridges = pa.table(merge_forests([ends])._asdict())
    now = _component(bridges, ends.row)
    wanted = np.isin(now, now[sum(counts[:old]) :])
    key = _spread(now[wanted])
    by_key = argsort(key)
    found = pairs.filter(pa.array(wanted)).take(pa.array(by_key)).append_column("key", pa.array(key[by_key]))
    parts = np.unique(np.concatenate([end[wanted] for end in ends]))
    key = _spread(_component(bridges, parts))
    by_key = argsort(key)
    inside = pa.table({"key": key[by_key], "part": _spread(parts)[by_key]})
    return part(
        pairs=storage.write_arrow(target.path("pairs", ".arrow"), found),
        parts=storage.write_arrow(target.path("parts", ".arrow"), inside),
    )


def _settle(
    index: Index,
    keep: Sequence[str],
    pairs: Sequence[TableRef],
    reached: Sequence[TableRef],
    state: Sequence[Sequence[TableRef]],
    share: Share,
    target: Target,
) -> Part:
    """Decide a share of the components: a SETTLED file. Holds their pairs and the survival columns of their rows.

    reached: after the first turn, what the late pairs lead to; only that is decided, anew. state: what was settled
    before.
    """
    if reached:
        late, inside = _in_range(reached, share)
        parts = np.sort(_numbers(inside, "part"))
        _check(pairs, share)
        tables = [late.select(["later", "earlier", "jaccard"]), *(_of_parts(_map(file), parts) for file in pairs)]
    else:
        tables = list(_in_range(pairs, share))
    later, earlier, jaccard = (_joined(tables, name, np.int64) for name in ("later", "earlier", "jaccard"))
    rows, ends = unique_inverse(np.concatenate([later, earlier]))
    by_rank = _survivor_order(_rows_of(index, rows, KEEP), keep)
    place = _places(by_rank)
    edges = unique_pairs(Pairs(place[ends[: len(later)]], place[ends[len(later) :]], jaccard))
    decided = select_survivors(len(rows), edges)
    twin = np.where(decided.duplicate_of >= 0, rows[by_rank[decided.duplicate_of]], -1)[place] if len(rows) else rows
    count = np.bincount(edges.later, minlength=len(rows))[place]
    before, pairs_before = _standing(rows, state)
    suspect = decided.needs_recheck[place] & ((before >= 0) | (pairs_before != count))
    return part(settled=_write_settled(index, target, rows, twin, decided.jaccard[place], count, suspect))


def _of_parts(pairs: pa.Table, parts: Keys) -> pa.Table:
    """Those of the pairs, sorted by `key`, whose key is one of `parts`."""
    keys = _numbers(pairs, "key")
    first, after = np.searchsorted(keys, parts, "left"), np.searchsorted(keys, parts, "right")
    some = after > first
    sizes, first = (after - first)[some], first[some]
    at = np.repeat(first - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
    return pairs.select(["later", "earlier", "jaccard"]).take(pa.array(at))


def _write_settled(
    index: Index,
    target: Target,
    rows: Numbers,
    twin: Numbers,
    jaccard: npt.NDArray[np.float64],
    pairs: Numbers,
    suspect: npt.NDArray[np.bool_],
) -> TableRef:
    twins = unique_values(twin[twin >= 0])
    ids = _rows_of(index, twins, ("id",))["id"].combine_chunks()
    places = pa.array(np.searchsorted(twins, twin), mask=twin < 0)
    columns = [pa.array(rows), pa.array(twin), ids.take(places), pa.array(jaccard), pa.array(pairs), pa.array(suspect)]
    return storage.write_arrow(target.path("settled", ".arrow"), pa.table(columns, schema=SETTLED))


# Last, by shard: rows go.


def _remove(
    context: StepContext,
    records: Manifest,
    reason: str,
    index: Index,
    against: Sequence[Manifest],
    settled: Sequence[TableRef],
) -> list[Part]:
    starts = index.starts[len(index.rows) - len(records.shards) : -1]
    ends = np.cumsum([earlier.rows_kept or 0 for earlier in against], dtype=np.int64).tolist()
    origins = tuple((end, f"{earlier.step}-{earlier.key}") for end, earlier in zip(ends, against, strict=True))
    work = functools.partial(_remove_from_shard, reason, origins, tuple(settled))
    return context.map(
        work,
        [(shard, start, n, len(starts)) for n, (shard, start) in enumerate(zip(records.shards, starts, strict=True))],
    )


def _remove_from_shard(
    reason: str,
    origins: Sequence[tuple[int, str]],
    settled: Sequence[TableRef],
    item: tuple[TableRef, int, int, int],
    target: Target,
) -> Part:
    shard, start, number, of = item
    _check(settled, ALL._replace(number=number, of=of))
    pieces = []
    for file in settled:
        table = _map(file)
        first, after = np.searchsorted(_numbers(table, "row"), [start, start + shard.rows])
        pieces.append(table.slice(first, after - first))
    gone = pa.concat_tables(pieces).combine_chunks()
    rows = _numbers(gone, "row")
    by_row = np.argsort(rows, kind="stable")
    last = np.ones(len(rows), np.bool_)  # the last turn that knows a row has the word
    last[:-1] = rows[by_row][1:] != rows[by_row][:-1]
    gone = gone.take(pa.array(by_row[last]))
    gone = gone.filter(pc.greater_equal(gone["twin"], 0))
    records = storage.read_parquet(shard.path)
    local = _numbers(gone, "row") - start
    stays = np.ones(shard.rows, np.bool_)
    stays[local] = False
    dropped = records.take(pa.array(local))
    marks = [
        pa.array([reason] * len(local), pa.string()),
        pa.array([reason] * len(local), pa.string()),
        _evidence(gone, reason == "near_duplicate", origins),
    ]
    for field, column in zip(DROP_FIELDS, marks, strict=True):
        dropped = dropped.append_column(field, column)
    return commit(Outcome(records.filter(pa.array(stays)), dropped), shard.rows, target)


def _evidence(gone: pa.Table, near: bool, origins: Sequence[tuple[int, str]]) -> pa.Array:
    """JSON for each row that goes: its twin's id, their Jaccard, and the earlier run's step where the twin is there."""
    ids = gone["twin_id"].combine_chunks()
    if pc.any(pc.match_substring_regex(ids, r"[^ !#-\[\]-~]")).as_py():
        quoted = pa.array([json.dumps(twin) for twin in ids.to_pylist()], pa.string())  # what JSON must escape is rare
    else:
        quoted = pc.binary_join_element_wise('"', ids, '"', "")
    pieces = ['{"twin": ', quoted]
    if near:
        tenths, place = np.unique(np.rint(_numbers(gone, "jaccard") * 1e4), return_inverse=True)
        words = pa.array([str(value / 1e4) for value in tenths.tolist()], pa.string())
        pieces += [', "jaccard": ', words.take(pa.array(place))]
    if origins:
        steps = pa.array([*(f', "against": "{step}"' for _, step in origins), ""])
        which = np.searchsorted([end for end, _ in origins], _numbers(gone, "twin"), "right")
        pieces.append(steps.take(pa.array(which)))
    return pc.binary_join_element_wise(*pieces, "}", "")
