"""Which rows are removed as near-duplicates, and which kept row each of them duplicates.

Two rows are *adjacent* if they share a key and the Jaccard of each compared field is at or above its threshold. (A key
is a band together with what the rows must share exactly, or the digest of all words; see
`pipelines.steps.duplicates.near`.) Rows are taken in survivor order. A row is removed if and only if an earlier row
that is kept is adjacent to it. It follows that

(a) every removed row is adjacent to an earlier row that is kept, and
(b) no two kept rows are adjacent.

For a given order, exactly one set of rows has both properties, so the result depends on the rows alone. (Removing all
but one row of each connected component, as other tools do, also removes rows that resemble no kept row.)

The number of adjacent pairs can be quadratic: 100,000 copies of a template have 5e9. They are never listed.
`compare_once` (see `dedup.pairs`) compares each row with the representatives of its bucket only. `select_survivors`
applies the definition to the pairs found so far. A row that is kept although it has an earlier adjacent row, because
that row was removed, *needs a recheck*: another row of its bucket may be adjacent to it and was not compared.
`compare_buckets` compares the kept rows of such buckets again until no new pair is found. Then (a) holds because the
pair that removed the row is in the list. (b) holds because two kept rows of one bucket were both representatives: of
the first comparison if no row of the bucket needs a recheck, of the last one otherwise. Neither the order of the
buckets nor their division among tasks matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.buckets import Buckets, Rows, without_rows
from dedup.kernel import kernel
from dedup.pairs import Pairs, compare_once, concat_pairs, unique_pairs
from dedup.similarity import Sets


class Selection(NamedTuple):
    """The decision about each row.

    duplicate_of: int64 [rows], the kept row that a removed row duplicates, -1 for a kept row. jaccard: float32 [rows,
    fields], with that row; 0 for a kept row. needs_recheck: bool [rows], the row is kept although it has a pair with an
    earlier row, since that row was removed.
    """

    duplicate_of: Rows
    jaccard: npt.NDArray[np.float32]
    needs_recheck: npt.NDArray[np.bool_]


def select_survivors(rows: int, pairs: Pairs) -> Selection:
    """Decide which of the rows 0 .. rows - 1, numbered in survivor order, are kept.

    pairs: sorted by `later`, as `unique_pairs` returns them. A removed row is recorded as a duplicate of the kept row
    with the highest Jaccard among its pairs (of the field with the lower one), the earliest one if several are equal.
    """
    starts = np.searchsorted(pairs.later, np.arange(rows + 1))
    pair, needs_recheck = _select_survivors(starts, pairs.earlier, pairs.jaccard.min(axis=1))
    removed = pair >= 0
    duplicate_of, jaccard = np.full(rows, -1, np.int64), np.zeros((rows, pairs.jaccard.shape[1]), np.float32)
    duplicate_of[removed], jaccard[removed] = pairs.earlier[pair[removed]], pairs.jaccard[pair[removed]]
    return Selection(duplicate_of, jaccard, needs_recheck)


def compare_buckets(
    buckets: Buckets, sets: Sets, thresholds: Sequence[float], always_kept: int = 0
) -> tuple[Pairs, int]:
    """Enough pairs to select the survivors of these buckets, and how many pairs of rows were compared.

    Rows are numbered in survivor order; `sets`, `thresholds` and `always_kept` as in `compare_once`. If the buckets of
    a corpus are divided among tasks, select survivors from the pairs of all tasks together. Then call this function
    again on the buckets with rows that need a recheck, until no task finds a new pair.
    """
    pairs, compared = compare_once(buckets, sets, thresholds, always_kept)
    while True:
        selection = select_survivors((len(sets.offsets) - 1) // len(thresholds), pairs)
        rechecked = without_rows(buckets, selection.duplicate_of >= 0, selection.needs_recheck)
        new_pairs, newly_compared = compare_once(rechecked, sets, thresholds, always_kept)
        compared += newly_compared
        if not len(new_pairs.later):
            return pairs, compared
        pairs = unique_pairs(concat_pairs((pairs, new_pairs)))


@kernel
def _select_survivors(starts, earlier, similarity):  # type: ignore[no-untyped-def]
    """The pair that removes each row, -1 for a kept row, and `needs_recheck`. Row x has the pairs starts[x] :
    starts[x + 1]."""
    rows = len(starts) - 1
    removed_by, needs_recheck = np.full(rows, -1, np.int64), np.zeros(rows, np.bool_)
    # Rows come in survivor order, so every earlier row is already decided.
    for x in range(rows):
        best = -1
        for pair in range(starts[x], starts[x + 1]):
            if removed_by[earlier[pair]] < 0 and (best < 0 or similarity[pair] > similarity[best]):
                best = pair
        removed_by[x] = best
        needs_recheck[x] = best < 0 and starts[x + 1] > starts[x]
    return removed_by, needs_recheck
