"""Where are the rows that are to be forgotten, and is a new run the same without them?

A row is selected by its id in a run, by a text that it contains, or by its source. What is selected are texts and
sources: a row with the same texts under another id is forgotten as well, in every run below the root.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from dedup.columns import as_array
from pipelines.ledger import storage, tombstones
from pipelines.ledger.arrow_file import ArrowFile
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.ledger.storage import TableRef
from pipelines.ledger.tombstones import Tombstones
from pipelines.steps.products import HITS, PACKS, RECORDS

TEXTS = ["id", "source", "instruction", "response"]

ROW_BY_ROW = ("ingest", "refine")
"""How the names of steps begin that decide every row by itself. The others weigh rows against each other."""

NAMED = 20
"""Ids that an answer names of each kind."""


class Selection(NamedTuple):
    """What a user wants forgotten. run_ids: of rows of one run. texts: that a row contains. sources: names."""

    ids: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


class Place(BaseModel):
    """A file that holds rows to be forgotten. step: its folder. file: relative to the root."""

    model_config = ConfigDict(frozen=True)

    step: str
    product: str
    file: str
    rows: int


class Alike(BaseModel):
    """A row that is not forgotten, though a step found that it repeats a forgotten one, or is repeated by it.

    of: the forgotten row. reason: `stage/reason` of the one of the two that was dropped.
    """

    model_config = ConfigDict(frozen=True)

    row: str
    of: str
    reason: str


class RunPlaces(BaseModel):
    """What a run holds. rows: ids in the first step. reached: how many are in the corpus. places: files with such rows.
    alike: rows that are nearly the same and stay.
    made_from: products of its steps that were computed from all rows, so also from these. packs: that hold them, among
    the training packs, in training order from 0; not part of the answer."""

    model_config = ConfigDict(frozen=True)

    run: str
    status: str
    rows: tuple[str, ...]
    reached: int
    places: tuple[Place, ...]
    alike: tuple[Alike, ...]
    made_from: tuple[str, ...]
    packs: tuple[int, ...]


def first_step(run: RecordedRun) -> Manifest | None:
    """The step of a run that read the sources; None for a run that failed before."""
    return next((step for step in run.steps if step.kept == RECORDS), None)


def _tables(step: Manifest, columns: list[str]) -> Iterator[pa.Table]:
    """The rows of a first step, kept and dropped, without those that were forgotten before."""
    for shard in step.shards:
        yield storage.read_parquet(shard.path, columns)
    for shard in step.dropped:
        table = storage.read_parquet(shard.path, [*columns, "stage"])
        yield table.filter(pc.not_equal(table["stage"], tombstones.STAGE)).drop_columns(["stage"])


def texts_of(step: Manifest, ids: Collection[str]) -> dict[str, bytes]:
    """Id -> digest of its texts, of those rows of a first step that it has."""
    wanted = pa.array(sorted(ids), pa.string())
    found: dict[str, bytes] = {}
    for table in _tables(step, TEXTS) if ids else ():
        own = table.filter(pc.is_in(table["id"], value_set=wanted))
        found |= dict(zip(own["id"].to_pylist(), tombstones.text_digests(own).to_pylist(), strict=True))
    return found


def containing(step: Manifest, texts: Sequence[str]) -> set[bytes]:
    """The digests of the rows of a first step whose instruction or response contains one of these texts. A run of white
    space counts as one blank; case counts."""
    found: set[bytes] = set()
    for table in _tables(step, TEXTS) if texts else ():
        hit = np.zeros(table.num_rows, np.bool_)
        for name in ("instruction", "response"):
            column = pc.replace_substring_regex(as_array(table[name]), pattern=r"\s+", replacement=" ")
            for text in texts:
                found_here = pc.match_substring(column, " ".join(text.split()))
                hit |= np.asarray(found_here.to_numpy(zero_copy_only=False))
        found.update(tombstones.text_digests(table.filter(pa.array(hit))).to_pylist())
    return found


def forgotten_before(step: Manifest, ids: Collection[str]) -> dict[str, bytes]:
    """Id -> digest of its texts, of those rows that a first step dropped since they were forgotten."""
    wanted = pa.array(sorted(ids), pa.string())
    found: dict[str, bytes] = {}
    for shard in step.dropped if ids else ():
        table = storage.read_parquet(shard.path, ["id", "stage", "digest"])
        mask = pc.and_(pc.is_in(table["id"], value_set=wanted), pc.equal(table["stage"], tombstones.STAGE))
        own = table.filter(mask)
        found |= dict(zip(own["id"].to_pylist(), own["digest"].to_pylist(), strict=True))
    return found


def forgotten_rows(step: Manifest, stones: Tombstones, sources: Collection[str]) -> dict[str, bytes]:
    """Id -> digest of its texts, of the rows of a first step that have a tombstone or are of these sources."""
    names = pa.array(sorted(sources), pa.string())
    found: dict[str, bytes] = {}
    for table in _tables(step, TEXTS):
        mask = tombstones.are_forgotten(table, stones.rows)
        mask |= np.asarray(pc.is_in(table["source"], value_set=names).to_numpy(zero_copy_only=False))
        if mask.any():
            own = table.filter(pa.array(mask))
            found |= dict(zip(own["id"].to_pylist(), tombstones.text_digests(own).to_pylist(), strict=True))
    return found


def source_files(step: Manifest, sources: Collection[str]) -> frozenset[str]:
    """The identities of the files of these sources in a first step."""
    return frozenset(
        str(file[2]) for source in step.parameters["sources"] if source["name"] in sources for file in source["files"]
    )


def places(run: RecordedRun, ids: Collection[str], on_file: Callable[[int], None] = lambda size: None) -> RunPlaces:
    """The files of a run that hold these rows. Reads the ids of every table. on_file: called with the bytes of each."""
    wanted = pa.array(sorted(ids), pa.string())
    found: list[Place] = []
    made_from: list[str] = []
    packs: list[int] = []
    corpus = run.product("corpus")
    reached = 0
    for step in run.steps:
        pack = 0
        for part in step.parts:
            for product, files in part.files.items():
                for file in files:
                    on_file(file.bytes)
                    held = _held(file, wanted) if isinstance(file, TableRef) else None
                    if held is None:
                        if step.step not in ("benchmark-index", "item-vectors"):
                            made_from.append(f"{step.folder}: {product}")
                        continue
                    if len(held):
                        relative = file.path.removeprefix(run.root).lstrip("/")
                        found.append(Place(step=step.folder, product=product, file=relative, rows=len(held)))
                        reached += len(held) if step is corpus and product == RECORDS else 0
                        if product == PACKS:
                            packs += (held + pack).tolist()
                    if product == PACKS and isinstance(file, TableRef):
                        pack += file.rows
    return RunPlaces(
        run=run.id,
        status=run.status,
        rows=tuple(sorted(ids)),
        reached=reached,
        places=tuple(found),
        alike=tuple(_alike(run, wanted)),
        made_from=(*dict.fromkeys(made_from), f"{run.folder.removeprefix(run.root).lstrip('/')}: report"),
        packs=tuple(sorted(set(packs))),
    )


def _alike(run: RecordedRun, wanted: pa.Array) -> Iterator[Alike]:
    """The rows that duplicate steps found to be like those wanted, and that are not among them."""
    for step in run.steps:
        for file in step.dropped if step.step.endswith("-duplicates") else ():
            table = pl.DataFrame(storage.read_parquet(file.path, ["id", "stage", "reason", "evidence"]))
            reason = pl.concat_str("stage", "reason", separator="/")
            pairs = table.select("id", reason=reason, twin=pl.col("evidence").str.json_path_match("$.twin"))
            ids, twins = (pl.Series(pc.is_in(pairs[name].to_arrow(), value_set=wanted)) for name in ("id", "twin"))
            for row, reason, twin in pairs.filter(ids & ~twins).drop_nulls("twin").iter_rows():
                yield Alike(row=twin, of=row, reason=reason)
            for row, reason, twin in pairs.filter(twins & ~ids).iter_rows():
                yield Alike(row=row, of=twin, reason=reason)


def _held(file: TableRef, wanted: pa.Array) -> np.ndarray | None:
    """The rows of a table with one of the ids, of packs the packs; None for a table without ids."""
    if file.path.endswith(".parquet"):
        names = storage.columns(file.path)
        name = (
            "id" if "id" in names else "row" if "row" in names and file.path.rpartition("/")[0].endswith(HITS) else None
        )
        if name is None:
            return None
        column = storage.read_parquet(file.path, [name])[name]
        return np.flatnonzero(pc.is_in(column, value_set=wanted).to_numpy())
    table = ArrowFile(file.path, file.bytes)
    if "ids" in table.schema.names:
        ids = table.read(columns=["ids"])["ids"].combine_chunks()
        matches = pc.is_in(ids.flatten(), value_set=wanted)
        return np.unique(pc.list_parent_indices(ids).filter(matches).to_numpy(zero_copy_only=False))
    if "id" not in table.schema.names:
        return None
    column = table.read(columns=["id"])["id"]
    return np.flatnonzero(pc.is_in(column, value_set=wanted).to_numpy())


# ------------------------------------------------------------------------------------------------------------- proof


class Change(BaseModel):
    """A row of the corpus that one run keeps and the other does not, though it is not forgotten.

    reason: why the run drops it that does not keep it, `step: stage/reason`. twin: the row in whose favour.
    """

    model_config = ConfigDict(frozen=True)

    row: str
    reason: str
    twin: str | None


class Proof(BaseModel):
    """What was compared between a run and the one that replaces it.

    rows: of the first step that were compared, and are equal in every column. forgotten: rows that the new run drops as
    forgotten. texts: rows of the corpus that both keep, with the same texts. searched: files of the new run in which no
    forgotten row is, by id and by text. kept_now: rows that are kept in place of forgotten ones. dropped_now: rows that
    are dropped in favour of these, or since counts over all rows changed. packs: before and now.
    """

    model_config = ConfigDict(frozen=True)

    old: str
    new: str
    rows: int
    forgotten: int
    texts: int
    searched: int
    kept_now: tuple[Change, ...]
    dropped_now: tuple[Change, ...]
    packs: tuple[int, int]


def prove(
    old: RecordedRun,
    new: RecordedRun,
    ids: Collection[str],
    texts: frozenset[bytes],
    problems: list[str],
    say: Callable[[str], None],
) -> Proof:
    """Compare a run with the one that replaces it.

    ids: of the forgotten rows. texts: digests of texts that no row may have any more; another source may have a row
    with the text of a forgotten source. problems: what is wrong is added: a row that is still there, that changed, or
    that is gone without being forgotten.
    """
    say("rows as they were read")
    rows, forgotten = _compare_first(old, new, ids, problems)
    say("the corpus")
    compared, kept_now, dropped_now = _compare_corpus(old, new, ids, problems)
    say("every file of the new run")
    searched = _search(new, ids, texts, problems)
    counts = [run.product("packs") for run in (old, new)]
    before, now = (packs.counts.get("packs", 0) if packs else 0 for packs in counts)
    return Proof(
        old=old.id, new=new.id, rows=rows, forgotten=forgotten, texts=compared, searched=searched,
        kept_now=kept_now, dropped_now=dropped_now, packs=(before, now),
    )  # fmt: skip


def _compare_first(old: RecordedRun, new: RecordedRun, ids: Collection[str], problems: list[str]) -> tuple[int, int]:
    """Whether the first step of both has the same rows in the same order, but for those forgotten."""
    steps = tuple(step for run in (old, new) if (step := first_step(run)) is not None)
    wanted = pa.array(sorted(ids), pa.string())
    compared = 0
    for product in (RECORDS, DROPPED_ROWS):
        streams = [_rows_of(step, product, wanted) for step in steps]
        pending = [pa.table({}), pa.table({})]
        while True:
            for side, stream in enumerate(streams):
                while not pending[side].num_rows and (table := next(stream, None)) is not None:
                    pending[side] = table
            count = min(table.num_rows for table in pending)
            if not count:
                break
            pieces = [table.slice(0, count).combine_chunks() for table in pending]
            if not pieces[0].equals(pieces[1]):
                names = [piece["id"].to_pylist() for piece in pieces]
                first = next((one for one, other in zip(*names, strict=True) if one != other), names[0][0])
                cause = (
                    "the code that reads them has changed since; build the recipe again first"
                    if steps[0].code != steps[1].code
                    else "did an input file change? Bring it back, or build the recipe again first"
                )
                problems.append(
                    f"run {new.id}: ingest: the rows from {first} on are not those of run {old.id}; {cause}"
                )
                return compared, 0
            compared += count
            pending = [table.slice(count) for table in pending]
        if any(table.num_rows for table in pending):
            problems.append(f"run {new.id}: ingest: it has not as many rows ({product}) as run {old.id}")
    gone = [storage.read_parquet(file.path, ["id", "stage"]) for file in steps[1].dropped]
    dropped = (
        pa.concat_tables(gone)
        if gone
        else pa.table({"id": pa.array([], pa.string()), "stage": pa.array([], pa.string())})
    )
    marked = dropped.filter(pc.equal(dropped["stage"], tombstones.STAGE))["id"]
    missing = set(ids) - set(marked.to_pylist())
    if missing:
        problems.append(f"run {new.id}: ingest does not drop {min(missing)} as forgotten, and {len(missing) - 1} more")
    return compared, len(marked)


def _rows_of(step: Manifest, product: str, without: pa.Array) -> Iterator[pa.Table]:
    """The rows of a product but those forgotten, now or before."""
    for file in step.tables(product):
        table = storage.read_parquet(file.path)
        mask = pc.invert(pc.is_in(table["id"], value_set=without))
        if product == DROPPED_ROWS:
            mask = pc.and_(mask, pc.not_equal(table["stage"], tombstones.STAGE))
        yield table.filter(mask)


def _compare_corpus(
    old: RecordedRun, new: RecordedRun, ids: Collection[str], problems: list[str]
) -> tuple[int, tuple[Change, ...], tuple[Change, ...]]:
    """Rows of the corpus that both keep, and those of which only one does."""
    digests = [_digests(run) for run in (old, new)]
    both = digests[0].join(digests[1], on="id", suffix="_new")
    changed = both.filter(pl.col("digest") != pl.col("digest_new"))
    if len(changed):
        problems.append(
            f"run {new.id}: {len(changed)} rows have another text than in run {old.id}: {changed['id'][0]} ..."
        )
    lost = set(digests[0].join(digests[1], on="id", how="anti")["id"]) - set(ids)
    come = set(digests[1].join(digests[0], on="id", how="anti")["id"])
    changes = _changes(old, come), _changes(new, lost)
    for run, wanted, found in ((old, come, changes[0]), (new, lost, changes[1])):
        by_itself = [change for change in found if change.reason.startswith(ROW_BY_ROW)]
        unexplained = wanted - {change.row for change in found}
        problems += [
            f"run {run.id}: row {name} has another fate, though no forgotten row has a part in it"
            for name in [*(change.row for change in by_itself), *sorted(unexplained)][:NAMED]
        ]
    return len(both), changes[0], changes[1]


def _digests(run: RecordedRun) -> pl.DataFrame:
    """Id and digest of each row of the corpus."""
    tables = [pl.DataFrame(storage.read_parquet(shard.path, ["id", "digest"])) for shard in run.records.shards]
    return pl.concat([pl.DataFrame(schema={"id": pl.String, "digest": pl.Binary}), *tables])


def _changes(run: RecordedRun, rows: set[str]) -> tuple[Change, ...]:
    """Where a run drops these rows."""
    wanted = pa.array(sorted(rows), pa.string())
    found = []
    for step in run.steps if rows else ():
        for file in step.dropped:
            table = storage.read_parquet(file.path, ["id", "stage", "reason", "evidence"])
            for row in table.filter(pc.is_in(table["id"], value_set=wanted)).to_pylist():
                twin = json.loads(row["evidence"] or "{}").get("twin")
                found.append(Change(row=row["id"], reason=f"{step.step}: {row['stage']}/{row['reason']}", twin=twin))
    return tuple(found)


def _search(run: RecordedRun, ids: Collection[str], digests: frozenset[bytes], problems: list[str]) -> int:
    """Search every table of a run for forgotten ids, and those of records for forgotten texts. Rows that the first step
    drops as forgotten have ids, and no texts."""
    wanted = pa.array(sorted(ids), pa.string())
    searched = 0
    first = first_step(run)
    for step in run.steps:
        for part in step.parts:
            for product, files in part.files.items():
                for file in files:
                    searched += 1
                    if not isinstance(file, TableRef):
                        continue
                    told = step is first and product == DROPPED_ROWS
                    held = None if told else _held(file, wanted)
                    if held is not None and len(held):
                        problems.append(f"{file.path}: still holds {len(held)} forgotten rows")
                    if step.kept and product in (RECORDS, DROPPED_ROWS):
                        table = storage.read_parquet(file.path, ["instruction", "response"])
                        if not told and tombstones.are_forgotten(table, digests).any():
                            problems.append(f"{file.path}: still holds a forgotten text")
    if first is not None:
        for file in first.dropped:
            table = storage.read_parquet(file.path, ["stage", "instruction", "response"])
            own = table.filter(pc.equal(table["stage"], tombstones.STAGE))
            if (
                pc.sum(pc.binary_length(own["instruction"])).as_py()
                or pc.sum(pc.binary_length(own["response"])).as_py()
            ):
                problems.append(f"{file.path}: a forgotten row still has its text")
    return searched
