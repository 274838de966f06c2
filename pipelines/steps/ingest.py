"""How do the recipe's sources become records? File by file, with every row kept or dropped with a reason.

One work item is one file, or one source if its rows are limited or computed. The step's key holds what the files
contain, not where they are: a moved file is not read again, a changed one is.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats import pairs
from pipelines.ledger import input_files, storage, tombstones
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.ledger.tombstones import Tombstones, drop_forgotten
from pipelines.recipe import Recipe, SourceSpec
from pipelines.records import conform, dropped_schema, record_schema
from pipelines.sources import SOURCES
from pipelines.steps.products import RECORDS
from pipelines.steps.source_files import Input, check_inputs, columns_of, raw_rows, unread_text
from pipelines.steps.step import RecipeStep, always

SHARD_ROWS = 65_536
SHARD_BYTES = 32 << 20
"""A shard ends at so many rows or bytes of text, whichever comes first. Later steps hold one shard in memory."""

GENERATED_SHARD_ROWS = 5_000
"""Rows of a shard of a computed source. These sources are small; smaller shards let later steps run in parallel."""


class Work(NamedTuple):
    """One work item: files of one source, in order. Without files, the source is computed from the seed.

    extra: the further columns of the records of all sources. tombstones: files of what was forgotten. forgotten: the
    names of those files of which every row is.
    """

    spec: SourceSpec
    files: tuple[Input, ...]
    seed: int
    on_bad_row: Literal["drop", "fail"]
    extra: tuple[str, ...]
    tombstones: tuple[str, ...] = ()
    forgotten: frozenset[str] = frozenset()


def ingest(run: Run, recipe: Recipe) -> Manifest:
    """Read all sources.

    Reasons of dropped rows are `conform/<reason>`, `source/<rule>` for rows that a rule of their source leaves out, and
    `forgotten/forgotten` for rows with a tombstone below the root (`pipelines.ledger.tombstones`), of which no text is
    kept. Without tombstones the key is the same as ever.
    A source may give no row at all: `by_source` shows it, and the report warns.

    Raises: as `check_inputs`. InputError: for damage further on in a file, and for a file that changes before all of it
    is read. RecordError: for the first bad row, if the recipe has `on_bad_row: fail`.
    """
    files = _begun(check_inputs(recipe), run.root)

    paths = tombstones.paths(run.root)
    stones = tombstones.read(paths)
    sources, items = [], []
    for spec in recipe.sources:
        own = tuple(file for file in files if file.source == spec.name)
        named = tombstones.name_digest(spec.name) in stones.sources
        gone = frozenset(file.file for file in own if named or (file.begun and file.begun.digest in stones.files))
        work = [one._replace(tombstones=paths, forgotten=gone) for one in _works(spec, own, recipe)]
        sources.append(_describe(spec, own, recipe.seed) | {"items": len(work)})
        items += work
    extra = {"extra": list(recipe.extra_columns)} if recipe.extra_columns else {}
    forgotten = {"forgotten": stones.digest} if stones.digest else {}
    step = INGEST.step({"sources": sources, "on_bad_row": recipe.on_bad_row, **extra, **forgotten})
    adapters = [SOURCES[spec.adapter] for spec in recipe.sources if spec.adapter]
    readers = [adapter.read or adapter.generate for adapter in adapters]
    return run.do(step, lambda context: context.map(ingest_files, items), uses=readers)


INGEST = RecipeStep(
    name="ingest",
    products={RECORDS: "the sources' rows as RECORD", DROPPED_ROWS: "rows that are not records, as DROPPED"},
    kept=RECORDS,
    wanted=always,
    make=lambda build: ingest(build.run, build.recipe),
)


def by_source(manifest: Manifest) -> dict[str, tuple[int, int]]:
    """Source -> (rows read, rows kept) of an ingest step. A source that kept nothing is most likely a mistake."""
    parts = iter(manifest.parts)
    table = {}
    for source in manifest.parameters["sources"]:
        own = [next(parts) for _ in range(source["items"])]
        table[str(source["name"])] = (sum(part.rows_in or 0 for part in own), sum(part.rows(RECORDS) for part in own))
    return table


def unread_by_source(manifest: Manifest) -> dict[str, tuple[str, ...]]:
    """Source -> columns with text that the recipe does not name, of the sources that have such columns."""
    return {
        str(source["name"]): tuple(source["unread"]) for source in manifest.parameters["sources"] if source["unread"]
    }


def _begun(files: Sequence[Input], root: str) -> list[Input]:
    """The files with their identities, which the step's key names and which their readers find again."""
    begun = iter(input_files.identities([file.path for file in files if file.path], root))
    return [file._replace(begun=next(begun)) if file.path else file for file in files]


def _works(spec: SourceSpec, files: tuple[Input, ...], recipe: Recipe) -> list[Work]:
    # A limit of rows runs over a source's files in order, so they are one item. Reading ends at the limit.
    groups = [files] if spec.rows is not None else [(file,) for file in files]
    return [Work(spec, group, recipe.seed, recipe.on_bad_row, recipe.extra_columns) for group in groups]


def _describe(spec: SourceSpec, files: tuple[Input, ...], seed: int) -> dict[str, Any]:
    """Everything the records of a source depend on."""
    computed, columns = not spec.paths, columns_of(spec)
    return {
        "name": spec.name,
        "adapter": spec.adapter,
        "version": SOURCES[spec.adapter].version if spec.adapter else 0,
        **(SOURCES.origin(spec.adapter) if spec.adapter else {}),
        "columns": None if spec.adapter else {part: pairs.columns_read(columns, part) for part in columns},
        "unread": list(unread_text(spec, files)),
        "encoding": spec.encoding,
        "quoted": spec.quoted,
        "condition": spec.condition,
        **({"extra": spec.extra} if spec.extra else {}),
        "rows": spec.rows,
        "seed": seed if computed else None,
        "files": [[file.file, input_files.suffix(file.path), file.begun.digest] for file in files if file.begun],
    }


def ingest_files(work: Work, target: Target) -> Part:
    """Read the files of one work item and write its shards."""
    shards = _Shards(target, SHARD_ROWS if work.spec.paths else GENERATED_SHARD_ROWS, work.extra)
    remaining = work.spec.rows
    stones = tombstones.read(work.tombstones)
    for file in work.files:
        with contextlib.nullcontext() if file.begun is None else input_files.unchanged(file.path, file.begun):
            for table in _batches(work, file):
                if remaining is not None:
                    table = table.slice(0, remaining)
                    remaining -= table.num_rows
                if work.spec.condition is not None:
                    table = _with_condition(table, work.spec.condition)
                source, bad, extra = work.spec.name, work.on_bad_row, work.extra
                conforming = functools.partial(conform, source=source, file=file.file, on_bad_row=bad, extra=extra)
                shards.add(table, conforming, stones, file.file in work.forgotten)
                if remaining == 0:
                    break
        if remaining == 0:
            break
    return shards.part()


def _batches(work: Work, file: Input) -> Iterator[pa.Table]:
    """RAW tables of one file."""
    spec = work.spec
    if spec.adapter is None or SOURCES[spec.adapter].read is not None:
        return raw_rows(spec, file.path)
    generate = SOURCES[spec.adapter].generate
    assert generate is not None and spec.rows is not None, "checked in plan_inputs"
    return generate(spec.rows, work.seed)


def _with_condition(table: pa.Table, condition: str) -> pa.Table:
    tags = pa.nulls(table.num_rows, pa.string()).fill_null(condition)
    return table.set_column(table.schema.get_field_index("condition"), table.schema.field("condition"), tags)


class _Shards:
    """Collects records, and writes a shard when there are enough."""

    def __init__(self, target: Target, rows: int, extra: Sequence[str]) -> None:
        self.target, self.limit = target, rows
        self.empty = record_schema(extra).empty_table(), dropped_schema(extra).empty_table()
        self.rows_in = self.pieces = 0
        self.counts: Counter[str] = Counter()
        self.written: dict[str, list[storage.TableRef]] = {RECORDS: [], DROPPED_ROWS: []}
        self._start()

    def _start(self) -> None:
        self.kept, self.dropped, self.rows, self.bytes = [self.empty[0]], [self.empty[1]], 0, 0

    def add(self, table: pa.Table, conforming: Any, stones: Tombstones, everything: bool) -> None:
        """Conform RAW rows and add them, without those that are forgotten. everything: whether all are.

        Where a shard ends does not depend on what is forgotten, so all other rows stay in their shards.
        """
        while table.num_rows:
            outcome = conforming(table.slice(0, self.limit - self.rows))
            rows = outcome.kept.num_rows + outcome.dropped.num_rows
            table = table.slice(rows)
            self.rows_in += rows
            self.rows += rows
            self.bytes += outcome.kept.nbytes + outcome.dropped.nbytes
            outcome = drop_forgotten(outcome, stones, everything)
            self.kept.append(outcome.kept)
            self.dropped.append(outcome.dropped)
            if self.rows >= self.limit or self.bytes >= SHARD_BYTES:
                self._flush()

    def _flush(self) -> None:
        for product, folder, tables in ((RECORDS, "shards", self.kept), (DROPPED_ROWS, "dropped", self.dropped)):
            table = pa.concat_tables(tables)
            if table.num_rows:
                path = self.target.path(folder, piece=self.pieces)
                self.written[product].append(storage.write_parquet(path, table))
        dropped = pa.concat_tables(self.dropped)
        reasons = pc.value_counts(pc.binary_join_element_wise(dropped["stage"], dropped["reason"], "/"))
        self.counts.update({value["values"]: value["counts"] for value in reasons.to_pylist()})
        self.pieces += 1
        self._start()

    def part(self) -> Part:
        """Write the last shard, and return all of them."""
        if self.rows:
            self._flush()
        files = {product: tuple(files) for product, files in self.written.items() if files}
        return Part(rows_in=self.rows_in, files=files, counts=dict(sorted(self.counts.items())))
