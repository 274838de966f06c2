"""Refine: every shard through the recipe's transforms and filters.

Where a recipe strips thinking, two things are added to its shards: a table of the thinking that came in, by source and
family, for the report; and a scan of all that goes out, since a stage behind the strip could bring thinking back.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from filters.stage import Outcome, Stage, apply
from filters.thinking.strip import StripThinking, Thinking, census, rows_with_thinking
from pipelines.errors import CheckFailed
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part, Step
from pipelines.ledger.run import Run, Target, commit
from pipelines.ledger.storage import ShardRef


def refine(run: Run, records: Manifest, stages: Sequence[Stage]) -> Manifest:
    """Apply `stages`, in order, to the records. `side`: the census of thinking by shard, where any was looked for.

    Errors: CheckFailed naming a row whose response holds thinking although the recipe strips it.
    """
    step = Step("refine", 2, {"stages": [stage.parameters() for stage in stages]}, (records.key,))
    return run.do(
        step, lambda desk: desk.map(functools.partial(_refine_shard, tuple(stages)), records.shards), of=records
    )


def _refine_shard(stages: tuple[Stage, ...], shard: ShardRef, target: Target) -> Part:
    records = storage.read_parquet(shard.path)
    outcome = apply(stages, records)
    if any(isinstance(stage, StripThinking) for stage in stages):
        _check_for_leaks(outcome.kept)
    part = commit(outcome, shard.rows, target)
    if not any(isinstance(stage, Thinking | StripThinking) for stage in stages):
        return part
    table = _thinking(records, outcome)
    if not table.num_rows:
        return part
    return part.model_copy(update={"side": (storage.write_arrow(target.path("thinking", ".arrow"), table),)})


def _check_for_leaks(kept: pa.Table) -> None:
    left = rows_with_thinking(as_array(kept["response"]))
    if len(left):
        row = kept.slice(int(left[0]), 1).to_pylist()[0]
        raise CheckFailed(
            f"row {row['id']}: its response still holds thinking after `strip_thinking` "
            f"({len(left)} such rows in its shard): {row['response'][:200]!r}; put `{{kind: thinking}}` before "
            "`strip_thinking`, which drops what cannot be stripped, and `strip_thinking` behind stages that rewrite"
        )


def _thinking(records: pa.Table, outcome: Outcome) -> pa.Table:
    gone = outcome.dropped.filter(pc.equal(outcome.dropped["stage"], Thinking.model_fields["kind"].default))["id"]
    dropped = pc.is_in(records["id"], value_set=gone.combine_chunks()).to_numpy()
    return census(records, dropped)
