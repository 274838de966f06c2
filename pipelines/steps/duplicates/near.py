"""Which records say the same as another one, in nearly the same words?

Two records are near-duplicates if in each compared field the Jaccard of their n-grams is at or above its threshold, the
fields have the same numbers and operators, and the instructions the same questions and last sentence
(`dedup.invariants`). N-grams of instructions that many rows share do not count (`boilerplate`). A field without n-grams
must have the same words. Records with the same words in every field are near-duplicates in any case.

Candidates. The MinHash of a record is that of the n-grams of all its fields, those of different fields being different.
If each field has a Jaccard of t or more, so has their union, whose intersection and size are sums of theirs. So the
S-curve of the banding at the lowest threshold bounds the share that is missed. A band's key contains the digests of
what must be equal: records that differ in it never meet. One more key is the digest of all words.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from dedup import minhash, probability, similarity
from dedup.columns import as_array
from dedup.frequent import Hashes, without
from dedup.invariants import Digests, combine, invariants_and_shingles
from dedup.probability import Banding
from dedup.readings import READING_VERSION
from dedup.shingles import shingle_hashes
from dedup.sorting import argsort
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import Run, StepContext, Target
from pipelines.ledger.storage import TableRef
from pipelines.recipe import NearDuplicates, TextField
from pipelines.steps.duplicates import boilerplate as boilerplates
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
from pipelines.steps.duplicates.merging import merged
from pipelines.steps.duplicates.ranges import TASK_SIZES, TaskSizes, key_ranges, tables_of
from pipelines.steps.duplicates.removal import PRODUCTS, remove_duplicates
from pipelines.steps.duplicates.shards import ShardFiles, shard_files, shards_to_read
from pipelines.steps.duplicates.survivors import decide_components
from pipelines.steps.products import RECORDS
from pipelines.steps.step import Build, Estimate, Rates, RecipeStep, Workload, by_text, form

FIELD_MASKS: dict[TextField, int] = {"instruction": 0, "response": 0x9E3779B9}
"""XORed to the shingles of each field: equal shingles of two fields are different elements of a row's set."""

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
    as_text: bool = True,
) -> Manifest:
    """Drop records that are near-duplicates of a kept record.

    Dropped rows have the stage `near_duplicate` and the reason `near_duplicate`, or `same_words` if only case,
    punctuation or spaces differ; evidence is described in `removal`. priorities: source -> priority, 0 if missing.
    against: the same step of earlier runs. Their kept records stay. as_text: as `commit_rows`.

    Raises: CheckFailed: if a file between two phases is damaged.
    """
    banding = banding_of(settings)
    parameters = {
        **settings.model_dump(mode="json"),
        "banding": list(banding),
        "priorities": nonzero_priorities(priorities),
        "reading": READING_VERSION,
        **form(as_text),
    }
    step = NEAR_DUPLICATES.step(parameters, (records.key, *(manifest.key for manifest in against)))

    def work(context: StepContext) -> Sequence[Part]:
        shards = shards_to_read(against, records)
        files, decisions = find_near_duplicates(context, shards, shards, settings, priorities, against, sizes)
        fields = tuple(settings.thresholds)
        return remove_duplicates(context, records, "near_duplicate", fields, files, against, decisions, as_text)

    return run.do(step, work, records)


def find_near_duplicates(
    context: StepContext,
    shards: Sequence[TableRef],
    all_shards: Sequence[TableRef],
    settings: NearDuplicates,
    priorities: Mapping[str, int],
    against: Sequence[Manifest] = (),
    sizes: TaskSizes = TASK_SIZES,
) -> tuple[ShardFiles, list[TableRef]]:
    """The phases before the removal: which rows of `shards` duplicate which, as files of `survivors.Decisions`.

    all_shards: those whose boilerplate does not count. against: earlier runs, whose shards come first in `shards`.

    Raises: CheckFailed: if a file between two phases is damaged.
    """
    banding, thresholds = banding_of(settings), settings.thresholds
    criteria = Criteria(settings.keep, dict(priorities), tuple(thresholds), settings.scope)
    boilerplate: tuple[TableRef, ...] = ()
    if boilerplates.FIELD in thresholds:
        boilerplate = boilerplates.find_boilerplate(context, all_shards, banding, sizes.keys)
    sign = functools.partial(_sign_shard, criteria, banding, settings.seed, boilerplate)
    files = shard_files(context.map(sign, shards, "signatures"), shards, against)
    return files, _decide(context, files, criteria.keep, tuple(thresholds.values()), banding.bands, sizes)


def banding_of(settings: NearDuplicates) -> Banding:
    """The preset's banding, or one for the lowest threshold within 128 permutations."""
    if settings.preset:
        return probability.PRESETS[settings.preset]
    return probability.choose_banding(settings.lowest_threshold)


def _make(build: Build) -> Manifest:
    recipe = build.recipe
    assert recipe.near_duplicates
    against = previous_runs(build.run.root, recipe.against, NEAR_DUPLICATES)
    return drop_near_duplicates(
        build.run, build.records, recipe.near_duplicates, recipe_priorities(recipe), against,
        as_text=build.as_text(NEAR_DUPLICATES.name),
    )  # fmt: skip


def _estimate(step: str, workload: Workload, rates: Rates) -> Estimate:
    estimate = by_text(step, workload, rates)
    return estimate._replace(memory_gb=estimate.memory_gb + LAST_MERGE_BYTES_PER_ROW * workload.rows / 1e9)


NEAR_DUPLICATES = RecipeStep(
    name="near-duplicates",
    products=PRODUCTS,
    kept=RECORDS,
    wanted=lambda recipe: bool(recipe.near_duplicates),
    make=_make,
    estimate=_estimate,
)


def _sign_shard(
    criteria: Criteria,
    banding: Banding,
    seed: int,
    boilerplate: Sequence[TableRef],
    shard: TableRef,
    target: Target,
) -> Part:
    """The first phase. Products: `keys` (key, row, code), for each row one for each band and one for its words, sorted
    by key; `rows`, the deciding columns, `words`, and the shingles of each field as sorted sets.

    code: the first value of the row's signature, a number that similar rows often share.
    """
    records = read_records(criteria, shard)
    read_field = functools.partial(_read_field, banding, seed, boilerplates.read_boilerplate(boilerplate))
    fields = [read_field(as_array(records[name]), name) for name in criteria.fields]
    source = source_hashes(records, criteria)
    words = combine(source, *(field.words for field in fields))
    exact = combine(source, *(field.exact for field in fields))
    values = functools.reduce(np.minimum, [field.signatures.values for field in fields])
    valid = np.flatnonzero(np.any([field.signatures.valid for field in fields], axis=0))
    bands = minhash.band_keys(values[valid], banding.bands, banding.rows) ^ exact[valid, None]
    # A row without shingles has only the key of its words, and no signature.
    codes = np.where(np.isin(np.arange(len(words)), valid), values[:, 0], words.astype(np.uint32))
    key = np.concatenate([words, bands.ravel()])
    row = np.concatenate([np.arange(len(words), dtype=np.uint32), np.repeat(valid.astype(np.uint32), banding.bands)])
    by_key = argsort(key)
    row = row[by_key]
    keys = pa.table({"key": key[by_key], "row": row, "code": codes[row]})
    table = {**preference_columns(records, criteria), "words": pa.array(words)}
    for number, field in enumerate(fields):
        offsets = pa.array(field.sets.offsets.astype(np.int32))
        table[f"shingles_{number}"] = pa.ListArray.from_arrays(offsets, pa.array(field.sets.hash))
    return part(
        keys=storage.write_arrow(target.path("keys", ".arrow"), keys),
        rows=storage.write_arrow(target.path("rows", ".arrow"), pa.table(table)),
    )


class _Field(NamedTuple):
    """A field of the rows of a shard: the digest of its words and of what must be equal, uint64 [rows] each."""

    words: Digests
    exact: Digests
    signatures: minhash.Signatures
    sets: similarity.Sets


def _read_field(banding: Banding, seed: int, boilerplate: Hashes, text: pa.StringArray, name: TextField) -> _Field:
    digests, shingles = invariants_and_shingles(text, banding.ngram)
    if banding.unit != "word":
        shingles = shingle_hashes(text, banding.ngram, banding.unit)
    exact = digests.marks
    if name == boilerplates.FIELD:
        shingles, exact = without(shingles, boilerplate), combine(digests.marks, digests.sentences)
    shingles = shingles._replace(hash=shingles.hash ^ np.uint32(FIELD_MASKS[name]))
    exact = np.where(np.diff(shingles.offsets) == 0, digests.words, exact)
    signed = minhash.signatures(shingles, banding.num_perm, seed)
    return _Field(digests.words, exact, signed, similarity.shingle_sets(shingles))


def _decide(
    context: StepContext,
    files: ShardFiles,
    keep: Sequence[str],
    thresholds: Sequence[float],
    bands: int,
    sizes: TaskSizes,
) -> list[TableRef]:
    """The phases between the first and the last (see the package docstring): decision files in order of rounds."""
    ranges = key_ranges(files.starts[-1] * (bands + 1), sizes.keys)
    files = merged(context, files, "code", np.uint32, len(ranges), sizes)
    grouped = context.map(functools.partial(group_range, files), ranges, "buckets")
    bucket_ranges = key_ranges(sum(task.counts["members"] for task in grouped), sizes.members)
    compare = functools.partial(compare_range, files, keep, thresholds, tables_of(grouped, "buckets"))
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
        compare_again = functools.partial(recheck, files, keep, thresholds, buckets, tuple(decisions))
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
