"""Which scores stand in a table by id? A table that `winnow score` made, or a file of the user's own."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from filters.scores.score import PREFIX
from filters.scores.table import TableScore
from pipelines.errors import InputError, nearest
from pipelines.formats.numbers import numbers_of
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

    Raises: RunError, InputError: if there is none, it lacks the column, an id stands there twice, or a value is no
    number.
    """
    path = score.path
    if storage.is_folder(path) or not input_files.suffix(path):
        table = open_scores(path)
        return FoundTable(path, _column_of(score, table.columns.names), table.digest, is_file=False)
    names = column_names(path)
    if "id" not in names:
        raise InputError(f"{path}: no column 'id', which says whose score it is (columns: {', '.join(names)})")
    found = FoundTable(path, _column_of(score, names), input_files.identity(path), is_file=True)
    _, values = _of_file(found)
    if score.values == "numbers":
        try:
            numbers_of(pa.chunked_array([values]))
        except ValueError as error:
            raise InputError(f"{path}, column {found.column}: {error}; `values: names` reads words") from None
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
