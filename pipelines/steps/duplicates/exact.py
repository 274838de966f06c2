"""Which records have the same text as another one, in the exact reading?"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from dedup import exact
from dedup.columns import as_array
from dedup.readings import READING_VERSION
from dedup.sorting import argsort
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import Run, StepContext, Target
from pipelines.ledger.storage import TableRef
from pipelines.recipe import ExactDuplicates
from pipelines.steps.duplicates.criteria import (
    PREFERENCES,
    Criteria,
    inverse_permutation,
    nonzero_priorities,
    preference_columns,
    previous_runs,
    read_records,
    recipe_priorities,
    source_hashes,
    survivor_order,
)
from pipelines.steps.duplicates.merging import merged
from pipelines.steps.duplicates.ranges import TASK_SIZES, KeyRange, TaskSizes, check_files, key_ranges, tables_of
from pipelines.steps.duplicates.removal import PRODUCTS, remove_duplicates
from pipelines.steps.duplicates.shards import ShardFiles, keys_in_range, preferences_of, shard_files, shards_to_read
from pipelines.steps.duplicates.survivors import Decisions, write_decisions
from pipelines.steps.products import RECORDS
from pipelines.steps.step import Build, RecipeStep, form


def drop_exact_duplicates(
    run: Run,
    records: Manifest,
    settings: ExactDuplicates,
    priorities: Mapping[str, int],
    against: Sequence[Manifest] = (),
    sizes: TaskSizes = TASK_SIZES,
    as_text: bool = True,
) -> Manifest:
    """Drop records whose `settings.fields` equal those of another record in the exact reading.

    Dropped rows have the stage and reason `exact_duplicate`; evidence is described in `removal`. priorities: source ->
    priority, 0 if missing. against: the same step of earlier runs. Their kept records stay. as_text: as `commit_rows`.

    Raises: CheckFailed: if a file between two phases is damaged.
    """
    criteria = Criteria(PREFERENCES, dict(priorities), settings.fields, settings.scope)
    parameters = {
        **settings.model_dump(mode="json"),
        "priorities": nonzero_priorities(priorities),
        "reading": READING_VERSION,
        **form(as_text),
    }
    step = EXACT_DUPLICATES.step(parameters, (records.key, *(manifest.key for manifest in against)))

    def work(context: StepContext) -> Sequence[Part]:
        shards = shards_to_read(against, records)
        digests = context.map(functools.partial(_digest_shard, criteria), shards, "digests")
        files = shard_files(digests, shards, against)
        ranges = key_ranges(files.starts[-1], sizes.keys)
        files = merged(context, files, "low", np.uint64, len(ranges), sizes)
        decided = context.map(functools.partial(_find_repeats, files, criteria.keep), ranges, "repeats")
        return remove_duplicates(
            context, records, "exact_duplicate", (), files, against, tables_of(decided, "decisions"), as_text
        )

    return run.do(step, work, records)


def _make(build: Build) -> Manifest:
    recipe = build.recipe
    assert recipe.exact_duplicates
    against = previous_runs(build.run.root, recipe.against, EXACT_DUPLICATES)
    return drop_exact_duplicates(
        build.run, build.records, recipe.exact_duplicates, recipe_priorities(recipe), against,
        as_text=build.as_text(EXACT_DUPLICATES.name),
    )  # fmt: skip


EXACT_DUPLICATES = RecipeStep(
    name="exact-duplicates",
    products=PRODUCTS,
    kept=RECORDS,
    wanted=lambda recipe: bool(recipe.exact_duplicates),
    make=_make,
)


def _digest_shard(criteria: Criteria, shard: TableRef, target: Target) -> Part:
    """The first phase. Products: `keys` (key, low, row), the two halves of each row's digest sorted by the high one;
    `rows`, the deciding columns."""
    records = read_records(criteria, shard)
    texts = [exact.exact_text(as_array(records[field])) for field in criteria.fields]
    halves = exact.halves(exact.digest128(*texts))
    high, low = halves[:, 0] ^ source_hashes(records, criteria), halves[:, 1]
    by_key = argsort(high)
    keys = pa.table({"key": high[by_key], "low": low[by_key], "row": by_key.astype(np.uint32)})
    rows = pa.table(preference_columns(records, criteria))
    return part(
        keys=storage.write_arrow(target.path("keys", ".arrow"), keys),
        rows=storage.write_arrow(target.path("rows", ".arrow"), rows),
    )


def _find_repeats(files: ShardFiles, keep: Sequence[str], key_range: KeyRange, target: Target) -> Part:
    """Decide the rows of a range of digests that share their digest with another row: product `decisions`."""
    check_files(files.rows, key_range)
    high, low, rows = keys_in_range(files, key_range, "low", np.uint64)
    by_key = argsort(high)
    high, low, rows = high[by_key], low[by_key], rows[by_key]
    same = high[1:] == high[:-1]
    repeated = np.zeros(len(rows), np.bool_)
    repeated[1:] |= same
    repeated[:-1] |= same
    digests, rows = np.stack([high[repeated], low[repeated]], axis=1), rows[repeated]
    by_row = np.argsort(rows)
    digests, rows = digests[by_row], rows[by_row]
    rank = inverse_permutation(survivor_order(preferences_of(files, rows, PREFERENCES), keep))
    survivor = exact.find_duplicates(digests, rank)
    duplicate_of = np.where(survivor >= 0, rows[survivor], -1) if len(rows) else rows
    dropped = duplicate_of >= 0
    jaccard, needs_recheck = np.ones((len(rows), 1), np.float32), np.zeros(len(rows), np.bool_)
    decided = Decisions(rows, duplicate_of, dropped, jaccard, dropped.astype(np.int64), needs_recheck)
    return part(decisions=write_decisions(files, target, decided))
