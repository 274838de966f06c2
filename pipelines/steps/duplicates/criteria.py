"""Which texts are compared, and which of two duplicates is preferred?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup import exact
from dedup.buckets import Rows
from dedup.columns import as_array
from filters.scores.score import PREFIX
from pipelines.errors import RunError
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import step_of_run
from pipelines.ledger.step import StepType
from pipelines.ledger.storage import TableRef
from pipelines.recipe import Recipe, TextField
from pipelines.steps.duplicates.ranges import Keys

PREFERENCES = ("priority", "score", "length", "id")
"""The deciding columns, most important first: the higher priority of the source, the higher score (the first
that the recipe measures), the longer text, the lesser id."""


class Criteria(NamedTuple):
    """What a duplicate step compares and prefers.

    keep: the preferences in use, most important first. priorities: source -> priority; 0 for a source without one.
    fields: the text columns compared. scope: `within` compares rows of one source only, `across` all rows.
    """

    keep: tuple[str, ...]
    priorities: Mapping[str, int]
    fields: tuple[TextField, ...]
    scope: Literal["across", "within"]


def recipe_priorities(recipe: Recipe) -> dict[str, int]:
    """Source -> priority."""
    return {source.name: source.priority for source in recipe.sources}


def nonzero_priorities(priorities: Mapping[str, int]) -> dict[str, int]:
    """The priorities that differ from the default, sorted by source.

    Only these are parameters of a step, so adding a source without a priority does not change the step's key.
    """
    return {name: priority for name, priority in sorted(priorities.items()) if priority}


def previous_runs(root: str, runs: Sequence[str], step: StepType) -> list[Manifest]:
    """The step of this type in each of the runs of `against`.

    runs: complete run ids. An abbreviation or `latest` could mean a different run later.

    Raises: RunError: if a run does not exist or has no such step.
    """
    manifests = []
    for name in runs:
        try:
            manifest = step_of_run(root, name, step.name)
        except RunError as error:
            raise RunError(f"against: {error}") from None
        if manifest is None:
            repair = f"build it again, or set `{step.name.replace('-', '_')}: false` in this recipe"
            raise RunError(f"against: run {name} has no step {step.name} in {root}; {repair}")
        manifests.append(manifest)
    return manifests


def read_records(criteria: Criteria, shard: TableRef) -> pa.Table:
    """The columns of a shard that the criteria need. Of several scores it is the first: their units differ."""
    columns = ["id", "source", *criteria.fields]
    if "score" in criteria.keep:
        columns += [name for name in storage.columns(shard.path) if name.startswith(PREFIX)][:1]
    return storage.read_parquet(shard.path, columns).combine_chunks()


def source_hashes(records: pa.Table, criteria: Criteria) -> Keys:
    """What the keys of each row are XORed with, uint64 [rows]: a hash of its source for scope `within`, else 0.

    Rows of different sources then have different keys and are not compared.
    """
    if criteria.scope == "across":
        return np.zeros(records.num_rows, np.uint64)
    return exact.halves(exact.digest128(as_array(records["source"])))[:, 0]


def preference_columns(records: pa.Table, criteria: Criteria) -> dict[str, pa.Array]:
    """The deciding columns of records [rows]: priority int64, score float64, length int64 (bytes of the compared
    fields), id string."""
    sources = list(criteria.priorities)
    priorities = pa.array([criteria.priorities[name] for name in sources], pa.int64())
    positions = pc.index_in(records["source"], value_set=pa.array(sources, pa.string()))
    column = next((name for name in records.column_names if name.startswith(PREFIX)), None)
    score = np.zeros(records.num_rows) if column is None else np.asarray(records[column].to_numpy(), np.float64)
    score = np.nan_to_num(score, nan=-np.inf)
    length = sum(
        (pc.binary_length(records[field]).to_numpy().astype(np.int64) for field in criteria.fields),
        np.zeros(records.num_rows, np.int64),
    )
    return {
        "priority": priorities.take(positions).fill_null(0),
        "score": pa.array(score),
        "length": pa.array(length),
        "id": records["id"],
    }


def survivor_order(preferences: pa.Table, keep: Sequence[str]) -> Rows:
    """The indices of rows, the preferred one first: int64 [n]. Ids are distinct, so the order is total.

    preferences: the deciding columns, and `previous` int8 [n]: 1 for rows of earlier runs, which come first.
    """
    columns = [*(name for name in keep if name != "id"), "id"] if "id" not in keep else keep[: keep.index("id") + 1]
    by = [("previous", "descending"), *((name, "ascending" if name == "id" else "descending") for name in columns)]
    # A column with a single value cannot change the order, and sorting by fewer columns is faster.
    by = [key for key in by if key[0] == "id" or pc.count_distinct(preferences[key[0]]).as_py() > 1]
    order = pc.sort_indices(preferences.select([name for name, _ in by]), sort_keys=by)
    return np.asarray(order.to_numpy(), np.int64)


def inverse_permutation(order: Rows) -> Rows:
    """The position of each index in an order int64 [n]."""
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    return position
