"""Cuts at a score: the highest share of the rows, in the whole corpus or within groups, or fixed limits.

A share needs all rows, so a step of its own makes the cut (`pipelines/steps/select.py`); the functions here work on the
columns of one shard. A float32 has as many values as an uint32 has, in the same order. The limit of a share is found
exactly in two passes: counts by the upper half of the keys, then counts by the lower half where the limit falls.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field, FiniteFloat, model_validator

from filters.scores.score import PREFIX, Names
from filters.stage import CorpusStage

Keys = npt.NDArray[np.uint32]
Counts = npt.NDArray[np.int64]

HALF = 1 << 16


def _share(value: Any) -> Any:
    if isinstance(value, str) and (match := re.fullmatch(r"\s*([0-9]+\.?[0-9]*)\s*%\s*", value)):
        return float(match[1]) / 100
    return value


Share = Annotated[float, Field(gt=0, lt=1), BeforeValidator(_share, json_schema_input_type=float | str)]
"""A share of rows: `5 %` or 0.05."""


class ScoreCut(CorpusStage):
    """Drop rows by a score that the recipe measures (`scores`).

    name: of the score. min, max: its limits; a row at the limit stays. top: keep this share of the rows, those with the
    highest scores, `5 %` or 0.05; rows that are equal to the last of them stay too. within: take the share within each
    group of rows that agree in these columns: `source`, `condition`, a column of `extra`, or the name of a score that
    names groups. drop: values of such a score whose rows are dropped. missing: what happens to rows that could not be
    measured; they do not count for a share.
    """

    kind: Literal["score"] = "score"
    name: str
    min: FiniteFloat | None = None
    max: FiniteFloat | None = None
    top: Share | None = None
    within: Names = ()
    drop: Names = ()
    missing: Literal["keep", "drop"] = "keep"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min is None and self.max is None and self.top is None and not self.drop and self.missing == "keep":
            raise ValueError("a cut needs `min`, `max`, `top` or `drop`")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"`min` ({self.min:g}) is above `max` ({self.max:g}); change one")
        if self.within and self.top is None:
            raise ValueError("`within` names the groups of a share; give `top` as well")
        if self.drop and (self.top is not None or self.min is not None or self.max is not None):
            raise ValueError("`drop` is for a score that names groups; `min`, `max` and `top` for one that is a number")
        return self


def order_keys(values: npt.NDArray[np.float32]) -> Keys:
    """uint32 [rows] in the order of float32 values [rows]; -0.0 equals 0.0. NaN must not be among them."""
    bits = (values + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def value_of_key(key: int) -> float:
    """The float32 value of one of `order_keys`."""
    bits = key ^ (1 << 31) if key >> 31 else key ^ 0xFFFFFFFF
    return float(np.uint32(bits).view(np.float32))


def groups_of(table: pa.Table, within: tuple[str, ...]) -> pa.DictionaryArray:
    """The group of each row [rows]: its values in the columns of `within`, as `group_values` reads them."""
    if not within:
        return pa.array([""] * 1, pa.string()).take(pa.array(np.zeros(table.num_rows, np.int32))).dictionary_encode()
    columns = [pc.fill_null(table[name], "").cast(pa.string()) for name in within]
    for mark, escaped in _ESCAPES:
        columns = [pc.replace_substring(column, mark, escaped) for column in columns]
    joined = columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, "\n")
    joined = joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined
    return joined.dictionary_encode()


_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"))
"""What a line break in a value becomes, so that one between values can be told."""


def group_values(group: str) -> list[str]:
    """The values that name a group."""
    return [re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], one) for one in group.split("\n")]


def measured(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """float32 [rows] of a score; NaN where there is none."""
    return np.asarray(pc.fill_null(column.cast(pa.float32()), math.nan).to_numpy(), np.float32)


def tally(keys: Keys, groups: pa.DictionaryArray, upper: Mapping[str, int] | None = None) -> pa.Table:
    """Rows by group and half of the key: group string, half int32, rows int64.

    upper: None counts by the upper half; else, by the lower half, those whose upper half is that of their group.
    """
    codes = np.asarray(groups.indices.to_numpy(zero_copy_only=False), np.int64)
    names = groups.dictionary.to_pylist()
    if upper is None:
        half = (keys >> 16).astype(np.int64)
    else:
        wanted = np.array([upper.get(name, -1) for name in names], np.int64)
        chosen = (keys >> 16) == wanted[codes]
        keys, codes = keys[chosen], codes[chosen]
        half = (keys & np.uint32(HALF - 1)).astype(np.int64)
    pairs, rows = np.unique(codes * HALF + half, return_counts=True)
    columns = [
        groups.dictionary.take(pa.array(pairs // HALF)).cast(pa.string()),
        pa.array((pairs % HALF).astype(np.int32)),
        pa.array(rows.astype(np.int64)),
    ]
    return pa.table(columns, ["group", "half", "rows"])


class Limit(NamedTuple):
    """Where the limit of a share falls: the half key, and the rows that are still to be taken from those with it."""

    half: int
    rows: int


def limits(tallies: pa.Table, wanted: Mapping[str, int] | float) -> dict[str, Limit]:
    """Group -> where the limit falls, from the tallies of all shards.

    wanted: the share, of which each group has at least one row; or group -> rows to take.
    """
    ordered = tallies.group_by(["group", "half"], use_threads=False).aggregate([("rows", "sum")])
    ordered = ordered.sort_by([("group", "ascending"), ("half", "descending")])
    half, rows = (np.asarray(ordered[name].to_numpy()) for name in ("half", "rows_sum"))
    runs = pc.run_end_encode(ordered["group"].combine_chunks())
    found, start = {}, 0
    for group, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        from_top = np.cumsum(rows[start:end])
        take = wanted[group] if isinstance(wanted, Mapping) else max(1, math.ceil(wanted * from_top[-1] - 1e-9))
        place = int(np.searchsorted(from_top, take))
        found[group] = Limit(int(half[start + place]), take - int(from_top[place - 1] if place else 0))
        start = end
    return found


BROKEN = ("below_min", "above_max", "not_in_top", "not_measured")
"""What a row may break of a cut at a number. Its reason is the name of the score and one of these."""


class Judged(NamedTuple):
    """What a cut says of each row [rows]. reason: string, null for rows that stay. value, threshold: float64, NaN where
    there is none."""

    reason: pa.StringArray
    value: npt.NDArray[np.float64]
    threshold: npt.NDArray[np.float64]


def judge(
    cut: ScoreCut, column: pa.ChunkedArray, groups: pa.DictionaryArray, thresholds: Mapping[str, float]
) -> Judged:
    """Which rows a cut drops. column: the score. groups, thresholds: of `top`; group -> the least value that stays."""
    rows = len(column)
    nothing = np.full(rows, np.nan)
    if pa.types.is_string(column.type):
        text = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        bad = pc.fill_null(pc.is_in(text, value_set=pa.array(cut.drop, pa.string())), False)
        reason = pc.if_else(bad, pc.binary_join_element_wise(pa.scalar(f"{cut.name}_is"), text, "_"), None)
        if cut.missing == "drop":
            reason = pc.if_else(pc.is_null(text), f"{cut.name}_not_measured", reason)
        return Judged(reason.cast(pa.string()), nothing, nothing)
    values = measured(column).astype(np.float64)
    least = np.array([thresholds.get(name, -math.inf) for name in groups.dictionary.to_pylist()] or [0.0], np.float64)
    top = least[np.asarray(groups.indices.to_numpy(zero_copy_only=False), np.int64)] if cut.top is not None else nothing
    lowest = np.full(rows, np.float64(np.float32(cut.min)) if cut.min is not None else np.nan)
    highest = np.full(rows, np.float64(np.float32(cut.max)) if cut.max is not None else np.nan)
    names = np.full(rows, -1, np.int64)
    limit = nothing.copy()
    with np.errstate(invalid="ignore"):
        for place, (failed, bound) in enumerate(
            ((values < lowest, lowest), (values > highest, highest), (values < top, top))
        ):
            new = failed & (names < 0)
            names[new] = place
            limit[new] = bound[new]
    if cut.missing == "drop":
        names[np.isnan(values)] = 3
    reasons = [f"{cut.name}_{broken}" for broken in BROKEN]
    picked = pa.array(np.where(names < 0, 0, names), mask=names < 0)
    return Judged(pa.array(reasons, pa.string()).take(picked), values, limit)


def column_of(name: str, columns: tuple[str, ...]) -> str | None:
    """The column of the score that a cut names: `score_<name>`, or the name itself; None if there is none."""
    return next((column for column in (PREFIX + name, name) if column in columns), None)
