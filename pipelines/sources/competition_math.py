"""MATH (Hendrycks et al. 2021) train: each problem with its solution (`cot`) and with its boxed answer (`direct`).

Two layouts are read: the authors' columns `problem` and `solution`, and the reinforcement-learning layout with both in
`reward_model.ground_truth`, whose problems end in a request that is not part of the data set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import InputError
from pipelines.formats.pairs import interleave, raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import HUB, Source, on_hub

_TRUTH = pa.struct([pa.field("question", pa.string()), pa.field("solution", pa.string())])
_COLUMNS = pa.schema(
    [
        pa.field("problem", pa.string()),
        pa.field("solution", pa.string()),
        pa.field("reward_model", pa.struct([pa.field("ground_truth", _TRUTH)])),
    ]
)
_REQUEST = r"\s*Let's think step by step and output the final answer within \\boxed\{\}\.\s*$"


def read_problems(
    path: str, optional: Sequence[str] = ()
) -> Iterator[tuple[pa.Table, pa.ChunkedArray, pa.ChunkedArray]]:
    """Yield (rows, problems, solutions) of a file of MATH in either layout. optional: further columns of text of rows.

    Raises: InputError: as `formats.read.read`, and if the file has neither layout.
    """
    columns = pa.schema([*_COLUMNS, *text_columns(*optional)])
    for rows in read(path, columns, optional=columns.names):
        problem = pc.coalesce(rows["problem"], pc.struct_field(rows["reward_model"], [0, 0]))
        solution = pc.coalesce(rows["solution"], pc.struct_field(rows["reward_model"], [0, 1]))
        if rows["fault"].null_count and problem.null_count == len(problem):
            raise InputError(
                f"{path}: neither columns `problem` and `solution` nor `reward_model.ground_truth` with both"
            )
        yield rows, pc.replace_substring_regex(problem, _REQUEST, ""), solution


def last_boxed(solution: str | None) -> str | None:
    r"""The content of the last `\boxed{...}` or `\fbox{...}`, or None. Braces nest: a regex cannot do this."""
    if solution is None:
        return None
    at = max(solution.rfind(r"\boxed"), solution.rfind(r"\fbox"))
    if at < 0:
        return None
    if solution.startswith(r"\boxed ", at):  # `\boxed 5`: TeX needs no braces
        return solution[at + 7 :].split("$")[0].strip() or None
    depth, start = 0, solution.find("{", at)
    for position in range(start, len(solution)) if start >= 0 else ():
        depth += {"{": 1, "}": -1}.get(solution[position], 0)
        if depth == 0:
            return solution[start + 1 : position]
    return None


def _read(path: str) -> Iterator[pa.Table]:
    for rows, problem, solution in read_problems(path):
        # A Python loop: the set has 7,500 rows and will not grow.
        boxed = pa.array([last_boxed(text) for text in solution.to_pylist()], pa.string())
        yield interleave([raw(rows, problem, solution, "cot"), raw(rows, problem, boxed, "direct", "direct")])


MATH = Source(
    name="math",
    title="MATH, train split",
    home=HUB + "EleutherAI/hendrycks_math",
    revision="main",
    licence="MIT",
    generators=(),
    conditions=("cot", "direct"),
    overlaps=("math/train", "mmlu/test"),
    path=on_hub("EleutherAI/hendrycks_math", "*/train-*.parquet"),
    rows=7_500,
    part="mathematics",
    read=_read,
)
