"""Which benchmarks can be scored, and how? One task per file, listed here."""

from __future__ import annotations

from filters.registry import Registry, expect
from training.evaluation.task import Task
from training.evaluation.tasks.generated import GENERATED
from training.evaluation.tasks.gsm8k import GSM8K

_ALL: tuple[Task, ...] = (GENERATED, GSM8K)

TASKS: Registry[Task] = Registry(
    "winnow.tasks",
    {task.name: task for task in _ALL},
    expect(Task, lambda task: task.name),
)
"""A benchmark's name -> its task. Those of plugins are last."""

__all__ = ["TASKS", "Task"]
