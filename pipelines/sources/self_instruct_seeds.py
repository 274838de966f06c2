"""The 175 seed tasks of Self-Instruct, written by people, `direct`. Each instance of an instruction is a record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipelines.formats.read import read_objects
from pipelines.records import RAW
from pipelines.sources.source import Source


def _read(path: str) -> Iterator[pa.Table]:
    # A Python loop: the set has 175 rows and will not grow.
    yield pa.Table.from_pylist([row for item in read_objects(path) for row in _rows(*item)], schema=RAW)


def _rows(row: int, value: Any, fault: str | None, line: str) -> Iterator[dict[str, Any]]:
    record: dict[str, Any] = {"row": row, "variant": "", "condition": "direct", "fault": fault, "response": line}
    if fault is not None:
        yield record
        return
    instances = value.get("instances")
    if (
        not isinstance(instances, list)
        or not instances
        or not all(isinstance(instance, dict) for instance in instances)
    ):
        yield record | {"fault": "no_instances"}
        return
    for index, instance in enumerate(instances):
        instruction, given = value.get("instruction"), instance.get("input")
        yield record | {
            "variant": f"instance{index}" if index else "",
            "instruction": f"{instruction}\n\n{given}" if instruction and given else instruction,
            "response": instance.get("output"),
        }


SELF_INSTRUCT_SEEDS = Source(
    name="self_instruct_seeds",
    title="Self-Instruct seed tasks",
    home="https://github.com/yizhongw/self-instruct",
    revision="unknown",
    licence="Apache-2.0",
    generators=(),
    conditions=("direct",),
    read=_read,
)
