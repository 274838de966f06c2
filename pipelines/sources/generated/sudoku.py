"""Four-by-four sudoku on one line: 0 is an empty cell, the answer is the full grid. Every puzzle has one solution."""

from __future__ import annotations

from functools import cache
from itertools import permutations

from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.problem import Problem, Row, draw_where, row_of

ASK = (
    "Solve this 4x4 sudoku, where 0 marks an empty cell: {p}",
    "Fill in the zeros of the small sudoku {p} so that rows, columns and blocks hold 1 to 4.",
    "Sudoku (4x4): {p}",
    "Complete the sudoku grid {p} and write it in the same form.",
)


@cache
def _grids() -> tuple[str, ...]:
    """All 288 full grids, 16 digits each."""
    rows = ["".join(row) for row in permutations("1234")]
    grids = [""]
    for number in range(4):
        grids = [grid + row for grid in grids for row in rows if _fits(grid, row, number)]
    return tuple(grids)


def _fits(grid: str, row: str, number: int) -> bool:
    if any(row[column] in grid[column::4] for column in range(4)):
        return False
    above = grid[-4:]
    return number % 2 == 0 or all(len({*above[block : block + 2], *row[block : block + 2]}) == 4 for block in (0, 2))


@cache
def _grids_with() -> dict[tuple[int, str], int]:
    """(cell, digit) -> the grids that have the digit in the cell, as a bit set."""
    return {
        (cell, digit): sum(1 << index for index, grid in enumerate(_grids()) if grid[cell] == digit)
        for cell in range(16)
        for digit in "1234"
    }


def draw(dice: Dice) -> Problem:
    """A problem, held out or not."""
    solution, grids_with = dice.pick(_grids()), _grids_with()
    while True:
        shown = set(dice.sample(range(16), 16 - dice.between(3, 8)))
        solutions = -1
        for cell in shown:
            solutions &= grids_with[cell, solution[cell]]
        if solutions & (solutions - 1) == 0:  # one bit: one solution
            break
    puzzle = "".join(digit if cell in shown else "0" for cell, digit in enumerate(solution))
    grid_text, answer = (" ".join(grid[start : start + 4] for start in range(0, 16, 4)) for grid in (puzzle, solution))
    return Problem(
        ("sudoku", puzzle),
        dice.pick(ASK).format(p=grid_text),
        "Each row, column and block must hold 1, 2, 3 and 4.",
        answer,
    )


def row(dice: Dice) -> Row:
    """A training row without a defect."""
    return row_of(draw_where(draw, dice, held_out=False), dice, cot_percent=0)
