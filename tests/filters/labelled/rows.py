"""The labelled set of the filters: what a row is, how the set is split, and how verdicts are scored.

Each file `<stage>.py` of this folder is one stage's part of the set. It has two functions:

    def good(data: Path | None) -> Iterator[Row]     records that the stage must keep
    def bad(data: Path | None) -> Iterator[Row]      records that the stage must drop

`data` is the folder of real data, or None where it is absent; rows that need it are then left out. A row has a category
(a short name of the kind of record, by which the tables count) and an id (unique within the category; it does not
change when other rows are added). Rows are computed from a seeded `random.Random`, so the set is the same everywhere.


To add a stage: write its file, and add its kind to `KINDS`. To configure it other than by its defaults, add a line to
`PARAMETERS`. `tests/benchmarks/verdicts.py` prints precision and recall, `test_bars.py` asserts the bars.

Two more sets must be kept by every stage of `KINDS`: `shared.py`, generated good records of all kinds (a stage that may
drop some, such as the Turkish of a recipe for English, is in `NOT_SHARED`), and `gold.py`, the gold sources of the
real data.

Half of the rows are for tuning and half for testing, by the hash of category and id (`is_test`). Limits and patterns
are chosen on the tuning half alone; what is reported is measured on the test half.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.stats import binomtest

from filters.catalogue import STAGES
from filters.stage import Filter

KINDS = (
    "pii", "placeholder", "control", "script", "language", "refusal", "truncated", "loop", "echo", "urls", "c4",
    "fineweb", "gopher_repetition",
)  # fmt: skip
"""Stages with a file in this folder."""

PARAMETERS: dict[str, dict[str, object]] = {}
"""By kind: parameters other than the defaults."""

NOT_SHARED: dict[str, tuple[str, ...]] = {
    "language": ("prose de", "prose fr", "prose es", "prose ru", "prose zh"),
    "script": ("prose ru", "prose zh"),
}
"""By kind: categories of `shared.py` that the stage may drop."""


class Row(NamedTuple):
    """One labelled record. Whether it is good or bad, and for which stage, follows from the function that gives it."""

    category: str
    id: str
    instruction: str
    response: str


def is_test(row: Row) -> bool:
    """Whether a row is in the test half: a bit of a hash of its category and id."""
    return bool(hashlib.blake2b(f"{row.category}/{row.id}".encode(), digest_size=1).digest()[0] & 1)


def stage(kind: str) -> Filter:
    """The stage as it is scored."""
    made = STAGES[kind].model_validate(PARAMETERS.get(kind, {}))
    assert isinstance(made, Filter)
    return made


def dropped(judge: Filter, rows: list[Row]) -> npt.NDArray[np.bool_]:
    """Which rows the stage drops: bool [rows]."""
    columns = {name: [getattr(row, name) for row in rows] for name in ("id", "instruction", "response")}
    schema = pa.schema([(name, pa.string()) for name in columns])
    return np.asarray(judge.judge(pa.table(columns, schema)).is_valid())


def labelled(kind: str, data: Path | None, test: bool) -> tuple[list[Row], list[Row]]:
    """The good and the bad rows of one stage (its own and the shared ones, not the gold sources), of one half."""
    own = importlib.import_module(f"tests.filters.labelled.{kind}")
    shared = importlib.import_module("tests.filters.labelled.shared")
    left_out = NOT_SHARED.get(kind, ())
    good = [*own.good(data), *(row for row in shared.good(data) if row.category not in left_out)]
    return _half(good, test), _half(own.bad(data), test)


def _half(rows: Iterator[Row] | list[Row], test: bool) -> list[Row]:
    return [row for row in rows if is_test(row) == test]


class Share(NamedTuple):
    """A proportion with its Wilson interval at 95 %."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        if not self.total:
            return 0.0, 1.0
        bounds = binomtest(self.hits, self.total).proportion_ci(method="wilson")
        return float(bounds.low), float(bounds.high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.1f} % ({100 * low:.1f}-{100 * high:.1f}; {self.hits}/{self.total})"


class Score(NamedTuple):
    """One stage on one half. mistakes: the rows with a wrong verdict, bad ones that were kept first."""

    precision: Share
    recall: Share
    mistakes: list[Row]


def score(kind: str, data: Path | None, test: bool, wrong_gold: int = 0) -> Score:
    """Precision and recall of a stage.

    wrong_gold: rows of the gold sources that the stage drops; they count against its precision.
    """
    good, bad = labelled(kind, data, test)
    judge = stage(kind)
    wrong, right = dropped(judge, good), dropped(judge, bad)
    hits = int(right.sum())
    mistakes = [row for row, found in zip(bad, right, strict=True) if not found]
    mistakes += [row for row, found in zip(good, wrong, strict=True) if found]
    return Score(Share(hits, hits + int(wrong.sum()) + wrong_gold), Share(hits, len(bad)), mistakes)
