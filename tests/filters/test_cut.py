"""Cuts at scores: limits are exact, whatever the shards and the ties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from filters.cut import (
    HALF,
    ScoreCut,
    group_values,
    groups_of,
    judge,
    limits,
    measured,
    order_keys,
    tally,
    value_of_key,
)

FLOATS = st.floats(width=32, allow_nan=False)


@given(st.lists(FLOATS, min_size=2, max_size=50))
def test_keys_are_in_the_order_of_the_values_and_lead_back_to_them(values: list[float]) -> None:
    array = np.array(values, np.float32)
    keys = order_keys(array)
    assert [value_of_key(int(key)) for key in keys] == array.tolist()
    for left, right in zip(range(len(array) - 1), range(1, len(array)), strict=True):
        assert (array[left] < array[right]) == (keys[left] < keys[right])
        assert (array[left] == array[right]) == (keys[left] == keys[right])


def thresholds(table: pa.Table, share: float, within: tuple[str, ...], pieces: int) -> dict[str, float]:
    """The limits of a share, from tallies of `pieces` parts of the table."""
    bounds = np.linspace(0, table.num_rows, pieces + 1).astype(int)
    parts = [table.slice(start, end - start) for start, end in itertools.pairwise(bounds)]

    def tallies(upper: dict[str, int] | None) -> pa.Table:
        found = []
        for part in parts:
            values = measured(part["score_x"])
            counted = ~np.isnan(values)
            groups = groups_of(part, within).filter(pa.array(counted))
            found.append(tally(order_keys(values[counted]), groups, upper))
        return pa.concat_tables(found)

    high = limits(tallies(None), share)
    wanted = {group: limit.half for group, limit in high.items()}
    low = limits(tallies(wanted), {group: limit.rows for group, limit in high.items()})
    return {group: value_of_key(high[group].half * HALF + low[group].half) for group in high}


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("pieces", [1, 7])
def test_the_limit_of_a_share_is_that_of_sorting_each_group(share: float, pieces: int) -> None:
    random = np.random.default_rng(5)
    rows = 3_000
    scores = np.round(random.normal(size=rows), 2).astype(np.float32)  # with ties
    scores[random.random(rows) < 0.1] = np.nan
    table = pa.table(
        {
            "score_x": pa.array(scores, from_pandas=True),
            "source": random.choice(["a", "b", "c"], rows, p=[0.9, 0.09, 0.01]),
        }
    )
    found = thresholds(table, share, ("source",), pieces)
    frame = pl.DataFrame(table).filter(pl.col("score_x").is_not_null())
    for (source,), own in frame.group_by("source"):
        ordered = own["score_x"].sort(descending=True)
        assert found[str(source)] == ordered[max(1, math.ceil(share * len(ordered) - 1e-9)) - 1]


def test_rows_equal_to_the_last_one_stay_and_rows_without_a_score_do_not_count() -> None:
    table = pa.table({"score_x": pa.array([3, 2, 2, 2, 1, None, None, None], pa.float32())})
    cut = ScoreCut(name="x", top=0.4)
    found = thresholds(table, 0.4, (), 2)
    judged = judge(cut, table["score_x"], groups_of(table, ()), found)
    assert judged.reason.to_pylist() == [None] * 4 + ["x_not_in_top"] + [None] * 3
    dropped = judge(cut.model_copy(update={"missing": "drop"}), table["score_x"], groups_of(table, ()), found)
    assert dropped.reason.to_pylist()[5:] == ["x_not_measured"] * 3


def test_limits_keep_the_row_at_the_limit_although_it_is_no_float32() -> None:
    column = pa.chunked_array([pa.array([0.1, 0.05, 0.7, 0.70001], pa.float32())])
    judged = judge(ScoreCut(name="x", min=0.1, max=0.7), column, groups_of(pa.table({"x": column}), ()), {})
    assert judged.reason.to_pylist() == [None, "x_below_min", None, "x_above_max"]
    assert judged.threshold[1] == pytest.approx(0.1) and judged.value[1] == pytest.approx(0.05)


def test_names_are_dropped_by_value() -> None:
    column = pa.chunked_array([pa.array(["code", "prose", None, "dialogue"])])
    cut = ScoreCut(name="subject", drop=("dialogue", "prose"))
    judged = judge(cut, column, groups_of(pa.table({"x": column}), ()), {})
    assert judged.reason.to_pylist() == [None, "subject_is_prose", None, "subject_is_dialogue"]


@pytest.mark.parametrize("written, share", [("5 %", 0.05), ("12.5%", 0.125), (0.5, 0.5)])
def test_a_share_is_written_in_percent_or_as_a_number(written: str | float, share: float) -> None:
    assert ScoreCut.model_validate({"name": "x", "top": written}).top == share


@pytest.mark.parametrize(
    "keys, message",
    [
        ({}, "a cut needs"),
        ({"top": "150 %"}, "less than 1"),
        ({"top": "five"}, "valid number"),
        ({"top": "1.2.3 %"}, "valid number"),
        ({"min": float("nan")}, "finite"),
        ({"min": 1, "within": "source"}, "give `top` as well"),
        ({"min": 1, "drop": "code"}, "names groups"),
        ({"min": 2, "max": 1}, "above"),
    ],
)
def test_a_cut_without_sense_is_an_error(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ScoreCut.model_validate({"name": "x", **keys})


def test_values_with_line_breaks_and_backslashes_name_groups_of_their_own() -> None:
    rows = [("a\nb", "c"), ("a", "b\nc"), ("a\\nb", "c"), ("", ""), ("\\", "\n")]
    table = pa.table({"g": [row[0] for row in rows], "h": [row[1] for row in rows]})
    groups = groups_of(table, ("g", "h"))
    assert len(groups.dictionary) == len(rows)
    assert [tuple(group_values(name)) for name in groups.to_pylist()] == rows
