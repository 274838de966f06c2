"""Read CSV, TSV and text files as rows of text columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from dedup.kernel import kernel
from pipelines.errors import InputError
from pipelines.formats.blocks import MAX_ROW_BYTES, Bytes, Offsets, RowBlock, read_blocks
from pipelines.formats.faults import Unreadable, broken_text, check_columns, is_utf8, with_faults, with_row_numbers
from pipelines.ledger import input_files

_OPEN_QUOTE = "it opens a quote that is never closed"

_NEWLINE, _CARRIAGE_RETURN, _QUOTE = 10, 13, 34
_NO_QUOTE = -1
"""A value that no byte has, for files without quoting."""


class Dialect(NamedTuple):
    """How a delimited file is written.

    quoted: a field may be in double quotes, with `""` for a quote (RFC 4180). names: the columns of a file without a
    header line.
    """

    delimiter: str
    quoted: bool = True
    names: tuple[str, ...] | None = None


CSV, TSV = Dialect(","), Dialect("\t")

LINE = Dialect("\x1f", quoted=False, names=("line",))
"""A text file as rows of one column. The unit separator does not occur in text, so a line is one field."""


def read_delimited(path: str, columns: pa.Schema, optional: Collection[str], dialect: Dialect) -> Iterator[pa.Table]:
    """Yield tables of ROW, FAULT, BROKEN and `columns`, which are strings.

    Raises: InputError: if a column that is not optional is missing, or two columns have the same name.
    """
    with input_files.open_input(path) as file:
        yield from read_open_file(path, file, columns, optional, dialect)


def read_open_file(
    path: str, file: BinaryIO, columns: pa.Schema, optional: Collection[str], dialect: Dialect
) -> Iterator[pa.Table]:
    """Like `read_delimited`, from an open file; `path` is its name in messages."""
    assert all(pa.types.is_string(field.type) for field in columns), "a delimited file contains text"
    names = list(dialect.names) if dialect.names else []
    row = 0
    for block in split_rows(read_blocks(file), dialect.delimiter, dialect.quoted):
        if not names:
            names = _header(path, block, dialect)
            check_columns(path, names, columns, optional)
            block = _without_first_row(block)
            if not len(block.starts):
                continue
        table = _parse_block(block, names, columns, dialect)
        yield with_row_numbers(table, row)
        row += table.num_rows


def delimited_columns(path: str, dialect: Dialect) -> list[str]:
    """The names in the file's first line."""
    with input_files.open_input(path) as file:
        block = next(split_rows(read_blocks(file), dialect.delimiter, dialect.quoted), None)
        return [] if block is None else _header(path, block, dialect)


def _header(path: str, block: RowBlock, dialect: Dialect) -> list[str]:
    names = _fields(block.row(0).decode(errors="replace"), dialect)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{path}: two columns are called {repeated[0]!r} in its first line")
    return names


def _fields(line: str, dialect: Dialect) -> list[str]:
    if not dialect.quoted:
        return line.split(dialect.delimiter)
    return next(csv.reader(io.StringIO(line, newline=""), delimiter=dialect.delimiter))


def _without_first_row(block: RowBlock) -> RowBlock:
    start = int(block.starts[1]) if len(block.starts) > 1 else len(block.data)
    starts, ends = block.starts[1:] - start, block.ends[1:] - start
    return RowBlock(block.data[start:], starts, ends, carriage_returns=block.carriage_returns)


# Rows in blocks


def split_rows(blocks: Iterator[bytearray], delimiter: str, quoted: bool) -> Iterator[RowBlock]:
    """Yield the rows of a delimited file. A row ends with `\\n` or `\\r\\n` outside quotes; empty lines are no rows.

    Raises: Unreadable: if a quote is never closed, since any number of rows may be inside it.
    """
    pending = bytearray()
    for block in blocks:
        pending += block
        rows, pending = _split(pending, delimiter, quoted, last=False)
        if len(rows.starts):
            yield rows
        if len(pending) > MAX_ROW_BYTES:
            raise Unreadable(_OPEN_QUOTE)
    if pending:
        rows, pending = _split(pending, delimiter, quoted, last=True)
        if len(rows.starts):
            yield rows
        if pending:
            raise Unreadable(_OPEN_QUOTE)


def _split(data: bytearray, delimiter: str, quoted: bool, last: bool) -> tuple[RowBlock, bytearray]:
    """The complete rows at the start of the data, and the bytes after them."""
    array = np.frombuffer(data, np.uint8)
    starts, ends = (np.empty(data.count(b"\n") + 1, np.int64) for _ in range(2))
    quote = _QUOTE if quoted else _NO_QUOTE
    rows, used = _scan_rows(array, ord(delimiter), quote, last, starts, ends)
    # Counting is fast and enough for nearly every file: no `\r`, or each before a `\n`.
    carriage_returns = data.count(b"\r") != data.count(b"\r\n") and _has_carriage_return(
        array[:used], ord(delimiter), quote
    )
    return RowBlock(data[:used], starts[:rows], ends[:rows], carriage_returns=carriage_returns), data[used:]


@kernel
def _scan_rows(data: Bytes, delimiter: int, quote: int, last: bool, starts: Offsets, ends: Offsets) -> tuple[int, int]:
    """Scan for rows. Writes `starts` and `ends`; returns (number of rows, bytes of these rows).

    last: the data ends with the file, so that the last row needs no newline. As in Arrow's parser, a quote opens only
    at the start of a field.
    """
    rows, start = 0, 0
    in_quotes, field_start, after_quote = False, True, False
    size = len(data)
    for i in range(size):
        byte = data[i]
        # Inside quotes only a quote matters: it closes the field, or is the first of two that stand for one.
        if in_quotes:
            if byte == quote:
                in_quotes, after_quote = False, True
            continue
        if after_quote and byte == quote:
            in_quotes, after_quote = True, False
            continue
        after_quote = False
        if byte == _NEWLINE:
            end = i - 1 if i > start and data[i - 1] == _CARRIAGE_RETURN else i
            if end > start:
                starts[rows], ends[rows] = start, end
                rows += 1
            start, field_start = i + 1, True
        elif byte == delimiter:
            field_start = True
        elif byte == quote and field_start:
            in_quotes, field_start = True, False
        else:
            field_start = False
    if last and start < size and not in_quotes:
        starts[rows], ends[rows] = start, size
        rows, start = rows + 1, size
    return rows, start


@kernel
def _has_carriage_return(data: Bytes, delimiter: int, quote: int) -> bool:
    """Whether complete rows contain `\\r` outside quotes and not at the end of a line."""
    in_quotes, field_start, after_quote = False, True, False
    for i in range(len(data)):
        byte = data[i]
        # Quotes as in `_scan_rows`.
        if in_quotes:
            if byte == quote:
                in_quotes, after_quote = False, True
        elif byte == quote and (after_quote or field_start):
            in_quotes, field_start, after_quote = True, False, False
        else:
            if byte == _CARRIAGE_RETURN and i + 1 < len(data) and data[i + 1] != _NEWLINE:
                return True
            field_start, after_quote = byte in (delimiter, _NEWLINE), False
    return False


# Rows to columns


def _parse_block(block: RowBlock, names: list[str], columns: pa.Schema, dialect: Dialect) -> pa.Table:
    """A table of FAULT, BROKEN and `columns` with one row for each row of the block."""
    if block.carriage_returns:
        return _parse_rows(block, names, columns, dialect)
    rows = len(block.starts)
    undecodable = np.zeros(rows, bool)
    data: bytes | bytearray = block.data
    if not is_utf8(data):
        undecodable[:] = [not _decodes(block.row(index)) for index in range(rows)]
        data = b"\n".join(block.row(index) for index in np.flatnonzero(~undecodable).tolist())
    decodable = np.flatnonzero(~undecodable)
    parsed = _parse_csv(data, len(decodable), names, columns, dialect)
    if parsed is None:
        return _parse_rows(block, names, columns, dialect)
    table, rejected = parsed
    if table.num_rows == rows:
        return with_faults(table, None, None)
    good = ~undecodable
    good[decodable[rejected]] = False
    faults = [
        None if read else "invalid_utf8" if bad else "wrong_columns"
        for read, bad in zip(good, undecodable, strict=True)
    ]
    broken = [None if read else broken_text(block.row(index)) for index, read in enumerate(good)]
    # Rows that could not be read become rows of nulls in their place.
    table = table.take(pa.array(np.cumsum(good) - 1, mask=~good))
    return with_faults(table, faults, broken)


def _decodes(line: bytes) -> bool:
    """Whether a row is valid UTF-8. For single rows this is faster than `is_utf8`."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parse_csv(
    data: bytes | bytearray, rows: int, names: list[str], columns: pa.Schema, dialect: Dialect
) -> tuple[pa.Table, list[int]] | None:
    """The rows as Arrow parses them: those with as many fields as names, and the positions of the others.

    None if Arrow refuses the data or finds another number of rows than the scan.
    """
    if not rows:
        return columns.empty_table(), []
    rejected: list[int] = []

    def reject(row: pa.csv.InvalidRow) -> str:
        rejected.append(row.number - 1)
        return "skip"

    present = [name for name in columns.names if name in names]
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(data),
            # Without threads and in one block, so that Arrow numbers the rows it rejects.
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
            parse_options=pa.csv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char='"' if dialect.quoted else False,
                newlines_in_values=dialect.quoted,
                invalid_row_handler=reject,
            ),
            convert_options=pa.csv.ConvertOptions(
                include_columns=present,
                column_types={name: pa.string() for name in present},
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows + len(rejected) != rows:
        return None
    arrays = [table[field.name] if field.name in present else pa.nulls(table.num_rows, field.type) for field in columns]
    return pa.table(arrays, schema=columns), rejected


def _parse_rows(block: RowBlock, names: list[str], columns: pa.Schema, dialect: Dialect) -> pa.Table:
    """The rows parsed one by one: for a block in which Arrow ends rows elsewhere than the scan."""
    values: dict[str, list[str | None]] = {name: [] for name in columns.names}
    faults: list[str | None] = []
    broken: list[str | None] = []
    for index in range(len(block.starts)):
        line, fault, cells = block.row(index), None, {}
        try:
            fields = _fields(line.decode(), dialect)
            if len(fields) == len(names):
                cells = dict(zip(names, fields, strict=True))
            else:
                fault = "wrong_columns"
        except UnicodeDecodeError:
            fault = "invalid_utf8"
        except csv.Error:
            fault = "wrong_columns"
        for name in columns.names:
            values[name].append(cells.get(name))
        faults.append(fault)
        broken.append(broken_text(line) if fault else None)
    arrays = [pa.array(values[name], pa.string()) for name in columns.names]
    return with_faults(pa.table(arrays, schema=columns), faults, broken)
