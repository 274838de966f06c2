"""Which part of the files between two phases does a task read? Those rows whose 64-bit key lies in its range."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.buckets import Rows
from dedup.columns import as_array
from pipelines.errors import CheckFailed, InputError
from pipelines.ledger import storage
from pipelines.ledger.arrow_file import ArrowFile
from pipelines.ledger.manifest import Part
from pipelines.ledger.run import WORK
from pipelines.ledger.storage import TableRef

Keys = npt.NDArray[np.uint64]
"""64-bit keys that files are sorted by: digests, band keys, or row numbers that were spread by `spread_keys`."""

FIBONACCI_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2**64 / golden ratio, odd. Multiplication by it spreads consecutive integers evenly (Knuth, TAOCP 6.4)."""


class TaskSizes(NamedTuple):
    """Average input of one task: bounds a worker's memory. The number of tasks follows from the corpus alone.

    keys: of 20 bytes, 70 while they are sorted. members: rows of buckets, each with its shingles (4 bytes a token).
    pairs: of 16 bytes and 4 for each field, and the deciding columns of their rows. opens: files that all tasks of a
    phase open together; if there are more, key files are merged before (`merging`).
    """

    keys: int = 1 << 22
    members: int = 1 << 20
    pairs: int = 1 << 21
    opens: int = 1_000_000


TASK_SIZES = TaskSizes()


class KeyRange(NamedTuple):
    """The keys of one task: from `low` to `high`, both included. It is task number `task` of `tasks`."""

    low: int
    high: int
    task: int
    tasks: int


ALL_KEYS = KeyRange(0, (1 << 64) - 1, 0, 1)


def key_ranges(items: int, per_task: int) -> list[KeyRange]:
    """Equal ranges that together cover all 64-bit keys, one for each `per_task` of `items`; at least one."""
    tasks = max(1, -(-items // per_task))
    return [KeyRange((i << 64) // tasks, ((i + 1 << 64) // tasks) - 1, i, tasks) for i in range(tasks)]


def spread_keys(numbers: npt.NDArray[np.int64]) -> Keys:
    """Keys uint64 [n] of numbers int64 [n], distinct for distinct numbers, such that equal ranges of keys hold about
    equally many."""
    return (numbers.astype(np.uint64) + np.uint64(1)) * FIBONACCI_MULTIPLIER


def tables_in_range(files: Sequence[TableRef], key_range: KeyRange) -> Iterator[pa.Table]:
    """The rows of each file whose column `key` lies in the range. Files are sorted by `key`.

    Yields one memory-mapped table at a time. Copy what you need before advancing. Of a remote file, or one of several
    batches, only the rows of the range are read.

    Raises: CheckFailed: if a file is damaged.
    """
    check_files(files, key_range)
    for file in files:
        if key_range.tasks > 1 and not storage.is_local(file.path):
            yield _rows_in_range(file, key_range)
            continue
        table = map_file(file)
        if key_range.tasks > 1 and table["key"].num_chunks > 1:
            yield _rows_in_range(file, key_range)
            continue
        if key_range.tasks > 1:
            keys = column_values(table, "key")
            first = int(np.searchsorted(keys, np.uint64(key_range.low), "left"))
            end = int(np.searchsorted(keys, np.uint64(key_range.high), "right"))
            table = table.slice(first, end - first)
        yield table


PROBED_KEYS = 8192
"""Keys of a remote file that are read at a time to find where a range begins."""


def _rows_in_range(file: TableRef, key_range: KeyRange) -> pa.Table:
    try:
        opened = ArrowFile(file.path, file.bytes)
        first = _first_row(opened, key_range.low)
        end = opened.rows if key_range.high == ALL_KEYS.high else _first_row(opened, key_range.high + 1)
        return opened.read(first, end)
    except (InputError, OSError) as error:
        raise damaged(file, "cannot be read") from error


def _first_row(file: ArrowFile, key: int) -> int:
    """The first row whose key is at least `key`; the number of rows if there is none.

    Keys are spread evenly, so a guess is close: mostly one read is enough. Each further one halves what is left.
    """
    low, high, guess = 0, file.rows, key * file.rows >> 64
    while low < high:
        start = max(low, min(guess - PROBED_KEYS // 2, high - PROBED_KEYS))
        end = min(high, start + PROBED_KEYS)
        keys = column_values(file.read(start, end, ["key"]), "key")
        row = start + int(np.searchsorted(keys, np.uint64(key), "left"))
        if row == start:
            high = start
        elif row == end:
            low = end
        else:
            return row
        guess = (low + high) // 2
    return low


def check_files(files: Sequence[TableRef], key_range: KeyRange) -> None:
    """Compare this task's share of the files with their digests.

    Together the tasks of a phase check every file once, and a phase with a failed task is not finished.

    Raises: CheckFailed: if a file is missing or changed.
    """
    for file in files[key_range.task :: key_range.tasks]:
        try:
            digest = storage.digest(file.path)
        except OSError as error:
            raise damaged(file, "cannot be read") from error
        if digest != file.digest:
            raise damaged(file, "its content does not match its recorded digest")


def map_file(file: TableRef) -> pa.Table:
    """A file of an earlier phase, memory-mapped.

    Raises: CheckFailed: if it is missing or truncated.
    """
    try:
        return storage.map_arrow(file.path)
    except (InputError, OSError) as error:
        raise damaged(file, "cannot be read") from error


def damaged(file: TableRef, problem: str) -> CheckFailed:
    """The error for a file that changed after it was written, with the way to repair the step."""
    work_folder = posixpath.join(file.path.rsplit(f"/{WORK}/", 1)[0], WORK)
    repair = f"remove {work_folder} and run the same command again to rebuild this step"
    return CheckFailed(f"{file.path}: {problem}: it was damaged after it was written; {repair}")


def tables_of(parts: Sequence[Part], product: str) -> tuple[TableRef, ...]:
    """The file of a product that each part holds."""
    return tuple(part.table(product) for part in parts)


def column_values(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """A column as a numpy array [rows]; not copied if it has a single chunk of numbers."""
    return np.asarray(as_array(table[name]).to_numpy(zero_copy_only=False))


def concat_columns(tables: Sequence[pa.Table], name: str, dtype: type[np.generic]) -> npt.NDArray[Any]:
    """A column of several tables, one after another. dtype: of the result if there is no table."""
    return np.concatenate([np.empty(0, dtype), *(column_values(table, name) for table in tables)])


def jaccard_array(values: npt.NDArray[np.float32]) -> pa.FixedSizeListArray:
    """Jaccards float32 [rows, fields] as a column: a list of `fields` numbers for each row."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), pa.float32()), values.shape[1])


def jaccard_column(table: pa.Table) -> npt.NDArray[np.float32]:
    """The column `jaccard` as float32 [rows, fields]."""
    values = as_array(table["jaccard"])
    return np.asarray(values.flatten().to_numpy(), np.float32).reshape(len(values), values.type.list_size)


def list_column(table: pa.Table, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The values and the offsets of a list column, not copied if it has a single chunk. Offsets may not start at 0."""
    lists = as_array(table[name])
    return lists.values.to_numpy(), lists.offsets.to_numpy()


def sort_by_key(table: pa.Table, key: Keys, by_key: Rows) -> pa.Table:
    """The rows of a table in the order `by_key` int64 [rows], with their keys uint64 [rows] as the column `key`."""
    return table.take(pa.array(by_key)).append_column("key", pa.array(key[by_key]))
