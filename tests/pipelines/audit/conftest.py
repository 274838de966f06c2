"""Recorded runs: a small one in which rows meet every fate, and one whose corpus had many duplicates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.benchmarks import BENCHMARKS
from pipelines.curate import curate
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import load
from tests.pipelines.audit import duplicated, rewritten_rows
from tests.steps import record_run

RECIPE = """
name: fates
sources:
  - {name: mine, path: rows.jsonl, columns: {instruction: q, response: a}, condition: direct}
  - {name: whole, path: whole.jsonl, columns: {instruction: q, response: a}, condition: direct}
stages: [{kind: urls}, {kind: length, max_chars: 20000}]
near_duplicates: {instruction: 0.8, response: 0.8}
contamination: {benchmarks: [{name: generated, rows: 40}]}
tokenizer: {vocab_size: 512}
sampling:
  epochs: 2
  context: 129
  validation: 0.2
  groups: [{prefix: mine, max_per_file: 40}, {prefix: whole, long_context: drop}]
"""


def build(folder: Path, root: Path) -> RecordedRun:
    """Build and record the run of the rows below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    generate = BENCHMARKS["generated"].generate
    assert generate is not None
    item = generate(40, 0).to_pylist()[7]
    texts = [f"What is {n} plus {n * n}? Explain it to a person of {n + 5} years." for n in range(120)]
    rows = [{"q": text, "a": f"It is {n + n * n}, since {n} and {n * n} are added."} for n, text in enumerate(texts)]
    rows[3]["a"] = ""
    rows[5]["a"] = "A long answer: " + " ".join(f"{n}, then {n + 1}." for n in range(100))
    rows[8]["q"] = "A long question: " + " ".join(f"is {n * n} more than {n * 7}?" for n in range(100))
    rows[11] = {"q": f"Answer this. {item['question']}", "a": item["answer"]}
    rows[14] = dict(rows[13])
    rows[17]["a"] = "https://a.example https://b.example"
    long = [{"q": f"Count from {n}.", "a": " ".join(str(n * k) for k in range(200))} for n in (3, 7)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "whole.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long))
    (folder / "recipe.yaml").write_text(RECIPE)
    recipe = load(str(folder / "recipe.yaml"))
    with LocalEngine() as engine:
        run = Run(str(root), engine)
        return record_run(run, recipe, curate(run, recipe), RECIPE)


@pytest.fixture(scope="session")
def fates(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """The run, for tests that change nothing in it."""
    folder = tmp_path_factory.mktemp("fates")
    return build(folder, folder / "root")


@pytest.fixture(scope="session")
def rewritten(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """A run whose transforms changed rows, for tests that change nothing in it."""
    return rewritten_rows.build(tmp_path_factory.mktemp("rewritten"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """A run with many exact and near duplicates."""
    return duplicated.build(tmp_path_factory.mktemp("twins"))
