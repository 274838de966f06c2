"""A task: how the items of a benchmark are asked, and how answers are judged.

Judging needs no model. Answers are stored as text, so another version of a scorer can judge them again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple

from pipelines.errors import WinnowError
from training.inference.answer import Answer, Call

__all__ = [
    "Answer",
    "Call",
    "Item",
    "Judgement",
    "Scorer",
    "Task",
    "boxed",
    "detail",
    "each",
    "group_of_id",
    "no_shots",
    "scorer_version",
]

Item = Mapping[str, Any]
"""A row of the ITEM schema (pipelines/records.py): id, split, question, answer, choices, passage; and `details`, a
mapping of whatever else a scorer needs, if the benchmark has any."""


class Judgement(NamedTuple):
    """Of an answer by one scorer.

    score: 0 to 1. valid: an answer could be extracted. An invalid answer has score 0, but for the published score of
    MATH, which tries texts without a box. extracted: what was compared.
    """

    score: float
    valid: bool
    extracted: str = ""


class Scorer(NamedTuple):
    """A way to judge answers.

    version: increase it when `judge` judges an answer otherwise. libraries: distributions that determine judgements
    too; their versions are stored beside it. judge: answers and their items -> judgements, in order.
    """

    name: str
    version: int
    judge: Callable[[Sequence[Answer], Sequence[Item]], list[Judgement]]
    libraries: tuple[str, ...] = ()


def scorer_version(scorer: Scorer) -> str:
    """The version of a scorer, with those of the libraries that judge too.

    Raises:
        WinnowError: if such a library is not installed.
    """
    parts = [str(scorer.version)]
    for library in scorer.libraries:
        try:
            parts.append(f"{library} {metadata.version(library)}")
        except metadata.PackageNotFoundError:
            raise WinnowError(
                f"scorer {scorer.name!r} needs {library}, which is not installed: pip install 'winnow-corpus[eval]'"
            ) from None
    return ", ".join(parts)


def each(judge: Callable[[str, Item], Judgement]) -> Callable[[Sequence[Answer], Sequence[Item]], list[Judgement]]:
    """The `judge` of a scorer that judges one text at a time."""

    def judge_all(answers: Sequence[Answer], items: Sequence[Item]) -> list[Judgement]:
        return [judge(answer.text, item) for answer, item in zip(answers, items, strict=True)]

    return judge_all


def no_shots(item: Item, candidates: Sequence[Item]) -> Sequence[Item]:
    """The shots of a task that has none."""
    return ()


def group_of_id(item: Item) -> str:
    """The id of an item without its number: the benchmark and the file, which for MMLU is the subject."""
    group: str = item["id"].rpartition("/")[0]
    return group


class Task(NamedTuple):
    """How one benchmark is asked and judged.

    scorers: the first gives the published score. condition: tags of the prompt. prompt: an item and its shots -> the
    instruction, without envelope. context: most tokens of prompt and answer. max_tokens: of an answer, None for no
    limit but the context. shots: number of examples in the prompt by default. choose_shots: an item and all items
    that may be shots -> those for this item, in order; the first `shots` of them are used. asked: whether an item of
    the benchmark's files is asked at all. extract: a text and its item -> the final answer in a canonical form, by
    which votes are counted; None if there is none. continuations: of a task by likelihood, an item -> the texts whose
    likelihood is measured. credit: multiple choice, so the score with 1/n for each invalid answer is reported too.
    cluster: of an item, for items that share a passage or a subject and are not independent; by default each item is
    for itself. subset: of an item, within which groups of items are compared. macro: the headline is the mean over
    subsets, not over items. strategy: how an answer is found (training/inference/strategies/).
    """

    name: str
    condition: str
    scorers: tuple[Scorer, ...]
    prompt: Callable[[Item, Sequence[Item]], str]
    extract: Callable[[str, Item], str | None]
    context: int = 3072
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    shots: int = 0
    choose_shots: Callable[[Item, Sequence[Item]], Sequence[Item]] = no_shots
    asked: Callable[[Item], bool] = lambda item: True
    continuations: Callable[[Item], Sequence[str]] | None = None
    credit: bool = False
    cluster: Callable[[Item], str] | None = None
    subset: Callable[[Item], str] = group_of_id
    macro: bool = False
    strategy: str = "greedy"


def detail(item: Item, name: str) -> Any:
    """A value of the item's `details`; None if it has none of that name."""
    return (item.get("details") or {}).get(name)


def boxed(text: str) -> str | None:
    """The content of the last \\boxed{...} with balanced braces, stripped; of the last \\fbox if there is no \\boxed.

    None if there is neither, or the last is not closed.
    """
    at = text.rfind("\\boxed")
    at = text.rfind("\\fbox") if at < 0 else at
    depth, start = 0, -1
    for position in range(at, len(text)) if at >= 0 else ():
        if text[position] == "{":
            depth += 1
            start = position if start < 0 else start
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return text[start + 1 : position].strip() if start >= 0 else None
    return None
