"""Which rows are connected by pairs, directly or through other rows?

Pairs are divided among tasks by connected component. A component is named by its least row, which the merged spanning
forest of all pairs gives. Rows without a pair are in no component.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from dedup.buckets import Rows
from dedup.forests import Forest, merge_forests
from dedup.sorting import argsort
from pipelines.ledger import storage
from pipelines.ledger.manifest import Part, part
from pipelines.ledger.run import StepContext, Target
from pipelines.ledger.storage import TableRef
from pipelines.steps.duplicates.ranges import (
    ALL_KEYS,
    Keys,
    column_values,
    sort_by_key,
    spread_keys,
    tables_in_range,
    tables_of,
)

PAIR_COLUMNS = ("later", "earlier", "jaccard")

FORESTS_PER_MERGE = 8
"""Forests that one task merges. More would make the tree of merges shallower, but each merge needs memory for the rows
of all its forests."""


class AffectedFiles(NamedTuple):
    """The components that new pairs belong to, in two files sorted by `key`, the spread number of the component with
    the new pairs.

    pairs: (later, earlier, jaccard, key), the new pairs of these components, of any round. components: (key,
    component), for each the first round's components that are part of it, by their own key.
    """

    pairs: TableRef
    components: TableRef


def divide_by_component(context: StepContext, pairs: Sequence[TableRef]) -> tuple[tuple[TableRef, ...], TableRef]:
    """Each file of pairs sorted by component, and the spanning forest of all pairs.

    Spanning forests of the files are merged in a tree until one is left.
    """
    forests, level = list(pairs), 0
    while level == 0 or len(forests) > 1:
        groups = [tuple(forests[i : i + FORESTS_PER_MERGE]) for i in range(0, len(forests), FORESTS_PER_MERGE)]
        forests = list(tables_of(context.map(_merge_files, groups, f"forests-{level}"), "forest"))
        level += 1
    divided = context.map(functools.partial(_sort_by_component, forests[0]), pairs, "components")
    return tables_of(divided, "pairs"), forests[0]


def affected_components(forest: TableRef, old_files: int, new_pairs: Sequence[TableRef], target: Target) -> Part:
    """The components of the last round's new pairs: products `pairs` and `components` (see `AffectedFiles`).

    forest: of the first round's pairs. new_pairs: the files of pairs found after the first round; those from index
    `old_files` on are of the last round.
    """
    tree, *tables = tables_in_range((forest, *new_pairs), ALL_KEYS)
    old_pairs = sum(table.num_rows for table in tables[:old_files])
    pairs = pa.concat_tables(tables).combine_chunks()
    # A new pair connects two components of the first round. Their forest gives the components with all new pairs.
    ends = Forest(*(_component_of(tree, column_values(pairs, name)) for name in ("later", "earlier")))
    bridges = pa.table(merge_forests([ends])._asdict())
    component = _component_of(bridges, ends.row)
    is_affected = np.isin(component, component[old_pairs:])
    key = spread_keys(component[is_affected])
    affected_pairs = sort_by_key(pairs.filter(pa.array(is_affected)), key, argsort(key))
    first_components = np.unique(np.concatenate([end[is_affected] for end in ends]))
    key = spread_keys(_component_of(bridges, first_components))
    by_key = argsort(key)
    components = pa.table({"key": key[by_key], "component": spread_keys(first_components)[by_key]})
    return part(
        pairs=storage.write_arrow(target.path("pairs", ".arrow"), affected_pairs),
        components=storage.write_arrow(target.path("components", ".arrow"), components),
    )


def pairs_of_components(pairs: pa.Table, components: Keys) -> pa.Table:
    """The pairs, sorted by `key`, whose key is one of `components` uint64 [n], ascending."""
    keys = column_values(pairs, "key")
    first, end = np.searchsorted(keys, components, "left"), np.searchsorted(keys, components, "right")
    nonempty = end > first
    sizes, first = (end - first)[nonempty], first[nonempty]
    # The indices first[i] .. first[i] + sizes[i] - 1 of all i, one after another.
    indices = np.repeat(first - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
    return pairs.select(PAIR_COLUMNS).take(pa.array(indices))


def _merge_files(files: Sequence[TableRef], target: Target) -> Part:
    """One spanning forest (row, root) of several files whose first two columns are connected rows: pairs or forests."""
    tables = tables_in_range(files, ALL_KEYS)
    forest = merge_forests(
        [Forest(*(column_values(table, name) for name in table.column_names[:2])) for table in tables]
    )
    return part(forest=storage.write_arrow(target.path("forest", ".arrow"), pa.table(forest._asdict())))


def _sort_by_component(forest: TableRef, file: TableRef, target: Target) -> Part:
    """A file of pairs sorted by `key`, the spread number of their component."""
    tree, pairs = tables_in_range((forest, file), ALL_KEYS)
    key = spread_keys(_component_of(tree, column_values(pairs, "later")))
    table = sort_by_key(pairs.select(PAIR_COLUMNS), key, argsort(key))
    return part(pairs=storage.write_arrow(target.path("pairs", ".arrow"), table))


def _component_of(tree: pa.Table, rows: Rows) -> Rows:
    """The root of the component of rows int64 [n] in a forest (row, root). A row that is not listed is a root."""
    children, roots = column_values(tree, "row"), column_values(tree, "root")
    if not len(children) or not len(rows):
        return rows
    at = np.minimum(np.searchsorted(children, rows), len(children) - 1)
    return np.where(children[at] == rows, roots[at], rows)
