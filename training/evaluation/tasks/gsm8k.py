"""GSM8K: grade-school word problems with integer answers (Cobbe et al., arXiv 2110.14168).

Scored as in HRM-Text: the prompt is the question alone; the answer is the last boxed content, else the full text,
parsed as a number.
"""

from __future__ import annotations

from collections.abc import Sequence

from training.evaluation.task import Item, Judgement, Scorer, Task, boxed, each


def number(text: str) -> int | None:
    """The text as an integer, ignoring `$` and thousands commas, rounded towards 0; None if it is not a number."""
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
    content = boxed(text)
    answer = number(text if content is None else content)
    return None if answer is None else str(answer)


def judge(text: str, item: Item) -> Judgement:
    """Compare integers. The gold answer is the text after `####`, or the full text without such a mark.

    Raises:
        ValueError: if the gold answer is not a number.
    """
    answer = extract(text, item)
    gold = number(item["answer"].rpartition("####")[2])
    if gold is None:
        raise ValueError(f"{item['id']}: its answer {item['answer'][-80:]!r} does not end in a number")
    return Judgement(float(answer == str(gold)), answer is not None, answer or "")


GSM8K = Task(
    name="gsm8k",
    condition="synth,cot",
    scorers=(Scorer("published", 1, each(judge)),),
    prompt=prompt,
    extract=extract,
    max_tokens=1024,
)
