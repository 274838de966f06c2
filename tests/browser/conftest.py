"""Headless Chromium for the tests of pages, and the report of a run whose rows are hostile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from pipelines.audit.report import write_report
from pipelines.benchmarks import BENCHMARKS
from pipelines.curate import curate
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun, record_scores
from pipelines.recipe import load
from tests.chromium import ARGUMENTS, CHROMIUM
from tests.steps import record_run

HOSTILE = (
    "</pre></script><script>window.executed = 1</script><img src=x onerror='window.executed = 2'>"
    "<svg onload='window.executed = 3'><a href='javascript:window.executed = 4'>x</a>{{ 7 * 7 }}"
)
"""Texts of rows that would run something if they were markup anywhere."""

RECIPE = """
name: hostile
sources:
  - {name: mine, path: rows.jsonl, columns: {instruction: q, response: a}, condition: direct}
  - {name: "a-source-with-a-name-that-is-longer-than-a-phone-is-wide", path: more.jsonl,
     columns: {instruction: q, response: a}, condition: direct}
stages: [{kind: strip_thinking}, {kind: urls}, {kind: length, max_chars: 3000}, {kind: loop}]
near_duplicates: {instruction: 0.8, response: 0.8}
contamination: {benchmarks: [{name: generated, rows: 40}]}
tokenizer: {vocab_size: 512}
sampling: {epochs: 2, context: 257}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium. Of a module, not the session: while it is open, no test of its process can start an event
    loop."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """A run with every section of a report: hostile texts that are kept, dropped, duplicated and near a test item; with
    a training and a score."""
    folder = tmp_path_factory.mktemp("hostile")
    generate = BENCHMARKS["generated"].generate
    assert generate is not None
    item = generate(40, 0).to_pylist()[7]
    rows = [
        {
            "q": f"What is {n} plus {n * n}? Explain it to a person of {n + 5} years. {HOSTILE}",
            "a": f"It is {n + n * n}.",
        }
        for n in range(150)
    ]
    rows[3] = dict(rows[2])
    rows[5]["a"] = HOSTILE + " " + " ".join(f"{n}, then {n + 1}." for n in range(1000))
    rows[8] = {"q": rows[7]["q"] + " Please.", "a": rows[7]["a"]}
    rows[11] = {"q": f"Answer this. {item['question']} {HOSTILE}", "a": item["answer"]}
    rows[13]["a"] = f"<think>{HOSTILE} hm</think> It is so."
    rows[17]["a"] = "https://a.example https://b.example"
    rows[19]["a"] = "no " * 400
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[60:90]))
    (folder / "recipe.yaml").write_text(RECIPE)
    recipe, root = load(str(folder / "recipe.yaml")), folder / "root"
    with LocalEngine() as engine:
        run = Run(str(root), engine)
        recorded = record_run(run, recipe, curate(run, recipe), RECIPE)
    checkpoint = root / "training" / "tiny" / "step-00000020"
    checkpoint.mkdir(parents=True)
    state = {"run_key": recorded.info["packs"], "config": {"name": "tiny"}, "total_steps": 20}
    (checkpoint / "checkpoint.json").write_text(json.dumps(state))
    lines = [{"step": n, "loss": 5 / n, "validation_loss": 6 / n if n % 5 == 0 else None} for n in range(1, 21)]
    (checkpoint.parent / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    share = {"n": 20, "score": 0.5, "low": 0.3, "high": 0.7}
    score = {"benchmark": "generated", "checkpoint": str(checkpoint), "step": 20, "how": HOSTILE, "scorer": "exact"}
    record_scores(recorded, [score | {"all": share, "not_found": share, "found": None, "scorers": {}, "overlap": []}])
    return recorded


@pytest.fixture(scope="session")
def report(hostile_run: RecordedRun) -> Path:
    """The report of the hostile run."""
    return Path(write_report(hostile_run))
