"""MMLU: 57 subjects, four choices each; headless CSV, one file per subject and split."""

from __future__ import annotations

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, file_rows, table, together
from pipelines.errors import InputError
from pipelines.formats.reading import Layout, text

_NAMES = ("question", "A", "B", "C", "D", "answer")
_LAYOUT = Layout(",", names=_NAMES)


def _read(paths: list[str]) -> pa.Table:
    return together([table("mmlu", path, list(subject_items(path).items())) for path in paths])


def subject_items(path: str) -> dict[int, Item]:
    """Row -> item of one subject's file."""
    items = {}
    for number, row in file_rows(path, text(*_NAMES), layout=_LAYOUT):
        if row["answer"] not in ("A", "B", "C", "D"):
            raise InputError(f"{path}: row {number}: the answer {row['answer']!r} is none of A, B, C, D")
        items[number] = Item(row["question"], row[row["answer"]], [row[letter] for letter in "ABCD"])
    return items


MMLU = Benchmark(
    name="mmlu",
    title="MMLU, 57 subjects, dev and test splits",
    home="https://github.com/hendrycks/test",
    revision="unknown",
    licence="MIT",
    read=_read,
    files=("mmlu/*/*.csv",),
)
