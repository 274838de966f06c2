"""How do the measures of a recipe look? A page with a histogram for each check, its limit, and what others drop."""

from __future__ import annotations

import itertools
from typing import Any

from pipelines.audit.analysis import Analysis, Limit, Measure
from pipelines.audit.charts import Chart, Series, histogram
from pipelines.audit.charts import Limit as Line
from pipelines.audit.page import number, render
from pipelines.audit.reasons import meaning

SOURCES = 8
"""Sources of a limit that are named, those with the most rows first. The JSON answer has all."""


def page(answer: Analysis, recipe: str, command: str) -> str:
    """The page of an analysis. recipe: its name. command: that makes the page again."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for place, measure in enumerate(answer.measures):
        stages.setdefault(measure.stage, []).append(_check(place, measure))
    values = {
        "title": f"Analysis of {recipe}",
        "contents": [("sources", "Sources"), *((f"stage-{at}", stage) for at, stage in enumerate(stages))],
        "recipe": recipe,
        "command": command,
        "rows": answer.rows,
        "dropped": answer.dropped,
        "sources": answer.sources,
        "stages": [
            (f"stage-{at}", stage, [one for one in checks if one["chart"]], [one for one in checks if not one["chart"]])
            for at, (stage, checks) in enumerate(stages.items())
        ],
    }
    return render("analysis.html.jinja", values)


def _check(place: int, measure: Measure) -> dict[str, Any]:
    """What the template shows of a check."""
    limits = [("today", measure.today)] if measure.today else []
    limits += [(f"{measure.drops} {number(limit.value)}", limit) for limit in measure.others]
    return {
        "anchor": f"check-{place}",
        "name": measure.reason or measure.stage,
        "meaning": _meaning(measure),
        "chart": _chart(measure),
        "limits": [(name, limit.rows, limit.share, _sources(limit)) for name, limit in limits],
    }


def _chart(measure: Measure) -> Chart | None:
    """The histogram of a check; None if it measures no number, or the same of all rows."""
    if len(measure.bars) < 2 or (measure.drops is None and measure.today is not None):
        return None
    edges = [float(f"{edge:.5g}") for edge in measure.edges]
    today = measure.today
    name = measure.reason or measure.stage
    text = f"Histogram of the values of {measure.stage}/{name} in {measure.rows:,} rows."
    lines = []
    if today is not None:
        text += f" Today {today.rows:,} rows {measure.drops} the limit {number(today.value)} are dropped."
        if edges[0] <= today.value <= edges[-1]:
            lines = [Line(today.value, f"limit {number(today.value)}")]
    kept, gone = _sides(measure)
    series = [Series("within the limit", "kept", kept)]
    if any(gone):
        series.append(Series("beyond the limit", "gone", gone))
    return histogram(name, text, edges, series, "value", lines, stacked=True, log_counts=True, note=_meaning(measure))


def _meaning(measure: Measure) -> str:
    return meaning(measure.stage, measure.reason).replace("`", "") if measure.reason else ""


def _sides(measure: Measure) -> tuple[list[float], list[float]]:
    """The bars within today's limit, and those beyond it. The bar with the limit counts as within."""
    bars = [float(bar) for bar in measure.bars]
    if measure.today is None:
        return bars, [0.0] * len(bars)
    limit, above = measure.today.value, measure.drops == "above"
    beyond = [low >= limit if above else high <= limit for low, high in itertools.pairwise(measure.edges)]
    pairs = list(zip(bars, beyond, strict=True))
    return [0.0 if out else bar for bar, out in pairs], [bar if out else 0.0 for bar, out in pairs]


def _sources(limit: Limit) -> str:
    largest = sorted(limit.by_source.items(), key=lambda pair: -pair[1])
    more = f" and {len(largest) - SOURCES} more" if len(largest) > SOURCES else ""
    return ", ".join(f"{name} {rows:,}" for name, rows in largest[:SOURCES]) + more
