"""Which rows of a connected component are kept, and which kept row does each of the others duplicate?

No decision crosses a component, so the tasks that decide ranges of components are independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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
    jaccard_array,
    jaccard_column,
    map_file,
    tables_in_range,
)
from pipelines.steps.duplicates.shards import ShardFiles, preferences_of


class Decisions(NamedTuple):
    """The decision about each row that has a pair, [n] each; the columns of a file of decisions.

    row: int64, ascending. duplicate_of: int64, the kept row that a dropped row duplicates, -1 for a kept row.
    same_words: bool, the row has all words of that row. jaccard: float32 [n, fields], with that row. pairs: int64, how
    many pairs the row has with earlier rows. needs_recheck: bool, the row is kept although it has such pairs, and in
    the round before it was dropped or had a different number of them.
    """

    row: Rows
    duplicate_of: Rows
    same_words: npt.NDArray[np.bool_]
    jaccard: npt.NDArray[np.float32]
    pairs: Rows
    needs_recheck: npt.NDArray[np.bool_]


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
    later, earlier = (concat_columns(tables, name, np.int64) for name in ("later", "earlier"))
    jaccard = np.concatenate([jaccard_column(table) for table in tables])
    rows, indices = unique_inverse(np.concatenate([later, earlier]))
    columns = preferences_of(files, rows, (*PREFERENCES, "words"))
    by_rank = survivor_order(columns, keep)
    rank = inverse_permutation(by_rank)
    ranked = unique_pairs(Pairs(rank[indices[: len(later)]], rank[indices[len(later) :]], jaccard))
    selection = select_survivors(len(rows), ranked)
    removed = selection.duplicate_of >= 0
    twin = np.where(removed, by_rank[selection.duplicate_of], -1)[rank] if len(rows) else rows
    words = column_values(columns, "words")
    same_words = (twin >= 0) & (words[twin] == words) if len(rows) else removed
    duplicate_of = np.where(twin >= 0, rows[twin], -1) if len(rows) else rows
    pair_counts = np.bincount(ranked.later, minlength=len(rows))[rank]
    previous_duplicate_of, previous_pair_counts = decision_of(rows, decisions)
    changed = (previous_duplicate_of >= 0) | (previous_pair_counts != pair_counts)
    needs_recheck = selection.needs_recheck[rank] & changed
    decided = Decisions(rows, duplicate_of, same_words, selection.jaccard[rank], pair_counts, needs_recheck)
    return part(decisions=write_decisions(files, target, decided))


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


def write_decisions(files: ShardFiles, target: Target, decided: Decisions) -> TableRef:
    """Write one file of decisions, with the id of each kept row as `duplicate_of_id`."""
    duplicate_of = decided.duplicate_of
    kept = unique_values(duplicate_of[duplicate_of >= 0])
    ids = preferences_of(files, kept, ("id",))["id"].combine_chunks()
    positions = pa.array(np.searchsorted(kept, duplicate_of), mask=duplicate_of < 0)
    columns = {**decided._asdict(), "jaccard": jaccard_array(decided.jaccard), "duplicate_of_id": ids.take(positions)}
    table = pa.table(columns)
    return storage.write_arrow(target.path("decisions", ".arrow"), table)
