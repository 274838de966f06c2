"""Which records resemble another one so closely that the Jaccard of their n-grams reaches the threshold?"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup import minhash, probability, similarity
from dedup.columns import as_array
from dedup.probability import Banding
from dedup.shingles import shingle_hashes
from dedup.sorting import argsort
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import Run, StepContext, Target
from pipelines.ledger.storage import TableRef
from pipelines.recipe import NearDuplicates
from pipelines.steps.duplicates.buckets import FILES_PER_RECHECK, compare_range, group_range, recheck
from pipelines.steps.duplicates.components import AffectedFiles, affected_components, divide_by_component
from pipelines.steps.duplicates.criteria import (
    Criteria,
    nonzero_priorities,
    preference_columns,
    previous_runs,
    read_records,
    recipe_priorities,
    source_hashes,
)
from pipelines.steps.duplicates.ranges import TASK_SIZES, TaskSizes, key_ranges, tables_of
from pipelines.steps.duplicates.removal import PRODUCTS, remove_duplicates
from pipelines.steps.duplicates.shards import ShardFiles, shard_files, shards_to_read
from pipelines.steps.duplicates.survivors import decide_components
from pipelines.steps.products import RECORDS
from pipelines.steps.step import Build, Estimate, Rates, RecipeStep, Workload, by_text

LAST_MERGE_BYTES_PER_ROW = 30
"""Memory of the last merge of spanning forests, the only task that grows with the corpus: 150 bytes per row that has a
near-duplicate (docs/decisions/0010), which is a fifth of the rows of the mini corpus."""


def drop_near_duplicates(
    run: Run,
    records: Manifest,
    settings: NearDuplicates,
    priorities: Mapping[str, int],
    against: Sequence[Manifest] = (),
    sizes: TaskSizes = TASK_SIZES,
) -> Manifest:
    """Drop records whose n-grams have a Jaccard at or above `settings.threshold` with those of a kept record.

    Dropped rows have the stage and reason `near_duplicate`; evidence is described in `removal`. Records with fewer
    words than an n-gram stay, since `drop_exact_duplicates` has handled them. priorities: source -> priority, 0 if
    missing. against: the same step of earlier runs. Their kept records stay.

    Raises: CheckFailed: if a file between two phases is damaged.
    """
    banding = banding_of(settings)
    criteria = Criteria(settings.keep, dict(priorities), settings.fields, settings.scope)
    parameters = {
        **settings.model_dump(mode="json"),
        "banding": list(banding),
        "priorities": nonzero_priorities(priorities),
    }
    step = NEAR_DUPLICATES.step(parameters, (records.key, *(manifest.key for manifest in against)))

    def work(context: StepContext) -> Sequence[Part]:
        shards = shards_to_read(against, records)
        sign = functools.partial(_sign_shard, criteria, banding, settings.seed)
        files = shard_files(context.map(sign, shards, "signatures"), shards, against)
        decisions = _decide(context, files, criteria.keep, settings.threshold, banding.bands, sizes)
        return remove_duplicates(context, records, "near_duplicate", files, against, decisions)

    return run.do(step, work, records)


def banding_of(settings: NearDuplicates) -> Banding:
    """The preset's banding, or one for the threshold within 128 permutations."""
    return probability.PRESETS[settings.preset] if settings.preset else probability.choose_banding(settings.threshold)


def _make(build: Build) -> Manifest:
    recipe = build.recipe
    assert recipe.near_duplicates
    against = previous_runs(build.run.root, recipe.against, NEAR_DUPLICATES)
    return drop_near_duplicates(build.run, build.records, recipe.near_duplicates, recipe_priorities(recipe), against)


def _estimate(step: str, workload: Workload, rates: Rates) -> Estimate:
    estimate = by_text(step, workload, rates)
    return estimate._replace(memory_gb=estimate.memory_gb + LAST_MERGE_BYTES_PER_ROW * workload.rows / 1e9)


NEAR_DUPLICATES = RecipeStep(
    name="near-duplicates",
    version=2,
    products=PRODUCTS,
    kept=RECORDS,
    wanted=lambda recipe: bool(recipe.near_duplicates),
    make=_make,
    estimate=_estimate,
)


def _sign_shard(criteria: Criteria, banding: Banding, seed: int, shard: TableRef, target: Target) -> Part:
    """The first phase. Products: `keys` (key, row, code), one for each band of each row, sorted by key; `rows`, the
    deciding columns and the shingles of each row as a sorted set.

    code: the first value of the row's signature, a number that similar rows often share.
    """
    records = read_records(criteria, shard)
    columns = [as_array(records[field]) for field in criteria.fields]
    text = columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, "\n")
    shingles = shingle_hashes(text, banding.ngram, banding.unit)
    signatures = minhash.signatures(shingles, banding.num_perm, seed)
    valid = np.flatnonzero(signatures.valid)
    bands = minhash.band_keys(signatures.values[valid], banding.bands, banding.rows)
    bands ^= source_hashes(records, criteria)[valid, None]
    codes = np.repeat(signatures.values[valid, 0], banding.bands)
    rows = np.repeat(valid.astype(np.uint32), banding.bands)
    by_key = argsort(bands.ravel())
    keys = pa.table({"key": bands.ravel()[by_key], "row": rows[by_key], "code": codes[by_key]})
    sets = similarity.shingle_sets(shingles)
    lists = pa.ListArray.from_arrays(pa.array(sets.offsets.astype(np.int32)), pa.array(sets.hash))
    table = pa.table({**preference_columns(records, criteria), "shingles": lists})
    return part(
        keys=storage.write_arrow(target.path("keys", ".arrow"), keys),
        rows=storage.write_arrow(target.path("rows", ".arrow"), table),
    )


def _decide(
    context: StepContext, files: ShardFiles, keep: Sequence[str], threshold: float, bands: int, sizes: TaskSizes
) -> list[TableRef]:
    """The phases between the first and the last (see the package docstring): decision files in order of rounds."""
    grouped = context.map(
        functools.partial(group_range, files), key_ranges(files.starts[-1] * bands, sizes.keys), "buckets"
    )
    bucket_ranges = key_ranges(sum(task.counts["members"] for task in grouped), sizes.members)
    compare = functools.partial(compare_range, files, keep, threshold, tables_of(grouped, "buckets"))
    compared = context.map(compare, bucket_ranges, "compare-0")
    buckets = tables_of(compared, "buckets")
    pairs, forest = divide_by_component(context, tables_of(compared, "pairs"))
    component_ranges = key_ranges(sum(file.rows for file in pairs), sizes.pairs)
    decide = functools.partial(decide_components, files, keep, pairs)
    decided = context.map(functools.partial(decide, None, ()), component_ranges, "decide-0")
    decisions = [tables_of(decided, "decisions")]
    # `compare_range` compares until its own buckets yield no new pair. That is complete for a single task. With several
    # tasks, a row may be kept because of pairs that another task found, and its bucket must be compared again.
    new_pairs: list[TableRef] = []
    while len(bucket_ranges) > 1:
        number = len(decisions)
        compare_again = functools.partial(recheck, files, keep, threshold, buckets, tuple(decisions))
        compared = context.map(compare_again, key_ranges(len(buckets), FILES_PER_RECHECK), f"compare-{number}")
        round_pairs = tables_of([task for task in compared if task.counts["pairs"]], "pairs")
        if not round_pairs:
            break
        find_affected = functools.partial(affected_components, forest, len(new_pairs))
        new_pairs += round_pairs
        (affected,) = context.map(find_affected, [tuple(new_pairs)], f"affected-{number}")
        affected_files = AffectedFiles(affected.table("pairs"), affected.table("components"))
        decide_again = functools.partial(decide, affected_files, tuple(decisions))
        decided = context.map(decide_again, component_ranges, f"decide-{number}")
        decisions.append(tables_of(decided, "decisions"))
    return [file for round_files in decisions for file in round_files]
