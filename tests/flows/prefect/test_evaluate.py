"""The run that made the packs of a checkpoint is found, and with it what its training rows hold of a benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flows.benchmarks import checked_against
from flows.cli.render import evaluate_lines
from flows.configure import configure
from flows.evaluate import evaluate, training_overlap
from flows.prefect.tables import scores as table
from pipelines.curate import curate
from pipelines.errors import InputError, WinnowError
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import load
from tests.steps import record_run
from training import loop
from training.evaluation.evaluate import How, ModelSpec
from training.evaluation.store import read_items
from training.provenance import find_packs, run_of

RECIPE = """
name: small
sources:
  - {name: generated_arithmetic, adapter: generated_arithmetic, rows: 800}
  - {name: generated_web, adapter: generated_web, rows: 800}
exact_duplicates: false
near_duplicates: false
contamination: {drop: [], benchmarks: [{name: generated, rows: 40}]}
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 129}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, RecordedRun]:
    """root, training folder, run: a corpus built here and two steps of training on it."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("root")
    (root / "small.yaml").write_text(RECIPE)
    recipe = load(str(root / "small.yaml"))
    run = Run(str(root), LocalEngine(1))
    run_files = record_run(run, recipe, curate(run, recipe), RECIPE)
    packed = find_packs("latest", str(root))
    out = root / "training"
    loop.train(packed.shards, packed.tokenizer, configure("tiny", packed.shards, 2), str(out), packed.key)
    return str(root), str(out), run_files


def test_the_run_is_found_by_its_packs(built) -> None:
    root, out, run = built
    assert run_of(out, root) == run
    assert run_of(out, root + "/elsewhere") is None
    assert checked_against(run)["generated"].rows == 40


def test_scores_are_split_by_what_the_training_rows_hold(built, tmp_path: Path) -> None:
    root, out, run = built
    overlap = training_overlap(run, "generated")
    assert overlap is not None and overlap.measured_on == "drawn_rows"
    found = overlap.found
    assert 0 < len(found) < 40  # the recipe leaves items that leaked in the rows
    (scores,) = evaluate(ModelSpec(out), ("generated",), root=root).scores
    assert scores.all.n == 40 and scores.measured_on == "drawn_rows"
    assert scores.not_found is not None and scores.found is not None
    assert scores.found.n == len(found) and scores.not_found.n + scores.found.n == 40
    assert (scores.clean, scores.contaminated) == (scores.not_found, scores.found)  # the former names
    assert scores.difference is not None and scores.difference.found <= len(found)
    rows = read_items(str(scores.evaluation)).to_pylist()
    assert {row["id"] for row in rows if row["class"] == "found"} == found
    assert {row["class"] for row in rows} == {"found", "not_found"}
    assert [row["items"] for row in table(scores)][:3] == ["all", "not found", "found"]
    # The paper's four subsets are made of the same shares that the build wrote.
    assert [test.ngram for test in scores.overlap] == [13, 20]
    for test in scores.overlap:
        shares = overlap.overlap[str(test.ngram)]
        assert test.dirty.n == sum(share >= 0.8 for share in shares.values()) > 0
        assert test.not_clean.n == sum(share >= 0.2 for share in shares.values())
        assert test.clean.n + test.not_clean.n == test.dirty.n + test.not_dirty.n == 40


def test_a_run_without_the_measure_has_what_the_contamination_step_found(built) -> None:
    _, _, run = built
    older = run._replace(steps=tuple(step for step in run.steps if step.step != "training-overlap"))
    overlap = training_overlap(older, "generated")
    assert overlap is not None and overlap.measured_on == "checked_rows"


def test_without_its_run_a_checkpoint_is_scored_on_all_items(built, tmp_path: Path) -> None:
    _, out, _ = built
    (scores,) = evaluate(ModelSpec(out), ("generated",), root=str(tmp_path), limit=12).scores
    assert (
        scores.all.n == 12 and scores.not_found is scores.found is scores.measured_on is None and scores.overlap == []
    )


def test_mistakes_are_named(built, tmp_path: Path) -> None:
    root, out, _ = built
    with pytest.raises(WinnowError, match="did you mean 'gsm8k'"):
        evaluate(ModelSpec(out), ("gsm8",), root=root)
    with pytest.raises(WinnowError, match="for one benchmark"):
        evaluate(ModelSpec(out), ("gsm8k", "math"), root=root, paths=("x",))
    with pytest.raises(InputError, match=r"benchmark gsm8k: .*nowhere.*: --path FILE"):
        evaluate(ModelSpec(out), ("gsm8k",), root=root, paths=("nowhere.jsonl",))
    items = tmp_path / "arc_test.jsonl"
    items.write_text('{"question": "Q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}\n' * 2)
    with pytest.raises(InputError, match=r"--shots-path.*--shots 0"):
        evaluate(ModelSpec(out), ("arc_easy",), root=root, paths=(str(items),), shots=("nowhere.jsonl",))
    (scores,) = evaluate(ModelSpec(out), ("arc_easy",), (How(shots=0),), root, paths=(str(items),)).scores
    assert scores.all.n == 2 and scores.shots == 0


def test_gsm8k_from_its_file(built, shared_data: Path) -> None:
    root, out, _ = built
    file = str(shared_data / "benchmarks/gsm8k_test.jsonl")
    (scores,) = evaluate(ModelSpec(out), ("gsm8k",), root=root, paths=(file,), limit=3).scores
    assert scores.all.n == 3 and scores.not_found is None


def test_a_strategy_is_compared_with_a_greedy_answer_and_with_votes_at_equal_tokens(built, tmp_path: Path) -> None:
    _, out, _ = built
    how = How(strategy="spiral:max_rounds=3", max_tokens=8)
    answer = evaluate(ModelSpec(out), ("generated",), (how,), root=str(tmp_path), limit=4)
    (drawn,) = answer.curves
    greedy, spiral, votes = drawn.curve.points
    assert (greedy.strategy, votes.strategy.partition(":")[0]) == ("greedy", "self-consistency")
    assert greedy.tokens <= spiral.tokens and spiral.against_equal_tokens is not None
    assert Path(drawn.picture).read_bytes().startswith(b"\x89PNG")
    again = evaluate(ModelSpec(out), ("generated",), (how,), root=str(tmp_path), limit=4)
    assert again.curves == answer.curves
    assert any("against self-consistency" in str(line) for line in evaluate_lines(answer, out, str(tmp_path)))
