"""What does the first phase leave for each shard, and how is a row found in it by number?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup import similarity
from dedup.buckets import Rows
from dedup.similarity import Sets
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.storage import TableRef
from pipelines.steps.duplicates.ranges import (
    KeyRange,
    Keys,
    column_values,
    damaged,
    list_column,
    map_file,
    tables_in_range,
    tables_of,
)


class ShardFiles(NamedTuple):
    """The files of the first phase.

    keys: for each shard, or group of shards (key uint64, row, ...), sorted by key. spans: for each of them what is
    added to its column `row`, and the number after that of its last row. rows: for each shard the deciding columns of
    its rows in order, and for near-duplicates `words`, the digest of all words, and `shingles_0` (and `shingles_1`),
    the shingle sets of the compared fields. starts: the number of the first row of each shard, and last the number of
    all rows. previous_rows: how many of the first rows belong to earlier runs.
    """

    keys: tuple[TableRef, ...]
    spans: tuple[tuple[int, int], ...]
    rows: tuple[TableRef, ...]
    starts: tuple[int, ...]
    previous_rows: int


def shards_to_read(against: Sequence[Manifest], records: Manifest) -> list[TableRef]:
    """The shards of earlier runs, then those of this run."""
    return [shard for manifest in (*against, records) for shard in manifest.shards]


def shard_files(parts: Sequence[Part], shards: Sequence[TableRef], against: Sequence[Manifest]) -> ShardFiles:
    """The files of the first phase. parts: with the products `keys` and `rows`, one for each shard."""
    starts = np.concatenate([[0], np.cumsum([shard.rows for shard in shards], dtype=np.int64)]).tolist()
    return ShardFiles(
        tables_of(parts, "keys"),
        tuple(pairwise(starts)),
        tables_of(parts, "rows"),
        tuple(starts),
        sum(manifest.rows_kept or 0 for manifest in against),
    )


def keys_in_range(
    files: ShardFiles, key_range: KeyRange, column: str, dtype: type[np.generic]
) -> tuple[Keys, npt.NDArray[Any], Rows]:
    """The keys in a range over all shards, uint64 [n]; another `column` of the key files; the numbers of their rows.

    dtype: of `column`.

    Raises: CheckFailed: if a file is damaged.
    """
    pieces = [(np.empty(0, np.uint64), np.empty(0, dtype), np.empty(0, np.int64))]
    tables = tables_in_range(files.keys, key_range)
    for file, (start, end), table in zip(files.keys, files.spans, tables, strict=True):
        rows = column_values(table, "row").astype(np.int64) + start
        if len(rows) and rows.max() >= max(end, start):
            raise damaged(file, "it has row numbers that its shard does not have")
        pieces.append((column_values(table, "key").copy(), column_values(table, column).copy(), rows))
    keys, values, rows = (np.concatenate(columns) for columns in zip(*pieces, strict=True))
    return keys, values, rows


def _by_shard(files: ShardFiles, rows: Rows) -> list[tuple[int, slice, Rows]]:
    """The shards that contain any of rows int64 [n], ascending: shard, slice of `rows`, row numbers in the shard."""
    borders = np.searchsorted(rows, np.array(files.starts, np.int64))
    return [
        (shard, slice(first, end), rows[first:end] - files.starts[shard])
        for shard, (first, end) in enumerate(pairwise(borders.tolist()))
        if end > first
    ]


def preferences_of(files: ShardFiles, rows: Rows, columns: Sequence[str]) -> pa.Table:
    """The given deciding columns of rows int64 [n], ascending, and `previous` int8: 1 for rows of earlier runs."""
    types = {
        "priority": pa.int64(),
        "score": pa.float64(),
        "length": pa.int64(),
        "id": pa.string(),
        "words": pa.uint64(),
    }
    schema = pa.schema([(name, types[name]) for name in columns])
    pieces = [
        map_file(files.rows[shard]).select(list(columns)).take(pa.array(local))
        for shard, _, local in _by_shard(files, rows)
    ]
    table = pa.concat_tables([schema.empty_table(), *pieces]).combine_chunks()
    return table.append_column("previous", pa.array((rows < files.previous_rows).astype(np.int8)))


def shingle_sets_of(files: ShardFiles, rows: Rows, rank: Rows, fields: int) -> Sets:
    """The shingle sets of rows int64 [n], ascending, in the order of their rank int64 [n]: `fields` sets for each row,
    one after another.

    Copies each set once and maps one file at a time. With all files mapped, the resident memory of a task would grow to
    the shingles of the whole corpus.
    """
    sizes = np.zeros(len(rows) * fields + 1, np.int64)
    for shard, span, local in _by_shard(files, rows):
        table = map_file(files.rows[shard])
        for field in range(fields):
            _, offsets = list_column(table, f"shingles_{field}")
            sizes[rank[span] * fields + field + 1] = (offsets[1:] - offsets[:-1])[local]
    starts = np.cumsum(sizes)
    hashes = np.empty(starts[-1], np.uint32)
    for shard, span, local in _by_shard(files, rows):
        table = map_file(files.rows[shard])
        for field in range(fields):
            sets = Sets(*list_column(table, f"shingles_{field}"))
            similarity.gather(sets, local, starts[rank[span] * fields + field], hashes)
    return Sets(hashes, starts)
