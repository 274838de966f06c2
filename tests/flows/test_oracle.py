"""A model labels a sample of rows by a rubric: each prompt once, what it says is read strictly, and all of it is kept.

The endpoint is a process on loopback with answers of this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from flows.build import BuildAnswer, build
from flows.cli.app import app
from flows.oracle import OracleAnswer, label, read_rubric, sample, shares
from pipelines.errors import CheckFailed, RunError, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.runs import open_run
from pipelines.ledger.score_tables import open_scores
from tests.stub_endpoint import Stub, running_stub
from training.inference.language_model import Completion
from training.inference.recorded import Budget
from training.inference.rubric import Label, Rubric

RUBRIC = Rubric("5: a text that teaches. 0: noise.", 0, 5)
ROWS = {"web": 130, "books": 9, "notes": 1}
GOOD, BAD = "A prism splits light because glass bends each colour by another angle, number", "buy buy buy now now now"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuildAnswer:
    """A corpus of 130 rows of `web`, 9 of `books` and one of `notes`. Every other row is good."""
    folder = tmp_path_factory.mktemp("corpus")
    return build(write_recipe(folder), str(folder / "root"), "local", 1)


def write_recipe(folder: Path, **recipe: Any) -> str:
    for source, number in ROWS.items():
        lines = [
            json.dumps({"q": f"Write text {n} of {source}.", "a": f"{GOOD} {n}." if n % 2 == 0 else f"{BAD} {n}"})
            + "\n"
            for n in range(number)
        ]
        (folder / f"{source}.jsonl").write_text("".join(lines), encoding="utf-8")
    columns = {"instruction": "q", "response": "a"}
    sources = [
        {"name": source, "path": f"{source}.jsonl", "columns": columns, "condition": "direct"} for source in ROWS
    ]
    path = folder / "recipe.yaml"
    value = {"name": "texts", "sources": sources, "near_duplicates": False, "tokenizer": {"vocab_size": 512}, **recipe}
    path.write_text(json.dumps(value), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    with running_stub(tmp_path_factory.mktemp("stub")) as running:
        yield running


@pytest.fixture
def stub(process: Stub) -> Stub:
    process.script(
        answers=[
            ["text 7 of web", "This is hard to say."],
            ["text 9 of web", "Reason: wonderful.\nScore: 11"],
            ["prism splits", "**Reason:** It explains\nwhy light splits.\n\n**Score:** 4.5/5"],
            ["buy now", "Reason: It only advertises.\nScore: 1"],
            ["now now", "Reason: It only advertises.\nScore: 1"],
        ]
    )
    (process.folder / "log.jsonl").unlink(missing_ok=True)
    return process


def ask(stub: Stub, root: Path | str, rows: int = 140, **more: Any) -> OracleAnswer:
    return label("latest", more.pop("url", stub.url), "stub", RUBRIC, rows, root=str(root), **more)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Reason: It teaches.\nScore: 4", Label(4, "It teaches.", None)),
        ("It teaches,\nand well.\n\n**Score: 4.5 / 5**\n", Label(4.5, "It teaches, and well.", None)),
        ("score: 0.", Label(0, "", None)),
        ("Score: 5/10", Label(None, "", "out_of_range")),
        ("Score: -1", Label(None, "", "out_of_range")),
        ("Score: 6", Label(None, "", "out_of_range")),
        ("Score: 4 to 5", Label(None, "", "no_score")),
        ("Score: 3\nReason: it comes last.", Label(None, "Score: 3", "no_score")),
        ("I cannot give it 5 points.", Label(None, "", "no_score")),
        ("Score: four", Label(None, "", "no_score")),
        ("", Label(None, "", "no_answer")),
    ],
)
def test_a_label_is_a_number_in_the_range_in_the_last_line_and_nothing_else(text: str, expected: Label) -> None:
    assert RUBRIC.read(Completion(text, 9, None, "stop")) == expected
    assert RUBRIC.read(Completion("Score: 4", 9, None, "length")) == Label(None, "", "cut_off")


def test_a_prompt_has_the_texts_as_they_are() -> None:
    prompt = RUBRIC._replace(low=1).prompt("Say {response} and {rubric}.", "{low} \\1")
    assert "Say {response} and {rubric}." in prompt and "{low} \\1" in prompt and "from 1 to 5" in prompt


def test_labels_answers_and_prompts_are_in_the_table_and_nothing_is_asked_twice(stub: Stub, built: BuildAnswer) -> None:
    with pytest.raises(CheckFailed, match=r"budget of 30 requests is spent.*raise --budget-requests"):
        ask(stub, built.root, budget=Budget(requests=30))
    answer = ask(stub, built.root, budget=Budget(requests=140))
    assert len(stub.prompts) == len(set(stub.prompts)) == 140 and answer.asked == 110 and answer.requests == 140
    assert answer.problems == {"no_score": 1, "out_of_range": 1} and answer.values == {"1": 67, "4.5": 71}
    assert answer.sources["notes"] == (1, 4.5) and answer.sources["web"][0] == 130
    table = {row["id"]: row for row in open_scores(answer.path).read().to_pylist()}
    row = table["web/web/6"]
    assert (row["score_oracle"], row["reason"]) == (4.5, "It explains why light splits.")
    assert row["answer"].endswith("**Score:** 4.5/5") and "text 6 of web" in row["prompt"]
    assert table["web/web/7"]["score_oracle"] is None and table["web/web/7"]["problem"] == "no_score"
    assert open_scores(answer.path).settings["rubric"]["text"] == RUBRIC.text
    again = ask(stub, built.root, url="http://127.0.0.1:9/v1")
    assert again.reused and again.asked == 0 and again.path == answer.path
    # A table that is made again has the same bytes, from what is recorded.
    before = {name: storage.read_bytes(f"{answer.path}/{name}") for name in storage.files(answer.path)}
    storage.remove(answer.path)
    ask(stub, built.root)
    assert before == {name: storage.read_bytes(f"{answer.path}/{name}") for name in storage.files(answer.path)}
    assert len(stub.log) == 140


def test_a_sample_is_stratified_and_a_larger_one_contains_a_smaller(built: BuildAnswer) -> None:
    records = open_run(built.root, "latest").records
    ids = {size: set(sample(records, size)["id"].to_pylist()) for size in (10, 20, 140, 500)}
    assert ids[10] < ids[20] < ids[140] == ids[500]
    assert [sum(one.startswith(source) for one in ids[20]) for source in ("web", "books", "notes")] == [18, 1, 1]
    counts = {"a": 90, "b": 9, "c": 1, "d": 7}
    smaller = dict.fromkeys(counts, 0)
    for rows in range(1, 120):
        given = shares(counts, rows)
        assert sum(given.values()) == min(rows, 107)
        assert all(smaller[name] <= given[name] <= counts[name] for name in counts)
        smaller = given


def test_the_command_says_what_is_wrong_before_it_asks(stub: Stub, built: BuildAnswer, tmp_path: Path) -> None:
    command = ["score", "oracle", "--endpoint", stub.url, "--model", "stub", "--root", built.root, "--rubric"]
    done = CliRunner().invoke(app, [*command, "Is it good?", "--rows", "3", "--high", "4.5", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["columns"][0] == "score_oracle"
    for extra, message in (
        (["rubric.txt"], "no such file"),
        (["Is it good?", "--low", "5"], "--low 5 is not below --high 5"),
        (["Is it good?", "--name", "My Labels"], "small letters"),
        (["Is it good?", "--records", "refin"], "did you mean 'refine'"),
    ):
        with pytest.raises(WinnowError, match=message):
            CliRunner().invoke(app, [*command, *extra], catch_exceptions=False)
    with pytest.raises(WinnowError, match="no model 'stub2'"):
        label("latest", stub.url, "stub2", RUBRIC, 3, root=built.root)
    with pytest.raises(RunError, match="no run"):
        label("latest", stub.url, "stub", RUBRIC, 3, root=str(tmp_path))
    (tmp_path / "rubric.txt").write_text("From 0, noise, to 5, it teaches.", encoding="utf-8")
    assert read_rubric(str(tmp_path / "rubric.txt")).startswith("From 0")


def test_a_recipe_cuts_at_labels(stub: Stub, built: BuildAnswer, tmp_path: Path) -> None:
    answer = ask(stub, built.root)
    recipe = write_recipe(
        tmp_path,
        scores=[{"kind": "table", "name": "oracle", "path": answer.path}],
        stages=[{"kind": "score", "name": "oracle", "min": 4, "missing": "drop"}],
    )
    cut = build(recipe, str(tmp_path / "root"), "local", 1)
    kept = pa.concat_tables([storage.read_parquet(path) for path in cut.corpus])
    assert set(kept["score_oracle"].to_pylist()) == {4.5} and kept.num_rows == 71


def test_a_model_that_is_trained_on_labels_scores_all_rows(stub: Stub, built: BuildAnswer, tmp_path: Path) -> None:
    answer = ask(stub, built.root, rows=120)
    recipe = write_recipe(
        tmp_path,
        scores=[
            {"kind": "table", "name": "oracle", "path": answer.path},
            {
                "kind": "classifier",
                "name": "liked",
                "positives": {"column": "score_oracle", "min": 4},
                "negatives": {"column": "score_oracle", "max": 2},
            },
        ],
        stages=[{"kind": "score", "name": "liked", "top": "50 %"}],
    )
    trained = build(recipe, str(tmp_path / "root"), "local", 1)
    kept = pa.concat_tables([storage.read_parquet(path) for path in trained.corpus])
    assert kept.num_rows == 71 and all(text.startswith(GOOD) for text in kept["response"].to_pylist())
    assert kept["score_oracle"].null_count > 0  # rows without a label are scored too
    steps = {one.name: one for one in trained.steps}
    (path,) = steps["train-liked"].files["training_rows"]
    trained_on = {row["id"]: row["label"] for row in storage.read_parquet(path).to_pylist()}
    labels = {row["id"]: row["score_oracle"] for row in open_scores(answer.path).read().to_pylist()}
    positives = {row for row, score in labels.items() if score is not None and score >= 4}
    assert {row for row, label in trained_on.items() if label == "positive"} == positives and 50 <= len(positives) < 71
