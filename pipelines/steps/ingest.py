"""How do the recipe's sources become records? File by file, with every row kept or dropped with a reason.

One work item is one file; a span of a large one; some files of a source with many small ones; or one source if its rows
are limited or computed. Items follow from the files alone, never from the number of workers. The step's key holds what
the files contain, not where they are: a moved file is not read again, a changed one is.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import InputError
from pipelines.formats import pairs
from pipelines.formats.read import count_rows, rows_declared
from pipelines.formats.span import WHOLE, Span
from pipelines.ledger import input_files, storage, tombstones
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, StepContext, Target
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.ledger.tombstones import Tombstones, drop_forgotten
from pipelines.recipe import Recipe, SourceSpec
from pipelines.records import conform, dropped_schema, record_schema
from pipelines.sources import SOURCES
from pipelines.steps.products import RECORDS
from pipelines.steps.source_files import (
    Input,
    check_inputs,
    columns_of,
    raw_rows,
    spans_of,
    spelling_of,
    unread_text,
)
from pipelines.steps.step import RecipeStep, always

SHARD_ROWS = 65_536
SHARD_BYTES = 32 << 20
"""A shard ends at so many rows or bytes of text, whichever comes first. Later steps hold one shard in memory."""

GENERATED_SHARD_ROWS = 5_000
"""Rows of a shard of a computed source. These sources are small; smaller shards let later steps run in parallel."""


GROUP_FILES, GROUP_BYTES = 64, 8 << 20
"""A source with more files than this is read in groups of consecutive files, of at most so many and so many bytes."""


class Work(NamedTuple):
    """One work item: files of one source, in order. Without files, the source is computed from the seed.

    span: what is read of a file that has several spans. extra: the further columns of the records of all sources.
    tombstones: files of what was forgotten. forgotten: the names of those files of which every row is.
    """

    spec: SourceSpec
    files: tuple[Input, ...]
    seed: int
    on_bad_row: Literal["drop", "fail"]
    extra: tuple[str, ...]
    tombstones: tuple[str, ...] = ()
    forgotten: frozenset[str] = frozenset()
    span: Span = WHOLE


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
    sources, items = [], list[Work]()
    for spec in recipe.sources:
        own = tuple(file for file in files if file.source == spec.name)
        named = tombstones.name_digest(spec.name) in stones.sources
        gone = frozenset(file.file for file in own if named or (file.begun and file.begun.digest in stones.files))
        work = [one._replace(tombstones=paths, forgotten=gone) for one in _works(spec, own, recipe)]
        sources.append(_describe(spec, own, recipe.seed) | _describe_items(spec, own, work))
        items += work
    extra = {"extra": list(recipe.extra_columns)} if recipe.extra_columns else {}
    forgotten = {"forgotten": stones.digest} if stones.digest else {}
    step = INGEST.step({"sources": sources, "on_bad_row": recipe.on_bad_row, **extra, **forgotten})
    adapters = [SOURCES[spec.adapter] for spec in recipe.sources if spec.adapter]
    readers = [adapter.read or adapter.generate for adapter in adapters]
    return run.do(step, lambda context: context.map(ingest_files, _numbered(context, items)), uses=readers)


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
    work = Work(spec, files, recipe.seed, recipe.on_bad_row, recipe.extra_columns)
    if spec.rows is not None:  # the limit runs over a source's files in order, so they are one item
        return [work]
    with ThreadPoolExecutor(8) as threads:
        spans = list(threads.map(functools.partial(spans_of, spec), files))
    works: list[Work] = []
    for file, own in zip(files, spans, strict=True):
        assert file.begun is not None, "computed sources have `rows`"
        last = works[-1] if works else None
        small = len(files) > GROUP_FILES and len(own) == 1 and last is not None and last.span == WHOLE
        if small and last and len(last.files) < GROUP_FILES and _size(last) + file.begun.size <= GROUP_BYTES:
            works[-1] = last._replace(files=(*last.files, file))
        else:
            works += [work._replace(files=(file,), span=span) for span in own]
    return works


def _size(work: Work) -> int:
    return sum(file.begun.size for file in work.files if file.begun)


def _describe_items(spec: SourceSpec, files: Sequence[Input], works: Sequence[Work]) -> dict[str, Any]:
    """How many items a source has. If they are not its files one by one, also what each reads: its first file, the file
    after its last, and its span."""
    described: dict[str, Any] = {"items": len(works)}
    if spec.rows is not None or all(len(work.files) == 1 and work.span == WHOLE for work in works):
        return described
    number = {file: index for index, file in enumerate(files)}
    described["reads"] = [
        [number[work.files[0]], number[work.files[-1]] + 1, work.span.start, work.span.stop] for work in works
    ]
    return described


def _numbered(context: StepContext, items: Sequence[Work]) -> list[Work]:
    """The items, with the first row of each span. Rows of spans that do not say how many are counted, by tasks."""
    uncounted = [work for work in items if work.span != WHOLE and work.span.rows is None]
    counted = iter(context.map(count_span, uncounted, "rows")) if uncounted else iter(())
    numbered: list[Work] = []
    for work in items:
        if work.span != WHOLE and work.span.rows is None:
            before = numbered[-1].span if work.span.start else WHOLE
            row, rows = before.row + (before.rows or 0), next(counted).counts["rows"]
            work = work._replace(span=work.span._replace(row=row, rows=rows))
        numbered.append(work)
    return numbered


def count_span(work: Work, _: Target) -> Part:
    """Count the rows of a span."""
    (file,) = work.files
    with _unchanged(file):
        return Part(counts={"rows": count_rows(file.path, spelling_of(work.spec), work.span)})


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
        with _unchanged(file):
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


def _unchanged(file: Input) -> AbstractContextManager[None]:
    return contextlib.nullcontext() if file.begun is None else input_files.unchanged(file.path, file.begun)


def _batches(work: Work, file: Input) -> Iterator[pa.Table]:
    """RAW tables of one file, or of the span of it."""
    spec = work.spec
    if spec.adapter is None or SOURCES[spec.adapter].read is not None:
        rows = rows_declared(file.path) if work.span == WHOLE else work.span.rows
        tables = raw_rows(spec, file.path, work.span)
        return tables if rows is None else _checked(tables, spec, file, work.span.row, rows)
    generate = SOURCES[spec.adapter].generate
    assert generate is not None and spec.rows is not None, "checked in plan_inputs"
    return generate(spec.rows, work.seed)


def _checked(tables: Iterator[pa.Table], spec: SourceSpec, file: Input, first: int, rows: int) -> Iterator[pa.Table]:
    """The tables, after a check that they have each of the file's rows once: `rows` from number `first` on.

    Raises: InputError: naming the file and the row, if its reader lost or doubled one.
    """
    last, variant = first - 1, None
    for table in tables:
        numbers = table["row"].to_numpy()
        steps = np.diff(numbers, prepend=last)
        variants = table["variant"].fill_null("").to_numpy(zero_copy_only=False)
        again = (steps == 0) & (variants == np.concatenate([[variant], variants[:-1]]))
        wrong = np.flatnonzero((steps < 0) | (steps > 1) | again)
        if len(wrong):
            at = int(wrong[0])
            raise _miscounted(spec, file, f"row {numbers[at]} follows row {numbers[at] - steps[at]}")
        if len(numbers):
            last, variant = int(numbers[-1]), variants[-1]
        yield table
    if last != first + rows - 1:
        raise _miscounted(spec, file, f"the last one is {last}, not {first + rows - 1}")


def _miscounted(spec: SourceSpec, file: Input, what: str) -> InputError:
    reader = f"the adapter {spec.adapter!r}" if spec.adapter else "its reader"
    mend = "mend the adapter: it returns each row once, in order" if spec.adapter else "report this file"
    return InputError(f"{file.path}: {reader} lost or doubled rows of it: {what}; {mend}")


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
