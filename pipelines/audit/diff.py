"""What changed between two runs? Settings, rows and reasons step by step, and the rows that only one corpus has."""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from pipelines.ledger import storage
from pipelines.ledger.runs import RecordedRun

EXAMPLES = 10
"""Ids given of the rows that only one corpus has."""


class StepDiff(BaseModel):
    """One step in both runs. same: whether it is the same step. rows_kept and dropped: left, right."""

    model_config = ConfigDict(frozen=True)

    name: str
    same: bool
    rows_kept: tuple[int | None, int | None]
    dropped: dict[str, tuple[int, int]]


class OnlyIn(BaseModel):
    """Rows that one corpus has and the other has not."""

    model_config = ConfigDict(frozen=True)

    rows: int
    examples: list[str]


class RunDiff(BaseModel):
    """The difference of two runs, left and right. settings: path of the key -> [left, right]."""

    model_config = ConfigDict(frozen=True)

    runs: tuple[str, str]
    settings: dict[str, tuple[Any, Any]]
    steps: list[StepDiff]
    only_left: OnlyIn
    only_right: OnlyIn


def diff(left: RecordedRun, right: RecordedRun) -> RunDiff:
    """Compare two runs.

    Rows are compared by the digest of their content, so a row that only moved is no difference.
    """
    return RunDiff(
        runs=(left.id, right.id),
        settings=_changes(left.info["settings"], right.info["settings"], ""),
        steps=_steps(left, right),
        only_left=_only_in(left, right),
        only_right=_only_in(right, left),
    )


def _steps(left: RecordedRun, right: RecordedRun) -> list[StepDiff]:
    steps = []
    for name in dict.fromkeys(step.step for run in (left, right) for step in run.steps):
        a, b = left.step(name), right.step(name)
        before, after = (step.reasons if step is not None else {} for step in (a, b))
        pairs = {reason: (before.get(reason, 0), after.get(reason, 0)) for reason in sorted({*before, *after})}
        steps.append(
            StepDiff(
                name=name,
                same=a is not None and b is not None and a.key == b.key,
                rows_kept=(a.rows_kept if a else None, b.rows_kept if b else None),
                dropped={reason: pair for reason, pair in pairs.items() if pair[0] != pair[1]},
            )
        )
    return steps


def _only_in(run: RecordedRun, other: RecordedRun) -> OnlyIn:
    digests = _column(run, "digest", pa.binary())
    missing = ~digests.is_in(_column(other, "digest", pa.binary()).unique().implode())
    ids = _column(run, "id", pa.string())
    return OnlyIn(rows=int(missing.sum()), examples=ids.filter(missing).head(EXAMPLES).to_list())


def _column(run: RecordedRun, name: str, kind: pa.DataType) -> pl.Series:
    """A column of a run's corpus."""
    columns = [
        storage.read_parquet(shard.path, [name])[name].combine_chunks().cast(kind) for shard in run.records.shards
    ]
    return pl.Series(pa.chunked_array(columns or [pa.array([], kind)]))


def _changes(left: Any, right: Any, where: str) -> dict[str, tuple[Any, Any]]:
    """Where two JSON values differ: path -> (left, right)."""
    if isinstance(left, dict) and isinstance(right, dict):
        keys = list(dict.fromkeys([*left, *right]))
        return {
            path: pair
            for key in keys
            for path, pair in _changes(left.get(key), right.get(key), f"{where}.{key}" if where else key).items()
        }
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return {
            path: pair
            for i, (a, b) in enumerate(zip(left, right, strict=True))
            for path, pair in _changes(a, b, f"{where}.{i}").items()
        }
    return {} if left == right else {where: (left, right)}
