"""SciBench: problems from science textbooks with answer and unit (`direct`), and some with a solution (`cot`).

HRM-Text trains on it although it is an evaluation set, and leaves the unit out. Here the unit is kept: most answers are
incomplete without it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import interleave, raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import Source


def _read(path: str) -> Iterator[pa.Table]:
    columns = text_columns("problem_text", "answer_latex", "answer_number", "unit", "solution")
    for rows in read(path, columns, optional=("solution",)):
        problem, latex, number, unit, solution = (pc.utf8_trim_whitespace(rows[name]) for name in columns.names)
        plain = pc.or_(pc.equal(latex, ""), pc.equal(latex, pc.binary_join_element_wise("$", number, "$", "")))
        answer = pc.if_else(plain, number, latex)
        answer = pc.utf8_rtrim_whitespace(pc.binary_join_element_wise(answer, pc.fill_null(unit, ""), " "))
        solved = pc.not_equal(pc.fill_null(solution, ""), "")
        yield interleave(
            [
                raw(rows, problem, answer, "direct"),
                raw(rows.filter(solved), problem.filter(solved), solution.filter(solved), "cot", "cot"),
            ]
        )


SCIBENCH = Source(
    name="scibench",
    title="SciBench: ten textbooks of chemistry, physics and mathematics (Platypus)",
    home="https://github.com/mandyyyyii/scibench",
    revision="main",
    licence="MIT",
    generators=(),
    conditions=("direct", "cot"),
    overlaps=("scibench/test",),
    version=2,
    rows=692,
    part="mathematics",
    read=_read,
)
