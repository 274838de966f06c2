"""How much thinking was in the responses, and is any left?"""

from __future__ import annotations

from typing import Any

import polars as pl

from pipelines.audit.report.counts import by_source
from pipelines.ledger import storage
from pipelines.ledger.runs import RecordedRun
from pipelines.steps.products import THINKING
from pipelines.steps.refine import REFINE

SUSPECT_ROWS, SUSPECT_SHARE = 3, 0.01
"""An unknown mark is shown if it begins this many responses of a source, and this share of them."""


def thinking_by_source(run: RecordedRun) -> dict[str, list[dict[str, Any]]]:
    """The findings about thinking by source: lists of rows by finding, with shares of the rows that `refine` kept."""
    found: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("removed", "left", "suspected", "bare_answer", "retagged")
    }
    step = run.step(REFINE.name)
    files = step.files(THINKING) if step else ()
    if step is None or not files:
        return found
    table = pl.concat([pl.DataFrame(storage.map_arrow(file.path)) for file in files])
    keys = ["finding", "source", "name"]
    total = table.group_by(keys).agg(pl.exclude(keys).sum())
    kept = by_source(step.shards)
    order = ["source", "blocks", "rows", "name"]
    for row in total.sort(order, descending=[False, True, True, False]).to_dicts():
        row["share"] = row["rows"] / max(kept[row["source"]], 1)
        found[row.pop("finding")].append(row)
    found["suspected"] = [
        row for row in found["suspected"] if row["rows"] >= SUSPECT_ROWS and row["share"] >= SUSPECT_SHARE
    ]
    return found
