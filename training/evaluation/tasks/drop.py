"""DROP: counting, adding and sorting over a passage (Dua et al., arXiv 1903.00161). Three fixed shots.

Scored as in lm-eval: the whole answer against each accepted answer. An answer is a bag of words without case, articles
and punctuation, in which numbers are compared as numbers. `published` is the F1 of the bags, which is 0 if the accepted
answer has numbers and none of them is in the answer; `em` asks for equal bags in order.
"""

from __future__ import annotations

import functools
import hashlib
import re
import string
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pipelines.errors import WinnowError
from training.evaluation.passages import passage_digest
from training.evaluation.shots import Groups
from training.evaluation.task import Item, Judgement, Scorer, Task, detail, each


class Shot(NamedTuple):
    """A fixed example: its question and answer, and the SHA-256 of its passage with single spaces."""

    question: str
    answer: str
    passage: str


SHOTS = (
    Shot(
        "How many points did the buccaneers need to tie in the first?",
        "3",
        "6b7b625c004a05db73e609bf2fa31e93396d885b611579401e336756379f32c9",
    ),
    Shot(
        "How many games had the Bills won before this game?",
        "0",
        "b87ee6d66cb7da78e7d8c2b80b4b358b9aed59b1929bf5d3ea64a7cc34bc9ce3",
    ),
    Shot(
        "How many years before Navarrase used the captivity of John II?",
        "9",
        "96ff4fa0e38e281058bd4fd1e40b89320474da29a446091d33028d384a410091",
    ),
)
"""The examples of HRM-Text, from the training split of DROP. Their passages are read from there."""

_BY_QUESTION = Groups(lambda item: _one_line(item["question"]))
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def choose_shots(item: Item, candidates: Sequence[Item]) -> Sequence[Item]:
    """The three fixed examples, found by their questions.

    Raises: WinnowError: if the shot files do not have one of them.
    """
    return [_find(shot, candidates) for shot in SHOTS]


def _find(shot: Shot, candidates: Sequence[Item]) -> Item:
    same = _BY_QUESTION.get(candidates, shot.question)
    exact = [one for one in same if _digest(one["passage"]) == shot.passage]
    # The passage may be spelt otherwise in a copy of the data set.
    answered = [one for one in same if shot.answer in one["answer"].split("|")]
    if not exact and len(answered) != 1:
        raise WinnowError(
            f"benchmark drop: the shot files do not have its example {shot.question!r} with the answer {shot.answer}; "
            "give the training split of DROP (--shots-path), or ask without examples (--shots 0)"
        )
    return {**(exact or answered)[0], "answer": shot.answer}


def _digest(text: str) -> str:
    return hashlib.sha256(_one_line(text).encode()).hexdigest()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def prompt(item: Item, shots: Sequence[Item]) -> str:
    """Passages with their questions; the answer of the item is left out."""
    examples = [f"{_one_line(shot['passage'])}\nQ: {shot['question']}\nA: {shot['answer']}\n\n" for shot in shots]
    return "".join([*examples, f"{item['passage']}\nQ: {item['question']}\nA:"]).strip()


def normal(text: str) -> str:
    """Words without case, articles and punctuation, joined by spaces; numbers as floats."""
    words = (_normal_word(word) for word in re.split("[ -]", text.lower()))
    return " ".join(word for word in words if word)


def _normal_word(word: str) -> str:
    word = word if _is_number(word) else word.translate(_PUNCTUATION)
    word = str(float(word)) if _is_number(word) else word
    return " ".join(_ARTICLES.sub(" ", word).split())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def accepted_answers(item: Item) -> list[list[str]]:
    """The accepted answers, each a list of spans. Empty ones are left out."""
    answers = detail(item, "answers") or [[answer] for answer in item["answer"].split("|")]
    return [spans for spans in answers if spans[0].strip()]


def f1(answer: str, spans: Sequence[str]) -> float:
    """F1 of an answer with the span that it matches best, divided by the number of spans, rounded to two decimals."""
    import numpy as np

    words = set(normal(answer).split())
    scores = [_bag_f1(words, set(normal(span).split())) for span in spans]
    return float(np.round(max(scores) / len(spans), 2))


def _bag_f1(answer: set[str], gold: set[str]) -> float:
    numbers = {word for word in gold if _is_number(word)}
    if numbers and not numbers & answer:
        return 0.0
    common = len(answer & gold)
    precision = common / len(answer) if answer else 1.0
    recall = common / len(gold) if gold else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def exact_match(answer: str, spans: Sequence[str]) -> float:
    """Is the answer the only span?"""
    return float(len(spans) == 1 and normal(answer) == normal(spans[0]))


def _judge(measure: Callable[[str, Sequence[str]], float], text: str, item: Item) -> Judgement:
    answer = text.strip()
    score = max((measure(answer, spans) for spans in accepted_answers(item)), default=0.0)
    return Judgement(score if answer else 0.0, bool(answer), normal(answer))


DROP = Task(
    name="drop",
    condition="direct",
    scorers=(
        Scorer("published", 1, each(functools.partial(_judge, f1))),
        Scorer("em", 1, each(functools.partial(_judge, exact_match))),
    ),
    prompt=prompt,
    extract=lambda text, item: normal(text.strip()) or None,
    shots=3,
    choose_shots=choose_shots,
    cluster=passage_digest,
)
