"""Which benchmarks can be scored, and how? One task per file, listed here."""

from __future__ import annotations

from filters.registry import Registry, expect
from training.evaluation.task import Task
from training.evaluation.tasks.aime import AIME, AIME_2025
from training.evaluation.tasks.arc_challenge import ARC_CHALLENGE
from training.evaluation.tasks.arc_easy import ARC_EASY
from training.evaluation.tasks.boolq import BOOLQ
from training.evaluation.tasks.drop import DROP
from training.evaluation.tasks.generated import GENERATED
from training.evaluation.tasks.gsm8k import GSM8K
from training.evaluation.tasks.hellaswag import HELLASWAG
from training.evaluation.tasks.humaneval import HUMANEVAL
from training.evaluation.tasks.math import MATH
from training.evaluation.tasks.mmlu import MMLU
from training.evaluation.tasks.mmlu_pro import MMLU_PRO
from training.evaluation.tasks.winogrande import WINOGRANDE

_ALL: tuple[Task, ...] = (
    GENERATED,
    AIME,
    AIME_2025,
    ARC_CHALLENGE,
    ARC_EASY,
    BOOLQ,
    DROP,
    GSM8K,
    HELLASWAG,
    HUMANEVAL,
    MATH,
    MMLU,
    MMLU_PRO,
    WINOGRANDE,
)

TASKS: Registry[Task] = Registry(
    "winnow.tasks",
    {task.name: task for task in _ALL},
    expect(Task, lambda task: task.name),
)
"""A benchmark's name -> its task. Those of plugins are last."""

__all__ = ["TASKS", "Task"]
