"""Answers are parsed by the rules of each benchmark, and scores have intervals."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.errors import WinnowError
from pipelines.records import ITEM
from training import loop
from training.configs import TrainConfig
from training.evaluation.scores import TrainingOverlap, evaluate, score, wilson
from training.evaluation.task import Answer, Item, Judgement, boxed
from training.evaluation.tasks import TASKS
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


def test_a_score_without_items_is_null() -> None:
    assert score([]).model_dump() == {"n": 0, "correct": 0, "invalid": 0, "score": None, "low": None, "high": None}


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
    path = tmp_path / "answers.jsonl"
    held = TrainingOverlap(found, {"13": {f"sums/test/{n}": n / 100 for n in range(100)}}, "drawn_rows")
    scores = evaluate(str(trained), items, "generated", held, answers=str(path), on_progress=lambda *p: told.append(p))
    assert scores.all.score is not None and scores.all.score > 0.3
    assert scores.not_found is not None and scores.found is not None
    assert (scores.not_found.n, scores.found.n) == (30, 70)
    assert scores.not_found.correct + scores.found.correct == scores.all.correct
    assert sum(part.correct for part in scores.splits.values()) == scores.all.correct
    assert scores.splits.keys() == {"small", "large"}
    (test,) = scores.overlap
    assert (test.ngram, test.clean.n, test.not_clean.n, test.not_dirty.n, test.dirty.n) == (13, 20, 80, 80, 20)
    assert told[-1] == (100, 100) and len(told) == 4
    said = [json.loads(line) for line in path.read_text().splitlines()]
    assert sum(line["correct"] for line in said) == scores.all.correct
    assert [line["id"] for line in said] == items["id"].to_pylist()
    assert json.loads(json.dumps(scores.model_dump(mode="json")))["all"]["n"] == 100


def test_without_a_contamination_check_there_is_no_score_of_items_found(trained: Path, items: pa.Table) -> None:
    scores = evaluate(str(trained), items, "generated", limit=5, device="cpu", precision="bf16")
    assert scores.all.n == 5 and scores.not_found is None and scores.found is None


def test_mistakes_are_named(trained: Path, items: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(WinnowError, match="did you mean 'gsm8k'"):
        evaluate(str(trained), items, "gsm8")
    with pytest.raises(WinnowError, match="no items"):
        evaluate(str(trained), items.slice(0, 0), "gsm8k")
    with pytest.raises(WinnowError, match="no checkpoint there"):
        evaluate(str(tmp_path), items, "gsm8k")
    with pytest.raises(WinnowError, match="use auto, cpu, cuda"):
        evaluate(str(trained), items, "gsm8k", device="tpu")
