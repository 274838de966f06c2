"""JSON lines: `train-00000-of-00012.jsonl` ..., one file per shard and one object per record, in three forms.

    jsonl               the columns of a record; HRM-Text reads `condition`, `instruction` and `response`
    messages            {"id", "messages": [{"role": "user", "content"}, {"role": "assistant", "content"}]}
    prompt-completion   {"id", "prompt", "completion"}

TRL and Axolotl read the last two. Text is written as it is, so that an id that Winnow prints can be found with grep.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets

from pipelines.export.export import Exported, export_text
from pipelines.ledger.runs import RecordedRun

LINE_BREAKS = str.maketrans({mark: f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"})
"""Characters that JSON leaves as they are, and at which some readers cut lines."""


def export(run: RecordedRun, out: str) -> Exported:
    """Write the columns of a run's records as JSON lines. Raises: as `export.Export`."""
    return _export(run, out, dict)


def export_messages(run: RecordedRun, out: str) -> Exported:
    """Write a run's records as conversations of two messages. Raises: as `export.Export`."""
    return _export(run, out, _messages)


def export_prompts(run: RecordedRun, out: str) -> Exported:
    """Write a run's records as prompts and completions. Raises: as `export.Export`."""
    return _export(run, out, _prompt)


def _export(run: RecordedRun, out: str, shape: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Exported:
    def write(dataset: datasets.Dataset, folder: Path, name: str) -> None:
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            for batch in dataset.data.table.to_batches(max_chunksize=1 << 12):
                for row in batch.to_pylist():
                    file.write(json.dumps(_json(shape(row)), ensure_ascii=False).translate(LINE_BREAKS) + "\n")

    return export_text(run, out, write)


def _messages(row: Mapping[str, Any]) -> Mapping[str, Any]:
    said = (("user", row["instruction"]), ("assistant", row["response"]))
    return {"id": row["id"], "messages": [{"role": role, "content": text} for role, text in said]}


def _prompt(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"id": row["id"], "prompt": row["instruction"], "completion": row["response"]}


def _json(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without numbers that JSON does not have (NaN, infinity)."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
