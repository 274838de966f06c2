"""TheoremQA: university questions whose answers are numbers, lists, truth values or options, `direct`.

HRM-Text trains on it although it is an evaluation set. A question with a picture is dropped as `needs_picture`: it
cannot be answered from its text. Read from the authors' JSON or the hub's Parquet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import exclude, raw
from pipelines.formats.read import read, read_objects
from pipelines.ledger import input_files
from pipelines.records import RAW, RULE
from pipelines.sources.source import HUB, Source, on_hub

_PICTURE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
_COLUMNS = pa.schema(
    [pa.field("Question", pa.string()), pa.field("Answer", pa.string()), pa.field("Picture", _PICTURE)]
)


def _read(path: str) -> Iterator[pa.Table]:
    if input_files.suffix(path) == ".parquet":
        for table in read(path, _COLUMNS):
            rows = raw(table, table["Question"], table["Answer"], "direct")
            yield exclude(rows, ("needs_picture", pc.is_valid(table["Picture"])))
        return
    # A Python loop: the set has 800 rows and will not grow, and its answers have five types.
    yield pa.Table.from_pylist([_row(*item) for item in read_objects(path)], schema=RAW)


def _row(row: int, value: Any, fault: str | None, line: str) -> dict[str, Any]:
    record: dict[str, Any] = {"row": row, "variant": "", "condition": "direct", "fault": fault, "response": line}
    if fault is None:
        record |= {"instruction": value.get("Question"), "response": _answer(value.get("Answer"))}
        if value.get("Picture"):
            record["fault"] = f"{RULE}needs_picture"
    return record


def _answer(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value)
    # Numbers in a list are strings, spelt as in the file. Their quotes are removed.
    return json.dumps(value).replace('"', "")


THEOREMQA = Source(
    name="theoremqa",
    title="TheoremQA",
    home=HUB + "TIGER-Lab/TheoremQA",
    revision="main",
    licence="MIT",
    conditions=("direct",),
    overlaps=("theoremqa/test",),
    version=2,
    path=on_hub("TIGER-Lab/TheoremQA", "data/test-*.parquet"),
    rows=800,
    part="mathematics",
    read=_read,
)
