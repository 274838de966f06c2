"""MMLU: 57 subjects, four choices per question.

The authors' CSV files have no header; there is one per subject and split. On the hub one file has all subjects; the
subject is then in `details`.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, Layout, labelled, numbered, reader
from pipelines.formats.delimited import Dialect
from pipelines.formats.read import text_columns
from pipelines.sources.source import on_hub

_NAMES = ("question", "A", "B", "C", "D", "answer")


def _csv_item(row: dict[str, Any]) -> Item:
    choices = [row[letter] for letter in "ABCD"]
    return labelled(row["question"], choices, "ABCD", row["answer"])


def _hub_item(row: dict[str, Any]) -> Item:
    subject = {"subject": row["subject"]} if row["subject"] else {}
    return numbered(row["question"], row["choices"], row["answer"], **subject)


SUBJECT = Layout(text_columns(*_NAMES), _csv_item, dialect=Dialect(",", names=_NAMES))
"""A file of one subject, as the authors publish it."""

_HUB = Layout(
    pa.schema(
        [
            ("question", pa.string()),
            ("choices", pa.list_(pa.string())),
            ("answer", pa.string()),
            ("subject", pa.string()),
        ]
    ),
    _hub_item,
    optional=("subject",),
)

MMLU = Benchmark(
    name="mmlu",
    title="MMLU, 57 subjects, dev and test splits",
    home="https://github.com/hendrycks/test",
    revision="unknown",
    licence="MIT",
    read=reader("mmlu", SUBJECT, _HUB),
    path=on_hub("cais/mmlu", "all/dev-*.parquet", "all/test-*.parquet"),
    files=("mmlu/*/*.csv",),
    shots=on_hub("cais/mmlu", "all/dev-*.parquet"),
)
