"""Which rows of a connected component are kept, and which kept row does each of the others duplicate?

No decision crosses a component, so the tasks that decide ranges of components are independent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.buckets import Rows
from dedup.pairs import Pairs, unique_pairs
from dedup.sorting import unique_inverse, unique_values
from dedup.survivors import select_survivors
from pipelines.ledger import storage
from pipelines.ledger.manifest import Part, part
from pipelines.ledger.run import Target
from pipelines.ledger.storage import TableRef
from pipelines.steps.duplicates.components import PAIR_COLUMNS, AffectedFiles, pairs_of_components
from pipelines.steps.duplicates.criteria import PREFERENCES, inverse_permutation, survivor_order
from pipelines.steps.duplicates.ranges import (
    KeyRange,
    check_files,
    column_values,
    concat_columns,
    map_file,
    tables_in_range,
)
from pipelines.steps.duplicates.shards import ShardFiles, preferences_of

DECISIONS = pa.schema(
    [
        ("row", pa.int64()),
        ("duplicate_of", pa.int64()),
        ("duplicate_of_id", pa.string()),
        ("jaccard", pa.float64()),
        ("pairs", pa.int64()),
        ("needs_recheck", pa.bool_()),
    ]
)
"""The decision about each row that has a pair; sorted by row. duplicate_of: the kept row that a dropped row duplicates,
-1 for a kept row. pairs: how many pairs the row has with earlier rows. needs_recheck: the row is kept although it has
such pairs, and in the round before it was dropped or had a different number of them."""


def decide_components(
    files: ShardFiles,
    keep: Sequence[str],
    pairs: Sequence[TableRef],
    affected: AffectedFiles | None,
    decisions: Sequence[Sequence[TableRef]],
    key_range: KeyRange,
    target: Target,
) -> Part:
    """Decide a range of components: product `decisions`.

    pairs: of the first round, sorted by component. affected: after the first round, the components that have new pairs;
    only these are decided again. decisions: of each round so far.
    """
    if affected:
        new_pairs, merged = tables_in_range(affected, key_range)
        components = np.sort(column_values(merged, "component"))
        check_files(pairs, key_range)
        tables = [new_pairs.select(PAIR_COLUMNS), *(pairs_of_components(map_file(file), components) for file in pairs)]
    else:
        tables = list(tables_in_range(pairs, key_range))
    later, earlier, jaccard = (concat_columns(tables, name, np.int64) for name in PAIR_COLUMNS)
    rows, indices = unique_inverse(np.concatenate([later, earlier]))
    by_rank = survivor_order(preferences_of(files, rows, PREFERENCES), keep)
    rank = inverse_permutation(by_rank)
    ranked = unique_pairs(Pairs(rank[indices[: len(later)]], rank[indices[len(later) :]], jaccard))
    selection = select_survivors(len(rows), ranked)
    kept_rows = rows[by_rank[selection.duplicate_of]] if len(rows) else rows
    duplicate_of = np.where(selection.duplicate_of >= 0, kept_rows, -1)[rank]
    pair_counts = np.bincount(ranked.later, minlength=len(rows))[rank]
    previous_duplicate_of, previous_pair_counts = decision_of(rows, decisions)
    changed = (previous_duplicate_of >= 0) | (previous_pair_counts != pair_counts)
    needs_recheck = selection.needs_recheck[rank] & changed
    jaccard = selection.jaccard[rank]
    return part(decisions=write_decisions(files, target, rows, duplicate_of, jaccard, pair_counts, needs_recheck))


def decision_of(rows: Rows, decisions: Sequence[Sequence[TableRef]]) -> tuple[Rows, Rows]:
    """The last decision about rows int64 [n], ascending: `duplicate_of` (-1 for a row without a decision) and `pairs`.

    decisions: of each round so far. A later round replaces the decision of an earlier one.
    """
    duplicate_of, pairs = np.full(len(rows), -1, np.int64), np.zeros(len(rows), np.int64)
    for file in (file for round_files in decisions for file in round_files):
        table = map_file(file)
        decided = column_values(table, "row")
        if len(decided):
            at = np.minimum(np.searchsorted(decided, rows), len(decided) - 1)
            match = decided[at] == rows
            duplicate_of[match] = column_values(table, "duplicate_of")[at[match]]
            pairs[match] = column_values(table, "pairs")[at[match]]
    return duplicate_of, pairs


def rows_to_recheck(decisions: pa.Table) -> Rows:
    """The rows marked `needs_recheck`, int64 [n]."""
    rows: Rows = column_values(decisions, "row")[column_values(decisions, "needs_recheck").astype(np.bool_)]
    return rows


def write_decisions(
    files: ShardFiles,
    target: Target,
    rows: Rows,
    duplicate_of: Rows,
    jaccard: npt.NDArray[np.float64],
    pairs: Rows,
    needs_recheck: npt.NDArray[np.bool_],
) -> TableRef:
    """Write one file of DECISIONS; the arrays are its columns, [n] each."""
    kept = unique_values(duplicate_of[duplicate_of >= 0])
    ids = preferences_of(files, kept, ("id",))["id"].combine_chunks()
    positions = pa.array(np.searchsorted(kept, duplicate_of), mask=duplicate_of < 0)
    table = pa.table([rows, duplicate_of, ids.take(positions), jaccard, pairs, needs_recheck], schema=DECISIONS)
    return storage.write_arrow(target.path("decisions", ".arrow"), table)
