"""Read a file of rows in any format, plain or compressed (.gz .zst .bz2), a bounded batch at a time.

Every row of a file is returned, in order and with its number. A row that cannot be read has a `fault` (see `faults`).
Empty lines are no rows. A file without rows is no error: the caller decides.

Arrow parses blocks of rows. Only a block that Arrow refuses is parsed row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from pipelines.errors import InputError, nearest
from pipelines.formats import json
from pipelines.formats.columnar import arrow_columns, parquet_columns, read_arrow, read_parquet
from pipelines.formats.delimited import CSV, LINE, TSV, Dialect, delimited_columns, read_delimited, read_open_file
from pipelines.formats.faults import DAMAGE, Unreadable, is_damage, reading_error
from pipelines.formats.json import json_columns, read_json
from pipelines.ledger import input_files, storage


class Format(NamedTuple):
    """How the files of one format are read.

    read: (path, columns, optional) -> tables of ROW, FAULT, BROKEN and `columns`. column_names: path -> the file's
    columns. with_dialect: like `read`, with a Dialect as the last argument; None for formats that have no dialects.
    """

    read: Callable[[str, pa.Schema, Collection[str]], Iterator[pa.Table]]
    column_names: Callable[[str], list[str]]
    with_dialect: Callable[[str, pa.Schema, Collection[str], Dialect], Iterator[pa.Table]] | None = None


_JSON_LINES = Format(partial(read_json, lines=True), partial(json_columns, lines=True))
_JSON = Format(partial(read_json, lines=False), partial(json_columns, lines=False))
_CSV = Format(partial(read_delimited, dialect=CSV), partial(delimited_columns, dialect=CSV), read_delimited)
_TSV = Format(partial(read_delimited, dialect=TSV), partial(delimited_columns, dialect=TSV), read_delimited)
_ARROW = Format(read_arrow, arrow_columns)

FORMATS: dict[str, Format] = {
    ".jsonl": _JSON_LINES,
    ".ndjson": _JSON_LINES,
    ".json": _JSON,
    ".csv": _CSV,
    ".tsv": _TSV,
    ".parquet": Format(read_parquet, parquet_columns),
    ".arrow": _ARROW,
    ".ipc": _ARROW,
    ".feather": _ARROW,
}
"""Suffix -> format. Each suffix may be followed by .gz, .zst or .bz2."""


def text_columns(*names: str) -> pa.Schema:
    """The schema of columns of text. Numbers and booleans are read as text, spelt as in the file."""
    return pa.schema([pa.field(name, pa.string()) for name in names])


def read(
    path: str, columns: pa.Schema, optional: Collection[str] = (), dialect: Dialect | None = None
) -> Iterator[pa.Table]:
    """Yield tables of ROW, FAULT, BROKEN and `columns`, a few megabytes each, with every row of the file in order.

    columns: what to read: strings, or lists and structs of strings. optional: columns that may be missing, and are null
    then. dialect: of a CSV or TSV file that has no header or no quoting.

    Raises:
        InputError: if the file is missing, truncated or damaged (with the number of rows read), lacks a column (with
            its columns), or has an unknown suffix (with the nearest).
        Unreachable: if the connection to a remote file breaks.
    """
    form = _format(path)
    if dialect is not None and form.with_dialect is not None:
        tables = form.with_dialect(path, columns, optional, dialect)
    else:
        tables = form.read(path, columns, optional)
    row = 0
    try:
        for table in tables:
            yield table
            row += table.num_rows
    except Exception as error:
        if isinstance(error, (InputError, AssertionError)):
            raise
        # Each remote file system has its own exceptions for a broken connection.
        if storage.is_local(path) and not is_damage(error):
            raise
        raise reading_error(path, row, error) from error


def column_names(path: str) -> list[str]:
    """The columns of a file, in order; of JSON, those of its first thousand rows.

    Raises: InputError: as `read`.
    """
    try:
        return _format(path).column_names(path)
    except (Unreadable, *DAMAGE) as error:
        raise reading_error(path, 0, error) from error


def read_lines(path: str, file: BinaryIO) -> Iterator[pa.Table]:
    """Yield the lines of an open file as tables of ROW, FAULT, BROKEN and `line`; `path` is its name in messages.

    Raises: InputError: as `read`.
    """
    row = 0
    try:
        for table in read_open_file(path, file, text_columns("line"), (), LINE):
            yield table
            row += table.num_rows
    except (Unreadable, *DAMAGE) as error:
        raise reading_error(path, row, error) from error


def read_objects(path: str) -> Iterator[tuple[int, Any, str | None, str]]:
    """Yield (row, object, fault, text) of a JSON file, row by row: for small files with columns of mixed types.

    The object is None if there is a fault. Numbers are strings, spelt as in the file.

    Raises: InputError: as `read`.
    """
    row = 0
    try:
        for item in json.read_objects(path, lines=input_files.suffix(path) != ".json"):
            yield item
            row += 1
    except (Unreadable, *DAMAGE) as error:
        raise reading_error(path, row, error) from error


def _format(path: str) -> Format:
    suffix = input_files.suffix(path)
    if suffix not in FORMATS:
        raise InputError(f"{path}: unknown format {suffix!r}; {nearest(suffix, FORMATS)}")
    return FORMATS[suffix]
