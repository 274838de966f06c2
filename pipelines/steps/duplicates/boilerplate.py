"""Which shingles do so many rows share that they say nothing about what a row asks?

Rows are sampled by their id, so neither shards nor their order matter. At most one row in MAX_SAMPLING is read, and
all rows of a small corpus. A shingle is boilerplate if at least MIN_ROWS rows of the corpus have it, by the sample, and
at least MIN_SAMPLED rows of the sample.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from dedup import exact
from dedup.columns import as_array
from dedup.frequent import Hashes, count_values
from dedup.probability import Banding
from dedup.shingles import shingle_hashes
from dedup.similarity import shingle_sets
from dedup.sorting import argsort
from pipelines.ledger import storage
from pipelines.ledger.manifest import Part, part
from pipelines.ledger.run import StepContext, Target
from pipelines.ledger.storage import TableRef
from pipelines.steps.duplicates.criteria import Criteria
from pipelines.steps.duplicates.ranges import (
    ALL_KEYS,
    KeyRange,
    column_values,
    key_ranges,
    tables_in_range,
    tables_of,
)

MIN_ROWS = 100
"""Rows of the corpus from which on a shingle is boilerplate. A text with this many edited copies keeps some of them."""
MIN_SAMPLED = 16
"""Rows of the sample from which on a shingle is boilerplate."""
SAMPLED_ROWS, MAX_SAMPLING = 1 << 13, 64
"""About so many rows are sampled, but at least one in MAX_SAMPLING."""

FIELD_MASKS = (0, 0x9E3779B9)
"""XORed to the shingles of each field, so that equal shingles of two fields are different."""

_32 = np.uint64(32)


def find_boilerplate(
    context: StepContext, shards: Sequence[TableRef], criteria: Criteria, banding: Banding, keys_per_task: int
) -> tuple[TableRef, ...]:
    """Files with the boilerplate of all fields: (hash uint32), masked by FIELD_MASKS."""
    rows = sum(shard.rows for shard in shards)
    if rows < MIN_ROWS:
        return ()
    sampling = max(1, min(rows // SAMPLED_ROWS, MAX_SAMPLING))
    least = max(-(-MIN_ROWS // sampling), MIN_SAMPLED)
    count = functools.partial(_count_shard, criteria, banding, sampling)
    counted = context.map(count, shards, "frequencies")
    ranges = key_ranges(sum(task.counts["shingles"] for task in counted), keys_per_task)
    select = functools.partial(_select_range, tables_of(counted, "frequencies"), least)
    return tables_of(context.map(select, ranges, "boilerplate"), "boilerplate")


def read_boilerplate(files: Sequence[TableRef]) -> Hashes:
    """The boilerplate in these files."""
    tables = tables_in_range(files, ALL_KEYS)
    return np.concatenate([np.empty(0, np.uint32), *(column_values(table, "hash") for table in tables)])


def _count_shard(criteria: Criteria, banding: Banding, sampling: int, shard: TableRef, target: Target) -> Part:
    """Product `frequencies` (key uint64, rows uint32), sorted by key: of each shingle, how many sampled rows have it.

    key: the shingle in the high 32 bits. Count: `shingles`.
    """
    records = storage.read_parquet(shard.path, ["id", *criteria.fields])
    sampled = exact.halves(exact.digest128(as_array(records["id"])))[:, 0] % np.uint64(sampling) == 0
    hashes = [np.empty(0, np.uint32)]
    for name, mask in zip(criteria.fields, FIELD_MASKS, strict=False):
        text = as_array(records[name]).filter(pa.array(sampled))
        hashes.append(shingle_sets(shingle_hashes(text, banding.ngram, banding.unit)).hash ^ np.uint32(mask))
    counted = count_values(np.concatenate(hashes))
    table = pa.table({"key": counted.hash.astype(np.uint64) << _32, "rows": counted.rows.astype(np.uint32)})
    file = storage.write_arrow(target.path("frequencies", ".arrow"), table)
    return part(frequencies=file, counts={"shingles": table.num_rows})


def _select_range(files: Sequence[TableRef], least: int, key_range: KeyRange, target: Target) -> Part:
    """Product `boilerplate` (hash uint32): the shingles of a range that `least` rows of the sample have."""
    tables = [
        (column_values(t, "key").copy(), column_values(t, "rows").copy()) for t in tables_in_range(files, key_range)
    ]
    key = np.concatenate([np.empty(0, np.uint64), *(keys for keys, _ in tables)])
    count = np.concatenate([np.empty(0, np.uint32), *(counts for _, counts in tables)])
    by_key = argsort(key)
    key, count = key[by_key], count[by_key].astype(np.int64)
    first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else np.empty(0, np.int64)
    totals = np.add.reduceat(count, first) if len(first) else count
    hashes = (key[first][totals >= least] >> _32).astype(np.uint32)
    return part(boilerplate=storage.write_arrow(target.path("boilerplate", ".arrow"), pa.table({"hash": hashes})))
