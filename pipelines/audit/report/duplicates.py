"""How large are the groups of duplicates, and what do the largest look like?"""

from __future__ import annotations

from typing import Any

import polars as pl

from pipelines.audit.charts import Chart, Series, bars
from pipelines.audit.clusters import STEPS, TEXTS, clusters
from pipelines.audit.report.rows import differing, excerpt
from pipelines.ledger.runs import RecordedRun

TOP, MEMBERS = 6, 2
"""Clusters shown, and rows shown of each beside the one that stayed."""

LENGTH = 700
"""Characters shown of a text."""

MAX_DROPPED = 2_000_000
"""Rows dropped as duplicates from which on clusters are not put together here: `winnow clusters` does."""

SIZES = ((2, 2), (3, 3), (4, 5), (6, 10), (11, 20), (21, 50), (51, 100), (101, 1000), (1001, None))


def duplicates(run: RecordedRun) -> dict[str, Any] | None:
    """Clusters by size, and the largest with their texts side by side. None if the run has none."""
    steps = [step for step in (run.step(name) for name in STEPS) if step is not None]
    if not 0 < sum(step.rows_dropped or 0 for step in steps) <= MAX_DROPPED:
        return None
    found = clusters(run, TOP, MEMBERS, compare=False)
    largest = []
    for cluster in found.largest:
        members = []
        for member in cluster.members:
            pairs = {
                name: differing(excerpt(getattr(cluster, name) or "", LENGTH), excerpt(getattr(member, name), LENGTH))
                for name in TEXTS
            }
            members.append({"id": member.id, "reason": member.reason, "jaccard": member.jaccard, "pairs": pairs})
        largest.append({"kept": cluster.kept, "rows": cluster.rows, "exact": cluster.exact, "near": cluster.near,
                        "members": members})  # fmt: skip
    return {"clusters": found.clusters, "largest": largest, "chart": _chart(found.sizes)}


def _chart(sizes: dict[int, int]) -> Chart:
    frame = pl.DataFrame({"rows": list(sizes), "clusters": list(sizes.values())})
    lines = []
    for low, high in SIZES:
        own = frame.filter((pl.col("rows") >= low) & ((pl.col("rows") <= high) if high else pl.lit(True)))
        if own.height:
            name = str(low) if low == high else f"{low} to {high}" if high else f"{low} or more"
            lines.append((f"{name} rows", int(own["clusters"].sum())))
    text = "Bars of clusters by size: " + ", ".join(f"{number:,} of {name}" for name, number in lines) + "."
    return bars(
        "Groups of duplicates by size",
        text,
        [name for name, _ in lines],
        [Series("groups", "c1", [float(number) for _, number in lines])],
        "groups",
        wide=False,
        note="A group is a row that stayed and the rows dropped in its favour.",
    )
