"""Refine: every shard through the recipe's transforms and filters."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from filters.stage import Stage, apply
from pipelines import storage
from pipelines.manifest import Manifest, Part, Step
from pipelines.run import Run, Target, commit
from pipelines.storage import ShardRef


def refine(run: Run, records: Manifest, stages: Sequence[Stage]) -> Manifest:
    """Apply `stages`, in order, to the records."""
    step = Step("refine", 1, {"stages": [stage.parameters() for stage in stages]}, (records.key,))
    return run.do(
        step, lambda desk: desk.map(functools.partial(_refine_shard, tuple(stages)), records.shards), of=records
    )


def _refine_shard(stages: tuple[Stage, ...], shard: ShardRef, target: Target) -> Part:
    return commit(apply(stages, storage.read_parquet(shard.path)), shard.rows, target)
