"""Read JSON lines, and JSON files whose rows are the elements of an array, as rows of text columns.

A `.json` file holds an array, an object whose first array of objects holds the rows, or JSON lines.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from dedup.kernel import kernel
from pipelines.formats.blocks import MAX_ROW_BYTES, Bytes, Offsets, RowBlock, read_blocks
from pipelines.formats.faults import (
    MAX_BROKEN_BYTES,
    Unreadable,
    broken_text,
    is_utf8,
    missing_column,
    with_faults,
    with_row_numbers,
)
from pipelines.ledger import input_files

_ROWS_SEARCHED_FOR_COLUMNS = 1000
"""JSON has no header: the columns of a file are those of this many first rows."""

_OPEN_ARRAY = "the JSON array does not end: the file is truncated, or brackets do not match"
_NO_ARRAY = "no JSON array of objects was found at the top, nor in the object at the top"

_NEWLINE, _CARRIAGE_RETURN, _TAB, _SPACE = 10, 13, 9, 32
_QUOTE, _COMMA, _BACKSLASH = 34, 44, 92
_OPEN_BRACKET, _CLOSE_BRACKET, _OPEN_BRACE, _CLOSE_BRACE = 91, 93, 123, 125


def read_json(path: str, columns: pa.Schema, optional: Collection[str], lines: bool) -> Iterator[pa.Table]:
    """Yield tables of ROW, FAULT, BROKEN and `columns`.

    lines: the file is JSON lines. If false, its first bytes decide.

    Raises: InputError: if a column that is not optional is in no row of the first block.
    """
    row = 0
    for block in _row_blocks(path, lines):
        table = _parse_block(block, columns)
        if table is None:
            table = _parse_rows(block, columns)
        if row == 0:
            _check_columns(path, block, table, [name for name in columns.names if name not in optional])
        yield with_row_numbers(table, row)
        row += table.num_rows


def read_objects(path: str, lines: bool) -> Iterator[tuple[int, Any, str | None, str]]:
    """Yield (row, object, fault, text) one by one. The object is None if there is a fault.

    Numbers are strings, spelt as in the file.
    """
    row = 0
    for block in _row_blocks(path, lines):
        for index in range(len(block.starts)):
            line = block.row(index)
            if not line.strip():
                continue
            value, fault = _parse_object(line, block.fault)
            yield row, value, fault, broken_text(line)
            row += 1


def json_columns(path: str, lines: bool) -> list[str]:
    """The columns of the file's first rows, in order of appearance."""
    block = next(_row_blocks(path, lines), None)
    return [] if block is None else list(_keys(block))


def _keys(block: RowBlock) -> dict[str, None]:
    keys: dict[str, None] = {}
    for index in range(min(len(block.starts), _ROWS_SEARCHED_FOR_COLUMNS)):
        value, _ = _parse_object(block.row(index), block.fault)
        keys.update(dict.fromkeys(value or ()))
    return keys


# Rows in blocks


def _row_blocks(path: str, lines: bool) -> Iterator[RowBlock]:
    with input_files.open_input(path) as file:
        blocks = read_blocks(file)
        first = next(blocks, None)
        if first is None:
            return
        every = itertools.chain([first], blocks)
        yield from split_lines(every) if lines or _is_lines(first) else split_array(every)


def _is_lines(first: bytearray) -> bool:
    """Whether a `.json` file is JSON lines, as many on the hub are: its first line is an object and others follow."""
    line, _, rest = first.lstrip().partition(b"\n")
    if not line.startswith(b"{") or not rest.strip():
        return False
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


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
            yield _lines_of(_join(pending))
            pending, pending_bytes = [], 0
        pending.append(block[end:])
        pending_bytes += len(block) - end
        if pending_bytes > MAX_ROW_BYTES:
            head = _join(pending)[:MAX_BROKEN_BYTES]
            yield RowBlock(head, np.zeros(1, np.int64), np.full(1, len(head), np.int64), fault="oversize")
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


def split_array(blocks: Iterator[bytearray]) -> Iterator[RowBlock]:
    """Yield the elements of a JSON array: the top value, or the first array of objects inside the object at the top.

    Commas between elements are replaced by newlines, so that `data` is one JSON value after another, as Arrow's reader
    expects.

    Raises: Unreadable: if there is no such array, or the array does not end.
    """
    pending = bytearray()
    state = np.array([_SEEK, 0, 0, -1], np.int64)
    total = 0
    for block in blocks:
        total += len(block)
        scanned = len(pending)
        pending += block
        array = np.frombuffer(pending, np.uint8)
        starts, ends = (np.empty(block.count(b",") + 1, np.int64) for _ in range(2))
        rows = _scan_array(array, scanned, state, starts, ends)
        del array  # a bytearray with a view on it cannot be resized
        open_element = int(state[_START])
        used = len(pending) if open_element < 0 else open_element
        if rows:
            yield RowBlock(pending[:used], starts[:rows], ends[:rows])
        pending = pending[used:]
        if open_element >= 0:
            state[_START] = 0
        if state[_PHASE] == _DONE:
            return
        if len(pending) > MAX_ROW_BYTES:
            raise Unreadable(_OPEN_ARRAY)
    if state[_PHASE] == _ELEMENTS:
        raise Unreadable(_OPEN_ARRAY)
    if total:
        raise Unreadable(_NO_ARRAY)


_PHASE, _DEPTH, _STRING, _START = 0, 1, 2, 3
"""Positions in the scan's state: the phase (below); brackets open inside the array; 1 in a string, 2 in a string after
a backslash, else 0; start of the element that is open, or -1."""

_SEEK, _OBJECT, _MAYBE, _ELEMENTS, _DONE = 0, 1, 2, 3, 4
"""Phases: before the first bracket; inside the object at the top; right after a `[` in that object; inside the array of
rows; after its end."""


@kernel
def _scan_array(data: Bytes, first: int, state: Offsets, starts: Offsets, ends: Offsets) -> int:
    """Scan for elements from byte `first` on. Writes `starts`, `ends` and `state`; returns how many elements ended.

    An element extends to the comma or bracket after it, so that anything that is not JSON between two commas is a row
    with a fault instead of a scan that fails.
    """
    phase, depth, in_string, start = state[0], state[1], state[2], state[3]
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
                if byte == _OPEN_BRACE:
                    phase, depth, start = _ELEMENTS, 1, i
                    continue
            if byte == _QUOTE:
                in_string = 1
            elif byte in (_OPEN_BRACE, _OPEN_BRACKET):
                depth += 1
                if byte == _OPEN_BRACKET and depth == 2:
                    phase = _MAYBE
            elif byte in (_CLOSE_BRACE, _CLOSE_BRACKET):
                depth -= 1
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
    state[0], state[1], state[2], state[3] = phase, depth, in_string, start
    return rows


# Rows to columns


def _parse_block(block: RowBlock, columns: pa.Schema) -> pa.Table | None:
    """The rows as Arrow parses them; None if it does not return every one of them."""
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
    try:
        table = pa.json.read_json(
            pa.BufferReader(block.data),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=len(block.data) + 1),
            parse_options=pa.json.ParseOptions(explicit_schema=columns, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    if table.num_rows != rows:
        return None
    return with_faults(table.select(columns.names).cast(columns), None, None)


def _parse_rows(block: RowBlock, columns: pa.Schema) -> pa.Table:
    """The rows parsed one by one: for a block that Arrow refuses."""
    values: dict[str, list[Any]] = {name: [] for name in columns.names}
    faults: list[str | None] = []
    broken: list[str | None] = []
    for index in range(len(block.starts)):
        line = block.row(index)
        if not line.strip():
            continue
        value, fault = _parse_object(line, block.fault)
        cells: dict[str, Any] = {}
        if value is not None:
            try:
                cells = {field.name: _convert(value.get(field.name), field.type) for field in columns}
            except TypeError:
                fault = "wrong_type"
        for name in columns.names:
            values[name].append(cells.get(name) if fault is None else None)
        faults.append(fault)
        broken.append(broken_text(line) if fault else None)
    arrays = [pa.array(values[field.name], field.type) for field in columns]
    return with_faults(pa.table(arrays, schema=columns), faults, broken)


class _Number(str):
    """A number as it is spelt in the file."""


_DECODER = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_Number)


def _parse_object(line: bytes, fault: str | None) -> tuple[Any, str | None]:
    """(object, None), or (None, fault). fault: the block's, if it has one."""
    if fault:
        return None, fault
    try:
        value = _DECODER.decode(line.decode())
        if b"\\ud" in line.lower():
            json.dumps(value, ensure_ascii=False).encode()  # fails on half of a surrogate pair, which is legal JSON
    except UnicodeError:
        return None, "invalid_utf8"
    except (ValueError, RecursionError):
        return None, "broken_json"
    return (value, None) if isinstance(value, dict) else (None, "not_an_object")


def _convert(value: Any, to: pa.DataType) -> Any:
    """A JSON value as a value of the Arrow type: string, or lists and structs of strings.

    Raises: TypeError: if the value is of another kind.
    """
    if value is None:
        return None
    if pa.types.is_list(to):
        if not isinstance(value, list):
            raise TypeError
        return [_convert(item, to.value_type) for item in value]
    if pa.types.is_struct(to):
        if not isinstance(value, dict):
            raise TypeError
        fields = (to.field(index) for index in range(to.num_fields))
        return {field.name: _convert(value.get(field.name), field.type) for field in fields}
    assert pa.types.is_string(to), f"JSON is read as text, not as {to}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str(value)
    raise TypeError


def _check_columns(path: str, block: RowBlock, table: pa.Table, required: Sequence[str]) -> None:
    """Raises: InputError: if no row of the first block has a key for a required column."""
    all_null = [name for name in required if table[name].null_count == table.num_rows]
    if not all_null:
        return
    keys = _keys(block)
    for name in all_null:
        if keys and name not in keys:
            raise missing_column(path, name, keys)
