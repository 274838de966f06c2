"""MATH test: 5,000 competition problems. The answer is the content of the solution's last `\\boxed{}`.

`details` has the level and the type of a problem, if the file has them.
"""

from __future__ import annotations

import pyarrow as pa

from pipelines.benchmarks.benchmark import Benchmark
from pipelines.benchmarks.items import Item, concat, table
from pipelines.errors import InputError
from pipelines.sources.competition_math import last_boxed, read_problems
from pipelines.sources.source import on_hub

_DETAILS = ("level", "type")


def _read(paths: list[str]) -> pa.Table:
    return concat([table("math", path, _items(path)) for path in paths])


def _items(path: str) -> list[tuple[int, Item]]:
    items = []
    for rows, problems, solutions in read_problems(path, optional=_DETAILS):
        details = rows.select(_DETAILS).to_pylist()
        columns = (rows["row"].to_pylist(), problems.to_pylist(), solutions.to_pylist(), details)
        for number, problem, solution, found in zip(*columns, strict=True):
            answer = last_boxed(solution)
            if problem is None or answer is None:
                raise InputError(
                    f"{path}: row {number}: no problem, or no boxed answer; an evaluation set must be complete"
                )
            items.append((number, Item(problem, answer, details={k: v for k, v in found.items() if v is not None})))
    return items


MATH = Benchmark(
    name="math",
    title="MATH, test split",
    home="https://github.com/hendrycks/math",
    revision="unknown",
    licence="MIT",
    read=_read,
    path=on_hub("EleutherAI/hendrycks_math", "*/test-*.parquet"),
    files=("math_test.parquet",),
)
