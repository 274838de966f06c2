"""Which rows share a band key, and which pairs of them are at or above the threshold?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from dedup.buckets import Buckets, buckets_with, concat_buckets, distinct_buckets, group_by_key, renumber, without_rows
from dedup.sorting import argsort, unique_inverse
from dedup.survivors import compare_buckets
from pipelines.ledger import storage
from pipelines.ledger.manifest import Part, part
from pipelines.ledger.run import Target
from pipelines.ledger.storage import TableRef
from pipelines.steps.duplicates.criteria import PREFERENCES, inverse_permutation, survivor_order
from pipelines.steps.duplicates.ranges import (
    ALL_KEYS,
    KeyRange,
    check_files,
    jaccard_array,
    list_column,
    map_file,
    sort_by_key,
    spread_keys,
    tables_in_range,
)
from pipelines.steps.duplicates.shards import ShardFiles, keys_in_range, preferences_of, shingle_sets_of
from pipelines.steps.duplicates.survivors import decision_of, rows_to_recheck

FILES_PER_RECHECK = 8
"""Bucket files that one task searches for buckets to compare again. Few of their buckets are, so one file would be too
little work for a task."""


def group_range(files: ShardFiles, key_range: KeyRange, target: Target) -> Part:
    """The buckets of a range of band keys: product `buckets` (members list<int64>, key).

    key: the spread code of the bucket (`dedup.buckets.group_by_key`), which equal buckets share. Count: `members`.
    """
    keys, codes, rows = keys_in_range(files, key_range, "code", np.uint32)
    buckets, least_codes = group_by_key(keys, rows, codes.astype(np.uint32, copy=False))
    key = spread_keys(least_codes.astype(np.int64))
    table = sort_by_key(_table(buckets), key, argsort(key))
    file = storage.write_arrow(target.path("buckets", ".arrow"), table)
    return part(buckets=file, counts={"members": len(buckets.members)})


def compare_range(
    files: ShardFiles,
    keep: Sequence[str],
    thresholds: Sequence[float],
    buckets: Sequence[TableRef],
    key_range: KeyRange,
    target: Target,
) -> Part:
    """Compare the rows of a range of buckets.

    Products: `pairs` (later, earlier, jaccard), and `buckets` (members), each distinct bucket once, for `recheck`.
    Counts: `pairs`, `compared`.
    """
    check_files(files.rows, key_range)
    table = pa.concat_tables(list(tables_in_range(buckets, key_range))).combine_chunks()
    members, offsets = list_column(table, "members")
    first, end = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
    from_zero = (offsets - first).astype(np.int64) if len(offsets) else np.zeros(1, np.int64)
    distinct = distinct_buckets(Buckets(members[first:end].astype(np.int64, copy=False), from_zero))
    pairs, compared = _compare(files, keep, thresholds, distinct)
    return part(
        pairs=storage.write_arrow(target.path("pairs", ".arrow"), pairs),
        buckets=storage.write_arrow(target.path("buckets", ".arrow"), _table(distinct)),
        counts={"pairs": pairs.num_rows, "compared": compared},
    )


def recheck(
    files: ShardFiles,
    keep: Sequence[str],
    thresholds: Sequence[float],
    buckets: Sequence[TableRef],
    decisions: Sequence[Sequence[TableRef]],
    key_range: KeyRange,
    target: Target,
) -> Part:
    """Compare again the kept rows of those buckets that contain a row that needs a recheck since the last round.

    buckets: the files of `compare_range`; this task reads its share of them. decisions: of each round so far. Product:
    `pairs`. Counts: `pairs`, `compared`.
    """
    check_files(files.rows, key_range)
    tables = tables_in_range(buckets[key_range.task :: key_range.tasks], ALL_KEYS)
    pairs, compared = _compare(files, keep, thresholds, _to_recheck(tables, decisions, key_range))
    file = storage.write_arrow(target.path("pairs", ".arrow"), pairs)
    return part(pairs=file, counts={"pairs": pairs.num_rows, "compared": compared})


def _to_recheck(tables: Iterator[pa.Table], decisions: Sequence[Sequence[TableRef]], key_range: KeyRange) -> Buckets:
    """The kept rows of the buckets that contain a row to recheck. All other kept rows of a bucket were compared with
    each other already."""
    for round_files in decisions:
        check_files(round_files, key_range)
    marked = np.sort(np.concatenate([rows_to_recheck(map_file(file)) for file in decisions[-1]]))
    buckets = concat_buckets([buckets_with(Buckets(*list_column(table, "members")), marked) for table in tables])
    rows, members = unique_inverse(buckets.members)
    removed = decision_of(rows, decisions)[0] >= 0
    kept = without_rows(Buckets(members, buckets.offsets), removed)
    return Buckets(rows[kept.members], kept.offsets)


def _compare(
    files: ShardFiles, keep: Sequence[str], thresholds: Sequence[float], buckets: Buckets
) -> tuple[pa.Table, int]:
    """The pairs of these buckets (later, earlier int64, jaccard), and how many pairs of rows were compared."""
    rows, members = unique_inverse(buckets.members)
    by_rank = survivor_order(preferences_of(files, rows, PREFERENCES), keep)
    rank = inverse_permutation(by_rank)
    ranked = renumber(Buckets(members, buckets.offsets), rank)
    always_kept = int(np.searchsorted(rows, files.previous_rows))
    pairs, compared = compare_buckets(
        ranked, shingle_sets_of(files, rows, rank, len(thresholds)), thresholds, always_kept
    )
    by_rank = rows[by_rank]
    table = {"later": by_rank[pairs.later], "earlier": by_rank[pairs.earlier], "jaccard": jaccard_array(pairs.jaccard)}
    return pa.table(table), compared


def _table(buckets: Buckets) -> pa.Table:
    lists = pa.ListArray.from_arrays(pa.array(buckets.offsets, pa.int32()), pa.array(buckets.members))
    return pa.table({"members": lists})
