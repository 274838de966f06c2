"""A recipe has responses rewritten through an endpoint, and keeps those whose final answer is verified.

The endpoint is a process on loopback with answers of this file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dedup.exact import digest128
from filters.rewrite import Rewrite
from flows.build import BuildAnswer, build
from flows.why import why
from pipelines.audit.verify import verify
from pipelines.errors import CheckFailed, RecipeError
from pipelines.ledger import storage
from pipelines.ledger.runs import open_run
from tests.stub_endpoint import Stub, running_stub

ROWS = 24
RIGHT, WRONG, PROSE, EMPTY = r"\b\d*[024] apples", r"\b\d*[68] apples", r"\b\d*[13] apples", r"\b\d*5 apples"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    with running_stub(tmp_path_factory.mktemp("stub")) as running:
        yield running


@pytest.fixture
def stub(process: Stub) -> Stub:
    answers = [[f"^Tom has {n} apples", f"Tom has {n}, one more makes {n + 1}.\n#### {n + 1}"] for n in range(ROWS)]
    process.script(answers=[[WRONG, "It is 999.\n#### 999"], [PROSE, "Tom\nlikes pears"], [EMPTY, ""], *answers])
    (process.folder / "log.jsonl").unlink(missing_ok=True)
    return process


def write_recipe(folder: Path, url: str, rows: int = ROWS, **stage: Any) -> str:
    lines = [
        json.dumps({"q": f"Tom has {n} apples and gets one. How many?", "a": f"{n} + 1\n#### {n + 1}"}) + "\n"
        for n in range(rows)
    ]
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    stage = {"kind": "rewrite", "endpoint": url, "model": "stub", "strategy": "greedy", **stage}
    source = {"name": "sums", "path": "rows.jsonl", "columns": {"instruction": "q", "response": "a"}}
    recipe = {
        "name": "rewritten",
        "sources": [{**source, "condition": "direct"}],
        "stages": ["repair", stage, "placeholder"],
        "near_duplicates": False,
        "tokenizer": {"vocab_size": 512},
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return str(path)


def run(folder: Path, stub: Stub, **stage: Any) -> BuildAnswer:
    return build(write_recipe(folder, stub.url, **stage), str(folder / "root"), "local", 1)


def rows_of(answer: BuildAnswer) -> dict[str, dict[str, Any]]:
    table = pa.concat_tables([storage.read_parquet(path) for path in answer.corpus])
    return {row["id"]: row for row in table.to_pylist()}


def step(answer: BuildAnswer, name: str) -> Any:
    return next(one for one in answer.steps if one.name == name)


def test_a_verified_response_replaces_the_original_and_all_others_stay(stub: Stub, tmp_path: Path) -> None:
    answer = run(tmp_path, stub, condition="synth,cot")
    assert [one.name for one in answer.steps[:5]] == ["ingest", "refine", "rewrite-answers", "rewrite", "refine-2"]
    assert len(stub.prompts) == len(set(stub.prompts)) == ROWS
    rows = rows_of(answer)
    assert len(rows) == answer.rows_in == ROWS
    right = rows["sums/rows/14"]
    assert right["response"] == "Tom has 14, one more makes 15.\n#### 15" and right["condition"] == "synth,cot"
    wrong = rows["sums/rows/16"]
    assert wrong["response"] == "16 + 1\n#### 17" and wrong["condition"] == "direct"
    for row in rows.values():
        contents = (pa.array([row[name]]) for name in ("condition", "instruction", "response"))
        assert row["digest"] == digest128(*contents)[0].as_py()
    fate = next(one for one in why("sums/rows/16", root=answer.root).history if one.step == "rewrite")
    assert (fate.verdict, fate.reason) == ("kept", "not_verified") and fate.evidence is not None
    assert (fate.evidence["final"], fate.evidence["expected"]) == ("999", "17")
    fate = next(one for one in why("sums/rows/14", root=answer.root).history if one.step == "rewrite")
    assert fate.reason == "rewritten" and fate.evidence is not None and fate.evidence["strategy"] == "greedy"
    (file,) = step(answer, "rewrite-answers").files["answers"]
    asked = {row["id"]: row for row in storage.read_parquet(file).to_pylist()}
    assert asked["sums/rows/3"]["prompt"].startswith("Tom has 3 apples") and asked["sums/rows/3"]["final"] is None
    verify(open_run(answer.root, "latest"))


def test_what_is_done_with_answers_can_change_without_asking_again(stub: Stub, tmp_path: Path) -> None:
    first = run(tmp_path, stub)
    again = run(tmp_path, stub)
    assert all(one.reused for one in again.steps) and len(stub.log) == ROWS
    # A server that has moved is not asked either: what it said is recorded.
    moved = write_recipe(tmp_path, "http://127.0.0.1:9/v1", unverified="drop", concurrency=1)
    dropped = build(moved, str(tmp_path / "root"), "local", 1)
    assert len(stub.log) == ROWS and step(dropped, "rewrite-answers").reused
    assert {"rewrite/not_verified": 10, "rewrite/no_answer": 2}.items() <= dropped.dropped.items()
    assert set(rows_of(dropped)) < set(rows_of(first))
    fate = why("sums/rows/5", root=dropped.root).history[-1]
    assert (fate.verdict, fate.stage, fate.reason) == ("dropped", "rewrite", "no_answer")
    # Without verification, wherever there is an answer.
    everything = run(tmp_path, stub, keep="all")
    assert rows_of(everything)["sums/rows/16"]["response"] == "It is 999.\n#### 999"
    assert rows_of(everything)["sums/rows/5"]["response"] == "5 + 1\n#### 6"
    assert len(stub.log) == ROWS


def test_a_majority_of_samples_verifies_rows_whose_response_has_no_answer(stub: Stub, tmp_path: Path) -> None:
    votes = ["It is 7.\n#### 7", "#### 7.0", "Tom\nlikes pears", "#### 9", "#### 7"]
    greedy, split = "Six and one.\n#### 7", ["#### 7", "#### 7", "#### 9", "#### 9", "none\nat all"]
    stub.script(answers=[["(?s)Solve.* 6 apples", [greedy, *votes[1:]]], ["(?s)Solve", ["#### 7", *split[1:]]]])
    answer = run(
        tmp_path, stub, rows=8, verify="majority", votes=5, unverified="drop",
        prompt="Solve step by step:\n{instruction}\nNow: {response}",
    )  # fmt: skip
    assert list(rows_of(answer)) == ["sums/rows/6"]
    assert rows_of(answer)["sums/rows/6"]["response"] == greedy
    assert "Solve step by step:\nTom has 6 apples and gets one. How many?\nNow: 6 + 1\n#### 7" in stub.prompts
    (file,) = step(answer, "rewrite-answers").files["answers"]
    calls = storage.read_parquet(file).to_pylist()[6]["calls"]
    assert [call["role"] for call in calls] == ["vote"] * 5


def test_an_answer_that_is_cut_off_is_never_kept() -> None:
    stage = Rewrite(endpoint="http://localhost:1/v1", model="m", keep="all")
    assert stage.reject({"answer": "#### 7", "finish": "length", "verified": True}) == "cut_off"
    assert stage.prompt_of("a {response} b", "r {instruction}") == "a {response} b"


def test_a_spent_budget_ends_the_build_and_a_larger_one_carries_on(stub: Stub, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"budget of 10 requests is spent.*raise `budget` of the stage `rewrite`"):
        run(tmp_path, stub, budget={"requests": 10})
    answer = run(tmp_path, stub, budget={"requests": ROWS})
    assert len(stub.prompts) == len(set(stub.prompts)) == ROWS == len(rows_of(answer))


@pytest.mark.fault("kill -9 of a build with a model behind an endpoint", "no request is paid twice")
def test_a_killed_build_asks_nothing_again_but_what_was_under_way(stub: Stub, tmp_path: Path) -> None:
    script = json.loads((stub.folder / "script.json").read_text(encoding="utf-8"))
    stub.script(**script, seconds=0.25)
    path = write_recipe(tmp_path, stub.url, concurrency=2)
    command = [sys.executable, "-m", "flows.cli.main", "build", path, "--root", str(tmp_path / "root")]
    process = subprocess.Popen([*command, "--engine", "local", "--workers", "1"], stderr=subprocess.DEVNULL)
    completions = tmp_path / "root" / "completions"
    while not list(completions.rglob("*.jsonl")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    recorded = {
        json.loads(line)["asked"]["prompt"]
        for file in completions.rglob("*.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    }
    assert 0 < len(recorded) < ROWS
    before = len(stub.log)
    stub.script(**script)
    answer = build(path, str(tmp_path / "root"), "local", 1)
    asked_again = [line["body"]["messages"][-1]["content"] for line in stub.log[before:]]
    assert not recorded & set(asked_again) and len(rows_of(answer)) == ROWS


def test_mistakes_are_found_before_anything_is_computed(stub: Stub, tmp_path: Path) -> None:
    for stage, message in (
        ({"strategy": "sprial"}, r"stages.1: strategy 'sprial': did you mean 'spiral'"),
        ({"source": "sum"}, r"no source is called 'sum'; did you mean 'sums'"),
        ({"condition": "direkt"}, r"'direkt' is no tag; did you mean 'direct'"),
        ({"prompt": "Solve it."}, r"\{instruction\} must be in it"),
        ({"endpoint": "localhost:8000"}, r"no URL such as http://localhost:8000/v1"),
        ({"endpoint": "http://me:secret@localhost/v1"}, r"holds no keys; set the environment variable WINNOW_API_KEY"),
    ):
        with pytest.raises(RecipeError, match=message) as error:
            run(tmp_path, stub, **stage)
        assert "secret" not in str(error.value)
    assert not stub.log and not (tmp_path / "root" / "steps").exists()
