"""GSM8K: grade-school word problems with a whole number for an answer (Cobbe et al., arXiv 2110.14168).

As HRM-Text scores it: the question alone; the last boxed content, else all of the answer, read as a number.
"""

from __future__ import annotations

from training.evaluation.evaluation import Evaluation, Item, Judgement, boxed


def number(text: str) -> int | None:
    """The whole number that a text is, without `$` and thousands commas, rounded towards 0; None if it is none."""
    try:
        return int(float(text.replace(",", "").replace("$", "")))
    except (ValueError, OverflowError):
        return None


def prompt(item: Item) -> str:
    """The question."""
    question: str = item["question"]
    return question.strip()


def judge(text: str, item: Item) -> Judgement:
    """Compare whole numbers. The gold answer is what follows `####`, or all of it where there is no such mark."""
    content = boxed(text)
    said = number(text if content is None else content)
    gold = number(item["answer"].rpartition("####")[2])
    if gold is None:
        raise ValueError(f"{item['id']}: its answer {item['answer'][-80:]!r} does not end in a number")
    return Judgement(correct=said == gold, valid=said is not None)


GSM8K = Evaluation("gsm8k", "synth,cot", 1024, prompt, judge)
