"""The steps of a build on rows in memory: filter, deduplicate, scan, strip thinking. `import winnow` shows them.

Rows are written to a temporary folder, and the same steps run on them as in a build, in this process. The verdicts are
therefore those of a build by construction. A call costs a few tenths of a second more than the work itself.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from filters.catalogue import STAGES
from filters.stage import Stage
from filters.thinking.strip import StripThinking
from pipelines.curate import curate
from pipelines.errors import WinnowError, nearest
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.memory.rows import TEXT, Numbers, rows_of
from pipelines.recipe import (
    TEXT_FIELDS,
    BenchmarkSpec,
    Contamination,
    ExactDuplicates,
    NearDuplicates,
    Recipe,
    SourceSpec,
)
from pipelines.scan import find_benchmarks
from pipelines.steps.benchmark_index import BENCHMARK_INDEX, check_contamination
from pipelines.steps.contamination_report import REPORT
from pipelines.steps.decontaminate import CONTAMINATION
from pipelines.steps.duplicates.exact import EXACT_DUPLICATES
from pipelines.steps.duplicates.near import NEAR_DUPLICATES
from pipelines.steps.ingest import INGEST
from pipelines.steps.products import HITS, RECORDS
from pipelines.steps.refine import REFINE
from pipelines.steps.step import RecipeStep
from pipelines.validation import validate

Model = TypeVar("Model", bound=BaseModel)


class Filtered(NamedTuple):
    """What stages made of rows.

    kept: the rows that pass, in the order of the input and of its type, with the texts as transforms rewrote them.
    dropped: the others as they were given, with further columns `stage`, `reason` and `evidence` (JSON); texts become
    an Arrow table with the column `text`. reasons: `stage/reason` -> rows.
    """

    kept: Any
    dropped: Any
    reasons: dict[str, int]


class Duplicates(NamedTuple):
    """Which rows repeat another one.

    kept: bool [rows]. twins: int64 [rows], the number of the row that stays, -1 for rows that are kept. jaccard:
    float64 [rows], the similarity that decided, the lower of two fields; NaN for rows that are kept. It is that with
    the twin, or with a row that itself repeats the twin. reasons: [rows], `exact_duplicate`, `same_words`,
    `near_duplicate`, or None for rows that are kept.
    """

    kept: npt.NDArray[np.bool_]
    twins: Numbers
    jaccard: npt.NDArray[np.float64]
    reasons: list[str | None]


class Scanned(NamedTuple):
    """Which rows contain items of evaluation sets.

    leaked: bool [rows], whether the row contains a whole test item. hits: one row per row and item, the highest score
    first: `row` int64, `benchmark`, `item`, `class`, `score` (0 to 1), `rules`, `field`, `span` and others
    (`pipelines.steps.contamination_report.REPORT`). found: benchmark -> its items that are in a hit.
    """

    leaked: npt.NDArray[np.bool_]
    hits: pa.Table
    found: dict[str, int]


def filter(
    data: Any, stages: Sequence[str | Mapping[str, Any] | Stage], *, columns: str | Sequence[str] | None = None
) -> Filtered:
    """Run filters and transforms over rows.

    data: texts, which are judged as responses, or a table. stages: names (`"loop"`), settings as in a recipe
    (`{"kind": "length", "max_chars": 100}`), or stages. columns: the column with the response, or the columns with
    instruction and response; guessed by default.

    Raises: WinnowError: for an unknown stage or setting, a column that is missing, or a text that is null.
    """
    rows = rows_of(data)
    names = rows.columns(columns)
    if taken := [name for name in _MARKS if name in rows.table.column_names]:
        raise WinnowError(f"the table has a column {taken[0]!r}, which dropped rows get; rename it")
    made = _run(rows.texts(names), (INGEST, REFINE), stages=tuple(map(_stage, _listed(stages))))
    kept, dropped = made.records(REFINE), made.dropped()
    at = _numbers(kept["id"])
    rewritten = {
        name: texts
        for field, name in names.items()
        if not (texts := kept[field].combine_chunks()).equals(rows.column(name).take(pa.array(at)))
    }
    pairs = zip(dropped["stage"].to_pylist(), dropped["reason"].to_pylist(), strict=True)
    reasons = Counter(f"{stage}/{reason}" for stage, reason in pairs)
    marks = {name: dropped[name].combine_chunks() for name in _MARKS}
    return Filtered(rows.take(at, rewritten), rows.take(_numbers(dropped["id"]), marks), dict(sorted(reasons.items())))


def strip_thinking(texts: Any) -> Any:
    """Remove the reasoning from responses. Returns texts in the same order and of the same type.

    A text that is nothing but reasoning becomes empty.

    Raises: WinnowError: if `texts` is a table, or a text is null.
    """
    rows = rows_of(texts)
    if rows.is_table:
        raise WinnowError("give the texts, not a table; winnow.filter(table, ['strip_thinking']) reads tables")
    records = rows.texts(rows.columns(None)).append_column("condition", pa.array(["direct"] * len(rows), pa.string()))
    stripped = StripThinking().rewrite(records)["response"].combine_chunks()
    return rows.take(np.arange(len(rows)), {TEXT: stripped})


def deduplicate(
    data: Any,
    *,
    columns: str | Sequence[str] | None = None,
    jaccard: float | Mapping[str, float] | None = 0.8,
) -> Duplicates:
    """Find exact and near-duplicates, as the steps of a build do.

    data: texts, or a table. columns: the column to compare, or the columns with instruction and response; guessed by
    default. jaccard: the least similarity of each compared column, 0 to 1, or column -> its similarity; a column that
    is not named is not compared by similarity. None finds exact duplicates only.

    Raises: WinnowError: for a column that is missing, a text that is null, or a similarity out of range.
    """
    rows = rows_of(data)
    names = rows.columns(columns)
    sections: dict[str, Any] = {"exact_duplicates": ExactDuplicates(fields=tuple(names))}
    steps = [INGEST, EXACT_DUPLICATES]
    if jaccard is not None:
        limits = jaccard if isinstance(jaccard, Mapping) else dict.fromkeys(names.values(), jaccard)
        for name in limits:
            if name not in names.values():
                raise WinnowError(f"jaccard: no compared column {name!r}; {nearest(name, list(names.values()))}")
        least: dict[str, Any] = {field: limits[name] for field, name in names.items() if name in limits}
        sections["near_duplicates"] = _valid(NearDuplicates, least, "jaccard")
        steps.append(NEAR_DUPLICATES)
    made = _run(rows.texts(names), steps, **sections)
    kept, twins = np.ones(len(rows), np.bool_), np.full(len(rows), -1, np.int64)
    similarity = np.full(len(rows), np.nan)
    reasons: list[str | None] = [None] * len(rows)
    for row in made.dropped().to_pylist():
        at, evidence = _number(row["id"]), json.loads(row["evidence"])
        if "twin" not in evidence:  # ingest dropped it
            raise WinnowError(f"row {at} cannot be compared ({row['reason']}); remove it")
        kept[at], twins[at], reasons[at] = False, _number(evidence["twin"]), row["reason"]
        similarity[at] = min(evidence.get("jaccard", {"exact": 1.0}).values())
    # The row that a decision names may itself have been dropped by a later one.
    while (chained := (twins >= 0) & (twins[twins] >= 0)).any():
        twins[chained] = twins[twins[chained]]
    return Duplicates(kept, twins, similarity, reasons)


def scan(
    data: Any,
    benchmarks: Mapping[str, Any] | Sequence[str],
    *,
    columns: str | Sequence[str] | None = None,
    rule: str = "ngram13",
) -> Scanned:
    """Find items of evaluation sets in rows.

    data: texts, or a table. benchmarks: name -> questions, or a table with the column `question` and optionally
    `answer`, `choices` and `passage`; or a list of what `winnow scan --benchmarks` takes (`gsm8k=test.jsonl`). columns:
    as in `filter`. rule: by which an item counts as found.

    Raises: WinnowError: for a column that is missing, a text that is null, an unknown rule or benchmark.
    """
    rows = rows_of(data)
    names = rows.columns(columns)
    with tempfile.TemporaryDirectory() as folder:
        specs = _benchmarks(benchmarks, Path(folder))
        settings = Contamination(benchmarks=specs, rule=rule)
        check_contamination(settings)
        made = _run(rows.texts(names), (INGEST, BENCHMARK_INDEX, CONTAMINATION), contamination=settings)
    hits = made.table(CONTAMINATION, HITS, REPORT)
    hits = hits.set_column(0, "row", pa.array(_numbers(hits["row"]))).drop_columns(["source", "dropped"])
    hits = hits.sort_by([("score", "descending"), ("row", "ascending"), ("item", "ascending")])
    leaked = np.zeros(len(rows), np.bool_)
    leaked[_numbers(made.dropped()["id"])] = True
    items = set(zip(hits["benchmark"].to_pylist(), hits["item"].to_pylist(), strict=True))
    found = Counter(name for name, _ in items)
    return Scanned(leaked, hits, {spec.name: found[spec.name] for spec in specs})


# The steps

_SOURCE = "rows"
_MARKS = ("stage", "reason", "evidence")  # the columns of dropped rows


class _Made(NamedTuple):
    """The tables that steps wrote: (step, product) -> the tables of its shards."""

    tables: Mapping[tuple[str, str], list[pa.Table]]

    def table(self, step: RecipeStep, product: str, schema: pa.Schema) -> pa.Table:
        return pa.concat_tables([schema.empty_table(), *self.tables.get((step.name, product), [])])

    def records(self, step: RecipeStep) -> pa.Table:
        columns = pa.schema([(name, pa.string()) for name in ("id", *TEXT_FIELDS)])
        tables = [table.select(columns.names).cast(columns) for table in self.tables[step.name, RECORDS]]
        return pa.concat_tables([columns.empty_table(), *tables]).combine_chunks()

    def dropped(self) -> pa.Table:
        columns = ["id", *_MARKS]
        tables = [table for (_, product), tables in self.tables.items() if product == DROPPED_ROWS for table in tables]
        empty = pa.schema([(name, pa.string()) for name in columns]).empty_table()
        return pa.concat_tables([empty, *(table.select(columns).cast(empty.schema) for table in tables)])


def _run(texts: pa.Table, steps: Sequence[RecipeStep], **sections: Any) -> _Made:
    """Run steps on texts in a temporary folder, and read what they wrote."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.parquet")
        pq.write_table(texts, path)
        columns = {field: field for field in TEXT_FIELDS}
        source = SourceSpec(name=_SOURCE, path=str(path), columns=columns, condition="direct")
        recipe = Recipe(name="memory", sources=(source,), **({"near_duplicates": False} | sections))
        made = curate(Run(str(Path(folder, "root")), LocalEngine()), recipe, steps=steps).steps
        return _Made(
            {
                (name, product): [storage.read_parquet(file.path) for file in manifest.files(product)]
                for name, manifest in made.items()
                for product in (RECORDS, DROPPED_ROWS, HITS)
                if product in {DROPPED_ROWS, HITS} or name == steps[-1].name
            }
        )


def _numbers(ids: pa.ChunkedArray) -> Numbers:
    """The row numbers in ids `rows/rows/17`: int64 [n]."""
    return np.array([_number(name) for name in ids.to_pylist()], np.int64)


def _number(name: str) -> int:
    return int(name.rpartition("/")[2])


def _listed(stages: Any) -> Sequence[Any]:
    return [stages] if isinstance(stages, str | Mapping | Stage) else stages


def _stage(stage: str | Mapping[str, Any] | Stage) -> Stage:
    if isinstance(stage, Stage):
        return stage
    values = {"kind": stage} if isinstance(stage, str) else dict(stage)
    kind = str(values.get("kind"))
    if kind not in STAGES:
        raise WinnowError(f"unknown stage {kind!r}; {nearest(kind, STAGES)}")
    return _valid(STAGES[kind], values, kind)


def _valid(model: type[Model], values: Mapping[str, Any], what: str) -> Model:
    """A validated model. Raises: WinnowError: with every problem."""
    made, problems = validate(model, dict(values))
    if made is None:
        raise WinnowError(f"{what}: " + "; ".join(problem.message for problem in problems))
    return made


def _benchmarks(benchmarks: Mapping[str, Any] | Sequence[str], folder: Path) -> tuple[BenchmarkSpec, ...]:
    """The evaluation sets as a recipe names them; those in memory are written to `folder`."""
    if not benchmarks:
        raise WinnowError("benchmarks: name at least one: {'quiz': questions}, or ['gsm8k=gsm8k_test.jsonl']")
    if not isinstance(benchmarks, Mapping):
        return find_benchmarks([benchmarks] if isinstance(benchmarks, str) else benchmarks).specs
    specs: list[BenchmarkSpec] = []
    for name, items in benchmarks.items():
        rows = rows_of(items)
        table = rows.table if rows.is_table else rows.table.rename_columns(["question"])
        if "question" not in table.column_names:
            raise WinnowError(f"benchmark {name!r}: no column 'question'; it has {', '.join(table.column_names)}")
        if not table.num_rows:
            raise WinnowError(f"benchmark {name!r}: no items")
        if table["question"].null_count:
            raise WinnowError(f"benchmark {name!r}: a question is null")
        # The file's name is part of the ids of items.
        values = {"name": name, "adapter": "items", "path": str(folder / f"{name}.parquet")}
        specs.append(_valid(BenchmarkSpec, values, f"benchmark {name!r}"))
        known = [column for column in ("question", "answer", "choices", "passage") if column in table.column_names]
        pq.write_table(table.select(known), specs[-1].paths[0])
    return tuple(specs)
