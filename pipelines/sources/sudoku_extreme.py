"""Sudoku-Extreme: puzzles and solutions as 81 digits, `0` for an empty cell, `direct`."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import exclude, raw, with_task
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import HUB, Source, on_hub

CELLS = 81


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text_columns("question", "answer")):
        puzzle, solution = rows["question"], rows["answer"]
        instruction = pc.binary_join_element_wise("Solve the Sudoku\n\n", pc.replace_substring(puzzle, ".", "0"), "")
        not_81_cells = pc.or_(
            pc.not_equal(pc.utf8_length(puzzle), CELLS), pc.not_equal(pc.utf8_length(solution), CELLS)
        )
        yield with_task(exclude(raw(rows, instruction, solution, "direct"), ("not_81_cells", not_81_cells)), "all")


SUDOKU_EXTREME = Source(
    name="sudoku_extreme",
    title="Sudoku-Extreme, train split",
    home=HUB + "sapientinc/sudoku-extreme",
    revision="main",
    licence="unknown",
    generators=(),
    conditions=("direct",),
    path=on_hub("sapientinc/sudoku-extreme", "train.csv"),
    bytes=719_000_000,
    part="symbolic",
    read=_read,
)
