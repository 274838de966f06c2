"""The contamination check: how fast, how large, how much it finds and how often it cries wolf.

Real data: all benchmarks of the folder against all of its larger sources, and the same index with copies of the items
under other words, to see what more benchmarks cost. Without real data: generated items against generated text.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from filters.benchmark_index import Index, build, from_table, to_table
from filters.contamination import RULES, judge
from filters.overlap import scan
from pipelines import storage
from pipelines.decontaminate import benchmark_items
from pipelines.engine import LocalEngine
from pipelines.ingest import ingest
from pipelines.recipe import BenchmarkSpec, Recipe, SourceSpec
from pipelines.run import Run
from tests.filters.harness import as_items, cry_wolf, plant, precision, real_benchmarks, sample

Row = dict[str, object]
REPEATS = 3

SOURCES = {
    "t0_p3": ("t0_p3", "t0_p3_50k.jsonl.gz"),
    "math_train": ("math", "math_train.parquet"),
    "gsm8k_train": ("gsm8k", "gsm8k_train.jsonl"),
    "flan_cot": ("flan_cot", "flan_cot/*.tsv"),
    "boolq_train": ("boolq", "boolq_train.json"),
    "gpteacher": ("gpteacher", "gpteacher/*.json"),
}


def bench(data: Path | None) -> list[Row]:
    """One row per measurement: what, value, unit."""
    if data is None:
        benchmarks = [("generated", benchmark_items(BenchmarkSpec(name="generated", rows=2000)))]
        specs = tuple(
            SourceSpec(name=name, adapter=name, rows=5000) for name in ("generated_web", "generated_word_problems")
        )
    else:
        benchmarks = real_benchmarks(data)
        specs = tuple(SourceSpec(name=n, adapter=a, path=f"{data}/sources/{p}") for n, (a, p) in SOURCES.items())
    started = time.process_time()
    index = build(benchmarks)
    rows: list[Row] = [
        _row("items", len(index.ids), ""),
        _row("tokens of the index", len(index.arrays.tokens), ""),
        _row("index, built (first, with compilation)", time.process_time() - started, "s"),
    ]
    started = time.process_time()
    build(benchmarks)
    rows += [_row("index, built", time.process_time() - started, "s"), _row("index, size", index.nbytes / 1e6, "MB")]
    rows.append(_row("index, mapped from its file", _mapped(index), "s"))
    rows += _speed(index, benchmarks, _corpus(specs))
    return rows + _quality(index, benchmarks if data is not None else [(n, t.slice(0, 300)) for n, t in benchmarks])


def _row(what: str, value: float | int, unit: str) -> Row:
    return {"what": what, "value": value, "unit": unit}


def _mapped(index: Index) -> float:
    with tempfile.TemporaryDirectory() as folder:
        storage.write_arrow(f"{folder}/index.arrow", to_table(index))
        started = time.perf_counter()
        from_table(storage.map_arrow(f"{folder}/index.arrow"))
        return time.perf_counter() - started


def _corpus(specs: Sequence[SourceSpec]) -> dict[str, pa.Table]:
    with tempfile.TemporaryDirectory() as folder:
        made = ingest(Run(folder, LocalEngine()), Recipe(name="bench", sources=tuple(specs)))
        table = pa.concat_tables([storage.read_parquet(ref.path) for ref in made.shards]).combine_chunks()
    sources = np.asarray(table["source"].to_pylist())
    return {name: table.filter(pa.array(sources == name)).combine_chunks() for name in dict.fromkeys(sources.tolist())}


def _speed(index: Index, benchmarks: Sequence[tuple[str, pa.Table]], corpus: dict[str, pa.Table]) -> list[Row]:
    rows, size, spent = [], 0.0, 0.0
    hit: dict[str, set[int]] = {name: set() for name in RULES}
    for name, table in corpus.items():
        texts = [table[column].chunk(0) for column in ("instruction", "response")]
        megabytes = sum(text.nbytes for text in texts) / 1e6
        scan(index, *[text.slice(0, 500) for text in texts])
        seconds = statistics.median(_seconds(index, texts) for _ in range(REPEATS))
        size, spent = size + megabytes, spent + seconds
        rows.append(_row(f"scan {name}", megabytes / seconds, "MB/s"))
        hits = judge(index, scan(index, *texts), "ngram13", np.empty(0, np.uint64))
        for item, rules in zip(hits["item"].to_pylist(), hits["rules"].to_pylist(), strict=True):
            for rule in rules:
                hit[rule].add(item)
    rows.append(_row("scan, all together", size / spent, "MB/s"))
    rows += [_row(f"items hit, {rule}", len(items), "") for rule, items in hit.items()]
    # More benchmarks: the same items with every long word another, so that frames and numbers stay.
    largest = max(corpus.values(), key=lambda table: table.nbytes)
    texts = [largest[column].chunk(0) for column in ("instruction", "response")]
    for times in (4, 16):
        copies = [(f"{name}{n}", _reworded(table, n)) for n in range(1, times) for name, table in benchmarks[:4]]
        larger = build([*benchmarks, *copies])
        scan(larger, *[text.slice(0, 500) for text in texts])
        seconds = [(_seconds(larger, texts), _seconds(index, texts)) for _ in range(REPEATS)]
        ratio = statistics.median(more / one for more, one in seconds)
        rows.append(_row(f"scan time with {len(larger.ids) / len(index.ids):.1f}x items / 1x", ratio, "ratio"))
    return rows


def _seconds(index: Index, texts: Sequence[pa.StringArray]) -> float:
    started = time.process_time()
    scan(index, *texts)
    return time.process_time() - started


def _reworded(table: pa.Table, number: int) -> pa.Table:
    questions = [" ".join(w + f"q{number}" * (len(w) > 5) for w in q.split()) for q in table["question"].to_pylist()]
    place = table.column_names.index("question")
    return table.set_column(place, table.schema.field(place), pa.array(questions, pa.string()))


def _quality(index: Index, benchmarks: Sequence[tuple[str, pa.Table]]) -> list[Row]:
    items = sample(benchmarks, 300) if len(benchmarks) > 1 else as_items(benchmarks[0][1])
    planted, near = plant(index, items), cry_wolf(index, items)
    rows = [_row(f"recall, {score.name} ({score.planted} planted)", score.recall, "share") for score in planted]
    rows += [_row(f"no alarm, {score.name} ({score.planted} texts)", score.recall, "share") for score in near]
    return [*rows, _row("precision", precision(planted, near), "share")]


if __name__ == "__main__":
    print(json.dumps(bench(Path("../shared/data") if Path("../shared/data").is_dir() else None), indent=1))
