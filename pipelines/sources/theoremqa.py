"""TheoremQA: university questions whose answers are numbers, lists, truth values or options, `direct`.

HRM-Text trains on it although it is an evaluation set. A question that shows a picture is `needs_picture`: nobody could
answer it from its text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipelines.reading import read_objects
from pipelines.records import RAW
from pipelines.sources.source import Source


def _read(path: str) -> Iterator[pa.Table]:
    # A Python loop: the set has 800 rows for good, and its answers are of five types.
    rows = [_row(*one) for one in read_objects(path)]
    yield pa.Table.from_pylist(rows, schema=RAW)


def _row(row: int, value: Any, fault: str | None, line: str) -> dict[str, Any]:
    made: dict[str, Any] = {"row": row, "variant": "", "condition": "direct", "fault": fault, "response": line}
    if fault is None:
        made |= {"instruction": value.get("Question"), "response": _answer(value.get("Answer"))}
        if value.get("Picture"):
            made["fault"] = "needs_picture"
    return made


def _answer(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value)
    # Numbers within are strings, spelt as the file has them: they lose their quotes again.
    return json.dumps(value).replace('"', "")


THEOREMQA = Source(
    name="theoremqa",
    title="TheoremQA",
    home="https://github.com/TIGER-AI-Lab/TheoremQA",
    revision="unknown",
    licence="MIT",
    condition="direct",
    overlaps=("theoremqa",),
    read=_read,
)
