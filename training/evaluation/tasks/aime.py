"""AIME 2024 and AIME 2025: 30 problems each, whose answers are integers from 0 to 999.

The score is maj@256: 256 samples at temperature 0.6, and the answer that most of them give. As in HRM-Text, a vote is
an integer from 1 to 999 that is boxed, or is the whole text. `mean` is the share of samples that are right (pass@1).
"""

from __future__ import annotations

from collections.abc import Sequence

from training.evaluation.strict import strict_scorer
from training.evaluation.task import Answer, Item, Judgement, Scorer, Task, boxed, each

VOTES = range(1, 1000)
SAMPLE = "sample"
"""The role of a sample in the trace of a strategy."""


def prompt(item: Item, shots: Sequence[Item]) -> str:
    """The problem."""
    question: str = item["question"]
    return question.strip()


def extract(text: str, item: Item) -> str | None:
    """The integer that is boxed, or is the text; None if it is no integer from 1 to 999."""
    content = boxed(text)
    try:
        answer = int(text if content is None else content)
    except ValueError:
        return None
    return str(answer) if answer in VOTES else None


def gold(item: Item) -> str:
    """The expected integer, without zeros before it."""
    return str(int(item["answer"]))


def judge(text: str, item: Item) -> Judgement:
    """Compare integers."""
    answer = extract(text, item)
    return Judgement(float(answer == gold(item)), answer is not None, answer or "")


def judge_samples(answers: Sequence[Answer], items: Sequence[Item]) -> list[Judgement]:
    """The mean score of the samples of each answer; of its text, if it has no samples."""
    judgements = []
    for answer, item in zip(answers, items, strict=True):
        texts = [call.text for call in answer.trace if call.role == SAMPLE] or [answer.text]
        each_of = [judge(text, item) for text in texts]
        score = sum(one.score for one in each_of) / len(each_of)
        judgements.append(Judgement(score, any(one.valid for one in each_of)))
    return judgements


def _aime(name: str) -> Task:
    return Task(
        name=name,
        condition="synth,cot",
        scorers=(Scorer("published", 1, each(judge)), strict_scorer(gold), Scorer("mean", 1, judge_samples)),
        prompt=prompt,
        extract=extract,
        context=4096,
        strategy="self-consistency:n=256,temperature=0.6",
    )


AIME = _aime("aime")
AIME_2025 = _aime("aime_2025")
