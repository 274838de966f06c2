"""GSM8K: grade-school word problems with integer answers (Cobbe et al., arXiv 2110.14168).

Scored as in HRM-Text: the prompt is the question alone; the answer is the last boxed content, else the full text,
parsed as a number.
"""

from __future__ import annotations

from training.evaluation.evaluation import Evaluation, Item, Judgement, boxed


def number(text: str) -> int | None:
    """The text as an integer, ignoring `$` and thousands commas, rounded towards 0; None if it is not a number."""
    try:
        return int(float(text.replace(",", "").replace("$", "")))
    except (ValueError, OverflowError):
        return None


def prompt(item: Item) -> str:
    """The question."""
    question: str = item["question"]
    return question.strip()


def judge(text: str, item: Item) -> Judgement:
    """Compare integers. The gold answer is the text after `####`, or the full text without such a mark.

    Raises:
        ValueError: if the gold answer is not a number.
    """
    content = boxed(text)
    answer = number(text if content is None else content)
    gold = number(item["answer"].rpartition("####")[2])
    if gold is None:
        raise ValueError(f"{item['id']}: its answer {item['answer'][-80:]!r} does not end in a number")
    return Judgement(correct=answer == gold, valid=answer is not None)


GSM8K = Evaluation("gsm8k", "synth,cot", 1024, prompt, judge)
