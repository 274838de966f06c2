"""Do scorers agree with people, and do they know the expected answer in any spelling, and nothing else?"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from pipelines.benchmarks import BENCHMARKS
from tests.benchmarks.__main__ import Row
from training.evaluation.choices import LETTERS, right_choice
from training.evaluation.strict import number
from training.evaluation.task import Answer, Item, Judgement, Scorer
from training.evaluation.tasks import TASKS

FILES = {
    "aime": "aime.json",
    "arc_challenge": "arc_challenge_test.json",
    "arc_easy": "arc_easy_test.json",
    "boolq": "boolq_test.json",
    "drop": "drop_v0_dev.jsonl.gz",
    "gsm8k": "gsm8k_test.jsonl",
    "hellaswag": "hellaswag_val_full.txt.bz2",
    "math": "math_test.parquet",
    "mmlu": "mmlu/test/*.csv",
    "winogrande": "winogrande_test.json",
}
RIGHT: dict[str, Callable[[str], str | None]] = {
    "the expected text": lambda gold: gold,
    "between dollars": lambda gold: f"${gold}$",
    "spaces": lambda gold: re.sub(r"(?<!\\)([+=-])", r" \1 ", gold) if re.search(r"(?<!\\)[+=-]", gold) else None,
    "\\dfrac": lambda gold: re.sub(r"\\frac", r"\\dfrac", gold) if "\\frac" in gold else None,
    "x = ...": lambda gold: f"x = {gold}" if number(gold) is not None else None,
    "units": lambda gold: f"{gold}\\text{{ units}}" if number(gold) is not None else None,
    "a decimal for a fraction": lambda gold: _decimal(gold),
    "thousands": lambda gold: f"{int(gold):,}".replace(",", "{,}") if re.fullmatch(r"\d{4,9}", gold) else None,
}
"""Other spellings of an expected answer."""
WRONG: dict[str, Callable[[str], str | None]] = {
    "one half more": lambda gold: f"{gold}.5" if re.fullmatch(r"\d+", gold) else None,
    "rounded to 6 decimals": lambda gold: _rounded(gold),
    "a second candidate": lambda gold: (
        f"{gold} \\text{{ or }} 7" if re.fullmatch(r"\d+", gold) and gold != "7" else None
    ),
    "negated": lambda gold: f"-{gold}" if re.fullmatch(r"[1-9]\d*", gold) else None,
    "times 10^{-9} + 1": lambda gold: f"{gold} \\cdot (1 + 10^{{-9}})" if re.fullmatch(r"[1-9]\d*", gold) else None,
}
"""Other answers that look like it."""


def _decimal(gold: str) -> str | None:
    value = number(gold)
    if value is None or "frac" not in gold or Fraction(f"{float(value)!r}") != value:
        return None
    return repr(float(value))


def _rounded(gold: str) -> str | None:
    value = number(gold)
    if value is None or "frac" not in gold or Fraction(f"{float(value):.6f}") == value:
        return None
    return f"{float(value):.6f}"


def bench(data: Path | None) -> dict[str, list[Row]]:
    """The tables. Without real data there is nothing to measure."""
    if data is None:
        return {}
    return {
        "GSM8K: answers of four models that people marked": _people(data),
        "Perfect answers": _perfect(data),
        "MATH: right answers in other spellings": _forms(data, RIGHT, "judged right"),
        "MATH: wrong answers": _forms(data, WRONG, "judged right") + _others(data),
    }


def _people(data: Path) -> list[Row]:
    expected = {row["question"].strip(): row["answer"] for row in _lines(data / "benchmarks/gsm8k_test.jsonl")}
    rows = _lines(data / "ratings/gsm8k_model_solutions.jsonl")
    items: list[Item] = [{"id": str(n), "answer": expected[row["question"].strip()]} for n, row in enumerate(rows)]
    # The models end in `A: 26`, and were not asked for a box.
    texts = [re.sub(r"(?m)^A: *(.*)\Z", lambda match: f"\\boxed{{{match[1]}}}", row["solution"]) for row in rows]
    table: list[Row] = []
    for scorer in TASKS["gsm8k"].scorers:
        judged = _judge(scorer, texts, items)
        for row, item, one in zip(rows, items, judged, strict=True):
            if row["is_correct"] != (one.score == 1):
                end = row["solution"].rpartition("\n")[2]
                print(f"gsm8k {scorer.name}: {end!r}, expected {item['answer'][-12:]!r}: {one}", file=sys.stderr)
        table.append(
            {
                "scorer": scorer.name,
                "answers": len(rows),
                "marked right": sum(row["is_correct"] for row in rows),
                "right for the scorer alone": sum(
                    one.score == 1 and not row["is_correct"] for row, one in zip(rows, judged, strict=True)
                ),
                "right for people alone": sum(
                    one.score != 1 and row["is_correct"] for row, one in zip(rows, judged, strict=True)
                ),
                "invalid": sum(not one.valid for one in judged),
            }
        )
    return table


def _perfect(data: Path) -> list[Row]:
    table: list[Row] = []
    for name in FILES:
        items = _items(data, name)
        texts = [_expected(name, item) for item in items]
        for scorer in TASKS[name].scorers:
            judged = _judge(scorer, texts, items)
            below = [item["answer"] for item, one in zip(items, judged, strict=True) if one.score != 1]
            for answer in below[:20]:
                print(f"{name} {scorer.name}: not recognised: {answer}", file=sys.stderr)
            table.append({"benchmark": name, "scorer": scorer.name, "items": len(items), "not 1.0": len(below)})
    return table


def _forms(data: Path, forms: dict[str, Callable[[str], str | None]], column: str) -> list[Row]:
    items = _items(data, "math")
    table: list[Row] = []
    for name, form in forms.items():
        pairs = [(item, text) for item in items if (text := form(item["answer"])) is not None]
        row: Row = {"answer": name, "items": len(pairs)}
        for scorer in TASKS["math"].scorers:
            judged = _judge(scorer, [f"\\boxed{{{text}}}" for _, text in pairs], [item for item, _ in pairs])
            row[f"{column}: {scorer.name}"] = sum(one.score == 1 for one in judged)
        table.append(row)
    return table


def _others(data: Path) -> list[Row]:
    """The answer of another problem. Those that are equal as texts are left out."""
    items = _items(data, "math")
    others = random.Random(0).sample(items, len(items))
    pairs = [(item, other) for item, other in zip(items, others, strict=True) if item["answer"] != other["answer"]]
    row: Row = {"answer": "of another problem", "items": len(pairs)}
    for scorer in TASKS["math"].scorers:
        judged = _judge(scorer, [f"\\boxed{{{b['answer']}}}" for _, b in pairs], [a for a, _ in pairs])
        row[f"judged right: {scorer.name}"] = sum(one.score == 1 for one in judged)
        for (item, other), one in zip(pairs, judged, strict=True):
            if one.score == 1:
                print(f"math {scorer.name}: equal: {item['answer']!r} {other['answer']!r}", file=sys.stderr)
    return [row]


def _judge(scorer: Scorer, texts: list[str], items: list[Item]) -> list[Judgement]:
    return scorer.judge([Answer(text, 0, "stop") for text in texts], items)


def _expected(name: str, item: Item) -> str:
    if TASKS[name].credit:
        return LETTERS[right_choice(item)]
    return item["answer"].split("|")[0] if name == "drop" else f"\\boxed{{{item['answer']}}}"


def _items(data: Path, name: str) -> list[Item]:
    read = BENCHMARKS[name].read
    assert read
    rows: list[Item] = read([*map(str, sorted((data / "benchmarks").glob(FILES[name])))]).to_pylist()
    return rows


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").strip().split("\n")]
