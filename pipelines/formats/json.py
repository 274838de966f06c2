"""Read JSON as rows of text columns: lines, arrays, and objects that hold the rows below some key.

The first bytes of a file decide how it is read, not its suffix (`_Layout`). A file that is one object, in the shapes
that people and pandas write, is held in memory; all others are read in blocks.
"""

from __future__ import annotations

import enum
import itertools
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dedup.kernel import kernel
from pipelines.errors import InputError, MissingColumn, nearest, short
from pipelines.formats.blocks import (
    FIRST_BLOCK_BYTES,
    MAX_ROW_BYTES,
    Bytes,
    Offsets,
    RowBlock,
    limited,
    oversize,
    read_blocks,
    splits_at_newlines,
    with_newlines,
)
from pipelines.formats.faults import (
    MAX_BROKEN_BYTES,
    Unreadable,
    broken_text,
    is_utf8,
    missing_column,
    with_faults,
    with_row_numbers,
)
from pipelines.formats.span import WHOLE, Span, by_bytes
from pipelines.formats.values import (
    BROKEN_JSON,
    DECODER,
    INVALID_UTF8,
    MISSING,
    Fault,
    Repeating,
    WrongType,
    are_turns,
    below,
    convert,
    from_json,
    lookup,
    nested_names,
    path_of,
    read_json_lines,
    variants,
)
from pipelines.ledger import input_files

_ROWS_SEARCHED_FOR_COLUMNS = 1000
"""JSON has no header. Columns are searched in this many first rows, and a missing one then in the rest of the file."""

MAX_DOCUMENT_BYTES = 64 << 20
"""A file that is one object is parsed as a whole up to this size. In a larger one the rows must be an array directly
below a key."""

_OPEN_ARRAY = "the JSON array does not end: the file is truncated, or brackets do not match"
_OPEN_VALUE = "a JSON value does not end: the file is truncated, or brackets do not match"
_AFTER_ARRAY = "text follows the end of the JSON array: write one array, or one object a line"
_NO_ARRAY = "no JSON array of objects was found at the top, nor in the object at the top"

_BLANKS = b" \t\r\n"
_NEWLINE, _CARRIAGE_RETURN, _TAB, _SPACE = 10, 13, 9, 32
_QUOTE, _COMMA, _BACKSLASH = 34, 44, 92
_OPEN_BRACKET, _CLOSE_BRACKET, _OPEN_BRACE, _CLOSE_BRACE = 91, 93, 123, 125


def read_json(
    path: str,
    columns: pa.Schema,
    optional: Collection[str],
    lines: bool,
    encoding: str | None = None,
    span: Span = WHOLE,
) -> Iterator[pa.Table]:
    """Yield tables of ROW, FAULT, BROKEN and `columns`.

    lines: the file is JSON lines if its first bytes do not decide. span: what to read of a file that has several
    (`line_spans`). The first one is searched for the columns.

    Raises: InputError: if a column that is not optional is in no row of the file, or if the rows are not to be found in
        the object at the top.
    """
    schemas = _schemas(columns)
    required = [name for name in columns.names if name not in optional]
    row = span.row
    for block in _row_blocks(path, lines, columns, required, encoding, span):
        table = _parse_block(block, columns, schemas)
        if table is None:
            table = _parse_rows(block, columns)
        if row == span.start == 0:
            absent = _absent(block, table, required)
            if absent:
                _search(path, absent, _row_blocks(path, lines, columns, required, encoding))
        yield with_row_numbers(table, row)
        row += table.num_rows


def line_spans(path: str, size: int, lines: bool, encoding: str | None = None) -> list[Span]:
    """The spans of a file of `size` bytes. Only lines of UTF-8 have several: there a row is found from any byte on."""
    spans = by_bytes(size)
    if len(spans) == 1:
        return spans
    with input_files.open_input(path) as file:
        first = bytearray(file.read(FIRST_BLOCK_BYTES))
        if b"\n" not in first or not splits_at_newlines(first, encoding):
            return [WHOLE]
        file.seek(0)
        layout, _ = _begin(read_blocks(file, encoding), lines)
    return spans if layout is _Layout.LINES else [WHOLE]


def count_rows(path: str, lines: bool, encoding: str | None, span: Span) -> int:
    """How many rows `read_json` returns of a span of lines, found without parsing most of them."""
    rows = 0
    for block in _row_blocks(path, lines, encoding=encoding, span=span):
        if block.fault:
            rows += len(block.starts)
            continue
        single = np.empty(len(block.starts), bool)
        _are_single(np.frombuffer(block.data, np.uint8), block.starts, block.ends, single)
        rows += int(single.sum())
        for index in np.flatnonzero(~single):
            line = block.row(int(index))
            rows += sum(1 for _ in _objects(line, None)) if line.strip() else 0
    return rows


@kernel
def _are_single(data: Bytes, starts: Offsets, ends: Offsets, single: NDArray[np.bool_]) -> None:
    """Write for each line whether it surely is one row: it begins and ends with a brace, and its first object, or what
    begins like one, does not end before. Then it is an object, or broken."""
    for line in range(len(starts)):
        start, end = starts[line], ends[line]
        while start < end and data[start] in (_SPACE, _TAB):
            start += 1
        while end > start and data[end - 1] in (_SPACE, _TAB, _CARRIAGE_RETURN):
            end -= 1
        if end - start < 2 or data[start] != _OPEN_BRACE or data[end - 1] != _CLOSE_BRACE:
            single[line] = False
            continue
        several = False  # only where an object may follow another is the line read in full
        for i in range(start + 1, end):
            if data[i] == _OPEN_BRACE:
                before = i - 1
                while before > start and data[before] in (_SPACE, _TAB, _CARRIAGE_RETURN, _COMMA):
                    before -= 1
                if data[before] == _CLOSE_BRACE:
                    several = True
                    break
        single[line] = not several or _first_end(data, start, end) >= end - 1


@kernel
def _first_end(data: Bytes, start: int, end: int) -> int:
    """Where the bracket closes that opens at `start`; `end` if it does not."""
    depth, i, in_string = 0, start, False
    while i < end:
        byte = data[i]
        if in_string:
            if byte == _BACKSLASH:
                i += 1
            elif byte == _QUOTE:
                in_string = False
        elif byte == _QUOTE:
            in_string = True
        elif byte in (_OPEN_BRACE, _OPEN_BRACKET):
            depth += 1
        elif byte in (_CLOSE_BRACE, _CLOSE_BRACKET):
            depth -= 1
            if depth == 0:
                return i
        i += 1
    return end


def read_objects(path: str, lines: bool) -> Iterator[tuple[int, Any, str | None, str]]:
    """Yield (row, object, fault, text) one by one. The object is None if there is a fault.

    Numbers are strings, spelt as in the file.
    """
    row = 0
    for block in _row_blocks(path, lines):
        for line in _lines(block):
            for value, fault, text in _objects(line, block.fault):
                yield row, value, fault, broken_text(text)
                row += 1


def json_columns(path: str, lines: bool, encoding: str | None = None) -> list[str]:
    """The columns of the file's first rows, in order of appearance."""
    return list(dict.fromkeys(name for value in first_objects(path, lines, encoding) for name in value))


def first_objects(
    path: str, lines: bool, encoding: str | None = None, columns: pa.Schema | None = None
) -> list[dict[str, Any]]:
    """The objects of the first rows. columns: by which the rows are found in an object at the top."""
    required = () if columns is None else columns.names
    block = next(_row_blocks(path, lines, columns, required, encoding), None)
    return [] if block is None else _first_objects(block)


def _first_objects(block: RowBlock) -> list[dict[str, Any]]:
    every = (value for line in _lines(block) for value, *_ in _objects(line, block.fault) if value is not None)
    return list(itertools.islice(every, _ROWS_SEARCHED_FOR_COLUMNS))


def _lines(block: RowBlock) -> Iterator[bytes]:
    """The rows of a block that are not blank."""
    return (line for line in map(block.row, range(len(block.starts))) if line.strip())


# Layouts


class _Layout(enum.Enum):
    """How the rows of a file lie in it.

    LINES: a value on each line. VALUES: values one after another, each over any number of lines. ARRAY: the elements of
    an array. OBJECT: somewhere in one object.
    """

    LINES, VALUES, ARRAY, OBJECT = range(4)


def _row_blocks(
    path: str,
    lines: bool,
    columns: pa.Schema | None = None,
    required: Sequence[str] = (),
    encoding: str | None = None,
    span: Span = WHOLE,
) -> Iterator[RowBlock]:
    columns = pa.schema([]) if columns is None else columns
    with input_files.open_input(path) as file:
        if span._replace(row=0, rows=None) != WHOLE:
            yield from split_lines(read_blocks(file, encoding, span))
            return
        layout, every = _begin(with_newlines(read_blocks(file, encoding), quoted=False), lines)
        if layout is None:
            return
        if layout is _Layout.LINES:
            yield from split_lines(every)
        elif layout is _Layout.VALUES:
            yield from split_array(every, values=True)
        elif layout is _Layout.ARRAY:
            yield from split_array(every)
        else:
            document, rest = _take(every, MAX_DOCUMENT_BYTES)
            problem = None
            if rest is None:
                try:
                    yield from split_lines(iter([_document_lines(path, document, lines, columns, required)]))
                    return
                except Unreadable as error:  # a row of it may be broken
                    problem = error
            try:
                skip = _find_array(path, required, encoding)
            except (Unreadable, MissingColumn):
                if problem is None:
                    raise
                raise problem from None
            yield from split_array(itertools.chain([document], rest or ()), skip=skip)


def _begin(blocks: Iterator[bytearray], lines: bool) -> tuple[_Layout | None, Iterator[bytearray]]:
    """The layout of a file, None if it is empty, and all of its blocks."""
    head = _head(blocks)
    if not head.strip():
        return None, iter(())
    following: list[bytearray] = []

    def whole() -> bool:
        following.extend(itertools.islice(blocks, 1))
        return not following

    layout = _layout(head, whole, lines)
    return layout, itertools.chain([head], following, blocks)


def _take(blocks: Iterator[bytearray], limit: int) -> tuple[bytearray, Iterator[bytearray] | None]:
    """The first bytes, and the blocks after them; None if there are no more."""
    taken = bytearray()
    for block in blocks:
        taken += block
        if len(taken) > limit:
            return taken, blocks
    return taken, None


def _head(blocks: Iterator[bytearray]) -> bytearray:
    """The first block, longer if the first line is and may be a whole object."""
    head = bytearray()
    for block in blocks:
        head += block
        text = head.lstrip()
        if b"\n" in text or text.startswith(b"[") or len(head) > MAX_DOCUMENT_BYTES:
            break
    return head


def _layout(head: bytearray, whole: Callable[[], bool], lines: bool) -> _Layout:
    """The layout of a file that begins with `head`. whole: whether that is all of it; called where it matters."""
    text = head.lstrip()
    first, _, rest = text.partition(b"\n")
    several = bool(rest.strip())
    complete = _is_json(first)
    otherwise = _Layout.LINES if lines else _Layout.OBJECT
    if text.startswith(b"["):
        return _Layout.LINES if lines and complete and several else _Layout.ARRAY
    if not text.startswith(b"{"):
        return _Layout.LINES if lines else _Layout.ARRAY
    if complete:
        return _Layout.LINES if several or not whole() else _Layout.OBJECT
    start = text.decode(errors="replace")
    try:
        _, end = DECODER.raw_decode(start)
    except json.JSONDecodeError as error:
        objects = [_is_json(line) for line in rest.splitlines()[:100] if line.startswith(b"{")]
        if sum(objects) * 2 > len(objects) and not first.rstrip().endswith(b"["):
            return _Layout.LINES  # a broken row before others
        cut = error.pos >= len(start.rstrip()) - 1 or error.msg.startswith("Unterminated string")
        return _Layout.OBJECT if cut and several else otherwise
    except RecursionError:
        return otherwise
    if not start[end:].strip() and whole():
        return _Layout.OBJECT
    if start[end:].lstrip().startswith(","):
        return _Layout.VALUES
    # Objects that follow each other on one line are read by line, unless the file has no lines.
    return _Layout.LINES if several and end < start.find("\n") else _Layout.VALUES


def _is_json(line: bytes | bytearray) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


# One object

_COLUMNS_OF = "the columns of "


def _document_lines(path: str, data: bytearray, lines: bool, columns: pa.Schema, required: Sequence[str]) -> bytearray:
    """The rows in the object that is the whole file, as JSON lines. lines: the file is called so: it may be a row.

    Raises: Unreadable: if it is not JSON. InputError: naming what the object holds, if that is not clear.
    """
    try:
        document = DECODER.decode(data.decode().strip())
    except ValueError as error:
        raise Unreadable(f"it is not JSON ({error})") from error
    rows = _document_rows(path, document, lines, columns, required)
    return bytearray("".join(map(_line, rows)), "utf-8")


def _line(row: Any) -> str:
    """A row as a line of JSON. A key that it has twice is there twice again, so that the row has the same fault."""
    text = json.dumps(row)
    for name in sorted(row.repeated) if isinstance(row, Repeating) else ():
        text = f"{text[:-1]}, {json.dumps(name)}: null}}"
    return f"{text}\n"


def _document_rows(
    path: str, document: dict[str, Any], lines: bool, columns: pa.Schema, required: Sequence[str]
) -> list[Any]:
    asked = [name for name in required if _present(document, name)]
    if asked and len(asked) == len(required) and _fits(document, columns):
        return [document]
    groups = _groups(document)
    if not required:
        # The turns of a conversation are no rows: the object is the one row of its file.
        talks = any(map(are_turns, groups.values()))
        return [document] if talks else max(groups.values(), key=len, default=[document])
    fitting = {where: rows for where, rows in groups.items() if _have(rows, required)}
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if required and len(asked) == len(required):
        sizes = [len(value) for value in (document.get(name) for name in required) if isinstance(value, list | dict)]
        if len(sizes) > 1 and len(set(sizes)) > 1:
            raise InputError(f"{path}: its columns {', '.join(required)} are of different lengths ({sizes})")
        return [document]  # with values of other types: a fault of the row
    if fitting:
        several = ", ".join(f"{where} ({len(rows)} rows)" for where, rows in fitting.items())
        raise InputError(
            f"{path}: rows with the columns {', '.join(required)} are in several places: {several}; "
            "write those to read into a file of their own"
        )
    names = {where: _names(rows) for where, rows in groups.items() if not where.startswith(_COLUMNS_OF)}
    if lines or not names:
        names = {"": nested_names(document)}
    best = max(names, key=lambda where: len({*required} & {*names[where]}))
    missing = next(name for name in required if name not in names[best])
    if len(names) == 1:
        raise missing_column(path, missing, names[best])
    listed = "; ".join(
        f"{short(where)}: {', '.join(map(short, found[:20]))}" for where, found in list(names.items())[:20]
    )
    hint = nearest(missing, [name for found in names.values() for name in found])
    raise InputError(
        f"{path}: no column {missing!r} (the file has: {listed})" + (f"; {hint}" if hint.startswith("did") else "")
    )


def _fits(document: dict[str, Any], columns: pa.Schema) -> bool:
    """Whether an object is a row: its values can be read as the columns."""
    try:
        for field in columns:
            value = lookup(document, field.name)
            if value is not MISSING:
                from_json(value, field.type)
    except Fault as fault:
        return str(fault) != "wrong_type"
    return True


def _have(rows: Sequence[Any], names: Sequence[str]) -> bool:
    return all(any(isinstance(row, dict) and _present(row, name) for row in rows) for name in names)


def _present(row: dict[str, Any], name: str) -> bool:
    try:
        return lookup(row, name) is not MISSING
    except Fault:
        return True


def _names(rows: Sequence[Any]) -> list[str]:
    objects = [row for row in rows[:_ROWS_SEARCHED_FOR_COLUMNS] if isinstance(row, dict)]
    return list(dict.fromkeys(name for row in objects for name in nested_names(row)))


def _groups(document: dict[str, Any]) -> dict[str, list[Any]]:
    """What may be the rows in an object: place -> values.

    Arrays of objects, below any keys and in the objects of other arrays; objects of objects (rows by id, pandas'
    `index`); objects of columns (pandas' `columns` and `list`); names and rows apart (pandas' `split`).
    """
    groups: dict[str, list[Any]] = {}

    def visit(value: Any, where: str) -> None:
        if isinstance(value, list):
            if any(isinstance(item, dict) for item in value):
                groups.setdefault(where, []).extend(value)
            for item in value:
                for key, inner in item.items() if isinstance(item, dict) else ():
                    if isinstance(inner, list):
                        visit(inner, f"{where}.{key}")
            return
        if not isinstance(value, dict):
            return
        values, place = list(value.values()), where or "the object at the top"
        names, rows = value.get("columns"), value.get("data")
        if isinstance(names, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows):
            groups[place] = [dict(zip(names, row, strict=False)) for row in rows]
        elif values and all(isinstance(item, dict) for item in values):
            groups[place] = values
            if all(item.keys() == values[0].keys() for item in values):
                groups[f"{_COLUMNS_OF}{place}"] = [
                    {name: column[index] for name, column in value.items()} for index in values[0]
                ]
        elif values and all(isinstance(item, list) and len(item) == len(values[0]) for item in values):
            groups[f"{_COLUMNS_OF}{place}"] = [dict(zip(value, row, strict=True)) for row in zip(*values, strict=True)]
        for key, inner in value.items():
            visit(inner, f"{where}.{key}" if where else key)

    visit(document, "")
    return groups


def _find_array(path: str, required: Sequence[str], encoding: str | None) -> int:
    """How many arrays of objects to skip below the object at the top, in a file too large to hold.

    Raises: InputError: if none of them has the columns in its first rows.
    """
    seen: list[str] = []
    for skip in itertools.count():
        with input_files.open_input(path) as file:
            try:
                block = next(split_array(with_newlines(read_blocks(file, encoding), quoted=False), skip=skip), None)
            except Unreadable:
                block = None
        if block is None:
            break
        rows = _first_objects(block)
        if _have(rows, required):
            return skip
        seen += _names(rows)
    if not seen:
        raise Unreadable(_NO_ARRAY)
    raise missing_column(path, next(name for name in required if name not in seen), list(dict.fromkeys(seen)))


# Missing columns


def _absent(block: RowBlock, table: pa.Table, required: Sequence[str]) -> list[str]:
    """The required columns that the first block has in no row."""
    all_null = [name for name in required if table[name].null_count == table.num_rows]
    if not all_null:
        return []
    rows = _first_objects(block)
    return [name for name in all_null if rows and not any(_present(row, name) for row in rows)]


def _search(path: str, absent: Sequence[str], blocks: Iterator[RowBlock]) -> None:
    """Look for columns in the whole file. Raises: InputError: if one of them is in no row."""
    remaining, names = dict.fromkeys(absent), list[str]()
    for block in blocks:
        names = names or _names(_first_objects(block))
        for name in list(remaining):
            if _block_has(block, name):
                del remaining[name]
        if not remaining:
            return
    raise missing_column(path, next(iter(remaining)), names)


def _block_has(block: RowBlock, name: str) -> bool:
    # Only rows that have the name before a colon are parsed: few, unless it is a key further inside.
    spellings = {json.dumps(key, ensure_ascii=ascii) for key in (name, name.split(".")[0]) for ascii in (True, False)}
    key = re.compile(rb"(?:" + b"|".join(re.escape(spelling.encode()) for spelling in spellings) + rb")\s*:")
    at = 0
    while match := key.search(block.data, at):
        row = int(np.searchsorted(block.starts, match.start(), side="right")) - 1
        values = _objects(block.row(row), block.fault) if row >= 0 else iter(())
        if any(value is not None and _present(value, name) for value, *_ in values):
            return True
        at = int(block.ends[row]) if row >= 0 and block.ends[row] > match.start() else match.end()
    return False


# Rows in blocks


def split_lines(blocks: Iterator[bytearray]) -> Iterator[RowBlock]:
    """Yield the lines of a file. A line ends with `\\n` or `\\r\\n`; empty lines are no rows."""
    pending: list[bytearray] = []  # a list: a row that spans many blocks is joined once, not at every block
    pending_bytes, skipping = 0, False
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if skipping:  # inside a row that is too long: its rest is not kept
            first = block.find(b"\n") + 1
            if not first:
                continue
            block, end, skipping = block[first:], end - first, False
        if end:
            pending.append(block[:end])
            yield from limited(_lines_of(_join(pending)))
            pending, pending_bytes = [], 0
        pending.append(block[end:])
        pending_bytes += len(block) - end
        if pending_bytes > MAX_ROW_BYTES:
            yield oversize(_join(pending)[:MAX_BROKEN_BYTES])
            pending, pending_bytes, skipping = [], 0, True
    if pending_bytes:
        yield _lines_of(_join(pending))


def _join(parts: list[bytearray]) -> bytearray:
    return parts[0] if len(parts) == 1 else bytearray().join(parts)


def _lines_of(data: bytearray) -> RowBlock:
    array = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(array == _NEWLINE).astype(np.int64)
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    ends = ends - ((ends > starts) & (array[np.maximum(ends - 1, 0)] == _CARRIAGE_RETURN))
    not_empty = ends > starts
    return RowBlock(data, starts[not_empty], ends[not_empty])


def split_array(blocks: Iterator[bytearray], skip: int = 0, values: bool = False) -> Iterator[RowBlock]:
    """Yield the elements of a JSON array: the top value, or an array of objects directly inside the object at the top.

    skip: so many arrays of objects come before it. values: there is no array; the objects of the file follow each
    other, with white space or commas between them.

    Commas between elements are replaced by newlines, so that `data` is one JSON value after another, as Arrow's reader
    expects.

    Raises: Unreadable: if there is no such array, or a value does not end.
    """
    pending = bytearray()
    state = np.array([_VALUES if values else _SEEK, 0, 0, -1, skip], np.int64)
    total, at_top = 0, False
    head = bytearray()  # of an element that is too long
    for block in blocks:
        if not total:
            at_top = not values and bytes(block[:64]).lstrip(_BLANKS).startswith(b"[")
        total += len(block)
        scanned = len(pending)
        pending += block
        array = np.frombuffer(pending, np.uint8)
        starts, ends = (np.empty(block.count(b"}" if values else b",") + 1, np.int64) for _ in range(2))
        rows = _scan_array(array, scanned, state, starts, ends)
        del array  # a bytearray with a view on it cannot be resized
        # What follows the last element: the end of the array, and more only if the file holds more than the array.
        tail = bytes(pending[int(ends[rows - 1]) if rows else 0 :]) if at_top and state[_PHASE] == _DONE else b""
        open_element = int(state[_START])
        used = len(pending) if open_element < 0 else open_element
        if head and (rows or open_element < 0):
            yield oversize(head)
            head, starts, ends, rows = bytearray(), starts[1:], ends[1:], max(rows - 1, 0)
        if rows:
            before = int(starts[0])  # what stands before the first element is no row, and Arrow would refuse it
            yield from limited(RowBlock(pending[before:used], starts[:rows] - before, ends[:rows] - before))
        if used:
            pending = pending[used:]
        if open_element >= 0:
            state[_START] = 0
        if state[_PHASE] == _DONE:
            # The bracket itself is a space by now.
            if at_top and (tail.strip(_BLANKS + b",[") or any(bytes(rest).strip(_BLANKS) for rest in blocks)):
                raise Unreadable(_AFTER_ARRAY)
            return
        if len(pending) > MAX_ROW_BYTES and open_element >= 0:
            head = pending[:MAX_BROKEN_BYTES]
        if head:  # its bytes are read, not held
            pending = bytearray()
    if state[_PHASE] == _VALUES:
        if state[_START] >= 0:
            raise Unreadable(_OPEN_VALUE)
        return
    if state[_PHASE] == _ELEMENTS:
        raise Unreadable(_OPEN_ARRAY)
    if total:
        raise Unreadable(_NO_ARRAY)


_PHASE, _DEPTH, _STRING, _START, _SKIP = 0, 1, 2, 3, 4
"""Positions in the scan's state: the phase (below); brackets open inside the array; 1 in a string, 2 in a string after
a backslash, else 0; start of the element that is open, or -1; arrays of objects to skip."""

_SEEK, _OBJECT, _MAYBE, _ELEMENTS, _DONE, _VALUES = 0, 1, 2, 3, 4, 5
"""Phases: before the first bracket; inside the object at the top; right after a `[` in that object; inside the array of
rows; after its end; values that follow each other."""


@kernel
def _scan_array(data: Bytes, first: int, state: Offsets, starts: Offsets, ends: Offsets) -> int:
    """Scan for elements from byte `first` on. Writes `starts`, `ends` and `state`; returns how many elements ended.

    An element extends to the comma or bracket after it, so that anything that is not JSON between two commas is a row
    with a fault instead of a scan that fails.
    """
    phase, depth, in_string, start, skip = state[0], state[1], state[2], state[3], state[4]
    rows = 0
    for i in range(first, len(data)):
        byte = data[i]
        # Brackets and commas in a string are text. An escaped quote does not end the string.
        if in_string:
            if in_string == 2:
                in_string = 1
            elif byte == _BACKSLASH:
                in_string = 2
            elif byte == _QUOTE:
                in_string = 0
            continue
        blank = byte in (_SPACE, _NEWLINE, _CARRIAGE_RETURN, _TAB)
        if phase == _SEEK:
            if byte == _OPEN_BRACKET:
                phase, depth = _ELEMENTS, 0
            elif byte == _OPEN_BRACE:
                phase, depth = _OBJECT, 1
        elif phase in (_OBJECT, _MAYBE):
            # Only an array directly below the top object counts, and only if its first element is an object.
            if phase == _MAYBE and not blank:
                phase = _OBJECT
                if byte == _OPEN_BRACE and skip == 0:
                    phase, depth, start = _ELEMENTS, 1, i
                    continue
                skip -= byte == _OPEN_BRACE
            if byte == _QUOTE:
                in_string = 1
            elif byte in (_OPEN_BRACE, _OPEN_BRACKET):
                depth += 1
                if byte == _OPEN_BRACKET and depth == 2:
                    phase = _MAYBE
            elif byte in (_CLOSE_BRACE, _CLOSE_BRACKET):
                depth -= 1
        elif phase == _VALUES:
            if byte == _QUOTE:
                in_string = 1
            if depth == 0 and start < 0 and not blank and byte != _COMMA:
                start = i
            if byte in (_OPEN_BRACE, _OPEN_BRACKET):
                depth += 1
            elif byte in (_CLOSE_BRACE, _CLOSE_BRACKET):
                depth = max(depth - 1, 0)
                if depth == 0 and byte == _CLOSE_BRACE:
                    starts[rows], ends[rows] = start, i + 1
                    rows += 1
                    start = -1
            elif byte == _COMMA and depth == 0:
                data[i] = _SPACE
        elif phase == _ELEMENTS:
            if byte in (_OPEN_BRACE, _OPEN_BRACKET):
                if depth == 0 and start < 0:
                    start = i
                depth += 1
            elif depth == 0 and (byte in (_COMMA, _CLOSE_BRACKET)):
                # The end of an element, unless nothing came before it (`[]`, `[1,]`).
                if start >= 0:
                    starts[rows], ends[rows] = start, i
                    rows += 1
                    start = -1
                if byte == _COMMA:
                    data[i] = _NEWLINE
                else:
                    data[i] = _SPACE
                    phase = _DONE
                    break
            elif byte in (_CLOSE_BRACE, _CLOSE_BRACKET):
                depth -= 1
            else:
                if depth == 0 and start < 0 and not blank:  # an element that is no object or array
                    start = i
                if byte == _QUOTE:
                    in_string = 1
    state[0], state[1], state[2], state[3], state[4] = phase, depth, in_string, start, skip
    return rows


# Rows to columns


def _schemas(columns: pa.Schema) -> list[pa.Schema]:
    """The schemas by which Arrow may read the columns, the likeliest first (see `values.variants`).

    A column such as `qa.q` is one of that name, or below `qa`. Empty if names collide: rows are then read one by one.
    """
    if not any("." in name for name in columns.names):
        return variants(columns)
    schemas = []
    for schema in variants(columns):
        tree: dict[str, Any] = {}
        for field in schema:
            if not _insert(tree, (field.name,), field.type) or not _insert(tree, field.name.split("."), field.type):
                return []
        schemas.append(pa.schema(_fields(tree)))
    return schemas


def _insert(tree: dict[str, Any], keys: Sequence[str], kind: pa.DataType) -> bool:
    for key in keys[:-1]:
        if key.isdigit():  # the position in a list
            return False
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            return False
    return tree.setdefault(keys[-1], kind) == kind if not isinstance(tree.get(keys[-1]), dict) else False


def _fields(tree: dict[str, Any]) -> list[pa.Field]:
    return [pa.field(k, pa.struct(_fields(v)) if isinstance(v, dict) else v) for k, v in tree.items()]


def _parse_block(block: RowBlock, columns: pa.Schema, schemas: list[pa.Schema]) -> pa.Table | None:
    """The rows as Arrow parses them; None if it does not return every one of them.

    schemas: to try. The one that fits is moved to the front, for the next block.
    """
    data = np.frombuffer(block.data, np.uint8)
    rows = len(block.starts)
    # Arrow 26 crashes on a block that starts with `null`, reads two objects on one line as two rows, and one object on
    # two lines as one. To exclude all three: each row starts and ends with a brace, and there are as many as lines.
    if (
        block.fault
        or not rows
        or (data[block.starts] != _OPEN_BRACE).any()
        or (data[block.ends - 1] != _CLOSE_BRACE).any()
    ):
        return None
    if not is_utf8(block.data):  # Arrow's parser does not check
        return None
    for schema in schemas:
        try:
            table = read_json_lines(block.data, schema)
            if table.num_rows != rows:
                return None
            result = _columns(table, columns)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, WrongType):
            continue
        schemas.remove(schema)
        schemas.insert(0, schema)
        return result
    return None


def _columns(table: pa.Table, columns: pa.Schema) -> pa.Table | None:
    """The columns of a table in their requested types. None if a row has a fault: the row is needed for its text."""
    arrays = []
    for field in columns:
        array = table[field.name]
        if array.type != field.type:
            array, faults = convert(array.combine_chunks(), field.type)
            if faults is not None and faults.null_count < len(faults):
                return None
        place = path_of(field.name, [name for name in table.column_names if name != field.name])
        inner = None if place is None else below(table[place[0]].combine_chunks(), place[1])
        if inner is not None and inner.null_count < len(inner):
            if array.null_count < len(array):
                return None
            array, faults = convert(inner, field.type)
            if faults is not None and faults.null_count < len(faults):
                return None
        arrays.append(array)
    return with_faults(pa.table(arrays, schema=columns), None, None)


def _parse_rows(block: RowBlock, columns: pa.Schema) -> pa.Table:
    """The rows parsed one by one: for a block that Arrow refuses. Each object on a line is a row."""
    values: dict[str, list[Any]] = {name: [] for name in columns.names}
    faults: list[str | None] = []
    broken: list[str | None] = []
    for line in _lines(block):
        for value, fault, text in _objects(line, block.fault):
            cells: dict[str, Any] = {}
            if value is not None:
                try:
                    for field in columns:
                        cell = lookup(value, field.name)
                        cells[field.name] = None if cell is MISSING else from_json(cell, field.type)
                except Fault as error:
                    fault = str(error)
            for name in columns.names:
                values[name].append(cells.get(name) if fault is None else None)
            faults.append(fault)
            broken.append(broken_text(text) if fault else None)
    arrays = [pa.array(values[field.name], field.type) for field in columns]
    return with_faults(pa.table(arrays, schema=columns), faults, broken)


def _objects(line: bytes, fault: str | None) -> Iterator[tuple[Any, str | None, bytes]]:
    """The objects on a line as (object, None, its text), or (None, fault, text) in place of one that cannot be read.

    fault: the block's, if it has one.
    """
    if fault:
        yield None, fault, line
        return
    try:
        text = line.decode().strip()
    except UnicodeError:
        yield None, INVALID_UTF8, line
        return
    surrogates = "\\ud" in text or "\\uD" in text
    at = 0
    while at < len(text):
        try:
            value, end = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            yield None, BROKEN_JSON, text[at : at + MAX_BROKEN_BYTES].encode()
            return
        if at == 0 and end < len(text) and not (isinstance(value, dict) and _FURTHER_OBJECT.match(text, end)):
            yield None, BROKEN_JSON, line  # something else than objects
            return
        part = text[at : min(end, at + MAX_BROKEN_BYTES)].encode()
        if not isinstance(value, dict):
            yield None, "not_an_object", part
        elif surrogates and (fault := _surrogate_fault(value)):
            yield None, fault, part
        else:
            yield value, None, part
        at = end
        while at < len(text) and text[at] in ", \t\r":
            at += 1


_FURTHER_OBJECT = re.compile(r"[, \t\r]*\{")


def _surrogate_fault(value: Any) -> str | None:
    try:
        json.dumps(value, ensure_ascii=False).encode()  # fails on half of a surrogate pair, which is legal JSON
    except UnicodeError:
        return INVALID_UTF8
    except RecursionError:
        return BROKEN_JSON
    return None
