"""MMLU-Pro: 12,032 questions with up to ten choices. `details` has the category as `subject`."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, Layout, numbered, reader
from pipelines.sources.source import on_hub


def _item(row: dict[str, Any]) -> Item:
    return numbered(row["question"], row["options"], row["answer_index"], subject=row["category"])


_LAYOUT = Layout(
    pa.schema(
        [
            ("question", pa.string()),
            ("options", pa.list_(pa.string())),
            ("answer_index", pa.string()),
            ("category", pa.string()),
        ]
    ),
    _item,
)

MMLU_PRO = Benchmark(
    name="mmlu_pro",
    title="MMLU-Pro, test split",
    home="https://github.com/TIGER-AI-Lab/MMLU-Pro",
    revision="unknown",
    licence="MIT",
    read=reader("mmlu_pro", _LAYOUT),
    path=on_hub("TIGER-Lab/MMLU-Pro", "data/test-*.parquet"),
    files=("mmlu_pro_test*",),
)
