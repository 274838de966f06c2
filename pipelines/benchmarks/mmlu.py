"""MMLU: 57 subjects, four choices per question; CSV without header, one file per subject and split."""

from __future__ import annotations

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, concat, file_rows, table
from pipelines.errors import InputError
from pipelines.formats.delimited import Dialect
from pipelines.formats.read import text_columns

_NAMES = ("question", "A", "B", "C", "D", "answer")
_DIALECT = Dialect(",", names=_NAMES)


def _read(paths: list[str]) -> pa.Table:
    return concat([table("mmlu", path, list(subject_items(path).items())) for path in paths])


def subject_items(path: str) -> dict[int, Item]:
    """Row number -> item, of one subject's file."""
    items = {}
    for number, row in file_rows(path, text_columns(*_NAMES), dialect=_DIALECT):
        if row["answer"] not in ("A", "B", "C", "D"):
            raise InputError(f"{path}: row {number}: the answer {row['answer']!r} is not A, B, C or D")
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
