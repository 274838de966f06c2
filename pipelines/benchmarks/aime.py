"""AIME 2024: 30 problems. An answer is an integer below 1,000."""

from __future__ import annotations

from typing import Any

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, Layout, reader
from pipelines.formats.read import text_columns
from pipelines.sources.source import on_hub


def _item(row: dict[str, Any]) -> Item:
    return Item(row["problem"], row["answer"])


AIME = Benchmark(
    name="aime",
    title="AIME 2024",
    home="https://github.com/agentica-project/deepscaler",
    revision="unknown",
    licence="MIT",
    # On the hub the only split is called `train`. Its problems are nevertheless for evaluation.
    read=reader("aime", Layout(text_columns("problem", "answer"), _item, split="test")),
    path=on_hub("HuggingFaceH4/aime_2024", "data/train-*.parquet"),
    files=("aime.json",),
)
