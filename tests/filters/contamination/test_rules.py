"""Each published rule against its definition, written in plain Python over lists of words.

Texts and items are drawn from a vocabulary of distinct words, so that the words of the definitions are the tokens of
the scan. The definitions are those of the papers; the tests hold how closely the rules follow them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from filters.contamination.coverage import Coverage
from filters.contamination.index import BenchmarkIndex, build_index
from filters.contamination.rules import COMMON_ROWS, RULES, classify_hits, corpus_flags
from filters.contamination.scan import scan_texts
from pipelines.records import ITEM

Words = Sequence[str]
VOCABULARY = [f"{a}{b}{c}" for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("l", "n", "r", "s", "x", "")]


def grams(words: Words, n: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def covered(item: Words, held: set[tuple[str, ...]], n: int) -> float:
    """The share of an item's tokens inside n-grams of `held`."""
    inside = [False] * len(item)
    for i in range(len(item) - n + 1):
        if tuple(item[i : i + n]) in held:
            inside[i : i + n] = [True] * n
    return sum(inside) / len(item)


def gpt3(item: Words, text: Words) -> bool:
    """Brown et al., appendix C: any 13-gram in common. (Common 13-grams are tested elsewhere.)"""
    return bool(grams(item, 13) & grams(text, 13))


def palm(item: Words, corpus: set[tuple[str, ...]]) -> bool:
    """Chowdhery et al., section 8: at least 70 % of the 8-grams were seen at least once."""
    mine = [tuple(item[i : i + 8]) for i in range(len(item) - 7)]
    return bool(mine) and sum(gram in corpus for gram in mine) >= 0.7 * len(mine)


def llama2(item: Words, text: Words) -> bool:
    """Touvron et al., A.6: a token is contaminated in a match of more than 10 tokens, which may differ in four places,
    none of them among the first ten or at its end; an item is dirty from 80 % on."""
    inside = [False] * len(item)
    for q in range(len(item)):
        for i in range(len(text)):
            if list(item[q : q + 10]) != list(text[i : i + 10]) or q + 10 > len(item):
                continue
            skips, last = 0, 10
            for k in range(10, min(len(item) - q, len(text) - i)):
                if item[q + k] == text[i + k]:
                    last = k + 1
                else:
                    skips += 1
                    if skips > 4:
                        break
            if last > 10:
                inside[q : q + last] = [True] * last
    return sum(inside) >= 0.8 * len(item)


def tulu3(item: Words, text: Words) -> bool:
    """Lambert et al., 3.2: more than half of the item's tokens in 8-grams of one training instance."""
    return covered(item, grams(text, 8), 8) > 0.5


def qwen25(item: Words, text: Words) -> bool:
    """Qwen2.5, section 3: the longest common subsequence has 13 tokens and 0.6 of the shorter sequence."""
    line = [0] * (len(text) + 1)
    for word in item:
        diagonal = 0
        for b, other in enumerate(text, 1):
            diagonal, line[b] = line[b], diagonal + 1 if word == other else max(line[b], line[b - 1])
    return line[-1] >= 13 and line[-1] >= 0.6 * min(len(item), len(text))


def open_r1(item: Words, text: Words) -> bool:
    """scripts/decontaminate.py: any 8-gram in common."""
    return bool(grams(item, 8) & grams(text, 8))


def pieces(dice: random.Random, item: list[str]) -> list[str]:
    """A text with one or two pieces of the item, some with changed words, between words of its own."""
    text = dice.choices(VOCABULARY, k=dice.randint(0, 9))
    for _ in range(dice.randint(1, 2)):
        begin = dice.randint(0, max(0, len(item) - 8))
        cut = item[begin : begin + dice.randint(6, len(item))]
        for _ in range(dice.choice([0, 0, 1, 3, 5])):
            cut[dice.randrange(len(cut))] = dice.choice(VOCABULARY)
        text += cut + dice.choices(VOCABULARY, k=dice.randint(1, 9))
    return text


class Case:
    """Sixty items, three texts with pieces of each, and what the scan flags."""

    def __init__(self, seed: int) -> None:
        dice = random.Random(seed)
        self.items = [dice.choices(VOCABULARY, k=dice.randint(9, 45)) for _ in range(60)]
        self.texts = [pieces(dice, item) for item in self.items for _ in range(3)]
        rows = [
            {"id": f"own/{n}", "split": "test", "question": " ".join(i), "answer": "", "choices": [], "passage": ""}
            for n, i in enumerate(self.items)
        ]
        self.index: BenchmarkIndex = build_index([("own", pa.Table.from_pylist(rows, ITEM))])
        blank = pa.array([""] * len(self.texts), pa.string())
        self.scan = scan_texts(self.index, pa.array([" ".join(text) for text in self.texts]), blank)
        judged = classify_hits(self.index, self.scan.hits, "ngram13", np.empty(0, np.uint64))
        self.flags = {rule: {(h["row"], h["item"]) for h in judged.to_pylist() if rule in h["rules"]} for rule in RULES}


@pytest.fixture(scope="module", params=range(4))
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


PAIRWISE: dict[str, Callable[[Words, Words], bool]] = {
    "gpt3": gpt3,
    "palm": lambda item, text: palm(item, grams(text, 8)),
    "llama2": llama2,
    "tulu3": tulu3,
    "open_r1": open_r1,
    "hrm_text": lambda item, text: covered(item, grams(text, 13), 13) >= 0.8,
    "hrm_text20": lambda item, text: covered(item, grams(text, 20), 20) >= 0.8,
}


@pytest.mark.parametrize("rule", PAIRWISE)
def test_a_rule_flags_the_pairs_that_its_definition_does(case: Case, rule: str) -> None:
    """Every item is compared with its own three texts: the others share a word with it at most."""
    expected = {(row, row // 3) for row, text in enumerate(case.texts) if PAIRWISE[rule](case.items[row // 3], text)}
    assert 3 < len(expected) < 175
    assert case.flags[rule] == expected


def test_qwens_subsequence_is_searched_around_shared_runs(case: Case) -> None:
    """Never more than the definition. Less only where shared runs cover little of the item, or it is scattered."""
    expected = {(row, row // 3) for row, text in enumerate(case.texts) if qwen25(case.items[row // 3], text)}
    assert case.flags["qwen25"] <= expected
    assert len(case.flags["qwen25"]) >= 0.85 * len(expected) > 5


def test_corpus_flags_are_the_union_that_papers_take(case: Case) -> None:
    union = corpus_flags(Coverage(case.index, case.scan.grams))
    assert set(union) == {"palm", "llama2", "open_r1", "hrm_text", "hrm_text20"}
    held = {n: set().union(*[grams(text, n) for text in case.texts]) for n in (8, 11, 13, 20)}
    expected = {
        "palm": [palm(item, held[8]) for item in case.items],
        "llama2": [covered(item, held[11], 11) >= 0.8 for item in case.items],
        "open_r1": [covered(item, held[8], 8) > 0 for item in case.items],
        "hrm_text": [covered(item, held[13], 13) >= 0.8 for item in case.items],
        "hrm_text20": [covered(item, held[20], 20) >= 0.8 for item in case.items],
    }
    for rule, items in expected.items():
        assert union[rule].tolist() == items, rule
    # Some items are dirty only by several texts together, so the union is really tested.
    assert {item for item in range(60) if union["hrm_text"][item]} - {item for _, item in case.flags["hrm_text"]}


def test_a_frame_that_many_items_share_is_counted_for_each_of_them() -> None:
    """The seeds of a phrase in more than eight items stand for one of them; counted n-grams do not."""
    dice = random.Random(1)
    frame = dice.choices(VOCABULARY, k=24)
    rows = [
        {
            "id": f"own/{n}", "split": "test", "question": " ".join(frame + dice.choices(VOCABULARY, k=4)),
            "answer": "", "choices": [], "passage": "",
        }
        for n in range(40)
    ]  # fmt: skip
    index = build_index([("own", pa.Table.from_pylist(rows, ITEM))])
    found = scan_texts(index, pa.array([" ".join(frame[:n]) for n in (12, 22)]), pa.array(["", ""]))
    union = corpus_flags(Coverage(index, found.grams))
    assert union["open_r1"].all() and union["palm"].sum() == 40 and not union["hrm_text"].any()
    by_length = {n: len(found.grams.filter(pc.equal(found.grams["length"], n))) for n in (8, 11, 13, 20)}
    assert by_length == {8: 15, 11: 12, 13: 10, 20: 3}


def test_gpt3_ignores_an_n_gram_from_the_eleventh_text_on() -> None:
    dice = random.Random(2)
    question = dice.choices(VOCABULARY, k=15)
    row = {"id": "own/0", "split": "test", "question": " ".join(question), "answer": "", "choices": [], "passage": ""}
    index = build_index([("own", pa.Table.from_pylist([row], ITEM))])
    for texts, flagged in ((COMMON_ROWS, True), (COMMON_ROWS + 1, False)):
        found = scan_texts(index, pa.array([" ".join(question)] * texts), pa.array([""] * texts))
        common = found.grams.filter(
            pc.and_(pc.equal(found.grams["length"], 13), pc.greater(found.grams["rows"], COMMON_ROWS))
        )
        hits = classify_hits(index, found.hits, "gpt3", common["gram"].to_numpy())
        assert all(("gpt3" in rules) == flagged for rules in hits["rules"].to_pylist())
