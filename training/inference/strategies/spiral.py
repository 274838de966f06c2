"""Socratic Spiral: ask what the answer depends on, answer that, answer again, and go back if that was no better.

It combines sub-questions (Socratic Questioning, arXiv 2305.14999), verification (Chain-of-Verification, 2309.11495) and
backtracking (Tree of Thoughts, 2305.10601). A round has four steps, each with a new prompt:

1. question: ask for sub-questions that probe the gaps of the current answer.
2. sub-answer: answer each of them, directly.
3. integrate: answer the question with these notes, with work shown. check: the same, directly.
4. decision: the state is the notes with the answer. Its score is 1 if `integrate` and `check` give the same final
   answer, else 0, plus the mean log-probability per token of the answer, if the model gives one. If the score is below
   that of the state before, that state is restored: its notes and its answer stay.

The first round has no notes, so it consists of step 3. From the round `min_rounds` on, the strategy ends when the final
answer of a round equals that of the round before. Sub-questions are sampled, so a round after a backtrack asks others.

HRM-Text distinguishes direct answers and shown work by condition. Other models are told so in the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, NamedTuple, Self

from pydantic import Field, model_validator

from training.inference.answer import Answer
from training.inference.language_model import Completion, LanguageModel, Request
from training.inference.strategies.self_consistency import Temperature
from training.inference.strategies.strategy import Meter, Question, Sampling, Strategy, mean_log_prob

DIRECT, REASONED = "direct", "synth,cot"
"""The conditions of short answers and of answers with work."""

TELL_DIRECT = "Give only the final answer."

NUMBERING = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.):]|Q\d*[.:])\s*")


class Note(NamedTuple):
    """A sub-question with its answer."""

    question: str
    answer: str


class State(NamedTuple):
    """What is known in a round."""

    notes: tuple[Note, ...]
    completion: Completion
    answer: str | None  # the final answer in it
    score: float


class Spiral(Strategy):
    """Rounds of sub-questions, their answers, and the question again, with backtracking.

    min_rounds, max_rounds: the first answer is a round. questions: most sub-questions per round. temperature: at which
    sub-questions are sampled.
    """

    name: ClassVar[str] = "spiral"

    min_rounds: Annotated[int, Field(ge=2, le=20)] = 3
    max_rounds: Annotated[int, Field(ge=2, le=20)] = 5
    questions: Annotated[int, Field(ge=1, le=10)] = 2
    temperature: Temperature = 0.7

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_rounds > self.max_rounds:
            raise ValueError(f"min_rounds {self.min_rounds} is above max_rounds {self.max_rounds}")
        return self

    def run(
        self,
        questions: Sequence[Question],
        model: LanguageModel,
        sampling: Sampling,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        meter = Meter(questions, model, sampling)
        tell = "" if model.conditioned else TELL_DIRECT

        def integrate(notes: Mapping[int, tuple[Note, ...]], round: int) -> dict[int, State]:
            """The state of each question after answering it with its notes, twice."""
            prompts = {at: with_notes(questions[at].instruction, notes[at]) for at in notes}
            reasoned = meter.ask(
                "integrate", {at: Request(REASONED, prompt) for at, prompt in prompts.items()}, round=round
            )
            direct = meter.ask(
                "check",
                {at: Request(DIRECT, "\n\n".join(filter(None, (prompt, tell)))) for at, prompt in prompts.items()},
                round=round,
            )
            states = {}
            for at in notes:
                answer, check = (questions[at].extract(given[at][0].text) for given in (reasoned, direct))
                score = float(answer is not None and answer == check) + (mean_log_prob(reasoned[at][0]) or 0.0)
                states[at] = State(notes[at], reasoned[at][0], answer, score)
            return states

        states = integrate(dict.fromkeys(range(len(questions)), ()), 1)
        last = {at: state.answer for at, state in states.items()}
        asked: dict[int, set[str]] = {at: set() for at in states}
        for at, state in states.items():
            meter.decide(at, f"round 1: answer {state.answer!r}, score {state.score:.3f}")
        active = [at for at in states if states[at].completion.finish != "none"]
        for round in range(2, self.max_rounds + 1):
            if on_done:
                on_done(len(questions) - len(active))
            new_notes = self._probe(questions, meter, {at: states[at] for at in active}, asked, round)
            found = integrate({at: (*states[at].notes, *notes) for at, notes in new_notes.items() if notes}, round)
            remaining = []
            for at in active:
                if at not in found:
                    # A model that has nothing to ask at this round may ask in another, because questions are sampled.
                    meter.decide(at, f"round {round}: no new sub-question")
                    remaining.append(at)
                    continue
                state, before = found[at], states[at]
                is_better = state.completion.finish != "none" and state.score >= before.score
                repeats = state.answer is not None and state.answer == last[at]
                if is_better:
                    states[at] = state
                last[at] = state.answer
                meter.decide(
                    at,
                    f"round {round}: {'keep' if is_better else 'backtrack'}; answer {state.answer!r}, "
                    f"score {state.score:.3f} after {before.score:.3f}{'; the answer repeats' if repeats else ''}",
                )
                if not (repeats and round >= self.min_rounds):
                    remaining.append(at)
            active = remaining
        if on_done and questions:
            on_done(len(questions))
        return [meter.answer(at, states[at].completion) for at in range(len(questions))]

    def _probe(
        self,
        questions: Sequence[Question],
        meter: Meter,
        states: Mapping[int, State],
        asked: Mapping[int, set[str]],
        round: int,
    ) -> dict[int, list[Note]]:
        """New notes for each state: sub-questions that it was not asked before, with their answers."""
        texts = meter.ask(
            "question",
            {
                at: Request(DIRECT, probing_prompt(questions[at].instruction, state, self.questions))
                for at, state in states.items()
            },
            temperature=self.temperature,
            round=round,
        )
        probes: dict[int, list[str]] = {}
        for at in states:
            probes[at] = sub_questions(texts[at][0].text, asked[at])[: self.questions]
            asked[at].update(map(str.casefold, probes[at]))
        notes: dict[int, list[Note]] = {at: [] for at in states}
        for number in range(self.questions):
            answers = meter.ask(
                "sub-answer",
                {
                    at: Request(DIRECT, sub_question_prompt(questions[at].instruction, probes[at][number]))
                    for at in states
                    if number < len(probes[at])
                },
                round=round * self.questions + number,
            )
            for at, (completion,) in answers.items():
                if completion.text.strip():
                    notes[at].append(Note(probes[at][number], " ".join(completion.text.split())))
        return notes


def with_notes(instruction: str, notes: Sequence[Note]) -> str:
    """The question with what is known; the question alone without notes."""
    if not notes:
        return instruction
    return f"{instruction}\n\nNotes:\n" + "\n".join(f"- {note.question} {note.answer}" for note in notes)


def probing_prompt(instruction: str, state: State, count: int) -> str:
    """Ask for sub-questions."""
    return (
        f"{with_notes(instruction, state.notes)}\n\nProposed answer:\n{state.completion.text.strip()}\n\n"
        f"Ask up to {count} short questions, one per line, whose answers would show whether the proposed answer is "
        "right or what it overlooks. Do not answer them."
    )


def sub_question_prompt(instruction: str, sub_question: str) -> str:
    """Ask one sub-question, with the question as its context."""
    return f"{instruction}\n\nAnswer only this: {sub_question}"


def sub_questions(text: str, asked: set[str]) -> list[str]:
    """The lines of a text as questions, without numbering, in order, without those asked before."""
    lines = (NUMBERING.sub("", line).strip() for line in text.splitlines())
    questions: dict[str, str] = {}
    for line in lines:
        if any(character.isalnum() for character in line) and line.casefold() not in asked:
            questions.setdefault(line.casefold(), line)
    return list(questions.values())
