"""From a task to RAW rows: a row is a function of (task, seed, row number), so any range can be made by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa

from pipelines.records import RAW
from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.dirt import KINDS, NEEDS_PROSE
from pipelines.sources.generated.problem import Row

BATCH = 2000
"""Rows to a RAW table."""

REACH = 2000
"""A duplicate repeats one of so many rows before it."""


class Task(NamedTuple):
    """One generated source. draw: a clean row. dirt: label -> rows per thousand."""

    name: str
    draw: Callable[[Dice], Row]
    dirt: Mapping[str, int]


def tables(task: Task, rows: int, seed: int) -> Iterator[pa.Table]:
    """RAW tables with rows 0 .. rows-1 of the task; a row does not depend on `rows`."""
    for start in range(0, rows, BATCH):
        yield table(task, start, min(start + BATCH, rows), seed)


def table(task: Task, start: int, stop: int, seed: int) -> pa.Table:
    """RAW table with rows start .. stop-1 of the task."""
    made = [row(task, seed, number) for number in range(start, stop)]
    columns = {
        "row": pa.array(range(start, stop), pa.int64()),
        "variant": pa.nulls(len(made), pa.string()),
        "condition": pa.array([one.condition for one in made], pa.string()),
        "instruction": pa.array([one.instruction for one in made], pa.string()),
        "response": pa.array([one.response for one in made], pa.string()),
        "fault": pa.nulls(len(made), pa.string()),
    }
    return pa.table([columns[name] for name in RAW.names], schema=RAW)


def label(task: Task, seed: int, number: int) -> str:
    """What is wrong with the row: a key of `dirt.KINDS`, `exact_duplicate`, `near_duplicate`, or "" for a clean row."""
    planned = _planned(task, seed, number)
    return "" if planned.endswith("_duplicate") and original(task, seed, number) is None else planned


def row(task: Task, seed: int, number: int) -> Row:
    """The row as the source has it, dirt and all."""
    kind = label(task, seed, number)
    if not kind:
        return clean(task, seed, number)
    if kind.endswith("_duplicate"):
        twin = original(task, seed, number)
        assert twin is not None
        copy = clean(task, seed, twin)
        return copy if kind == "exact_duplicate" else _reworded(copy, Dice(task.name, "dirt", seed, number))
    return KINDS[kind](clean(task, seed, number), Dice(task.name, "dirt", seed, number))


def clean(task: Task, seed: int, number: int) -> Row:
    """The row without its dirt: what a thinking block was put before, or what a broken answer was an answer to."""
    dice = Dice(task.name, "row", seed, number)
    made = task.draw(dice)
    if _planned(task, seed, number) in NEEDS_PROSE:
        while len((made.response or "").split()) < 12 or len(made.instruction or "") < 40:
            made = task.draw(dice)
    return made


def original(task: Task, seed: int, number: int) -> int | None:
    """The earlier, clean row that row `number` would repeat; None where there is none."""
    twin = number - 1 - Dice(task.name, "twin", seed, number).below(max(1, min(number, REACH)))
    while twin >= 0 and _planned(task, seed, twin):
        twin -= 1
    return twin if twin >= 0 else None


def _planned(task: Task, seed: int, number: int) -> str:
    throw = Dice(task.name, "label", seed, number).below(1000)
    for kind, share in task.dirt.items():
        throw -= share
        if throw < 0:
            return kind
    return ""


def _reworded(row: Row, dice: Dice) -> Row:
    """One word in eighty replaced: far above the usual threshold of 0.8, and never equal."""
    words = (row.response or "").split(" ")
    for _ in range(1 + len(words) // 120):
        words[dice.below(len(words))] = dice.pick(("somewhat", "truly", "certainly", "perhaps", "mostly", "then"))
    return row._replace(response=" ".join(words))
