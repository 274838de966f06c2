"""Which rows are duplicates of each other? Each cluster is a row that was kept and the rows dropped in its favour.

The evidence of a dropped duplicate names the kept row (`twin`), and the `jaccard` of each field if it is a near
duplicate. Nothing else is read: a cluster is a kept row and the rows whose evidence names it. The twin of an exact
duplicate may itself be dropped as a near duplicate later; its copies then belong to the cluster of the row that it
names. A twin in an earlier run is identified by its id and the step that keeps it, because two runs may give one id to
different rows.

The dropped rows are read twice: first ids and evidence, to count; then the texts of the few rows that are shown. Memory
holds one count for each kept row that has duplicates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from pipelines.audit.difference import difference
from pipelines.errors import RunError
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import RecordedRun
from pipelines.steps.duplicates.exact import EXACT_DUPLICATES
from pipelines.steps.duplicates.near import NEAR_DUPLICATES

STEPS = (EXACT_DUPLICATES.name, NEAR_DUPLICATES.name)

TEXTS = ("instruction", "response")

EARLIER = "\0"
"""Separates the id of a twin in an earlier run from the step that keeps it. No id contains it."""

_EVIDENCE = pl.Struct({"twin": pl.String, "jaccard": pl.Struct(dict.fromkeys(TEXTS, pl.Float64)), "against": pl.String})


class Member(BaseModel):
    """A dropped row of a cluster.

    step: which step dropped it, for `reason`. jaccard: of each compared field with the kept row, None for an exact
    duplicate. differs: pairs of what the kept row has and what this row has in its place.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    step: str
    reason: str
    jaccard: dict[str, float] | None
    instruction: str
    response: str
    differs: tuple[tuple[str, str], ...]


class Cluster(BaseModel):
    """A kept row and its duplicates.

    kept: id of the kept row. against: the step of the earlier run that keeps it, None if this run keeps it. rows: of
    the cluster, with the kept one. exact, near: rows dropped by either step. instruction, response: of the kept row,
    None if the earlier run is gone. members: some of the dropped rows, those with the lowest Jaccard first.
    """

    model_config = ConfigDict(frozen=True)

    kept: str
    against: str | None
    rows: int
    exact: int
    near: int
    instruction: str | None
    response: str | None
    members: tuple[Member, ...]


class Clusters(BaseModel):
    """The clusters of a run. clusters: how many there are. sizes: rows of a cluster -> clusters of that size.
    rows_dropped: step -> rows. largest: the largest first."""

    model_config = ConfigDict(frozen=True)

    run: str
    clusters: int
    sizes: dict[int, int]
    rows_dropped: dict[str, int]
    largest: tuple[Cluster, ...]


def clusters(run: RecordedRun, top: int = 10, members: int = 3, compare: bool = True) -> Clusters:
    """The `top` largest clusters of a run, each with up to `members` of its dropped rows.

    compare: find where the members differ from the row that was kept.

    Raises: RunError: if the run removed no duplicates.
    """
    exact, near = (run.step(name) for name in STEPS)
    last = near or exact
    if last is None:
        raise RunError(f"run {run.id}: its recipe removes no duplicates, so there are no clusters")
    counts = _counts(exact, near)
    sizes = counts.with_columns(rows=pl.col("exact") + pl.col("near") + 1)
    shown = sizes.sort(["rows", "twin"], descending=[True, False]).head(top)
    twins = shown["twin"].to_list()
    kept = _kept_rows(run, last, twins)
    dropped = _members(exact, near, _cluster_of(exact, near, twins), members)
    largest = []
    for line in shown.to_dicts():
        row = kept.get(line["twin"])
        id, against = _parts(line["twin"])
        duplicates = dropped.get(line["twin"], [])
        largest.append(
            Cluster(
                kept=id,
                against=against,
                rows=line["rows"],
                exact=line["exact"],
                near=line["near"],
                instruction=row["instruction"] if row else None,
                response=row["response"] if row else None,
                members=tuple(_member(row if compare else None, duplicate) for duplicate in duplicates),
            )
        )
    totals = {step.step: step.rows_dropped or 0 for step in (exact, near) if step is not None}
    by_size = dict(sizes["rows"].value_counts(name="clusters").sort("rows").iter_rows())
    return Clusters(run=run.id, clusters=counts.height, sizes=by_size, rows_dropped=totals, largest=tuple(largest))


def _evidence(step: Manifest | None) -> Iterator[pl.DataFrame]:
    """Yields the dropped rows of a step, file by file: id, reason, twin (see `_parts`), the Jaccard of each field (null
    for a field that was not compared, and for exact ones), and `jaccard`, the lowest of them."""
    for shard in step.dropped if step else ():
        table = pl.DataFrame(storage.read_parquet(shard.path, ["id", "reason", "evidence"]))
        table = table.with_columns(pl.col("evidence").str.json_decode(_EVIDENCE)).unnest("evidence").unnest("jaccard")
        twin = pl.concat_str("twin", "against", separator=EARLIER, ignore_nulls=True)
        yield table.select(
            "id",
            "reason",
            twin,
            *(pl.col(name).alias(f"jaccard_{name}") for name in TEXTS),
            jaccard=pl.min_horizontal(TEXTS),
        )


def _parts(twin: str) -> tuple[str, str | None]:
    """The id of a twin, and the step of an earlier run that keeps it (None for a twin in this run)."""
    id, earlier, step = twin.partition(EARLIER)
    return id, step if earlier else None


def _kept_rows(run: RecordedRun, last: Manifest, twins: list[str]) -> dict[str, dict[str, Any]]:
    """Twin -> its row. A twin whose step is gone is left out."""
    rows: dict[str, dict[str, Any]] = {}
    for against in {_parts(twin)[1] for twin in twins}:
        step = last if against is None else manifests.load(run.root, against)
        twin_of = {_parts(twin)[0]: twin for twin in twins if _parts(twin)[1] == against}
        rows |= {twin_of[row["id"]]: row for row in _texts(step, list(twin_of))} if step else {}
    return rows


def _counts(exact: Manifest | None, near: Manifest | None) -> pl.DataFrame:
    """twin, exact, near: how many rows either step dropped in favour of each kept row."""
    empty = pl.DataFrame(schema={"twin": pl.String, "rows": pl.UInt32})
    copies = pl.concat([empty, *map(_count_by_twin, _evidence(exact))]).group_by("twin").agg(pl.col("rows").sum())
    moves = [pl.DataFrame(schema={"id": pl.String, "next": pl.String})]
    near_counts = [empty]
    for table in _evidence(near):
        near_counts.append(_count_by_twin(table))
        moves.append(table.select("id", next="twin").join(copies, left_on="id", right_on="twin", how="semi"))
    # The copies of a row that was dropped as a near duplicate count for the row that it names.
    moved = copies.join(pl.concat(moves), left_on="twin", right_on="id", how="left")
    exact_rows = moved.select(pl.coalesce("next", "twin").alias("twin"), exact="rows", near=pl.lit(0, pl.UInt32))
    near_rows = pl.concat(near_counts).select("twin", exact=pl.lit(0, pl.UInt32), near="rows")
    return pl.concat([exact_rows, near_rows]).group_by("twin").agg(pl.col("exact", "near").cast(pl.Int64).sum())


def _count_by_twin(table: pl.DataFrame) -> pl.DataFrame:
    return table.group_by("twin").agg(rows=pl.len())


def _cluster_of(exact: Manifest | None, near: Manifest | None, roots: list[str]) -> pl.DataFrame:
    """twin, root: every row that the evidence of a duplicate in the clusters of `roots` may name."""
    own = pl.DataFrame({"twin": roots, "root": roots}, schema={"twin": pl.String, "root": pl.String})
    if exact is None:
        return own
    moved = [table.filter(pl.col("twin").is_in(roots)).select(twin="id", root="twin") for table in _evidence(near)]
    return pl.concat([own, *moved])


def _members(
    exact: Manifest | None, near: Manifest | None, cluster_of: pl.DataFrame, members: int
) -> dict[str, list[dict[str, Any]]]:
    """Root -> up to `members` of its dropped rows with their texts: near ones first, by rising Jaccard."""
    order = ["root", "jaccard", "id"]
    values = ("jaccard", *(f"jaccard_{name}" for name in TEXTS))
    names = ("root", "id", "step", "reason", *TEXTS)
    best = pl.DataFrame(schema=dict.fromkeys(names, pl.String) | dict.fromkeys(values, pl.Float64))
    for step in (near, exact):
        for table, shard in zip(_evidence(step), step.dropped if step else (), strict=True):
            rows = table.join(cluster_of, on="twin").sort(order).group_by("root", maintain_order=True).head(members)
            if not rows.height:
                continue
            texts = pl.DataFrame(storage.read_parquet(shard.path, ["id", *TEXTS]))
            rows = rows.join(texts, on="id", how="left").with_columns(step=pl.lit(step.step if step else ""))
            both = [best, rows.with_columns(pl.col(values).cast(pl.Float64)).select(best.columns)]
            best = pl.concat(both).sort(order, nulls_last=True).group_by("root", maintain_order=True).head(members)
    by_root: dict[str, list[dict[str, Any]]] = {}
    for row in best.to_dicts():
        by_root.setdefault(row.pop("root"), []).append(row)
    return by_root


def _texts(step: Manifest, ids: list[str]) -> Iterator[dict[str, Any]]:
    """Yields id and texts of these rows. The texts of a shard are read only if it has one of them."""
    missing = set(ids)
    for shard in step.shards:
        if not missing:
            return
        indices = pl.Series(storage.read_parquet(shard.path, ["id"])["id"]).is_in(list(missing)).arg_true()
        if len(indices):
            rows = pl.DataFrame(storage.read_parquet(shard.path, ["id", *TEXTS]))[indices].to_dicts()
            missing -= {row["id"] for row in rows}
            yield from rows


def _member(kept: dict[str, Any] | None, row: dict[str, Any]) -> Member:
    pairs = [pair for name in TEXTS for pair in difference(kept[name], row[name])] if kept else []
    jaccard = {name: value for name in TEXTS if (value := row[f"jaccard_{name}"]) is not None}
    named = {name: row[name] for name in ("id", "step", "reason", *TEXTS)}
    return Member(**named, jaccard=jaccard or None, differs=tuple(pairs))
