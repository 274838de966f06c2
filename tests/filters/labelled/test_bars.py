"""The bars of the filters' verdicts on the labelled set."""

from __future__ import annotations

from pathlib import Path

import pytest

from filters.stage import apply
from pipelines import recipe as recipes
from tests.filters.labelled import gold
from tests.filters.labelled.rows import KINDS, score

RECIPE = Path(__file__).parents[3] / "pipelines" / "recipes" / "hrm_text_mini.yaml"
MIN_PRECISION, MIN_RECALL = 0.95, 0.90
MAX_GOLD_LOSS = 0.001


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_is_precise_and_finds_what_it_is_for(kind: str) -> None:
    result = score(kind, None, True)
    assert result.precision.total >= 50 and result.recall.total >= 50, "too few rows to say"
    assert result.precision.value >= MIN_PRECISION, result.mistakes
    assert result.recall.value >= MIN_RECALL, result.mistakes


def test_gold_sources_lose_less_than_one_row_in_a_thousand(shared_data: Path) -> None:
    records = gold.records(shared_data)
    outcome = apply(recipes.load(str(RECIPE)).stages, records)
    assert outcome.dropped.num_rows < MAX_GOLD_LOSS * records.num_rows, outcome.dropped["reason"].value_counts()
