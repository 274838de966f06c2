"""GSM8K test: 1,319 grade-school word problems. The answer is the final number, without thousands separators."""

from __future__ import annotations

from typing import Any

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, Layout, reader
from pipelines.formats.read import text_columns
from pipelines.sources.source import on_hub


def _item(row: dict[str, Any]) -> Item:
    _, mark, final = row["answer"].rpartition("####")
    if not mark:
        raise ValueError("no final number after `####`")
    return Item(row["question"], final.strip().replace(",", ""))


GSM8K = Benchmark(
    name="gsm8k",
    title="GSM8K, test split",
    home="https://github.com/openai/grade-school-math",
    revision="unknown",
    licence="MIT",
    read=reader("gsm8k", Layout(text_columns("question", "answer"), _item)),
    path=on_hub("openai/gsm8k", "main/test-*.parquet"),
    files=("gsm8k_test.jsonl*",),
)
