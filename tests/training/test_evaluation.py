"""Answers are parsed by the rules of each benchmark, and scores have intervals."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.ray.evaluate import run_on_actors
from flows.rescore import rescore
from pipelines.errors import RunError, WinnowError
from pipelines.records import ITEM
from training import loop
from training.configs import TrainConfig
from training.evaluation.evaluate import (
    Ask,
    How,
    Method,
    ModelSpec,
    Overlap,
    answered_table,
    evaluate,
    judge_items,
    make_asks,
    run_here,
    settings_of,
    task_of,
)
from training.evaluation.scores import Scores, scores_of, wilson
from training.evaluation.store import Answered, AnswerStore, add_judgements, read_items
from training.evaluation.task import Answer, Item, Judgement, boxed
from training.evaluation.tasks import TASKS
from training.inference.generate import load_text_generator
from training.inference.language_model import Request
from training.model import ModelConfig


def judge(name: str, text: str, item: Item) -> Judgement:
    return TASKS[name].scorers[0].judge([Answer(text, 0, "stop")], [item])[0]


def gsm8k(text: str, answer: str = "5 + 13 = <<5+13=18>>18\n#### 18") -> Judgement:
    return judge("gsm8k", text, {"id": "x", "answer": answer})


def generated(text: str, answer: str) -> Judgement:
    return judge("generated", text, {"id": "x", "answer": answer})


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("so \\boxed{18}.", "18"),
        ("\\boxed{1} then \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\fbox{7} and \\boxed{8}", "8"),
        ("\\boxed{8} and \\fbox{7}", "8"),
        ("so \\fbox{ 7 }", "7"),
        ("\\boxed{never closed", None),
        ("18", None),
    ],
)
def test_the_last_box_counts(text: str, content: str | None) -> None:
    assert boxed(text) == content


@pytest.mark.parametrize(
    ("text", "correct", "valid"),
    [
        ("The eggs make \\boxed{18} dollars", True, True),
        ("18", True, True),
        ("\\boxed{$18.00}", True, True),
        ("\\boxed{18.9}", True, True),  # int(float()) as upstream has it
        ("17", False, True),
        ("She makes 18 dollars", False, False),
        ("\\boxed{eighteen}", False, False),
        ("", False, False),
        ("inf", False, False),
        ("nan", False, False),
    ],
)
def test_gsm8k_compares_integers(text: str, correct: bool, valid: bool) -> None:
    assert gsm8k(text)[:2] == (correct, valid)


def test_gsm8k_reads_thousands_and_bare_gold_answers() -> None:
    assert gsm8k("\\boxed{70,000}", "...\n#### 70,000").score == 1
    assert gsm8k("70000", "70,000").score == 1
    with pytest.raises(ValueError, match="does not end in a number"):
        gsm8k("1", "many")


@pytest.mark.parametrize(
    ("text", "answer", "correct"),
    [
        ("Sofia", "Sofia", True),
        ("sofia.", "Sofia", True),
        ("We add: 3 + 4 = 7. The answer is 7.", "7", True),
        ("The answer is 6. No, the answer is 7.", "7", True),
        ("So the final answer is \\boxed{7}.", "7", True),
        ("13, 61,68", "13,61, 68", True),
        ("1,200", "1200", True),
        ("70", "7", False),
        ("7 apples", "7", False),
        ("13, 61", "13, 61, 68", False),
    ],
)
def test_generated_compares_final_answers_exactly(text: str, answer: str, correct: bool) -> None:
    assert generated(text, answer)[:2] == (correct, True)


def test_an_empty_answer_is_invalid() -> None:
    assert generated(" .", "7")[:2] == (False, False)


def test_the_wilson_interval_has_published_values() -> None:
    # Brown, Cai & DasGupta 2001 and every table since: 10 of 20, and 0 of 10
    assert wilson(10, 20) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert wilson(0, 6)[0] == 0.0 and wilson(7, 7)[1] == 1.0
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


@pytest.fixture(scope="module")
def trained(shards, tokenizer, tmp_path_factory) -> Path:
    """A model trained on the 100 small sums until it answers most of them."""
    out = tmp_path_factory.mktemp("trained")
    config = TrainConfig(
        name="small", batch_packs=4,
        model=ModelConfig(vocab_size=512, hidden=64, heads=2, feed_forward=128, blocks=1, max_positions=64),
        lr=6e-3, warmup_steps=5, ema_decay=0.9, precision="fp32", bp_warmup=0,
    )  # fmt: skip
    loop.train(list(shards) * 6, str(tokenizer), config, str(out))
    return out


@pytest.fixture(scope="module")
def items() -> pa.Table:
    sums = [(a, b) for a in range(10) for b in range(10)]
    columns = [
        [f"sums/test/{n}" for n in range(100)],
        ["small" if a + b < 10 else "large" for a, b in sums],
        [f"What is the sum of {a} and {b}?" for a, b in sums],
        [str(a + b) for a, b in sums],
        [[] for _ in sums],
        [""] * 100,
    ]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, ITEM, strict=True)], schema=ITEM)


def test_a_trained_model_scores_and_the_parts_add_up(trained: Path, items: pa.Table, tmp_path: Path) -> None:
    found = {f"sums/test/{n}" for n in range(30, 100)}
    told: list[tuple[int, int]] = []
    held = Overlap(frozenset(found), {"13": {f"sums/test/{n}": n / 100 for n in range(100)}}, "drawn_rows")
    scores = evaluate(
        ModelSpec(str(trained), batch=8), "generated", items, overlap=held, root=str(tmp_path),
        on_progress=lambda done, total, text: told.append((done, total)),
    )  # fmt: skip
    assert scores.all.score is not None and scores.all.score > 0.3
    assert scores.not_found is not None and scores.found is not None
    assert (scores.not_found.n, scores.found.n) == (30, 70)
    assert scores.not_found.correct + scores.found.correct == scores.all.correct
    assert sum(part.correct for part in scores.splits.values()) == scores.all.correct
    assert scores.splits.keys() == {"small", "large"}
    (test,) = scores.overlap
    assert (test.ngram, test.clean.n, test.not_clean.n, test.not_dirty.n, test.dirty.n) == (13, 20, 80, 80, 20)
    assert told[0] == (0, 100) and told[-1] == (100, 100) and told == sorted(told)
    assert scores.evaluation is not None and scores.evaluation.startswith(f"{tmp_path}/evaluations/generated-")
    rows = read_items(scores.evaluation).to_pylist()
    assert sum(row["score_published"] for row in rows) == scores.all.correct
    assert sum(row["tokens"] for row in rows) == scores.tokens > 0
    assert [row["id"] for row in rows] == items["id"].to_pylist()
    assert {row["id"] for row in rows if row["class"] == "found"} == found
    assert rows[40]["overlap_13"] == 0.4 and rows[40]["overlap_20"] is None
    assert rows[7]["prompt"] == "What is the sum of 0 and 7?" and json.loads(rows[7]["item"])["answer"] == "7"
    assert Scores.model_validate(json.loads((Path(scores.evaluation) / "scores.json").read_text())) == scores


def test_a_longer_evaluation_asks_only_what_a_shorter_one_did_not(
    trained: Path, items: pa.Table, tmp_path: Path
) -> None:
    model = ModelSpec(str(trained))
    asked: list[int] = []

    def counting(
        chunks: Sequence[Sequence[Ask]], on_done: Callable[[int], None]
    ) -> Iterable[tuple[int, list[Answered]]]:
        asked.append(sum(map(len, chunks)))
        yield from run_here(model, "generated", How())(chunks, on_done)

    short, whole, again = (
        evaluate(model, "generated", items, limit=limit, root=str(tmp_path), run_chunks=counting)
        for limit in (30, None, 30)
    )
    assert asked == [30, 70, 0] and short.evaluation == whole.evaluation == again.evaluation
    assert again.model_dump() == short.model_dump() and whole.all.n == 100
    # What the shorter table does not have is kept.
    assert evaluate(model, "generated", items, root=str(tmp_path), run_chunks=counting) == whole and asked[-1] == 0
    other = evaluate(model, "generated", items, How(max_tokens=3), limit=5, root=str(tmp_path), run_chunks=counting)
    assert other.evaluation != whole.evaluation and asked[-1] == 5


EVALUATE = """
import sys
import pyarrow.parquet as pq
from training.evaluation.evaluate import How, ModelSpec, evaluate

how = How(strategy="self-consistency:n=2,temperature=1.0", seed=3)
evaluate(ModelSpec(sys.argv[1], batch=2), "generated", pq.read_table(sys.argv[2]), how, root=sys.argv[3])
"""


@pytest.mark.fault("kill -9 of an evaluation", "carries on to the same items")
def test_a_killed_evaluation_carries_on_to_the_same_items(trained: Path, items: pa.Table, tmp_path: Path) -> None:
    file = tmp_path / "items.parquet"
    pq.write_table(items, file)
    how = How(strategy="self-consistency:n=2,temperature=1.0", seed=3)
    command = [sys.executable, "-c", EVALUATE, str(trained), str(file), str(tmp_path / "killed")]
    process = subprocess.Popen(command)
    while process.poll() is None and len(list((tmp_path / "killed").glob("evaluations/*/answers/*.jsonl"))) < 4:
        time.sleep(0.002)
    assert process.poll() is None, "it ended before it was killed"
    process.kill()
    process.wait()
    (folder,) = (tmp_path / "killed/evaluations").iterdir()
    stored = AnswerStore(str(folder)).read()
    assert 16 <= len(stored) < 100 and not (folder / "items.parquet").exists()
    with pytest.raises(RunError, match="carries on"):
        read_items(str(folder))
    model = ModelSpec(str(trained), batch=2)
    carried_on = evaluate(model, "generated", items, how, root=str(tmp_path / "killed"))
    whole = evaluate(dataclasses.replace(model, batch=7), "generated", items, how, root=str(tmp_path / "whole"))
    ignored = {"evaluation", "seconds"}
    assert carried_on.model_dump(exclude=ignored) == whole.model_dump(exclude=ignored)
    first, second = (read_items(str(scores.evaluation)).drop_columns(["seconds"]) for scores in (carried_on, whole))
    assert first.equals(second) and list((folder / "answers").iterdir()) == []


@pytest.mark.fault("a damaged file of answers", "an error names it")
def test_a_damaged_file_of_answers_is_named(trained: Path, items: pa.Table, tmp_path: Path) -> None:
    whole = evaluate(ModelSpec(str(trained)), "generated", items, limit=4, root=str(tmp_path))
    part = Path(str(whole.evaluation)) / "answers" / "part.jsonl"
    for content in ('{"key": "a', "[]", '{"key": "a"}'):
        part.write_text(content)
        with pytest.raises(RunError, match=r"part\.jsonl: damaged .* remove it"):
            evaluate(ModelSpec(str(trained)), "generated", items, limit=4, root=str(tmp_path))


def test_actors_answer_as_one_process_does_also_if_one_is_killed(
    trained: Path, items: pa.Table, tmp_path: Path
) -> None:
    model, killed = ModelSpec(str(trained), device="cpu", batch=2), []

    def kill_one(done: int, total: int, text: str) -> None:
        if done and not killed:
            actors = [process for process in psutil.process_iter() if process.name().startswith("ray::_Actor")]
            mine = [process for process in actors if os.getpid() in {parent.pid for parent in process.parents()}]
            killed.append(mine[0])
            mine[0].kill()

    on_actors = run_on_actors(model, "generated", How(), workers=2)
    scores = evaluate(
        model, "generated", items, root=str(tmp_path), run_chunks=on_actors, on_progress=kill_one
    )  # fmt: skip
    assert len(killed) == 1
    alone = evaluate(model, "generated", items, root=str(tmp_path / "alone"))
    ignored = {"evaluation", "seconds"}
    assert scores.model_dump(exclude=ignored) == alone.model_dump(exclude=ignored)
    first, second = (read_items(str(one.evaluation)).drop_columns(["seconds"]) for one in (scores, alone))
    assert first.equals(second)


def test_stored_answers_are_judged_again_without_a_model(trained: Path, items: pa.Table, tmp_path: Path) -> None:
    before = evaluate(ModelSpec(str(trained)), "generated", items, limit=40, root=str(tmp_path))
    folder = Path(str(before.evaluation))
    # An older version of the scorer found nothing right.
    table = read_items(str(folder))
    wrong = add_judgements(table, "published", [pa.array([0.0] * 40), pa.array([False] * 40), pa.array([""] * 40)])
    pq.write_table(wrong, folder / "items.parquet")
    settings = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps({**settings, "scorers": {"published": "0"}}))
    (one,) = rescore(("generated",), str(tmp_path)).evaluations
    assert one.former_scorers == {"published": "0"} and one.scorers == {"published": "1"}
    assert one.scores == before and read_items(str(folder)).equals(table)
    assert AnswerStore(str(folder)).read().keys() == set(table["key"].to_pylist())


def test_the_key_of_an_evaluation_has_what_determines_its_answers(trained: Path, items: pa.Table) -> None:
    def key(how: How, **changed: Any) -> str:
        model = dataclasses.replace(ModelSpec(str(trained)), **changed)
        task = task_of("generated", how)
        return settings_of("generated", "generated", task, how, model, "digest", "name", 1).key

    same = key(How())
    assert key(How(strategy="greedy")) == key(How(), device="cpu") == key(How(), batch=3) == same
    others = [How(condition="cot"), How(max_tokens=9), How(temperature=1.0), How(seed=1), How(strategy="spiral")]
    assert len({same, key(How(), precision="bf16"), *map(key, others)}) == 2 + len(others)


def test_without_a_contamination_check_there_is_no_score_of_items_found(trained: Path, items: pa.Table) -> None:
    scores = evaluate(ModelSpec(str(trained), device="cpu", precision="bf16"), "generated", items, limit=5)
    assert scores.all.n == 5 and scores.not_found is None and scores.found is None and scores.evaluation is None


def choice(number: int, answer: str, choices: Sequence[str] = ("Red", "Green", "Blue", "Tan")) -> dict[str, Any]:
    question = f"Colour {number}?"
    return {"id": f"mmlu/colours_test/{number}", "split": "test", "question": question, "answer": answer,
            "choices": list(choices), "passage": ""}  # fmt: skip


def test_multiple_choice_counts_invalid_answers_with_and_without_credit_and_averages_subjects(tmp_path: Path) -> None:
    how = How(shots=0)
    task = task_of("mmlu", how)
    rows = [choice(number, "Green") for number in range(4)]
    rows += [{**choice(9, "Red", ("Red", "Blue")), "id": "mmlu/shapes_test/9"}]
    asks = make_asks(task, rows)
    said = ["B", " b", "C", "Green", "?"]
    answered = [Answered(Answer(text, 1, "length"), 0.5) for text in said]
    judged = judge_items(answered_table(task, asks, answered), task)
    settings = settings_of("mmlu", "mmlu", task, how, ModelSpec("x"), "digest", "x", 0)
    scores = scores_of(judged, settings, task)
    assert judged["extracted_published"].to_pylist() == ["B", "B", "C", "", ""]
    assert (scores.all.n, scores.all.correct, scores.all.invalid) == (5, 2, 2)
    assert scores.all.score == (2 / 4 + 0) / 2  # the mean of two subjects
    assert scores.all.credit == ((2 + 1 / 4) / 4 + 1 / 2) / 2
    assert {name: (one.n, one.score) for name, one in scores.subsets.items()} == {"colours": (4, 0.5), "shapes": (1, 0)}
    assert scores.all.clustered is not None and scores.all.clustered.clusters == 2
    assert scores.seconds == 2.5 and scores.tokens == 5


@pytest.mark.parametrize(("method", "scorers"), [("likelihood", {"acc", "acc_norm"}), ("letter", {"letter"})])
def test_choices_are_made_by_likelihood(trained: Path, method: Method, scorers: set[str], tmp_path: Path) -> None:
    rows = [choice(number, "Green") for number in range(6)]
    rows.append(choice(7, "Green" * 30, ("Red", "Green" * 30)))  # longer than the context
    table = pa.Table.from_pylist(rows, schema=ITEM)
    scores = evaluate(ModelSpec(str(trained)), "mmlu", table, How(method=method, shots=0), root=str(tmp_path))
    assert scores.scorers.keys() == scorers and scores.method == method
    found = read_items(str(scores.evaluation)).to_pylist()
    assert [len(row["log_probs"]) for row in found[:6]] == [4] * 6
    assert max(value for row in found for value in row["log_probs"]) < 0
    generator = load_text_generator(str(trained))
    texts = rows[0]["choices"] if method == "likelihood" else "ABCD"
    expected = generator.log_likelihoods([(Request("direct", found[0]["prompt"]), text) for text in texts])
    assert found[0]["log_probs"] == pytest.approx([one.log_prob for one in expected if one], abs=1e-3)
    if method == "likelihood":
        assert found[6]["log_probs"] == [] and scores.all.invalid == 1
    with pytest.raises(WinnowError, match="not multiple choice"):
        task_of("gsm8k", How(method=method))


def test_a_prompt_with_examples_needs_items_that_have_them() -> None:
    with pytest.raises(WinnowError, match=r"--shots-path.*--shots 0"):
        make_asks(task_of("mmlu", How()), [choice(1, "Green")])


def test_mistakes_are_named(trained: Path, items: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(WinnowError, match="did you mean 'gsm8k'"):
        evaluate(ModelSpec(str(trained)), "gsm8", items)
    with pytest.raises(WinnowError, match="no items"):
        evaluate(ModelSpec(str(trained)), "gsm8k", items.slice(0, 0))
    with pytest.raises(WinnowError, match="no checkpoint there"):
        evaluate(ModelSpec(str(tmp_path)), "gsm8k", items)
    with pytest.raises(WinnowError, match="use auto, cpu, cuda"):
        evaluate(ModelSpec(str(trained), device="tpu"), "gsm8k", items)
    with pytest.raises(RunError, match="there are: none"):
        rescore(("gsm8k",), str(tmp_path))
