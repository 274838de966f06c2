"""How are the scores of a run distributed, and where are its cuts? For the report.

Values are counted by the upper half of their order-preserving keys (`filters.cut`), which keep two to three digits: one
pass over the shards, and little memory for any number of rows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.cut import BROKEN, HALF, Counts, column_of, group_values, measured, order_keys, value_of_key
from filters.scores.score import PREFIX
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import RecordedRun
from pipelines.steps.products import LIMITS, MEASURES, MODEL
from pipelines.steps.scores import MEASURE, TRAIN, trained_rows
from pipelines.steps.select import SELECT

BARS = 48
SHOWN = (0.002, 0.998)
"""The quantiles between which a histogram is drawn."""
EXAMPLES = 3


def quality(run: RecordedRun) -> list[dict[str, Any]]:
    """Each score of a run: its columns with their histograms and cuts, and what is known of its model."""
    selects = [step for step in run.steps if step.step.startswith(SELECT) and step.files(LIMITS)]
    if not selects:
        return []
    found = []
    for step in run.steps:
        if step.step.startswith(MEASURE):
            name = step.step.removeprefix(MEASURE)
            trained = run.step(TRAIN + name)
            found.append(
                {
                    "name": name,
                    "kind": step.parameters["score"]["kind"],
                    "columns": [_column(column["name"], selects) for column in step.parameters["columns"]],
                    "model": trained.file(MODEL).digest if trained else None,
                    "trained": trained_rows(trained) if trained else {},
                    "measures": storage.read_json(trained.file(MEASURES).path) if trained else {},
                }
            )
    return found


def cut_warnings(run: RecordedRun) -> Iterator[str]:
    """Cuts that do something other than what was most likely meant: a limit that no row, or every row, breaks; the name
    of no group; rows that stay because they were not measured."""
    for step in run.steps:
        if not step.step.startswith(SELECT) or not step.shards:
            continue
        columns = tuple(storage.columns(step.shards[0].path))
        for cut in step.parameters["cuts"]:
            reason, what = f"score/{cut['name']}_", f"the cut at {cut['name']} ({_text(cut) or 'missing'})"
            for name in cut["drop"]:
                if f"{reason}is_{name}" not in step.counts:
                    yield f"{what}: no row is {name}"
            column = column_of(cut["name"], columns)
            if cut["drop"] or column is None:
                continue
            kept = _tables(step, column, dropped=False)
            missing = sum(table.null_count for table in kept)
            if not any(reason + broken in step.counts for broken in BROKEN):
                yield f"{what} drops no row"
            elif missing == sum(map(len, kept)):
                # Rows that another cut of the step drops may have no value here.
                gone = [chunk for table in _tables(step, column, dropped=True) for chunk in table.chunks]
                ends = pc.min_max(pa.chunked_array(gone)).as_py()
                of = f", of {ends['min']:.4g} to {ends['max']:.4g}" if ends["min"] is not None else ""
                yield f"{what} drops every row that has the score{of}"
            if missing and cut["missing"] == "keep":
                yield f"{what}: {missing:,} rows without the score stay; `missing: drop` drops them"


def _column(name: str, selects: list[Manifest]) -> dict[str, Any]:
    cuts = [
        {"step": step.step, **cut, "limits": storage.read_json(step.file(LIMITS).path)[number]}
        for step in selects
        for number, cut in enumerate(step.parameters["cuts"])
        if column_of(cut["name"], (name,)) == name
    ]
    facts: dict[str, Any] = {"name": name, "cuts": [_said(cut) for cut in cuts]}
    # The first `select` has the rows before any cut; the rows kept at the end are those of the last one.
    kept = _tables(selects[-1], name, dropped=False)
    gone = [table for step in selects for table in _tables(step, name, dropped=True)]
    if not name.startswith(PREFIX):
        return {**facts, "groups": _groups(kept, gone)}
    kept_counts, kept_missing = _count(kept)
    gone_counts, gone_missing = _count(gone)
    bars, low, high = _bars(kept_counts, gone_counts)
    values = sorted({limit for cut in cuts for limit in _values(cut)})
    marks = [(value - low) / (high - low) for value in values if high > low and low <= value <= high]
    return {
        **facts,
        "rows": int(kept_counts.sum() + gone_counts.sum()),
        "missing": kept_missing + gone_missing,
        "stay": all(cut["missing"] == "keep" for cut in cuts),
        "bars": bars,
        "low": low,
        "high": high,
        "marks": marks if len(marks) <= EXAMPLES else [],
        "median": _quantile(kept_counts + gone_counts, 0.5),
    }


def _values(cut: dict[str, Any]) -> list[float]:
    given = [cut[name] for name in ("min", "max") if cut[name] is not None]
    return [*given, *cut["limits"].values()]


def _said(cut: dict[str, Any]) -> dict[str, Any]:
    """A cut in words, with its limit in each group."""
    groups = sorted(cut["limits"].items(), key=lambda one: one[1])
    limits = [(" · ".join(group_values(group)) if cut["within"] else "all rows", limit) for group, limit in groups]
    return {"step": cut["step"], "text": _text(cut), "limits": limits}


def _text(cut: dict[str, Any]) -> str:
    """What a cut says, in words."""
    parts = [f"{name} {cut[name]:g}" for name in ("min", "max") if cut[name] is not None]
    if cut["top"] is not None:
        within = f" within {', '.join(cut['within'])}" if cut["within"] else ""
        parts.append(f"the highest {100 * cut['top']:g} %{within}")
    if cut["drop"]:
        parts.append(f"without {', '.join(cut['drop'])}")
    return ", ".join(parts)


def _tables(step: Manifest, name: str, dropped: bool) -> list[pa.ChunkedArray]:
    files = step.dropped if dropped else step.shards
    return [storage.read_parquet(file.path, [name])[name] for file in files]


def _count(columns: list[pa.ChunkedArray]) -> tuple[Counts, int]:
    """Rows by the upper half of the key, int64 [HALF], and rows without a value."""
    counts, missing = np.zeros(HALF, np.int64), 0
    for column in columns:
        values = measured(column)
        known = ~np.isnan(values)
        missing += int((~known).sum())
        counts += np.bincount(order_keys(values[known]) >> 16, minlength=HALF)
    return counts, missing


def _value(half: int) -> float:
    """The value with this upper half of the key that is nearest to 0: 1 is 1, and 0.5 is 0.5."""
    return value_of_key(half * HALF + (0 if half >= HALF // 2 else HALF - 1))


@functools.cache
def _values_of_halves() -> npt.NDArray[np.float64]:
    return np.array([_value(half) for half in range(HALF)], np.float64)


def _quantile(counts: Counts, share: float) -> float:
    if not counts.sum():
        return 0.0
    place = int(np.searchsorted(np.cumsum(counts), share * counts.sum()))
    return _value(min(place, HALF - 1))


def _bars(kept: Counts, gone: Counts) -> tuple[list[tuple[int, int]], float, float]:
    """(kept, dropped) rows of each bar, and the values at both ends."""
    total = kept + gone
    low, high = (_quantile(total, share) for share in SHOWN)
    if not total.sum() or low >= high:
        return [(int(kept.sum()), int(gone.sum()))] if total.sum() else [], low, high
    edges = np.linspace(low, high, BARS + 1)
    middles = _values_of_halves()
    inside = np.isfinite(middles)
    heights = [np.histogram(np.clip(middles[inside], low, high), edges, weights=one[inside])[0] for one in (kept, gone)]
    return [(int(k), int(g)) for k, g in zip(*heights, strict=True)], low, high


def _groups(kept: list[pa.ChunkedArray], gone: list[pa.ChunkedArray]) -> list[dict[str, Any]]:
    """Rows by value of a score that names groups, the most frequent first."""
    counts: dict[str, dict[str, int]] = {}
    for which, columns in (("kept", kept), ("gone", gone)):
        for column in columns:
            for one in pc.value_counts(column).to_pylist():
                value = counts.setdefault(one["values"] or "(none)", {"kept": 0, "gone": 0})
                value[which] += one["counts"]
    most = max((value["kept"] + value["gone"] for value in counts.values()), default=1)
    ordered = sorted(counts.items(), key=lambda one: -(one[1]["kept"] + one[1]["gone"]))
    return [{"value": value, **rows, "most": most} for value, rows in ordered]
