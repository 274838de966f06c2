"""HumanEval: 164 functions to write. The question is a signature with its docstring, the answer a body."""

from __future__ import annotations

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, file_rows, table, together
from pipelines.formats.reading import text


def _read(paths: list[str]) -> pa.Table:
    return together([table("humaneval", path, _items(path)) for path in paths])


def _items(path: str) -> list[tuple[int, Item]]:
    rows = file_rows(path, text("prompt", "canonical_solution"))
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
