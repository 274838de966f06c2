"""Why were rows dropped? By source, and by reason with the files that hold all of them."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.audit.charts import Chart, Series, bars
from pipelines.ledger.runs import RecordedRun

FILES_LINKED = 20
"""Parquet files that are linked of a step."""

SOURCES_SHOWN = 30


def source_chart(sources: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Rows kept and dropped of each source; None without sources."""
    if not sources:
        return None
    shown = sorted(sources, key=lambda source: -source["rows_in"])[:SOURCES_SHOWN]
    text = "Bars by source: " + "; ".join(
        f"{source['name']} {source['kept']:,} kept, {source['rows_in'] - source['kept']:,} dropped" for source in shown
    )
    return bars(
        "Rows kept and dropped, by source",
        f"{text}.",
        [source["name"] for source in shown],
        [
            Series("kept", "kept", [source["kept"] for source in shown]),
            Series("dropped", "gone", [source["rows_in"] - source["kept"] for source in shown]),
        ],
        "rows",
    )


def reason_sections(
    run: RecordedRun, reasons: Sequence[Mapping[str, Any]], rows: Mapping[str, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The reasons with some of their rows, and the files of the step that hold all of its dropped rows, as addresses
    relative to the report."""
    files = {step.step: [posixpath.relpath(file.path, run.folder) for file in step.dropped] for step in run.steps}
    return [
        {
            **reason,
            "examples": rows.get(reason["name"], []),
            "files": files[reason["step"]][:FILES_LINKED],
            "more": max(len(files[reason["step"]]) - FILES_LINKED, 0),
        }
        for reason in reasons
    ]
