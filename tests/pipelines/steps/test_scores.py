"""Scores, their models and cuts at them, as steps of a recipe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from filters.cut import ScoreCut
from filters.length import Length
from filters.scores.blend import Blend
from filters.scores.length import LengthScore
from filters.scores.score import Choices, Rows, Score, TrainedScore
from filters.scores.table import TableScore
from pipelines.audit.quality import cut_warnings
from pipelines.audit.report import facts, render
from pipelines.audit.scoring import score_table
from pipelines.audit.verify import verify
from pipelines.audit.why import why
from pipelines.check import check, load_checked
from pipelines.curate import SCORE_STEPS, Corpus, curate, wanted
from pipelines.errors import CheckFailed, InputError, RecipeError, RunError, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.score_tables import ScoreWriter
from pipelines.recipe import NearDuplicates, Recipe, Sampling, of_values
from pipelines.steps import ingest
from pipelines.steps.pack import values_without_rows
from pipelines.steps.products import MEASURES, MODEL, ROW_FATES, TRAINING_ROWS
from tests.steps import record_run


class Marks(TrainedScore):
    """The share of bytes that are more frequent among the good rows, by a table of 256 log ratios."""

    kind: Literal["marks"] = "marks"
    good: Choices
    bad: Choices

    @property
    def training(self) -> dict[str, tuple[Rows, ...]]:
        return {"good": self.good, "bad": self.bad}

    def train(self, rows: pa.Table, path: str) -> dict[str, float]:
        counts = {}
        for label in self.training:
            text = "".join(rows.filter(pc.equal(rows["label"], label))["response"].to_pylist())
            counts[label] = 1 + np.bincount(np.frombuffer(text.encode(), np.uint8), minlength=256)
        ratio = np.log(counts["good"] / counts["good"].sum()) - np.log(counts["bad"] / counts["bad"].sum())
        Path(path).write_bytes(ratio.astype(np.float32).tobytes())
        return {"rows": float(rows.num_rows)}

    def measure(self, records: pa.Table, model: str | None = None) -> pa.Table:
        assert model is not None
        ratio = np.fromfile(model, np.float32)
        values = [
            float(np.mean(ratio[np.frombuffer(text.encode(), np.uint8)])) if text else None
            for text in records["response"].to_pylist()
        ]
        return pa.table([pa.array(values, pa.float32())], schema=pa.schema(self.columns))


class Topic(Score):
    """Whether a row has digits."""

    kind: Literal["topic"] = "topic"

    @property
    def columns(self) -> tuple[pa.Field, ...]:
        return (pa.field(self.name, pa.string()),)

    def measure(self, records: pa.Table, model: str | None = None) -> pa.Table:
        digits = pc.match_substring_regex(records["response"], r"\d")
        return pa.table([pc.if_else(digits, "numbers", "words")], schema=pa.schema(self.columns))


MARKS = Marks(
    name="marks", good=(Rows(column="stars", min=4),), bad=(Rows(column="stars", max=2), Rows(dropped=("length",)))
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 rated rows: good ones of vowels, bad ones of consonants; 10 short ones; two equal texts; 20 rows unrated."""
    folder = tmp_path_factory.mktemp("rated")
    random = np.random.default_rng(3)
    lines = []
    for number in range(300):
        stars = number % 5 + 1
        letters = "aeiou" if stars >= 4 else "xzqwk" if stars <= 2 else "aexzk"
        answer = "".join(random.choice(list(letters), 20)) + (f" {number}" if number % 3 else "")
        lines.append({"q": f"What is thing {number}?", "a": answer, "stars": stars, "url": f"u{number}"})
    lines += [{"q": f"Short {number}?", "a": "zz", "stars": 5, "url": ""} for number in range(10)]
    lines += [{**lines[3], "url": "again"}]
    (folder / "rated.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    plain = [{"q": f"Plain {number}?", "a": "aeiou and more words here"} for number in range(20)]
    (folder / "plain.jsonl").write_text("\n".join(map(json.dumps, plain)) + "\n")
    return folder


def recipe_of(folder: Path, *cuts: ScoreCut, **changes: object) -> Recipe:
    columns = {"instruction": "q", "response": "a"}
    recipe = of_values(
        {
            "name": "scored",
            "sources": [
                {"name": "rated", "path": str(folder / "rated.jsonl"), "columns": columns, "condition": "direct",
                 "extra": ["stars", "url"]},
                {"name": "plain", "path": str(folder / "plain.jsonl"), "columns": columns, "condition": "direct"},
            ],
            "exact_duplicates": {"fields": ["instruction", "response"]},
            "near_duplicates": False,
            "tokenizer": {"vocab_size": 512},
            "sampling": {"epochs": 1, "context": 65},
        }
    )  # fmt: skip
    stages = (Length(min_chars=20), *cuts)
    return recipe.model_copy(update={"scores": (Topic(name="topic"), MARKS), "stages": stages, **changes})


TOP = ScoreCut(name="marks", top=0.25, within=("source", "topic"))


def built(root: Path, recipe: Recipe, workers: int = 1) -> Corpus:
    with LocalEngine(workers) as engine:
        return curate(Run(str(root), engine), recipe)


def table_of(corpus: Corpus, step: str) -> pa.Table:
    return pa.concat_tables([storage.read_parquet(shard.path) for shard in corpus.steps[step].shards])


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe, Corpus]:
    root = tmp_path_factory.mktemp("root")
    recipe = recipe_of(folder, TOP)
    return root, recipe, built(root, recipe)


def test_stages_scores_and_cuts_are_steps_in_the_order_written(folder: Path) -> None:
    names = [step.name for step in wanted(recipe_of(folder, TOP))]
    assert names[:6] == ["ingest", "refine", "score-topic", "train-marks", "score-marks", "select"]
    later = recipe_of(folder, TOP).model_copy(update={"stages": (TOP, Length(), ScoreCut(name="marks", min=0))})
    names = [step.name for step in wanted(later)]
    assert names[:8] == [
        "ingest",
        "refine",
        "score-topic",
        "train-marks",
        "score-marks",
        "select",
        "refine-2",
        "select-2",
    ]
    assert "select" in [step.name for step in wanted(recipe_of(folder))], "without a cut the scores become columns"
    assert not {"select"} & {step.name for step in wanted(recipe_of(folder, scores=()))}


def test_records_carry_the_declared_columns_and_rows_without_one_an_empty_text(
    made: tuple[Path, Recipe, Corpus],
) -> None:
    rows = pl.DataFrame(table_of(made[2], "ingest"))
    assert rows.filter(source="plain")["stars"].unique().to_list() == [""]
    assert set(rows.filter(source="rated")["stars"]) == set("12345")
    assert {"score_marks", "topic"} <= set(table_of(made[2], "exact-duplicates").column_names)


def test_the_rows_that_stay_are_the_highest_of_their_group(made: tuple[Path, Recipe, Corpus]) -> None:
    kept = pl.DataFrame(table_of(made[2], "select"))
    dropped = pl.concat([pl.DataFrame(storage.read_parquet(file.path)) for file in made[2].steps["select"].dropped])
    rows = pl.concat([kept, dropped.select(kept.columns)])
    assert sorted(rows["id"]) == sorted(pl.DataFrame(table_of(made[2], "refine"))["id"])
    for (source, topic), own in rows.group_by("source", "topic"):
        ordered = own["score_marks"].sort(descending=True)
        limit = ordered[-(-len(ordered) // 4) - 1]
        stay = kept.filter((pl.col("source") == source) & (pl.col("topic") == topic))
        assert sorted(stay["id"]) == sorted(own.filter(pl.col("score_marks") >= limit)["id"])


def test_a_dropped_row_carries_score_threshold_group_and_the_digest_of_the_model(
    made: tuple[Path, Recipe, Corpus],
) -> None:
    root, recipe, corpus = made
    digest = corpus.steps["train-marks"].file(MODEL).digest
    file = corpus.steps["select"].dropped[0]
    row = storage.read_parquet(file.path).to_pylist()[0]
    evidence = json.loads(row["evidence"])
    assert (row["stage"], row["reason"]) == ("score", "marks_not_in_top")
    assert evidence["model"] == digest and evidence["value"] < evidence["threshold"]
    assert evidence["value"] == pytest.approx(row["score_marks"], abs=1e-5)
    assert evidence["group"] == {"source": row["source"], "topic": row["topic"]} and evidence["top"] == 0.25
    with LocalEngine() as engine:
        run = Run(str(root), engine)
        recorded = record_run(run, recipe, curate(run, recipe))
    fate = why(recorded, row["id"])
    assert fate.history[-1].step == "select" and fate.history[-1].evidence == evidence
    verify(recorded)


def test_the_report_counts_every_measured_row_and_names_the_limit_of_each_group(
    made: tuple[Path, Recipe, Corpus],
) -> None:
    root, recipe, corpus = made
    with LocalEngine() as engine:
        run = Run(str(root), engine)
        recorded = record_run(run, recipe, curate(run, recipe))
    topic, marks = facts(recorded)["quality"]
    rows = table_of(corpus, "refine").num_rows
    assert sum(line["kept"] + line["gone"] for line in topic["columns"][0]["groups"]) == rows
    (column,) = marks["columns"]
    assert column["rows"] == rows and column["missing"] == 0
    assert (
        marks["trained"] == {"good": 120, "bad": 130}
        and marks["model"] == corpus.steps["train-marks"].file(MODEL).digest
    )
    kept = pl.DataFrame(table_of(corpus, "select"))
    least = kept.group_by("source", "topic").agg(pl.col("score_marks").min())
    expected = {f"{source} · {topic}": value for source, topic, value in least.iter_rows()}
    assert dict(column["cuts"][0]["limits"]) == pytest.approx(expected)
    assert "score_marks" in render(recorded)


def test_a_model_is_trained_on_the_rows_that_are_named_each_text_once(made: tuple[Path, Recipe, Corpus]) -> None:
    step = made[2].steps["train-marks"]
    rows = pl.DataFrame(storage.read_parquet(step.file(TRAINING_ROWS).path))
    records = pl.concat(
        [pl.DataFrame(table_of(made[2], "refine")).select("id", "stars", "digest")]
        + [pl.DataFrame(storage.read_parquet(file.path)).select("id", "stars", "digest")
           for file in made[2].steps["refine"].dropped]
    )  # fmt: skip
    joined = rows.join(records, "id")
    assert set(joined.filter(label="good")["stars"]) == {"4", "5"}
    short = joined.filter(pl.col("id").is_in([f"rated/rated/{number}" for number in range(300, 310)]))
    assert short["label"].unique().to_list() == ["bad"], "rows that a stage dropped"
    assert rows["digest"].n_unique() == rows.height
    assert step.counts == {"trained/good": 120, "trained/bad": 130}
    assert storage.read_json(step.file(MEASURES).path) == {"rows": 250.0}


@pytest.mark.parametrize("workers", [2])
def test_bytes_do_not_depend_on_workers_or_shards(
    made: tuple[Path, Recipe, Corpus], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    parallel = built(tmp_path / "parallel", recipe_of(folder, TOP), workers)
    for name, step in made[2].steps.items():
        other = parallel.steps[name]
        assert [file.digest for file in step.all_files] == [file.digest for file in other.all_files], name
    monkeypatch.setattr(ingest, "SHARD_ROWS", 37)
    small = built(tmp_path / "small", recipe_of(folder, TOP))
    assert len(small.steps["select"].shards) > 5
    assert small.steps["train-marks"].file(MODEL).digest == made[2].steps["train-marks"].file(MODEL).digest
    assert table_of(small, "select").equals(table_of(made[2], "select"))


def test_cuts_in_a_row_each_take_their_share_of_what_the_one_before_left(folder: Path, tmp_path: Path) -> None:
    half = ScoreCut(name="marks", top=0.5)
    corpus = built(tmp_path, recipe_of(folder, half, half))
    rows, once = table_of(corpus, "refine").num_rows, built(tmp_path, recipe_of(folder, half))
    first = table_of(once, "select").num_rows
    assert rows / 2 <= first < rows / 2 + 5
    assert first / 2 <= table_of(corpus, "select").num_rows < first / 2 + 5


def test_of_duplicates_the_one_with_the_highest_first_score_stays(folder: Path, tmp_path: Path) -> None:
    asked = "Describe the town, its river, its people and the work that they did in the last hundred years."
    lines = [json.dumps({"q": asked, "a": "A town of this kind. " * number}) for number in (2, 5, 9, 4, 1)]
    (tmp_path / "same.jsonl").write_text("\n".join(lines))
    near = NearDuplicates(instruction=0.8, response=None, keep=("score", "id"))
    scores = (LengthScore(name="length"), LengthScore(name="asked", on="instruction"))
    recipe = recipe_of(folder, scores=scores, near_duplicates=near, exact_duplicates=False)
    spec = recipe.sources[1].model_copy(update={"path": str(tmp_path / "same.jsonl")})
    corpus = built(
        tmp_path / "root", recipe.model_copy(update={"sources": (spec,), "sampling": Sampling(epochs=1, context=257)})
    )
    assert table_of(corpus, "near-duplicates")["id"].to_pylist() == ["plain/same/2"]


def test_a_run_measures_rows_that_are_not_its_own(folder: Path, tmp_path: Path) -> None:
    others = pa.table({"id": ["a", "b"], "instruction": ["x", "y"], "response": ["four", "seven77"]})
    for scores in ((LengthScore(name="length"), LengthScore(name="asked", on="instruction")), ()):
        recipe = recipe_of(folder, scores=scores)
        with LocalEngine() as engine:
            run = Run(str(tmp_path), engine)
            recorded = record_run(run, recipe, curate(run, recipe))
        if not scores:
            with pytest.raises(RunError, match="has no `scores`"):
                score_table(recorded, others)
            continue
        assert score_table(recorded, others).to_pydict() == {
            "id": ["a", "b"],
            "score_length": [4, 7],
            "score_asked": [1, 1],
        }
        assert score_table(recorded, others, ["length"]).column_names == ["id", "score_length"]
        with pytest.raises(RunError, match="no score is called 'lenght'; did you mean 'length'"):
            score_table(recorded, others, ["lenght"])


TABLES = {
    "csv": "id,score_liking\nrated/rated/0,0.5\nrated/rated/7,-3\nrated/rated/9,\nelsewhere,9\n",
    "jsonl": '{"id": "rated/rated/0", "score_liking": 0.5}\n{"id": "rated/rated/7", "score_liking": -3}\n',
}


@pytest.mark.parametrize("kind", [*TABLES, "folder"])
def test_scores_of_a_table_are_joined_by_id(folder: Path, tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        writer = ScoreWriter(str(tmp_path), "liking", {"by": "hand"})
        ids, values = ["rated/rated/7", "elsewhere", "rated/rated/0"], pa.array([-3, 9, 0.5], pa.float32())
        path = writer.finish(pa.table({"id": ids, "score_liking": values})).path
    else:
        path = str(tmp_path / f"liking.{kind}")
        Path(path).write_text(TABLES[kind])
    recipe = recipe_of(folder, ScoreCut(name="liking", min=0), scores=(TableScore(name="liking", path=path),))
    check(recipe)
    corpus = built(tmp_path / "root", recipe)
    scores = {row["id"]: row["score_liking"] for row in table_of(corpus, "select").to_pylist()}
    assert {row: score for row, score in scores.items() if score is not None} == {"rated/rated/0": 0.5}
    (file,) = corpus.steps["select"].dropped
    (dropped,) = storage.read_parquet(file.path).to_pylist()
    assert (dropped["id"], dropped["reason"]) == ("rated/rated/7", "liking_below_min")


@pytest.mark.parametrize(
    "text, name, message",
    [
        ("id,likes\na,1\n", "scores.csv", "no column 'liking'; .*likes"),
        ("row,liking\na,1\n", "scores.csv", "no column 'id'"),
        ("id,liking\na,1\na,2\n", "scores.csv", "the id 'a' stands there more than once"),
        ("id,liking\n", "scores.csv", "the table has no rows"),
        ("id,liking\na,1\nb,much\n", "scores.csv", "scores.csv, column liking: 'much' is no number"),
        (None, "scores.csv", "scores.csv"),
        (None, "folder", "no table of scores"),
    ],
)
def test_a_table_that_cannot_be_joined_is_named(
    folder: Path, tmp_path: Path, text: str | None, name: str, message: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    recipe = recipe_of(folder, scores=(TableScore(name="liking", path=str(path)),))
    with pytest.raises(WinnowError, match=message):
        check(recipe)


def test_labels_by_a_column_are_read_as_ratings_are(folder: Path, tmp_path: Path) -> None:
    plain = built(tmp_path / "plain", recipe_of(folder, scores=(MARKS,)))
    for name, end in (("fractions", "/5"), ("words", "")):
        (tmp_path / name).mkdir()
        lines = [json.loads(line) for line in (folder / "rated.jsonl").read_text().splitlines()]
        for number, line in enumerate(lines):
            line["stars"] = "great" if name == "words" and number == 3 else f"{line['stars']}{end}"
        (tmp_path / name / "rated.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        shutil.copy(folder / "plain.jsonl", tmp_path / name)
    fractions = built(tmp_path / "root", recipe_of(tmp_path / "fractions", scores=(MARKS,)))
    assert fractions.steps["train-marks"].counts == plain.steps["train-marks"].counts
    apart = MARKS.model_copy(
        update={"good": (Rows(source="plain"),), "bad": (Rows(source="plain", column="stars", max=2),)}
    )
    with pytest.raises(CheckFailed, match="no row is left for the label 'bad'"):  # nothing is read of other sources
        built(tmp_path / "third", recipe_of(tmp_path / "words", scores=(apart,)))
    with pytest.raises(InputError, match=r"^row rated/rated/3, column 'stars': 'great' is no number; .*by `equals`"):
        built(tmp_path / "other", recipe_of(tmp_path / "words", scores=(MARKS,)))


def test_a_table_that_changes_makes_its_score_again(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "liking.csv"
    path.write_text(TABLES["csv"])
    recipe = recipe_of(folder, scores=(TableScore(name="liking", path=str(path)),))
    before = built(tmp_path / "root", recipe)
    path.write_text(TABLES["csv"].replace("0.5", "0.75"))
    after = built(tmp_path / "root", recipe)
    assert before.steps["score-liking"].key != after.steps["score-liking"].key
    assert before.steps["refine"].key == after.steps["refine"].key


def test_a_row_with_too_short_a_response_is_not_measured_and_stays(folder: Path, tmp_path: Path) -> None:
    scores = (LengthScore(name="length", min_chars=24), Topic(name="topic", min_chars=24))
    cut = ScoreCut(name="length", top=0.5)
    corpus = built(tmp_path, recipe_of(folder, cut, scores=scores))
    rows = pl.DataFrame(table_of(corpus, "refine")).with_columns(chars=pl.col("response").str.len_chars())
    kept = pl.DataFrame(table_of(corpus, "select"))
    short = rows.filter(pl.col("chars") < 24)
    assert 0 < short.height < rows.height and set(short["id"]) <= set(kept["id"])
    nulls = kept.filter(pl.col("score_length").is_null())
    assert set(nulls["id"]) == set(short["id"]) == set(kept.filter(pl.col("topic").is_null())["id"])


@pytest.mark.parametrize(
    ("cut", "warned"),
    [
        (ScoreCut(name="length", min=25), ["(min 25): 167 rows without the score stay"]),
        (ScoreCut(name="length", min=1), ["(min 1) drops no row", "(min 1): 167 rows without the score stay"]),
        (ScoreCut(name="length", min=5000), ["drops every row that has the score, of 24 to 25", "167 rows without"]),
        (ScoreCut(name="length", min=1, missing="drop"), []),
        (ScoreCut(name="topic", drop=("numbers", "digits")), ["(without numbers, digits): no row is digits"]),
    ],
)
def test_a_cut_that_drops_nothing_or_everything_or_names_no_group_is_told(
    folder: Path, tmp_path: Path, cut: ScoreCut, warned: list[str]
) -> None:
    scores = (LengthScore(name="length", min_chars=24), Topic(name="topic"))
    recipe = recipe_of(folder, cut, scores=scores)
    with LocalEngine(1) as engine:
        run = Run(str(tmp_path), engine)
        recorded = record_run(run, recipe, curate(run, recipe))
    found = list(cut_warnings(recorded))
    assert len(found) == len(warned)
    assert all(one in line for line, one in zip(found, warned, strict=True)), found


def test_a_cut_is_told_by_its_own_rows_and_not_by_those_of_another(folder: Path, tmp_path: Path) -> None:
    scores = (LengthScore(name="length"), LengthScore(name="length_long", min_chars=24), Topic(name="topic"))
    cuts = (
        ScoreCut(name="length", min=1),
        ScoreCut(name="length_long", min=5000),
        ScoreCut(name="topic", drop=("numbers",)),
    )
    recipe = recipe_of(folder, *cuts, scores=scores)
    with LocalEngine(1) as engine:
        run = Run(str(tmp_path), engine)
        recorded = record_run(run, recipe, curate(run, recipe))
    first, second, _ = cut_warnings(recorded)
    assert first == "the cut at length (min 1) drops no row"
    assert second == "the cut at length_long (min 5000) drops every row that has the score, of 24 to 25"


def test_a_blend_weighs_earlier_scores_by_the_rows_that_are_wanted(folder: Path, tmp_path: Path) -> None:
    blend = Blend(
        name="both",
        of=("marks", "length"),
        positives=(Rows(column="stars", min=4),),
        negatives=(Rows(column="stars", max=2),),
    )
    recipe = recipe_of(folder, ScoreCut(name="both", top=0.4), scores=(LengthScore(name="length"), MARKS, blend))
    check(recipe)
    corpus = built(tmp_path, recipe)
    measures = storage.read_json(corpus.steps["train-both"].file(MEASURES).path)
    assert measures["auc"] > 0.95 and measures["auc_marks"] > 0.95 and measures["auc_length"] < 0.7
    kept = pl.DataFrame(table_of(corpus, "select"))
    rated = kept.filter(pl.col("stars") != "")
    assert rated["stars"].is_in(["4", "5"]).mean() > 0.95
    with LocalEngine() as engine:
        run = Run(str(tmp_path), engine)
        recorded = record_run(run, recipe, curate(run, recipe))
    assert recorded.records.key == corpus.records.key
    late = recipe.model_copy(update={"scores": (blend, LengthScore(name="length"), MARKS)})
    with pytest.raises(RecipeError, match=r"no score before this one is called 'marks'"):
        check(late)


def test_a_label_without_rows_is_named(folder: Path, tmp_path: Path) -> None:
    lost = MARKS.model_copy(update={"good": (Rows(column="stars", min=9),)})
    with pytest.raises(CheckFailed, match="score 'marks': no row is left for the label 'good': column: stars, min: 9"):
        built(tmp_path, recipe_of(folder, scores=(lost,)))


def test_at_most_so_many_rows_of_a_label_are_taken_by_their_digests(folder: Path, tmp_path: Path) -> None:
    few = MARKS.model_copy(update={"max_rows": 25})
    corpus = built(tmp_path, recipe_of(folder, scores=(few,)))
    assert corpus.steps["train-marks"].counts == {"trained/good": 25, "trained/bad": 25}
    rows = pl.DataFrame(storage.read_parquet(corpus.steps["train-marks"].file(TRAINING_ROWS).path))
    records = pl.DataFrame(table_of(corpus, "refine"))
    good = records.filter(pl.col("stars").is_in(["4", "5"]))["digest"].unique().sort()[:25]
    assert sorted(rows.filter(label="good")["digest"]) == good.to_list()


WRITTEN = """
name: written
sources:
  - {name: rated, path: FOLDER/rated.jsonl, columns: {instruction: q, response: a}, condition: direct, extra: [stars]}
scores:
  - length
stages:
  - {kind: score, name: length, min: 5}
"""


@pytest.mark.parametrize(
    "change, message",
    [
        (("name: length, min", "name: lenght, min"), r"stages\.0: no score is called 'lenght'; did you mean 'length'"),
        (("min: 5}", "drop: code}"), r"stages\.0: the values of 'length' are numbers"),
        (("min: 5}", "top: 5 %, within: subject}"), r"stages\.0: within: no column 'subject' names groups"),
        (("  - length", "  - length\n  - length"), r"scores\.1: there is already a column 'score_length'"),
        (
            ("min: 5}", "min: 5}\n  - strip_thinking"),
            r"stages\.1: strip_thinking rewrites what the scores have measured",
        ),
        (("scores:\n  - length\n", ""), r"no score is called 'length'; add it to `scores`"),
        (("extra: [stars]", "extra: [digest]"), r"'digest' is a column that records have"),
        (("extra: [stars]", "extra: [Star Rating]"), r"write {star_rating: 'Star Rating'}"),
        (("extra: [stars]", "extra: [starz]"), r"starz"),
    ],
)
def test_mistakes_name_the_line_and_the_mend(
    folder: Path, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    path = tmp_path / "written.yaml"
    path.write_text(WRITTEN.replace("FOLDER", str(folder)).replace(*change))
    with pytest.raises((RecipeError, Exception), match=message) as caught:
        load_checked(str(path))
    assert "written.yaml" in str(caught.value)


def test_the_steps_to_the_scores_make_no_cut(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "written.yaml"
    path.write_text(WRITTEN.replace("FOLDER", str(folder)))
    recipe = load_checked(str(path))
    check(recipe)
    assert [step.name for step in wanted(recipe, SCORE_STEPS)] == ["ingest", "refine", "score-length", "select"]
    with LocalEngine() as engine:
        corpus = curate(Run(str(tmp_path / "root"), engine), recipe, steps=SCORE_STEPS)
    assert table_of(corpus, "select").num_rows == 311 and "score_length" in table_of(corpus, "select").column_names


@pytest.mark.parametrize(
    "scores, message",
    [
        ("grammar", r"scores: expected a list"),
        ("[lenght]", r"scores\.0: unknown score 'lenght'; did you mean 'length'"),
        ("[{length: {}}]", r"scores\.0: a score has its name as `kind`"),
        ("[{kind: length, name: My-Score}]", r"scores\.0\.name: expected a name of small letters"),
    ],
)
def test_a_mistake_in_a_score_is_told_once_and_not_by_its_consequences(
    folder: Path, tmp_path: Path, scores: str, message: str
) -> None:
    path = tmp_path / "written.yaml"
    path.write_text(WRITTEN.replace("FOLDER", str(folder)).replace("scores:\n  - length", f"scores: {scores}"))
    with pytest.raises(RecipeError, match=message) as caught:
        load_checked(str(path))
    assert "no score is called" not in str(caught.value)


def test_a_recipe_that_loses_every_row_before_its_scores_says_where(folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(folder, ScoreCut(name="length", min=1), scores=(LengthScore(name="length"),))
    lost = recipe.model_copy(update={"stages": (Length(min_chars=10_000), *recipe.stages[1:])})
    with pytest.raises(CheckFailed, match=r"no row is left of 331: length/\w+ 331"):
        built(tmp_path, lost)


def test_a_table_with_ids_of_other_rows_only_is_an_error(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "liking.csv"
    path.write_text("id,liking\nelse/where/0,1\n")
    with pytest.raises(CheckFailed, match=r"liking.csv has no score of any of the 321 rows"):
        built(tmp_path / "root", recipe_of(folder, scores=(TableScore(name="liking", path=str(path)),)))


def test_extra_columns_may_have_the_names_that_training_uses(tmp_path: Path) -> None:
    rows = [
        {"q": f"What is {n}?", "a": "aeiou" * 5 if n % 2 else "xzqwk" * 5, "label": n % 2, "number": n, "group": "a\nb"}
        for n in range(200)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "r.yaml").write_text("""
name: named
sources:
  - name: mine
    path: rows.jsonl
    columns: {instruction: q, response: a}
    condition: direct
    extra: [label, number, group]
scores:
  - {kind: classifier, positives: {column: label, min: 1}, negatives: {column: label, max: 0}}
stages:
  - {kind: score, name: classifier, top: 50 %, within: group}
near_duplicates: false
exact_duplicates: false
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 65}
""")
    corpus = built(tmp_path / "root", load_checked(str(tmp_path / "r.yaml")))
    assert set(table_of(corpus, "select")["label"].to_pylist()) == {"1"}
    (file,) = corpus.steps["select"].dropped
    assert json.loads(storage.read_parquet(file.path)["evidence"][0].as_py())["group"] == {"group": "a\nb"}


def test_a_model_that_is_lost_is_made_again(folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(folder, scores=(MARKS,))
    model = built(tmp_path, recipe).steps["train-marks"].file(MODEL)
    before = Path(model.path).read_bytes()
    Path(model.path).unlink()
    built(tmp_path, recipe_of(folder, scores=(MARKS.model_copy(update={"min_chars": 5}),)))
    assert Path(model.path).read_bytes() == before


def fates(corpus: Corpus) -> dict[str, tuple[int, str]]:
    """Row id -> draws for training, and why no epoch can draw it."""
    assert corpus.packs is not None and corpus.tokens is not None
    ids = [storage.map_arrow(shard.path)["id"] for shard in corpus.tokens.shards]
    found = pa.concat_tables([storage.read_parquet(file.path) for file in corpus.packs.tables(ROW_FATES)])
    names = [name for column in ids for name in column.to_pylist()]
    return dict(zip(names, zip(found["draws"].to_pylist(), found["reason"].to_pylist(), strict=True), strict=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_rows_are_drawn_as_often_as_their_weights_say(folder: Path, tmp_path: Path, workers: int) -> None:
    weights = {"stars": {"1": 0, "2": 0.5, "5": 3}, "topic": {"words": 2}}
    sampling = Sampling(epochs=2, context=65, validation=0, weights=weights)
    corpus = built(tmp_path, recipe_of(folder, ScoreCut(name="marks", min=-9), sampling=sampling), workers)
    found = fates(corpus)
    records = pl.from_arrow(pa.concat_tables([storage.read_parquet(shard.path) for shard in corpus.records.shards]))
    assert isinstance(records, pl.DataFrame)
    halved = {True: 0, False: 0}
    for name, stars, topic in records.select("id", "stars", "topic").iter_rows():
        draws, reason = found[name]
        weight = {"1": 0.0, "2": 0.5, "5": 3.0}.get(stars, 1.0) * (2 if topic == "words" else 1)
        if weight == 0.5:
            assert (draws, reason) in ((2, ""), (0, "left_out_by_weight"))
            halved[draws > 0] += 1
        else:
            assert (draws, reason) == (2 * weight, "" if weight else "left_out_by_weight"), name
    assert 10 < halved[True] < 30 and halved[True] + halved[False] == 40, "one in two"
    assert corpus.packs is not None
    counts = corpus.packs.counts
    assert counts["weight/stars/5"] == 60 and counts["unused/left_out_by_weight"] == 60 + halved[False]
    assert sum(draws for draws, _ in found.values()) == counts["sequences"]
    drawn = [counts[f"coverage/{source}/drawn_rows"] for source in ("plain", "rated")]
    assert sum(drawn) == counts["sequences"]
    assert counts["coverage/rated/rows"] == counts["coverage/rated/unique_rows"] == 300 - 60 - halved[False]


def test_weights_of_one_change_no_pack_and_no_weights_no_key(folder: Path, tmp_path: Path) -> None:
    plain = built(tmp_path, recipe_of(folder, TOP))
    same = Sampling(epochs=1, context=65, weights={"topic": {"words": 1.0}, "stars": {"9": 0}})
    weighted = built(tmp_path, recipe_of(folder, TOP, sampling=same))
    assert plain.packs is not None and weighted.packs is not None
    assert [file.digest for file in plain.packs.files("packs")] == [
        file.digest for file in weighted.packs.files("packs")
    ]
    assert "weights" not in plain.packs.parameters["sampling"]
    assert values_without_rows(weighted.packs.counts) == ["stars 9"]
    one, other = (
        fates(
            built(tmp_path, recipe_of(folder, TOP, sampling=Sampling(epochs=1, context=65, weights=weights), seed=seed))
        )
        for seed, weights in ((0, {"topic": {"words": 0.5}}), (1, {"topic": {"words": 0.5}}))
    )
    assert {name for name, (_, why) in one.items() if why} != {name for name, (_, why) in other.items() if why}


@pytest.mark.parametrize(
    "weights, said",
    [
        ({"topics": {"words": 2}}, "no column 'topics' names groups of rows; did you mean 'topic'"),
        ({"score_marks": {"1": 2}}, "weights are given to names, not to numbers"),
    ],
)
def test_weights_by_a_column_that_is_not_there_are_refused(
    folder: Path, tmp_path: Path, weights: dict[str, dict[str, float]], said: str
) -> None:
    recipe = recipe_of(folder, TOP, sampling=Sampling(weights=weights))
    with pytest.raises(RecipeError, match=said):
        check(recipe, str(tmp_path))


@pytest.mark.parametrize("weights", [{"a": {"b": -1}}, {"a": {"b": 100}, "c": {"d": 11}}, {"a": {"b": float("nan")}}])
def test_weights_below_zero_or_too_high_are_refused(weights: dict[str, dict[str, float]]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Sampling(weights=weights)
