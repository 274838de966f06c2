"""Does any corpus contain items of evaluation sets? A contamination check by itself, through the steps of a build.

A scan is a recipe of one source, no stages and a contamination section, and it ends with text: `ingest`, then
`contamination`. So it resumes and reuses steps like a build, and its shards are the corpus without the rows that leak.
This module makes that recipe from a command line, and reads the answer back from the files of the run.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from pipelines.benchmarks import BENCHMARKS
from pipelines.errors import InputError, RecipeError, nearest
from pipelines.formats.read import FORMATS, column_names
from pipelines.formats.roles import guess_columns
from pipelines.ledger import input_files, storage
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import BenchmarkSpec, Contamination, Recipe, SourceSpec
from pipelines.steps.contamination_report import semantic_quality
from pipelines.steps.decontaminate import CONTAMINATION
from pipelines.steps.products import CLEAN_IDS, HITS
from pipelines.steps.source_files import row_files

SOURCE = "corpus"
"""The name of the one source of a scan. The ids of its rows begin with it."""

MAX_WORST_HITS = 20
"""Hits quoted in the answer. All hits are in the `hits` files."""


# The recipe


class EvaluationSets(NamedTuple):
    """The evaluation sets of a scan, and the files that were searched and hold none."""

    specs: tuple[BenchmarkSpec, ...]
    others: tuple[str, ...]


def scan_recipe(
    corpus: Sequence[str],
    columns: Mapping[str, str | tuple[str, ...]] | None,
    settings: Contamination,
    name: str = "scan",
) -> Recipe:
    """The recipe of a scan.

    corpus: paths, folders, globs or URLs. columns: as in a source of a recipe, None to guess them by name.

    Raises: InputError: if there is no file, or none of a known format. RecipeError: if the columns cannot be guessed.
    """
    files = [path for pattern in corpus for path in row_files(_absolute(pattern))]
    paths = [path for path in files if input_files.suffix(path) in FORMATS]
    if not paths:
        raise InputError(f"{', '.join(corpus)}: no file of a known format ({' '.join(FORMATS)})")
    mapped = dict(columns) if columns else guess_columns(paths[0])
    source = SourceSpec(name=SOURCE, path=tuple(paths), columns=mapped, condition="direct")
    return Recipe(
        name=name,
        sources=(source,),
        exact_duplicates=False,
        near_duplicates=False,
        contamination=settings,
    )


def _absolute(path: str) -> str:
    """A path that does not depend on the working directory, which workers may not share."""
    return str(Path(path).expanduser().absolute()) if storage.is_local(path) else path


def find_benchmarks(arguments: Sequence[str]) -> EvaluationSets:
    """The evaluation sets that the arguments name.

    `name=path` reads the files as that benchmark, and `generated=300` generates 300 items. With a name of your own, the
    columns `question`, `answer`, `choices` and `passage` are read. A known name alone (`gsm8k`), where no file has
    this name, reads the published files from their address. A folder, file or glob alone is searched: files are
    recognised by the names under which sets are published, else by their columns (decon's normalised JSON lines, or
    `question`).

    Raises: InputError: if a path has no file, or no evaluation set is found. RecipeError: if a name is given twice.
    """
    specs: list[BenchmarkSpec] = []
    others: list[str] = []
    for argument in arguments:
        name, equals, path = argument.partition("=")
        published = BENCHMARKS[name].path if name in BENCHMARKS and not equals else ()
        if published and not storage.exists(name):
            files = [path for pattern in published for path in input_files.expand(pattern)]
            specs.append(_spec(name, files))
            continue
        if not equals:
            sets = _search(argument)
            specs += sets.specs
            others += sets.others
            continue
        if name in BENCHMARKS and BENCHMARKS[name].generate is not None:
            if not path.isdigit() or int(path) < 1:
                raise RecipeError(f"--benchmarks {argument}: {name} is generated; give the number of items: {name}=300")
            specs.append(BenchmarkSpec(name=name, rows=int(path)))
            continue
        files = input_files.expand(_absolute(path))
        if name not in BENCHMARKS and _adapter(files[0]) is None:
            raise InputError(
                f"--benchmarks {argument}: no benchmark is called {name!r} ({nearest(name, BENCHMARKS)}), and "
                f"{files[0]} has no column `question` to read items of your own from"
            )
        specs.append(_spec(name, files, None if name in BENCHMARKS else _adapter(files[0])))
    if not specs:
        raise InputError(
            f"--benchmarks {' '.join(arguments)}: no evaluation set found; "
            f"give its name: gsm8k=FILE ({nearest('', BENCHMARKS)})"
        )
    names = [spec.name for spec in specs]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise RecipeError(
            f"--benchmarks: {repeated[0]} is named twice; give both files as one glob, or two different names"
        )
    return EvaluationSets(tuple(specs), tuple(others))


def _spec(name: str, files: Sequence[str], adapter: str | None = None) -> BenchmarkSpec:
    return BenchmarkSpec(name=name, adapter=adapter, path=files[0] if len(files) == 1 else tuple(files))


def _search(pattern: str) -> EvaluationSets:
    """The evaluation sets among the files of a folder or glob."""
    files = input_files.expand(_absolute(pattern))
    published: dict[str, list[str]] = {}
    unknown = []
    for path in files:
        names = [
            name
            for name, benchmark in BENCHMARKS.items()
            if any(fnmatch.fnmatch(path, f"*/{ending}") for ending in benchmark.files)
        ]
        for name in names:
            published.setdefault(name, []).append(path)
        if not names:
            unknown.append(path)
    specs = [_spec(name, paths) for name, paths in published.items()]
    adapted: dict[tuple[str, str], list[str]] = {}
    others = []
    for path in unknown:
        adapter = _adapter(path)
        if adapter is None:
            others.append(path)
            continue
        stem = posixpath.basename(path).split(".")[0]
        # decon names its files <set>_<split>-<n>.
        name = (
            "decon_" + re.sub(r"(_(train|test|dev|val|validation))?(-\d+)?$", "", stem) if adapter == "decon" else stem
        )
        adapted.setdefault((re.sub(r"[^A-Za-z0-9_.\-]", "_", name), adapter), []).append(path)
    specs += [_spec(name, paths, adapter) for (name, adapter), paths in adapted.items()]
    return EvaluationSets(tuple(specs), tuple(others))


def _adapter(path: str) -> str | None:
    """The adapter that reads a file which is not a published set. None if the file holds no items."""
    if input_files.suffix(path) not in FORMATS:
        return None
    names = set(column_names(path))
    if {"eval_key", "eval_instance_index", "question"} <= names:
        return "decon"
    return "items" if "question" in names else None


# The answer


class BenchmarkHits(BaseModel):
    """One evaluation set: its items, those found in the corpus, and the rows that contain one."""

    model_config = ConfigDict(frozen=True)

    benchmark: str
    items: int
    contaminated: int
    rows: int


class ClassCount(BaseModel):
    """Distinct rows and items with hits of one class (`filters.contamination.rules.CLASSES`)."""

    model_config = ConfigDict(frozen=True)

    rows: int
    items: int


class Hit(BaseModel):
    """A row that contains an item.

    score, longest: as in the `hits` files. field, start, end: where in the row, in characters. span: the text there.
    """

    model_config = ConfigDict(frozen=True)

    row: str
    benchmark: str
    item: str
    score: float
    longest: int
    field: str
    start: int
    end: int
    span: str


class ScanSummary(BaseModel):
    """The result of a scan.

    columns: as the recipe maps them. rows_in: rows read, of which `unreadable` were no records, by reason. flagged:
    `stage/reason` -> rows dropped. classes: every hit by class, whether it drops its row or not. worst: the leaks that
    share most with their items. hits, flagged_rows, clean_rows: paths of Parquet files. clean_ids: paths of JSON files,
    one for each evaluation set. semantic: what the search for paraphrases was measured to find, and to find wrongly;
    None if it was not asked for.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    columns: dict[str, str] | None
    rule: str
    rows_in: int
    unreadable: dict[str, int]
    rows_clean: int
    flagged: dict[str, int]
    classes: dict[str, ClassCount]
    benchmarks: tuple[BenchmarkHits, ...]
    worst: tuple[Hit, ...]
    hits: tuple[str, ...]
    flagged_rows: tuple[str, ...]
    clean_rows: tuple[str, ...]
    clean_ids: tuple[str, ...]
    semantic: str | None


def summary(run: RecordedRun) -> ScanSummary:
    """The result of a recorded scan, read from its files."""
    read, checked = run.steps[0], run.step(CONTAMINATION.name)
    assert checked is not None
    hits, clean_ids = ([file.path for file in checked.files(product)] for product in (HITS, CLEAN_IDS))
    tables = [storage.read_parquet(path) for path in hits]
    table = pa.concat_tables(tables) if tables else None
    settings = run.info["settings"]
    return ScanSummary(
        run=run.id,
        columns=settings["sources"][0]["columns"],
        rule=settings["contamination"]["rule"],
        rows_in=read.rows_in or 0,
        unreadable=read.counts,
        rows_clean=checked.rows_kept or 0,
        flagged=checked.counts,
        classes=_classes(table),
        benchmarks=tuple(
            BenchmarkHits(
                benchmark=value["benchmark"],
                items=value["items"],
                contaminated=len(value["contaminated"]),
                rows=_rows(table, value["benchmark"]),
            )
            for value in map(storage.read_json, clean_ids)
        ),
        worst=_worst(table),
        hits=tuple(hits),
        flagged_rows=tuple(shard.path for shard in checked.dropped),
        clean_rows=tuple(shard.path for shard in checked.shards),
        clean_ids=tuple(clean_ids),
        semantic=semantic_quality(settings["contamination"]),
    )


def _classes(hits: pa.Table | None) -> dict[str, ClassCount]:
    if hits is None:
        return {}
    counts = hits.group_by("class").aggregate([("row", "count_distinct"), ("item", "count_distinct")])
    return {
        line["class"]: ClassCount(rows=line["row_count_distinct"], items=line["item_count_distinct"])
        for line in counts.sort_by("class").to_pylist()
    }


def _rows(hits: pa.Table | None, benchmark: str) -> int:
    """Rows that contain an item of the benchmark."""
    if hits is None:
        return 0
    leaks = hits.filter(pc.and_(pc.equal(hits["benchmark"], benchmark), pc.equal(hits["class"], "test_leak")))
    return len(pc.unique(leaks["row"]))


def _worst(hits: pa.Table | None) -> tuple[Hit, ...]:
    """The leaks with the highest scores, then with the longest runs shared with their items."""
    if hits is None:
        return ()
    leaks = hits.filter(pc.equal(hits["class"], "test_leak")).select(list(Hit.model_fields))
    order = [("score", "descending"), ("longest", "descending"), ("row", "ascending"), ("item", "ascending")]
    return tuple(Hit(**row) for row in leaks.sort_by(order).slice(0, MAX_WORST_HITS).to_pylist())
