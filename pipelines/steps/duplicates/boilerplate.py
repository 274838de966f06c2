"""Which shingles of instructions do so many rows share that they say nothing about what a row asks?

Preambles, tool descriptions, definitions and few-shot examples make different questions look alike. Rows are sampled by
their id, so neither shards nor their order matter: all rows of a small corpus, and at least one in MAX_SAMPLING. A
shingle is boilerplate if at least MIN_ROWS rows of the corpus have it, by the sample, and at least MIN_SAMPLED rows of
the sample.
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
from pipelines.recipe import TextField
from pipelines.steps.duplicates.ranges import (
    ALL_KEYS,
    KeyRange,
    concat_columns,
    key_ranges,
    tables_in_range,
    tables_of,
)

FIELD: TextField = "instruction"
"""The field whose boilerplate does not count."""
MIN_ROWS = 100
"""Rows of the corpus from which on a shingle is boilerplate. Of a text with as many edited copies, some stay."""
MIN_SAMPLED = 16
"""Rows of the sample from which on a shingle is boilerplate."""
SAMPLED_ROWS, MAX_SAMPLING = 1 << 13, 64
"""About so many rows are sampled, but at least one in MAX_SAMPLING."""

_32 = np.uint64(32)


def find_boilerplate(
    context: StepContext, shards: Sequence[TableRef], banding: Banding, keys_per_task: int
) -> tuple[TableRef, ...]:
    """Files with the boilerplate of FIELD: (hash uint32)."""
    rows = sum(shard.rows for shard in shards)
    if rows < MIN_ROWS:
        return ()
    sampling = max(1, min(rows // SAMPLED_ROWS, MAX_SAMPLING))
    least = max(-(-MIN_ROWS // sampling), MIN_SAMPLED)
    counted = context.map(functools.partial(_count_shard, banding, sampling), shards, "frequencies")
    ranges = key_ranges(sum(task.counts["shingles"] for task in counted), keys_per_task)
    select = functools.partial(_select_range, tables_of(counted, "frequencies"), least)
    return tables_of(context.map(select, ranges, "boilerplate"), "boilerplate")


def read_boilerplate(files: Sequence[TableRef]) -> Hashes:
    """The boilerplate in these files."""
    return np.asarray(concat_columns(list(tables_in_range(files, ALL_KEYS)), "hash", np.uint32), np.uint32)


def _count_shard(banding: Banding, sampling: int, shard: TableRef, target: Target) -> Part:
    """Product `frequencies` (key uint64, rows uint32), sorted by key: of each shingle, how many sampled rows have it.

    key: the shingle in the high 32 bits. Count: `shingles`.
    """
    ids = as_array(storage.read_parquet(shard.path, ["id"])["id"])
    sampled = np.flatnonzero(exact.halves(exact.digest128(ids))[:, 0] % np.uint64(sampling) == 0)
    text = as_array(storage.read_parquet(shard.path, [FIELD], pa.array(sampled))[FIELD])
    counted = count_values(shingle_sets(shingle_hashes(text, banding.ngram, banding.unit)).hash)
    table = pa.table({"key": counted.hash.astype(np.uint64) << _32, "rows": counted.rows.astype(np.uint32)})
    file = storage.write_arrow(target.path("frequencies", ".arrow"), table)
    return part(frequencies=file, counts={"shingles": table.num_rows})


def _select_range(files: Sequence[TableRef], least: int, key_range: KeyRange, target: Target) -> Part:
    """Product `boilerplate` (hash uint32): the shingles of a range that `least` rows of the sample have."""
    tables = list(tables_in_range(files, key_range))
    key, rows = concat_columns(tables, "key", np.uint64), concat_columns(tables, "rows", np.uint32)
    by_key = argsort(key)
    key, rows = key[by_key], rows[by_key].astype(np.int64)
    first = np.flatnonzero(np.concatenate([np.ones(min(len(key), 1), np.bool_), key[1:] != key[:-1]]))
    totals = np.add.reduceat(rows, first) if len(first) else rows
    hashes = (key[first][totals >= least] >> _32).astype(np.uint32)
    return part(boilerplate=storage.write_arrow(target.path("boilerplate", ".arrow"), pa.table({"hash": hashes})))
