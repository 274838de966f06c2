"""What tasks print and warn reaches a log, bounded, and their results do not change."""

from __future__ import annotations

import logging
import sys
import warnings

import pytest

from flows.prefect.heard import MAX_LINES, MAX_STEP_LINES, HearingEngine
from pipelines.ledger.engine import LocalEngine


def noisy(number: int) -> int:
    print(f"item {number}")
    print("to stderr", file=sys.stderr)
    warnings.warn("an odd row", stacklevel=1)
    return number * 2


def loud(number: int) -> int:
    for line in range(MAX_LINES * 2):
        print(number, line)
    return number


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("workers", [1, 2])
def test_prints_and_warnings_are_logged_in_the_order_of_the_items(
    caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    with LocalEngine(workers) as engine:
        heard = HearingEngine(engine, logging.getLogger("heard"))
        assert list(heard.map(noisy, range(3))) == [0, 2, 4]
    assert [line for line in caplog.messages if line.startswith("item")] == ["item 0", "item 1", "item 2"]
    assert caplog.messages.count("to stderr") == 3
    assert workers == 1 or any("an odd row" in line for line in caplog.messages)  # pytest records those of its process


def test_a_print_per_row_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    with LocalEngine(1) as engine:
        assert list(HearingEngine(engine, logging.getLogger("heard")).map(loud, range(50))) == list(range(50))
    assert len(caplog.messages) == MAX_STEP_LINES + 1
    assert caplog.messages[-1].startswith("further lines")
