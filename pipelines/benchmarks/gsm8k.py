"""GSM8K test: 1,319 grade-school word problems. The answer is the final number, without thousands separators."""

from __future__ import annotations

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, concat, file_rows, table
from pipelines.errors import InputError
from pipelines.formats.read import text_columns


def _read(paths: list[str]) -> pa.Table:
    return concat([table("gsm8k", path, _items(path)) for path in paths])


def _items(path: str) -> list[tuple[int, Item]]:
    items = []
    for number, row in file_rows(path, text_columns("question", "answer")):
        _, mark, final = row["answer"].rpartition("####")
        if not mark:
            raise InputError(f"{path}: row {number}: no final number after `####`")
        items.append((number, Item(row["question"], final.strip().replace(",", ""))))
    return items


GSM8K = Benchmark(
    name="gsm8k",
    title="GSM8K, test split",
    home="https://github.com/openai/grade-school-math",
    revision="unknown",
    licence="MIT",
    read=_read,
    files=("gsm8k_test.jsonl*",),
)
