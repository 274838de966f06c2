"""How are the scores of a recipe distributed, and where are its cuts?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.audit.charts import Chart, Limit, Series, bars, histogram
from pipelines.audit.page import number


def score_charts(quality: Sequence[dict[str, Any]]) -> dict[str, Chart]:
    """Column of a score -> its chart: a histogram of its values, or bars of the groups that it names."""
    charts = {}
    for score in quality:
        for column in score["columns"]:
            if "groups" in column:
                charts[column["name"]] = _groups(column)
            elif column["bars"]:
                charts[column["name"]] = _values(column)
    return charts


def _groups(column: dict[str, Any]) -> Chart:
    lines = column["groups"]
    text = "Bars by value: " + "; ".join(
        f"{line['value']} {line['kept']:,} kept, {line['gone']:,} dropped" for line in lines
    )
    series = [
        Series("kept", "kept", [line["kept"] for line in lines]),
        Series("dropped", "gone", [line["gone"] for line in lines]),
    ]
    return bars(column["name"], f"{text}.", [line["value"] for line in lines], series, "rows", wide=False)


def _values(column: dict[str, Any]) -> Chart:
    low, high, counted = column["low"], column["high"], column["bars"]
    if low >= high:
        low, high = low - 0.5, low + 0.5
    edges = [low + (high - low) * at / len(counted) for at in range(len(counted) + 1)]
    limits = [Limit(low + (high - low) * mark, f"cut {number(low + (high - low) * mark)}") for mark in column["marks"]]
    text = (
        f"Histogram of {column['name']}, {column['rows']:,} rows, from {number(low)} to {number(high)}, median "
        f"{number(column['median'])}" + "".join(f", {limit.label}" for limit in limits)
    )
    series = [
        Series("kept", "kept", [kept for kept, _ in counted]),
        Series("dropped", "gone", [gone for _, gone in counted]),
    ]
    return histogram(
        column["name"], f"{text}.", [float(f"{edge:.5g}") for edge in edges], series, "score", limits, stacked=True,
        note=f"Median {number(column['median'])} of {column['rows']:,} rows.",
    )  # fmt: skip
