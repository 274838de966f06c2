"""`winnow calibrate`: ratings are joined to the rows and scores of a run."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from filters.cut import ScoreCut
from filters.scores.holdout import held_out
from filters.scores.length import LengthScore
from filters.scores.table import TableScore
from flows.calibrate import CalibrateAnswer, calibrate_scores, withdraw
from flows.cli.app import app
from pipelines.audit import calibration
from pipelines.audit.report import render
from pipelines.audit.scoring import learned_rows, model_of, scores_of
from pipelines.audit.verify import verify
from pipelines.curate import curate
from pipelines.errors import InputError, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import CALIBRATION, RecordedRun, open_run, read_calibration
from pipelines.recipe import of_values
from pipelines.steps.scores import trained_rows
from tests.steps import record_run

WORDS = ("river", "stone", "quiet", "lamp", "winter", "bridge", "yellow", "seven", "market", "window")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "RESAMPLES", 100)
    monkeypatch.setattr(calibration, "ISOTONIC_RESAMPLES", 20)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """A run of 240 rows with a subject column and two scores, of which a cut has dropped some."""
    folder = tmp_path_factory.mktemp("rated")
    rng = np.random.default_rng(0)
    rows = [
        {"q": f"Tell me about {rng.choice(WORDS)} number {n}.", "a": " ".join(rng.choice(WORDS, rng.integers(8, 60))),
         "kind": ("maths", "code")[n % 2]}
        for n in range(240)
    ]  # fmt: skip
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns = {"instruction": "q", "response": "a"}
    source = {"name": "own", "path": str(folder / "rows.jsonl"), "columns": columns, "condition": "direct"}
    recipe = of_values(
        {"name": "rated", "sources": [{**source, "extra": ["kind"]}], "exact_duplicates": False,
         "near_duplicates": False, "tokenizer": {"vocab_size": 512}, "sampling": {"epochs": 1, "context": 65}}
    )  # fmt: skip
    with (folder / "table.csv").open("w") as file:
        csv.writer(file).writerows([("id", "score_by_hand"), *((f"own/rows/{n}", n) for n in range(240))])
    scores = (LengthScore(name="length"), TableScore(name="by_hand", path=str(folder / "table.csv")))
    recipe = recipe.model_copy(update={"scores": scores, "stages": (ScoreCut(name="length", top=0.7),)})
    with LocalEngine(1) as engine:
        work = Run(str(folder / "root"), engine)
        return record_run(work, recipe, curate(work, recipe))


def rows_of(run: RecordedRun) -> pl.DataFrame:
    shards = [*run.records.shards, *(shard for step in run.steps for shard in step.dropped)]
    columns = ["id", "instruction", "response", "kind"]
    return pl.DataFrame(pa.concat_tables([storage.read_parquet(shard.path, columns) for shard in shards])).sort("id")


def ratings_file(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def by_length(row: dict[str, Any]) -> int:
    return min(5, 1 + len(row["response"]) // 70)


def answer_of(run: RecordedRun, ratings: str, **options: Any) -> CalibrateAnswer:
    return calibrate_scores(run.id, [ratings], run.root, **options)


def test_ratings_by_id_reach_rows_that_were_kept_and_rows_that_were_dropped(run: RecordedRun, tmp_path: Path) -> None:
    rows = rows_of(run).to_dicts()
    assert len(rows) == 240 and run.records.rows_kept is not None and run.records.rows_kept < 200
    rated = [{"id": row["id"], "stars": by_length(row)} for row in rows] + [{"id": "own/rows/none", "stars": 3}]
    answer = answer_of(run, ratings_file(tmp_path / "r.jsonl", rated), subject="kind", out=str(tmp_path / "out"))
    assert (answer.ratings, answer.not_found) == (240, 1)
    assert any("own/rows/none" in note for note in answer.notes)
    length = next(one for one in answer.calibrations if one.score == "length")
    assert [group.subject for group in length.groups] == ["all", "code", "maths"]
    assert length.groups[0].score.spearman is not None and length.groups[0].score.spearman.value > 0.9
    assert any("orders the rows as length alone does" in warning for warning in length.warnings)
    joined = pl.read_parquet(tmp_path / "out" / "ratings.parquet")
    assert dict(zip(joined["id"], joined["score_length"], strict=True)) == {r["id"]: len(r["response"]) for r in rows}
    assert (tmp_path / "out" / "length.png").exists()


def test_the_same_rows_by_their_texts_have_the_same_agreement(run: RecordedRun, tmp_path: Path) -> None:
    rows = rows_of(run).to_dicts()
    by_id = [{"id": row["id"], "rating": by_length(row)} for row in rows]
    texts = [{"instruction": r["instruction"], "response": r["response"], "rating": by_length(r)} for r in rows]
    one = answer_of(run, ratings_file(tmp_path / "ids.jsonl", by_id), names=["length"])
    other = answer_of(run, ratings_file(tmp_path / "texts.jsonl", texts), names=["length"])
    # The table by id says nothing about texts.
    assert [group.score for group in one.calibrations[0].groups] == [g.score for g in other.calibrations[0].groups]
    with pytest.raises(InputError, match="by_hand: no rated row has this score"):
        answer_of(run, str(tmp_path / "texts.jsonl"), names=["by_hand"])


def test_agreement_of_raters_is_stated_of_raters_that_are_told_apart_only(run: RecordedRun, tmp_path: Path) -> None:
    rows = rows_of(run).to_dicts()
    once: list[dict[str, Any]] = [{"id": row["id"], "rating": by_length(row)} for row in rows]
    other = [{**row, "rating": max(1, row["rating"] - 1)} for row in once]
    named = [{**row, "rater": rater} for rows, rater in ((once, "x"), (other, "y")) for row in rows]
    answers = {
        name: answer_of(run, ratings_file(tmp_path / f"{name}.jsonl", lines), names=["length"])
        for name, lines in {"once": once, "twice": once + once, "unnamed": once + other, "named": named}.items()
    }
    assert [name for name, answer in answers.items() if answer.raters is not None] == ["named"]
    assert answers["twice"].calibrations == answers["once"].calibrations
    assert any("240 lines left out that repeat a line before" in note for note in answers["twice"].notes)
    assert any("with several ratings and no rater" in note for note in answers["unnamed"].notes)
    assert not answers["once"].notes and answers["unnamed"].ratings == 240


def test_pairs_are_measured_on_both_sides(run: RecordedRun, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = []
    for n in range(220):
        a, b = (" ".join(rng.choice(WORDS, rng.integers(5, 60))) for _ in "ab")
        sure = rng.random() < 0.8
        longer = "a" if len(a) > len(b) else "b"
        rows.append({"instruction": f"Write text {n}.", "response_a": a, "response_b": b,
                     "winner": longer if sure else "tie"})  # fmt: skip
    answer = answer_of(run, ratings_file(tmp_path / "pairs.jsonl", rows), names=["length"])
    group = answer.calibrations[0].groups[0]
    assert answer.pairs and group.ratings == 220
    assert group.score.auc is not None and group.score.auc.value > 0.99


def test_results_are_recorded_replaced_and_shown_in_the_report(run: RecordedRun, tmp_path: Path) -> None:
    rated = [{"id": row["id"], "a": by_length(row), "b": 3} for row in rows_of(run).to_dicts()]
    path = ratings_file(tmp_path / "two.jsonl", rated)
    before = len(read_calibration(run))
    for _ in range(2):
        answer_of(run, path, columns={"rating": ("a", "b")}, names=["length"])
    lines = read_calibration(run)
    assert len(lines) == before + 1
    page = render(open_run(run.root, run.id))
    assert "Agreement with people" in page and "two.jsonl" in page and "data:image/png;base64," in page
    assert "Krippendorff" in page and "orders the rows as length alone does" in page


def test_a_withdrawn_result_leaves_run_and_report_and_others_stay(run: RecordedRun, tmp_path: Path) -> None:
    rated = [{"id": row["id"], "rating": by_length(row)} for row in rows_of(run).to_dicts()]
    before = read_calibration(run)
    for name in ("kept.jsonl", "mistaken.jsonl"):
        rated = [row | {"rating": row["rating"] + len(name)} for row in rated]
        answer_of(run, ratings_file(tmp_path / name, rated), names=["length"])
    with pytest.raises(WinnowError, match=r"nothing to withdraw; recorded: .*--score length --ratings mistaken\.jsonl"):
        withdraw(run.id, ["other"], [], run.root)
    answer = withdraw(run.id, ["length"], [str(tmp_path / "mistaken.jsonl")], run.root)
    assert answer.withdrawn == (("length", ("mistaken.jsonl",)),)
    assert [line["files"] for line in read_calibration(run)] == [*(line["files"] for line in before), ["kept.jsonl"]]
    page = Path(run.folder, "report.html").read_text()
    assert "kept.jsonl" in page and "mistaken.jsonl" not in page
    verify(open_run(run.root, run.id))
    withdraw(run.id, [], [], run.root)
    assert read_calibration(run) == [] and not Path(run.folder, CALIBRATION).exists()
    verify(open_run(run.root, run.id))


def test_scores_in_a_file_need_no_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rated = [{"id": f"r{n}", "instruction": f"q {n}", "response": "x" * int(rng.integers(1, 90)), "stars": n % 5 + 1,
              "source": f"s{n % 3}"} for n in range(250)]  # fmt: skip
    with (tmp_path / "scores.csv").open("w") as file:
        lines = [(row["id"], row["stars"] + rng.normal(), "" if n % 2 else 1.5 * n) for n, row in enumerate(rated)]
        csv.writer(file).writerows([("id", "score_good", "score_half"), *lines])
    path = ratings_file(tmp_path / "rated.jsonl", rated)
    answer = calibrate_scores(None, [path], scores=[str(tmp_path / "scores.csv")])
    good, half = answer.calibrations
    assert (good.score, half.score, half.groups[0].missing) == ("good", "half", 125)
    assert good.groups[0].beats_length and good.groups[0].beats_source and not good.warnings
    assert answer.recorded is None
    result = CliRunner().invoke(app, ["calibrate", "--ratings", path, "--scores", str(tmp_path / "scores.csv")])
    assert result.exit_code == 0
    agreed, _, chance = result.stdout.partition("half")
    assert re.search(r"keeps 9\d % of the rows that people rate 4 or more", agreed)
    head, units, line = agreed.partition("\n  subject")[2].split("\n")[:3]
    assert "length alone" in head and units.count("Spearman, AUC") == 2
    length = good.groups[0].length
    assert length.spearman is not None and length.auc is not None
    assert f"{length.spearman.value:.2f}, {length.auc.value:.2f}" in line
    assert "keeps" not in chance and not half.agrees and not half.thresholds
    as_json = CliRunner().invoke(
        app, ["calibrate", "--ratings", path, "--scores", str(tmp_path / "scores.csv"), "--json"]
    )
    assert json.loads(as_json.stdout)["calibrations"][0]["score"] == "good"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecordedRun, pl.DataFrame]:
    """A run with a classifier of responses, one of both fields, and a blend of the first; and its rows with `held`."""
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(4)
    rows = [
        {"q": f"What is thing {n}?", "stars": (1, 5)[n % 2],
         "a": " ".join([*rng.choice(WORDS, 8), *rng.choice((WORDS[:5], WORDS[5:])[n % 2], 4),
                        chr(97 + n % 10) * (2 + n // 10)])}
        for n in range(300)
    ]  # fmt: skip
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"name": "own", "path": str(folder / "rows.jsonl"), "columns": {"instruction": "q", "response": "a"},
              "condition": "direct", "extra": ["stars"]}  # fmt: skip
    labels = {"positives": {"column": "stars", "min": 4}, "negatives": {"column": "stars", "max": 2}}
    scores = [
        {"kind": "classifier", "name": "words", **labels},
        {"kind": "classifier", "name": "both", "on": "both", **labels},
        {"kind": "blend", "name": "blended", "of": ["words"], **labels},
    ]
    recipe = of_values(
        {"name": "trained", "sources": [source], "scores": scores, "exact_duplicates": False, "near_duplicates": False,
         "stages": [{"kind": "score", "name": "words", "top": "50 %"}],
         "tokenizer": {"vocab_size": 512}, "sampling": {"epochs": 1, "context": 65}}
    )  # fmt: skip
    with LocalEngine(1) as engine:
        work = Run(str(folder / "root"), engine)
        run = record_run(work, recipe, curate(work, recipe))
    table = pl.DataFrame(rows).with_columns(held=held_out(pa.table({"instruction": [row["q"] for row in rows]})))
    return run, table


def test_a_row_counts_as_trained_on_if_what_the_score_reads_is_what_it_was_trained_on(
    trained: tuple[RecordedRun, pl.DataFrame], tmp_path: Path
) -> None:
    run, rows = trained
    learned = int((~rows["held"]).sum())
    assert 200 < learned < 280
    asked = {
        "same": ("{q}", "{a}", {"words": learned, "both": learned, "blended": learned}),
        "other question": ("Tell me: {q}", "{a}", {"words": learned, "both": 0, "blended": learned}),
        "other case": ("{q}", "{A}", {"words": learned, "both": learned, "blended": learned}),
        "other answer": ("{q}", "{a} {a}", {"words": 0, "both": 0, "blended": 0}),
    }
    for name, (question, answer, expected) in asked.items():
        texts = [{"q": row["q"], "a": row["a"], "A": row["a"].upper()} for row in rows.to_dicts()]
        table = pa.table(
            {"id": [f"rated {n}" for n in range(len(texts))],
             "instruction": [question.format(**text) for text in texts],
             "response": [answer.format(**text) for text in texts]}
        )  # fmt: skip
        assert {one.name: int(learned_rows(run, one, table).sum()) for one in scores_of(run)} == expected, name
    # Of pairs, those of which one side was trained on are left out.
    pairs = [
        {"instruction": f"Which {n}?", "response_a": text, "response_b": f"{text} {text}", "winner": "ab"[n % 2]}
        for n, text in enumerate(rows["a"])
    ]
    result = answer_of(run, ratings_file(tmp_path / "pairs.jsonl", pairs), names=["words"])
    assert result.calibrations[0].groups[0].missing == learned
    assert result.notes == (f"words: {learned} rated rows left out that it was trained on",)


def test_rows_trained_on_are_counted_without_those_held_out(trained: tuple[RecordedRun, pl.DataFrame]) -> None:
    run, rows = trained
    for score in scores_of(run):
        step = model_of(run, score)
        assert step is not None
        kept = trained_rows(step)
        labels = {"positive": rows["stars"] == 5, "negative": rows["stars"] == 1}
        assert kept == {label: int((mine & ~rows["held"]).sum()) for label, mine in labels.items()}
        held = {label: int((mine & rows["held"]).sum()) for label, mine in labels.items()}
        assert {label: step.counts[f"held_out/{label}"] for label in labels} == held


def test_mistakes_are_named(run: RecordedRun, tmp_path: Path) -> None:
    path = ratings_file(tmp_path / "r.jsonl", [{"id": f"own/rows/{n}", "stars": 3} for n in range(20)])
    with pytest.raises(InputError, match="all ratings are 3"):
        answer_of(run, path)
    with pytest.raises(WinnowError, match="--score lenght: no such score; did you mean 'length'"):
        answer_of(run, path, names=["lenght"])
    few = ratings_file(tmp_path / "few.jsonl", [{"id": f"own/rows/{n}", "stars": n} for n in range(1, 4)])
    with pytest.raises(InputError, match="length: 3 rated rows have this score, 10 are needed"):
        answer_of(run, few)
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        answer_of(run, str(tmp_path / "none.csv"))
    stranger = ratings_file(tmp_path / "s.jsonl", [{"id": f"other:{n}", "stars": n % 5} for n in range(20)])
    with pytest.raises(InputError, match=r"none of the ratings is of a row of run rated-\w+: other:0, other:1"):
        answer_of(run, stranger)
    with pytest.raises(WinnowError, match="name a run"):
        calibrate_scores(None, [path])
    given = tmp_path / "given.csv"
    given.write_text("id,score_good\n" + "".join(f"other:{n},{n % 7}\n" for n in range(15)))
    with pytest.raises(InputError, match=r"given\.csv: has no score of any rated id \(own/rows/0, own/rows/1"):
        calibrate_scores(None, [path], scores=[str(given)])
    answer = calibrate_scores(None, [stranger], scores=[str(given)])
    assert answer.notes[0].startswith(f"5 ratings of ids without a score in {given}: other:15, other:16")
    spread = ratings_file(tmp_path / "spread.jsonl", [{"id": f"own/rows/{n}", "stars": n % 5} for n in range(40)])
    for cut, what in ((9, "no row is good"), (0, "all rows are good")):
        with pytest.raises(WinnowError, match=f"--cut {cut}: the ratings are from 0 to 4, so {what}"):
            answer_of(run, spread, cut=cut)


def test_raters_whose_ratings_do_not_overlap_are_named(run: RecordedRun, tmp_path: Path) -> None:
    rows = [{"id": f"own/rows/{n}", "rater_a": 1 + n % 5, "rater_b": 20 * (1 + n % 5)} for n in range(40)]
    notes = answer_of(run, ratings_file(tmp_path / "two.jsonl", rows)).notes
    assert any("one rater gave 1 to 5, another 20 to 100" in note for note in notes)
    same = [{**row, "rater_b": row["rater_a"]} for row in rows]
    assert not any("one rater gave" in note for note in answer_of(run, ratings_file(tmp_path / "s.jsonl", same)).notes)
