"""Which records does a manifest of a corpus list? Those are kept, in its order and under its ids.

A record is found by its id if its text has the digest that the manifest gives. Else it is found by its digest among the
records of its source: a data set whose files were renamed, cut or joined anew is the same corpus. Steps between the
stages and the tokenizer (duplicates, contamination, cuts at scores) decided which records the manifest lists, so a
build of one does not need them, nor evaluation sets.

If a listed record is not found, the step fails and says which records of which source changed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.exact import digest128, halves
from filters.stage import mark
from pipelines.errors import CheckFailed
from pipelines.ledger import storage
from pipelines.ledger.corpus_manifest import CorpusManifest, Head
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import StepContext, Target
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.ledger.storage import TableRef
from pipelines.steps.ingest import INGEST
from pipelines.steps.products import RECORDS
from pipelines.steps.step import DROPPED_RECORDS, Build, RecipeStep

NOT_LISTED = "not_listed"
"""The reason of a record that the manifest does not list."""

STAGE = "manifest"
"""The stage of such a record."""

EXAMPLES = 3
"""Records that the message names of each source."""

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]


def make(build: Build) -> Manifest:
    """Keep the records that the recipe's manifest lists.

    The places of all listed records are held in one task: 45 bytes a record, 4.5 GB for 100 M.

    Raises: CheckFailed: naming sources and records, if a listed record is not among the records.
    """
    path, records = build.recipe.manifest, build.records
    assert path is not None
    manifest = CorpusManifest(path)
    step = MANIFEST_ROWS.step({"manifest": storage.digest(manifest.path)}, (records.key,))
    before = [made for made in build.made.values() if made.kept == RECORDS]

    def work(context: StepContext) -> Sequence[Part]:
        (found,) = context.map(functools.partial(_find, records.shards, before), [manifest.path], phase="find")
        if found.files.get("differences"):
            raise CheckFailed(_message(manifest, found.table("differences"), build.made[INGEST.name]))
        places = found.files["places"]
        listed = [_Listed(manifest.path, index, file.path) for index, file in enumerate(places)]
        kept = context.map(functools.partial(_gather, [shard.path for shard in records.shards]), listed)
        rest = [_Rest(shard, file.path) for shard, file in zip(records.shards, found.files["left"], strict=True)]
        return [*kept, *context.map(functools.partial(_drop, manifest.head.run, context.folder), rest, phase="drop")]

    return build.run.do(step, work, records)


MANIFEST_ROWS = RecipeStep(
    name="manifest-rows",
    products={RECORDS: "the records that a manifest lists, in its order", DROPPED_ROWS: DROPPED_RECORDS},
    kept=RECORDS,
    wanted=lambda recipe: recipe.manifest is not None,
    make=make,
    estimate=None,
)


class _Listed(NamedTuple):
    """A shard of the corpus that a manifest lists. places: the file with where its records are found."""

    manifest: str
    shard: int
    path: str


class _Rest(NamedTuple):
    """A shard of records, and the file that says which of them are not listed."""

    shard: TableRef
    left: str

    @property
    def path(self) -> str:
        """Of the records, for messages."""
        return self.shard.path


class _Index:
    """The listed records, by the hash of their id and by their digest.

    digest: uint64 [rows, 2]. source: number in `sources`, uint16 [rows]. shard, row: where each is found, int32 [rows];
    shard -1 where it is not. changed: whether a record of this id has another text, bool [rows].
    """

    def __init__(self, manifest: CorpusManifest) -> None:
        rows = manifest.head.rows
        self.sources = {source.name: number for number, source in enumerate(manifest.head.sources)}
        self.digest = np.empty((rows, 2), np.uint64)
        self.source = np.empty(rows, np.uint16)
        self.shard, self.row = np.full(rows, -1, np.int32), np.zeros(rows, np.int32)
        self.changed = np.zeros(rows, np.bool_)
        hashes = np.empty(rows, np.uint64)
        self.starts = [0]
        for batch in manifest:
            start, stop = self.starts[-1], self.starts[-1] + batch.num_rows
            hashes[start:stop] = id_hashes(batch["id"])
            if batch.num_rows:
                self.digest[start:stop] = halves(batch["digest"])
            self.source[start:stop] = _numbers(_source_of(batch["id"]), self.sources)
            self.starts.append(stop)
        self._order = np.argsort(hashes, kind="stable").astype(np.uint32 if rows < 1 << 32 else np.int64)
        self._hashes = hashes[self._order]

    def positions(self, ids: pa.StringArray) -> Numbers:
        """The place of each id in the manifest, -1 where it is not listed: int64 [rows]."""
        hashes = id_hashes(ids)
        at = np.minimum(np.searchsorted(self._hashes, hashes), max(len(self._hashes) - 1, 0))
        if not len(self._hashes):
            return np.full(len(hashes), -1, np.int64)
        return np.where(self._hashes[at] == hashes, self._order[at].astype(np.int64), -1)

    def take(self, records: pa.Table, shard: int) -> None:
        """Find the listed records that are in a shard under their own ids."""
        at = self.positions(as_array(records["id"]))
        rows = np.flatnonzero(at >= 0)
        if not len(rows):
            return
        at = at[rows]
        same = (halves(as_array(records["digest"]))[rows] == self.digest[at]).all(axis=1)
        self.shard[at[same]], self.row[at[same]] = shard, rows[same]
        self.changed[at[~same]] = True

    @property
    def missing(self) -> Numbers:
        """The places of listed records that are not found: int64 [n], ascending."""
        return np.flatnonzero(self.shard < 0)

    def left(self, shards: Sequence[TableRef]) -> list[npt.NDArray[np.bool_]]:
        """For each shard which of its records are not listed: bool [rows]."""
        masks = [np.ones(shard.rows, np.bool_) for shard in shards]
        order = np.argsort(self.shard, kind="stable")
        cuts = np.searchsorted(self.shard[order], np.arange(len(shards) + 1))
        for mask, start, stop in zip(masks, cuts[:-1], cuts[1:], strict=True):
            mask[self.row[order[start:stop]]] = False
        return masks


def id_hashes(ids: pa.StringArray) -> Hashes:
    """64 bits of each id: uint64 [rows]."""
    return np.ascontiguousarray(halves(digest128(ids))[:, 0]) if len(ids) else np.empty(0, np.uint64)


def _source_of(ids: pa.StringArray) -> pa.StringArray:
    return pc.replace_substring_regex(ids, r"/(?s:.)*$", "")


def _numbers(names: pa.StringArray, known: dict[str, int]) -> npt.NDArray[np.uint16]:
    values = pa.array(list(known), pa.string())
    return np.asarray(pc.index_in(names, value_set=values).fill_null(len(known))).astype(np.uint16)


def _find(shards: Sequence[TableRef], before: Sequence[Manifest], path: str, target: Target) -> Part:
    """Where each listed record is.

    Products: `places`, a file for each shard of the manifest (shard, row: int32); `left`, a file for each shard of
    records (left: bool). If a record is not found, `differences` instead (see `_differences`).
    """
    manifest = CorpusManifest(path)
    index = _Index(manifest)
    with storage.verified(shards):
        for number, shard in enumerate(shards):
            index.take(storage.read_parquet(shard.path, ["id", "digest"]), number)
    if len(index.missing):
        _find_by_digest(index, shards)
    if len(index.missing):
        table = _differences(index, manifest, shards, before)
        return part(differences=storage.write_parquet(target.path("differences"), table))
    places, left = [], []
    for number, (start, stop) in enumerate(zip(index.starts, index.starts[1:], strict=False)):
        table = pa.table({"shard": index.shard[start:stop], "row": index.row[start:stop]})
        places.append(storage.write_arrow(target.path("places", ".arrow", number), table))
    for number, mask in enumerate(index.left(shards)):
        left.append(storage.write_arrow(target.path("left", ".arrow", number), pa.table({"left": pa.array(mask)})))
    return Part(files={"places": tuple(places), "left": tuple(left)})


_GROUP = ["first", "second", "source"]


def _find_by_digest(index: _Index, shards: Sequence[TableRef]) -> None:
    """Find the records that are not there under their ids by digest and source, equal ones in order."""
    missing = index.missing
    wanted = _groups(index.digest[missing], index.source[missing]).with_columns(position=missing)
    left = index.left(shards)
    found = []
    for number, shard in enumerate(shards):
        rows = np.flatnonzero(left[number])
        records = storage.read_parquet(shard.path, ["source", "digest"], pa.array(rows))
        if not len(rows):
            continue
        sources = _numbers(as_array(records["source"]), index.sources)
        table = _groups(halves(as_array(records["digest"])), sources)
        table = table.with_columns(shard=pl.lit(number, pl.Int32), row=pl.Series(rows.astype(np.int32)))
        found.append(table.join(wanted.select(_GROUP).unique(), on=_GROUP, how="semi", maintain_order="left"))
    if not found:
        return
    count = pl.int_range(pl.len()).over(_GROUP).alias("count")
    pairs = wanted.with_columns(count).join(pl.concat(found).with_columns(count), on=[*_GROUP, "count"])
    at = pairs["position"].to_numpy()
    index.shard[at], index.row[at] = pairs["shard"].to_numpy(), pairs["row"].to_numpy()


def _groups(digests: Hashes, sources: npt.NDArray[np.uint16]) -> pl.DataFrame:
    return pl.DataFrame({"first": digests[:, 0], "second": digests[:, 1], "source": sources})


def _differences(
    index: _Index, manifest: CorpusManifest, shards: Sequence[TableRef], before: Sequence[Manifest]
) -> pa.Table:
    """The listed records that are not found: id, source, problem, and what is known of the record now.

    problem: `changed` (a record of this id has another text), `dropped` (now: the step and `stage/reason` that drops
    it), `missing` (no row has this id).
    """
    reasons: dict[int, str] = {}
    for step in before:
        for file in step.dropped:
            dropped = storage.read_parquet(file.path, ["id", "stage", "reason"])
            at = index.positions(as_array(dropped["id"]))
            for row in np.flatnonzero((at >= 0) & (index.shard[np.maximum(at, 0)] < 0)):
                stage, reason = dropped["stage"][int(row)].as_py(), dropped["reason"][int(row)].as_py()
                reasons[int(at[row])] = f"{step.step}: {stage}/{reason}"
    names = list(index.sources)
    rows = []
    starts = np.array(index.starts)
    for shard, places in _by_shard(index.missing, starts):
        ids = manifest.shard(shard, ["id"])["id"]
        for place in places.tolist():
            problem = "changed" if index.changed[place] else "dropped" if place in reasons else "missing"
            source = names[index.source[place]] if index.source[place] < len(names) else ""
            rows.append((ids[place - int(starts[shard])].as_py(), source, problem, reasons.get(place, "")))
    columns = list(zip(*rows, strict=True))
    return pa.table({name: pa.array(column, pa.string()) for name, column in zip(_DIFFERENCE, columns, strict=True)})


_DIFFERENCE = ("id", "source", "problem", "now")


def _by_shard(places: Numbers, starts: Numbers) -> Iterator[tuple[int, Numbers]]:
    """The places of each shard that has some."""
    shards = np.searchsorted(starts, places, side="right") - 1
    for shard in np.unique(shards).tolist():
        yield shard, places[shards == shard]


def _gather(shards: Sequence[str], item: _Listed, target: Target) -> Part:
    """Write a shard of the corpus, in the order of the manifest. One shard of records is in memory at a time."""
    places = storage.map_arrow(item.path)
    shard, row = (places[name].to_numpy() for name in ("shard", "row"))
    parts, order = [], []
    for number in np.unique(shard).tolist():
        at = np.flatnonzero(shard == number)
        parts.append(storage.read_parquet(shards[number], rows=pa.array(row[at])))
        order.append(at)
    if not parts:
        table = storage.read_parquet(shards[0]).slice(0, 0)
    else:
        table = pa.concat_tables(parts).take(pa.array(np.argsort(np.concatenate(order))))
        ids = CorpusManifest(item.manifest).shard(item.shard, ["id"])["id"]
        table = table.set_column(table.schema.get_field_index("id"), table.schema.field("id"), ids)
    return Part(rows_in=table.num_rows, files={RECORDS: (storage.write_parquet(target.path(), table),)})


def _drop(run: str, folder: str, item: _Rest, target: Target) -> Part:
    """Write the records of a shard that the manifest does not list to their place in the step's folder."""
    left = storage.map_arrow(item.left)["left"]
    if not pc.any(left).as_py():
        return Part(rows_in=0)
    records = storage.read_parquet(item.shard.path).filter(left)
    dropped = mark(records, STAGE, NOT_LISTED, [json.dumps({"run": run})] * records.num_rows)
    file = storage.write_parquet(Target(folder, target.index).path("dropped"), dropped)
    return Part(
        rows_in=dropped.num_rows, files={DROPPED_ROWS: (file,)}, counts={f"{STAGE}/{NOT_LISTED}": dropped.num_rows}
    )


def _message(manifest: CorpusManifest, differences: TableRef, ingest: Manifest) -> str:
    """What a build of a manifest says if its sources are not those of the manifest."""
    table = pl.DataFrame(storage.read_parquet(differences.path))
    lines = [
        f"{manifest.path}: {table.height:,} of the {manifest.head.rows:,} rows of run {manifest.head.run} are not in "
        "these sources, so its packs cannot be rebuilt"
    ]
    files = changed_files(manifest.head, ingest)
    for (source,), rows in table.group_by("source", maintain_order=True):
        counts = ", ".join(
            f"{len(some):,} {problem}" for (problem,), some in rows.group_by("problem", maintain_order=True)
        )
        lines.append(f"  source {source!r}: {counts}; {files.get(str(source)) or 'its files are those recorded'}")
        lines += [
            f"    {row['problem']} {row['id']}{' (' + row['now'] + ')' if row['now'] else ''}"
            for row in rows.head(EXAMPLES).iter_rows(named=True)
        ]
        if rows.height > EXAMPLES:
            lines.append(f"    and {rows.height - EXAMPLES:,} more")
    lines.append(f"  all of them, as Parquet: {differences.path}")
    return "\n".join(lines)


def changed_files(head: Head, ingest: Manifest) -> dict[str, str]:
    """Source -> which of its files are not those of a manifest; sources with the same files are left out."""
    read = {source["name"]: source["files"] for source in ingest.parameters["sources"]}
    changed = {}
    for source in head.sources:
        before = {file.file: file.identity for file in source.files}
        now = {str(name): str(identity) for name, _, identity in read.get(source.name, ())}
        if before == now:
            continue
        other = sorted(name for name in before.keys() & now.keys() if before[name] != now[name])
        said = [
            f"{what}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
            for what, names in (
                ("files that differ", other),
                ("files that are gone", sorted(before.keys() - now.keys())),
                ("files that are new", sorted(now.keys() - before.keys())),
            )
            if names
        ]
        changed[source.name] = "; ".join(said)
    return changed
