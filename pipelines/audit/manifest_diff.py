"""What is different between two corpora, from their manifests alone? Neither their text nor their roots are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from dedup.exact import digest128, halves
from pipelines.audit.changes import changes
from pipelines.audit.diff import EXAMPLES
from pipelines.ledger.corpus_manifest import VALIDATION, CorpusManifest, Head, ListedSource


class SourceDiff(BaseModel):
    """A source in two manifests, left and right.

    files: names of files of one side alone, or with another identity. only_left, only_right: rows whose id only one
    corpus has, though not their text: then they are `moved`. changed: rows of one id with two texts. revision, licence:
    where they differ. mix: quantities of `sampling.coverage` that differ.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    rows: tuple[int, int]
    files: tuple[str, ...]
    only_left: int
    only_right: int
    changed: int
    moved: int
    revision: tuple[str | None, str | None] | None
    licence: tuple[str | None, str | None] | None
    mix: dict[str, tuple[int | None, int | None]]


class RowDiff(BaseModel):
    """A row that differs. change: `only_left`, `only_right`, `changed`, or `moved` (to: its id on the right)."""

    model_config = ConfigDict(frozen=True)

    id: str
    source: str
    change: str
    to: str


class ManifestDiff(BaseModel):
    """The difference of two manifests, left and right.

    recipe: path of the key -> values. code: step -> digests of its code and libraries, where they differ. tokenizer,
    packs: whether they are equal, byte for byte. orders: name of an epoch, or `validation` -> whether both have the
    same rows in the same order. contradiction: the orders that differ though both heads name the same packs. Packs hold
    the ids in order, so one of the manifests is wrong about its packs. sources: those in which something differs. rows:
    all that differ, or the first of each change and source. total: their number.
    """

    model_config = ConfigDict(frozen=True)

    manifests: tuple[str, str]
    runs: tuple[str, str]
    corpus_rows: tuple[int, int]
    recipe: dict[str, tuple[Any, Any]]
    code: dict[str, tuple[str, str]]
    tokenizer: bool
    packs: bool
    orders: dict[str, bool]
    contradiction: tuple[str, ...]
    sources: tuple[SourceDiff, ...]
    rows: tuple[RowDiff, ...]
    total: int


def diff_manifests(left: CorpusManifest, right: CorpusManifest, every_row: bool = False) -> ManifestDiff:
    """Compare two manifests. every_row: list all rows that differ, not examples.

    Takes about 100 bytes of memory for each row.

    Raises: InputError: naming a manifest that is damaged, cut or edited.
    """
    left.check()
    right.check()
    a, b = left.head, right.head
    packs, orders = [file.digest for file in a.packs] == [file.digest for file in b.packs], _orders(left, right)
    rows = _changes(left, right)
    counts = {(source, change): n for source, change, n in rows.group_by("source", "change").len().iter_rows()}
    listed = rows if every_row else rows.group_by("source", "change", maintain_order=True).head(EXAMPLES)
    return ManifestDiff(
        manifests=(left.path, right.path),
        runs=(a.run, b.run),
        corpus_rows=(a.rows, b.rows),
        recipe={one.path: (one.left, one.right) for one in changes(*map(_without_places, (a.recipe, b.recipe)))},
        code=_code(a, b),
        tokenizer=a.tokenizer == b.tokenizer,
        packs=packs,
        orders=orders,
        contradiction=tuple(name for name, same in orders.items() if packs and not same),
        sources=tuple(_sources(a, b, counts)),
        rows=tuple(RowDiff(**row) for row in listed.select("id", "source", "change", "to").iter_rows(named=True)),
        total=rows.height,
    )


def _table(manifest: CorpusManifest) -> pl.DataFrame:
    """position, id, and the two halves of the digest."""
    parts = []
    for index in range(manifest.shards):
        batch = manifest.shard(index, ["id", "digest"])
        digest = halves(batch["digest"]) if batch.num_rows else np.empty((0, 2), np.uint64)
        parts.append(pl.DataFrame({"id": pl.Series(batch["id"]), "first": digest[:, 0], "second": digest[:, 1]}))
    empty = pl.DataFrame(schema={"id": pl.String, "first": pl.UInt64, "second": pl.UInt64})
    return pl.concat([empty, *parts]).with_row_index("position")


def _changes(left: CorpusManifest, right: CorpusManifest) -> pl.DataFrame:
    """The rows that differ: id, source, change, to; in the order of the manifests."""
    a, b = _table(left), _table(right)
    both = a.join(b, on="id", maintain_order="left")
    changed = both.filter((pl.col("first") != pl.col("first_right")) | (pl.col("second") != pl.col("second_right")))
    text = ["first", "second"]
    number = pl.int_range(pl.len()).over(text).alias("number")
    gone = a.join(b, on="id", how="anti", maintain_order="left").with_columns(number)
    new = b.join(a, on="id", how="anti", maintain_order="left").with_columns(number)
    moved = gone.join(new, on=[*text, "number"], maintain_order="left").rename({"id_right": "to"})
    parts = (
        ("changed", changed),
        ("moved", moved),
        ("only_left", gone.join(new, on=[*text, "number"], how="anti", maintain_order="left")),
        ("only_right", new.join(gone, on=[*text, "number"], how="anti", maintain_order="left")),
    )
    rows = [
        table.select(
            "id",
            pl.col("id").str.extract(r"^([^/]*)/").fill_null("").alias("source"),
            pl.lit(change).alias("change"),
            (pl.col("to") if change == "moved" else pl.lit("")).alias("to"),
        )
        for change, table in parts
    ]
    return pl.concat(rows)


def _sources(a: Head, b: Head, counts: Mapping[tuple[str, str], int]) -> Iterator[SourceDiff]:
    lefts, rights = ({source.name: source for source in head.sources} for head in (a, b))
    for name in dict.fromkeys([*lefts, *rights]):
        left, right = lefts.get(name), rights.get(name)
        mixes = [source.mix if source else {} for source in (left, right)]
        entry = SourceDiff(
            name=name,
            rows=(left.rows if left else 0, right.rows if right else 0),
            files=_files(left, right),
            **{change: counts.get((name, change), 0) for change in ("only_left", "only_right", "changed", "moved")},
            revision=_pair(left, right, "revision"),
            licence=_pair(left, right, "licence"),
            mix={
                key: (mixes[0].get(key), mixes[1].get(key))
                for key in sorted({*mixes[0], *mixes[1]})
                if mixes[0].get(key) != mixes[1].get(key)
            },
        )
        if left != right or any((entry.only_left, entry.only_right, entry.changed, entry.moved)):
            yield entry


def _files(left: ListedSource | None, right: ListedSource | None) -> tuple[str, ...]:
    a, b = ({file.file: file.identity for file in source.files} if source else {} for source in (left, right))
    return tuple(name for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name))


def _pair(
    left: ListedSource | None, right: ListedSource | None, field: Literal["revision", "licence"]
) -> tuple[str | None, str | None] | None:
    a, b = (None if source is None else getattr(source, field) for source in (left, right))
    return None if a == b else (a, b)


def _code(a: Head, b: Head) -> dict[str, tuple[str, str]]:
    left, right = ({step.name: step.code for step in head.steps} for head in (a, b))
    # Which rows are listed decides the packs, not which steps chose them.
    return {name: (left[name], right[name]) for name in left if name in right and left[name] != right[name]}


def _orders(left: CorpusManifest, right: CorpusManifest) -> dict[str, bool]:
    names = [f"epoch_{epoch}" for epoch in range(max(len(left.head.epochs), len(right.head.epochs)))]
    return {name: _order(left, name) == _order(right, name) for name in [*names, VALIDATION]}


def _order(manifest: CorpusManifest, name: str) -> int | None:
    """A number that tells an order of ids from another one; None where the manifest has no such epoch."""
    if name != VALIDATION and int(name.removeprefix("epoch_")) >= len(manifest.head.epochs):
        return None
    total = 0
    for index in range(manifest.shards):
        batch = manifest.shard(index, ["id", name])
        lists = batch[name]
        if not batch.num_rows or not len(lists.values):
            continue
        ids = np.ascontiguousarray(halves(digest128(batch["id"]))[:, 0])
        rows = np.repeat(np.arange(batch.num_rows), np.diff(lists.offsets.to_numpy()))
        places = lists.values.to_numpy().astype(np.uint64)
        # A sum over all sequences, so that neither shards nor the order of rows count.
        with np.errstate(over="ignore"):
            mixed = (ids[rows] ^ (places * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xFF51AFD7ED558CCD)
            total += int((mixed ^ (mixed >> np.uint64(32))).sum(dtype=np.uint64))
    return total % (1 << 64)


def _without_places(value: Any) -> Any:
    """A recipe without the places of its files: their identities count."""
    if isinstance(value, dict):
        return {key: _without_places(one) for key, one in value.items() if key != "path"}
    return [_without_places(one) for one in value] if isinstance(value, list) else value
