"""An analysis counts what filters and cuts would drop, without dropping a row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.stage import Filter
from filters.verdict import collect_checks
from flows.analyze import AnalysisAnswer, analyze
from flows.cli.analyze import analysis_lines
from pipelines.audit.analysis import bins_of, value_of_bin
from pipelines.curate import STEPS, curate
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.recipe import load

RECIPE = """
name: analysed
sources:
  - {name: short, path: short.jsonl, columns: {instruction: q, response: a}, condition: direct}
  - {name: long, path: long.jsonl, columns: {instruction: q, response: a}, condition: direct}
stages:
  - {kind: thinking}
  - {kind: strip_thinking}
  - {kind: length, min_chars: 18, max_chars: 300}
  - {kind: urls}
  - {kind: score, name: length, min: 10, max: 200}
scores: [{kind: length}]
near_duplicates: false
tokenizer: {vocab_size: 512}
sampling: {context: 129}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("analysed")
    short = [{"q": f"Is {n} odd?", "a": "yes" if n % 2 else f"no, {n} is even"} for n in range(300)]
    short[3]["a"] = "<think>all of it</think>"
    short[5]["a"] = "https://a.example/b"
    long = [{"q": f"Count to {n}.", "a": " ".join(str(k) for k in range(n))} for n in range(1, 121)]
    for name, rows in (("short", short), ("long", long)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def answer(folder: Path) -> AnalysisAnswer:
    return analyze(str(folder / "recipe.yaml"), str(folder / "root"), "local", 1)


def test_the_filters_would_drop_what_a_build_drops(folder: Path, answer: AnalysisAnswer) -> None:
    with LocalEngine() as engine:
        corpus = curate(Run(str(folder / "root"), engine), load(str(folder / "recipe.yaml")), steps=STEPS[:2])
    refine = corpus.steps["refine"]
    assert answer.rows == refine.rows_in == 420 and answer.dropped == refine.rows_dropped
    dropped = pl.concat([pl.DataFrame(storage.read_parquet(file.path)) for file in refine.dropped])
    assert {name: rows.dropped for name, rows in answer.sources.items()} == dict(
        dropped.group_by("source").len().iter_rows()
    )
    select = corpus.steps["select"]
    reasons = {f"{one.stage}/{one.reason}": one.today for one in answer.measures if one.stage == "score"}
    for drops, reason in (("below", "length_below_min"), ("above", "length_above_max")):
        today = reasons[f"score/length, {drops}"]
        assert today is not None and today.rows == select.reasons.get(f"score/{reason}", 0)


def test_every_check_counts_the_rows_that_it_alone_drops(folder: Path, answer: AnalysisAnswer) -> None:
    recipe = load(str(folder / "recipe.yaml"))
    (ingest,) = Path(answer.root, "steps").glob("ingest-*")
    records = pa.concat_tables([storage.read_parquet(str(file)) for file in sorted(ingest.rglob("*.parquet"))])
    for stage in recipe.stages[:1] + recipe.stages[2:4]:
        assert isinstance(stage, Filter)
        if stage.kind == "length":
            records = recipe.stages[1].rewrite(records)  # type: ignore[union-attr]
        with collect_checks() as checks:
            stage.judge(records)
        for check in checks:
            measure = next(one for one in answer.measures if (one.stage, one.reason) == (stage.kind, check.reason))
            assert measure.today is not None and measure.today.rows == int(np.sum(check.failed))
            assert measure.today.rows == sum(measure.today.by_source.values()) and measure.rows == 420
            assert measure.today.value == check.threshold
            values = np.asarray(check.value, np.float64)
            for limit in measure.others:
                beyond = values > limit.value * 1.008 if measure.drops == "above" else values < limit.value
                more = values > limit.value if measure.drops == "above" else values < limit.value * 1.008
                assert int(beyond.sum()) <= limit.rows <= int(more.sum()) or limit.value <= 0


def test_another_limit_drops_as_many_rows_as_the_analysis_says(folder: Path, answer: AnalysisAnswer) -> None:
    """Tried as a user would, with `--set`. Checks whose limit is no parameter of the stage offer none."""
    keys = {"too_short": "min_chars", "too_long": "max_chars"}
    for measure in answer.measures:
        if measure.stage != "length" or measure.reason not in keys:
            continue
        assert len(measure.others) >= 2
        for limit in measure.others:
            setting = f"stages.length.{keys[measure.reason]}={limit.value:g}"
            tried = analyze(str(folder / "recipe.yaml"), str(folder / "root"), "local", 1, (setting,))
            (same,) = (one for one in tried.measures if (one.stage, one.reason) == (measure.stage, measure.reason))
            assert same.today is not None and same.today.rows == limit.rows
            assert same.today.by_source == limit.by_source
    assert not any(one.others for one in answer.measures if one.stage in ("thinking", "urls"))


def test_a_histogram_holds_every_row_and_spans_the_limit(answer: AnalysisAnswer) -> None:
    measures = {f"{one.stage}/{one.reason}": one for one in answer.measures}
    for measure in answer.measures:
        assert sum(measure.bars) == measure.rows
        assert (
            measure.today is None
            or measure.drops is None
            or (measure.edges[0] <= measure.today.value <= measure.edges[-1])
        )
    assert measures["length/too_short"].drops == "below" and measures["length/too_long"].drops == "above"
    assert measures["urls/urls_only"].today is not None and measures["urls/urls_only"].today.by_source == {"short": 1}
    assert measures["thinking/thinking_without_answer"].drops is None, "it occurs or not: there is no limit to choose"


def test_the_lines_name_every_check_with_its_limit_and_the_sources(answer: AnalysisAnswer) -> None:
    text = "\n".join(map(str, analysis_lines(answer)))
    for measure in answer.measures:
        assert f"{measure.stage}/{measure.reason}" in text
    assert "rows (below 18)" in text and "would drop" in text and "short 1" in text


def test_nothing_is_computed_again(folder: Path, answer: AnalysisAnswer) -> None:
    steps = {path: path.stat().st_mtime_ns for path in Path(answer.root, "steps").rglob("*") if path.is_file()}
    assert analyze(str(folder / "recipe.yaml"), answer.root, "local", 1) == answer
    assert steps == {path: path.stat().st_mtime_ns for path in Path(answer.root, "steps").rglob("*") if path.is_file()}


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_bins_are_in_the_order_of_values_and_as_narrow_as_one_in_128(values: list[float]) -> None:
    numbers = np.sort(np.array(values, np.float32))
    bins = bins_of(numbers)
    assert (np.diff(bins) >= 0).all()
    for number, bin in zip(numbers.tolist(), bins.tolist(), strict=True):
        low, high = value_of_bin(bin), value_of_bin(bin + 1)
        assert low <= number <= high or not np.isfinite(high)
        if abs(number) > 1e-30 and np.isfinite(high):
            assert high - low <= abs(number) / 100
