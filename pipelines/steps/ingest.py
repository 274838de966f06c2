"""Ingest: the recipe's sources become records, file by file.

One work item is one file, or one source where its rows are capped or computed. The step's key holds what the files
contain, not where they lie, so a moved file is not read again and a changed one is.
"""

from __future__ import annotations

import functools
import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import InputError, RecipeError, Unreachable, nearest
from pipelines.formats import pairs
from pipelines.formats.read import FORMATS
from pipelines.ledger import input_files, storage
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.recipe import Recipe, SourceSpec
from pipelines.records import CONDITIONS, DROPPED, RECORD, conform
from pipelines.sources import SOURCES
from pipelines.steps.products import RECORDS
from pipelines.steps.step import RecipeStep, always

SHARD_ROWS = 65_536
SHARD_BYTES = 32 << 20
"""A shard is closed at so many rows or bytes of text, whichever comes first: it is what later steps hold in memory."""

GENERATED_SHARD_ROWS = 5_000
"""Computed sources are small, and cut finer, so that the steps behind them have something to share out."""


class Input(NamedTuple):
    """One file that a recipe reads.

    path: "" for a source that is computed. file: its part of the ids. bytes: -1 where there is none. why: why not.
    """

    source: str
    path: str
    file: str
    bytes: int
    why: str = ""

    @property
    def missing(self) -> bool:
        """Whether there is nothing at this path."""
        return self.bytes < 0


class Work(NamedTuple):
    """One work item: some files of one source, in order; without files, the source is computed from the seed."""

    spec: SourceSpec
    files: tuple[Input, ...]
    seed: int
    on_bad_row: Literal["drop", "fail"]


def plan_inputs(recipe: Recipe) -> list[Input]:
    """Every file that the recipe reads, in order, those that are missing with `bytes` -1.

    Errors: RecipeError naming the source and the key where a source cannot be read as the recipe says it.
    """
    unreachable: dict[str, str] = {}
    return [one for spec in recipe.sources for one in _inputs(spec, unreachable)]


def check_inputs(recipe: Recipe) -> list[Input]:
    """The inputs, where all of them are there and have the columns that the recipe names.

    Errors: RecipeError as `plan_inputs`; InputError naming a file that is missing, damaged or lacks a column.
    """
    inputs = plan_inputs(recipe)
    lost = [one for one in inputs if one.missing]
    if lost:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise InputError(f"source {lost[0].source!r}: {lost[0].why}{more}")
    for spec in recipe.sources:
        _check_columns(spec, [one for one in inputs if one.source == spec.name])
    return inputs


def ingest(run: Run, recipe: Recipe) -> Manifest:
    """Read all sources. The manifest's shards hold RECORD, `dropped` DROPPED, `counts` `conform/<reason>`
    and, for rows that a rule of their source leaves out, `source/<rule>`.

    A source may give no row at all: `by_source` tells, and the report warns.

    Errors: as `check_inputs`; InputError for damage further on in a file; RecordError for the first bad row where the
    recipe says `on_bad_row: fail`.
    """
    inputs = check_inputs(recipe)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # hashing lets go of the interpreter's lock
        digests = dict(zip(inputs, threads.map(_digest, inputs), strict=True))

    described, items = [], []
    for spec in recipe.sources:
        files = tuple(one for one in inputs if one.source == spec.name)
        work = _works(spec, files, recipe)
        described.append(_describe(spec, files, digests, recipe.seed) | {"items": len(work)})
        items += work
    step = INGEST.step({"sources": described, "on_bad_row": recipe.on_bad_row})
    return run.do(step, lambda context: context.map(ingest_files, items))


INGEST = RecipeStep(
    name="ingest",
    version=2,  # of everything between a file's bytes and its records but the adapters, which have their own
    products={RECORDS: "the sources' rows as RECORD", DROPPED_ROWS: "rows that are no records, as DROPPED"},
    kept=RECORDS,
    wanted=always,
    make=lambda build: ingest(build.run, build.recipe),
)


def by_source(manifest: Manifest) -> dict[str, tuple[int, int]]:
    """Source -> (rows read, rows kept) of an ingest step. A source that kept nothing is most likely a mistake."""
    parts = iter(manifest.parts)
    table = {}
    for source in manifest.parameters["sources"]:
        mine = [next(parts) for _ in range(source["items"])]
        table[str(source["name"])] = (sum(part.rows_in or 0 for part in mine), sum(part.rows(RECORDS) for part in mine))
    return table


# What the recipe says, and what there is


def _inputs(spec: SourceSpec, unreachable: dict[str, str]) -> list[Input]:
    """The files of one source. unreachable: place -> why, filled in: a place that did not answer is not asked again."""
    _check(spec)
    if not spec.paths:
        return [Input(spec.name, "", "generated", 0)]
    found: dict[str, None] = {}
    missing = []
    for pattern in spec.paths:
        place = "" if storage.is_local(pattern) else "/".join(pattern.split("/")[:3])
        try:
            if place in unreachable:
                raise Unreachable(f"{pattern}: {unreachable[place]}")
            found.update(dict.fromkeys(input_files.expand(pattern)))
        except InputError as error:
            why = str(error)
            if isinstance(error, Unreachable):
                unreachable.setdefault(place, why.removeprefix(f"{pattern}: "))
            missing.append(Input(spec.name, pattern, "", -1, why))
    paths = list(found)
    return [
        Input(spec.name, path, name, storage.size(path)) for path, name in zip(paths, _names(paths), strict=True)
    ] + missing


def _check(spec: SourceSpec) -> None:
    """Errors: RecipeError where the source's keys do not go together."""
    where = f"source {spec.name!r}"
    if spec.condition is not None:
        for tag in spec.condition.split(","):
            if tag not in CONDITIONS:
                raise RecipeError(
                    f"{where}: condition: unknown tag {tag!r}; {nearest(tag, CONDITIONS)}; several are joined by commas"
                )
    if spec.adapter is None:
        if not spec.paths:
            raise RecipeError(f"{where}: give it a `path`, or an `adapter` that computes its rows")
        _check_pairs(spec, where)
        return
    if spec.adapter not in SOURCES:
        raise RecipeError(f"{where}: unknown adapter {spec.adapter!r}; {nearest(spec.adapter, SOURCES)}")
    if spec.columns is not None:
        raise RecipeError(f"{where}: the adapter {spec.adapter!r} knows its columns; leave out `columns`, or `adapter`")
    if SOURCES[spec.adapter].read is None:
        if spec.paths:
            raise RecipeError(f"{where}: the adapter {spec.adapter!r} computes its rows; leave out `path`")
        if spec.rows is None:
            raise RecipeError(f"{where}: the adapter {spec.adapter!r} computes its rows; say how many: `rows: 1000`")
    elif not spec.paths:
        raise RecipeError(f"{where}: the adapter {spec.adapter!r} reads files; give their `path`")


def _check_pairs(spec: SourceSpec, where: str) -> None:
    columns = _columns(spec)
    known = ("instruction", "response", "condition", "messages", "thinking", "text")
    for name in columns:
        if name not in known:
            raise RecipeError(f"{where}: columns: unknown key {name!r}; {nearest(name, known)}")
    whole = [name for name in ("messages", "text") if name in columns]
    if len(whole) > 1 or (whole and ("instruction" in columns or "response" in columns)):
        raise RecipeError(f"{where}: columns: give `instruction` and `response`, or `messages`, or `text` alone")
    if not whole:
        for name in ("instruction", "response"):
            if name not in columns:
                raise RecipeError(
                    f"{where}: columns: {name!r} is missing; write {{instruction: <column>, response: <column>}}"
                )
    if "condition" not in columns and spec.condition is None:
        raise RecipeError(
            f"{where}: say the `condition` of its rows ({', '.join(CONDITIONS)}; several joined by commas)"
        )


def _columns(spec: SourceSpec) -> dict[str, str]:
    """The columns of files without adapter; unsaid, they are those of a record as HRM-Text writes it."""
    if spec.columns is not None:
        return spec.columns
    names = ("instruction", "response") if spec.condition is not None else ("instruction", "response", "condition")
    return {name: name for name in names}


def _names(paths: Sequence[str]) -> list[str]:
    """What files are called in ids: paths below the folder they share, without suffixes unless two would be alike."""
    folders = [posixpath.dirname(path) for path in paths]
    base = posixpath.commonpath(folders) if folders and all(folders) else ""
    relative = [posixpath.relpath(path, base) if base else path for path in paths]
    stems = [_stem(name) for name in relative]
    twice = {stem for stem, count in Counter(stems).items() if count > 1}
    return [name if stem in twice else stem for name, stem in zip(relative, stems, strict=True)]


def _stem(name: str) -> str:
    stem, extension = posixpath.splitext(name)
    if extension.lower() in (".gz", ".zst", ".bz2"):
        stem, extension = posixpath.splitext(stem)
    return stem if extension.lower() in FORMATS else name


def _check_columns(spec: SourceSpec, files: Sequence[Input]) -> None:
    """Look at the first rows of the user's own files, since the user named their columns. Errors: InputError."""
    if spec.adapter is None:
        for one in files:
            next(pairs.read_pairs(one.path, _columns(spec), spec.condition), None)


def _digest(one: Input) -> str:
    return input_files.identity(one.path) if one.path else ""


def _works(spec: SourceSpec, files: tuple[Input, ...], recipe: Recipe) -> list[Work]:
    # A cap runs over a source's files in order, so they are one item, and reading ends where the cap is reached.
    groups = [files] if spec.rows is not None else [(one,) for one in files]
    return [Work(spec, group, recipe.seed, recipe.on_bad_row) for group in groups]


def _describe(spec: SourceSpec, files: tuple[Input, ...], digests: dict[Input, str], seed: int) -> dict[str, Any]:
    """All that a source's records depend on."""
    computed = not spec.paths
    return {
        "name": spec.name,
        "adapter": spec.adapter,
        "version": SOURCES[spec.adapter].version if spec.adapter else 0,
        "columns": _columns(spec) if spec.adapter is None else None,
        "condition": spec.condition,
        "rows": spec.rows,
        "seed": seed if computed else None,
        "files": [] if computed else [[one.file, input_files.suffix(one.path), digests[one]] for one in files],
    }


# The work


def ingest_files(work: Work, target: Target) -> Part:
    """Read the files of one work item and write its shards."""
    shards = _Shards(target, SHARD_ROWS if work.spec.paths else GENERATED_SHARD_ROWS)
    left = work.spec.rows
    for one in work.files:
        for table in _batches(work, one):
            if left is not None:
                table = table.slice(0, left)
                left -= table.num_rows
            if work.spec.condition is not None:
                table = _with_condition(table, work.spec.condition)
            shards.add(
                table, functools.partial(conform, source=work.spec.name, file=one.file, on_bad_row=work.on_bad_row)
            )
            if left == 0:
                return shards.part()
    return shards.part()


def _batches(work: Work, one: Input) -> Iterator[pa.Table]:
    """RAW tables of one file."""
    spec = work.spec
    if spec.adapter is None:
        return pairs.read_pairs(one.path, _columns(spec), spec.condition)
    source = SOURCES[spec.adapter]
    if source.read is not None:
        return source.read(one.path)
    assert source.generate is not None and spec.rows is not None, "checked in plan_inputs"
    return source.generate(spec.rows, work.seed)


def _with_condition(table: pa.Table, condition: str) -> pa.Table:
    tags = pa.nulls(table.num_rows, pa.string()).fill_null(condition)
    return table.set_column(table.schema.get_field_index("condition"), table.schema.field("condition"), tags)


class _Shards:
    """Collects records and writes a shard whenever enough have come together."""

    def __init__(self, target: Target, rows: int) -> None:
        self.target, self.limit = target, rows
        self.rows_in = self.pieces = 0
        self.counts: Counter[str] = Counter()
        self.written: dict[str, list[storage.TableRef]] = {RECORDS: [], DROPPED_ROWS: []}
        self._start()

    def _start(self) -> None:
        self.kept, self.dropped, self.rows, self.bytes = [RECORD.empty_table()], [DROPPED.empty_table()], 0, 0

    def add(self, table: pa.Table, conforming: Any) -> None:
        """Conform RAW rows and take them in."""
        while table.num_rows:
            outcome = conforming(table.slice(0, self.limit - self.rows))
            rows = outcome.kept.num_rows + outcome.dropped.num_rows
            table = table.slice(rows)
            self.rows_in += rows
            self.rows += rows
            self.bytes += outcome.kept.nbytes + outcome.dropped.nbytes
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
        """Everything that was taken in, on disk."""
        if self.rows:
            self._flush()
        files = {product: tuple(files) for product, files in self.written.items() if files}
        return Part(rows_in=self.rows_in, files=files, counts=dict(sorted(self.counts.items())))
