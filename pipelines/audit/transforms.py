"""Which transform of a step changed a row? They run again over the one row, from the step's own parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from filters.catalogue import STAGES, parameters
from filters.stage import Stage, Transform
from pipelines.ledger.manifest import Manifest

FIELDS = ("condition", "instruction", "response")

Version = Mapping[str, Any]
"""A row, by field."""


def stages_of(step: Manifest) -> list[Stage]:
    """The stages of a step `refine`, from its parameters; without those that are not installed now, or have changed."""
    stages = []
    for given in step.parameters.get("stages", ()):
        kind = given["kind"]
        if kind not in STAGES:
            continue
        stage_type = STAGES[kind]
        fields = {stage_type.RENAMED_KEYS.get(key, key): value for key, value in given.items()}
        stage = stage_type.model_validate({name: fields[name] for name in stage_type.model_fields if name in fields})
        if parameters(stage) == given:
            stages.append(stage)
    return stages


def transforms_of(step: Manifest) -> list[Transform]:
    """Those of them that rewrite."""
    return [stage for stage in stages_of(step) if isinstance(stage, Transform)]


def versions(
    transforms: Sequence[Transform], before: Version, after: Version
) -> list[tuple[str, tuple[Version, Version]]] | None:
    """For each transform that changed a row, its name, and the row before and after it.

    before, after: the row as the step took it and as it left it. None if the transforms do not lead from one to the
    other now: they are of another version.
    """
    found: list[tuple[str, tuple[Version, Version]]] = []
    row = before
    for name, new in _rewritten(transforms, before):
        if new != {field: row[field] for field in FIELDS}:
            found.append((name, (row, new)))
            row = {**row, **new}
        if new == {field: after[field] for field in FIELDS}:
            return found  # a later filter dropped the row, or no other transform changed it
    return None


def _rewritten(transforms: Sequence[Transform], before: Version) -> Iterator[tuple[str, dict[str, Any]]]:
    columns = {name: pa.array([value]) for name, value in before.items() if value is not None and name != "digest"}
    table = pa.table(columns)
    for transform in transforms:
        table = transform.rewrite(table)
        yield transform.kind, {field: table[field][0].as_py() for field in FIELDS}
