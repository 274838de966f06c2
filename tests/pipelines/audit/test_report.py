"""The report says what the ledger says, in sentences, charts and rows, and reads a bounded part of a large run."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from filters.length import Length
from filters.verdict import collect_checks
from pipelines.audit.clusters import STEPS
from pipelines.audit.report import facts, render
from pipelines.audit.report.flow import _lay, _stages
from pipelines.audit.report.rows import MAX_PACKED, packed
from pipelines.audit.report.samples import sample, some_files
from pipelines.audit.report.thresholds import measure
from pipelines.audit.report.verdicts import verdicts
from pipelines.export.facts import facts as corpus_facts
from pipelines.ledger import storage
from pipelines.ledger.corpus_manifest import Selection
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun
from tests.steps import records_of


def test_the_verdicts_are_a_sentence_for_each_area(fates: RecordedRun) -> None:
    known = facts(fates)
    found = {verdict.area: verdict.text for verdict in verdicts(known)}
    kept = fates.records.rows_kept or 0
    assert found["Kept"].startswith(f"{kept:,} of 122 rows were kept")
    assert "repeated another row: 1 exactly and 0 nearly" in found["Duplicates"]
    assert "1 of the 40 test questions" in found["Leaks"] and "1 row was dropped" in found["Leaks"]
    assert "does not remove" in found["Thinking"]
    assert "name no licence" in " ".join(verdict.text for verdict in verdicts(known))


def test_a_leak_that_stays_needs_attention(fates: RecordedRun) -> None:
    known = facts(fates)
    known["contamination"]["benchmarks"][0]["remaining"] = 3
    leaks = next(verdict for verdict in verdicts(known) if verdict.area == "Leaks")
    assert leaks.state == "attention" and "3 of these questions are still in the corpus" in leaks.text


def test_the_reasons_add_up_to_the_rows_dropped_in_report_and_documents(fates: RecordedRun) -> None:
    known, documents = facts(fates), corpus_facts(fates)
    dropped = known["rows_in"] - known["rows_kept"]
    assert sum(reason["rows"] for reason in known["reasons"]) == dropped
    assert sum(sum(reasons.values()) for reasons in documents.dropped.values()) == dropped
    tokens = fates.step("tokens")
    assert tokens is not None
    assert sum(reason["rows"] for reason in known["untrained"]) == tokens.rows_dropped
    assert sum(documents.untrained.values()) == tokens.rows_dropped


def test_a_corpus_of_a_manifest_claims_what_the_listed_run_did(fates: RecordedRun) -> None:
    known = facts(fates)
    known |= {"funnel": [], "contamination": None}
    for steps, says in (({*STEPS, "contamination"}, "in run first"), (set(), "Neither this run")):
        found = {v.area: v.text for v in verdicts(known | {"selection": Selection("first", frozenset(steps))})}
        assert says in found["Duplicates"] and says in found["Leaks"]


def test_the_flow_loses_no_row(fates: RecordedRun) -> None:
    known = facts(fates)
    groups = [[source] for source in known["sources"]]
    stages = _stages(groups, [step.step for step in fates.steps if step.kept == "records"], known["coverage"])
    assert sum(stages[0].taken) == known["rows_in"]
    for before, after in itertools.pairwise(stages):
        assert before.kept == after.taken
    assert sum(stages[-2].kept) == known["rows_kept"]
    assert sum(stages[-1].kept) == known["coverage"][0]["unique_rows"]
    shape = _lay([("a", "c1"), ("b", "c2")], stages, [1.0, 1.0], known["rows_in"], narrow=False)
    lost = sum(box["high"] - box["low"] for box in shape.boxes if box["colour"] == "var(--gone)")
    assert lost * known["rows_in"] == pytest.approx(known["rows_in"] - sum(stages[-1].kept), abs=2)


def test_rows_kept_by_source_are_those_of_the_corpus(fates: RecordedRun) -> None:
    shards = [pl.read_parquet(file.path, columns=["source"]) for file in fates.records.shards]
    counted = dict(pl.concat(shards)["source"].value_counts().iter_rows())
    assert {source["name"]: source["kept"] for source in facts(fates)["sources"]} == counted


def test_a_report_of_the_same_run_is_the_same(fates: RecordedRun) -> None:
    assert render(fates) == render(fates)


def test_a_run_that_failed_has_a_report_as_far_as_it_came(fates: RecordedRun) -> None:
    info = fates.info | {
        "status": "failed",
        "error": "the disk is full",
        "step": "refine",
        "wanted": ["ingest", "refine"],
    }
    for steps in ((), fates.steps[:1]):
        info["corpus"] = steps[0].key if steps else ""
        page = render(RecordedRun(fates.root, fates.id, info, steps))
        assert "the disk is full" in page and f"{len(steps)} of 2 steps are done" in page


def test_files_of_a_large_step_are_read_in_part_and_spread_over_all(tmp_path: Path) -> None:
    table = pa.table({"id": [f"s/{row}" for row in range(10)]})
    files = [storage.write_parquet(f"{tmp_path}/part-{number}.parquet", table) for number in range(100)]
    some = some_files(files, 10 * files[0].bytes)
    assert len(some) == 10 and some[0] is files[0] and some[-1] is files[-1]
    assert some_files(files, 100 * files[0].bytes) == files and not some_files([], 10)


def test_of_selections_so_many_are_read_as_the_text_behind_them_allows(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(0, 1 << 60, 2_000).tolist()
    text = pa.table({"id": [f"s/{row}" for row in range(2_000)], "response": [hex(n) * 9 for n in numbers]})
    behind = storage.write_parquet(f"{tmp_path}/steps/ingest-0/shards/part-0.parquet", text)
    files = [
        storage.write_selection(
            f"{tmp_path}/steps/drop-1/shards/part-{number}.parquet", behind, pa.array([number]),
            text.select(["id"]).slice(number, 1),
        )
        for number in range(40)
    ]  # fmt: skip
    assert storage.bytes_to_read(behind) == behind.bytes > 20 * files[0].bytes
    assert storage.bytes_to_read(files[0]) == behind.bytes + files[0].bytes
    assert 3 <= len(some_files(files, 4 * storage.bytes_to_read(files[0]))) <= 4


def test_a_sample_is_spread_over_the_rows_of_all_shards(tmp_path: object) -> None:
    tables = [pa.table({"id": [f"{part}/{row}" for row in range(100)]}) for part in range(5)]
    with LocalEngine() as engine:
        step = records_of(Run(str(tmp_path), engine), tables)
    rows = sample(step, 50, ["id"])["id"]
    assert rows.len() == rows.n_unique() == 50
    assert set(rows.str.split("/").list.first()) == {"0", "1", "2", "3", "4"}
    assert sample(step, 10_000, ["id"]).height == 500


def test_the_values_of_rows_that_stay_are_those_that_the_filter_compares() -> None:
    texts = ["a" * length for length in (10, 50, 200)]
    table = pa.table({"instruction": [""] * 3, "response": texts})
    with collect_checks() as checks:
        Length(max_chars=100).judge(table)
    (check,) = [one for one in checks if one.threshold == 100]
    assert np.asarray(check.value).tolist() == [11, 51, 201] and check.failed.tolist() == [False, False, True]
    evidence = pl.DataFrame({"name": ["length/too_long"], "value": [500.0], "threshold": [100.0]})
    found = measure([{"kind": "length", "max_chars": 100}], pl.DataFrame(table), evidence, {"length/too_long": 1})
    one = next(one for one in found if one.reason == check.reason)
    assert one.nearest == 51 and one.above


def test_rows_for_the_search_are_cut_until_they_fit() -> None:
    rng = np.random.default_rng(0)
    letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz "), (3000, 1500))
    lines = [
        {"id": str(number), "reason": "a/b", "instruction": "".join(text), "response": "", "twin": None, "span": None}
        for number, text in enumerate(letters)
    ]
    assert len(packed(lines)) <= MAX_PACKED
