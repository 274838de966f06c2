"""Items in the normalised form of decon (OLMo 3's decontaminator): one JSON line per question and answer.

A line has `eval_key`, `config`, `split`, `eval_instance_index` and `question`, and optionally `passage`, `answer` and
`is_correct`. A multiple-choice item has one line per choice; its lines become one item. Lines without `is_correct` that
have the same question are the accepted answers of one item.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import file_rows
from pipelines.records import ITEM

_NEEDED = ("eval_key", "split", "eval_instance_index", "question")
_OPTIONAL = ("config", "passage", "answer", "is_correct")
_COLUMNS = pa.schema([pa.field(name, pa.string()) for name in (*_NEEDED, *_OPTIONAL)])
"""Numbers and booleans are read as text, spelt as in the file."""


def _read(paths: list[str]) -> pa.Table:
    items: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for path in paths:
        for _, row in file_rows(path, _COLUMNS, _OPTIONAL):
            instance = tuple(row[name] or "" for name in ("eval_key", "config", "split", "eval_instance_index"))
            items.setdefault((*instance, row["passage"] or "", row["question"]), []).append(row)
    numbers: dict[str, int] = {}
    rows = []
    for (key, config, split, index, passage, question), lines in items.items():
        name = "/".join(part for part in (key, config, split, index) if part)
        numbers[name] = number = numbers.get(name, -1) + 1  # an instance can have several questions
        answers = [line["answer"] for line in lines if line["answer"]]
        correct = [line["answer"] for line in lines if line["answer"] and line["is_correct"] == "true"]
        choices = [line["answer"] for line in lines if line["answer"] and line["is_correct"]]
        rows.append(
            {
                "id": name if not number else f"{name}/{number}",
                "split": split,
                "question": question,
                "answer": "|".join(dict.fromkeys(correct if choices else answers)),
                "choices": choices,
                "passage": passage,
            }
        )
    return pa.Table.from_pylist(rows, ITEM)


DECON = Benchmark(
    name="decon",
    title="Evaluation sets in decon's normalised JSON lines",
    home="https://github.com/allenai/decon",
    revision="d12f5c6",
    licence="",
    read=_read,
)
