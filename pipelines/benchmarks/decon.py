"""Items as decon (OLMo 3's decontaminator) normalises them: one JSON line per question and answer.

A line has `eval_key`, `config`, `split`, `eval_instance_index`, `question`, and where there are any `passage`, `answer`
and `is_correct`. A multiple-choice item is several lines, one for each choice, and one item again here; lines without
`is_correct` that ask the same are the accepted answers of one item.
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
"""Numbers and booleans are read as the text that the file spells them with."""


def _read(paths: list[str]) -> pa.Table:
    items: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for path in paths:
        for _, row in file_rows(path, _COLUMNS, _OPTIONAL):
            place = tuple(row[name] or "" for name in ("eval_key", "config", "split", "eval_instance_index"))
            items.setdefault((*place, row["passage"] or "", row["question"]), []).append(row)
    seen: dict[str, int] = {}
    rows = []
    for (key, config, split, index, passage, question), lines in items.items():
        name = "/".join(part for part in (key, config, split, index) if part)
        seen[name] = number = seen.get(name, -1) + 1  # one instance may hold several questions
        answers = [line["answer"] for line in lines if line["answer"]]
        right = [line["answer"] for line in lines if line["answer"] and line["is_correct"] == "true"]
        choices = [line["answer"] for line in lines if line["answer"] and line["is_correct"]]
        rows.append(
            {
                "id": name if not number else f"{name}/{number}",
                "split": split,
                "question": question,
                "answer": "|".join(dict.fromkeys(right if choices else answers)),
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
