"""The benchmark that the project generates: sums, units, dates and words, each with one short answer."""

from __future__ import annotations

import re

from training.evaluation.evaluation import Evaluation, Item, Judgement, boxed

FINAL = re.compile(r"(?is).*\banswer is:?\s+(.*)")
THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")


def final(text: str) -> str:
    """The final answer in a text: the last boxed content, else what follows the last "answer is", else all of it."""
    content = boxed(text)
    if content is not None:
        return content
    match = FINAL.fullmatch(text)
    return match[1] if match else text


def normal(text: str) -> str:
    """An answer as it is compared: case, spaces and the full stop at the end do not count, nor do thousands commas."""
    text = " ".join(text.casefold().split()).rstrip(".").strip()
    return text.replace(",", "") if THOUSANDS.fullmatch(text) else text.replace(", ", ",")


def prompt(item: Item) -> str:
    """The question, as the training rows ask it."""
    question: str = item["question"]
    return question


def judge(text: str, item: Item) -> Judgement:
    """Exact match of the final answers; an empty one is invalid."""
    said = normal(final(text))
    return Judgement(correct=said == normal(item["answer"]), valid=bool(said))


GENERATED = Evaluation("generated", "direct", 48, prompt, judge)
