"""Read Parquet and Arrow files as rows of text columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.errors import InputError
from pipelines.formats.faults import broken_text, check_columns, is_valid, with_faults, with_row_numbers
from pipelines.ledger import input_files, storage

_BATCH_BYTES = 8 << 20
"""About how many bytes of columns a batch has: small beside a worker's memory, large beside the cost of a call."""

_BATCH_ROWS = (64, 65_536)
"""Fewest and most rows of a batch."""

_ARROW_FILE_MAGIC = b"ARROW1"

Batches = Callable[[str, pa.NativeFile, pa.Schema, Collection[str]], Iterator[pa.RecordBatch]]


def read_parquet(path: str, columns: pa.Schema, optional: Collection[str]) -> Iterator[pa.Table]:
    """Yield tables of ROW, FAULT, BROKEN and `columns`.

    Raises: InputError: if a column that is not optional is missing, or is of a type that does not convert.
    """
    yield from _read(path, columns, optional, _parquet_batches)


def read_arrow(path: str, columns: pa.Schema, optional: Collection[str]) -> Iterator[pa.Table]:
    """Like `read_parquet`, from an Arrow IPC file or stream (the `datasets` library writes streams)."""
    yield from _read(path, columns, optional, _arrow_batches)


def parquet_columns(path: str) -> list[str]:
    """The file's columns, in order."""
    return list(pq.ParquetFile(_open(path)).schema_arrow.names)


def arrow_columns(path: str) -> list[str]:
    """The file's columns, in order."""
    return list(_open_arrow(_open(path)).schema.names)


def _read(path: str, columns: pa.Schema, optional: Collection[str], batches: Batches) -> Iterator[pa.Table]:
    row = 0
    with _open(path) as source:
        for batch in batches(path, source, columns, optional):
            table = _convert(path, batch, columns)
            yield with_row_numbers(table, row)
            row += table.num_rows


def _open(path: str) -> pa.NativeFile:
    """The file for random access: mapped if it is local, read block by block if it is remote.

    A file that is compressed as a whole, which is unusual for these formats, is read into memory.
    """
    if not path.lower().endswith((".gz", ".zst", ".bz2")) and storage.size(path) > 0:
        if storage.is_local(path):
            return pa.BufferReader(pa.py_buffer(storage.memory_mapped(path.removeprefix("file://"))))
        return input_files.open_remote(path)
    with input_files.open_input(path) as file:
        return pa.BufferReader(file.read())


def _parquet_batches(
    path: str, source: pa.NativeFile, columns: pa.Schema, optional: Collection[str]
) -> Iterator[pa.RecordBatch]:
    # Mapped pages cost no memory. Of a remote file, a block of each column is held instead of a whole row group.
    buffered = 0 if storage.is_local(path) else input_files.REMOTE_BLOCK
    file = pq.ParquetFile(source, buffer_size=buffered, pre_buffer=False)
    names = file.schema_arrow.names
    check_columns(path, names, columns, optional)
    present = [name for name in columns.names if name in names]
    groups = (file.metadata.row_group(index) for index in range(file.metadata.num_row_groups))
    row_bytes = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1.0)
    yield from file.iter_batches(batch_size=_batch_rows(row_bytes), columns=present, use_threads=False)


def _arrow_batches(
    path: str, source: pa.NativeFile, columns: pa.Schema, optional: Collection[str]
) -> Iterator[pa.RecordBatch]:
    if source.size() == 0:
        raise pa.ArrowInvalid("the file is empty")
    reader = _open_arrow(source)
    check_columns(path, reader.schema.names, columns, optional)
    if isinstance(reader, pa.RecordBatchFileReader):
        batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
    else:
        batches = iter(reader)
    for batch in batches:
        rows = _batch_rows(batch.nbytes / max(batch.num_rows, 1))
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def _open_arrow(source: pa.NativeFile) -> Any:
    magic = source.read(len(_ARROW_FILE_MAGIC))
    source.seek(0)
    return pa.ipc.open_file(source) if magic == _ARROW_FILE_MAGIC else pa.ipc.open_stream(source)


def _batch_rows(row_bytes: float) -> int:
    fewest, most = _BATCH_ROWS
    return int(min(max(_BATCH_BYTES / max(row_bytes, 1.0), fewest), most))


def _convert(path: str, batch: pa.RecordBatch, columns: pa.Schema) -> pa.Table:
    """FAULT, BROKEN and the columns in their requested types. A row with a text that is not UTF-8 has a fault."""
    arrays = []
    undecodable = np.zeros(batch.num_rows, bool)
    for field in columns:
        if field.name not in batch.schema.names:
            arrays.append(pa.nulls(batch.num_rows, field.type))
            continue
        array = batch.column(field.name)
        if pa.types.is_string(field.type):
            array, mask = _to_text(path, field.name, array)
            undecodable |= mask
        else:
            try:
                array = array.cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
                raise InputError(f"{path}: column {field.name!r} is {array.type}, not {field.type}") from error
            if not is_valid(array):  # inside a list, invalid text is a fault of the writer: the row is not looked for
                raise InputError(f"{path}: column {field.name!r} holds bytes that are not UTF-8")
        arrays.append(array)
    table = pa.table(arrays, schema=columns)
    if not undecodable.any():
        return with_faults(table, None, None)
    bad, no_text = pa.array(undecodable), pa.scalar(None, pa.string())
    faults = pc.if_else(bad, "invalid_utf8", no_text)
    first_text = pc.coalesce(*(column for column in table.columns if pa.types.is_string(column.type)), "")
    cleared = [pc.if_else(bad, pa.scalar(None, column.type), column) for column in table.columns]
    return with_faults(pa.table(cleared, schema=columns), faults, pc.if_else(bad, first_text, no_text))


def _to_text(path: str, name: str, array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """A column as text, and a mask of the values that are not UTF-8, which are replaced by what can be decoded.

    Raises: InputError: if the column is a list, a struct or fixed-size binary.
    """
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_nested(array.type) or pa.types.is_fixed_size_binary(array.type):
        raise InputError(
            f"{path}: column {name!r} is {array.type}, not text; "
            f"a conversation is read by `columns: {{messages: {name}}}`"
        )
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    elif pa.types.is_large_binary(array.type) or pa.types.is_binary_view(array.type):
        array = array.cast(pa.binary())
    if pa.types.is_binary(array.type):
        array = array.view(pa.string())
    undecodable = np.zeros(len(array), bool)
    if not pa.types.is_string(array.type):
        return array.cast(pa.string()), undecodable
    if is_valid(array):
        return array, undecodable
    values: list[str | None] = []
    for index, item in enumerate(array.view(pa.binary()).to_pylist()):
        try:
            values.append(None if item is None else item.decode())
        except UnicodeDecodeError:
            undecodable[index] = True
            values.append(broken_text(item))
    return pa.array(values, pa.string()), undecodable
