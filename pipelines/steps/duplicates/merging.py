"""How do many shards meet in many ranges of keys without too many opened files? Groups of shards are merged before.

Every task of a phase reads a range of keys from every key file: shards times tasks. At 22,000 shards and 2,200 tasks
these are 49 million files to open. Merged in groups of the square root of their number, the key files are opened once
each, and the tasks open 149 files each: 0.35 million.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from dedup.sorting import argsort
from pipelines.ledger import storage
from pipelines.ledger.manifest import Part, part
from pipelines.ledger.run import StepContext, Target
from pipelines.steps.duplicates.ranges import TaskSizes, key_ranges, tables_of
from pipelines.steps.duplicates.shards import ShardFiles, keys_in_range


def merged(
    context: StepContext, files: ShardFiles, column: str, dtype: type[np.generic], tasks: int, sizes: TaskSizes
) -> ShardFiles:
    """The same keys in fewer files, if `tasks` tasks that read a range of each would open too many.

    column, dtype: of the key files beside `key` and `row`. The rows of a range are in the same order as before: groups
    are of consecutive shards, and sorting is stable.
    """
    count = len(files.keys)
    if tasks * count <= sizes.opens:
        return files
    size = math.isqrt(count - 1) + 1
    groups = [
        files._replace(keys=files.keys[at : at + size], spans=files.spans[at : at + size], rows=(), starts=())
        for at in range(0, count, size)
    ]
    parts = context.map(functools.partial(_merge, column, dtype, sizes.keys), groups, "merged")
    return files._replace(keys=tables_of(parts, "keys"), spans=tuple((0, group.spans[-1][1]) for group in groups))


def _merge(column: str, dtype: type[np.generic], per_batch: int, group: ShardFiles, target: Target) -> Part:
    """Product `keys` (key, `column`, row int64), in batches by range of keys, so that one is in memory at a time."""
    schema = pa.schema([("key", pa.uint64()), (column, pa.from_numpy_dtype(dtype)), ("row", pa.int64())])

    def batches() -> Iterator[pa.Table]:
        for key_range in key_ranges(sum(file.rows for file in group.keys), per_batch):
            keys, values, rows = keys_in_range(group, key_range, column, dtype)
            by_key = argsort(keys)
            yield pa.table([keys[by_key], values[by_key], rows[by_key]], schema=schema)

    return part(keys=storage.write_arrow_batches(target.path("keys", ".arrow"), schema, batches()))
