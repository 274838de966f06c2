"""A plugin of pytest (`-p tests.fault_table`): what became of the tests with the mark `fault`, as JSON.

The file is that of the variable WINNOW_FAULT_TABLE, in which `{pid}` stands for the process: a list of objects with
fault, expected, test and outcome. A test with several cases has one entry for each.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

_marks: dict[str, tuple[str, str]] = {}
_outcomes: dict[str, str] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note which tests cause which faults."""
    for item in items:
        mark = item.get_closest_marker("fault")
        if mark is not None:
            fault, expected = mark.args
            _marks[item.nodeid] = (fault, expected)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what became of a test. A failure while it was set up or cleaned up counts."""
    before = _outcomes.get(report.nodeid, "passed")
    if report.outcome != "passed" or report.when == "call":
        _outcomes[report.nodeid] = report.outcome if before == "passed" else before


def pytest_sessionfinish() -> None:
    """Write the file."""
    rows = [
        {"fault": fault, "expected": expected, "test": test, "outcome": _outcomes.get(test, "not run")}
        for test, (fault, expected) in _marks.items()
    ]
    path = os.environ["WINNOW_FAULT_TABLE"].replace("{pid}", str(os.getpid()))
    Path(path).write_text(json.dumps(rows), encoding="utf-8")
