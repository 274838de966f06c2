"""AIME 2024 as DeepScaleR evaluates it: 30 problems whose answers are whole numbers below 1,000."""

from __future__ import annotations

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, file_rows, table, together
from pipelines.formats.reading import text


def _read(paths: list[str]) -> pa.Table:
    return together([table("aime", path, _items(path)) for path in paths])


def _items(path: str) -> list[tuple[int, Item]]:
    return [(number, Item(row["problem"], row["answer"])) for number, row in file_rows(path, text("problem", "answer"))]


AIME = Benchmark(
    name="aime",
    title="AIME 2024",
    home="https://github.com/agentica-project/deepscaler",
    revision="unknown",
    licence="MIT",
    read=_read,
    files=("aime.json",),
)
