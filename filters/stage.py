"""What a stage is, and how a list of stages is applied to a table of records.

A stage is a frozen value: its fields are its parameters and its one method is its work on an Arrow table.
Filters judge and never rewrite; transforms rewrite and never drop. Keeping the two apart is what makes a
dropped record auditable: it is written down exactly as it was judged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

VERDICT = pa.struct([("reason", pa.string()), ("value", pa.float64()), ("threshold", pa.float64())])
"""A filter's answer for one record: null = kept, else why, with the measured value and the limit it broke."""

DROP_FIELDS = (
    pa.field("stage", pa.string(), False),
    pa.field("reason", pa.string(), False),
    pa.field("evidence", pa.string(), False),
)
"""What a dropped record carries beside itself. `evidence` is a JSON object."""


class Stage(BaseModel):
    """A frozen value whose fields are its parameters; unknown fields are errors.

    Subclasses fix `kind`, its name in recipes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str

    def parameters(self) -> dict[str, Any]:
        """Everything the stage's output depends on, JSON-able: its fields, and the class's `version` if it has one."""
        return {**self.model_dump(mode="json"), "version": getattr(type(self), "VERSION", 1)}


class Filter(Stage):
    """A stage that keeps or drops."""

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Return one VERDICT per record (`len(records)` rows, in order); null keeps the record.

        A verdict depends on the record alone, never on the others in the table: shards are cut anywhere.
        """
        raise TypeError(f"{type(self).__name__} does not judge")


class Transform(Stage):
    """A stage that rewrites columns."""

    def rewrite(self, records: pa.Table) -> pa.Table:
        """Return the same rows in the same order, with columns replaced or appended."""
        raise TypeError(f"{type(self).__name__} does not rewrite")


class Outcome(NamedTuple):
    """What stages made of a table: `rows in = kept.num_rows + dropped.num_rows`, always."""

    kept: pa.Table
    dropped: pa.Table


def apply(stages: Sequence[Stage], records: pa.Table) -> Outcome:
    """Run `stages` in order over `records`; a record dropped by one is not seen by the next transform.

    A record's reason is the first filter's that fails it. `dropped` has the columns that `records` came in with, as
    they stood when the record was judged, plus `stage`, `reason` and `evidence`. Both tables keep the order of the
    input (dropped: by stage, then input).
    """
    columns = records.column_names
    table, dropped = records.combine_chunks(), []
    # Filters in a row judge the same table, and what failed is taken out once for all of them: copying the text that is
    # kept would cost more than most of them do.
    alive = np.ones(table.num_rows, np.bool_)
    for stage in stages:
        if isinstance(stage, Transform):
            table = stage.rewrite(_keep(table, alive))
            assert table.num_rows == alive.sum(), f"{stage.kind} changed the number of rows"
            alive = np.ones(table.num_rows, np.bool_)
        elif isinstance(stage, Filter):
            verdicts = stage.judge(table)
            assert len(verdicts) == table.num_rows, (
                f"{stage.kind} gave {len(verdicts)} verdicts for {table.num_rows} rows"
            )
            failed = np.asarray(verdicts.is_valid()) & alive
            if failed.any():
                dropped.append(
                    mark(table.select(columns).filter(pa.array(failed)), stage.kind, verdicts.filter(pa.array(failed)))
                )
                alive &= ~failed
        else:
            raise TypeError(f"{stage.kind}: a stage is a Filter or a Transform")
    kept = _keep(table, alive)
    empty = mark(records.slice(0, 0), "", pa.array([], VERDICT))
    outcome = Outcome(kept, pa.concat_tables([empty, *dropped]))
    assert outcome.kept.num_rows + outcome.dropped.num_rows == records.num_rows
    return outcome


def _keep(table: pa.Table, alive: npt.NDArray[np.bool_]) -> pa.Table:
    return table if alive.all() else table.filter(pa.array(alive))


def mark(records: pa.Table, stage: str, verdicts: pa.StructArray) -> pa.Table:
    """Append stage, reason and evidence to records that a filter failed (verdicts all valid, one per record)."""
    reasons = verdicts.field("reason")
    values, thresholds = verdicts.field("value").to_pylist(), verdicts.field("threshold").to_pylist()
    # A loop over the dropped only; JSON numbers must be finite, so a missing measure is left out.
    evidence = [
        json.dumps(
            {
                k: round(x, 6)
                for k, x in (("value", v), ("threshold", t))
                if x is not None and x == x and abs(x) != float("inf")
            }
        )
        for v, t in zip(values, thresholds, strict=True)
    ]
    marks = [pa.array([stage] * len(records), pa.string()), reasons, pa.array(evidence, pa.string())]
    for field, column in zip(DROP_FIELDS, marks, strict=True):
        records = records.append_column(field, column)
    return records
