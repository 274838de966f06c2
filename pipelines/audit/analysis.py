"""What would a recipe's filters and scores drop, at today's limits and at others? Nothing is dropped to find out.

Every filter of the recipe judges every row of the sources, as the transforms before it have rewritten the row. What its
checks measure is counted in bins, by source: the bins are the upper halves of float32, whose width is 0.8 % of the
value. So histograms, quantiles and the rows beyond any limit follow from one small table a shard, and today's limit is
counted exactly. Scores are measured as in a build, of the rows that the filters keep, without any cut.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from dedup.columns import as_array
from filters.catalogue import parameters
from filters.cut import HALF, ScoreCut, column_of, order_keys, value_of_key
from filters.stage import Filter, Stage, Transform, emptied
from filters.verdict import Check, collect_checks
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import Run, Target
from pipelines.ledger.step import StepType
from pipelines.ledger.storage import TableRef

VALUES = "values"

ANALYSIS = StepType(
    name="analysis",
    products={VALUES: "for each source and check the rows by bin of the value that was measured, Arrow"},
)

SHARES = (0.001, 0.01, 0.05, 0.1)
"""Shares of the rows that other limits would drop."""

BARS = 24
"""Bars of a histogram. The outermost ones hold all values beyond the 0.5 and 99.5 % quantiles."""

Floats = npt.NDArray[np.float64]


class Limit(BaseModel):
    """A limit of a check and the rows beyond it: of all sources, and of each that has some."""

    model_config = ConfigDict(frozen=True)

    value: float
    rows: int
    share: float
    by_source: dict[str, int]


class Measure(BaseModel):
    """What a check of a filter, or a score, measures of the rows.

    stage, reason: of the rows that it drops; a score without a cut has no reason. drops: `above` or `below` the limit;
    None for a check without a number to choose, such as whether something occurs. rows: that were measured. today: the
    limit of the recipe, with the rows that this check alone drops; None for a score without one. others: limits that
    would drop SHARES of the rows. quantiles: share -> value. edges, bars: of a histogram.
    """

    model_config = ConfigDict(frozen=True)

    stage: str
    reason: str
    drops: str | None
    rows: int
    today: Limit | None
    others: tuple[Limit, ...]
    quantiles: dict[str, float]
    edges: tuple[float, ...]
    bars: tuple[int, ...]


class SourceRows(BaseModel):
    """Rows of a source, and how many of them the filters together would drop."""

    model_config = ConfigDict(frozen=True)

    rows: int
    dropped: int


class Analysis(BaseModel):
    """The measures of a recipe, in the order of its stages. sources: name -> rows."""

    model_config = ConfigDict(frozen=True)

    rows: int
    dropped: int
    sources: dict[str, SourceRows]
    measures: tuple[Measure, ...]


_COUNTS = pa.schema(
    [
        pa.field("source", pa.string()),
        pa.field("stage", pa.int32()),
        pa.field("check", pa.int32()),
        pa.field("kind", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("limit", pa.float64()),
        pa.field("bin", pa.int64()),
        pa.field("rows", pa.int64()),
        pa.field("failed", pa.int64()),
    ]
)
"""Rows by bin: of check number `check` of stage number `stage`. failed: those of them that the check drops. The rows
of a source that any filter drops stand under stage -1."""


def count_values(run: Run, records: Manifest, stages: Sequence[Stage]) -> Manifest:
    """Make, or reuse, the counts of what the filters among `stages` measure of all records."""
    step = ANALYSIS.step({"stages": [parameters(stage) for stage in stages]}, (records.key,))
    work = functools.partial(_count_shard, tuple(stages))
    return run.do(step, lambda context: context.map(work, records.shards))


def analysis(counted: Manifest, scored: Manifest | None = None, cuts: Sequence[ScoreCut] = ()) -> Analysis:
    """What was counted. scored: records with columns of scores. cuts: the recipe's cuts at them."""
    tables = [pl.DataFrame(storage.map_arrow(file.path)) for file in counted.tables(VALUES)]
    counts = pl.concat([pl.DataFrame(_COUNTS.empty_table()), *tables])
    any_stage = counts.filter(pl.col("stage") == -1).group_by("source").agg(pl.col("rows", "failed").sum())
    sources = {
        name: SourceRows(rows=rows, dropped=failed) for name, rows, failed in any_stage.sort("source").iter_rows()
    }
    measures = list(_measures(counts.filter(pl.col("stage") >= 0), counted.parameters["stages"]))
    if scored is not None:
        measures += list(_scores(scored, cuts))
    return Analysis(
        rows=sum(source.rows for source in sources.values()),
        dropped=sum(source.dropped for source in sources.values()),
        sources=sources,
        measures=tuple(measures),
    )


def _count_shard(stages: tuple[Stage, ...], shard: TableRef, target: Target) -> Part:
    table = storage.read_parquet(shard.path).combine_chunks()
    source = as_array(table["source"]).dictionary_encode()
    codes = np.asarray(source.indices.to_numpy(zero_copy_only=False), np.int64)
    names = source.dictionary.to_pylist()
    dropped = np.zeros(table.num_rows, np.bool_)
    found = [_COUNTS.empty_table()]
    for number, stage in enumerate(stages):
        checks: list[Check] = []
        if isinstance(stage, Transform):
            before, table = table, stage.rewrite(table)
            for verdicts in (emptied(before, table), stage.reject(table)):
                if verdicts is not None:
                    dropped |= np.asarray(verdicts.is_valid())
        elif isinstance(stage, Filter):
            with collect_checks() as checks:
                dropped |= np.asarray(stage.judge(table).is_valid())
        for place, check in enumerate(checks):
            found.append(_counted(names, codes, number, place, stage.kind, check))
    nothing = Check("", dropped, dropped, 0.0)
    found.append(_counted(names, codes, -1, 0, "", nothing))
    return part(values=storage.write_arrow(target.path(suffix=".arrow"), pa.concat_tables(found)))


def _counted(
    names: list[str], codes: npt.NDArray[np.int64], stage: int, place: int, kind: str, check: Check
) -> pa.Table:
    bins = bins_of(np.asarray(check.value, np.float32))
    groups, inverse, rows = np.unique(codes * HALF + bins, return_inverse=True, return_counts=True)
    failed = np.bincount(inverse[np.asarray(check.failed)], minlength=len(groups))
    size = len(groups)
    columns = [
        pa.array(names, pa.string()).take(pa.array(groups // HALF)),
        pa.array(np.full(size, stage, np.int32)),
        pa.array(np.full(size, place, np.int32)),
        pa.array([kind] * size, pa.string()),
        pa.array([check.reason] * size, pa.string()),
        pa.array(np.full(size, check.threshold, np.float64)),
        pa.array(groups % HALF),
        pa.array(rows.astype(np.int64)),
        pa.array(failed.astype(np.int64)),
    ]
    return pa.table(columns, schema=_COUNTS)


def bins_of(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The bin of each value: its upper 16 bits, in the order of values. NaN is in the last."""
    return np.where(np.isnan(values), HALF - 1, order_keys(np.nan_to_num(values)) >> 16).astype(np.int64)


def value_of_bin(bin: int) -> float:
    """The least value of a bin."""
    return value_of_key(bin * HALF)


class _Binned(NamedTuple):
    """Rows by bin of one check, bins ascending: the least and the greatest value of each bin, and the rows in it,
    [bins]; and values and rows by source."""

    values: Floats
    ends: Floats
    rows: npt.NDArray[np.int64]
    by_source: dict[str, tuple[Floats, npt.NDArray[np.int64]]]


def _measures(counts: pl.DataFrame, stages: Sequence[dict[str, Any]]) -> Iterator[Measure]:
    """The measures of checks. stages: their parameters, by number."""
    keys = ["stage", "check", "kind", "reason", "limit"]
    for (number, _, kind, reason, limit), group in counts.sort(*keys[:2], "source", "bin").group_by(
        keys, maintain_order=True
    ):
        failed = dict(group.group_by("source", maintain_order=True).agg(pl.col("failed").sum()).iter_rows())
        binned = _binned(group)
        beyond = group.filter(pl.col("failed") > 0)["bin"]
        drops = _direction(binned, float(limit), [value_of_bin(one) for one in beyond.to_list()])
        total = int(binned.rows.sum())
        today = _limit(float(limit), failed, total)
        measure = _measure(str(kind), str(reason), binned, drops, today)
        values = [value for value in stages[int(str(number))].values() if isinstance(value, int | float)]
        # A limit that is no parameter of the stage cannot be chosen.
        yield measure if float(limit) in values else measure.model_copy(update={"others": ()})


def _binned(group: pl.DataFrame) -> _Binned:
    summed = group.group_by("bin").agg(pl.col("rows").sum()).sort("bin")
    values = np.array([value_of_bin(one) for one in summed["bin"].to_list()], np.float64)
    by_source = {}
    for (name,), own in group.group_by(["source"], maintain_order=True):
        own = own.group_by("bin").agg(pl.col("rows").sum()).sort("bin")
        own_values = np.array([value_of_bin(one) for one in own["bin"].to_list()], np.float64)
        by_source[str(name)] = own_values, own["rows"].to_numpy()
    ends = np.array([value_of_key((one + 1) * HALF - 1) for one in summed["bin"].to_list()], np.float64)
    return _Binned(values, ends, summed["rows"].to_numpy(), by_source)


def _direction(binned: _Binned, limit: float, failed: list[float]) -> str | None:
    """On which side of its limit a check drops. None if there are but two values, or no side can be told."""
    if len(binned.values) < 3:
        return None
    if failed:
        kept_below = np.average(binned.values, weights=binned.rows) <= np.mean(failed)
        return "above" if kept_below else "below"
    middle = _quantile(binned, 0.5)
    return "above" if middle < limit else "below" if middle > limit else None


def _measure(stage: str, reason: str, binned: _Binned, drops: str | None, today: Limit | None) -> Measure:
    total = int(binned.rows.sum())
    quantiles = (
        {f"{share:g}": _quantile(binned, share) for share in (0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0)} if total else {}
    )
    edges, bars = _histogram(binned, today.value if today and drops else None)
    return Measure(
        stage=stage,
        reason=reason,
        drops=drops,
        rows=total,
        today=today,
        others=tuple(_others(binned, drops, total)),
        quantiles=quantiles,
        edges=edges,
        bars=bars,
    )


def _others(binned: _Binned, drops: str | None, total: int) -> Iterator[Limit]:
    """Limits that drop about SHARES of the rows, each another one. A limit lies between two bins, so that it drops
    exactly the rows that are counted."""
    before = None
    for share in SHARES if drops and total else ():
        place = _place(binned, 1 - share if drops == "above" else share)
        last = len(binned.values) - 1
        if place == before or place == (last if drops == "above" else 0):
            continue
        before = place
        if drops == "above":
            value = _short(float(binned.ends[place]), float(binned.values[place + 1]), up=True)
        else:
            value = _short(float(binned.values[place]), float(binned.ends[place - 1]), up=False)
        by_source = {name: _beyond(*own, value, drops or "") for name, own in binned.by_source.items()}
        limit = _limit(value, by_source, total)
        if limit.rows:
            yield limit


def _beyond(values: Floats, rows: npt.NDArray[np.int64], limit: float, drops: str) -> int:
    return int(rows[values > limit if drops == "above" else values < limit].sum())


def _place(binned: _Binned, share: float) -> int:
    """The bin up to which this share of the rows lies."""
    reached = np.cumsum(binned.rows)
    place = int(np.searchsorted(reached, max(share * reached[-1], 1), "left"))
    return min(place, len(binned.values) - 1)


def _quantile(binned: _Binned, share: float) -> float:
    return float(binned.values[_place(binned, share)])


def _short(value: float, beyond: float, up: bool) -> float:
    """The number with the fewest digits from `value` on, upwards or downwards, that does not reach `beyond`."""
    if not value or not math.isfinite(value):
        return value
    for digits in range(1, 17):
        unit = 10.0 ** (math.floor(math.log10(abs(value))) + 1 - digits)
        short = float(f"{(math.ceil if up else math.floor)(value / unit) * unit:.12g}")
        if (value <= short < beyond) if up else (value >= short > beyond):
            return short
    return value


def _histogram(binned: _Binned, limit: float | None) -> tuple[tuple[float, ...], tuple[int, ...]]:
    if not len(binned.rows) or not binned.rows.sum():
        return (), ()
    low, high = _quantile(binned, 0.005), _quantile(binned, 0.995)
    if limit is not None and math.isfinite(limit):
        low, high = min(low, limit), max(high, limit)
    if low == high:
        return (low, high), (int(binned.rows.sum()),)
    wide = low > 0 and high / low > 100
    edges = np.geomspace(low, high, BARS + 1) if wide else np.linspace(low, high, BARS + 1)
    bars, _ = np.histogram(np.clip(binned.values, low, high), edges, weights=binned.rows)
    return tuple(float(edge) for edge in edges), tuple(int(bar) for bar in bars)


def _limit(value: float, by_source: dict[str, int], total: int) -> Limit:
    by_source = {name: rows for name, rows in by_source.items() if rows}
    rows = sum(by_source.values())
    return Limit(value=value, rows=rows, share=_share(rows, total), by_source=by_source)


def _share(rows: int, total: int) -> float:
    return round(rows / total, 6) if total else 0.0


def _scores(scored: Manifest, cuts: Sequence[ScoreCut]) -> Iterator[Measure]:
    """Each numeric score of the rows that the filters keep, with the limits of each cut at it."""
    if not scored.shards:
        return
    names = tuple(name for name in storage.columns(scored.shards[0].path) if name.startswith("score_"))
    cut_of: dict[str, list[ScoreCut]] = {}
    for cut in cuts:
        cut_of.setdefault(column_of(cut.name, names) or "", []).append(cut)
    for name in names:
        frames = []
        for shard in scored.shards:
            table = storage.read_parquet(shard.path, ["source", name])
            values = np.asarray(table[name].cast(pa.float32()).to_numpy(), np.float32)
            sources = pl.Series(as_array(table["source"]))
            frames.append(pl.DataFrame({"source": sources, "bin": bins_of(values), "measured": ~np.isnan(values)}))
        counts = pl.concat(frames).filter("measured").group_by("source", "bin").agg(rows=pl.len().cast(pl.Int64))
        binned = _binned(counts)
        total = int(binned.rows.sum())
        label = name.removeprefix("score_")
        given = cut_of.get(name, [])
        sides: list[tuple[str, float]] = []
        for cut in given:
            sides += [("below", cut.min)] if cut.min is not None else []
            sides += [("above", cut.max)] if cut.max is not None else []
            sides += [("below", _quantile(binned, 1 - cut.top))] if cut.top is not None and total else []
        for drops, limit in sides:
            rows = {source: _beyond(*own, limit, drops) for source, own in binned.by_source.items()}
            yield _measure("score", f"{label}, {drops}", binned, drops, _limit(limit, rows, total))
        if not sides:
            yield _measure("score", label, binned, "below", None)


__all__: Sequence[Any] = ["Analysis", "Limit", "Measure", "SourceRows", "analysis", "count_values"]
