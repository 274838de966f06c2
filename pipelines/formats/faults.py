"""Rows and files that cannot be read: the columns that report a bad row, and the errors that report a bad file.

A row that cannot be read is not skipped. It is returned with its number, a `fault`, and in `broken` the text that could
be decoded:

    broken_json     the row is not valid JSON
    not_an_object   the row is valid JSON but not an object
    repeated_key    the row is an object that has a requested key twice
    wrong_type      a list or object where text was requested
    non_text_part   a message with a content part that is not text, such as an image
    wrong_columns   more or fewer fields than the file has columns
    invalid_utf8    invalid UTF-8, or half of a surrogate pair
    oversize        the row, or its text in a columnar file, is longer than `blocks.MAX_ROW_BYTES`

A missing column, and a truncated or damaged file, is an InputError.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import zstandard

from pipelines.errors import RESUME, InputError, MissingColumn, Unreachable, nearest, short
from pipelines.ledger import storage

ROW = pa.field("row", pa.int64())
"""The row's number in the file, from 0."""

FAULT = pa.field("fault", pa.string())
"""Why the row could not be read; null for a row that was read."""

BROKEN = pa.field("broken", pa.string())
"""The text of a row that could not be read, at most MAX_BROKEN_BYTES of it; null for a row that was read."""

MAX_BROKEN_BYTES = 64 << 10
"""Bytes kept of a row that could not be read: enough to see what is wrong, little enough to keep for every bad row."""

_MAX_CAUSE = 500
"""Characters of a library's message that an error repeats. Some repeat the file."""

_MAX_NAMES_SHOWN = 60
"""Columns of a file that a message lists."""

DAMAGE = (
    *(EOFError, OSError, zlib.error, zstandard.ZstdError, pa.ArrowException, tarfile.TarError, SystemError),
    *(MemoryError, RecursionError, UnicodeError, OverflowError),
)
"""The exceptions that readers and decompressors raise for a file that is truncated or damaged, or made to do harm.
SystemError: pyarrow, for a negative length. UnicodeError: the name of a column that is not UTF-8."""


class Unreadable(Exception):
    """The file cannot be split into rows after the rows returned so far; the argument is the reason."""


def is_damage(error: Exception) -> bool:
    """Whether the exception means that the file is truncated, damaged or cannot be split into rows."""
    return isinstance(error, (Unreadable, *DAMAGE))


def reading_error(path: str, row: int, error: Exception) -> InputError:
    """The error to raise when reading `path` failed after `row` rows: Unreachable for a broken connection."""
    if isinstance(error, Unreadable):
        return InputError(f"{path}: cannot be read beyond its first {row} rows: {error}")
    cause = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_CAUSE]
    if isinstance(error, MemoryError):
        return InputError(
            f"{path}: needs more memory than there is beyond its first {row} rows ({cause}); write it in smaller row "
            "groups or batches, or in several files"
        )
    if isinstance(error, RecursionError):
        return InputError(f"{path}: is nested too deeply beyond its first {row} rows")
    if storage.is_local(path) and isinstance(error, OSError) and error.errno is not None:
        return InputError(f"{path}: could not be read beyond its first {row} rows ({cause})")
    if not storage.is_local(path) and (isinstance(error, OSError) or not is_damage(error)):
        return Unreachable(f"{path}: could not be read beyond its first {row} rows ({cause}); {RESUME}")
    return InputError(f"{path}: truncated or damaged after its first {row} rows ({cause}); fetch it again")


def missing_column(path: str, name: str, names: Collection[str]) -> MissingColumn:
    """The error to raise when a file with the columns `names` has no column `name`."""
    hint = nearest(name, names)
    hint = f"; {hint}" if hint.startswith("did") else ""
    shown = [short(name) for name in [*names][:_MAX_NAMES_SHOWN]]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return MissingColumn(f"{path}: no column {name!r} (the file has: {', '.join(shown) or 'none'}{more}){hint}")


def repeated_column(path: str, name: str) -> InputError:
    """The error to raise when two columns of a file have the requested name."""
    return InputError(f"{path}: two columns are called {name!r}; rename one of them, or leave one out")


def check_columns(path: str, names: Sequence[str], columns: pa.Schema, optional: Collection[str]) -> None:
    """Raises: InputError: if one of `columns` that is not in `optional` is not in `names`, or is there twice."""
    for name in columns.names:
        if name not in names and name not in optional:
            raise missing_column(path, name, names)
        if names.count(name) > 1:
            raise repeated_column(path, name)


def broken_text(data: bytes) -> str:
    """The text of a row that could not be read, with U+FFFD for invalid bytes, for BROKEN."""
    return data[:MAX_BROKEN_BYTES].decode(errors="replace")


def with_faults(table: pa.Table, faults: Any, broken: Any) -> pa.Table:
    """Insert the columns FAULT and BROKEN before the others. Pass None for both if every row was read."""
    first = pa.nulls(table.num_rows, pa.string()) if faults is None else pa.array(faults, pa.string())
    second = pa.nulls(table.num_rows, pa.string()) if broken is None else pa.array(broken, pa.string())
    return table.add_column(0, BROKEN, second).add_column(0, FAULT, first)


def with_row_numbers(table: pa.Table, first: int) -> pa.Table:
    """Insert the column ROW before the others, counting from `first`."""
    return table.add_column(0, ROW, pa.array(np.arange(first, first + table.num_rows)))


def is_utf8(data: bytes | bytearray) -> bool:
    """Whether the bytes are valid UTF-8."""
    offsets = pa.py_buffer(np.array([0, len(data)], np.int32))
    return is_valid(pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(data)]))


def is_valid(array: pa.Array) -> bool:
    """Whether an Arrow array is valid, and with it all of its text valid UTF-8."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
