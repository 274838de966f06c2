"""AIME 2024 as DeepScaleR evaluates it: 30 problems. An answer is an integer below 1,000."""

from __future__ import annotations

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, concat, file_rows, table
from pipelines.formats.read import text_columns


def _read(paths: list[str]) -> pa.Table:
    return concat([table("aime", path, _items(path)) for path in paths])


def _items(path: str) -> list[tuple[int, Item]]:
    rows = file_rows(path, text_columns("problem", "answer"))
    return [(number, Item(row["problem"], row["answer"])) for number, row in rows]


AIME = Benchmark(
    name="aime",
    title="AIME 2024",
    home="https://github.com/agentica-project/deepscaler",
    revision="unknown",
    licence="MIT",
    read=_read,
    files=("aime.json",),
)
