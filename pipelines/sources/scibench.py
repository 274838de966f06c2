"""SciBench: problems from science textbooks. With a written solution `cot`, without one `direct` with number and unit.

HRM-Text trains on it although it is an evaluation set.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.pairs import raw
from pipelines.reading import read, text
from pipelines.sources.source import Source


def _read(path: str) -> Iterator[pa.Table]:
    columns = text("problem_text", "answer_latex", "answer_number", "unit", "solution")
    for rows in read(path, columns, optional=("solution",)):
        problem, latex, number, unit, solution = (pc.utf8_trim_whitespace(rows[name]) for name in columns.names)
        answer = pc.if_else(pc.equal(latex, ""), number, latex)
        answer = pc.utf8_rtrim_whitespace(pc.binary_join_element_wise(answer, pc.fill_null(unit, ""), " "))
        solved = pc.fill_null(pc.not_equal(solution, ""), False)
        conclusion = pc.binary_join_element_wise(solution, "\nThe answer is ", answer, ".", "")
        yield raw(rows, problem, pc.if_else(solved, conclusion, answer), pc.if_else(solved, "cot", "direct"))


SCIBENCH = Source(
    name="scibench",
    title="SciBench: ten textbooks of chemistry, physics and mathematics",
    home="https://github.com/mandyyyyii/scibench",
    revision="unknown",
    licence="MIT",
    condition="direct",
    overlaps=("scibench",),
    read=_read,
)
