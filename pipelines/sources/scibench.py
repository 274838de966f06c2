"""SciBench: problems from science textbooks, each with its answer and unit (`direct`), some with a solution (`cot`).

HRM-Text trains on it although it is an evaluation set; it leaves the unit out, without which most answers say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import interleave, raw
from pipelines.formats.reading import read, text
from pipelines.sources.source import Source


def _read(path: str) -> Iterator[pa.Table]:
    columns = text("problem_text", "answer_latex", "answer_number", "unit", "solution")
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
    conditions=("direct", "cot"),
    overlaps=("scibench/test",),
    version=2,
    rows=692,
    part="mathematics",
    read=_read,
)
