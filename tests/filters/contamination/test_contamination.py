# ruff: noqa: E501
"""Planted leaks are found in every disguise, and texts that only look like leaks are not.

`tests/filters/contamination/harness.py` plants items in eight disguises and makes near misses of a dozen kinds: of
generated items always, and of real items of every benchmark if the folder of real data exists.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.contamination.index import BenchmarkIndex, build_index, index_from_table, index_to_table
from filters.contamination.rules import CLASSES, RULES, classify_hits
from filters.contamination.scan import HITS, scan_texts
from filters.contamination.weights import DECISIVE
from pipelines.recipe import BenchmarkSpec
from pipelines.steps.benchmark_index import benchmark_items
from tests.filters.contamination.forms import FORMS, TWISTS
from tests.filters.contamination.hard_negatives import Question, passage_with_other_question, renumbered, written
from tests.filters.contamination.harness import (
    DISGUISES,
    NONE_COMMON,
    Item,
    as_items,
    by_benchmark,
    classes_of,
    embedded,
    expected_misses,
    held_out,
    items_table,
    near_miss_scores,
    precision,
    question_only,
    real_benchmarks,
    real_rephrased,
    recall_by_disguise,
    recall_by_form,
    sample,
    twist_scores,
    verbatim,
)

PASSAGE = (
    "The lighthouse at Carrow Point was built between 1841 and 1846 by a crew of forty masons who lived in tents on "
    "the shingle below the cliff. Its lamp burned whale oil until 1872, when a paraffin burner of four wicks was "
    "fitted, and the keepers recorded every passing sail in ledgers that are now kept in the county archive."
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


@pytest.fixture(scope="module")
def generated() -> list[Item]:
    return as_items(benchmark_items(BenchmarkSpec(name="generated", rows=300)))


@pytest.fixture(scope="module")
def index(generated: list[Item]) -> BenchmarkIndex:
    return build_index([("generated", items_table(generated)), ("own", items_table(MANUAL))])


# ------------------------------------------------------------------------------------------------------------- planted


def test_planted_items_are_found_in_every_disguise(index: BenchmarkIndex, generated: list[Item]) -> None:
    scores = recall_by_disguise(index, [*generated, *MANUAL])
    assert len(scores) == len(DISGUISES)
    for score in scores:
        assert score.recall >= 0.99, score


def test_near_misses_raise_no_alarm(index: BenchmarkIndex, generated: list[Item]) -> None:
    items = [*generated, *MANUAL]
    near = near_miss_scores(index, items)
    assert sum(score.planted for score in near) > 800
    for score in near:
        assert score.recall >= 0.95, (score.name, score.missed)
    assert precision(recall_by_disguise(index, items), near) >= 0.99


def test_an_item_with_other_numbers_is_a_near_leak(index: BenchmarkIndex) -> None:
    item = MANUAL[10]
    text = renumbered(Question(item.id, item.question))
    assert text and classes_of(index, [(text, "")])[0] == {("near_leak", item.id)}


def test_a_number_word_or_a_negation_or_an_operator_makes_another_question(index: BenchmarkIndex) -> None:
    twice, operator = MANUAL[10].question.replace("twice", "half"), MANUAL[11].question.replace("+", "-")
    negated = MANUAL[7].question.replace("did the", "did not the")
    assert all(
        kind != "test_leak"
        for hits in classes_of(index, [(twice, ""), (operator, ""), (negated, "")])
        for kind, _ in hits
    )


def test_a_symbol_or_a_fraction_in_another_place_makes_another_question() -> None:
    text = (
        r"For every real number $t \neq 0$ the point $\left( t + \frac{1}{t}, t - \frac{1}{t} \right)$ with $t \leq 3$ "
        "is plotted by the machine. On what kind of curve do the points lie?"
    )
    items = items_table([Item("own/test/0", "test", text, "Hyperbola")])
    index = build_index([("own", items)])
    others = [
        text.replace(r"t + \frac{1}{t}", r"\frac{t + 1}{t}"), text.replace(r"\leq", r"\geq"), text.replace("≠", "="),
        text.replace(r"\leq", "≥"), text.replace(r"\neq", "="),
    ]  # fmt: skip
    for other in others:
        if other != text:
            assert ("test_leak", "own/test/0") not in classes_of(index, [(other, "")])[0]
    assert ("test_leak", "own/test/0") in classes_of(index, [(text.replace(r"\leq", "≤"), "")])[0]


def test_a_heavy_word_in_place_of_another_makes_another_question(index: BenchmarkIndex) -> None:
    first, middle = (
        MANUAL[10].question.replace("Petra walks 14", "Oskar walks 14", 1),
        MANUAL[10].question.replace("Friday", "Easter", 1),
    )
    for text in (f"Solve this. {first}", middle):
        assert {kind for kind, item in classes_of(index, [(text, "")])[0] if item == MANUAL[10].id} == {"near_leak"}


ASKED = [
    Item("asked/test/0", "test", "The ladder of length $p$ leans on a wall of height $q$, and $p + q = 31$. Find $q$.",
         "7"),
    Item("asked/test/1", "test", "In the kite $KLMN$ the sides are known. Find $\\cos L$.", "1/3"),
    Item("asked/test/2", "test", "Three lamps, a red, a blue and a green one, are lit at random. What is the "
         "probability that all of the lamps are lit?", "1/8"),
    Item("asked/test/3", "test", "Find the vertex of the curve $y = 3x^2.$", "(0,0)"),
    Item("asked/test/4", "test", "can you fish from a bridge over the harbour?", "Yes", ("Yes", "No")),
    Item("asked/test/5", "test", "The curve $y = k \\tan mx$ is drawn for constants $k$ and $m.$ Find $m.$\n\n[asy]\n"
         "draw((-3,0)--(3,0));\ndraw((0,-4)--(0,4));\n[/asy]", "2"),
    Item("asked/test/6", "test", "A garden has width $w$ and length $v$ with $w + 2v = 40$. What is $v$? Express your "
         "answer as a common fraction.", "10"),
]  # fmt: skip
NOUNS, PLACES = ("ladle", "anvil", "kite", "plume", "tiller", "bobbin", "sieve"), ("attic", "barn", "mill", "dairy")
ASKED += [
    Item(f"asked/test/{n}", "test", f"Is the {noun} from the {place} kept in the {place} or in the other house?", "Yes")
    for n, (noun, place) in enumerate(itertools.product(NOUNS, PLACES), len(ASKED))
]


@pytest.fixture(scope="module")
def asked() -> BenchmarkIndex:
    """Enough questions that common words weigh little."""
    return build_index([("asked", items_table(ASKED))])


@pytest.mark.parametrize(
    ("number", "before", "after"),
    [
        (0, "Find $q$", "Find $p$"),
        (1, "\\cos L", "\\cos M"),
        (1, "\\cos L", "\\sin L"),
        (2, "that all of the lamps", "that both of the lamps"),
        (2, "that all of the lamps are", "that all of the lamps but one are"),
        (2, "that all of the lamps", "that none of the lamps"),
        (3, "3x^2.$", "3x^2 - 6x.$"),
        (3, "3x^2.$", "3x^2 + 1.$"),
        (4, "fish from", "jump off"),
        (5, "Find $m.$", "Find $k.$"),
        (6, "What is $v$?", "What is $w$?"),
    ],
)
def test_another_symbol_quantifier_or_word_in_what_is_asked_makes_another_question(
    asked: BenchmarkIndex, number: int, before: str, after: str
) -> None:
    question = ASKED[number].question
    assert before in question
    for frame in ("{}", "Solve the problem.\n\n{}\n\nThink first."):
        same, other = classes_of(
            asked, [(frame.format(text), "") for text in (question, question.replace(before, after))]
        )
        assert ("test_leak", ASKED[number].id) in same
        assert ("test_leak", ASKED[number].id) not in other


FORMULAS = [
    "The graph of $y = g(x)$ passes through the point $(4,9)$ and $g$ is one to one. What point must lie on the graph of $x = g(y) + 6$?",
    "In trapezoid $KLMN$ the parallel sides have lengths $13$ and $29$, and the height is $8$. What is the area of the trapezoid?",
    "If $p$ and $q$ are positive integers with $5p + 3q + pq = 77$, what is the value of $p + q$ that is the least?",
    "A weaver needs 6 spools of green yarn and a third as many spools of grey yarn. How many spools does she need in all?",
    "How many lattice points lie on the line $y = -3x + 24$ if $x \\geq 0$ and $y \\geq 0$ and neither is a multiple of five?",
    "Let $\\log_3(a^2b^5c)$ be seven and let $a$, $b$ and $c$ be distinct powers of three. Find the product of $a$ and $b_1$.",
    "A hexagonal garden is divided into six congruent triangles, as in the diagram. If the perimeter of the garden is 84 metres, "
    "what is the perimeter of one of the triangles? [asy] draw((0,0)--(2,0)--(3,1)--cycle); [/asy]",
]  # fmt: skip
QUEUES = [
    f"{one} and {two} wait in a queue. {one} stands in front of {three}. {three} stands behind {two}. Who is the {place} in the queue?"
    for one in ("Ada", "Bela", "Cleo", "Dario") for two in ("Enzo", "Fay", "Gus") for three in ("Hugo", "Ines")
    for place in ("first", "last")
]  # fmt: skip


@pytest.fixture(scope="module")
def formulas() -> BenchmarkIndex:
    questions = [*FORMULAS, *QUEUES, *(one.question for one in ASKED)]
    return build_index(
        [("made", items_table([Item(f"made/test/{n}", "test", text, "") for n, text in enumerate(questions)]))]
    )


@pytest.mark.parametrize(
    ("number", "before", "after"),
    [
        (0, "$y = g(x)$", "$y = g'(x)$"),
        (1, "and $29$", "and $29!$"),
        (2, "= 77$", "= \\sqrt{77}$"),
        (2, "= 77$", "= -77$"),
        (3, "6 spools", "6% of the spools"),
        (len(FORMULAS), "in front of", "close to"),
        (len(FORMULAS), "stands behind", "stands before"),
    ],
)
def test_a_sign_that_is_added_and_another_word_in_a_template_make_another_question(
    formulas: BenchmarkIndex, number: int, before: str, after: str
) -> None:
    question = [*FORMULAS, *QUEUES][number]
    assert before in question
    same, other = classes_of(formulas, [(question, ""), (question.replace(before, after), "")])
    assert ("test_leak", f"made/test/{number}") in same
    assert ("test_leak", f"made/test/{number}") not in other


@pytest.mark.parametrize(
    ("number", "before", "after"),
    [
        (4, "-3x", "-3 x"),
        (4, "$x \\geq 0$ and $y \\geq 0$", "$x >= 0$ and $y ≥ 0$"),
        (4, "$", "<math>"),
        (5, "a^2b^5c", "a^{2}b^{5}c"),
        (5, "b_1", "b_{1}^{}"),
        (6, " [asy] draw((0,0)--(2,0)--(3,1)--cycle); [/asy]", ""),
        (2, "If $p$", "**Problem.** If $p$"),
    ],
)
def test_a_question_in_another_notation_is_the_question(
    formulas: BenchmarkIndex, number: int, before: str, after: str
) -> None:
    assert before in FORMULAS[number]
    text = FORMULAS[number].replace(before, after)
    assert ("test_leak", f"made/test/{number}") in classes_of(formulas, [(text, "")])[0]


def test_a_question_of_which_one_symbol_differs_is_a_near_leak(asked: BenchmarkIndex) -> None:
    text = ASKED[0].question.replace("Find $q$", "Find $p$")
    assert ("near_leak", ASKED[0].id) in classes_of(asked, [(text, "")])[0]


def test_a_question_of_a_split_to_learn_from_is_no_near_leak(index: BenchmarkIndex) -> None:
    text = MANUAL[13].question.replace("clearly", "faintly")
    assert all(kind != "near_leak" for kind, item in classes_of(index, [(text, "")])[0] if item == MANUAL[13].id)


def test_articles_and_endings_are_no_symbols() -> None:
    """ "a", "I" and the "s" of "it's" are words; the same letters in a formula are symbols."""
    words = ["find a circle", "give it's name or I do", "don't, a tree"]
    symbols = ["find $A$ to the left", "find tan A", "the sides $s$ and $t$ do", "f(a b", "find a + s"]

    def decisive(text: str) -> list[str]:
        items = items_table([Item("own/test/0", "test", text, "")])
        index = build_index([("own", items)]).arrays
        tokens = index.text[: index.text_start[1]].tobytes().decode().split()
        return [token for token, value in zip(tokens, index.number, strict=False) if value == DECISIVE]

    assert [decisive(text) for text in words] == [[], [], []]
    assert [decisive(text) for text in symbols] == [["a"], ["a"], ["s", "t"], ["f", "a", "b"], ["a", "+", "s"]]


def test_a_passage_without_its_question_is_shared_and_with_it_a_leak(index: BenchmarkIndex) -> None:
    other = passage_with_other_question(Question(MANUAL[7].id, MANUAL[7].question, (), PASSAGE))
    assert other
    alone, asked = classes_of(index, [(other, ""), (PASSAGE + "\n\n" + MANUAL[8].question, "1872")])
    assert {kind for kind, _ in alone} == {"shared_passage"}
    assert ("test_leak", "own/test/8") in asked and ("test_leak", "own/test/7") not in asked


def test_a_question_that_many_items_ask_is_identified_by_its_choices(index: BenchmarkIndex) -> None:
    only, with_choices = classes_of(
        index, [question_only(MANUAL[3], random.Random(0)), verbatim(MANUAL[3], random.Random(0))]
    )
    assert all(kind != "test_leak" for kind, _ in only)
    assert {item for kind, item in with_choices if kind == "test_leak"} == {"own/test/3"}


def test_questions_that_differ_only_in_punctuation_are_told_apart_by_it() -> None:
    """Tokens have no brackets; six items that ask to close some differ only in them."""
    opened = ["( [ {", "[ ( {", "{ ( [", "( ( [", "[ [ {", "{ { ("]
    ask = "Complete the rest of the sequence, making sure that the parentheses are closed properly. Input: "
    items = [Item(f"own/test/{n}", "test", ask + marks, "") for n, marks in enumerate(opened)]
    index = build_index([("own", items_table(items))])
    texts = [(f"Solve this.\n{item.question}\nAnswer:", "") for item in items] + [(ask + "< < <", "")]
    leaks = [{item for kind, item in hits if kind == "test_leak"} for hits in classes_of(index, texts)]
    assert leaks == [{item.id} for item in items] + [set()]


def test_a_word_that_is_an_item_is_no_leak_in_other_text(index: BenchmarkIndex) -> None:
    texts = [("Name a cell type.", "Osteoclasts"), ("Osteoclasts and osteoblasts work in pairs.", "Quite so.")]
    assert all(kind != "test_leak" for hits in classes_of(index, texts) for kind, _ in hits)


def test_an_item_of_a_split_to_learn_from_is_no_test_leak(index: BenchmarkIndex) -> None:
    hits = classes_of(index, [verbatim(MANUAL[13], random.Random(0))])[0]
    assert ("train_split", "own/dev/0") in hits and not any(kind == "test_leak" for kind, _ in hits)


def test_an_item_that_begins_in_the_instruction_and_ends_in_the_response_is_found(index: BenchmarkIndex) -> None:
    words = MANUAL[10].question.split()
    assert ("test_leak", MANUAL[10].id) in classes_of(index, [(" ".join(words[:14]), " ".join(words[14:]))])[0]


def test_the_span_is_the_text_of_the_item(index: BenchmarkIndex) -> None:
    instruction, response = embedded(MANUAL[0], random.Random(0))
    hits = classify_hits(
        index, scan_texts(index, pa.array([instruction]), pa.array([response])).hits, "ngram13", NONE_COMMON
    )
    leak = next(hit for hit in hits.to_pylist() if hit["class"] == "test_leak")
    assert leak["field"] == 1
    assert response.encode()[leak["start"] : leak["end"]].decode() == MANUAL[0].question.rstrip("?")


# --------------------------------------------------------------------------------------------------------------- rules


def test_each_published_rule_reads_the_same_hits_its_own_way(index: BenchmarkIndex) -> None:
    """Three texts share 9 and 14 tokens of an item of 27, and all of it; each rule has its own limit."""
    words = MANUAL[10].question.split()
    texts = [" ".join(words[:9]), " ".join(words[:14]), " ".join(words)]
    hits = classify_hits(index, scan_texts(index, pa.array(texts), pa.array(["", "", ""])).hits, "ngram13", NONE_COMMON)
    flags = {
        hit["row"]: set(hit["rules"]) for hit in hits.to_pylist() if index.ids[hit["item"]].as_py() == MANUAL[10].id
    }
    assert flags[0] == {"open_r1"}
    assert {"gpt3", "open_r1"} <= flags[1] and not {"palm", "llama2", "hrm_text", "ngram13"} & flags[1]
    assert flags[2] == set(RULES)


def test_gpt3_ignores_13_grams_that_many_texts_contain(index: BenchmarkIndex) -> None:
    text = pa.array([MANUAL[10].question] * 11)
    hits, counts = scan_texts(index, text, pa.array([""] * 11))
    counts = counts.filter(pc.equal(counts["length"], 13))
    grams = counts["gram"].to_numpy()
    assert set(counts["rows"].to_pylist()) == {11} and np.array_equal(grams, np.sort(grams))
    rare, common = classify_hits(index, hits, "gpt3", NONE_COMMON), classify_hits(index, hits, "gpt3", grams)
    assert set(rare["class"].to_pylist()) == {"test_leak"}
    assert "gpt3" not in {rule for rules in common["rules"].to_pylist() for rule in rules}


def test_every_rule_has_a_description_and_a_source() -> None:
    assert {"ngram13", "gpt3", "palm", "llama2", "tulu3", "qwen25", "open_r1", "hrm_text"} <= RULES.keys()
    assert all(rule.description and rule.source for rule in RULES.values())


# ----------------------------------------------------------------------------------------------------- scan and index


def test_hits_are_confirmed_against_the_string(index: BenchmarkIndex) -> None:
    """An index whose text differs from its hashes finds nothing: equal hashes are no hit."""
    question = MANUAL[10].question
    honest = scan_texts(index, pa.array([question]), pa.array([""]))
    forged = index._replace(
        arrays=index.arrays._replace(text=np.where(index.arrays.text == 32, 32, 120).astype(np.uint8))
    )
    found = scan_texts(forged, pa.array([question]), pa.array([""]))
    assert honest.hits.num_rows and honest.grams.num_rows
    assert found.hits.num_rows == 0 and found.grams.num_rows == 0


def test_what_is_found_in_a_text_does_not_depend_on_its_neighbours(
    index: BenchmarkIndex, generated: list[Item]
) -> None:
    texts = [disguise(item, random.Random(1)) for item in generated[:12] for disguise in DISGUISES.values()]
    one = [classes_of(index, [text])[0] for text in texts]
    assert classes_of(index, texts) == one
    assert classes_of(index, texts[::-1]) == one[::-1]


def test_an_index_comes_back_from_its_file_as_it_was(index: BenchmarkIndex, tmp_path: Path) -> None:
    with pa.ipc.new_file(str(tmp_path / "index.arrow"), index_to_table(index).schema) as writer:
        writer.write_table(index_to_table(index))
    with pa.memory_map(str(tmp_path / "index.arrow")) as source:
        mapped = index_from_table(pa.ipc.open_file(source).read_all())
        assert all(np.array_equal(a, b) for a, b in zip(mapped.arrays, index.arrays, strict=True))
        assert mapped.ids.equals(index.ids) and mapped.splits.equals(index.splits) and mapped.names.equals(index.names)
        texts = [verbatim(MANUAL[0], random.Random(0))]
        assert classes_of(mapped, texts) == classes_of(index, texts)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), min_size=1, max_size=6))
def test_any_text_is_scanned_to_the_schema(index: BenchmarkIndex, texts: list[tuple[str, str]]) -> None:
    clean = [tuple(field.encode("utf-8", "ignore").decode() for field in text) for text in texts]
    hits = scan_texts(
        index, pa.array([t[0] for t in clean], pa.string()), pa.array([t[1] for t in clean], pa.string())
    ).hits
    assert hits.schema.equals(HITS)
    assert set(classify_hits(index, hits, "ngram13", NONE_COMMON)["class"].to_pylist()) <= set(CLASSES)


def test_a_long_repetitive_text_and_empty_texts_are_scanned(index: BenchmarkIndex) -> None:
    texts = pa.array(["", "1 " * 5000, "? = " * 3000, MANUAL[11].question * 50])
    hits = scan_texts(index, texts, pa.array(["", "", "", ""])).hits
    assert set(classify_hits(index, hits, "ngram13", NONE_COMMON)["row"].to_pylist()) <= {1, 2, 3}


# ------------------------------------------------------------------------------------------------------------ real data


@pytest.fixture(scope="module")
def real(shared_data: Path) -> tuple[BenchmarkIndex, list[tuple[str, pa.Table]]]:
    benchmarks = real_benchmarks(shared_data)
    return build_index(benchmarks), benchmarks


def test_real_items_of_every_benchmark_are_found_in_every_disguise(
    real: tuple[BenchmarkIndex, list[tuple[str, pa.Table]]],
) -> None:
    index, benchmarks = real
    planted = recall_by_disguise(index, sample(benchmarks, 60))
    for score in planted:
        assert score.recall >= 0.99, score
    table = by_benchmark(planted)
    assert set(table) == {name for name, _ in benchmarks}
    for name, recalls in table.items():
        assert all(recall >= 0.97 for recall in recalls.values()), (name, recalls)  # one of 60 may fail
    assert index.nbytes < 300 << 20


def test_real_near_misses_raise_no_alarm(real: tuple[BenchmarkIndex, list[tuple[str, pa.Table]]]) -> None:
    index, benchmarks = real
    near = near_miss_scores(index, sample(benchmarks, 60))
    assert sum(score.planted for score in near) > 1500
    for score in near:
        assert score.recall >= 0.95, (score.name, score.recall, score.missed[:6])


def test_twists_of_real_items_raise_no_alarm(real: tuple[BenchmarkIndex, list[tuple[str, pa.Table]]]) -> None:
    """Another number, symbol, operator, quantifier or quantity, and negations, on items of every benchmark."""
    scores = twist_scores(real[0], sample(real[1], 60))
    assert {score.name for score in scores} == set(TWISTS) and sum(score.planted for score in scores) > 900
    for score in scores:
        assert score.recall >= 0.98, (score.name, score.missed)


def test_real_items_are_found_in_harmless_forms(real: tuple[BenchmarkIndex, list[tuple[str, pa.Table]]]) -> None:
    scores = {score.name: score for score in recall_by_form(real[0], sample(real[1], 60))}
    assert scores.keys() == FORMS.keys()
    for form, score in scores.items():
        few = score.planted - len(score.missed) >= score.planted - 1  # of few texts, one may be missed
        assert score.recall >= 0.99 or few, (form, score.missed)
    assert sum(score.planted > 300 for score in scores.values()) >= 14


def test_real_items_that_are_held_out_of_the_index_raise_no_alarm(
    real: tuple[BenchmarkIndex, list[tuple[str, pa.Table]]],
) -> None:
    """The hardest near misses: other items of the same sets, many of them from the same templates."""
    score = held_out([one for one in real[1] if one[0] in ("gsm8k", "math", "bbh", "arc_easy", "winogrande")], 200)
    assert score.planted > 900
    assert score.recall >= 0.95, score.missed


def test_items_in_another_language_or_in_other_words_are_reported_as_missed(
    real: tuple[BenchmarkIndex, list[tuple[str, pa.Table]]], shared_data: Path
) -> None:
    """No n-gram finds these; they are reported beside what is found."""
    index, benchmarks = real
    foreign, rephrased = expected_misses(index, sample(benchmarks, 20), real_rephrased(shared_data))
    assert foreign.planted > 200 and foreign.recall < 0.05, foreign.found
    assert rephrased.planted == 293 + 147 and rephrased.recall < 0.5


def test_items_translated_by_hand_are_missed(index: BenchmarkIndex) -> None:
    texts = {
        "own/test/0": "Welches Gas nehmen Pflanzen aus der Luft auf, um Zucker herzustellen?",
        "own/test/7": "Qu'est-ce que les gardiens du phare notaient dans leurs registres ?",
        "own/test/10": "Petra camina 14 km el lunes, 9 km el martes y el viernes el doble que el lunes. ¿Cuántos?",
    }
    for item, hits in zip(texts, classes_of(index, [(text, "") for text in texts.values()]), strict=True):
        assert ("test_leak", item) not in hits


def test_written_near_misses_are_many_and_unlike_each_other() -> None:
    texts = [text for kind in written().values() for text in kind]
    assert len(set(texts)) > 600
