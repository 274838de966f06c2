"""The contamination check: how fast, how large, how much it finds, how often it cries wolf, and what each rule says.

Real data: all benchmarks of the folder against all of its larger sources; a quarter of the items and four times
as many, to see what more benchmarks cost; and the mini recipe's corpus, for the counts of each rule. Without
real data: generated items against generated text.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.contamination.index import Index, build, to_table
from filters.contamination.rules import RULES, judge
from filters.contamination.scan import scan
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Run
from pipelines.recipe import BenchmarkSpec, Contamination, Recipe, SourceSpec, load
from pipelines.steps.benchmark_index import benchmark_items
from pipelines.steps.duplicates.exact import drop_exact_duplicates
from pipelines.steps.duplicates.near import drop_near_duplicates
from pipelines.steps.ingest import ingest
from pipelines.steps.refine import refine
from tests.filters.harness import (
    Score,
    as_items,
    by_benchmark,
    cry_wolf,
    expected_misses,
    held_out,
    plant,
    precision,
    real_benchmarks,
    real_rephrased,
    sample,
)
from tests.steps import decontaminate

Row = dict[str, object]
Named = Sequence[tuple[str, pa.Table]]
REPEATS = 3
MINI = Path(__file__).parents[2] / "pipelines" / "recipes" / "hrm_text_mini.yaml"
EACH = 300
"""Items of each benchmark that the harness plants."""

SOURCES = {
    "t0_p3": ("t0_p3", "t0_p3_50k.jsonl.gz"),
    "math_train": ("math", "math_train.parquet"),
    "gsm8k_train": ("gsm8k", "gsm8k_train.jsonl"),
    "flan_cot": ("flan_cot", "flan_cot/*.tsv"),
    "boolq_train": ("boolq", "boolq_train.json"),
    "gpteacher": ("gpteacher", "gpteacher/*.json"),
}


def bench(data: Path | None) -> dict[str, list[Row]]:
    """Tables by heading: speed and size, recall, precision, and what each rule says."""
    if data is None:
        benchmarks: Named = [("generated", benchmark_items(BenchmarkSpec(name="generated", rows=2000)))]
        specs = tuple(
            SourceSpec(name=name, adapter=name, rows=5000) for name in ("generated_web", "generated_word_problems")
        )
        recipe = Recipe(name="bench", sources=specs, contamination=_against_generated())
    else:
        benchmarks = real_benchmarks(data)
        specs = tuple(SourceSpec(name=n, adapter=a, path=f"{data}/sources/{p}") for n, (a, p) in SOURCES.items())
        recipe = load(str(MINI))
    started = time.process_time()
    index = build(benchmarks)
    first = time.process_time() - started
    started = time.process_time()
    build(benchmarks)
    rows: list[Row] = [
        _row("items", len(index.ids), ""),
        _row("tokens of the index", len(index.arrays.tokens), ""),
        _row("index, built (first, with compilation)", first, "s"),
        _row("index, built", time.process_time() - started, "s"),
        _row("index, size", index.nbytes / 1e6, "MB"),
        *_start(index),
    ]
    corpus = _corpus(specs)
    rows += _speed(index, corpus) + _growth(index, benchmarks, corpus)
    recall, wolves = _quality(index, benchmarks, data)
    title = "the mini recipe" if data is not None else "generated sources"
    return {
        "Speed and size": rows,
        "Recall by benchmark and disguise (expected misses below)": recall,
        "No alarm, by kind of near miss": wolves,
        f"Rules over the same hits: {title}": _rules(recipe),
    }


def _row(what: str, value: float | int, unit: str) -> Row:
    return {"what": what, "value": value, "unit": unit}


def _against_generated() -> Contamination:
    return Contamination(benchmarks=(BenchmarkSpec(name="generated", rows=300),))


_START = """
import sys, time
began = time.process_time()
import pyarrow as pa
from filters.contamination.index import from_table
from filters.contamination.scan import scan
from pipelines.ledger import storage
imported = time.process_time()
index = from_table(storage.map_arrow(sys.argv[1]))
mapped = time.process_time()
scan(index, pa.array(["What is the sum of two and three?"]), pa.array(["Five."]))
print(imported - began, mapped - imported, time.process_time() - mapped)
"""


def _start(index: Index) -> list[Row]:
    """What a new worker spends before its first row: processor time in a process of its own, kernels in their cache."""
    with tempfile.TemporaryDirectory() as folder:
        storage.write_arrow(f"{folder}/index.arrow", to_table(index))
        command = [sys.executable, "-c", _START, f"{folder}/index.arrow"]
        root = str(Path(__file__).parents[2])
        times = [
            [float(part) for part in subprocess.run(command, cwd=root, capture_output=True, check=True).stdout.split()]
            for _ in range(2)
        ][-1]
    names = ("modules imported", "index mapped from its file", "kernels loaded, first row scanned")
    rows = [_row(f"start of a worker: {name}", value, "s") for name, value in zip(names, times, strict=True)]
    return [*rows, _row("start of a worker from the index's cache, all", sum(times), "s")]


def _corpus(specs: Sequence[SourceSpec]) -> dict[str, tuple[pa.StringArray, pa.StringArray]]:
    """Instructions and responses by source."""
    with tempfile.TemporaryDirectory() as folder:
        made = ingest(Run(folder, LocalEngine()), Recipe(name="bench", sources=tuple(specs)))
        table = pa.concat_tables([storage.read_parquet(ref.path) for ref in made.shards]).combine_chunks()
    sources = np.asarray(table["source"].to_pylist())
    named = {name: table.filter(pa.array(sources == name)).combine_chunks() for name in dict.fromkeys(sources.tolist())}
    return {name: (one["instruction"].chunk(0), one["response"].chunk(0)) for name, one in named.items()}


def _megabytes(texts: Sequence[pa.StringArray]) -> float:
    return float(sum(pc.sum(pc.binary_length(text)).as_py() or 0 for text in texts)) / 1e6


def _speed(index: Index, corpus: dict[str, tuple[pa.StringArray, pa.StringArray]]) -> list[Row]:
    rows, size, spent = [], 0.0, 0.0
    for name, texts in corpus.items():
        scan(index, *[text.slice(0, 500) for text in texts])
        seconds = statistics.median(_seconds(index, texts) for _ in range(REPEATS))
        size, spent = size + _megabytes(texts), spent + seconds
        rows.append(_row(f"scan {name}", _megabytes(texts) / seconds, "MB/s"))
    rows.append(_row("scan, all together", size / spent, "MB/s"))
    judging = 0.0
    for texts in corpus.values():
        hits = scan(index, *texts).hits
        started = time.process_time()
        judge(index, hits, "ngram13", np.empty(0, np.uint64))
        judging += time.process_time() - started
    return [*rows, _row("scan and judge, all together", size / (spent + judging), "MB/s")]


def _growth(index: Index, benchmarks: Named, corpus: dict[str, tuple[pa.StringArray, pa.StringArray]]) -> list[Row]:
    """More benchmarks: a quarter of the items (1x), all of them (4x), and all with three more of each whose long words
    are others, so that frames, numbers and lengths stay (16x)."""
    texts = max(corpus.values(), key=_megabytes)
    copies = [(f"{name}{n}", _reworded(table, n)) for n in (1, 2, 3) for name, table in benchmarks]
    quarter = [(name, table.take(np.arange(0, table.num_rows, 4))) for name, table in benchmarks]
    indexes = {"1x": build(quarter), "4x": index, "16x": build([*benchmarks, *copies])}
    for one in indexes.values():
        scan(one, *[text.slice(0, 500) for text in texts])
    spent = [{name: _seconds(one, texts) for name, one in indexes.items()} for _ in range(REPEATS)]
    rows = []
    for name, one in indexes.items():
        ratio = statistics.median(times[name] / times["1x"] for times in spent)
        rows.append(_row(f"scan time with {name} items ({len(one.ids):,}), to 1x", ratio, "ratio"))
        rows.append(_row(f"index, size with {name} items", one.nbytes / 1e6, "MB"))
    return rows


def _seconds(index: Index, texts: Sequence[pa.StringArray]) -> float:
    started = time.process_time()
    scan(index, *texts)
    return time.process_time() - started


def _reworded(table: pa.Table, number: int) -> pa.Table:
    """Questions with other long words; without passages and choices, which are by far most of the text."""
    questions = pc.replace_substring_regex(table["question"], r"\b([A-Za-z]{6,})\b", rf"\1q{number}")
    blank = pa.array([""] * table.num_rows, pa.string())
    table = table.set_column(table.column_names.index("question"), table.schema.field("question"), questions)
    return table.set_column(table.column_names.index("passage"), table.schema.field("passage"), blank)


def _quality(index: Index, benchmarks: Named, data: Path | None) -> tuple[list[Row], list[Row]]:
    items = sample(benchmarks, EACH) if data is not None else as_items(benchmarks[0][1])[:EACH]
    planted = plant(index, items)
    missed = expected_misses(index, items, real_rephrased(data) if data is not None else [])
    near = cry_wolf(index, items)
    names = [score.name for score in planted]
    recall: list[Row] = [
        {"benchmark": name, "items": sum(item.id.split("/")[0] == name for item in items)}
        | {kind: recalls.get(kind, "") for kind in names}
        for name, recalls in by_benchmark(planted).items()
    ]
    recall.append({"benchmark": "all", "items": len(items)} | {score.name: score.recall for score in planted})
    for score in missed:
        row: Row = {"benchmark": f"{score.name}, expected to be missed", "items": score.planted}
        recall.append(row | dict.fromkeys(names, "") | {"question only": score.recall})
    apart = held_out(benchmarks, EACH)
    wolves = [_wolf(score) for score in (*near, apart)]
    every = [*near, apart]
    rows: list[Row] = [
        *wolves,
        {"near miss": "all near misses", "texts": sum(s.planted for s in every), "no alarm": _share(every)},
        {"near miss": "precision, as many near misses as leaks", "texts": "", "no alarm": precision(planted, every)},
    ]
    return recall, rows


def _wolf(score: Score) -> Row:
    return {"near miss": score.name, "texts": score.planted, "no alarm": score.recall}


def _share(scores: Sequence[Score]) -> float:
    return sum(score.found for score in scores) / sum(score.planted for score in scores)


def _rules(recipe: Recipe) -> list[Row]:
    """Items and rows that each rule flags in a recipe's corpus, as the contamination step is given it."""
    assert recipe.contamination
    with tempfile.TemporaryDirectory() as folder:
        run = Run(folder, LocalEngine())
        records = refine(run, ingest(run, recipe), recipe.stages)
        priorities = {source.name: source.priority for source in recipe.sources}
        if recipe.exact_duplicates:
            records = drop_exact_duplicates(run, records, recipe.exact_duplicates, priorities)
        if recipe.near_duplicates:
            records = drop_near_duplicates(run, records, recipe.near_duplicates, priorities)
        return _counts(decontaminate(run, records, recipe.contamination))


def _counts(made: Manifest) -> list[Row]:
    values = [storage.read_json(file.path) for file in made.files("clean_ids")]
    rows: list[Row] = [
        {"benchmark": value["benchmark"], "items": value["items"]}
        | {rule: f"{value['rules'][rule]['items']} ({value['rules'][rule]['rows']})" for rule in RULES}
        for value in values
    ]
    total: Row = {"benchmark": "all: items (rows by themselves)", "items": sum(value["items"] for value in values)}
    for rule in RULES:
        items, hit = (sum(value["rules"][rule][what] for value in values) for what in ("items", "rows"))
        total[rule] = f"{items} ({hit})"
    dropped: Row = {"benchmark": "rows dropped", "items": made.rows_dropped} | dict.fromkeys(RULES, "")
    return [*rows, total, dropped]


if __name__ == "__main__":
    print(json.dumps(bench(Path("../shared/data") if Path("../shared/data").is_dir() else None), indent=1))
