"""Which scores stand in a table by id? A table that `winnow score` made, or a file of the user's own."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from filters.scores.score import PREFIX
from filters.scores.table import TableScore
from pipelines.errors import InputError, nearest
from pipelines.formats.read import column_names, read, text_columns
from pipelines.ledger import input_files, storage
from pipelines.ledger.score_tables import open_scores


class FoundTable(NamedTuple):
    """Where scores stand. column: of the table. digest: of its content. is_file: not a table of `winnow score`."""

    path: str
    column: str
    digest: str
    is_file: bool

    def lookup(self, ids: pa.ChunkedArray, field: pa.Field) -> pa.Table:
        """The scores of ids [rows] as one column, null where there is none."""
        if self.is_file:
            known, values = _of_file(self)
            column = pa.chunked_array([values.take(pc.index_in(as_array(ids), value_set=known))])
        else:
            column = open_scores(self.path).lookup(as_array(ids))[self.column]
        if field.type != pa.string():
            with np.errstate(over="ignore"):  # beyond float32: infinite, which is the highest
                values = numbers_of(column).astype(np.float32)
            column = pa.chunked_array([pa.array(values, from_pandas=True)])
        return pa.table([column.cast(field.type)], schema=pa.schema([field]))


def find_table(score: TableScore) -> FoundTable:
    """The table that a score names.

    Raises: RunError, InputError: if there is none, it lacks the column, or an id stands there twice.
    """
    path = score.path
    if storage.is_folder(path) or not input_files.suffix(path):
        table = open_scores(path)
        return FoundTable(path, _column_of(score, table.columns.names), table.digest, is_file=False)
    names = column_names(path)
    if "id" not in names:
        raise InputError(f"{path}: no column 'id', which says whose score it is (columns: {', '.join(names)})")
    found = FoundTable(path, _column_of(score, names), input_files.identity(path), is_file=True)
    _of_file(found)
    return found


@functools.lru_cache(maxsize=4)
def _of_file(table: FoundTable) -> tuple[pa.Array, pa.Array]:
    """The ids and the values of a file, as texts [n]."""
    tables = list(read(table.path, text_columns("id", table.column)))
    if not sum(one.num_rows for one in tables):
        raise InputError(f"{table.path}: the table has no rows")
    rows = pa.concat_tables(tables)
    rows = rows.filter(pc.is_valid(rows["id"]))
    ids = as_array(rows["id"])
    counts = pc.value_counts(ids)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise InputError(f"{table.path}: the id {twice[0].as_py()!r} stands there more than once; keep one")
    return ids, as_array(rows[table.column])


def _column_of(score: TableScore, names: Sequence[str]) -> str:
    wanted = (score.column,) if score.column else (PREFIX + score.name, score.name)
    for name in wanted:
        if name in names:
            return name
    there = [name for name in names if name != "id"]
    raise InputError(f"{score.path}: no column {wanted[-1]!r}; {nearest(wanted[-1], there)}; name it as `column`")


def numbers_of(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """The values of a column as numbers, float64 [rows]; yes and true are 1, no and false 0; NaN for other texts."""
    if pa.types.is_floating(column.type):
        return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy())
    text = pc.utf8_trim_whitespace(column)
    lower = pc.utf8_lower(text)
    for words, number in ((("yes", "true"), "1"), (("no", "false"), "0")):
        text = pc.if_else(pc.is_in(lower, value_set=pa.array(words)), number, text)
    number = pc.match_substring_regex(text, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
    return np.asarray(pc.fill_null(pc.if_else(number, text, None).cast(pa.float64()), np.nan).to_numpy())
