"""Runs: seeds extended to the longest stretch of tokens that a text and a part of the index share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dedup.growing import doubled
from dedup.kernel import kernel
from filters.contamination.index import QUESTION, IndexArrays
from filters.contamination.layout import (
    MIN_RUN,
    RUN_INDEX_TOKEN,
    RUN_LENGTH,
    RUN_PART,
    RUN_ROW,
    RUN_TOKEN,
)
from filters.contamination.seeds import first_posting, posting_count
from filters.contamination.stream import Stream

_U64 = npt.NDArray[np.uint64]
_I64 = npt.NDArray[np.int64]

_RUN_COLUMNS = 5
_DIAGONALS = 4096
"""Slots of the table of the last run on each diagonal (index token minus text token). A power of two. A collision
costs a repeated extension, never a run."""
# Columns of that table: the run's row plus one (0 = none yet), its diagonal, and where it ends.
_LAST_ROW, _LAST_DIAGONAL, _LAST_END = range(3)
# Columns of what one row of text shares with each part: the longest run, and the sum of all runs.
_LONGEST_RUN, _TOTAL_RUN = range(2)


def find_runs(stream: Stream, seed_tokens: _I64, seed_values: _U64, arrays: IndexArrays) -> _I64:
    """The runs worth a look, int64 [n, 5] (columns RUN_*), ordered by row, part and token.

    seed_tokens, seed_values: as `filters.contamination.seeds.find_seeds` returns them. Worth a look are the runs of a
    part of which the row holds a run of MIN_RUN tokens or all of it, and of a question of which its runs may cover
    half: those that `filters.contamination.align` or a count of n-grams can use.
    """
    runs, count = _extend(
        stream, seed_tokens, seed_values, arrays.postings, arrays.tokens, arrays.part, arrays.part_start, arrays.kind
    )
    runs = runs[:count]
    # Sorted by content: what is found does not depend on which seed found it first.
    pair = runs[:, RUN_ROW] * len(arrays.kind) + runs[:, RUN_PART]
    found: _I64 = runs[np.lexsort((runs[:, RUN_TOKEN], pair))]
    return found


@kernel
def comparable_tokens(size, row_tokens):  # type: ignore[no-untyped-def]
    """The tokens that a part of `size` tokens and a row could share: the part's, or the row's where those are fewer.

    A very short row counts as one of 2 * MIN_RUN tokens, so that a few common words are not half of it.
    """
    return min(size, max(2 * MIN_RUN, row_tokens))


@kernel
def _extend(stream, seed_tokens, seed_values, postings, tokens, part, part_start, kind):  # type: ignore[no-untyped-def]
    """Runs int64 [n, 5] and how many of them are used; each run once, whichever of its seeds found it."""
    runs, count, kept = np.empty((max(len(seed_tokens), 1024), _RUN_COLUMNS), np.int64), 0, 0
    last = np.zeros((_DIAGONALS, 3), np.int64)
    shared = np.zeros((len(kind), 2), np.int64)
    row = 0
    for n in range(len(seed_tokens) + 1):
        if n == len(seed_tokens) or seed_tokens[n] >= stream.offsets[row + 1]:
            # The row is finished: runs[kept:count] are its runs. Those not worth a look are marked with length 0 ...
            for r in range(kept, count):
                p = runs[r, RUN_PART]
                size, longest = part_start[p + 1] - part_start[p], shared[p, _LONGEST_RUN]
                both = comparable_tokens(size, stream.offsets[row + 1] - stream.offsets[row])
                worth = longest >= min(MIN_RUN, size) or (kind[p] == QUESTION and 2 * shared[p, _TOTAL_RUN] >= both)
                if not worth:
                    runs[r, RUN_LENGTH] = 0
            # ... and then the others move up, and the sums of the row's parts are cleared for the next row.
            first = kept
            for r in range(first, count):
                shared[runs[r, RUN_PART], _LONGEST_RUN], shared[runs[r, RUN_PART], _TOTAL_RUN] = 0, 0
                if runs[r, RUN_LENGTH] > 0:
                    for k in range(_RUN_COLUMNS):
                        runs[kept, k] = runs[r, k]
                    kept += 1
            count = kept
            if n == len(seed_tokens):
                break
        while seed_tokens[n] >= stream.offsets[row + 1]:
            row += 1
        begin, end = stream.offsets[row], stream.offsets[row + 1]
        low = first_posting(seed_values[n])
        for k in range(low, low + posting_count(seed_values[n])):
            i, q = seed_tokens[n], np.int64(postings[k])
            diagonal = q - i
            slot = diagonal & (_DIAGONALS - 1)
            # A seed inside the last run on its diagonal would be extended to that run again.
            if (
                last[slot, _LAST_ROW] == row + 1
                and last[slot, _LAST_DIAGONAL] == diagonal
                and i < last[slot, _LAST_END]
            ):
                continue
            if stream.hash[i] != tokens[q]:
                continue
            p = part[q]
            part_begin, part_end = part_start[p], part_start[p + 1]
            length = 1
            while i + length < end and q + length < part_end and stream.hash[i + length] == tokens[q + length]:
                length += 1
            while i > begin and q > part_begin and stream.hash[i - 1] == tokens[q - 1]:
                i -= 1
                q -= 1
                length += 1
            last[slot, _LAST_ROW], last[slot, _LAST_DIAGONAL], last[slot, _LAST_END] = row + 1, diagonal, i + length
            if count == len(runs):
                runs = doubled(runs)
            runs[count, RUN_ROW], runs[count, RUN_PART], runs[count, RUN_TOKEN] = row, p, i
            runs[count, RUN_INDEX_TOKEN], runs[count, RUN_LENGTH] = q, length
            shared[p, _LONGEST_RUN] = max(shared[p, _LONGEST_RUN], length)
            shared[p, _TOTAL_RUN] += length
            count += 1
    return runs, kept
