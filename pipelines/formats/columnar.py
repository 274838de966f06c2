"""Read Parquet and Arrow files as rows of text columns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.errors import InputError
from pipelines.formats.arrow_messages import MAX_BATCH_BYTES, largest_batch
from pipelines.formats.blocks import BLOCK_BYTES, MAX_ROW_BYTES
from pipelines.formats.faults import Unreadable, missing_column, repeated_column, with_faults, with_row_numbers
from pipelines.formats.parquet_pages import Reading, RowGroup, TooLarge, plan_reading, row_groups
from pipelines.formats.span import WHOLE, Span, by_units
from pipelines.formats.values import WrongType, below, convert, is_list, is_text, list_lengths, path_of
from pipelines.ledger import input_files, storage

_BATCH_BYTES = 8 << 20
"""About how many bytes of columns a batch has: small beside a worker's memory, large beside the cost of a call."""

_LOCAL_BLOCK = 64 << 10
"""Bytes that are read at a time of a column of a local Parquet file. What a page has beyond them, Arrow reads into its
place, without a copy."""

_BATCH_ROWS = (64, 65_536)
"""Fewest and most rows of a batch."""

MAX_FIRST_ROWS = 200
"""Rows that are looked at to see which columns hold text."""

MAX_WHOLE_BYTES = 256 << 20
"""Limit of a Parquet or Arrow file that is compressed as a whole. These formats compress their columns themselves."""

_ARROW_FILE_MAGIC = b"ARROW1"


class Columnar(NamedTuple):
    """A columnar format.

    schema: open file -> schema. batches: (path, open file, columns, optional, span) -> record batches. units: open
    file -> rows and bytes of its row groups or batches; None where only reading tells. mapped: whether local files are
    mapped.
    """

    schema: Callable[[pa.NativeFile], pa.Schema]
    batches: Callable[[str, pa.NativeFile, pa.Schema, Collection[str], Span], Iterator[pa.RecordBatch]]
    units: Callable[[pa.NativeFile], tuple[list[int], list[int]] | None]
    mapped: bool


def read_columnar(
    path: str, columns: pa.Schema, optional: Collection[str], form: Columnar, span: Span = WHOLE
) -> Iterator[pa.Table]:
    """Yield tables of ROW, FAULT, BROKEN and `columns`, from PARQUET or ARROW. span: what to read of the file.

    Raises: InputError: if a column that is not optional is missing, is there twice, or is of a type that does not
        convert.
    """
    row = span.row
    with _open(path, form.mapped) as source:
        for batch in form.batches(path, source, columns, optional, span):
            for part, oversize in _bounded(batch):
                table = _oversize(columns) if oversize else _convert(path, part, columns)
                yield with_row_numbers(table, row)
                row += table.num_rows


def _bounded(batch: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """The batch in parts whose text is not much longer than _BATCH_BYTES: what is stored once may be in every row.

    Yields (part, whether it is one row that is longer than MAX_ROW_BYTES).
    """
    large = batch.nbytes > MAX_ROW_BYTES
    counted = [column for column in batch.columns if large or _is_shared(column.type)]
    if not counted or not batch.num_rows:
        yield batch, False
        return
    sizes = sum((_text_bytes(column) for column in counted), np.zeros(batch.num_rows, np.int64))
    starts = np.flatnonzero(np.diff(np.cumsum(sizes) // _BATCH_BYTES, prepend=0)).tolist()
    over = np.flatnonzero(sizes > MAX_ROW_BYTES).tolist()
    edges = sorted({0, *starts, *over, *(row + 1 for row in over), batch.num_rows})
    for start, end in itertools.pairwise(edges):
        yield batch.slice(start, end - start), start in over


def _oversize(columns: pa.Schema) -> pa.Table:
    """One row that is not read."""
    return with_faults(pa.table([pa.nulls(1, field.type) for field in columns], schema=columns), ["oversize"], [""])


def _is_shared(kind: pa.DataType) -> bool:
    """Whether values of a type may share bytes: those of dictionaries and views do."""
    if pa.types.is_nested(kind):
        return any(_is_shared(kind.field(index).type) for index in range(kind.num_fields))
    return any((pa.types.is_dictionary(kind), pa.types.is_string_view(kind), pa.types.is_binary_view(kind)))


def _text_bytes(array: pa.Array) -> np.ndarray:
    """The bytes of text in each row of an array, int64 [rows], each counted as often as it is there."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        if not len(array.dictionary):
            return np.zeros(len(array), np.int64)
        of_value = _text_bytes(array.dictionary)
        return np.asarray(of_value[pc.fill_null(array.indices, 0).to_numpy(zero_copy_only=False)])
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        views = np.frombuffer(array.buffers()[1], np.int32)[: 4 * (array.offset + len(array))]
        return np.asarray(views.reshape(-1, 4)[array.offset :, 0], np.int64)
    if is_text(kind):
        return np.asarray(pc.fill_null(pc.binary_length(array), 0).to_numpy(zero_copy_only=False), np.int64)
    if pa.types.is_struct(kind):
        fields = (_text_bytes(pc.struct_field(array, index)) for index in range(kind.num_fields))
        return np.asarray(sum(fields, np.zeros(len(array), np.int64)))
    if is_list(kind):
        ends = np.cumsum(lengths := list_lengths(array))
        to = np.concatenate([np.zeros(1, np.int64), np.cumsum(_text_bytes(array.flatten()))])
        return np.asarray(to[ends] - to[ends - lengths])
    return np.zeros(len(array), np.int64)


def columnar_spans(path: str, form: Columnar) -> list[Span]:
    """The spans of a file. Each is of whole row groups or batches."""
    with _open(path, form.mapped) as source:
        units = form.units(source) if source.size() else None
    return [WHOLE] if units is None else by_units(*units)


def declared_rows(path: str, form: Columnar) -> int | None:
    """How many rows a file says that it holds; None where only reading tells."""
    with _open(path, form.mapped) as source:
        units = form.units(source) if source.size() else None
    return None if units is None else sum(units[0])


def columnar_names(path: str, form: Columnar) -> list[str]:
    """The file's columns, in order."""
    return list(form.schema(_open(path, form.mapped)).names)


def first_values(path: str, form: Columnar) -> list[dict[str, Any]]:
    """The values of some first rows, as objects, of columns that may hold text."""
    with _open(path, form.mapped) as source:
        schema = form.schema(source)
        source.seek(0)
        columns = pa.schema(
            [field for field in schema if _may_hold_text(field.type) and schema.names.count(field.name) == 1]
        )
        batch = next(form.batches(path, source, columns, (), WHOLE), None) if len(columns) else None
        return [] if batch is None else batch.slice(0, MAX_FIRST_ROWS).select(columns.names).to_pylist()


def _may_hold_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_nested(kind):
        return any(_may_hold_text(kind.field(index).type) for index in range(kind.num_fields))
    return any((pa.types.is_string(kind), pa.types.is_large_string(kind), pa.types.is_string_view(kind)))


def _open(path: str, mapped: bool) -> pa.NativeFile:
    """The file for random access, read block by block; with `mapped` a local one as memory.

    A mapped file that becomes shorter ends the process. Arrow files are mapped nevertheless: a batch of them may be
    larger than memory.

    A file that is compressed as a whole, which is unusual for these formats, is read into memory.

    Raises: Unreadable: if it has more than MAX_WHOLE_BYTES.
    """
    if not path.lower().endswith((".gz", ".zst", ".bz2")) and storage.size(path) > 0:
        if storage.is_local(path):
            name = path.removeprefix("file://")
            with input_files.allowed(path):
                return pa.BufferReader(pa.py_buffer(storage.memory_mapped(name))) if mapped else pa.OSFile(name)
        return input_files.open_remote(path)
    data = bytearray()
    with input_files.open_input(path) as file:
        while block := file.read(BLOCK_BYTES):
            data += block
            if len(data) > MAX_WHOLE_BYTES:
                raise Unreadable(f"it decompresses to more than {MAX_WHOLE_BYTES >> 20} MiB; decompress it")
    return pa.BufferReader(pa.py_buffer(data))


def _parquet_batches(
    path: str, source: pa.NativeFile, columns: pa.Schema, optional: Collection[str], span: Span
) -> Iterator[pa.RecordBatch]:
    # A block of each column is held instead of a whole row group.
    buffered = _LOCAL_BLOCK if storage.is_local(path) else input_files.REMOTE_BLOCK
    file = pq.ParquetFile(source, buffer_size=buffered, pre_buffer=False)
    present = _check(path, file.schema_arrow, columns, optional)
    groups = row_groups(source, file.schema)
    for index in range(len(groups))[span.start : span.stop]:
        group = groups[index]
        reading = Reading(_batch_rows(group.bytes / max(group.rows, 1)), ())
        if storage.is_local(path):  # of a remote file, each page header would be a request
            reading = _plan_reading(source, group, present, reading.rows)
        open_file = file
        if reading.dictionaries:
            open_file = pq.ParquetFile(
                source,
                metadata=file.metadata,
                read_dictionary=list(reading.dictionaries),
                buffer_size=buffered,
                pre_buffer=False,
            )
        yield from open_file.iter_batches(
            batch_size=reading.rows, row_groups=[index], columns=present, use_threads=False
        )


def _plan_reading(source: pa.NativeFile, group: RowGroup, columns: list[str], rows: int) -> Reading:
    try:
        return plan_reading(source, group, columns, rows)
    except TooLarge as error:
        raise Unreadable(f"{error}; write it with smaller pages") from error


def _parquet_units(source: pa.NativeFile) -> tuple[list[int], list[int]]:
    metadata = pq.ParquetFile(source).metadata
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    return [group.num_rows for group in groups], [group.total_byte_size for group in groups]


def _arrow_units(source: pa.NativeFile) -> tuple[list[int], list[int]] | None:
    """None for a stream, and for a remote file, of which each batch would be a request."""
    if not isinstance(source, pa.BufferReader):
        return None
    reader = _open_arrow(source)
    if not isinstance(reader, pa.RecordBatchFileReader):
        return None
    batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
    return [batch.num_rows for batch in batches], [batch.nbytes for batch in batches]


def _arrow_batches(
    path: str, source: pa.NativeFile, columns: pa.Schema, optional: Collection[str], span: Span
) -> Iterator[pa.RecordBatch]:
    if source.size() == 0:
        raise pa.ArrowInvalid("the file is empty")
    if storage.is_local(path):  # of a remote file, each message would be a request
        _check_batches(source)
    reader = _open_arrow(source)
    present = _check(path, reader.schema, columns, optional)
    if isinstance(reader, pa.RecordBatchFileReader):
        batches = (reader.get_batch(index) for index in range(reader.num_record_batches)[span.start : span.stop])
    else:
        batches = iter(reader)
    for batch in batches:
        batch = batch.select(present)
        _check_structure(batch)
        rows = _batch_rows(batch.nbytes / max(batch.num_rows, 1))
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def _check_batches(source: pa.NativeFile) -> None:
    """Raises: Unreadable: if a batch takes too much memory."""
    start = 8 if source.read_at(len(_ARROW_FILE_MAGIC), 0) == _ARROW_FILE_MAGIC else 0
    number, size = largest_batch(source, start)
    if size > MAX_BATCH_BYTES:
        raise Unreadable(
            f"its batch {number} decompresses to {size:,} bytes, over {MAX_BATCH_BYTES:,}; write it in smaller batches"
        )


def _check_structure(batch: pa.RecordBatch) -> None:
    """Raises: pyarrow.ArrowInvalid: if a length, offset or index points outside its buffer, which Arrow would follow.

    Text that is not UTF-8 is a fault of rows, not of the file.
    """
    batch.validate()  # the sizes of buffers, which all else relies on
    for column in batch.columns:
        as_bytes = _as_bytes(column.type)
        if as_bytes == column.type:
            column.validate(full=True)
            continue
        try:
            column = column.view(as_bytes)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise pa.ArrowNotImplementedError(f"its column is {column.type}") from error
        column.validate(full=True)


def _as_bytes(kind: pa.DataType) -> pa.DataType:
    """The type with bytes in place of text, at any depth."""
    for is_kind, bytes_of in _BYTES_OF:
        if is_kind(kind):
            return bytes_of
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _as_bytes(kind.value_type), kind.ordered)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_as_bytes(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_as_bytes(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_as_bytes(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_as_bytes(kind.value_type)), kind.list_size)
    return kind


_BYTES_OF = (
    (pa.types.is_string, pa.binary()),
    (pa.types.is_large_string, pa.large_binary()),
    (pa.types.is_string_view, pa.binary_view()),
)


def _open_arrow(source: pa.NativeFile) -> Any:
    magic = source.read(len(_ARROW_FILE_MAGIC))
    source.seek(0)
    return pa.ipc.open_file(source) if magic == _ARROW_FILE_MAGIC else pa.ipc.open_stream(source)


def _batch_rows(row_bytes: float) -> int:
    fewest, most = _BATCH_ROWS
    return int(min(max(_BATCH_BYTES / max(row_bytes, 1.0), fewest), most))


def _check(path: str, schema: pa.Schema, columns: pa.Schema, optional: Collection[str]) -> list[str]:
    """The names of the file's columns that hold `columns`.

    Raises: InputError: if a column that is not optional is missing, or two columns have its name.
    """
    present = []
    for name in columns.names:
        place = path_of(name, schema.names)
        if place is not None and schema.names.count(place[0]) > 1:
            raise repeated_column(path, place[0])
        if place is None or below(pa.nulls(0, schema.field(place[0]).type), place[1]) is None:
            if name not in optional:
                raise missing_column(path, name, nested_columns(schema))
        else:
            present.append(place[0])
    return list(dict.fromkeys(present))


def nested_columns(schema: pa.Schema | pa.StructType) -> list[str]:
    """The names of columns, in order; a struct's by those of its fields (`qa.q`)."""
    names: list[str] = []
    for field in schema:
        inner = nested_columns(field.type) if pa.types.is_struct(field.type) else []
        names += [f"{field.name}.{name}" for name in inner] or [field.name]
    return names


def _convert(path: str, batch: pa.RecordBatch, columns: pa.Schema) -> pa.Table:
    """FAULT, BROKEN and the columns in their requested types. A row with a value that cannot be read has a fault."""
    arrays: list[pa.Array] = []
    faults: list[pa.Array] = []
    for field in columns:
        place = path_of(field.name, batch.schema.names)
        array = None if place is None else below(batch.column(place[0]), place[1])
        if array is None:
            arrays.append(pa.nulls(batch.num_rows, field.type))
            continue
        try:
            array, fault = convert(array, field.type)
        except (WrongType, pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise _wrong_type(path, field, array.type) from error
        arrays.append(array)
        faults += [] if fault is None else [fault]
    table = pa.table(arrays, schema=columns)
    if not faults:
        return with_faults(table, None, None)
    fault = pc.coalesce(*faults)
    bad, no_text = fault.is_valid(), pa.scalar(None, pa.string())
    first_text = pc.coalesce(*(column for column in table.columns if pa.types.is_string(column.type)), "")
    cleared = [pc.if_else(bad, pa.scalar(None, column.type), column) for column in table.columns]
    return with_faults(pa.table(cleared, schema=columns), fault, pc.if_else(bad, first_text, no_text))


def _wrong_type(path: str, field: pa.Field, kind: pa.DataType) -> InputError:
    if not pa.types.is_string(field.type):
        return InputError(f"{path}: column {field.name!r} is {kind}, not {field.type}")
    if pa.types.is_struct(kind):
        mend = f"name one of its fields: {', '.join(f'{field.name}.{inner.name}' for inner in kind)}"
    elif pa.types.is_list(kind):
        mend = f"its first element is `{field.name}.0`"
        mend += f"; a conversation is read by `columns: {{messages: {field.name}}}`"
    else:
        mend = "convert it to text"
    return InputError(f"{path}: column {field.name!r} is {kind}, not text; {mend}")


PARQUET = Columnar(lambda source: pq.ParquetFile(source).schema_arrow, _parquet_batches, _parquet_units, mapped=False)
ARROW = Columnar(lambda source: _open_arrow(source).schema, _arrow_batches, _arrow_units, mapped=True)
"""Arrow IPC files and streams. The `datasets` library writes streams."""
