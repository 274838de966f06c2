"""Benchmarks are asked as published, and answers whose score is known get it, on items of the real files."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipelines.benchmarks import BENCHMARKS
from pipelines.errors import WinnowError
from training.evaluation.choices import LETTERS, by_letter, by_likelihood, right_choice
from training.evaluation.task import Answer, Call, Item, Judgement, Scorer
from training.evaluation.tasks import TASKS
from training.evaluation.tasks import drop as drop_task

FILES = {
    "aime": "aime.json",
    "arc_challenge": "arc_challenge_test.json",
    "arc_easy": "arc_easy_test.json",
    "boolq": "boolq_test.json",
    "drop": "drop_v0_dev.jsonl.gz",
    "gsm8k": "gsm8k_test.jsonl",
    "hellaswag": "hellaswag_val_full.txt.bz2",
    "math": "math_test.parquet",
    "mmlu": "mmlu/*/*.csv",
    "winogrande": "winogrande_test.json",
}
CHOICES = [name for name, task in TASKS.items() if task.credit and name != "mmlu_pro"]


@pytest.fixture(scope="module")
def items(shared_data: Path) -> Callable[[str], list[Item]]:
    """The items of a benchmark's real files that are asked, read once."""
    read: dict[str, list[Item]] = {}

    def of(name: str) -> list[Item]:
        if name not in read:
            benchmark = BENCHMARKS[name]
            assert benchmark.read is not None
            paths = sorted((shared_data / "benchmarks").glob(FILES[name]))
            read[name] = [row for row in benchmark.read([*map(str, paths)]).to_pylist() if TASKS[name].asked(row)]
        return read[name]

    return of


def json_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").strip().split("\n")]


def item(**values: Any) -> Item:
    return {"id": "x/y/0", "split": "test", "question": "", "answer": "", "choices": [], "passage": ""} | values


def scores(scorer: Scorer, texts: Sequence[str], items: Sequence[Item]) -> list[Judgement]:
    return scorer.judge([Answer(text, 1, "stop") for text in texts], items)


def scorer(name: str, which: str) -> Scorer:
    return next(one for one in TASKS[name].scorers if one.name == which)


def perfect(name: str, asked: Item) -> str:
    if TASKS[name].credit:
        return LETTERS[right_choice(asked)]
    return asked["answer"].split("|")[0] if name == "drop" else f"\\boxed{{{asked['answer']}}}"


# Every benchmark has a task.


@pytest.mark.parametrize("name", [name for name in TASKS if name != "generated"])
def test_a_task_has_the_name_of_a_benchmark_with_an_address(name: str) -> None:
    assert BENCHMARKS[name].path
    assert bool(TASKS[name].shots) == bool(BENCHMARKS[name].shots)


@pytest.mark.parametrize("name", FILES)
def test_perfect_answers_score_1_and_empty_ones_0(items: Callable[[str], list[Item]], name: str) -> None:
    asked = items(name)
    for one in TASKS[name].scorers:
        if (name, one.name) == ("math", "published"):
            continue  # below
        assert {judged.score for judged in scores(one, [perfect(name, row) for row in asked], asked)} == {1.0}
        assert {judged[:2] for judged in scores(one, [""] * len(asked), asked)} == {(0.0, False)}


@pytest.mark.parametrize("name", CHOICES)
def test_a_perfect_likelihood_scores_1_and_its_opposite_0(items: Callable[[str], list[Item]], name: str) -> None:
    asked = items(name)[:500]
    for task in (by_likelihood(TASKS[name]), by_letter(TASKS[name])):
        assert task.continuations
        shares = [
            [0.0 if n == right_choice(row) else -1000.0 for n in range(len(task.continuations(row)))] for row in asked
        ]
        for one in task.scorers:
            for sign, expected in ((1, 1.0), (-1, 0.0)):
                answers = [Answer("", 0, "stop", log_probs=tuple(sign * v for v in values)) for values in shares]
                assert {judged.score for judged in one.judge(answers, asked)} == {expected}


def test_the_published_score_of_math_knows_nine_tenths_of_the_expected_answers(
    items: Callable[[str], list[Item]],
) -> None:
    asked = items("math")[:1000]
    judged = scores(scorer("math", "published"), [perfect("math", row) for row in asked], asked)
    # math-verify takes no text for LaTeX that is neither a number nor between dollars.
    unknown = [row["answer"] for row, one in zip(asked, judged, strict=True) if one.score == 0]
    assert 0.85 < 1 - len(unknown) / len(asked) < 0.95
    assert "\\dfrac{9}{7}" in unknown


def test_strict_keeps_the_answers_of_other_problems_apart(items: Callable[[str], list[Item]]) -> None:
    asked = items("math")[:1500]
    others = random.Random(0).sample(asked, len(asked))
    judged = scores(scorer("math", "strict"), [perfect("math", row) for row in others], asked)
    equal = [(a["answer"], b["answer"]) for a, b, one in zip(asked, others, judged, strict=True) if one.score]
    digits = [(re.findall(r"\d+", a), re.findall(r"\d+", b)) for a, b in equal]
    assert all(a == b for a, b in digits)


def test_strict_agrees_with_marks_of_people(shared_data: Path) -> None:
    questions = json_lines(shared_data / "benchmarks" / FILES["gsm8k"])
    expected = {row["question"].strip(): row["answer"] for row in questions}
    rows = json_lines(shared_data / "ratings" / "gsm8k_model_solutions.jsonl")
    asked = [item(answer=expected[row["question"].strip()]) for row in rows]
    judged = scores(scorer("gsm8k", "strict"), [row["solution"] for row in rows], asked)
    assert [bool(one.score) for one in judged] == [row["is_correct"] for row in rows]


# Prompts.

SHOT = item(id="x/y/1", question=" Shot? ", answer="b", choices=["a ", "b"])


def test_a_lettered_prompt() -> None:
    asked = item(question="Why?", answer="p", choices=["p", "q", "r"])
    for name in ("arc_challenge", "arc_easy", "mmlu", "winogrande"):
        task = TASKS[name]
        assert task.prompt(asked, [SHOT]) == "Shot?\nA. a\nB. b\nAnswer: B\n\nWhy?\nA. p\nB. q\nC. r\nAnswer:"
        assert (task.condition, task.context, task.max_tokens) == ("direct", 4096, 1)
    likelihood = by_likelihood(TASKS["arc_challenge"])
    assert likelihood.prompt(asked, [SHOT]) == "Shot?\nAnswer: b\n\nWhy?\nAnswer:"
    assert likelihood.continuations and likelihood.continuations(asked) == ["p", "q", "r"]
    letter = by_letter(TASKS["arc_challenge"])
    assert letter.prompt(asked, []) == TASKS["arc_challenge"].prompt(asked, [])
    assert letter.continuations and letter.continuations(asked) == ["A", "B", "C"]


def test_the_prompts_of_passages_and_beginnings() -> None:
    asked = item(question="is it Red", answer="No", choices=["Yes", "No"], passage="It is blue.")
    assert TASKS["boolq"].prompt(asked, []) == "It is blue.\nQuestion: Is it red?\nA. Yes\nB. No\nAnswer:"
    question = "\nQuestion: Which is the most logical continuation?\nA. e\nAnswer:"
    parts = {"ctx_a": "[header] How to sit", "ctx_b": "the Man"}
    hub = item(question="How to sit", answer="e", choices=["e"], details=parts)
    assert TASKS["hellaswag"].prompt(hub, []) == f"[header] How to sit The man{question}"
    text = item(question="A man sits. He waits. he", answer="e", choices=["e"])
    assert TASKS["hellaswag"].prompt(text, []) == f"A man sits. He waits. He{question}"
    whole = item(question="How to sit. Sit down.", answer="e", choices=["e"])
    assert TASKS["hellaswag"].prompt(whole, []) == f"How to sit. Sit down. {question}"


def test_the_prompts_of_free_answers() -> None:
    asked = item(question=" Q? ", answer="2", choices=["1", "2"], passage="P.")
    for name in ("gsm8k", "math", "aime", "aime_2025"):
        assert TASKS[name].prompt(asked, []) == "Q?"
        assert (TASKS[name].condition, TASKS[name].max_tokens) == ("synth,cot", None)
    assert TASKS["mmlu_pro"].prompt(asked, []) == "Q? \nOptions:\n(A) 1\n(B) 2"
    shot = item(question="S?", answer="3", passage="One\n two.")
    assert TASKS["drop"].prompt(asked, [shot]) == "One two.\nQ: S?\nA: 3\n\nP.\nQ:  Q? \nA:"


# Shots.


def test_the_first_items_of_the_shot_files_are_shots_and_never_the_item_itself() -> None:
    candidates = [item(id=f"x/train/{n}") for n in range(100)]
    chosen = TASKS["winogrande"].choose_shots(candidates[2], candidates)
    assert [one["id"] for one in chosen[:4]] == ["x/train/0", "x/train/1", "x/train/3", "x/train/4"]


def test_shots_of_mmlu_are_the_dev_items_of_the_subject(items: Callable[[str], list[Item]], shared_data: Path) -> None:
    read = BENCHMARKS["mmlu"].read
    assert read
    candidates = read([*map(str, sorted((shared_data / "benchmarks/mmlu").glob("*/*.csv")))]).to_pylist()
    task = TASKS["mmlu"]
    for asked in items("mmlu")[::500]:
        chosen = task.choose_shots(asked, candidates)
        subject = asked["id"].split("/")[1].removesuffix("_test")
        number = 3 if subject == "high_school_european_history" else 5
        assert [one["id"] for one in chosen] == [f"mmlu/{subject}_dev/{n}" for n in range(number)]
        assert task.subset(asked) == subject
    hub = [item(split="dev", question=name, details={"subject": name}) for name in ("law", "art", "law")]
    assert len(task.choose_shots(item(details={"subject": "law"}), hub)) == 2


def test_shots_of_drop_are_found_by_their_questions() -> None:
    candidates = [item(question=shot.question, answer=shot.answer, passage="P") for shot in drop_task.SHOTS]
    others = [item(question=drop_task.SHOTS[1].question, answer="2"), *candidates, item(question="Else?", answer="0")]
    chosen = TASKS["drop"].choose_shots(item(), others)
    assert [(one["question"], one["answer"]) for one in chosen] == [shot[:2] for shot in drop_task.SHOTS]
    with pytest.raises(WinnowError, match=r"Bills.*--shots-path"):
        TASKS["drop"].choose_shots(item(), [candidates[0], candidates[2]])


# Scores.


def test_a_token_that_is_no_letter_of_the_item_is_invalid() -> None:
    asked = item(answer="b", choices=["a", "b"])
    texts = ["B", " b\n", "A", "C", "BB", "(B)", "", "B."]
    expected = [(1, True), (1, True), (0, True), *[(0, False)] * 5]
    assert [one[:2] for one in scores(scorer("arc_easy", "published"), texts, [asked] * len(texts))] == expected


def test_the_right_one_of_equal_choices_counts() -> None:
    asked = item(answer="b", choices=["b", "b"], details={"correct": 1})
    assert [one.score for one in scores(scorer("mmlu", "published"), ["A", "B"], [asked] * 2)] == [0, 1]


def test_acc_norm_divides_by_bytes() -> None:
    asked = item(answer="yes, as ever", choices=["é", "yes, as ever"])
    answer = Answer("", 0, "stop", log_probs=(-3.0, -12.0))
    acc, acc_norm = by_likelihood(TASKS["boolq"]).scorers
    assert acc.judge([answer], [asked])[0] == Judgement(0.0, True, "A")
    assert acc_norm.judge([answer], [asked])[0] == Judgement(1.0, True, "B")
    assert acc.judge([Answer("", 0, "none")], [asked])[0] == Judgement(0.0, False)
    with pytest.raises(WinnowError, match="gsm8k is not multiple choice"):
        by_likelihood(TASKS["gsm8k"])


@pytest.mark.parametrize(
    ("text", "published", "strict"),
    [
        ("so \\boxed{C}", "C", "C"),
        ("so \\boxed{\\text{(C) 12 m}}", "C", "C"),
        ("(A) is wrong. The answer is (C).", "C", "C"),
        ("(B) and (C) are close, (D) not.", "D", None),
        ("It is C, a vowel? No, A", "A", None),
        ("None of them", None, None),
        ("\\boxed{Z}", None, None),
    ],
)
def test_the_letters_of_mmlu_pro(text: str, published: str | None, strict: str | None) -> None:
    asked = item(answer="c", choices=["a", "b", "c", "d"])
    for name, letter in (("published", published), ("strict", strict)):
        (judged,) = scores(scorer("mmlu_pro", name), [text], [asked])
        assert judged == Judgement(float(letter == "C"), letter is not None, letter or "")


def test_a_right_answer_of_math_without_a_box_is_invalid() -> None:
    texts = ["\\boxed{7}", "so it is $7$", "so it is 8"]
    judged = scores(scorer("math", "published"), texts, [item(answer="7")] * 3)
    assert [one[:2] for one in judged] == [(1, True), (1, False), (0, False)]


def test_votes_of_aime_are_integers_from_1_to_999() -> None:
    extract = TASKS["aime"].extract
    texts = ["\\boxed{073}", " 73\n", "\\boxed{0}", "\\boxed{1000}", "\\boxed{73.0}", "it is 73"]
    assert [extract(text, item()) for text in texts] == ["73", "73", None, None, None, None]
    trace = tuple(Call("sample", "cot", "", text, 1, None) for text in ("\\boxed{73}", "\\boxed{5}", "x", "73"))
    answer = Answer("\\boxed{5}", 4, "stop", trace=trace)
    got = {one.name: one.judge([answer], [item(answer="073")])[0].score for one in TASKS["aime"].scorers}
    assert got == {"published": 0.0, "strict": 0.0, "mean": 0.5}


def test_drop_is_scored_as_by_lm_eval(items: Callable[[str], list[Item]]) -> None:
    lm_eval = pytest.importorskip("lm_eval.tasks.drop.utils")
    rng = random.Random(0)
    asked: list[Item] = []
    texts: list[str] = []
    accepted: list[list[tuple[str, ...]]] = []
    others = [row["answer"].split("|")[0] for row in items("drop")]
    for number, row in enumerate(items("drop")[::3]):
        answers = [(text,) for text in row["answer"].split("|")]
        if number % 3 == 0:  # answers of several spans, as in the structured layout
            answers = [tuple(answers[0][0].split(" and ")), *answers[1:], tuple(rng.sample(others, 2))]
            row = {**row, "details": {"answers": [list(spans) for spans in answers]}}
        text = rng.choice(rng.choice(answers))
        forms = (
            text,
            f"{text.upper()}.",
            f"About the {text}, I think.",
            f"{text} {rng.choice(others)}",
            rng.choice(others),
            text.replace(" ", "-"),
            f"{text}\n\n5 more",
            f"$7 1_0 nan {text}",
        )
        asked.append(row)
        texts.append(rng.choice(forms))
        accepted.append(answers)
    expected = [lm_eval.process_results({"answers": a}, [t.strip()]) for a, t in zip(accepted, texts, strict=True)]
    for name, key in (("published", "f1"), ("em", "em")):
        judged = scores(scorer("drop", name), texts, asked)
        assert [one.score for one in judged] == [one[key] for one in expected]


def test_items_that_share_a_passage_or_a_subject_are_in_one_cluster(items: Callable[[str], list[Item]]) -> None:
    for name, number in (("drop", 579), ("mmlu", 57)):
        cluster = TASKS[name].cluster
        assert cluster
        assert len({cluster(row) for row in items(name)}) == number
    boolq, math = TASKS["boolq"], TASKS["math"]
    assert boolq.cluster and math.cluster is None
    assert boolq.cluster(item(passage="P")) == boolq.cluster(item(passage="P", id="other"))
    assert len({math.subset(row) for row in items("math")}) == 7


def test_the_examples_on_the_page_of_the_strict_score_hold() -> None:
    page = (Path(__file__).parents[2] / "docs" / "strict.md").read_text(encoding="utf-8")
    rows = [[re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:-1]] for line in page.split("\n")]
    cases = [
        (gold[0], text, expected)
        for gold, right, wrong in (row for row in rows if len(row) == 3 and row[0])
        for texts, expected in ((right, 1.0), (wrong, 0.0))
        for text in texts
    ]
    assert len(cases) > 30
    texts = [f"\\boxed{{{text}}}" for _, text, _ in cases]
    judged = scores(scorer("math", "strict"), texts, [item(answer=gold) for gold, _, _ in cases])
    assert [case for case, one in zip(cases, judged, strict=True) if one.score != case[2]] == []


def test_the_page_on_evaluations_says_how_each_benchmark_is_asked() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.split("\n") if line.startswith("| `")]
    told = {name: row[1:] for row in rows if len(row) == 5 for name in re.findall(r"`(\w+)`", row[0])}
    for task in TASKS.values():
        condition, shots, _, scorers = told[task.name]
        assert (condition, re.findall(r"\d+", shots)[0]) == (task.condition, str(task.shots))
        assert re.findall(r"`(\w+)`", scorers) == [one.name for one in task.scorers]
