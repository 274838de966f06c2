"""Read a file of rows in any format, plain or compressed (.gz .zst .bz2), a bounded batch at a time.

Every row of a file is returned, in order and with its number. A row that cannot be read has a `fault` (see `faults`).
Empty lines are no rows. A file without rows is no error: the caller decides.

Arrow parses blocks of rows. Only a block that Arrow refuses is parsed row by row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from pipelines.errors import InputError, nearest
from pipelines.formats import json, sniff
from pipelines.formats.columnar import (
    ARROW,
    PARQUET,
    Columnar,
    columnar_names,
    columnar_spans,
    declared_rows,
    first_values,
    read_columnar,
)
from pipelines.formats.delimited import (
    CSV,
    LINE,
    TSV,
    Dialect,
    delimited_columns,
    first_fields,
    read_delimited,
    read_open_file,
)
from pipelines.formats.faults import DAMAGE, Unreadable, is_damage, reading_error
from pipelines.formats.json import json_columns, read_json
from pipelines.formats.span import WHOLE, Span
from pipelines.formats.values import Fault, Number, lookup, nested_names
from pipelines.ledger import input_files, processes, storage


class Spelling(NamedTuple):
    """How text files are written, where that is not as usual.

    dialect: of a CSV or TSV file that has no header or no quoting. quoted: whether quotes enclose fields of CSV and TSV
    files, by default as the format's dialect says. encoding: by default UTF-8, or that of a byte order mark.
    """

    dialect: Dialect | None = None
    quoted: bool | None = None
    encoding: str | None = None

    def of(self, dialect: Dialect) -> Dialect:
        """The dialect to read with; `dialect` is that of the format."""
        chosen = self.dialect or dialect
        return chosen if self.quoted is None else chosen._replace(quoted=self.quoted)


class Format(NamedTuple):
    """How the files of one format are read.

    read: (path, columns, optional, spelling, span) -> tables of ROW, FAULT, BROKEN and `columns`. column_names: (path,
    spelling) -> the file's columns. first_rows: (path, spelling, columns) -> some first rows as objects; JSON may need
    columns to find them. spans: (path, bytes, spelling) -> the spans of a file; None for a format whose files have one.
    row_count: (path, spelling, span) -> the rows of a span that does not say how many. declared: path -> how many rows
    the file says that it holds; None where it does not.
    """

    read: Callable[[str, pa.Schema, Collection[str], Spelling, Span], Iterator[pa.Table]]
    column_names: Callable[[str, Spelling], list[str]]
    first_rows: Callable[[str, Spelling, pa.Schema], list[dict[str, Any]]]
    spans: Callable[[str, int, Spelling], list[Span]] | None = None
    row_count: Callable[[str, Spelling, Span], int] | None = None
    declared: Callable[[str], int | None] | None = None


def _json(lines: bool) -> Format:
    return Format(
        lambda path, columns, optional, spelling, span: read_json(
            path, columns, optional, lines, spelling.encoding, span
        ),
        lambda path, spelling: json_columns(path, lines, spelling.encoding),
        lambda path, spelling, columns: json.first_objects(path, lines, spelling.encoding, columns),
        lambda path, size, spelling: json.line_spans(path, size, lines, spelling.encoding),
        lambda path, spelling, span: json.count_rows(path, lines, spelling.encoding, span),
    )


def _delimited(dialect: Dialect) -> Format:
    return Format(
        lambda path, columns, optional, spelling, _: read_delimited(
            path, columns, optional, spelling.of(dialect), spelling.encoding
        ),
        lambda path, spelling: delimited_columns(path, spelling.of(dialect), spelling.encoding),
        lambda path, spelling, _: first_fields(path, spelling.of(dialect), spelling.encoding),
    )


def _columnar(reader: Columnar) -> Format:
    return Format(
        lambda path, columns, optional, _, span: read_columnar(path, columns, optional, reader, span),
        lambda path, _: columnar_names(path, reader),
        lambda path, *_: first_values(path, reader),
        lambda path, *_: columnar_spans(path, reader),
        declared=lambda path: declared_rows(path, reader),
    )


_JSON_LINES, _JSON = _json(lines=True), _json(lines=False)
_ARROW = _columnar(ARROW)

FORMATS: dict[str, Format] = {
    ".jsonl": _JSON_LINES,
    ".ndjson": _JSON_LINES,
    ".json": _JSON,
    ".csv": _delimited(CSV),
    ".tsv": _delimited(TSV),
    ".parquet": _columnar(PARQUET),
    ".arrow": _ARROW,
    ".ipc": _ARROW,
    ".feather": _ARROW,
}
"""Suffix -> format. Each suffix may be followed by .gz, .zst or .bz2."""


NO_COLUMNS = pa.schema([])


def text_columns(*names: str) -> pa.Schema:
    """The schema of columns of text. Numbers and booleans are read as text, spelt as in the file."""
    return pa.schema([pa.field(name, pa.string()) for name in names])


def read(
    path: str,
    columns: pa.Schema,
    optional: Collection[str] = (),
    dialect: Dialect | None = None,
    spelling: Spelling | None = None,
    span: Span = WHOLE,
) -> Iterator[pa.Table]:
    """Yield tables of ROW, FAULT, BROKEN and `columns`, a few megabytes each, with every row of the file in order.

    columns: what to read: strings, or lists and structs of strings. `qa.q` is a column of that name, or the field `q`
    of the column `qa`; `choices.0` the first element of a list. optional: columns that may be missing, and are null
    then. dialect: of a CSV or TSV file that has no header or no quoting; short for a Spelling with it.
    span: one of `spans`, to read a part of the file.

    Raises:
        InputError: if the file is missing, truncated or damaged (with the number of rows read), lacks a column (with
            its columns), has two of that name, or has an unknown suffix (with the nearest).
        Unreachable: if the connection to a remote file breaks.
    """
    tables = _format(path).read(path, columns, optional, spelling or Spelling(dialect), span)
    row = span.row
    try:
        while (table := _next(path, tables)) is not None:
            yield table
            row += table.num_rows
    except Exception as error:
        if isinstance(error, (InputError, AssertionError)):
            raise
        # Each remote file system has its own exceptions for a broken connection.
        if storage.is_local(path) and not is_damage(error):
            raise
        raise _error(path, row, error) from error


MIN_SPLIT_BYTES = 16 << 20
"""A smaller file has one span: less text than a span holds, unless it is compressed uncommonly well."""


def spans(path: str, size: int, spelling: Spelling | None = None) -> list[Span]:
    """The spans of a file of `size` bytes, in order: what tasks may read apart. They follow from its bytes alone.

    Several spans have large files of JSON lines in UTF-8, of Parquet with several row groups, and local ones of Arrow
    with several batches. Files that are compressed as a whole have one, and so have CSV, JSON arrays and streams of
    Arrow: where a row begins follows there from all that is before it.

    Raises: InputError: as `read`.
    """
    form = _format(path)
    if form.spans is None or size < MIN_SPLIT_BYTES or input_files.is_compressed(path):
        return [WHOLE]
    try:
        return form.spans(path, size, spelling or Spelling())
    except (Unreadable, *DAMAGE) as error:
        raise _error(path, 0, error) from error


def count_rows(path: str, spelling: Spelling, span: Span) -> int:
    """How many rows a span has that does not say so (`Span.rows`). Raises: InputError: as `read`."""
    form = _format(path)
    assert form.row_count is not None, "its spans say how many rows they have"
    try:
        with processes.noted(f"counting the rows of {path}"):
            return form.row_count(path, spelling, span)
    except (Unreadable, *DAMAGE) as error:
        raise _error(path, 0, error) from error


def rows_declared(path: str) -> int | None:
    """How many rows a file says that it holds: one of Parquet, or a local one of Arrow; None for others.

    Raises: InputError: as `read`.
    """
    form = FORMATS.get(input_files.suffix(path))
    if form is None or form.declared is None or input_files.is_compressed(path):
        return None
    try:
        return form.declared(path)
    except (Unreadable, *DAMAGE) as error:
        raise _error(path, 0, error) from error


def _error(path: str, row: int, error: Exception) -> InputError:
    """As `reading_error`; of a file whose first bytes are those of another format, what it is."""
    # A file that does not answer is not read once more.
    what = sniff.container(path) if not row and isinstance(error, Unreadable | pa.ArrowException) else ""
    return InputError(f"{path}: {what}") if what else reading_error(path, row, error)


def _next(path: str, tables: Iterator[pa.Table]) -> pa.Table | None:
    with processes.noted(f"reading {path}"):
        return next(tables, None)


def column_names(path: str, spelling: Spelling | None = None) -> list[str]:
    """The columns of a file, in order; of JSON, those of its first thousand rows.

    Raises: InputError: as `read`.
    """
    try:
        with processes.noted(f"reading {path}"):
            return _format(path).column_names(path, spelling or Spelling())
    except (Unreadable, *DAMAGE) as error:
        raise _error(path, 0, error) from error


def first_rows(path: str, spelling: Spelling | None = None, columns: pa.Schema = NO_COLUMNS) -> list[dict[str, Any]]:
    """Some first rows as objects. Columnar formats leave out columns of numbers. columns: by which JSON finds its rows.

    Raises: InputError: as `read`.
    """
    try:
        with processes.noted(f"reading {path}"):
            rows = _format(path).first_rows(path, spelling or Spelling(), columns)
    except (Unreadable, *DAMAGE) as error:
        raise _error(path, 0, error) from error
    return [row for row in rows if isinstance(row, dict)]


def text_columns_of(path: str, columns: pa.Schema, spelling: Spelling | None = None) -> list[str]:
    """The columns that hold text in some first rows, those of structs by field (`qa.q`). columns: that the file has.

    Raises: InputError: as `read`.
    """
    names: dict[str, None] = {}
    for row in first_rows(path, spelling, columns):
        names.update(dict.fromkeys(name for name in nested_names(row) if _holds_text(_value(row, name))))
    return list(names)


_MORE_THAN_A_NUMBER = re.compile(r"[^\W\d_]|\d\W*[\s,;:/]\W*\d|[^\s\d.,+\-]")
"""A letter, several numbers, or a character that numbers have not."""


def _value(row: dict[str, Any], name: str) -> Any:
    try:
        return lookup(row, name)
    except Fault:
        return None


def _holds_text(value: Any) -> bool:
    """Whether a value is text that is more than a number, or holds such text."""
    if isinstance(value, str):
        return not isinstance(value, Number) and _MORE_THAN_A_NUMBER.search(value) is not None
    inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return any(map(_holds_text, inner))


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
        raise _error(path, row, error) from error


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
        raise _error(path, row, error) from error


def _format(path: str) -> Format:
    suffix = input_files.suffix(path)
    if suffix not in FORMATS:
        raise InputError(f"{path}: unknown format {suffix!r}; {nearest(suffix, FORMATS)}")
    return FORMATS[suffix]
