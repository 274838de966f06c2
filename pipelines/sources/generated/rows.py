"""RAW rows of a task. A row is a function of (task, seed, row number), so any range of rows can be computed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa

from pipelines.records import RAW
from pipelines.sources.generated.defects import ADD_DEFECT, NEEDS_PROSE
from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.problem import Row

BATCH_ROWS = 2000
"""Rows of a RAW table."""

MAX_DUPLICATE_DISTANCE = 2000
"""A duplicate repeats one of this many rows before it."""


class Task(NamedTuple):
    """One generated source. draw: draws a row without a defect. defect_rates: kind of defect -> rows per thousand."""

    name: str
    draw: Callable[[Dice], Row]
    defect_rates: Mapping[str, int]


def tables(task: Task, rows: int, seed: int) -> Iterator[pa.Table]:
    """Yield RAW tables with rows 0 to rows - 1 of the task. A row does not depend on `rows`."""
    for start in range(0, rows, BATCH_ROWS):
        yield table(task, start, min(start + BATCH_ROWS, rows), seed)


def table(task: Task, start: int, stop: int, seed: int) -> pa.Table:
    """RAW table with rows start to stop - 1 of the task."""
    drawn = [row(task, seed, number) for number in range(start, stop)]
    columns = {
        "row": pa.array(range(start, stop), pa.int64()),
        "variant": pa.nulls(len(drawn), pa.string()),
        "condition": pa.array([item.condition for item in drawn], pa.string()),
        "instruction": pa.array([item.instruction for item in drawn], pa.string()),
        "response": pa.array([item.response for item in drawn], pa.string()),
        "fault": pa.nulls(len(drawn), pa.string()),
    }
    return pa.table([columns[name] for name in RAW.names], schema=RAW)


def label(task: Task, seed: int, number: int) -> str:
    """The row's kind of defect: a key of ADD_DEFECT, `exact_duplicate` or `near_duplicate`; "" for none."""
    planned = _planned(task, seed, number)
    return "" if planned.endswith("_duplicate") and original(task, seed, number) is None else planned


def row(task: Task, seed: int, number: int) -> Row:
    """The row with its defect, if it has one."""
    kind = label(task, seed, number)
    if not kind:
        return clean(task, seed, number)
    if kind.endswith("_duplicate"):
        repeated = original(task, seed, number)
        assert repeated is not None
        copy = clean(task, seed, repeated)
        return copy if kind == "exact_duplicate" else _reworded(copy, Dice(task.name, "dirt", seed, number))
    return ADD_DEFECT[kind](clean(task, seed, number), Dice(task.name, "dirt", seed, number))


def clean(task: Task, seed: int, number: int) -> Row:
    """The row before its defect was added."""
    dice = Dice(task.name, "row", seed, number)
    drawn = task.draw(dice)
    if _planned(task, seed, number) in NEEDS_PROSE:
        while len((drawn.response or "").split()) < 12 or len(drawn.instruction or "") < 40:
            drawn = task.draw(dice)
    return drawn


def original(task: Task, seed: int, number: int) -> int | None:
    """The earlier row without a defect that row `number` repeats if it is a duplicate; None if there is none."""
    distance = 1 + Dice(task.name, "twin", seed, number).below(max(1, min(number, MAX_DUPLICATE_DISTANCE)))
    earlier = number - distance
    while earlier >= 0 and _planned(task, seed, earlier):
        earlier -= 1
    return earlier if earlier >= 0 else None


def _planned(task: Task, seed: int, number: int) -> str:
    """The row's kind of defect, before it is known whether a duplicate has a row to repeat."""
    rest = Dice(task.name, "label", seed, number).below(1000)
    for kind, rate in task.defect_rates.items():
        rest -= rate
        if rest < 0:
            return kind
    return ""


def _reworded(row: Row, dice: Dice) -> Row:
    """The row with a word or two replaced: a Jaccard far above the usual threshold of 0.8, and below 1."""
    words = (row.response or "").split(" ")
    for _ in range(1 + len(words) // 120):
        words[dice.below(len(words))] = dice.pick(("somewhat", "truly", "certainly", "perhaps", "mostly", "then"))
    return row._replace(response=" ".join(words))
