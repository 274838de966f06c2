"""A contamination check by itself: any corpus against evaluation sets, through the steps of a build.

A scan is a recipe of one source, no stages and a contamination section, and ends with text: `ingest`, then
`drop_contaminated`. So it resumes, reuses and is told about like a build, and its shards are the corpus without its
leaks. What is here makes that recipe out of a command line, and reads the answer back from the run's files.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.benchmarks import BENCHMARKS
from pipelines.errors import InputError, RecipeError, nearest
from pipelines.formats.read import FORMATS, column_names
from pipelines.ledger import storage
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import BenchmarkSpec, Contamination, Recipe, SourceSpec
from pipelines.steps.contamination_report import CLEAN_IDS, HITS
from pipelines.steps.decontaminate import CONTAMINATION

SOURCE = "corpus"
"""The name of a scan's one source, with which the ids of its rows begin."""

ASKED = ("instruction", "question", "prompt", "problem", "query", "input")
ANSWERED = ("response", "answer", "output", "completion", "solution", "target", "chosen")
TALKED = ("messages", "conversations", "conversation")
WRITTEN = ("text", "content", "document")
"""Names that columns commonly have, the likeliest first, where the user names none."""

WORST = 20
"""Hits that the answer quotes."""


# The recipe


class Found(NamedTuple):
    """Evaluation sets found, and the files looked at that are none."""

    specs: tuple[BenchmarkSpec, ...]
    others: tuple[str, ...]


def scan_recipe(
    corpus: Sequence[str], columns: Mapping[str, str] | None, settings: Contamination, name: str = "scan"
) -> Recipe:
    """The recipe of a scan.

    corpus: paths, folders, globs or URLs. columns: as a recipe's source has them, None to guess by names.
    Errors: InputError where there is no file, or none of a known format; RecipeError where no column can be guessed.
    """
    found = [path for pattern in corpus for path in storage.expand(_absolute(pattern))]
    paths = [path for path in found if storage.suffix(path) in FORMATS]
    if not paths:
        raise InputError(f"{', '.join(corpus)}: no file of a format that is read: {' '.join(FORMATS)}")
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
    """A path as workers see it, whatever folder they run in."""
    return str(Path(path).expanduser().absolute()) if storage.is_local(path) else path


def guess_columns(path: str) -> dict[str, str]:
    """Which columns of a file hold the pair, the conversation or the text, by their names.

    Errors: RecipeError naming the columns that there are, where none has a common name.
    """
    names = column_names(path)

    def first(candidates: Sequence[str]) -> str | None:
        by_case = {name.lower(): name for name in reversed(names)}
        return next((by_case[candidate] for candidate in candidates if candidate in by_case), None)

    asked, answered, talked, written = (first(candidates) for candidates in (ASKED, ANSWERED, TALKED, WRITTEN))
    if talked:
        return {"messages": talked}
    if asked and answered:
        return {"instruction": asked, "response": answered}
    if written or asked or answered:
        return {"text": str(written or asked or answered)}
    raise RecipeError(
        f"{path}: no column has a name that tells what it holds (there are: {', '.join(names) or 'none'}); "
        "say it: --columns instruction=question,response=answer, or --columns text=body, or --columns messages=turns"
    )


def parse_columns(text: str) -> dict[str, str]:
    """`instruction=question,response=answer` as a mapping. Errors: RecipeError where it is not written so."""
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(key.strip() and equals and column.strip() for key, equals, column in pairs):
        raise RecipeError(
            f"--columns {text}: write instruction=COLUMN,response=COLUMN, or text=COLUMN, or messages=COLUMN"
        )
    return {key.strip(): column.strip() for key, _, column in pairs}


def find_benchmarks(arguments: Sequence[str]) -> Found:
    """The evaluation sets that arguments name.

    `name=path` reads the files as that benchmark (`generated=300` computes so many items); a name of your own reads
    columns `question`, `answer`, `choices`, `passage`. A folder, file or glob alone is searched: files are known by the
    names under which sets are published, and else by their columns (decon's normalised JSON lines, or `question`).

    Errors: InputError where a path has no file, or no evaluation set is found; RecipeError for a name given twice.
    """
    specs: list[BenchmarkSpec] = []
    others: list[str] = []
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals:
            found = _search(argument)
            specs += found.specs
            others += found.others
            continue
        if name in BENCHMARKS and BENCHMARKS[name].generate is not None:
            if not path.isdigit() or int(path) < 1:
                raise RecipeError(f"--benchmarks {argument}: {name} is computed; say how many items: {name}=300")
            specs.append(BenchmarkSpec(name=name, rows=int(path)))
            continue
        files = storage.expand(_absolute(path))
        if name not in BENCHMARKS and _adapter(files[0]) is None:
            raise InputError(
                f"--benchmarks {argument}: no benchmark is called {name!r} ({nearest(name, BENCHMARKS)}), and "
                f"{files[0]} has no column `question` to read items of your own from"
            )
        specs.append(_spec(name, files, None if name in BENCHMARKS else _adapter(files[0])))
    if not specs:
        raise InputError(
            f"--benchmarks {' '.join(arguments)}: no evaluation set found; "
            f"name it: gsm8k=FILE ({nearest('', BENCHMARKS)})"
        )
    names = [spec.name for spec in specs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RecipeError(f"--benchmarks: {twice[0]} is named twice; give both files in one glob, or a name of its own")
    return Found(tuple(specs), tuple(others))


def _spec(name: str, files: Sequence[str], adapter: str | None = None) -> BenchmarkSpec:
    return BenchmarkSpec(name=name, adapter=adapter, path=files[0] if len(files) == 1 else tuple(files))


def _search(pattern: str) -> Found:
    files = storage.expand(_absolute(pattern))
    known: dict[str, list[str]] = {}
    rest = []
    for path in files:
        owners = [
            name for name, one in BENCHMARKS.items() if any(fnmatch.fnmatch(path, f"*/{end}") for end in one.files)
        ]
        for name in owners:
            known.setdefault(name, []).append(path)
        if not owners:
            rest.append(path)
    specs = [_spec(name, paths) for name, paths in known.items()]
    adapted: dict[tuple[str, str], list[str]] = {}
    others = []
    for path in rest:
        adapter = _adapter(path)
        if adapter is None:
            others.append(path)
            continue
        stem = posixpath.basename(path).split(".")[0]
        # decon cuts a set into files called <set>_<split>-<n>.
        name = (
            "decon_" + re.sub(r"(_(train|test|dev|val|validation))?(-\d+)?$", "", stem) if adapter == "decon" else stem
        )
        adapted.setdefault((re.sub(r"[^A-Za-z0-9_.\-]", "_", name), adapter), []).append(path)
    specs += [_spec(name, paths, adapter) for (name, adapter), paths in adapted.items()]
    return Found(tuple(specs), tuple(others))


def _adapter(path: str) -> str | None:
    """How a file that is no published set is read, or None where it holds no items."""
    if storage.suffix(path) not in FORMATS:
        return None
    names = set(column_names(path))
    if {"eval_key", "eval_instance_index", "question"} <= names:
        return "decon"
    return "items" if "question" in names else None


# The answer


def summary(run: RecordedRun) -> dict[str, Any]:
    """What a scan found, read back from its files: what `winnow scan --json` prints, but for what the flow adds."""
    read, checked = run.steps[0], run.step(CONTAMINATION.name)
    assert checked is not None
    hits, clean_ids = ([file.path for file in checked.files(product)] for product in (HITS, CLEAN_IDS))
    tables = [storage.read_parquet(path) for path in hits]
    table = pa.concat_tables(tables) if tables else None
    items = [storage.read_json(path) for path in clean_ids]
    settings = run.info["settings"]
    return {
        "run": run.id,
        "columns": settings["sources"][0]["columns"],
        "rule": settings["contamination"]["rule"],
        "rows_in": read.rows_in or 0,
        "unreadable": read.counts,
        "rows_clean": checked.rows_kept,
        "flagged": checked.counts,
        "classes": _classes(table),
        "benchmarks": [
            {
                "benchmark": value["benchmark"],
                "items": value["items"],
                "contaminated": len(value["contaminated"]),
                "rows": _rows(table, value["benchmark"]),
            }
            for value in items
        ],
        "worst": _worst(table),
        "hits": hits,
        "flagged_rows": [shard.path for shard in checked.dropped],
        "clean_rows": [shard.path for shard in checked.shards],
        "clean_ids": clean_ids,
    }


def _classes(hits: pa.Table | None) -> dict[str, dict[str, int]]:
    """Class -> the rows and the items that it concerns."""
    if hits is None:
        return {}
    counted = hits.group_by("class").aggregate([("row", "count_distinct"), ("item", "count_distinct")])
    return {
        row["class"]: {"rows": row["row_count_distinct"], "items": row["item_count_distinct"]}
        for row in counted.sort_by("class").to_pylist()
    }


def _rows(hits: pa.Table | None, benchmark: str) -> int:
    """Rows that hold an item of the benchmark."""
    if hits is None:
        return 0
    mine = hits.filter(pc.and_(pc.equal(hits["benchmark"], benchmark), pc.equal(hits["class"], "test_leak")))
    return len(pc.unique(mine["row"]))


def _worst(hits: pa.Table | None) -> list[dict[str, Any]]:
    """The leaks that share the longest runs with their items."""
    if hits is None:
        return []
    shown = ["row", "benchmark", "item", "score", "longest", "field", "start", "end", "span"]
    leaks = hits.filter(pc.equal(hits["class"], "test_leak")).select(shown)
    order = [("score", "descending"), ("longest", "descending"), ("row", "ascending"), ("item", "ascending")]
    rows: list[dict[str, Any]] = leaks.sort_by(order).slice(0, WORST).to_pylist()
    return rows
