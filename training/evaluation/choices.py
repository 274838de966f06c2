"""What multiple-choice tasks share: three ways to ask for one of a few choices.

By generation, as in HRM-Text: the choices have letters, the prompt ends in `Answer:`, and the model writes one token. A
token that is none of the letters is invalid.

By likelihood (`by_likelihood`): the prompt has the question without the choices, and each choice is a continuation. The
most likely one is the answer: `acc` by the sum of its log probabilities, `acc_norm` by that sum divided by its bytes.
By letter (`by_letter`): the published prompt, and each letter is a continuation, so that no answer is invalid.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Callable, Sequence

from pipelines.errors import WinnowError
from training.evaluation.shots import first_items
from training.evaluation.task import Answer, Item, Judgement, Scorer, Task, detail, each, group_of_id

LETTERS = string.ascii_uppercase


def letters(item: Item) -> str:
    """The letters of the item's choices: `ABCD` for four."""
    return LETTERS[: len(item["choices"])]


def right_choice(item: Item) -> int:
    """The number of the right choice, from 0. Raises: ValueError: if the answer is none of the choices."""
    number = detail(item, "correct")
    if number is not None:
        return int(number)
    if item["answer"] not in item["choices"]:
        raise ValueError(f"{item['id']}: its answer {item['answer']!r} is none of its choices")
    return list(item["choices"]).index(item["answer"])


@dataclasses.dataclass(frozen=True)
class LetteredPrompt:
    """The prompt of a multiple-choice task. query: the question of an item, without its choices."""

    query: Callable[[Item], str]

    def __call__(self, item: Item, shots: Sequence[Item]) -> str:
        """Shots with their letters, then the item without one, separated by blank lines."""
        examples = [f"{self._block(shot)} {LETTERS[right_choice(shot)]}" for shot in shots]
        return "\n\n".join([*examples, self._block(item)])

    def _block(self, item: Item) -> str:
        choices = zip(letters(item), item["choices"], strict=True)
        lines = [self.query(item).strip(), *(f"{letter}. {choice.strip()}" for letter, choice in choices)]
        return "\n".join([*lines, "Answer:"])

    def unlettered(self, item: Item, shots: Sequence[Item]) -> str:
        """The prompt for likelihoods: questions without choices, shots with the text of the right one."""
        examples = [f"{self.query(shot).strip()}\nAnswer: {_continuations(shot)[right_choice(shot)]}" for shot in shots]
        return "\n\n".join([*examples, f"{self.query(item).strip()}\nAnswer:"])


def _continuations(item: Item) -> list[str]:
    return [choice.strip() for choice in item["choices"]]


def extract_letter(text: str, item: Item) -> str | None:
    """The text as one of the item's letters, in any case; None if it is anything else."""
    letter = text.strip().upper()
    return letter if letter and letter in list(letters(item)) else None


def judge_letter(text: str, item: Item) -> Judgement:
    """Is the text the letter of the right choice?"""
    letter = extract_letter(text, item)
    return Judgement(float(letter == LETTERS[right_choice(item)]), letter is not None, letter or "")


def multiple_choice(
    name: str,
    query: Callable[[Item], str],
    shots: int,
    *,
    choose_shots: Callable[[Item, Sequence[Item]], Sequence[Item]] = first_items,
    asked: Callable[[Item], bool] = lambda item: True,
    cluster: Callable[[Item], str] | None = None,
    subset: Callable[[Item], str] = group_of_id,
    macro: bool = False,
) -> Task:
    """A task that asks for the letter of a choice, as HRM-Text asks: one token, condition `direct`, context 4,096."""
    return Task(
        name=name,
        condition="direct",
        scorers=(Scorer("published", 1, each(judge_letter)),),
        prompt=LetteredPrompt(query),
        extract=extract_letter,
        context=4096,
        max_tokens=1,
        shots=shots,
        choose_shots=choose_shots,
        asked=asked,
        credit=True,
        cluster=cluster,
        subset=subset,
        macro=macro,
    )


def by_likelihood(task: Task) -> Task:
    """The same items, scored by which choice is the most likely continuation of the question.

    Raises: WinnowError: if the task is not multiple choice.
    """
    scorers = (Scorer("acc", 1, _most_likely(lambda text: 1)), Scorer("acc_norm", 1, _most_likely(_bytes)))
    return _likelihood(task, scorers, _lettered_prompt(task).unlettered, _continuations)


def by_letter(task: Task) -> Task:
    """The same prompts, scored by which letter is the most likely next token: scorer `letter`.

    Raises: WinnowError: if the task is not multiple choice.
    """
    scorers = (Scorer("letter", 1, _most_likely(lambda text: 1)),)
    return _likelihood(task, scorers, _lettered_prompt(task), lambda item: list(letters(item)))


def _lettered_prompt(task: Task) -> LetteredPrompt:
    if not isinstance(task.prompt, LetteredPrompt):
        raise WinnowError(f"benchmark {task.name} is not multiple choice; it can only be scored by generation")
    return task.prompt


def _likelihood(
    task: Task,
    scorers: tuple[Scorer, ...],
    prompt: Callable[[Item, Sequence[Item]], str],
    continuations: Callable[[Item], Sequence[str]],
) -> Task:
    return task._replace(
        scorers=scorers,
        prompt=prompt,
        extract=lambda text, item: text.strip() or None,
        max_tokens=None,
        continuations=continuations,
        credit=False,
        strategy="greedy",
    )


def _bytes(text: str) -> int:
    return max(len(text.encode()), 1)


def _most_likely(length: Callable[[str], int]) -> Callable[[Sequence[Answer], Sequence[Item]], list[Judgement]]:
    """The judge that takes the choice with the largest log probability divided by the length of its continuation.

    length: of a choice. Of equal choices it takes the first. An answer without a log probability for every choice is
    invalid.
    """

    def judge(answers: Sequence[Answer], items: Sequence[Item]) -> list[Judgement]:
        judgements = []
        for answer, item in zip(answers, items, strict=True):
            texts = _continuations(item)
            if len(answer.log_probs) != len(texts):
                judgements.append(Judgement(0.0, False))
                continue
            values = [value / length(text) for value, text in zip(answer.log_probs, texts, strict=True)]
            chosen = values.index(max(values))
            judgements.append(Judgement(float(chosen == right_choice(item)), True, LETTERS[chosen]))
        return judgements

    return judge
