"""A recorded run whose transforms change rows: one transform or several, and a row that is dropped after its change."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.curate import curate
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import load
from tests.steps import record_run

RECIPE = """
name: rewritten
sources:
  - {name: mine, path: rows.jsonl, columns: {instruction: q, response: a}, condition: "direct,cot"}
stages:
  - {kind: repair}
  - {kind: thinking}
  - {kind: strip_thinking}
  - {kind: mask_pii}
  - {kind: length, max_chars: 400}
near_duplicates: false
tokenizer: {vocab_size: 512}
sampling: {context: 129}
"""


def build(folder: Path) -> RecordedRun:
    """Build and record the run of rows below `folder`."""
    rows = [{"q": f"What is {n} and {n}?", "a": f"It is {2 * n}."} for n in range(40)]
    rows[4]["a"] = "It\u200b is \u00e2\u20ac\u2122eight\u00e2\u20ac\u2122."
    rows[7]["a"] = "<think>Seven and seven.</think>It is 14. Call +1 650 253 0000."
    rows[9]["a"] = "Call +1 650 253 0000. " + "It is 18. " * 60
    rows[11] = dict(rows[10])
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(RECIPE)
    recipe = load(str(folder / "recipe.yaml"))
    with LocalEngine() as engine:
        run = Run(str(folder / "root"), engine)
        return record_run(run, recipe, curate(run, recipe), RECIPE)
