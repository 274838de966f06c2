"""The benchmark that Winnow generates: questions on sums, units, dates and words, each with one short answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from training.evaluation.task import Item, Judgement, Scorer, Task, boxed, each

FINAL = re.compile(r"(?is).*\banswer is:?\s+(.*)")
THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")


def final(text: str) -> str:
    """The final answer in a text: the last boxed content, else the text after the last "answer is", else all of it."""
    content = boxed(text)
    if content is not None:
        return content
    match = FINAL.fullmatch(text)
    return match[1] if match else text


def normal(text: str) -> str:
    """An answer normalised for comparison: without case, extra spaces, a final full stop and thousands separators."""
    text = " ".join(text.casefold().split()).rstrip(".").strip()
    return text.replace(",", "") if THOUSANDS.fullmatch(text) else text.replace(", ", ",")


def prompt(item: Item, shots: Sequence[Item]) -> str:
    """The question, as in the training rows."""
    question: str = item["question"]
    return question


def extract(text: str, item: Item) -> str | None:
    """The normalised final answer; None if it is empty."""
    return normal(final(text)) or None


def judge(text: str, item: Item) -> Judgement:
    """Exact match of the normalised final answers. An empty answer is invalid."""
    answer = extract(text, item)
    return Judgement(float(answer == normal(item["answer"])), answer is not None, answer or "")


GENERATED = Task(
    name="generated",
    condition="direct",
    scorers=(Scorer("published", 1, each(judge)),),
    prompt=prompt,
    extract=extract,
    max_tokens=48,
)
