"""The 175 seed tasks of Self-Instruct, written by people; each instance of an instruction is a record, `direct`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipelines.formats.reading import read_objects
from pipelines.records import RAW
from pipelines.sources.source import Source


def _read(path: str) -> Iterator[pa.Table]:
    # A Python loop: the set has 175 rows for good.
    yield pa.Table.from_pylist([row for one in read_objects(path) for row in _rows(*one)], schema=RAW)


def _rows(row: int, value: Any, fault: str | None, line: str) -> Iterator[dict[str, Any]]:
    made: dict[str, Any] = {"row": row, "variant": "", "condition": "direct", "fault": fault, "response": line}
    if fault is not None:
        yield made
        return
    instances = value.get("instances")
    if not isinstance(instances, list) or not instances or not all(isinstance(one, dict) for one in instances):
        yield made | {"fault": "no_instances"}
        return
    for index, one in enumerate(instances):
        asked = value.get("instruction")
        given = one.get("input")
        joined = f"{asked}\n\n{given}" if asked and given else asked
        yield made | {
            "variant": f"instance{index}" if index else "",
            "instruction": joined,
            "response": one.get("output"),
        }


SELF_INSTRUCT_SEEDS = Source(
    name="self_instruct_seeds",
    title="Self-Instruct seed tasks",
    home="https://github.com/yizhongw/self-instruct",
    revision="unknown",
    licence="Apache-2.0",
    conditions=("direct",),
    read=_read,
)
