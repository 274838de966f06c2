"""How do the values that filters measure lie against their thresholds?

A step stores the values of the rows that it dropped. Those of the rows that it kept are measured again, of a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from pydantic import TypeAdapter

from filters.stage import Filter
from filters.verdict import collect_checks
from pipelines.audit.charts import Chart, Limit, Series, histogram
from pipelines.audit.page import number
from pipelines.audit.reasons import meaning
from pipelines.recipe import RecipeStage

BARS = 32
CHARTS = 24
"""Charts, of the rules that dropped the most rows; the table has all rules."""

Numbers = npt.NDArray[np.float64]


class Measured(NamedTuple):
    """The values of one rule of one filter.

    stage, reason, threshold: of the rule. kept: values of rows that pass, of the sample. dropped: of rows that fail, in
    the whole run. rows: that the rule dropped. above: whether it drops values above the threshold.
    """

    stage: str
    reason: str
    threshold: float
    kept: Numbers
    dropped: Numbers
    rows: int
    above: bool

    @property
    def name(self) -> str:
        """As reasons are named: stage/reason."""
        return f"{self.stage}/{self.reason}"

    @property
    def nearest(self) -> float | None:
        """The value of a row that passes that is nearest to the threshold, on the side that passes."""
        passing = self.kept[self.kept <= self.threshold if self.above else self.kept >= self.threshold]
        if not len(passing):
            return None
        return float(passing.max() if self.above else passing.min())


def measure(
    stages: Sequence[dict[str, Any]], rows: pl.DataFrame | None, evidence: pl.DataFrame, reasons: dict[str, int]
) -> list[Measured]:
    """The values of every rule of the filters of a recipe; without `rows`, of the rules that dropped rows.

    stages: as the settings of a run have them. rows: a sample of those that stayed; no transform is applied, since they
    are as the transforms left them. evidence: name (stage/reason), value and threshold of rows dropped. reasons:
    stage/reason -> rows dropped.
    """
    dropped = _dropped(evidence.filter(pl.col("value").is_finite() & pl.col("threshold").is_finite()))
    if rows is None:
        return [_measured(name, threshold, _NONE, gone, reasons) for name, (threshold, gone) in dropped.items()]
    table = rows.to_arrow()
    table = table.cast(pa.schema([(name, pa.string()) for name in table.column_names]))
    found = []
    for settings in stages:
        try:
            stage = TypeAdapter(RecipeStage).validate_python(settings)
            if not isinstance(stage, Filter):
                continue
            with collect_checks() as checks:
                stage.judge(table)
        except (
            ValueError,
            KeyError,
            OSError,
        ):  # a plugin or a model that is not here any more: the report can do without
            continue
        for check in checks:
            values = np.asarray(check.value, np.float64)
            name = f"{stage.kind}/{check.reason}"
            _, gone = dropped.get(name, (0.0, _NONE))
            kept = values[np.isfinite(values) & ~check.failed]
            found.append(_measured(name, float(check.threshold), kept, gone, reasons))
    return found


_NONE: Numbers = np.empty(0)


def _dropped(evidence: pl.DataFrame) -> dict[str, tuple[float, Numbers]]:
    """Rule -> its threshold, and the values of the rows that it dropped."""
    groups = evidence.group_by("name", maintain_order=True).agg(pl.col("threshold").first(), "value")
    columns = (groups["name"], groups["threshold"], groups["value"])
    return {name: (threshold, values.to_numpy()) for name, threshold, values in zip(*columns, strict=True)}


def _measured(name: str, threshold: float, kept: Numbers, dropped: Numbers, reasons: dict[str, int]) -> Measured:
    above = bool(np.median(dropped) >= threshold) if len(dropped) else True
    stage, reason = name.split("/", 1)
    return Measured(stage, reason, threshold, kept, dropped, reasons.get(name, 0), above)


def threshold_charts(measured: Sequence[Measured], rows: int) -> list[Chart]:
    """A histogram for each rule that dropped rows and whose values are more than yes and no.

    rows: that the sample stands for.
    """
    shown = [one for one in measured if one.rows and _varies(one)]
    shown.sort(key=lambda one: -one.rows)
    return [_chart(one, rows) for one in shown[:CHARTS]]


def _varies(one: Measured) -> bool:
    return len(np.unique(np.concatenate([one.kept, one.dropped, [one.threshold]]))) > 2


def _chart(one: Measured, rows: int) -> Chart:
    values = np.concatenate([one.kept, one.dropped, [one.threshold]])
    low, high = np.quantile(values, [0.005, 0.995])
    low, high = min(low, one.threshold), max(high, one.threshold)
    room = 0.06 * (high - low or 1.0)  # so that values at the threshold have a bar on its far side
    low, high = (low, max(high, one.threshold + room)) if one.above else (min(low, one.threshold - room), high)
    if low == high:
        high = low + 1
    whole = bool((values == np.round(values)).all()) and high - low < BARS
    edges = np.arange(low, high + 2) - 0.5 if whole else np.linspace(low, high, BARS + 1)
    scale = rows / max(len(one.kept), 1)
    more = one.rows / max(len(one.dropped), 1)
    kept = np.histogram(np.clip(one.kept, edges[0], edges[-1]), edges)[0] * scale
    dropped = np.histogram(np.clip(one.dropped, edges[0], edges[-1]), edges)[0] * more
    side = "above" if one.above else "below"
    nearest, says = one.nearest, meaning(one.stage, one.reason).replace("`", "")
    text = (
        f"Histogram of the values of {one.name}. {one.rows:,} rows {side} the threshold {number(one.threshold)} were "
        f"dropped"
        + (f"; the nearest row of the sample that stayed has {number(nearest)}." if nearest is not None else ".")
    )
    return histogram(
        one.name,
        text,
        [float(f"{edge:.5g}") for edge in edges],
        [Series("kept", "kept", _round(kept)), Series("dropped", "gone", _round(dropped))],
        "value",
        [Limit(one.threshold, f"threshold {number(one.threshold)}")],
        stacked=True,
        log_counts=True,
        whole=whole,
        note=f"{says} {one.rows:,} {'row' if one.rows == 1 else 'rows'} dropped, {side} the threshold.".strip(),
    )


def _round(values: Numbers) -> list[float]:
    return [float(value) for value in np.ceil(values)]
