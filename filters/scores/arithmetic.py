"""Do the sums in a response hold?"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from filters.scores.equations import CANDIDATE_ROW, Equation, equations
from filters.scores.score import Score
from filters.text import TextField

EQUATIONS = pa.schema(
    [
        pa.field("row", pa.int64(), False),
        pa.field("start", pa.int64(), False),
        pa.field("end", pa.int64(), False),
        pa.field("equation", pa.string(), False),
        pa.field("left", pa.string(), False),
        pa.field("right", pa.string(), False),
        pa.field("holds", pa.bool_(), False),
    ]
)
"""A checked equation: the row of its response, where it is there (in characters), the whole, both sides, the answer."""


class Arithmetic(Score):
    """The share of the equations between numbers in a response that hold: 0 to 1; 1 is good.

    `<<16-3=13>>`, `12 x $2 = $24`, LaTeX, units, per cent, roots, rounded results and chains are read, in formulas,
    lists and tables. An equation with unknowns, or one that may mean something else, is not counted. A response without
    an equation to check is null.
    """

    VERSION: ClassVar[int] = 4

    kind: Literal["arithmetic"] = "arithmetic"

    @property
    def reads(self) -> tuple[TextField, ...]:
        """The response."""
        return ("response",)

    def measure(self, records: pa.Table, model: str | None = None) -> pa.Table:
        """The column `score_<name>` [rows], float32."""
        total, right = np.zeros(records.num_rows, np.int64), np.zeros(records.num_rows, np.int64)
        for row, found in _candidates(records):
            total[row] = len(found)
            right[row] = sum(equation.holds for equation in found)
        share = right / np.maximum(total, 1)
        return pa.table([pa.array(share.astype(np.float32), mask=total == 0)], schema=pa.schema(self.columns))


def find(records: pa.Table) -> pa.Table:
    """All equations in responses that can be checked, one per row: EQUATIONS. In order of rows and positions."""
    texts = as_array(records["response"])
    found = [
        (row, equation.start, equation.end, texts[row].as_py()[equation.start : equation.end], *equation[2:])
        for row, all_ in _candidates(records)
        for equation in all_
    ]
    arrays = [pa.array([row[i] for row in found], field.type) for i, field in enumerate(EQUATIONS)]
    return pa.table(arrays, schema=EQUATIONS)


def _candidates(records: pa.Table) -> list[tuple[int, list[Equation]]]:
    """The rows that have a number and an equals sign in one line, with their equations."""
    texts = as_array(records["response"])
    rows = np.flatnonzero(pc.match_substring_regex(texts, CANDIDATE_ROW).to_numpy(zero_copy_only=False))
    chosen = texts.take(pa.array(rows)).to_pylist()
    return [(int(row), equations(text)) for row, text in zip(rows, chosen, strict=True)]
