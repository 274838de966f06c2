"""The bars of the filters' verdicts on the labelled set."""

from __future__ import annotations

import pytest

from tests.filters.labelled.rows import KINDS, score

MIN_PRECISION, MIN_RECALL = 0.95, 0.90


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_is_precise_and_finds_what_it_is_for(kind: str) -> None:
    result = score(kind, None, True)
    assert result.precision.total >= 50 and result.recall.total >= 50, "too few rows to say"
    assert result.precision.value >= MIN_PRECISION, result.mistakes
    assert result.recall.value >= MIN_RECALL, result.mistakes
