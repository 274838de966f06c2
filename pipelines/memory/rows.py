"""Rows in memory, of any accepted type, as Arrow columns; and answers in the type that was given.

Accepted are lists of texts or of dictionaries, Arrow tables and arrays, data frames and series of polars and pandas,
and data sets of `datasets`. None of these libraries is imported unless an object of it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.errors import WinnowError, nearest
from pipelines.formats.roles import guess_of
from pipelines.recipe import TEXT_FIELDS, TextField

Numbers = npt.NDArray[np.int64]

_SAMPLE_ROWS = 100  # from which the columns of a table are guessed, where their names do not tell


class Rows(NamedTuple):
    """Rows as they were given, and as an Arrow table. Texts without columns are the column TEXT of the table."""

    given: Any
    table: pa.Table
    is_table: bool

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def columns(self, named: str | Sequence[str] | None) -> dict[TextField, str]:
        """Field -> column. One column is a response. named: one column, instruction and response, or None to guess.

        Raises: WinnowError: if the columns cannot be guessed, or are not one or two.
        """
        if not self.is_table:
            if named is not None:
                raise WinnowError("columns: texts have none; give a table, or leave `columns` out")
            return {"response": TEXT}
        if isinstance(named, str):
            return {"response": named}
        if named is not None:
            if len(named) != 2:
                raise WinnowError(f"columns: name one, or the instruction and the response, not {len(named)}")
            return dict(zip(TEXT_FIELDS, named, strict=True))
        guess = guess_of(self.table.column_names, self.table.slice(0, _SAMPLE_ROWS).to_pylist()) or {}
        if isinstance(text := guess.get("text"), str):
            return {"response": text}
        pair = {field: guess.get(field) for field in TEXT_FIELDS}
        if not all(isinstance(name, str) for name in pair.values()):
            raise WinnowError(
                "which columns hold the instruction and the response cannot be told "
                f"({', '.join(self.table.column_names)}); name them: columns=('question', 'answer')"
            )
        return {field: str(name) for field, name in pair.items()}

    def column(self, name: str) -> pa.Array:
        """A column as strings [rows]. Raises: WinnowError: if there is none, or a value is null or no text."""
        if name not in self.table.column_names:
            raise WinnowError(f"no column {name!r}; {nearest(name, self.table.column_names)}")
        what = f"column {name!r}" if self.is_table else "the texts"
        column = self.table[name].combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if len(column) and pa.types.is_null(column.type):
            raise WinnowError(f"{what}: no texts, or values of several types")
        if column.null_count:
            at = int(np.flatnonzero(np.asarray(column.is_null()))[0])
            raise WinnowError(f"{what}: row {at} is null; remove such rows, or fill them with an empty text")
        if len(column) and column.type not in (pa.string(), pa.large_string(), pa.string_view()):
            raise WinnowError(f"{what}: {column.type}, not text")
        column = column.cast(pa.string())
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column

    def texts(self, columns: Mapping[TextField, str]) -> pa.Table:
        """The texts as columns `instruction` and `response`; a field without a column is empty."""
        empty = pa.array([""] * len(self), pa.string())
        return pa.table({field: self.column(columns[field]) if field in columns else empty for field in TEXT_FIELDS})

    def take(self, at: Numbers, columns: Mapping[str, pa.Array]) -> Any:
        """The rows with these numbers, of the type that was given, with columns replaced or added. Texts to which
        columns are added become an Arrow table."""
        if self._library == "pandas" and self.is_table:
            return self.given.iloc[at].assign(**{name: column.to_pylist() for name, column in columns.items()})
        table = self.table.take(pa.array(at))
        for name, column in columns.items():
            names = table.column_names
            table = (
                table.set_column(names.index(name), name, column)
                if name in names
                else table.append_column(name, column)
            )
        if not self.is_table:
            return self._series(table[TEXT].combine_chunks(), at) if table.num_columns == 1 else table
        return self._frame(table)

    def _frame(self, table: pa.Table) -> Any:
        if self._library == "polars":
            import polars as pl

            return pl.DataFrame(table)
        if self._library == "datasets":
            import datasets

            return datasets.Dataset(datasets.table.InMemoryTable(table))
        if isinstance(self.given, pa.RecordBatch):
            return pa.RecordBatch.from_arrays(
                [column.combine_chunks() for column in table.columns], schema=table.schema
            )
        return table.to_pylist() if isinstance(self.given, list | tuple) else table

    def _series(self, texts: pa.Array, at: Numbers) -> Any:
        if self._library == "polars":
            import polars as pl

            return pl.Series(self.given.name, texts.to_pylist(), pl.String)
        if self._library == "pandas":
            return type(self.given)(texts.to_pylist(), name=self.given.name, index=self.given.index[at])
        if isinstance(self.given, list | tuple):
            return type(self.given)(texts.to_pylist())
        return pa.chunked_array([texts]) if isinstance(self.given, pa.ChunkedArray) else texts

    @property
    def _library(self) -> str:
        return _library_of(self.given)


TEXT = "text"
"""The column of texts that were given without a table."""


def rows_of(data: Any) -> Rows:
    """The rows of `data`. Raises: WinnowError: for a type that is not accepted."""
    library = _library_of(data)
    if library == "polars":
        data = data.collect() if hasattr(data, "collect") else data
        arrow = data.to_arrow()
    elif library == "pandas":
        is_frame = hasattr(data, "columns")
        arrow = _table_of_frame(data) if is_frame else pa.array(data, from_pandas=True)
    elif library == "datasets" and isinstance(data, Mapping):
        raise WinnowError(f"a {type(data).__name__} has several splits; give one: data[{next(iter(data), 'train')!r}]")
    elif (library == "datasets" and not hasattr(data, "with_format")) or library == "numpy":
        arrow = _strings(list(data))  # a column of a data set, or an array
    elif library == "datasets":
        arrow = pa.concat_tables([data.data.table.slice(0, 0), *data.with_format("arrow").iter(batch_size=10_000)])
    elif isinstance(data, pa.Table | pa.Array | pa.ChunkedArray):
        arrow = data
    elif isinstance(data, pa.RecordBatch):
        arrow = pa.Table.from_batches([data])
    elif isinstance(data, list | tuple):
        arrow = _table_of_rows(data) if any(isinstance(row, Mapping) for row in data) else _strings(data)
    else:
        raise WinnowError(
            f"rows of type {type(data).__name__} cannot be read; give a list of texts or dictionaries, an Arrow table "
            "or array, a data frame or series of polars or pandas, or a data set of `datasets`"
        )
    is_table = isinstance(arrow, pa.Table)
    return Rows(data, arrow if is_table else pa.table({TEXT: arrow}), is_table)


def _library_of(data: Any) -> str:
    return type(data).__module__.partition(".")[0]


def _strings(texts: Sequence[Any]) -> pa.Array:
    for at, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            raise WinnowError(f"the texts: row {at} is a {type(text).__name__}, not text")
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError as error:
        raise WinnowError(
            f"the texts: not Unicode: {error.reason} ({error.object[error.start : error.end]!r})"
        ) from error


def _table_of_rows(rows: Sequence[Any]) -> pa.Table:
    for at, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise WinnowError(f"row {at} is a {type(row).__name__}, and others are mappings; give rows of one kind")
    try:
        return pa.Table.from_pylist(list(rows))
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise WinnowError(f"the rows have columns with values of several types: {error}") from error


def _table_of_frame(frame: Any) -> pa.Table:
    """The columns of a pandas data frame. One that Arrow cannot hold is null: it may not be read."""
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        raise WinnowError(f"two columns are called {max(names, key=names.count)!r}; rename one")
    columns = []
    for place in range(len(names)):
        try:
            columns.append(pa.array(frame.iloc[:, place], from_pandas=True))
        except (pa.ArrowException, UnicodeEncodeError):
            columns.append(pa.nulls(len(frame)))
    return pa.table(columns, names=names)
