"""MMLU-Pro: up to ten choices, with reasoning (Wang et al., arXiv 2406.01574). The score is the mean over categories.

`published` takes the last letter in brackets of the boxed content, or else of the text; without one, the last letter
that stands alone, which may be the article "A". `strict` takes only a letter that is boxed, or said to be the answer.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from training.evaluation.choices import LETTERS, LetteredPrompt, letters, right_choice
from training.evaluation.task import Item, Judgement, Scorer, Task, boxed, detail, each

STATED = re.compile(r"(?i:answer\s*(?:is|:)\s*)(?:\*\*|option\s+|choice\s+|\$|\\text\{)*\(?([A-Z])\)?(?![\w'])")
WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\{([^{}]*)\}")
LETTER = re.compile(r"\(?([A-Za-z])\)?(?:[.:)]?\s.*)?\.?", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class OptionsPrompt(LetteredPrompt):
    """The question and its options, with letters in brackets."""

    def __call__(self, item: Item, shots: Sequence[Item]) -> str:
        """One block. There are no shots."""
        options = zip(letters(item), item["choices"], strict=True)
        lines = [self.query(item), "Options:", *(f"({letter}) {option}" for letter, option in options)]
        return "\n".join(lines).strip()


def category(item: Item) -> str:
    """The category of the question."""
    name: str = detail(item, "subject") or "all"
    return name


def query(item: Item) -> str:
    """The question."""
    question: str = item["question"]
    return question


def extract(text: str, item: Item) -> str | None:
    """The last letter in brackets, else the last that stands alone; of the boxed content if there is any."""
    text = boxed(text) or text
    options = letters(item)
    found = re.findall(rf"\(([{options}])\)", text) or re.findall(rf"\b([{options}])\b", text)
    return found[-1] if found else None


def extract_strict(text: str, item: Item) -> str | None:
    """The letter that the last box holds, alone or before its option; else the letter last said to be the answer."""
    content = boxed(text)
    if content is not None:
        match = LETTER.fullmatch(WRAPPED.sub(r"\1", content).strip(" $*"))
        letter = match[1].upper() if match else ""
    else:
        stated = STATED.findall(text)
        letter = stated[-1] if stated else ""
    return letter if letter and letter in letters(item) else None


def judge(text: str, item: Item) -> Judgement:
    """Is it the letter of the right choice?"""
    return _judgement(extract(text, item), item)


def judge_strict(text: str, item: Item) -> Judgement:
    """Is the letter that is given as the answer that of the right choice?"""
    return _judgement(extract_strict(text, item), item)


def _judgement(letter: str | None, item: Item) -> Judgement:
    return Judgement(float(letter == LETTERS[right_choice(item)]), letter is not None, letter or "")


MMLU_PRO = Task(
    name="mmlu_pro",
    condition="synth,cot",
    scorers=(Scorer("published", 1, each(judge)), Scorer("strict", 1, each(judge_strict))),
    prompt=OptionsPrompt(query),
    extract=extract,
    credit=True,
    cluster=category,
    subset=category,
    macro=True,
)
