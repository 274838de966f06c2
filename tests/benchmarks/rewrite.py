"""Is a rewritten response verified where people would say that it is right? Recorded answers of four models to GSM8K.

A process on loopback gives the recorded answers, so that a stage `rewrite` asks for them as of any endpoint.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import pyarrow as pa

from filters.rewrite import Rewrite
from pipelines.steps.rewrite import ASKED
from tests.benchmarks.__main__ import Row
from tests.stub_endpoint import running_stub
from training.rewriting import EndpointRewriter

SOLUTIONS, GOLD = "ratings/gsm8k_model_solutions.jsonl", "benchmarks/gsm8k_test.jsonl"


def bench(data: Path | None) -> list[Row]:
    """For each model and way to verify: rows by what is verified and what is marked as right."""
    if data is None:
        raise SystemExit("needs the folder of real data")
    marked = [json.loads(line) for line in (data / SOLUTIONS).read_text(encoding="utf-8").splitlines()]
    gold = [json.loads(line) for line in (data / GOLD).read_text(encoding="utf-8").splitlines()]
    answers = {one["question"]: one["answer"] for one in gold}
    models = sorted({one["model"] for one in marked})
    by_question: dict[str, dict[str, dict[str, object]]] = {}
    for one in marked:
        by_question.setdefault(one["question"], {})[one["model"]] = one
    questions = [question for question in by_question if question in answers]
    with tempfile.TemporaryDirectory() as folder, running_stub(Path(folder)) as stub:
        return [
            _measure(stub, model, models, verify, questions, by_question, answers)
            for model in models
            for verify in ("answer", "majority")
        ]


def _measure(stub, model, models, verify, questions, by_question, answers) -> Row:  # type: ignore[no-untyped-def]
    order = [model, *(other for other in models if other != model)]
    said = {question: [by_question[question][one]["solution"] for one in order] for question in questions}
    stub.script(answers=[[f"^{re.escape(question)}$", texts] for question, texts in said.items()])
    stage = Rewrite(
        endpoint=stub.url, model="stub", strategy="greedy", verify=verify, votes=len(models), temperature=0.0
    )
    records = [
        {"id": str(at), "condition": "direct", "instruction": q, "response": answers[q], "prompt": q}
        for at, q in enumerate(questions)
    ]
    with tempfile.TemporaryDirectory() as root:
        table = pa.Table.from_pylist(records, ASKED)
        (answered,) = EndpointRewriter(stage).answers([table], root, "bench", lambda done: None)
    cells = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for question, row in zip(questions, answered.to_pylist(), strict=True):
        cells[row["verified"], bool(by_question[question][model]["is_correct"])] += 1
    kept, right = cells[True, True] + cells[True, False], cells[True, True] + cells[False, True]
    return {
        "answers of": model,
        "verify": verify,
        "rows": len(questions),
        "marked right": right,
        "verified": kept,
        "verified, marked right": cells[True, True],
        "verified, marked wrong": cells[True, False],
        "not verified, marked right": cells[False, True],
        "precision": round(cells[True, True] / kept, 4) if kept else None,
        "recall": round(cells[True, True] / right, 4) if right else None,
    }
