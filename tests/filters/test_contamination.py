"""Planted leaks are found whatever they are wrapped in, and what only looks like a leak is not.

The harness plants items in eight disguises and four kinds of near miss. It runs over generated items everywhere, and
over real items of every benchmark where the folder of real data is there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.benchmark_index import Index, build, from_table, to_table
from filters.contamination import CLASSES, RULES, judge
from filters.overlap import HITS, scan
from pipelines.decontaminate import benchmark_items
from pipelines.recipe import BenchmarkSpec
from pipelines.records import ITEM

NONE_COMMON = np.empty(0, np.uint64)


class Item(NamedTuple):
    """An item of the harness."""

    id: str
    split: str
    question: str
    answer: str
    choices: Sequence[str] = ()
    passage: str = ""


def items_table(items: Sequence[Item]) -> pa.Table:
    columns = zip(*[(i.id, i.split, i.question, i.answer, list(i.choices), i.passage) for i in items], strict=True)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, ITEM, strict=True)], schema=ITEM)


PASSAGE = (
    "The lighthouse at Carrow Point was built between 1841 and 1846 by a crew of forty masons who lived in tents on "
    "the shingle below the cliff. Its lamp burned whale oil until 1872, when a paraffin burner of four wicks was "
    "fitted, and the keepers recorded every passing sail in ledgers that are now kept in the county archive."
)
LICENCE = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated "
    "documentation files, to deal in the software without restriction, including without limitation the rights to use, "
    "copy, modify, merge, publish, distribute, sublicense, and sell copies of the software."
)
MANUAL = [
    Item("own/test/0", "test", "Which gas do plants take from the air to make sugar?", "carbon dioxide",
         ("oxygen", "carbon dioxide", "nitrogen", "helium")),
    Item("own/test/1", "test", "A basalt column cools faster than a granite dome because", "it meets the air sooner",
         ("it is made of glass", "it meets the air sooner", "it lies deeper", "it is older than the sea")),
    Item("own/test/2", "test", "Which of the following is true?", "Whales nurse their calves",
         ("Trout grow feathers", "Whales nurse their calves", "Spiders have six legs", "Ferns bear acorns")),
    Item("own/test/3", "test", "Which of the following is true?", "Copper conducts electricity",
         ("Chalk is a metal", "Copper conducts electricity", "Ice sinks in water", "Salt burns with smoke")),
    Item("own/test/4", "test", "Which of the following is true?", "Bees gather nectar",
         ("Bees gather nectar", "Owls hunt at noon", "Cacti grow in the sea", "Frogs have fur")),
    Item("own/test/5", "test", "Which of the following is true?", "The heart pumps blood",
         ("The lungs digest bread", "The heart pumps blood", "Bones are liquid", "Hair can taste")),
    Item("own/test/6", "test", "Osteoclasts", "break down bone",
         ("break down bone", "carry oxygen", "store bile", "secrete insulin")),
    Item("own/test/7", "test", "What did the keepers of the lighthouse write down?", "every passing sail", (), PASSAGE),
    Item("own/test/8", "test", "In which year did the lamp stop burning whale oil?", "1872", (), PASSAGE),
    Item("own/test/9", "test",
         "def running_total(values: list[int]) -> list[int]:\n    \"\"\"Give the sum of all values up to each place.\n"
         "    >>> running_total([1, 2, 3])\n    [1, 3, 6]\n    \"\"\"\n",
         "    total, out = 0, []\n    for value in values:\n        total += value\n        out.append(total)\n"
         "    return out\n"),
    Item("own/test/10", "test", "Petra walks 14 km on Monday, 9 km on Tuesday and twice as far on Friday as on Monday. "
         "How many kilometres does Petra walk on the three days?", "51"),
    Item("own/test/11", "test", "If $3x + 7 = 52$, what is the value of $x^2 - 1$?", "224"),
    Item("own/test/12", "test", "住在河边的三只青蛙每天早上唱几首歌？", "七"),
    Item("own/dev/0", "dev", "Which planet of our system has rings that an amateur telescope shows clearly?", "Saturn",
         ("Mars", "Saturn", "Venus", "Mercury")),
]  # fmt: skip

FILLER = (
    "We spent the afternoon sorting the papers that had come down from the attic.",
    "Nobody could say who had tied the bundles, or why the string was green.",
    "The kettle boiled twice before the rain let up and the dog came in.",
    "Later the neighbours brought plums, and the talk turned to the new bridge.",
)
SHOTS = (
    ("Name a colour of autumn leaves that begins with r.", "russet"),
    ("How do you say goodbye to a sailor at the harbour wall?", "fair winds"),
)


def letters(item: Item, choices: Sequence[str]) -> str:
    return "\n".join(f"{'ABCDEFGHIJKLMNOPQRST'[n]}. {choice}" for n, choice in enumerate(choices))


def full(item: Item) -> str:
    return item.question + ("\n" + letters(item, item.choices) if item.choices else "")


def verbatim(item: Item, dice: random.Random) -> tuple[str, str]:
    return full(item), item.answer


def cased(item: Item, dice: random.Random) -> tuple[str, str]:
    """Case swapped; marks that are no operators and stand in no number changed, gone before a space, or curled."""
    text = full(item).replace("'", "\u2019")
    text = re.sub(r"(?<!\d)[,;:!?\"()](?=\s|$)", lambda m: dice.choice(["", "!", "…"]), text)
    text = re.sub(r"(?<=\s)[\"(](?!\d)", "«", text)
    return text.swapcase() if text.swapcase().casefold() == text.casefold() else text, item.answer.upper()


def wrapped(item: Item, dice: random.Random) -> tuple[str, str]:
    """Eight words to a line, quoted as a reply quotes."""
    words = full(item).split()
    return "\n".join("  " + " ".join(words[n : n + 8]) for n in range(0, len(words), 8)), item.answer


def embedded(item: Item, dice: random.Random) -> tuple[str, str]:
    """In the midst of a paragraph, in the response."""
    middle = " ".join(full(item).split())
    return "Write a page of a diary.", f"{FILLER[0]} {FILLER[1]} {middle} {item.answer}. {FILLER[2]} {FILLER[3]}"


def shuffled(item: Item, dice: random.Random) -> tuple[str, str]:
    choices = list(item.choices)
    dice.shuffle(choices)
    return item.question + "\nOptions:\n" + "\n".join(f"- {choice}" for choice in choices), item.answer


def few_shot(item: Item, dice: random.Random) -> tuple[str, str]:
    shots = "\n\n".join(f"Question: {q}\nAnswer: {a}" for q, a in SHOTS)
    return f"Answer as in the examples.\n\n{shots}\n\nQuestion: {full(item)}\nAnswer:", item.answer


def question_only(item: Item, dice: random.Random) -> tuple[str, str]:
    return item.question, "I would have to think about that."


def with_answer(item: Item, dice: random.Random) -> tuple[str, str]:
    return f"{FILLER[0]}\n\nQ: {item.question}\nA: {item.answer}", "Noted."


DISGUISES: dict[str, Callable[[Item, random.Random], tuple[str, str]]] = {
    "verbatim": verbatim,
    "case and punctuation": cased,
    "re-wrapped": wrapped,
    "embedded": embedded,
    "choices shuffled": shuffled,
    "few-shot": few_shot,
    "question only": question_only,
    "question with answer": with_answer,
}


def renumbered(item: Item) -> tuple[str, str]:
    """Every number another one."""
    return re.sub(r"\d+", lambda m: str(int(m[0]) + 3 if len(m[0]) < 6 else 7), item.question), "As above."


def frame(item: Item) -> tuple[str, str]:
    """What stands around items, without the item."""
    lines = "\n".join(f"Answer{n + 1}: {word}" for n, word in enumerate(("a red kite", "two nails", "some thyme")))
    text = f"Please choose the correct answer to the question: What lies on the sill?\n\n{lines}"
    return f"{text}\n\nAnswer format: answer1/answer2/answer3", "the correct answer is answer2"


def passage_only(item: Item) -> tuple[str, str]:
    return f"{item.passage}\n\nQuestion: Who would enjoy reading this, and why?", "A historian would."


NEAR_MISSES: dict[str, Callable[[Item], tuple[str, str]]] = {
    "other numbers": renumbered,
    "frame": frame,
    "shared passage": passage_only,
}

PUBLIC_TEXT = (
    LICENCE,
    "if __name__ == '__main__':\n    import sys\n    sys.exit(main(sys.argv[1:]))",
    "from typing import List\n\nclass Solution:\n    def solve(self, nums: List[int]) -> int:\n        result = []\n"
    "        for i in range(len(nums)):\n            result.append(nums[i])\n        return len(result)",
    "for (int i = 0; i < n; i++) { for (int j = 0; j < m; j++) { sum += a[i][j]; } } return sum;",
    "import numpy as np\nimport pandas as pd\nimport matplotlib.pyplot as plt\n\n"
    "df = pd.read_csv('data.csv')\nprint(df.head())",
    "Be it enacted by the Senate and House of Representatives of the United States of America in Congress assembled, "
    "That this Act may be cited as the Harbour Act.",
    "We hold these truths to be self-evident, that all men are created equal, that they are endowed by their Creator "
    "with certain unalienable Rights, that among these are Life, Liberty and the pursuit of Happiness.",
    'Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance '
    "with the License. You may obtain a copy of the License at",
    "Which of the following statements is true? Choose the best answer from the options given below.",
    "Let's think step by step and output the final answer within \\boxed{}.",
    "What is the value of $x$? Express your answer as a common fraction in simplest form.",
    "Read the passage below and answer the question that follows. Answer yes or no and explain your reasoning.",
    "Select the option that best completes the sentence. (A) only I (B) only II (C) both I and II (D) neither I nor II",
)


def tells(item: Item) -> bool:
    """Whether a question can be known without its choices: a rough measure of our own, not the scanner's."""
    words = re.findall(r"\w+", item.question)
    return len(words) >= 13 or len({word.casefold() for word in words if len(word) > 3}) >= 5


def possible(name: str, item: Item, alike: int) -> bool:
    """Whether a disguise makes sense for an item: choices to shuffle; a question that is an item's own."""
    if name == "choices shuffled":
        return len(item.choices) > 1
    if name == "question only":
        return tells(item) and alike <= 3
    if name == "question with answer":
        return alike <= 3
    return True


def classes_of(index: Index, texts: Sequence[tuple[str, str]], rule: str = "ngram13") -> list[set[tuple[str, str]]]:
    """(class, item id) of every hit of every text."""
    instruction, response = (pa.array(list(column), pa.string()) for column in zip(*texts, strict=True))
    hits = judge(index, scan(index, instruction, response).hits, rule, NONE_COMMON)
    found: list[set[tuple[str, str]]] = [set() for _ in texts]
    ids = index.ids.take(hits["item"].combine_chunks()).to_pylist()
    for row, item, kind in zip(hits["row"].to_pylist(), ids, hits["class"].to_pylist(), strict=True):
        found[row].add((kind, item))
    return found


class Score(NamedTuple):
    """A line of the harness's table."""

    name: str
    planted: int
    found: int
    missed: list[str]

    @property
    def recall(self) -> float:
        return self.found / self.planted if self.planted else 1.0


def plant(index: Index, items: Sequence[Item]) -> list[Score]:
    """Recall by disguise: is the very item found, as what it is (a test leak, or of a split to learn from)?"""
    dice = random.Random(5)
    alike = {item.question.casefold(): 0 for item in items}
    for item in items:
        alike[item.question.casefold()] += 1
    trained = dict(zip(index.ids.to_pylist(), index.arrays.trained.tolist(), strict=True))
    shared = dict(zip(index.ids.to_pylist(), index.arrays.shared.tolist(), strict=True))
    scores = []
    for name, disguise in DISGUISES.items():
        chosen = [item for item in items if possible(name, item, shared[item.id])]
        if not chosen:
            continue
        found = classes_of(index, [disguise(item, dice) for item in chosen])
        missed = [
            item.id
            for item, hits in zip(chosen, found, strict=True)
            if ("train_split" if trained[item.id] else "test_leak", item.id) not in hits
        ]
        scores.append(Score(name, len(chosen), len(chosen) - len(missed), missed))
    return scores


def cry_wolf(index: Index, items: Sequence[Item]) -> list[Score]:
    """Near misses by kind: `planted` texts, of which `found` raised no alarm; `missed` names those that did."""
    scores = []
    for name, near_miss in NEAR_MISSES.items():
        fits = {
            "other numbers": lambda item: any(c.isdigit() for c in item.question),
            "frame": lambda item: not item.choices,
            "shared passage": lambda item: bool(item.passage),
        }[name]
        chosen = [item for item in items if fits(item)]
        if not chosen:
            continue
        found = classes_of(index, [near_miss(item) for item in chosen])
        # An item with other numbers may be another item of the same set; it is an alarm only if it is this one's.
        alarms = [i.id for i, hits in zip(chosen, found, strict=True) if any(h == ("test_leak", i.id) for h in hits)]
        scores.append(Score(name, len(chosen), len(chosen) - len(alarms), alarms))
    found = classes_of(index, [(text, "") for text in PUBLIC_TEXT])
    alarms = [
        text[:40] for text, hits in zip(PUBLIC_TEXT, found, strict=True) if any(kind == "test_leak" for kind, _ in hits)
    ]
    scores.append(Score("public text", len(PUBLIC_TEXT), len(PUBLIC_TEXT) - len(alarms), alarms))
    return scores


def precision(planted: Sequence[Score], near: Sequence[Score]) -> float:
    """Of the alarms, the share that is right, with planted leaks and near misses taken to be equally many."""
    recall = sum(s.found for s in planted) / sum(s.planted for s in planted)
    alarm = 1 - sum(s.found for s in near) / sum(s.planted for s in near)
    return recall / (recall + alarm)


def as_items(table: pa.Table) -> list[Item]:
    return [
        Item(r["id"], r["split"], r["question"], r["answer"], r["choices"], r["passage"]) for r in table.to_pylist()
    ]


@pytest.fixture(scope="module")
def generated() -> list[Item]:
    return as_items(benchmark_items(BenchmarkSpec(name="generated", rows=300)))


@pytest.fixture(scope="module")
def index(generated: list[Item]) -> Index:
    return build([("generated", items_table(generated)), ("own", items_table(MANUAL))])


# ------------------------------------------------------------------------------------------------------------- planted


def test_planted_items_are_found_in_every_disguise(index: Index, generated: list[Item]) -> None:
    scores = plant(index, [*generated, *MANUAL])
    assert len(scores) == len(DISGUISES)
    for score in scores:
        assert score.recall >= 0.99, score


def test_near_misses_raise_no_alarm(index: Index, generated: list[Item]) -> None:
    items = [*generated, *MANUAL]
    near = cry_wolf(index, items)
    assert {score.name for score in near} == {*NEAR_MISSES, "public text"}
    assert precision(plant(index, items), near) >= 0.95, near


def test_an_item_with_other_numbers_is_a_template(index: Index) -> None:
    item = MANUAL[10]
    assert classes_of(index, [renumbered(item)])[0] == {("template", item.id)}


def test_a_number_word_or_a_negation_or_an_operator_makes_another_question(index: Index) -> None:
    twice, operator = MANUAL[10].question.replace("twice", "half"), MANUAL[11].question.replace("+", "-")
    negated = MANUAL[7].question.replace("did the", "did not the")
    assert all(
        kind != "test_leak"
        for hits in classes_of(index, [(twice, ""), (operator, ""), (negated, "")])
        for kind, _ in hits
    )


def test_a_telling_word_in_place_of_another_makes_another_question(index: Index) -> None:
    first, middle = (
        MANUAL[10].question.replace("Petra walks 14", "Oskar walks 14", 1),
        MANUAL[10].question.replace("Friday", "Easter", 1),
    )
    for text in (f"Solve this. {first}", middle):
        assert {kind for kind, item in classes_of(index, [(text, "")])[0] if item == MANUAL[10].id} == {"template"}


def test_a_passage_without_its_question_is_shared_and_with_it_a_leak(index: Index) -> None:
    alone, asked = classes_of(index, [passage_only(MANUAL[7]), (PASSAGE + "\n\n" + MANUAL[8].question, "1872")])
    assert {kind for kind, _ in alone} == {"shared_passage"}
    assert ("test_leak", "own/test/8") in asked and ("test_leak", "own/test/7") not in asked


def test_a_question_that_many_items_ask_is_told_by_its_choices(index: Index) -> None:
    only, with_choices = classes_of(
        index, [question_only(MANUAL[3], random.Random(0)), verbatim(MANUAL[3], random.Random(0))]
    )
    assert all(kind != "test_leak" for kind, _ in only)
    assert {item for kind, item in with_choices if kind == "test_leak"} == {"own/test/3"}


def test_a_word_that_is_an_item_is_no_leak_in_other_text(index: Index) -> None:
    texts = [("Name a cell type.", "Osteoclasts"), ("Osteoclasts and osteoblasts work in pairs.", "Quite so.")]
    assert all(kind != "test_leak" for hits in classes_of(index, texts) for kind, _ in hits)


def test_an_item_of_a_split_to_learn_from_is_no_test_leak(index: Index) -> None:
    hits = classes_of(index, [verbatim(MANUAL[13], random.Random(0))])[0]
    assert ("train_split", "own/dev/0") in hits and not any(kind == "test_leak" for kind, _ in hits)


def test_an_item_that_begins_in_the_instruction_and_ends_in_the_response_is_found(index: Index) -> None:
    words = MANUAL[10].question.split()
    assert ("test_leak", MANUAL[10].id) in classes_of(index, [(" ".join(words[:14]), " ".join(words[14:]))])[0]


def test_the_span_is_the_text_of_the_item(index: Index) -> None:
    instruction, response = embedded(MANUAL[0], random.Random(0))
    hits = judge(index, scan(index, pa.array([instruction]), pa.array([response])).hits, "ngram13", NONE_COMMON)
    leak = next(hit for hit in hits.to_pylist() if hit["class"] == "test_leak")
    assert leak["field"] == 1
    assert response.encode()[leak["start"] : leak["end"]].decode() == MANUAL[0].question.rstrip("?")


# --------------------------------------------------------------------------------------------------------------- rules


def test_each_published_rule_reads_the_same_hits_its_own_way(index: Index) -> None:
    """One text shares 9 tokens of an item of 27, one 14, one all of it; each rule draws its line where it says."""
    words = MANUAL[10].question.split()
    texts = [" ".join(words[:9]), " ".join(words[:14]), " ".join(words)]
    hits = judge(index, scan(index, pa.array(texts), pa.array(["", "", ""])).hits, "ngram13", NONE_COMMON)
    flags = {
        hit["row"]: set(hit["rules"]) for hit in hits.to_pylist() if index.ids[hit["item"]].as_py() == MANUAL[10].id
    }
    assert flags[0] == {"open_r1"}
    assert {"gpt3", "open_r1"} <= flags[1] and not {"palm", "llama2", "hrm_text", "ngram13"} & flags[1]
    assert flags[2] == set(RULES)


def test_gpt3_passes_over_13_grams_that_many_texts_hold(index: Index) -> None:
    text = pa.array([MANUAL[10].question] * 11)
    hits, counts = scan(index, text, pa.array([""] * 11))
    counts = counts.filter(pc.equal(counts["length"], 13))
    grams = counts["gram"].to_numpy()
    assert set(counts["rows"].to_pylist()) == {11} and np.array_equal(grams, np.sort(grams))
    rare, common = judge(index, hits, "gpt3", NONE_COMMON), judge(index, hits, "gpt3", grams)
    assert set(rare["class"].to_pylist()) == {"test_leak"}
    assert "gpt3" not in {rule for rules in common["rules"].to_pylist() for rule in rules}


def test_every_rule_says_what_it_counts_and_where_that_is_published() -> None:
    assert {"ngram13", "gpt3", "palm", "llama2", "tulu3", "qwen25", "open_r1", "hrm_text"} <= RULES.keys()
    assert all(rule.says and rule.source for rule in RULES.values())


# ----------------------------------------------------------------------------------------------------- scan and index


def test_hits_are_confirmed_against_the_string(index: Index) -> None:
    """An index whose text says something else than its hashes finds nothing: hashes alone convince nobody."""
    question = MANUAL[10].question
    honest = scan(index, pa.array([question]), pa.array([""]))
    forged = index._replace(
        arrays=index.arrays._replace(text=np.where(index.arrays.text == 32, 32, 120).astype(np.uint8))
    )
    found = scan(forged, pa.array([question]), pa.array([""]))
    assert honest.hits.num_rows and honest.grams.num_rows
    assert found.hits.num_rows == 0 and found.grams.num_rows == 0


def test_what_is_found_in_a_text_does_not_depend_on_its_neighbours(index: Index, generated: list[Item]) -> None:
    texts = [disguise(item, random.Random(1)) for item in generated[:12] for disguise in DISGUISES.values()]
    one = [classes_of(index, [text])[0] for text in texts]
    assert classes_of(index, texts) == one
    assert classes_of(index, texts[::-1]) == one[::-1]


def test_an_index_comes_back_from_its_file_as_it_was(index: Index, tmp_path: Path) -> None:
    with pa.ipc.new_file(str(tmp_path / "index.arrow"), to_table(index).schema) as writer:
        writer.write_table(to_table(index))
    with pa.memory_map(str(tmp_path / "index.arrow")) as source:
        mapped = from_table(pa.ipc.open_file(source).read_all())
        assert all(np.array_equal(a, b) for a, b in zip(mapped.arrays, index.arrays, strict=True))
        assert mapped.ids.equals(index.ids) and mapped.splits.equals(index.splits) and mapped.names.equals(index.names)
        texts = [verbatim(MANUAL[0], random.Random(0))]
        assert classes_of(mapped, texts) == classes_of(index, texts)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), min_size=1, max_size=6))
def test_any_text_is_scanned_to_the_schema(index: Index, texts: list[tuple[str, str]]) -> None:
    clean = [tuple(field.encode("utf-8", "ignore").decode() for field in text) for text in texts]
    hits = scan(index, pa.array([t[0] for t in clean], pa.string()), pa.array([t[1] for t in clean], pa.string())).hits
    assert hits.schema.equals(HITS)
    assert set(judge(index, hits, "ngram13", NONE_COMMON)["class"].to_pylist()) <= set(CLASSES)


def test_a_long_repetitive_text_and_empty_texts_are_scanned(index: Index) -> None:
    texts = pa.array(["", "1 " * 5000, "? = " * 3000, MANUAL[11].question * 50])
    hits = scan(index, texts, pa.array(["", "", "", ""])).hits
    assert set(judge(index, hits, "ngram13", NONE_COMMON)["row"].to_pylist()) <= {1, 2, 3}


# ------------------------------------------------------------------------------------------------------------ real data

REAL = {
    "gsm8k": "gsm8k_test.jsonl", "math": "math_test.parquet", "mmlu": "mmlu/*/*.csv", "bbh": "bbh/*.json",
    "arc_challenge": "arc_challenge_test.json", "arc_easy": "arc_easy_test.json", "boolq": "boolq_test.json",
    "openbookqa": "openbookqa_test.json", "piqa": "piqa_test.json", "siqa": "social_i_qa_test.json",
    "aime": "aime.json", "winogrande": "winogrande_test.json", "drop": "drop_v0_dev.jsonl.gz",
    "hellaswag": "hellaswag_val_full.txt.bz2", "humaneval": "HumanEval.jsonl.gz",
}  # fmt: skip


def real_benchmarks(data: Path) -> list[tuple[str, pa.Table]]:
    """Every benchmark of the folder of real data."""
    return [
        (name, benchmark_items(BenchmarkSpec(name=name, path=f"{data}/benchmarks/{path}")))
        for name, path in REAL.items()
    ]


def sample(benchmarks: Sequence[tuple[str, pa.Table]], each: int) -> list[Item]:
    """Items spread evenly over each benchmark."""
    return [
        item
        for _, table in benchmarks
        for item in as_items(table.take(np.arange(0, table.num_rows, max(1, table.num_rows // each))))
    ]


@pytest.fixture(scope="module")
def real(shared_data: Path) -> tuple[Index, list[tuple[str, pa.Table]]]:
    benchmarks = real_benchmarks(shared_data)
    return build(benchmarks), benchmarks


def test_real_items_are_found_and_near_misses_are_not(real: tuple[Index, list[tuple[str, pa.Table]]]) -> None:
    index, benchmarks = real
    items = sample(benchmarks, 60)
    planted, near = plant(index, items), cry_wolf(index, items)
    for score in (*planted, *near):
        print(f"{score.name:24} {score.planted:5} {score.recall:7.2%}  {score.missed[:6]}")
    print(f"precision {precision(planted, near):.2%}")
    for score in planted:
        assert score.recall >= 0.99, score
    assert precision(planted, near) >= 0.95
    assert index.nbytes < 300 << 20
