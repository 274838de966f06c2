"""The contamination check on other spellings of items, and on twists of their meaning.

Recall of every harmless form (`tests/filters/contamination/forms.py`) by benchmark; the share of twisted questions that
raise no alarm, by benchmark; the size of the index of all benchmarks, and the speed of a scan of two sources.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.json as pj

from filters.contamination.code import build_code_index, find_code
from filters.contamination.index import BenchmarkIndex, build_index
from filters.contamination.scan import scan_texts
from pipelines.recipe import BenchmarkSpec
from pipelines.steps.benchmark_index import benchmark_items
from tests.filters.contamination.harness import (
    Score,
    as_items,
    real_benchmarks,
    recall_by_form,
    sample,
    twist_scores,
)

Row = dict[str, object]
EACH = 1000
"""Items of each benchmark at most."""


def bench(data: Path | None) -> dict[str, list[Row]]:
    """Recall by form, no alarm by twist, size and speed."""
    if data is None:
        benchmarks = [("generated", benchmark_items(BenchmarkSpec(name="generated", rows=600)))]
        items = as_items(benchmarks[0][1])[:EACH]
    else:
        benchmarks = real_benchmarks(data)
        items = sample(benchmarks, EACH)
    index = build_index(benchmarks)
    names = [name for name, _ in benchmarks]
    tables = {
        "Recall by harmless form": _table("form", recall_by_form(index, items), names),
        "No alarm by twist of meaning": _table("twist", twist_scores(index, items), names),
    }
    if data is not None:
        tables["Size and speed"] = _size_and_speed(index, benchmarks, data)
    return tables


def _table(what: str, scores: Sequence[Score], names: Sequence[str]) -> list[Row]:
    rows: list[Row] = []
    for score in scores:
        row: Row = {what: score.name, "texts": score.planted, "all": score.recall}
        parts = {name: score.of(name) for name in names}
        rows.append(row | {name: part.recall if part.planted else "" for name, part in parts.items()})
    return rows


def _size_and_speed(index: BenchmarkIndex, benchmarks: Sequence[tuple[str, pa.Table]], data: Path) -> list[Row]:
    rows: list[Row] = [
        {"what": "items", "value": len(index.ids), "unit": ""},
        {"what": "index", "value": index.nbytes / 1e6, "unit": "MB"},
    ]
    code = build_code_index(benchmarks)
    for name, asked, answered in (
        ("t0_p3_50k.jsonl.gz", "prompt", "completion"),
        ("gsm8k_train.jsonl", "question", "answer"),
    ):
        table = pj.read_json(data / "sources" / name)
        texts = [
            table[column].combine_chunks().cast(pa.string())
            for column in (asked, answered)
            if column in table.column_names
        ]
        texts = [text.fill_null("") for text in texts]
        texts += [pa.array([""] * table.num_rows)] * (2 - len(texts))
        scan_texts(index, *[text.slice(0, 500) for text in texts])
        find_code(code, *[text.slice(0, 500) for text in texts])
        started = time.process_time()
        scan_texts(index, *texts)
        find_code(code, *texts)
        seconds = time.process_time() - started
        rows.append(
            {"what": f"scan {name}", "value": sum(text.nbytes for text in texts) / 1e6 / seconds, "unit": "MB/s"}
        )
    return rows


if __name__ == "__main__":
    print(json.dumps(bench(Path("../shared/data") if Path("../shared/data").is_dir() else None), indent=1))
