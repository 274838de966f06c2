"""HumanEval on its real items: right programs pass, wrong ones do not, and the forms of an answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipelines.benchmarks import BENCHMARKS
from pipelines.errors import WinnowError
from training.evaluation.task import Answer, Judgement
from training.evaluation.tasks.humaneval import HUMANEVAL, STOP, concatenated, extracted, prompt


@pytest.fixture(scope="module")
def items(shared_data: Path) -> list[dict[str, Any]]:
    path = shared_data / "benchmarks" / "HumanEval.jsonl.gz"
    if not path.exists():
        pytest.skip("no HumanEval")
    read = BENCHMARKS["humaneval"].read
    assert read is not None
    rows: list[dict[str, Any]] = read([str(path)]).to_pylist()
    return rows


def judge(name: str, texts: list[str], items: list[dict[str, Any]]) -> list[Judgement]:
    scorer = next(scorer for scorer in HUMANEVAL.scorers if scorer.name == name)
    return scorer.judge([Answer(text, 0, "stop") for text in texts], items)


def test_all_canonical_solutions_pass(items: list[dict[str, Any]]) -> None:
    assert len(items) == 164
    judgements = judge("published", [item["answer"] for item in items], items)
    assert [item["id"] for item, one in zip(items, judgements, strict=True) if one.score != 1] == []


def test_no_broken_solution_passes(items: list[dict[str, Any]]) -> None:
    """Four ways to be wrong, each on a quarter of the items: no value, an early end, a flaw in the value, no Python."""
    broken = []
    for number, item in enumerate(items):
        kind = number % 4
        if kind == 0:
            broken.append("    return None\n")
        elif kind == 1:
            broken.append("    import os\n    print('passed')\n    os._exit(0)\n")
        elif kind == 2:  # every value of the right solution is hidden in a list
            broken.append(re.sub(r"\breturn\b(.+)", r"return [(\1)]", "    return None\n" + item["answer"]))
        else:
            broken.append("    return (\n")
    judgements = judge("published", broken, items)
    assert [item["id"] for item, one in zip(items, judgements, strict=True) if one.score != 0] == []
    assert [one.valid for one in judgements] == [number % 4 != 3 for number in range(164)]


def test_an_endless_loop_fails(items: list[dict[str, Any]]) -> None:
    assert judge("published", ["    while True:\n        pass\n"], items[:1]) == [Judgement(0.0, True, "time")]


def test_published_is_plain_concatenation_up_to_a_stop_string(items: list[dict[str, Any]]) -> None:
    item = items[0]
    assert prompt(item, ()) == item["question"].strip()
    for stop in STOP:
        assert concatenated(item["answer"] + stop + " (", item) == item["question"] + item["answer"]


def test_extracted_reads_fenced_code_whole_functions_and_bodies_without_indentation(
    items: list[dict[str, Any]],
) -> None:
    item = items[0]  # its prompt has an import, which a whole function needs too
    body = item["answer"]
    whole = item["question"] + body
    name = item["details"]["entry_point"]
    alone = whole[whole.index(f"def {name}") :]
    dedented = "\n".join(line.removeprefix("    ") for line in body.split("\n"))
    texts = [
        body,
        dedented,
        body.lstrip(),
        whole,
        alone,
        f"Here it is:\n\n```python\n{whole}\n```\nIt compares all pairs.",
        f"```\n{alone}```",
        f"```python\n{alone}",  # cut off before the end of the block
        f"```python\n{body}\n```",
        f"```python\nprint('an example')\n```\nand\n```python\n{alone}\n```",
        f"{alone}\n\nprint({name}([1.0, 2.0], 0.3))\n\nif __name__ == '__main__':\n    input()\n",
    ]
    wrong = ["", "I do not know.", "```python\nreturn False\n```", f"def {name}(numbers, threshold):\n    return None"]
    judgements = judge("extracted", texts + wrong, [item] * (len(texts) + len(wrong)))
    assert [one.score for one in judgements] == [1.0] * len(texts) + [0.0] * len(wrong)


def test_an_item_without_tests_is_refused_before_anything_runs() -> None:
    item = {"id": "humaneval/a/1", "question": "def f():\n", "answer": "", "details": None}
    with pytest.raises(WinnowError, match=r"humaneval/a/1.*entry_point"):
        judge("published", ["    return 1"], [item])


def test_every_whole_solution_in_a_fenced_block_has_the_function_once_replaced(items: list[dict[str, Any]]) -> None:
    for item in items:
        program = extracted(f"```python\n{item['question']}{item['answer']}\n```", item)
        compile(program, item["id"], "exec")
        assert program.startswith(item["question"])
