"""The benchmark that Winnow generates: questions on sums, units, dates and words, each with one short answer."""

from __future__ import annotations

import re

from training.evaluation.evaluation import Evaluation, Item, Judgement, boxed

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


def prompt(item: Item) -> str:
    """The question, as in the training rows."""
    question: str = item["question"]
    return question


def judge(text: str, item: Item) -> Judgement:
    """Exact match of the normalised final answers. An empty answer is invalid."""
    answer = normal(final(text))
    return Judgement(correct=answer == normal(item["answer"]), valid=bool(answer))


GENERATED = Evaluation("generated", "direct", 48, prompt, judge)
