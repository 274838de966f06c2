"""Read files of rows: JSON lines, JSON, CSV, TSV, Parquet, Arrow; plain or .gz .zst .bz2; a bounded batch at a time.

Every row of a file comes out, in order and under its number. One that cannot be read comes out with its `fault`:

    broken_json     not JSON                          invalid_utf8    bytes, or a lone surrogate, that are no text
    not_an_object   JSON, but not a row               wrong_type      a list or object where text is asked for
    wrong_columns   more or fewer fields than names   oversize        a single row over `cutting.ROW_LIMIT`

A column that is not there, and a file that is cut short or damaged, is an InputError. Empty lines are no rows, and a
file without rows is no error: who asked for it decides.

Blocks of rows are parsed by Arrow; only a block that Arrow refuses is gone through row by row.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import tarfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
import zstandard

from pipelines.errors import RESUME, InputError, Unreachable, nearest
from pipelines.formats import cutting
from pipelines.formats.cutting import Cut, Unreadable
from pipelines.ledger import storage

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".ipc", ".feather")
"""The suffixes that are understood, each also with .gz, .zst or .bz2 behind it."""

ROW = pa.field("row", pa.int64())
FAULT = pa.field("fault", pa.string())
BROKEN = pa.field("broken", pa.string())
"""What stands before the columns asked for: a row's number, why it could not be read, and what could be read of it."""

BATCH_BYTES = 8 << 20
"""Bytes of columns in one batch of a Parquet or Arrow file, about."""

_DAMAGE = (EOFError, OSError, zlib.error, zstandard.ZstdError, pa.ArrowException, tarfile.TarError)


class Layout(NamedTuple):
    """How a delimited file is laid out where its suffix does not say it all. names: the columns of a headless file."""

    delimiter: str
    quoted: bool = True
    names: tuple[str, ...] | None = None


def text(*names: str) -> pa.Schema:
    """The schema of columns of text. Numbers and booleans are read as the text that the file spells them with."""
    return pa.schema([pa.field(name, pa.string()) for name in names])


def read(
    path: str, columns: pa.Schema, optional: Collection[str] = (), layout: Layout | None = None
) -> Iterator[pa.Table]:
    """Yield tables of ROW, FAULT, BROKEN and `columns`, row by row of the file, some megabytes each.

    columns: what to read, string or list and struct types of strings. optional: columns that may be missing, and are
    null then. Errors: InputError naming the file and the row reached where it is missing, truncated or damaged, the
    columns that there are where one is missing, the known formats where its suffix is unknown.
    """
    suffix = storage.suffix(path)
    if suffix in (".jsonl", ".ndjson"):
        batches = _json(path, columns, optional, as_lines=True)
    elif suffix == ".json":
        batches = _json(path, columns, optional, as_lines=False)
    elif suffix in (".csv", ".tsv"):
        batches = _delimited(path, columns, optional, layout or Layout("," if suffix == ".csv" else "\t"))
    elif suffix == ".parquet":
        batches = _columnar(path, columns, optional, _parquet_batches)
    elif suffix in (".arrow", ".ipc", ".feather"):
        batches = _columnar(path, columns, optional, _arrow_batches)
    else:
        raise InputError(f"{path}: unknown format {suffix!r}; {nearest(suffix, FORMATS)}")
    row = 0
    try:
        for table in batches:
            yield table
            row += table.num_rows
    except Exception as error:
        # A connection may break, and each remote file system has exceptions of its own for that.
        ours = isinstance(error, (InputError, AssertionError))
        if ours or (storage.is_local(path) and not _is_damage(error)):
            raise
        raise _stopped(path, row, error) from error


LINE = Layout("\x1f", quoted=False, names=("line",))
"""A text file as rows of one column, `line`; empty lines are no rows. (No text holds the unit separator.)"""


def read_members(path: str, suffix: str) -> Iterator[tuple[str, BinaryIO]]:
    """Yield (name, file) of each file in a tar archive whose name ends in `suffix`, in the archive's order.

    A file is to be read, with `read_lines`, before the next is asked for: the archive is read once, front to back.
    Errors: InputError where the archive is missing, truncated or damaged.
    """
    with _archive(path) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(suffix):
                yield member.name, cast(BinaryIO, archive.extractfile(member))


def read_small_members(path: str, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of each file in a tar archive whose name ends in `suffix`. Errors: as `read_members`."""
    with _archive(path) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(suffix):
                yield member.name, cast(BinaryIO, archive.extractfile(member)).read()


@contextlib.contextmanager
def _archive(path: str) -> Iterator[tarfile.TarFile]:
    try:
        with storage.open_input(path) as file, tarfile.open(fileobj=file, mode="r|") as archive:
            yield archive
    except _DAMAGE as error:
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: truncated or damaged, or no tar archive ({what}); fetch it again") from error


def read_lines(path: str, file: BinaryIO) -> Iterator[pa.Table]:
    """Yield the lines of an open file (`path`: what to call it), as `read` with LINE gives those of a path."""
    row = 0
    try:
        for table in _delimited_in(path, file, text("line"), (), LINE):
            yield table
            row += table.num_rows
    except (Unreadable, *_DAMAGE) as error:
        raise _stopped(path, row, error) from error


def read_objects(path: str) -> Iterator[tuple[int, Any, str | None, str]]:
    """Yield (row, object, fault, text) of a JSON file: for small files with columns of mixed types.

    Numbers come as the text that the file spells them with.
    Errors: as `read`.
    """
    row = 0
    try:
        for cut in _json_cuts(path, as_lines=storage.suffix(path) != ".json"):
            for index in range(len(cut.starts)):
                line = cut.row(index)
                if not line.strip():
                    continue
                value, fault = _object(line, cut.fault)
                yield row, value, fault, _readable(line)
                row += 1
    except (Unreadable, *_DAMAGE) as error:
        raise _stopped(path, row, error) from error


def _is_damage(error: Exception) -> bool:
    return isinstance(error, (Unreadable, *_DAMAGE))


def column_names(path: str) -> list[str]:
    """The columns of a file, in order; of JSON rows, those that its first thousand rows have. Errors: as `read`."""
    suffix = storage.suffix(path)
    try:
        if suffix == ".parquet":
            return list(pq.ParquetFile(_random_access(path)).schema_arrow.names)
        if suffix in (".arrow", ".ipc", ".feather"):
            source = _random_access(path)
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            return list((pa.ipc.open_file if is_file else pa.ipc.open_stream)(source).schema.names)
        if suffix in (".csv", ".tsv"):
            layout = Layout("," if suffix == ".csv" else "\t")
            with storage.open_input(path) as file:
                for cut in cutting.delimited(_without_mark(cutting.blocks(file)), layout.delimiter, layout.quoted):
                    return _header(path, cut, layout)
            return []
        if suffix not in FORMATS:
            raise InputError(f"{path}: unknown format {suffix!r}; {nearest(suffix, FORMATS)}")
        names: dict[str, None] = {}
        for cut in _json_cuts(path, as_lines=suffix != ".json"):
            for index in range(min(len(cut.starts), 1000)):
                names.update(dict.fromkeys(_object(cut.row(index), cut.fault)[0] or ()))
            break
        return list(names)
    except (Unreadable, *_DAMAGE) as error:
        raise _stopped(path, 0, error) from error


def _stopped(path: str, row: int, error: Exception) -> InputError:
    if isinstance(error, Unreadable):
        return InputError(f"{path}: cannot be read beyond its first {row} rows: {error}")
    what = f"{type(error).__name__}: {error}"
    if not storage.is_local(path) and (isinstance(error, OSError) or not _is_damage(error)):
        return Unreachable(f"{path}: could not be read beyond its first {row} rows ({what}); {RESUME}")
    return InputError(f"{path}: truncated or damaged after its first {row} rows ({what}); fetch it again")


# JSON


def _json(path: str, columns: pa.Schema, optional: Collection[str], as_lines: bool) -> Iterator[pa.Table]:
    row = 0
    for cut in _json_cuts(path, as_lines):
        table = _parse_json(cut, columns)
        if table is None:
            table = _parse_json_slowly(cut, columns)
        if row == 0:
            _check_json_columns(path, cut, table, [name for name in columns.names if name not in optional])
        yield _numbered(table, row)
        row += table.num_rows


def _json_cuts(path: str, as_lines: bool) -> Iterator[Cut]:
    with storage.open_input(path) as file:
        blocks = cutting.blocks(file)
        first = next(blocks, None)
        if first is None:
            return
        if first.startswith(b"\xef\xbb\xbf"):
            first = first[3:]
        whole = _chain(first, blocks)
        yield from cutting.lines(whole) if as_lines or _is_lines(first) else cutting.elements(whole)


def _chain(first: bytearray, rest: Iterator[bytearray]) -> Iterator[bytearray]:
    yield first
    yield from rest


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


def _parse_json(cut: Cut, columns: pa.Schema) -> pa.Table | None:
    """The rows by Arrow's parser, or None where it does not take every one of them."""
    data = np.frombuffer(cut.data, np.uint8)
    rows = len(cut.starts)
    # Arrow (26) crashes on a block that opens with `null`, reads two objects on one line as two rows, and one over two
    # lines as one. A row that opens and closes with a brace, and as many rows as there are lines, excludes all three.
    if cut.fault or not rows or (data[cut.starts] != ord("{")).any() or (data[cut.ends - 1] != ord("}")).any():
        return None
    if not _is_utf8(cut.data):  # Arrow's parser does not look
        return None
    try:
        table = pa.json.read_json(
            pa.BufferReader(cut.data),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=len(cut.data) + 1),
            parse_options=pa.json.ParseOptions(explicit_schema=columns, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    if table.num_rows != rows:
        return None
    return _with_faults(table.select(columns.names).cast(columns), None, None)


def _is_utf8(data: bytes | bytearray) -> bool:
    offsets = pa.py_buffer(np.array([0, len(data)], np.int32))
    try:
        pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(data)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


class _Number(str):
    """A number as the file spells it."""


_DECODER = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_Number)


def _object(line: bytes, fault: str | None) -> tuple[Any, str | None]:
    """The object on a line, or None and why not."""
    if fault:
        return None, fault
    try:
        value = _DECODER.decode(line.decode())
        if b"\\ud" in line.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is legal JSON, but no text
    except UnicodeError:
        return None, "invalid_utf8"
    except (ValueError, RecursionError):
        return None, "broken_json"
    return (value, None) if isinstance(value, dict) else (None, "not_an_object")


def _parse_json_slowly(cut: Cut, columns: pa.Schema) -> pa.Table:
    """The rows one by one: for a block that Arrow refuses."""
    values: dict[str, list[Any]] = {name: [] for name in columns.names}
    faults: list[str | None] = []
    broken: list[str | None] = []
    for index in range(len(cut.starts)):
        line = cut.row(index)
        if not line.strip():
            continue
        value, fault = _object(line, cut.fault)
        fitted: dict[str, Any] = {}
        if value is not None:
            try:
                fitted = {field.name: _fit(value.get(field.name), field.type) for field in columns}
            except TypeError:
                fault = "wrong_type"
        for name in columns.names:
            values[name].append(fitted.get(name) if fault is None else None)
        faults.append(fault)
        broken.append(_readable(line) if fault else None)
    arrays = [pa.array(values[field.name], field.type) for field in columns]
    return _with_faults(pa.table(arrays, schema=columns), faults, broken)


def _readable(line: bytes) -> str:
    return line[: cutting.KEPT_OF_FAULT].decode(errors="replace")


def _fit(value: Any, wanted: pa.DataType) -> Any:
    """A JSON value as a value of the type. Errors: TypeError where it is another kind of thing."""
    if value is None:
        return None
    if pa.types.is_list(wanted):
        if not isinstance(value, list):
            raise TypeError
        return [_fit(item, wanted.value_type) for item in value]
    if pa.types.is_struct(wanted):
        if not isinstance(value, dict):
            raise TypeError
        return {
            wanted.field(i).name: _fit(value.get(wanted.field(i).name), wanted.field(i).type)
            for i in range(wanted.num_fields)
        }
    assert pa.types.is_string(wanted), f"JSON is read as text, not as {wanted}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str(value)
    raise TypeError


def _check_json_columns(path: str, cut: Cut, table: pa.Table, required: Sequence[str]) -> None:
    """Look for a column that is null throughout the first block in its rows. Errors: InputError where none has it."""
    suspects = [name for name in required if table[name].null_count == table.num_rows]
    if not suspects:
        return
    seen: dict[str, None] = {}
    for index in range(min(len(cut.starts), 1000)):
        value, _ = _object(cut.row(index), cut.fault)
        seen.update(dict.fromkeys(value or ()))
    for name in suspects:
        if seen and name not in seen:
            raise _missing(path, name, seen)


def _missing(path: str, name: str, there: Collection[str]) -> InputError:
    close = nearest(name, there)
    hint = f"; {close}" if close.startswith("did") else ""
    return InputError(f"{path}: no column {name!r} (the file has: {', '.join(there)}){hint}")


# CSV and TSV


def _delimited(path: str, columns: pa.Schema, optional: Collection[str], layout: Layout) -> Iterator[pa.Table]:
    with storage.open_input(path) as file:
        yield from _delimited_in(path, file, columns, optional, layout)


def _delimited_in(
    path: str, file: BinaryIO, columns: pa.Schema, optional: Collection[str], layout: Layout
) -> Iterator[pa.Table]:
    assert all(pa.types.is_string(field.type) for field in columns), "a delimited file holds text"
    names = list(layout.names) if layout.names else []
    row = 0
    for cut in cutting.delimited(_without_mark(cutting.blocks(file)), layout.delimiter, layout.quoted):
        if not names:
            names = _header(path, cut, layout)
            _check_columns(path, names, columns, optional)
            cut = _without_first(cut)
            if not len(cut.starts):
                continue
        table = _parse_delimited(cut, names, columns, layout)
        yield _numbered(table, row)
        row += table.num_rows


def _without_mark(blocks: Iterator[bytearray]) -> Iterator[bytearray]:
    for index, block in enumerate(blocks):
        yield block[3:] if index == 0 and block.startswith(b"\xef\xbb\xbf") else block


def _header(path: str, cut: Cut, layout: Layout) -> list[str]:
    names = _fields(cut.row(0).decode(errors="replace"), layout)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: two columns are called {twice[0]!r} in its first line")
    return names


def _fields(line: str, layout: Layout) -> list[str]:
    if not layout.quoted:
        return line.split(layout.delimiter)
    return next(csv.reader(io.StringIO(line, newline=""), delimiter=layout.delimiter))


def _check_columns(path: str, there: Sequence[str], columns: pa.Schema, optional: Collection[str]) -> None:
    for name in columns.names:
        if name not in there and name not in optional:
            raise _missing(path, name, there)


def _without_first(cut: Cut) -> Cut:
    assert cut.fields is not None
    start = int(cut.starts[1]) if len(cut.starts) > 1 else len(cut.data)
    return Cut(cut.data[start:], cut.starts[1:] - start, cut.ends[1:] - start, cut.fields[1:])


def _parse_delimited(cut: Cut, names: list[str], columns: pa.Schema, layout: Layout) -> pa.Table:
    assert cut.fields is not None
    good = cut.fields == len(names)
    if good.all() and _is_utf8(cut.data):
        table = _parse_csv(cut.data, len(cut.starts), names, columns, layout)
        if table is not None:
            return _with_faults(table, None, None)
    # Row by row: some row of this block is not what its neighbours are.
    values: dict[str, list[str | None]] = {name: [] for name in columns.names}
    faults: list[str | None] = []
    broken: list[str | None] = []
    for index in range(len(cut.starts)):
        line, fault, fields = cut.row(index), None, None
        try:
            fields = _fields(line.decode(), layout)
            fault = None if len(fields) == len(names) else "wrong_columns"
        except UnicodeDecodeError:
            fault = "invalid_utf8"
        except csv.Error:
            fault = "wrong_columns"
        found = dict(zip(names, fields, strict=True)) if fields is not None and fault is None else {}
        for name in columns.names:
            values[name].append(found.get(name))
        faults.append(fault)
        broken.append(_readable(line) if fault else None)
    return _with_faults(
        pa.table([pa.array(values[name], pa.string()) for name in columns.names], schema=columns), faults, broken
    )


def _parse_csv(data: bytearray, rows: int, names: list[str], columns: pa.Schema, layout: Layout) -> pa.Table | None:
    there = [name for name in columns.names if name in names]
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(data),
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
            parse_options=pa.csv.ParseOptions(
                delimiter=layout.delimiter, quote_char='"' if layout.quoted else False, newlines_in_values=layout.quoted
            ),
            convert_options=pa.csv.ConvertOptions(
                include_columns=there,
                column_types={name: pa.string() for name in there},
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != rows:
        return None
    return _select(table, columns)


def _select(table: pa.Table, columns: pa.Schema) -> pa.Table:
    """The columns asked for, null where there is none."""
    there = set(table.column_names)
    arrays = [table[field.name] if field.name in there else pa.nulls(table.num_rows, field.type) for field in columns]
    return pa.table(arrays, schema=columns)


# Parquet and Arrow


def _columnar(path: str, columns: pa.Schema, optional: Collection[str], batches: Any) -> Iterator[pa.Table]:
    row = 0
    with _random_access(path) as source:
        for batch in batches(path, source, columns, optional):
            table = _as_asked(path, batch, columns)
            yield _numbered(table, row)
            row += table.num_rows


def _random_access(path: str) -> pa.NativeFile:
    """The file as one that can be read from anywhere: mapped where it lies here, asked for block by block elsewhere.

    In memory only where it is compressed as a whole, which Parquet and Arrow files are not meant to be.
    """
    if not path.lower().endswith((".gz", ".zst", ".bz2")) and storage.size(path) > 0:
        if storage.is_local(path):
            return pa.BufferReader(pa.py_buffer(storage.memory_mapped(path.removeprefix("file://"))))
        return storage.open_remote(path)
    with storage.open_input(path) as file:
        return pa.BufferReader(file.read())


def _parquet_batches(
    path: str, source: pa.NativeFile, columns: pa.Schema, optional: Collection[str]
) -> Iterator[pa.RecordBatch]:
    # Mapped pages cost nothing; of a remote file a block of each column is held, not a whole row group.
    file = pq.ParquetFile(source, buffer_size=0 if storage.is_local(path) else storage.REMOTE_BLOCK, pre_buffer=False)
    names = file.schema_arrow.names
    _check_columns(path, names, columns, optional)
    there = [name for name in columns.names if name in names]
    widest = max((_row_bytes(file.metadata.row_group(i)) for i in range(file.metadata.num_row_groups)), default=1.0)
    rows = int(min(max(BATCH_BYTES / max(widest, 1.0), 64), 65536))
    yield from file.iter_batches(batch_size=rows, columns=there, use_threads=False)


def _row_bytes(group: Any) -> float:
    return float(group.total_byte_size / max(group.num_rows, 1))


def _arrow_batches(
    path: str, source: pa.NativeFile, columns: pa.Schema, optional: Collection[str]
) -> Iterator[pa.RecordBatch]:
    if source.size() == 0:
        raise pa.ArrowInvalid("the file is empty")
    magic = source.read(6)
    source.seek(0)
    if magic == b"ARROW1":
        file = pa.ipc.open_file(source)
        _check_columns(path, file.schema.names, columns, optional)
        batches = (file.get_batch(index) for index in range(file.num_record_batches))
    else:  # what the `datasets` library writes
        stream = pa.ipc.open_stream(source)
        _check_columns(path, stream.schema.names, columns, optional)
        batches = iter(stream)
    for batch in batches:
        rows = int(min(max(BATCH_BYTES / max(batch.nbytes / max(batch.num_rows, 1), 1), 64), 65536))
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def _as_asked(path: str, batch: pa.RecordBatch, columns: pa.Schema) -> pa.Table:
    """The columns as the types asked for, with a fault where a row's bytes are no text."""
    arrays = []
    bad = np.zeros(batch.num_rows, bool)
    for field in columns:
        if field.name not in batch.schema.names:
            arrays.append(pa.nulls(batch.num_rows, field.type))
            continue
        array = batch.column(field.name)
        if pa.types.is_string(field.type):
            array, wrong = _as_text(path, field.name, array)
            bad |= wrong
        else:
            try:
                array = array.cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
                raise InputError(f"{path}: column {field.name!r} is {array.type}, not {field.type}") from error
            if not _validates(array):  # inside a list the row is not worth finding: it is the writer that is broken
                raise InputError(f"{path}: column {field.name!r} holds bytes that are not UTF-8")
        arrays.append(array)
    table = pa.table(arrays, schema=columns)
    if not bad.any():
        return _with_faults(table, None, None)
    faults = pc.if_else(pa.array(bad), "invalid_utf8", pa.scalar(None, pa.string()))
    shown = pc.coalesce(*(column for column in table.columns if pa.types.is_string(column.type)), "")
    cleared = [pc.if_else(pa.array(bad), pa.scalar(None, column.type), column) for column in table.columns]
    return _with_faults(
        pa.table(cleared, schema=columns), faults, pc.if_else(pa.array(bad), shown, pa.scalar(None, pa.string()))
    )


def _as_text(path: str, name: str, array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """A column as text, and which of its rows are not UTF-8 (replaced by what can be read of them)."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_nested(kind) or pa.types.is_fixed_size_binary(kind):
        raise InputError(
            f"{path}: column {name!r} is {kind}, not text; a conversation is read by `columns: {{messages: {name}}}`"
        )
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        array = array.cast(pa.string())
    elif pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        array = array.cast(pa.binary())
    if pa.types.is_binary(array.type):
        array = array.view(pa.string())
    if not pa.types.is_string(array.type):
        return array.cast(pa.string()), np.zeros(len(array), bool)
    if _validates(array):
        return array, np.zeros(len(array), bool)
    wrong = np.zeros(len(array), bool)
    values: list[str | None] = []
    for index, item in enumerate(array.view(pa.binary()).to_pylist()):
        try:
            values.append(None if item is None else item.decode())
        except UnicodeDecodeError:
            wrong[index] = True
            values.append(_readable(item))
    return pa.array(values, pa.string()), wrong


def _validates(array: pa.Array) -> bool:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _with_faults(table: pa.Table, faults: Any, broken: Any) -> pa.Table:
    """Put FAULT and BROKEN before the columns; None for both where every row was read."""
    first = pa.nulls(table.num_rows, pa.string()) if faults is None else pa.array(faults, pa.string())
    second = pa.nulls(table.num_rows, pa.string()) if broken is None else pa.array(broken, pa.string())
    return table.add_column(0, BROKEN, second).add_column(0, FAULT, first)


def _numbered(table: pa.Table, first: int) -> pa.Table:
    return table.add_column(0, ROW, pa.array(np.arange(first, first + table.num_rows)))
