"""Which records pass the recipe's stages? Every shard goes through its transforms and filters, in order.

If the recipe strips thinking, the step does three more things. It counts the thinking that came in and what is left of
it, for the report. It scans every response that it keeps, since a later stage could bring thinking back. And it drops
rows in which a second scanner, which shares no code with the first, still finds a block of thinking.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from filters.catalogue import parameters
from filters.stage import DROP_FIELDS, Outcome, Stage, StageError, apply, mark
from filters.thinking.findings import findings
from filters.thinking.proof import rows_with_blocks
from filters.thinking.strip import Added, StripThinking, Thinking, rows_with_thinking
from pipelines.errors import CheckFailed
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import Run, Target, commit, spend
from pipelines.ledger.step import DROPPED_ROWS, StepType
from pipelines.ledger.storage import TableRef
from pipelines.steps.products import RECORDS, THINKING
from pipelines.steps.step import DROPPED_RECORDS, Estimate, Rates, RecipeStep, Workload, always, by_text, form

_THINKING, _STRIP = (stage.model_fields["kind"].default for stage in (Thinking, StripThinking))


def refine(
    run: Run,
    records: Manifest,
    stages: Sequence[Stage],
    step_type: StepType | None = None,
    as_text: bool = True,
) -> Manifest:
    """Apply `stages`, in order, to the records. step_type: REFINE, or one like it for stages that come later. as_text:
    write all rows, not those alone that changed.

    Raises: CheckFailed: naming a row whose response holds thinking although the recipe strips it.
    """
    step = (step_type or REFINE).step(
        {"stages": [parameters(stage) for stage in stages], **form(as_text)}, (records.key,)
    )
    work = functools.partial(_refine_shard, tuple(stages), as_text)
    return run.do(step, lambda context: context.map(work, records.shards), records)


def estimate_stages(stages: Sequence[Stage], step: str, workload: Workload, rates: Rates) -> Estimate | None:
    """The measured rate is that of reading and writing; each stage has one of its own, `refine/<kind>`. A stage that
    was not measured counts as the mean of those that were. Without any stage, the step only copies the records."""
    if not stages:
        return None
    estimate = by_text(step, workload, rates)
    measured = {name: by_text(name, workload, rates).core_seconds for name in rates if name.startswith(f"{step}/")}
    usual = sum(measured.values()) / max(len(measured), 1)
    seconds = sum(measured.get(f"{step}/{stage.kind}", usual) for stage in stages)
    return estimate._replace(core_seconds=estimate.core_seconds + seconds)


def _estimate(step: str, workload: Workload, rates: Rates) -> Estimate | None:
    return estimate_stages(workload.recipe.stages, step, workload, rates)


REFINE = RecipeStep(
    name="refine",
    products={
        RECORDS: "the records that pass every filter, as the transforms rewrote them",
        DROPPED_ROWS: DROPPED_RECORDS,
        THINKING: "findings about thinking, counted by source: what came in, what is left, bare answers under `cot`",
    },
    kept=RECORDS,
    wanted=always,
    make=lambda build: refine(build.run, build.records, build.recipe.stages, as_text=build.as_text("refine")),
    estimate=_estimate,
)


def _refine_shard(stages: tuple[Stage, ...], as_text: bool, shard: TableRef, target: Target) -> Part:
    records = storage.read_parquet(shard.path)
    try:
        outcome = apply(stages, records, functools.partial(_spend, _names(stages)))
    except StageError as error:
        raise CheckFailed(f"{shard.path}: {error}") from error
    looks = [stage for stage in stages if isinstance(stage, Thinking | StripThinking)]
    families = tuple(dict.fromkeys(family for stage in looks for family in stage.families))
    if any(isinstance(stage, StripThinking) for stage in looks):
        _check_for_leaks(outcome.kept, families)
        outcome = _drop_blocks(outcome)
    part = commit(outcome, records, target, of=None if as_text else shard)
    table = findings(records, outcome.kept, _dropped_for_thinking(records, outcome) if looks else None, families)
    if not table.num_rows:
        return part
    file = storage.write_arrow(target.path("thinking", ".arrow"), table)
    return part.with_file(THINKING, file)


def _names(stages: Sequence[Stage]) -> list[str]:
    """The kind of each stage; of one that comes again with its number."""
    names: list[str] = []
    for stage in stages:
        times = sum(name.partition(" ")[0] == stage.kind for name in names)
        names.append(f"{stage.kind} {times + 1}" if times else stage.kind)
    return names


def _spend(names: Sequence[str], number: int, seconds: float) -> None:
    spend(names[number], seconds)


def _check_for_leaks(kept: pa.Table, families: Added) -> None:
    rows = rows_with_thinking(as_array(kept["response"]), as_array(kept["instruction"]), families)
    if len(rows):
        row = kept.slice(int(rows[0]), 1).to_pylist()[0]
        raise CheckFailed(
            f"row {row['id']}: its response still holds thinking after `strip_thinking` "
            f"({len(rows)} such rows in its shard): {row['response'][:200]!r}; put `{{kind: thinking}}`, which drops "
            "what cannot be stripped, before `strip_thinking`, and put `strip_thinking` after stages that rewrite"
        )


def _drop_blocks(outcome: Outcome) -> Outcome:
    """Drop the rows in which the second scanner finds a block: `strip_thinking/thinking_left`."""
    kept, dropped = outcome
    rows = rows_with_blocks(as_array(kept["instruction"]), as_array(kept["response"]))
    if not len(rows):
        return outcome
    left = pa.array(np.isin(np.arange(kept.num_rows), rows))
    columns = [name for name in dropped.column_names if name not in {field.name for field in DROP_FIELDS}]
    gone = mark(kept.filter(left).select(columns), _STRIP, "thinking_left", ["{}"] * len(rows))
    return Outcome(kept.filter(pc.invert(left)), pa.concat_tables([dropped, gone]))


def _dropped_for_thinking(records: pa.Table, outcome: Outcome) -> npt.NDArray[np.bool_]:
    """Which records were dropped by a stage of thinking: bool [rows]."""
    by_thinking = pc.is_in(outcome.dropped["stage"], value_set=pa.array([_THINKING, _STRIP]))
    ids = as_array(outcome.dropped.filter(by_thinking)["id"])
    return np.asarray(pc.is_in(records["id"], value_set=ids).to_numpy())
