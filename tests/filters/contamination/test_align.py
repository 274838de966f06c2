"""The table of an alignment, of which most lines are not computed, against one of which each cell is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.contamination.align import (
    _CONTINUED,
    _MATCH,
    _NEW,
    _SKIP_INDEX,
    _SKIP_TEXT,
    _fill_steps,
    _find_repeats,
)


def every_cell(text: list[int], part: list[int], base: int, width: int) -> npt.NDArray[np.uint8]:
    """The steps of all cells: uint8 [len(part) + 1, width]. Column k of line a is text token base + a + k."""
    score = np.zeros((len(part) + 1, width + 1), np.int64)
    step = np.zeros((len(part) + 1, width), np.uint8)
    for a, token in enumerate(part, start=1):
        left = 0
        for k in range(width):
            value, move = score[a - 1, k + 1], _SKIP_INDEX
            if left > value:
                value, move = left, _SKIP_TEXT
            place = base + a + k
            if 0 <= place < len(text) and text[place] == token:
                match = score[a - 1, k] + (_CONTINUED if step[a - 1, k] == _MATCH else _NEW)
                if match >= value:
                    value, move = match, _MATCH
            score[a, k], step[a, k] = value, move
            left = value
    return step


tokens = st.lists(st.integers(0, 6) | st.integers(0, 1000), max_size=40)


@settings(max_examples=300, deadline=None)
@given(tokens, tokens, st.integers(-45, 45), st.integers(1, 30))
def test_lines_that_are_not_computed_are_as_if_they_were(
    text: list[int], part: list[int], base: int, width: int
) -> None:
    hashes = np.array(text, np.uint64)
    table, following = np.full(128, -7, np.int32), np.full(len(text), -7, np.int32)
    _find_repeats(hashes, table, following)
    score, step = np.zeros(len(part) + width + 1, np.int32), np.full((len(part) + 1, width), 9, np.uint8)
    step[0] = 0
    _fill_steps(hashes, table, following, np.array(part, np.uint64), base, width, score, step)
    np.testing.assert_array_equal(step, every_cell(text, part, base, width))
