"""AIME 2024 and AIME 2025: 30 problems each. An answer is an integer below 1,000."""

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
AIME_2025 = Benchmark(
    name="aime_2025",
    title="AIME 2025",
    home="https://huggingface.co/datasets/math-ai/aime25",
    revision="unknown",
    licence="Apache-2.0",
    read=reader("aime_2025", Layout(text_columns("problem", "answer"), _item, split="test")),
    path=on_hub("math-ai/aime25@refs/convert/parquet", "*/test/*.parquet"),
    files=("aime25*.jsonl", "aime_2025*.json*"),
)
