"""Solutions of code items are found in other names, and other programs are not."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.contamination.code import (
    MIN_TOKENS,
    CodeIndex,
    build_code_index,
    code_index_from_table,
    code_index_to_table,
    code_tokens,
    find_code,
)
from pipelines.recipe import BenchmarkSpec
from pipelines.steps.benchmark_index import benchmark_items
from tests.filters.contamination.harness import Item, items_table

PROMPT = (
    "def ebb_and_flow(levels: list[int], gate: int) -> list[int]:\n"
    '    """ Give the places where the water passes the gate and comes back.\n'
    '    >>> ebb_and_flow([1, 5, 2], 3)\n    [1, 2]\n    """\n'
)
SOLUTION = (
    "    places = []\n    above = False\n    for place, level in enumerate(levels):\n"
    "        if (level > gate) != above:\n            places.append(place)\n            above = not above\n"
    "    return places\n"
)
SHORT = Item(
    "own/test/1", "test", 'def doubled(n: int) -> int:\n    """ Twice the number. """\n', "    return max(n + n, 0)\n"
)
ITEMS = [
    Item("own/test/0", "test", PROMPT, SOLUTION),
    SHORT,
    Item("own/test/2", "test", "Which word rhymes with flow?", "The one that you return to: ebb and flow and so on."),
]


@pytest.fixture(scope="module")
def index() -> CodeIndex:
    return build_code_index([("own", items_table(ITEMS))])


def found(index: CodeIndex, *texts: str) -> list[set[int]]:
    """The items whose solutions each text holds, as a response."""
    hits = find_code(index, pa.array(["Write it."] * len(texts)), pa.array(texts, pa.string()))
    return [set(hits.item[hits.row == row].tolist()) for row in range(len(texts))]


def renamed(code: str, **names: str) -> str:
    return re.sub(r"\b(" + "|".join(names) + r")\b", lambda m: names[m[0]], code)


OTHER_NAMES = {"places": "out", "above": "is_up", "place": "i", "level": "v", "levels": "arr", "gate": "limit"}


@pytest.mark.parametrize(
    "text",
    [
        SOLUTION,
        PROMPT + SOLUTION,
        renamed(SOLUTION, **OTHER_NAMES),
        "def f(arr, limit):\n" + renamed(SOLUTION, **OTHER_NAMES) + "\nprint(f([1], 2))",
        "Here it is:\n\n```python\ndef f(arr, limit):\n" + renamed(SOLUTION, **OTHER_NAMES) + "```\nThat's it.",
        SOLUTION.replace("    places = []", '    """Other words."""\n    # a list\n    places=[ ]').replace(
            "    ", "\t"
        ),
        SOLUTION.replace("\n", "  # as said\n"),
    ],
)
def test_a_solution_is_found_alone_renamed_and_with_other_comments(index: CodeIndex, text: str) -> None:
    assert found(index, text) == [{0}]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("level > gate", "level < gate"),
        ("= False", "= True"),
        ("places.append(place)", "places.append(level)"),
        ("not above", "above"),
        ("enumerate", "sorted"),
        ("append", "remove"),
        ("= []", "= [0]"),
        ("return places", "return above"),
    ],
)
def test_another_program_is_not_found(index: CodeIndex, before: str, after: str) -> None:
    assert before in SOLUTION
    text = renamed(SOLUTION.replace(before, after, 1), **OTHER_NAMES)
    assert found(index, text) == [set()]


def test_names_must_correspond_one_to_one(index: CodeIndex) -> None:
    """Two variables of the solution that are one in the text, and one that is two, are other programs."""
    assert found(index, renamed(SOLUTION, gate="levels"), SOLUTION.replace("if (level", "if (other")) == [set(), set()]


def test_a_short_solution_counts_only_in_a_function_of_its_name(index: CodeIndex) -> None:
    body = "    return max(x + x, 0)\n"
    assert len(code_tokens(pa.array([SHORT.answer])).hash) < MIN_TOKENS
    assert found(index, "def doubled(x):\n" + body, "def triple(x):\n" + body, body) == [{1}, set(), set()]


def test_an_answer_in_prose_is_no_solution(index: CodeIndex) -> None:
    assert index.item.tolist() == [0, 1]


def test_the_span_is_the_solution(index: CodeIndex) -> None:
    response = "Ça ira ✓\n" + SOLUTION
    hits = find_code(index, pa.array([SOLUTION, "no"]), pa.array([response, response]))
    assert hits.row.tolist() == [0, 1] and hits.field.tolist() == [0, 1]
    assert response.encode()[hits.start[1] : hits.end[1]].decode() == SOLUTION.strip()


def test_an_index_comes_back_from_its_file(index: CodeIndex, tmp_path: Path) -> None:
    again = code_index_from_table(code_index_to_table(index))
    assert all(np.array_equal(a, b) for a, b in zip(again, index, strict=True))
    empty = build_code_index([("own", items_table(ITEMS[2:]))])
    assert not len(find_code(code_index_from_table(code_index_to_table(empty)), pa.array([PROMPT]), pa.array([""])).row)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=80), min_size=1, max_size=4))
def test_any_text_is_read(texts: list[str]) -> None:
    clean = [text.encode("utf-8", "ignore").decode() for text in texts]
    tokens = code_tokens(pa.array(clean, pa.string()))
    sizes = np.array([len(text.encode()) for text in clean])
    row = np.repeat(np.arange(len(clean)), np.diff(tokens.offsets))
    assert (tokens.start < tokens.end).all() and (tokens.end <= sizes[row]).all()


def test_every_solution_of_humaneval_is_found_under_other_names(shared_data: Path) -> None:
    spec = BenchmarkSpec(name="humaneval", path=f"{shared_data}/benchmarks/HumanEval.jsonl.gz")
    table = benchmark_items(spec)
    index = build_code_index([("humaneval", table)])
    dice = random.Random(2)
    sizes = np.diff(index.offsets)
    assert len(index.item) >= 155 and (sizes >= MIN_TOKENS).sum() >= 140
    answers = table["answer"].take(pa.array(index.item)).to_pylist()
    texts = []
    for answer in answers:
        names = sorted(
            set(re.findall(r"(?<![.\w'\"])[a-z_]\w*(?=\s*(?:=|,| in ))", answer)) - {"in", "not", "and", "or"}
        )
        names = [name for name in names if not re.search(rf"['\"][^'\"]*\b{name}\b|\.{name}\b", answer)]
        other = dict(zip(names, dice.sample([f"w{n}" for n in range(90)], len(names)), strict=True))
        texts.append(renamed(answer, **other) if other else answer)
    hits = find_code(index, pa.array(["Write it."] * len(texts)), pa.array(texts))
    pairs = set(zip(hits.row.tolist(), hits.item.tolist(), strict=True))
    kept = [n for n in range(len(texts)) if sizes[n] >= MIN_TOKENS]
    missed = [answers[n] for n in kept if (n, int(index.item[n])) not in pairs]
    assert len(missed) <= len(kept) // 100, missed
