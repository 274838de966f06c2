"""ARC, challenge set: questions from science exams (Clark et al., arXiv 1803.05457). Shots: 25 validation items."""

from __future__ import annotations

from training.evaluation.choices import multiple_choice
from training.evaluation.task import Item


def query(item: Item) -> str:
    """The question."""
    question: str = item["question"]
    return question


ARC_CHALLENGE = multiple_choice("arc_challenge", query, shots=25)
