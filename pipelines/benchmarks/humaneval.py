"""HumanEval: 164 functions to complete. The question is a signature with docstring, the answer the body."""

from __future__ import annotations

from typing import Any

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, Layout, reader
from pipelines.formats.read import text_columns
from pipelines.sources.source import on_hub


def _item(row: dict[str, Any]) -> Item:
    return Item(row["prompt"], row["canonical_solution"])


HUMANEVAL = Benchmark(
    name="humaneval",
    title="HumanEval",
    home="https://github.com/openai/human-eval",
    revision="unknown",
    licence="MIT",
    read=reader("humaneval", Layout(text_columns("prompt", "canonical_solution"), _item)),
    path=on_hub("openai/openai_humaneval", "openai_humaneval/test-*.parquet"),
    files=("HumanEval.jsonl*",),
)
