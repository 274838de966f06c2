"""Read CSV, TSV and text files as rows of text columns."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from dedup.kernel import kernel
from pipelines.formats.blocks import (
    MAX_ROW_BYTES,
    Bytes,
    Offsets,
    RowBlock,
    limited,
    oversize,
    read_blocks,
    with_newlines,
)
from pipelines.formats.faults import (
    BROKEN,
    FAULT,
    MAX_BROKEN_BYTES,
    Unreadable,
    broken_text,
    check_columns,
    is_utf8,
    with_faults,
    with_row_numbers,
)
from pipelines.formats.values import convert
from pipelines.ledger import input_files

MAX_FIRST_ROWS = 200
"""Rows that are looked at to see which columns hold text."""

_NEWLINE, _CARRIAGE_RETURN, _QUOTE = 10, 13, 34
_NO_QUOTE = -1
"""A value that no byte has, for files without quoting."""

_DELIMITERS = (",", "\t", ";", "|")
"""Delimiters that are tried if the header has not the wanted columns with the format's own."""


class Dialect(NamedTuple):
    """How a delimited file is written.

    quoted: a field may be in double quotes, with `""` for a quote (RFC 4180). None: files with and without quoting are
    both common (TSV), so that the file and each field decide (`docs/sources.md`). names: the columns of a file without
    a header line.
    """

    delimiter: str
    quoted: bool | None = True
    names: tuple[str, ...] | None = None


CSV, TSV = Dialect(","), Dialect("\t", quoted=None)

LINE = Dialect("\x1f", quoted=False, names=("line",))
"""A text file as rows of one column. The unit separator does not occur in text, so a line is one field."""


def read_delimited(
    path: str, columns: pa.Schema, optional: Collection[str], dialect: Dialect, encoding: str | None = None
) -> Iterator[pa.Table]:
    """Yield tables of ROW, FAULT, BROKEN and `columns`. Columns of lists and structs hold JSON.

    A file whose header has the columns only with another of the common delimiters is read with that one.

    Raises: InputError: if a column that is not optional is missing, or is there twice.
    """
    with input_files.open_input(path) as file:
        yield from read_open_file(path, file, columns, optional, dialect, encoding)


def read_open_file(
    path: str,
    file: BinaryIO,
    columns: pa.Schema,
    optional: Collection[str],
    dialect: Dialect,
    encoding: str | None = None,
) -> Iterator[pa.Table]:
    """Like `read_delimited`, from an open file; `path` is its name in messages."""
    blocks = with_newlines(read_blocks(file, encoding), dialect.quoted is not False)
    first = next(blocks, None)
    if first is None:
        return
    wanted = [name for name in columns.names if name not in optional]
    names, dialect, first = _header(first, dialect, wanted)
    if not names:
        return
    check_columns(path, names, columns, optional)
    text = pa.schema([pa.field(field.name, pa.string()) for field in columns])
    row = 0
    for block in split_rows(itertools.chain([first], blocks), dialect, len(names)):
        table = _parse_block(block, names, text, dialect)
        if text != columns:
            table = _with_types(table, columns)
        yield with_row_numbers(table, row)
        row += table.num_rows


def delimited_columns(path: str, dialect: Dialect, encoding: str | None = None) -> list[str]:
    """The names in the file's first line."""
    with input_files.open_input(path) as file:
        first = next(with_newlines(read_blocks(file, encoding), dialect.quoted is not False), None)
        return [] if first is None else _header(first, dialect, ())[0]


def first_fields(path: str, dialect: Dialect, encoding: str | None = None) -> list[dict[str, str]]:
    """The fields of some first rows, as objects."""
    names = delimited_columns(path, dialect, encoding)
    columns = pa.schema([pa.field(name, pa.string()) for name in names if names.count(name) == 1])
    table = next(read_delimited(path, columns, (), dialect, encoding), None)
    return [] if table is None else table.select(columns.names).slice(0, MAX_FIRST_ROWS).to_pylist()


def _header(data: bytearray, dialect: Dialect, wanted: Sequence[str]) -> tuple[list[str], Dialect, bytearray]:
    """The names of the columns, the dialect with the file's own delimiter, and the data without the header line."""
    if dialect.names is not None:
        return list(dialect.names), dialect, data
    # Excel writes the delimiter into a line of its own.
    if declared := re.match(rb"sep=([^\r\n])\r?\n", data):
        dialect, data = dialect._replace(delimiter=declared[1].decode("latin-1")), data[declared.end() :]
    rows, used, _ = _scan(data, dialect, 0, last=True)
    if not len(rows.starts):
        return [], dialect, bytearray()
    line = rows.row(0).decode(errors="replace")
    rest = data[int(rows.starts[1]) if len(rows.starts) > 1 else used :]
    others = (dialect._replace(delimiter=other) for other in _DELIMITERS if other != dialect.delimiter)
    readings = [(_fields(line, each, 0), each) for each in (dialect, *others)]
    fitting = [reading for reading in readings if wanted and set(wanted) <= set(reading[0])]
    if not fitting and len(readings[0][0]) == 1:
        # One column: more likely another delimiter.
        fitting = [max(readings, key=lambda reading: len(reading[0]))]
    names, dialect = (fitting or readings)[0]
    return names, dialect, rest


def _with_types(table: pa.Table, columns: pa.Schema) -> pa.Table:
    """A table of text with the columns in their types, which are read from JSON in the text."""
    faults, broken = table["fault"], table["broken"]
    arrays = []
    for field in columns:
        array, more = convert(table[field.name].combine_chunks(), field.type)
        arrays.append(array)
        if more is not None:
            faults = pc.coalesce(faults, more)
            broken = pc.if_else(pc.is_valid(more), pc.coalesce(broken, table[field.name]), broken)
    return pa.table([faults, broken, *arrays], schema=pa.schema([FAULT, BROKEN, *columns]))


# Rows in blocks

AS_MEANT, BY_FIELD, WITHOUT_QUOTES = 0, 1, 2
"""Marks of rows: Arrow reads the row as it is meant; a quote opens no field, or `\\r` stands in a line, so that the row
is read alone; quotes in the row are text."""

_FINE, _OPEN, _AMBIGUOUS = 0, 1, 2

_MAX_LOOKAHEAD = 1 << 20
"""Bytes in which a quote must be closed, where a quote may also be text."""


def split_rows(blocks: Iterator[bytearray], dialect: Dialect, columns: int) -> Iterator[RowBlock]:
    """Yield the rows of a delimited file. A row ends with `\\n` or `\\r\\n` outside quotes; empty lines are no rows.

    columns: fields of a row.

    Raises: Unreadable: if a quote is never closed, since any number of rows may be inside it. If `dialect.quoted` is
        None: if lines can be read as rows or as one quoted field.
    """
    pending, undecided = bytearray(), dialect.quoted is None
    wanted = 0  # bytes at which a row that has no end so far is looked at again: each time twice as many
    head, state = bytearray(), np.zeros(1, np.int64)  # of a row that is too long
    opening = ord(dialect.delimiter) if dialect.quoted else _NO_QUOTE
    for block, last in _with_last(blocks):
        if head:
            end = _end_of_row(np.frombuffer(block, np.uint8), opening, state)
            if end < 0 and last and state[0] == _IN_QUOTES:
                raise Unreadable(_unclosed(head))
            if end < 0 and not last:
                continue
            yield oversize(head)
            head, block = bytearray(), block[end:] if end >= 0 else bytearray()
        pending += block
        if len(pending) < wanted and not last:
            continue
        if undecided and b'"' in pending:
            undecided = False
            if _is_plain(pending, dialect, columns, last):
                dialect = dialect._replace(quoted=False)
        rows, used, problem = _scan(pending, dialect, columns, last)
        if len(rows.starts):
            yield from limited(rows)
        if used:
            pending = pending[used:]
        wanted = 0 if used else min(2 * len(pending), MAX_ROW_BYTES)
        if problem == _AMBIGUOUS:
            raise Unreadable(_ambiguous(pending))
        if problem == _OPEN:
            raise Unreadable(_unclosed(pending))
        if len(pending) > MAX_ROW_BYTES:
            state[0] = _AT_START if dialect.quoted else _IN_TEXT
            _end_of_row(np.frombuffer(pending, np.uint8), opening, state)
            head, pending, wanted = pending[:MAX_BROKEN_BYTES], bytearray(), 0
    if head:
        raise Unreadable(_unclosed(head))


def _unclosed(data: bytearray) -> str:
    return (
        f"it opens a quote that is never closed, in the row {_excerpt(data)}; close it, or give the source "
        "`quoted: false` if quotes are text"
    )


_IN_TEXT, _AT_START, _IN_QUOTES, _AFTER_QUOTE = 0, 1, 2, 3


@kernel
def _end_of_row(data: Bytes, delimiter: int, state: Offsets) -> int:
    """The position behind the end of the row that is open; -1 if its end is not in the data.

    delimiter: after which a quote opens a field; _NO_QUOTE if quotes are text. state: int64 [1], where in the row the
    data begins, and then where it ends.
    """
    at = state[0]
    for i in range(len(data)):
        byte = data[i]
        if at == _IN_QUOTES:
            if byte == _QUOTE:
                at = _AFTER_QUOTE
        elif at == _AFTER_QUOTE and byte == _QUOTE:
            at = _IN_QUOTES
        elif byte == _NEWLINE:
            state[0] = at
            return i + 1
        elif at == _AT_START and byte == _QUOTE:
            at = _IN_QUOTES
        elif byte == delimiter:
            at = _AT_START
        else:
            at = _IN_TEXT
    state[0] = at
    return -1


def _with_last(blocks: Iterator[bytearray]) -> Iterator[tuple[bytearray, bool]]:
    """The blocks, and whether each is the last."""
    block = next(blocks, None)
    while block is not None:
        following = next(blocks, None)
        yield block, following is None
        block = following


def _excerpt(data: bytearray) -> str:
    line = bytes(data[:200]).split(b"\n")[0].decode(errors="replace")
    return repr(line if len(line) <= 60 else line[:60] + " …")


def _ambiguous(data: bytearray) -> str:
    return (
        f"the row {_excerpt(data)} opens a quote that closes on a later line, and both lines are complete rows; give "
        "the source `quoted: false` if quotes are text, or `quoted: true` if a field may have several lines"
    )


def _scan(data: bytearray, dialect: Dialect, columns: int, last: bool) -> tuple[RowBlock, int, int]:
    """The complete rows at the start of the data, the bytes that they take, and the problem after them."""
    array = np.frombuffer(data, np.uint8)
    size = data.count(b"\n") + 1
    starts, ends, marks = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.uint8)
    quote = _NO_QUOTE if dialect.quoted is False else _QUOTE
    evidence = np.zeros(2, np.int64)
    rows, used, problem = _scan_rows(
        array,
        ord(dialect.delimiter),
        quote,
        dialect.quoted is None,
        columns,
        last,
        False,
        starts,
        ends,
        marks,
        evidence,
    )
    block = RowBlock(data[:used], starts[:rows], ends[:rows], marks=marks[:rows], quoted=dialect.quoted)
    return block, used, problem


def _is_plain(data: bytearray, dialect: Dialect, columns: int, last: bool) -> bool:
    """Whether quotes are text in the whole file: some open no field, and none encloses what needs quotes."""
    array = np.frombuffer(data, np.uint8)
    size = data.count(b"\n") + 1
    starts, ends, marks = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.uint8)
    evidence = np.zeros(2, np.int64)
    _scan_rows(array, ord(dialect.delimiter), _QUOTE, True, columns, last, True, starts, ends, marks, evidence)
    stray, needed = evidence
    return bool(stray and not needed)


@kernel
def _scan_rows(
    data: Bytes,
    delimiter: int,
    quote: int,
    either: bool,
    columns: int,
    last: bool,
    survey: bool,
    starts: Offsets,
    ends: Offsets,
    marks: Bytes,
    evidence: Offsets,
) -> tuple[int, int, int]:
    """Scan for rows. Writes `starts`, `ends` and `marks`; returns (number of rows, bytes of these rows, problem).

    A quote opens a field only at its start, and only if the quote that closes it is followed by a delimiter or the end
    of a line; else it is text. either: a quote may be text (TSV): a row that has `columns` fields only without quoting
    is read without. last: the data ends with the file, so that the last row needs no newline. survey: count evidence
    only, and read on after ambiguous rows. evidence: int64 [2], quotes that open no field, and fields that need quotes.
    """
    rows, start, size = 0, 0, len(data)
    while start < size:
        i, fields, mark = start, 1, AS_MEANT
        at_start, quoted, complete = True, False, False
        while i < size:
            byte = data[i]
            if byte == _NEWLINE:
                complete = True
                break
            if byte == delimiter:
                fields += 1
                at_start = True
            elif byte == quote:
                if at_start:
                    close = _closing_quote(data, i, quote, delimiter, either, last)
                    if close == _INCOMPLETE or (close == _NEVER and not either):
                        return rows, start, _OPEN if close == _NEVER else _FINE
                    if close >= 0:
                        quoted = True
                        i = close
                    else:
                        mark = BY_FIELD
                        evidence[0] += 1
                else:
                    evidence[0] += 1
                at_start = False
            else:
                at_start = False
                if byte == _CARRIAGE_RETURN and i + 1 < size and data[i + 1] != _NEWLINE:
                    mark = BY_FIELD
            i += 1
        if not complete and not last:
            return rows, start, _FINE
        end = i
        if either and quoted:
            plain, line_end = _plain_fields(data, start, delimiter)
            if plain == columns and fields != columns:
                mark, end = WITHOUT_QUOTES, line_end
                evidence[0] += 1
            elif plain == columns and line_end < end:
                final = end
                while data[final - 1] != _NEWLINE:
                    final -= 1
                if _plain_fields(data, final, delimiter)[0] == columns:
                    if not survey:
                        return rows, start, _AMBIGUOUS
                    start = end + 1  # evidence of nothing
                    continue
                evidence[1] += 1
            elif line_end < end or plain != fields or _has_doubled_quote(data, start, end, delimiter, quote):
                evidence[1] += 1
        stop = end - 1 if end > start and data[end - 1] == _CARRIAGE_RETURN else end
        if stop > start:
            starts[rows], ends[rows], marks[rows] = start, stop, mark
            rows += 1
        start = end + 1
    return rows, size, _FINE


_MALFORMED, _INCOMPLETE, _NEVER = -1, -2, -3


@kernel
def _closing_quote(data: Bytes, start: int, quote: int, delimiter: int, either: bool, last: bool) -> int:
    """The position of the quote that closes the one at `start`; or _MALFORMED if something else than a delimiter or the
    end of a line follows it, _INCOMPLETE if more data is needed, _NEVER if none closes it."""
    i, size = start + 1, len(data)
    while i < size:
        if data[i] == quote:
            if i + 1 == size:
                return i if last else _INCOMPLETE
            following = data[i + 1]
            if following == quote:
                i += 2
                continue
            if following == _CARRIAGE_RETURN:
                if i + 2 == size:
                    return i if last else _INCOMPLETE
                following = data[i + 2]
                return i if following == _NEWLINE else _MALFORMED
            return i if following in (delimiter, _NEWLINE) else _MALFORMED
        i += 1
        if either and i - start > _MAX_LOOKAHEAD:
            return _NEVER
    return _NEVER if last else _INCOMPLETE


@kernel
def _plain_fields(data: Bytes, start: int, delimiter: int) -> tuple[int, int]:
    """(fields, end) of the line from `start` on, with quotes as text."""
    fields, i = 1, start
    while i < len(data) and data[i] != _NEWLINE:
        fields += data[i] == delimiter
        i += 1
    return fields, i


@kernel
def _has_doubled_quote(data: Bytes, start: int, end: int, delimiter: int, quote: int) -> bool:
    """Whether two quotes follow each other in a row, other than as an empty field."""
    for i in range(start + 1, end - 1):
        if data[i] == quote and data[i + 1] == quote and data[i - 1] != delimiter:
            return True
    return False


# Rows to columns


def _parse_block(block: RowBlock, names: list[str], columns: pa.Schema, dialect: Dialect) -> pa.Table:
    """A table of FAULT, BROKEN and `columns` with one row for each row of the block."""
    assert block.marks is not None
    rows, dialect = len(block.starts), dialect._replace(quoted=block.quoted)
    alone = block.marks != AS_MEANT
    if not is_utf8(block.data):
        alone |= [not _decodes(block.row(index)) for index in range(rows)]
    data: bytes | bytearray = block.data
    if alone.any():
        keep = np.ones(len(data), bool)
        for index in np.flatnonzero(alone):
            keep[block.starts[index] : block.ends[index]] = False
        data = np.frombuffer(data, np.uint8)[keep].tobytes()
    together = np.flatnonzero(~alone)
    parsed = _parse_csv(data, len(together), names, columns, dialect)
    if parsed is None:
        return _parse_rows(block, np.arange(rows), names, columns, dialect)
    table, rejected = parsed
    if table.num_rows == rows:
        return with_faults(table, None, None)
    alone[together[rejected]] = True
    others = np.flatnonzero(alone)
    table = pa.concat_tables(
        [with_faults(table, None, None), _parse_rows(block, others, names, columns, dialect)]
    ).combine_chunks()
    order = np.concatenate([np.flatnonzero(~alone), others])
    return table.take(pa.array(np.argsort(order, kind="stable")))


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
                quote_char=False if dialect.quoted is False else '"',
                newlines_in_values=dialect.quoted is not False,
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


def _parse_rows(
    block: RowBlock, indices: Bytes | Offsets, names: list[str], columns: pa.Schema, dialect: Dialect
) -> pa.Table:
    """Some rows of the block, parsed one by one: those that Arrow would read otherwise or refuses."""
    assert block.marks is not None
    values: dict[str, list[str | None]] = {name: [] for name in columns.names}
    faults: list[str | None] = []
    broken: list[str | None] = []
    for index in indices.tolist():
        line, fault, cells = block.row(index), None, {}
        try:
            fields = _fields(line.decode(), dialect, block.marks[index])
            if len(fields) == len(names):
                cells = dict(zip(names, fields, strict=True))
            else:
                fault = "wrong_columns"
        except UnicodeDecodeError:
            fault = "invalid_utf8"
        for name in columns.names:
            values[name].append(cells.get(name))
        faults.append(fault)
        broken.append(broken_text(line) if fault else None)
    arrays = [pa.array(values[name], pa.string()) for name in columns.names]
    return with_faults(pa.table(arrays, schema=columns), faults, broken)


def _fields(line: str, dialect: Dialect, mark: int) -> list[str]:
    """The fields of one row, by the rules of `_scan_rows`."""
    delimiter = dialect.delimiter
    if dialect.quoted is False or mark == WITHOUT_QUOTES or '"' not in line:
        return line.split(delimiter)
    quoted = re.compile(rf'"((?:[^"]++|"")*+)"(?={re.escape(delimiter)}|\Z)')
    fields, at = [], 0
    while True:
        if match := quoted.match(line, at):
            fields.append(match[1].replace('""', '"'))
            at = match.end()
        else:
            end = line.find(delimiter, at)
            fields.append(line[at:] if end < 0 else line[at:end])
            at = len(line) if end < 0 else end
        if at == len(line):
            return fields
        at += 1
