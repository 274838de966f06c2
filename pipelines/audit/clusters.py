"""Clusters of duplicates: the rows that are gone, gathered behind the row that stays in their place.

A dropped duplicate names its kept twin (evidence `twin`, and `jaccard` where it was near), and that is all that is
read: a cluster is a kept row and the rows that name it. A row that exact duplicates name may itself have gone as a near
duplicate; its copies then stand behind the row that it names. A twin in an earlier run is known by its id and the step
that keeps it, since runs may give the same id to different rows.

Two passes over the dropped rows: the first reads ids and evidence and counts, the second reads the text of the few rows
that are shown. What is held between them is a count per kept twin.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

import polars as pl

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
"""Stands between a twin's id and the step of an earlier run that keeps it."""

DIFF_WORDS = 2000
"""Words of a text that are compared to say what differs; a diff takes the square of them."""

JOINT = 5
"""Words and spaces between two differences that are shown as one."""

_EVIDENCE = pl.Struct({"twin": pl.String, "jaccard": pl.Float64, "against": pl.String})


def clusters(run: RecordedRun, top: int = 10, members: int = 3) -> dict[str, Any]:
    """The `top` largest clusters of a run, each with up to `members` of its dropped rows, the least alike first.

    Returns `run`; `clusters`, how many there are, and `rows_dropped` of each step; `largest`: of each its `kept` id,
    `against` (the earlier run's step that keeps it, null for this run's own), `rows` (with the kept one), `exact` and
    `near` (the dropped, by step), the kept row's `instruction` and `response` (null where that step is gone), and
    `members`: `id`, `step`, `jaccard`, texts, and `differs`, pairs of
    what the kept row has and what stands there in this one.

    Errors: RunError where the run's recipe leaves duplicates alone.
    """
    exact, near = (run.step(name) for name in STEPS)
    last = near or exact
    if last is None:
        raise RunError(f"run {run.id}: its recipe looks for no duplicates, so there are no clusters")
    counts = _counts(exact, near)
    sizes = counts.with_columns(rows=pl.col("exact") + pl.col("near") + 1)
    shown = sizes.sort(["rows", "twin"], descending=[True, False]).head(top)
    roots = shown["twin"].to_list()
    names = _behind(exact, near, roots)
    kept = _kept(run, last, roots)
    dropped = _members(exact, near, names, members)
    largest = []
    for line in shown.to_dicts():
        twin = kept.get(line["twin"])
        rows = [_with_difference(twin, row) for row in dropped.get(line["twin"], [])]
        texts = {name: twin[name] if twin else None for name in TEXTS}
        sizes_of_it = {name: line[name] for name in ("rows", "exact", "near")}
        name, against = _parts(line["twin"])
        largest.append({"kept": name, "against": against, **sizes_of_it, **texts, "members": rows})
    totals = {step.step: step.rows_dropped or 0 for step in (exact, near) if step is not None}
    return {"run": run.id, "clusters": counts.height, "rows_dropped": totals, "largest": largest}


def _evidence(step: Manifest | None) -> Iterator[pl.DataFrame]:
    """Shard by shard, the dropped rows of a step: id, twin (see `_parts`), jaccard (null for exact ones)."""
    for shard in step.dropped if step else ():
        table = pl.DataFrame(storage.read_parquet(shard.path, ["id", "evidence"]))
        table = table.select("id", pl.col("evidence").str.json_decode(_EVIDENCE)).unnest("evidence")
        yield table.select("id", pl.concat_str("twin", "against", separator=EARLIER, ignore_nulls=True), "jaccard")


def _parts(twin: str) -> tuple[str, str | None]:
    """A twin as it is counted -> its id, and the step of an earlier run that keeps it (None for this run's own)."""
    name, earlier, step = twin.partition(EARLIER)
    return name, step if earlier else None


def _kept(run: RecordedRun, last: Manifest, twins: list[str]) -> dict[str, dict[str, Any]]:
    """Twin -> its row, where it can be found."""
    found: dict[str, dict[str, Any]] = {}
    for against in {_parts(twin)[1] for twin in twins}:
        step = last if against is None else manifests.load(run.root, against)
        mine = {_parts(twin)[0]: twin for twin in twins if _parts(twin)[1] == against}
        found |= {mine[row["id"]]: row for row in _texts(step, list(mine))} if step else {}
    return found


def _counts(exact: Manifest | None, near: Manifest | None) -> pl.DataFrame:
    """twin, exact, near: how many rows of either step stand behind each row that stays."""
    empty = pl.DataFrame(schema={"twin": pl.String, "rows": pl.UInt32})
    copies = pl.concat([empty, *(_tally(part) for part in _evidence(exact))]).group_by("twin").agg(pl.col("rows").sum())
    links = [pl.DataFrame(schema={"id": pl.String, "next": pl.String})]
    likes = [empty]
    for part in _evidence(near):
        likes.append(_tally(part))
        links.append(part.select("id", next="twin").join(copies, left_on="id", right_on="twin", how="semi"))
    moved = copies.join(pl.concat(links), left_on="twin", right_on="id", how="left")
    # A row that left as a near duplicate takes its copies along.
    moved = moved.select(pl.coalesce("next", "twin").alias("twin"), exact="rows", near=pl.lit(0, pl.UInt32))
    like = pl.concat(likes).select("twin", exact=pl.lit(0, pl.UInt32), near="rows")
    return pl.concat([moved, like]).group_by("twin").agg(pl.col("exact", "near").cast(pl.Int64).sum())


def _tally(part: pl.DataFrame) -> pl.DataFrame:
    return part.group_by("twin").agg(rows=pl.len())


def _behind(exact: Manifest | None, near: Manifest | None, roots: list[str]) -> pl.DataFrame:
    """twin, root: every row that a duplicate of the clusters at `roots` may name."""
    own = pl.DataFrame({"twin": roots, "root": roots}, schema={"twin": pl.String, "root": pl.String})
    if exact is None:
        return own
    moved = [part.filter(pl.col("twin").is_in(roots)).select(twin="id", root="twin") for part in _evidence(near)]
    return pl.concat([own, *moved])


def _members(
    exact: Manifest | None, near: Manifest | None, names: pl.DataFrame, members: int
) -> dict[str, list[dict[str, Any]]]:
    """Root -> up to `members` of its dropped rows with their texts: near ones first, the least alike first."""
    order = ["root", "jaccard", "id"]
    best = pl.DataFrame(schema=dict.fromkeys(("root", "id", "step", *TEXTS), pl.String) | {"jaccard": pl.Float64})
    for step in (near, exact):
        for part, shard in zip(_evidence(step), step.dropped if step else (), strict=True):
            mine = part.join(names, on="twin").sort(order).group_by("root", maintain_order=True).head(members)
            if not mine.height:
                continue
            texts = pl.DataFrame(storage.read_parquet(shard.path, ["id", *TEXTS]))
            mine = mine.join(texts, on="id", how="left").with_columns(step=pl.lit(step.step if step else ""))
            pieces = [best, mine.with_columns(pl.col("jaccard").cast(pl.Float64)).select(best.columns)]
            best = pl.concat(pieces).sort(order, nulls_last=True).group_by("root", maintain_order=True).head(members)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in best.to_dicts():
        found.setdefault(row.pop("root"), []).append(row)
    return found


def _texts(step: Manifest, ids: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of these ids: id and texts. A shard's texts are read where its ids hold one."""
    wanted = set(ids)
    for shard in step.shards:
        if not wanted:
            return
        at = pl.Series(storage.read_parquet(shard.path, ["id"])["id"]).is_in(list(wanted)).arg_true()
        if len(at):
            rows = pl.DataFrame(storage.read_parquet(shard.path, ["id", *TEXTS]))[at].to_dicts()
            wanted -= {row["id"] for row in rows}
            yield from rows


def _with_difference(kept: dict[str, Any] | None, row: dict[str, Any]) -> dict[str, Any]:
    """The row as it is answered, `differs` added."""
    pairs = [pair for name in TEXTS for pair in difference(kept[name], row[name])] if kept else []
    return {name: row[name] for name in ("id", "step", "jaccard", *TEXTS)} | {"differs": pairs}


def difference(left: str, right: str) -> list[tuple[str, str]]:
    """Where two texts differ, word by word: pairs of what the left has and what stands there in the right.

    Differences with a word or two between them are one.
    """
    one, two = (re.findall(r"\w+|\s+|[^\w\s]", text)[:DIFF_WORDS] for text in (left, right))
    pairs: list[list[int]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        if pairs and a - pairs[-1][1] <= JOINT:
            pairs[-1][1], pairs[-1][3] = b, d
        else:
            pairs.append([a, b, c, d])
    return [("".join(one[a:b]), "".join(two[c:d])) for a, b, c, d in pairs]
