"""Numbers that people write into a column are read alike for a rating, a label and a score."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.formats.numbers import number_of, numbers_of


@pytest.mark.parametrize(
    ("written", "numbers"),
    [
        (["4/5", " 1 / 5 ", "2.5 out of 5 stars", None, ""], [4, 1, 2.5, np.nan, np.nan]),
        (["80 %", "5%", "n/a", "100%"], [80, 5, np.nan, 100]),
        (["4,5", "3", "-1e2", "NaN"], [4.5, 3, -100, np.nan]),
        (["yes", "No", "1", "TRUE"], [1, 0, 1, 1]),
        (["4/5", "4", "3/5"], [4, 4, 3]),
        ([None, ""], [np.nan, np.nan]),
    ],
)
def test_a_column_is_read_in_every_spelling(written: list[str | None], numbers: list[float]) -> None:
    np.testing.assert_array_equal(numbers_of(pa.chunked_array([pa.array(written, pa.string())])), numbers)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (["4", "great"], "'great' is no number; numbers, 4/5"),
        (["4/5", "8/10"], r"several scales \(5 and 10\)"),
        (["80 %", "0.8"], r"several scales \(% and without it\)"),
        (["4/5", "8"], "8 is above the end of the scale, 5"),
        (["yes", "4"], r"4 is above the end of the scale, 1 \(yes and no are 1 and 0\)"),
        (["true", "4/5"], r"several scales \(1 and 5\)"),
        (["6/5"], "'6/5' is above the end of the scale, 5"),
        (["inf"], "must be finite"),
    ],
)
def test_what_is_no_number_is_named(written: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        numbers_of(pa.chunked_array([written]))


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.floats(-1e6, 1e6).map(repr), st.integers().map(str), st.sampled_from(["", "n/a"])))
    | st.lists(st.one_of(st.floats(-1e6, 1).map(repr), st.sampled_from(["", "n/a", "yes", "no", "1"])))
)
def test_a_column_has_the_numbers_of_its_values(written: list[str]) -> None:
    expected = [math.nan if text in ("", "n/a") else number_of(text)[0] for text in written]
    np.testing.assert_array_equal(numbers_of(pa.chunked_array([pa.array(written, pa.string())])), expected)
