"""Every fault that a test causes for real: what is expected, and what was seen. The tests have the mark `fault`.

They take about half an hour on two cores. WINNOW_FAULTS=EXPRESSION in the environment runs those that match, as
`pytest -k` does. The services of a cluster are broken by `make cluster-test`. A whole run of the tests with
PYTEST_ADDOPTS="-p tests.fault_table" and WINNOW_FAULT_TABLE="/tmp/faults-{pid}.json" causes them all too;
WINNOW_FAULT_TABLES="FILE ..." prints what it wrote.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]

AREAS = {
    "faults": "Kills, disks, stops, two runs at once",
    "formats": "Files that are read",
    "ledger": "The ledger",
    "cli": "The terminal",
    "training": "Training and evaluation",
}
"""Folder of the tests -> heading. Others are together under the last heading."""

OTHERS = "Commands and steps"


def bench(data: Path | None) -> dict[str, list[dict[str, object]]]:
    """A row for each fault, by area."""
    if files := os.environ.get("WINNOW_FAULT_TABLES"):
        return _tables([case for file in files.split() for case in json.loads(Path(file).read_text("utf-8"))])
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "faults.json")
        words = [sys.executable, "-m", "pytest", "-m", "fault", "-p", "tests.fault_table", "-q", "--no-header", "tests"]
        chosen = os.environ.get("WINNOW_FAULTS")
        environment = {**os.environ, "WINNOW_FAULT_TABLE": str(table)}
        subprocess.run([*words, *(["-k", chosen] if chosen else [])], cwd=ROOT, env=environment, check=False)
        return _tables(json.loads(table.read_text(encoding="utf-8")))


def _tables(cases: list[dict[str, str]]) -> dict[str, list[dict[str, object]]]:
    outcomes: dict[tuple[str, str, str, str], Counter[str]] = {}
    for case in cases:
        test = case["test"].partition("[")[0]
        area = next((AREAS[part] for part in test.split("/") if part in AREAS), OTHERS)
        outcomes.setdefault((area, case["fault"], case["expected"], test), Counter())[case["outcome"]] += 1
    tables: dict[str, list[dict[str, object]]] = {}
    for (area, fault, expected, test), counts in sorted(outcomes.items()):
        name = test.rpartition("::")[2]
        tables.setdefault(area, []).append({"fault": fault, "expected": expected, "seen": _seen(counts), "test": name})
    return tables


def _seen(counts: Counter[str]) -> str:
    total = counts.total()
    if counts["passed"] == total:
        return "as expected" + (f", {total} cases" if total > 1 else "")
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
