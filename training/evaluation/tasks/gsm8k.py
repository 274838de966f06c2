"""GSM8K: grade-school word problems with integer answers (Cobbe et al., arXiv 2110.14168).

The prompt is the question alone. `published` scores as HRM-Text does: the answer is the last boxed content, else the
full text, parsed as a number and rounded towards 0. `strict` compares exactly (`strict.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from training.evaluation.strict import strict_scorer
from training.evaluation.task import Item, Judgement, Scorer, Task, boxed, each


def number(text: str) -> int | None:
    """The text as an integer, rounded towards 0, without `$` and thousands commas; None if it is not a number."""
    try:
        return int(float(text.replace(",", "").replace("$", "")))
    except (ValueError, OverflowError):
        return None


def prompt(item: Item, shots: Sequence[Item]) -> str:
    """The question."""
    question: str = item["question"]
    return question.strip()


def extract(text: str, item: Item) -> str | None:
    """The final answer as an integer; None if it is not a number."""
    answer = number(boxed(text) or text)
    return None if answer is None else str(answer)


def judge(text: str, item: Item) -> Judgement:
    """Compare integers. The gold answer is the text after `####`, or the full text without such a mark.

    Raises:
        ValueError: if the gold answer is not a number.
    """
    answer = extract(text, item)
    return Judgement(float(answer == gold(item)), answer is not None, answer or "")


def gold(item: Item) -> str:
    """The expected integer. Raises: ValueError: if the item's answer does not end in a number."""
    value = number(item["answer"].rpartition("####")[2])
    if value is None:
        raise ValueError(f"{item['id']}: its answer {item['answer'][-80:]!r} does not end in a number")
    return str(value)


GSM8K = Task(
    name="gsm8k",
    condition="synth,cot",
    scorers=(Scorer("published", 1, each(judge)), strict_scorer(gold)),
    prompt=prompt,
    extract=extract,
)
