"""HumanEval: 164 functions to complete. The question is a signature with docstring, the answer the body."""

from __future__ import annotations

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, concat, file_rows, table
from pipelines.formats.read import text_columns


def _read(paths: list[str]) -> pa.Table:
    return concat([table("humaneval", path, _items(path)) for path in paths])


def _items(path: str) -> list[tuple[int, Item]]:
    rows = file_rows(path, text_columns("prompt", "canonical_solution"))
    return [(number, Item(row["prompt"], row["canonical_solution"])) for number, row in rows]


HUMANEVAL = Benchmark(
    name="humaneval",
    title="HumanEval",
    home="https://github.com/openai/human-eval",
    revision="unknown",
    licence="MIT",
    read=_read,
    files=("HumanEval.jsonl*",),
)
