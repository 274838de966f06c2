"""Which records pass the recipe's stages? Every shard goes through its transforms and filters, in order.

If the recipe strips thinking, the step does two more things. It counts the thinking that came in, by source and family
of tags, for the report. And it scans every response that it keeps, since a later stage could bring thinking back.
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
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target, commit
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.ledger.storage import TableRef
from pipelines.steps.products import RECORDS, THINKING
from pipelines.steps.step import DROPPED_RECORDS, Estimate, Rates, RecipeStep, Workload, always, by_text


def refine(run: Run, records: Manifest, stages: Sequence[Stage]) -> Manifest:
    """Apply `stages`, in order, to the records.

    Raises: CheckFailed: naming a row whose response holds thinking although the recipe strips it.
    """
    step = REFINE.step({"stages": [stage.parameters() for stage in stages]}, (records.key,))
    work = functools.partial(_refine_shard, tuple(stages))
    return run.do(step, lambda context: context.map(work, records.shards), records)


def _estimate(step: str, workload: Workload, rates: Rates) -> Estimate | None:
    """The measured rate is that of stages. Without any, the step only copies the records."""
    return by_text(step, workload, rates) if workload.recipe.stages else None


REFINE = RecipeStep(
    name="refine",
    version=2,
    products={
        RECORDS: "the records that pass every filter, as the transforms rewrote them",
        DROPPED_ROWS: DROPPED_RECORDS,
        THINKING: "thinking that came in, counted by source and family of tags, where the recipe looks for it",
    },
    kept=RECORDS,
    wanted=always,
    make=lambda build: refine(build.run, build.records, build.recipe.stages),
    estimate=_estimate,
)


def _refine_shard(stages: tuple[Stage, ...], shard: TableRef, target: Target) -> Part:
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
    census_file = storage.write_arrow(target.path("thinking", ".arrow"), table)
    return part.model_copy(update={"files": {**part.files, THINKING: (census_file,)}})


def _check_for_leaks(kept: pa.Table) -> None:
    rows = rows_with_thinking(as_array(kept["response"]))
    if len(rows):
        row = kept.slice(int(rows[0]), 1).to_pylist()[0]
        raise CheckFailed(
            f"row {row['id']}: its response still holds thinking after `strip_thinking` "
            f"({len(rows)} such rows in its shard): {row['response'][:200]!r}; put `{{kind: thinking}}`, which drops "
            "what cannot be stripped, before `strip_thinking`, and put `strip_thinking` after stages that rewrite"
        )


def _thinking(records: pa.Table, outcome: Outcome) -> pa.Table:
    by_thinking = outcome.dropped.filter(pc.equal(outcome.dropped["stage"], Thinking.model_fields["kind"].default))
    dropped = pc.is_in(records["id"], value_set=by_thinking["id"].combine_chunks()).to_numpy()
    return census(records, dropped)
