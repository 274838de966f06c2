r"""MATH: competition problems (Hendrycks et al., arXiv 2103.03874).

The prompt is the problem alone. `published` scores as HRM-Text does: math-verify compares the content of the last box
with the expected one, as texts. A text without a box is tried as a whole, and counted as invalid even if it is right.
`strict` reads both answers as LaTeX (`strict.py`).

math-verify finds LaTeX between dollars, and numbers, but takes no other text for an expression. `published` therefore
does not recognise some right answers: `\sqrt{2}` without dollars has no value.
"""

from __future__ import annotations

from collections.abc import Sequence

from training.evaluation.math_worker import LIBRARIES, Comparison, compare
from training.evaluation.strict import canonical, final_answer, strict_scorer
from training.evaluation.task import Answer, Item, Judgement, Scorer, Task, boxed, detail, group_of_id


def prompt(item: Item, shots: Sequence[Item]) -> str:
    """The problem."""
    question: str = item["question"]
    return question.strip()


def extract(text: str, item: Item) -> str | None:
    """The final answer in one spelling; None if there is none."""
    answer = final_answer(text)
    return None if answer is None else canonical(answer)


def judge(answers: Sequence[Answer], items: Sequence[Item]) -> list[Judgement]:
    """Compare the boxed answers with math-verify."""
    contents = [boxed(answer.text) for answer in answers]
    texts = [answer.text if content is None else content for answer, content in zip(answers, contents, strict=True)]
    comparisons = [Comparison("published", item["answer"], text) for item, text in zip(items, texts, strict=True)]
    return [
        Judgement(float(is_right), content is not None, content or "")
        for is_right, content in zip(compare(comparisons), contents, strict=True)
    ]


def kind(item: Item) -> str:
    """The type of the problem, such as Algebra."""
    name: str = detail(item, "type") or group_of_id(item)
    return name


MATH = Task(
    name="math",
    condition="synth,cot",
    scorers=(Scorer("published", 1, judge, LIBRARIES), strict_scorer()),
    prompt=prompt,
    extract=extract,
    subset=kind,
)
