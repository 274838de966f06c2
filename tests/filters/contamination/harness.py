"""Planted leaks and near misses: recall by disguise and benchmark, and false alarms. For the tests and `make bench`.

Recall: real items in eight disguises, each of which must be found with its class. Expected misses, reported as such:
items in another language and in other words. Precision: texts that hold no item
(`tests/filters/contamination/hard_negatives.py`), and real items that are not in the index, many of them made from the
same templates as items in it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from dedup.tokens import normalise
from filters.contamination.index import BenchmarkIndex, build_index
from filters.contamination.layout import READING
from filters.contamination.rules import classify_hits
from filters.contamination.scan import scan_texts
from pipelines.recipe import BenchmarkSpec
from pipelines.records import ITEM
from pipelines.steps.benchmark_index import benchmark_items
from tests.filters.contamination.forms import FORMS, TWISTS, made_from
from tests.filters.contamination.hard_negatives import DERIVED, Question, crossed, other_question, written

NONE_COMMON = np.empty(0, np.uint64)


class Item(NamedTuple):
    """A benchmark item."""

    id: str
    split: str
    question: str
    answer: str
    choices: Sequence[str] = ()
    passage: str = ""


def items_table(items: Sequence[Item]) -> pa.Table:
    columns = zip(*[(i.id, i.split, i.question, i.answer, list(i.choices), i.passage) for i in items], strict=True)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, ITEM, strict=True)], schema=ITEM)


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
    """Case swapped; punctuation that is no operator and in no number replaced, removed before a space, or curled.

    Not after a letter, where `!` is a factorial.
    """
    text = full(item).replace("'", "\u2019")
    text = re.sub(r"(?<!\d)(?<!\b\w)[,;:!?\"()](?=\s|$)", lambda m: dice.choice(["", "!", "…"]), text)
    text = re.sub(r"(?<=\s)[\"(](?!\d)", "«", text)
    return text.swapcase() if text.swapcase().casefold() == text.casefold() else text, item.answer.upper()


def wrapped(item: Item, dice: random.Random) -> tuple[str, str]:
    """Eight words to a line, indented as in a quoted reply."""
    words = full(item).split()
    return "\n".join("  " + " ".join(words[n : n + 8]) for n in range(0, len(words), 8)), item.answer


def embedded(item: Item, dice: random.Random) -> tuple[str, str]:
    """In the middle of a paragraph, in the response."""
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


def is_identifying(item: Item) -> bool:
    """Whether a question identifies its item without the choices: a rough measure, independent of the scanner's."""
    words = re.findall(r"\w+", item.question)
    return len(words) >= 13 or len({word.casefold() for word in words if len(word) > 3}) >= 5


def is_applicable(name: str, item: Item, alike: int) -> bool:
    """Whether a disguise makes sense for an item: it needs choices to shuffle, or a question of its own."""
    if name == "choices shuffled":
        return len(item.choices) > 1
    if name == "case and punctuation":
        # Not where punctuation means something: rows of brackets, brackets that group numbers, programs.
        return not re.search(r"(?:[\[\](){}<>]\s+){2}|[-+*/=] \(|^def |\[asy\]", item.question, re.MULTILINE)
    if name == "re-wrapped":  # the lines of a program are its syntax
        return not re.search(r"^def ", item.question, re.MULTILINE)
    if name == "question only":
        return is_identifying(item) and alike <= 3
    if name == "question with answer":
        return alike <= 3
    return True


def classes_of(
    index: BenchmarkIndex, texts: Sequence[tuple[str, str]], rule: str = "ngram13"
) -> list[set[tuple[str, str]]]:
    """(class, item id) of every hit of every text."""
    instruction, response = (pa.array(list(column), pa.string()) for column in zip(*texts, strict=True))
    hits = classify_hits(index, scan_texts(index, instruction, response).hits, rule, NONE_COMMON)
    found: list[set[tuple[str, str]]] = [set() for _ in texts]
    ids = index.ids.take(hits["item"].combine_chunks()).to_pylist()
    for row, item, kind in zip(hits["row"].to_pylist(), ids, hits["class"].to_pylist(), strict=True):
        found[row].add((kind, item))
    return found


class Score(NamedTuple):
    """One row of the table: the ids that were tried, and those that were missed (or raised a false alarm)."""

    name: str
    ids: list[str]
    missed: list[str]

    @property
    def planted(self) -> int:
        """The number of texts tried."""
        return len(self.ids)

    @property
    def found(self) -> int:
        """The number of correct results."""
        return len(self.ids) - len(self.missed)

    @property
    def recall(self) -> float:
        """The share of correct results, 0 to 1."""
        return self.found / self.planted if self.planted else 1.0

    def of(self, benchmark: str) -> Score:
        """The score of one benchmark's items."""
        return Score(self.name, *[[one for one in ids if one.split("/")[0] == benchmark] for ids in self[1:]])


def recall_by_disguise(index: BenchmarkIndex, items: Sequence[Item]) -> list[Score]:
    """Recall by disguise: whether the item itself is found, as a test leak or as one of a split to learn from."""
    dice = random.Random(5)
    shared = dict(zip(index.ids.to_pylist(), index.arrays.shared.tolist(), strict=True))
    scores = []
    for name, disguise in DISGUISES.items():
        chosen = [item for item in items if is_applicable(name, item, shared[item.id])]
        if chosen:
            scores.append(found(index, name, [(item.id, disguise(item, dice)) for item in chosen]))
    return scores


def found(index: BenchmarkIndex, name: str, texts: Sequence[tuple[str, tuple[str, str]]]) -> Score:
    """Whether the item in each text is found. texts: the item's id, and the instruction and response."""
    trained = dict(zip(index.ids.to_pylist(), index.arrays.trained.tolist(), strict=True))
    hits = classes_of(index, [text for _, text in texts])
    kinds = ["train_split" if trained[one] else "test_leak" for one, _ in texts]
    missed = [one for (one, _), kind, hit in zip(texts, kinds, hits, strict=True) if (kind, one) not in hit]
    return Score(name, [one for one, _ in texts], missed)


def recall_by_form(index: BenchmarkIndex, items: Sequence[Item]) -> list[Score]:
    """Recall by harmless form (`forms.FORMS`) of question and choices."""
    texts = [(item.id, full(item)) for item in items]
    answers = {item.id: item.answer for item in items}
    made = {name: made_from(form, texts) for name, form in FORMS.items()}
    return [
        found(index, name, [(one.id, (one.text, answers[one.id])) for one in forms]) for name, forms in made.items()
    ]


def twist_scores(index: BenchmarkIndex, items: Sequence[Item]) -> list[Score]:
    """Twists of meaning (`forms.TWISTS`) of the question: `missed` are items found all the same.

    A twisted question that is itself a question of the set is left out.
    """
    known = set(normalise(pa.array([item.question for item in items]), READING).to_pylist())
    scores = []
    for name, twist in TWISTS.items():
        made = made_from(twist, [(item.id, item.question) for item in items])
        plain = normalise(pa.array([one.text for one in made], pa.string()), READING).to_pylist()
        made = [one for one, text in zip(made, plain, strict=True) if text not in known]
        if not made:
            continue
        hits = classes_of(index, [(one.text, "As above.") for one in made])
        alarms = [
            one.id
            for one, hit in zip(made, hits, strict=True)
            if ("test_leak", one.id) in hit or ("train_split", one.id) in hit
        ]
        scores.append(Score(name, [one.id for one in made], alarms))
    return scores


_WORDS = """
= the=der a=ein an=eine of=von and=und or=oder to=zu in=im on=auf at=bei is=ist are=sind was=war were=waren be=sein
has=hat have=haben had=hatte how=wie many=viele much=viel what=was which=welche who=wer when=wann where=wo why=warum
if=wenn then=dann than=als that=dass this=dies these=diese he=er she=sie it=es they=sie his=sein her=ihr their=ihre
with=mit for=für from=aus by=durch as=als not=nicht no=kein each=jede every=jeder more=mehr less=weniger
total=gesamt  number=Zahl day=Tag days=Tage week=Woche hour=Stunde hours=Stunden year=Jahr years=Jahre time=Zeit
times=mal there=dort  one=eins two=zwei three=drei four=vier five=fünf
"""
GLOSSARY = dict(pair.split("=") for pair in _WORDS.split())
_ROTATED = str.maketrans("abcdefghijklmnopqrstuvwxyz", "eumniotzkhgpdbajxwrsvqcfyl")


def translated(item: Item) -> tuple[str, str]:
    """In an invented language: common words in German, others by a cipher; numbers and formulas stay."""

    def word(match: re.Match[str]) -> str:
        plain = match[0].lower()
        return GLOSSARY.get(plain) or plain.translate(_ROTATED) + "en"

    return re.sub(r"(?<![\\\w])[A-Za-z]{2,}", word, item.question), "Ich weiß es nicht."


def expected_misses(index: BenchmarkIndex, items: Sequence[Item], rephrased: Sequence[tuple[str, str]]) -> list[Score]:
    """Scores of what n-grams cannot find. rephrased: ids of items, and their questions in other words."""
    chosen = [item for item in items if len(re.findall(r"[A-Za-z]{3,}", item.question)) >= 8]
    return [
        found(index, "translated", [(item.id, translated(item)) for item in chosen]),
        *([found(index, "paraphrased", [(one, (text, "")) for one, text in rephrased])] if rephrased else []),
    ]


def real_rephrased(data: Path) -> list[tuple[str, str]]:
    """Items of MMLU and HumanEval rephrased by LLM-Decontaminator's authors, by the original's id."""
    folder = data / "benchmarks" / "rephrased"
    mmlu = BenchmarkSpec(name="rephrased_mmlu", path=(f"{folder}/*.csv", f"{folder}/*_rephrase_*.jsonl"))
    humaneval = BenchmarkSpec(name="rephrased_humaneval", path=f"{folder}/humaneval_python.jsonl")
    pairs = []
    for spec in (mmlu, humaneval):
        for row in benchmark_items(spec).to_pylist():
            _, file, number = row["id"].split("/")
            own = file.split("_rephrase_")[0] if spec is mmlu else "HumanEval"
            pairs.append((f"{spec.name.removeprefix('rephrased_')}/{own}/{number}", row["question"]))
    return pairs


def near_miss_scores(index: BenchmarkIndex, items: Sequence[Item]) -> list[Score]:
    """Near misses by kind: `missed` are the texts that raised an alarm.

    Written texts must contain no item at all. A text derived from an item may contain another one (with other numbers
    it may be another item of the same set); it is an alarm only if the item that it was derived from is found.
    """
    scores = []
    for kind, texts in written().items():
        hits = classes_of(index, [(text, "") for text in texts])
        alarms = [text[:60] for text, hit in zip(texts, hits, strict=True) if any(one == "test_leak" for one, _ in hit)]
        scores.append(Score(kind, [text[:60] for text in texts], alarms))
    derived: dict[str, list[tuple[str, tuple[str, ...]]]] = {
        kind: [
            (text, (item.id,))
            for item in items
            if (text := make(Question(item.id, item.question, item.choices, item.passage))) and text != item.question
        ]
        for kind, make in DERIVED.items()
    }
    asked = [Question(item.id, item.question) for item in items]
    derived["body, another question"] = list(other_question(asked))
    derived["two items crossed"] = list(crossed(asked))
    for kind, made in derived.items():
        if made:
            hits = classes_of(index, [(text, "As above.") for text, _ in made])
            alarms = [
                ids[0]
                for (_, ids), hit in zip(made, hits, strict=True)
                if any((leak, one) in hit for leak in ("test_leak", "train_split") for one in ids)
            ]
            scores.append(Score(kind, [ids[0] for _, ids in made], alarms))
    return scores


def held_out(benchmarks: Sequence[tuple[str, pa.Table]], each: int) -> Score:
    """Every second item of some sets against an index of the others: similar to them, but none of them.

    Items whose question equals one of the index's, token for token, are left out: two items ask the same, so a hit is
    right.
    """
    inside = [(name, table.take(np.arange(0, table.num_rows, 2))) for name, table in benchmarks]
    index = build_index(inside)
    known = {text for _, table in inside for text in normalise(table["question"].combine_chunks(), READING).to_pylist()}
    chosen = []
    for _, table in benchmarks:
        odd = table.take(np.arange(1, table.num_rows, 2))
        odd = odd.take(np.arange(0, odd.num_rows, max(1, odd.num_rows // each)))
        plain = normalise(odd["question"].combine_chunks(), READING).to_pylist()
        chosen += [item for item, text in zip(as_items(odd), plain, strict=True) if text not in known]
    hits = classes_of(index, [(full(item), item.answer) for item in chosen])
    alarms = [item.id for item, hit in zip(chosen, hits, strict=True) if any(kind == "test_leak" for kind, _ in hit)]
    return Score("items held out", [item.id for item in chosen], alarms)


def precision(planted: Sequence[Score], near: Sequence[Score]) -> float:
    """The share of right alarms, if planted leaks and near misses were equally many."""
    recall = sum(s.found for s in planted) / sum(s.planted for s in planted)
    alarm = 1 - sum(s.found for s in near) / sum(s.planted for s in near)
    return recall / (recall + alarm)


def by_benchmark(planted: Sequence[Score]) -> dict[str, dict[str, float]]:
    """Benchmark -> disguise -> recall."""
    names = sorted({one.split("/")[0] for score in planted for one in score.ids})
    return {name: {score.name: score.of(name).recall for score in planted if score.of(name).planted} for name in names}


def as_items(table: pa.Table) -> list[Item]:
    """The rows of an ITEM table."""
    return [
        Item(r["id"], r["split"], r["question"], r["answer"], r["choices"], r["passage"]) for r in table.to_pylist()
    ]


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
