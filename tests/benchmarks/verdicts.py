"""Verdicts: precision and recall of each filter on the labelled set, and what the gold sources lose.

The set is in tests/filters/labelled. Measured on its test half, of which nothing was used for tuning. A gold row that a
filter drops counts against its precision, in both halves. Intervals: Wilson, 95 %.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from filters.stage import Transform, apply
from pipelines import recipe as recipes
from tests.filters.labelled import gold
from tests.filters.labelled.rows import KINDS, dropped, labelled, score, stage

RECIPE = Path(__file__).parents[2] / "pipelines" / "recipes" / "hrm_text_mini.yaml"


def bench(data: Path | None) -> dict[str, list[dict[str, object]]]:
    """Three tables: by filter, by category, and by gold source."""
    wrong_gold: Counter[str] = Counter()
    sources: list[dict[str, object]] = []
    if data is not None:
        # As the transforms of the recipe leave them: unrepaired mojibake and addresses are no false alarms.
        stages = recipes.load(str(RECIPE)).stages
        records = apply([stage for stage in stages if isinstance(stage, Transform)], gold.records(data)).kept
        for kind in KINDS:
            wrong_gold[kind] = int(np.asarray(stage(kind).judge(records).is_valid()).sum())
        outcome = apply(stages, records)
        lost = Counter(outcome.dropped["source"].to_pylist())
        for source, rows in sorted(Counter(records["source"].to_pylist()).items()):
            sources.append({"gold source": source, "rows": rows, "dropped": lost[source]})
        total, gone = records.num_rows, outcome.dropped.num_rows
        sources.append({"gold source": "all", "rows": total, "dropped": gone, "dropped %": 100 * gone / total})
    filters: list[dict[str, object]] = []
    categories: list[dict[str, object]] = []
    for kind in KINDS:
        result = score(kind, data, True, wrong_gold[kind])
        filters.append(
            {
                "filter": kind,
                "precision": str(result.precision),
                "recall": str(result.recall),
                "gold rows dropped": wrong_gold[kind] if data else "",
            }
        )
        judge = stage(kind)
        for label, rows in zip(("keep", "drop"), labelled(kind, data, True), strict=True):
            counts = Counter(row.category for row in rows)
            found = Counter(row.category for row, hit in zip(rows, dropped(judge, rows), strict=True) if hit)
            categories += [
                {"filter": kind, "must": label, "category": category, "rows": total, "dropped": found[category]}
                for category, total in counts.items()
            ]
    return {"By filter": filters, "By gold source, all filters of the mini recipe": sources, "By category": categories}
