"""Pairs: a row of text and a part of the index that share enough to be measured, and the alignment of their runs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dedup.growing import doubled
from dedup.kernel import borrowing_kernel, kernel
from dedup.tokens import longest_row
from filters.contamination.index import QUESTION, IndexArrays
from filters.contamination.layout import (
    ALIGNED_INDEX_TOKEN,
    ALIGNED_LENGTH,
    ALIGNED_TOKEN,
    MIN_PASSAGE_RUN,
    MIN_RUN,
    PAIR_ALIGNED_END,
    PAIR_ALIGNED_START,
    PAIR_PART,
    PAIR_ROW,
    PAIR_RUN_END,
    PAIR_RUN_START,
    RUN_INDEX_TOKEN,
    RUN_LENGTH,
    RUN_PART,
    RUN_ROW,
    RUN_TOKEN,
)
from filters.contamination.runs import comparable_tokens
from filters.contamination.stream import Stream

MAX_CELLS = 1 << 22
"""Cells of the largest alignment (4 MiB of steps). A pair that needs more keeps its runs as they were found."""
MIN_ALIGNED_WEIGHT = 0.4
"""Share of a question's weight that its runs must cover to be aligned. Below it no rule could count the pair as found,
so the time of an alignment is saved."""
_CONTINUED, _NEW = 3, 2
"""Scores of a match in an alignment, for one that continues a run and for another. A scattered "the" then does not tear
a run apart."""
_MATCH, _SKIP_INDEX, _SKIP_TEXT = 1, 2, 3
"""Steps of an alignment: both sides advance by a token, only the index's part does, only the text does."""

_ONE = np.uint64(1)

_I64 = npt.NDArray[np.int64]


def align_pairs(stream: Stream, runs: _I64, arrays: IndexArrays) -> tuple[_I64, _I64]:
    """The pairs to measure int64 [n, 6] (columns PAIR_*) and their aligned runs int64 [m, 3] (columns ALIGNED_*).

    runs: as `filters.contamination.runs.find_runs` returns them. A pair is a row with a run of MIN_PASSAGE_RUN tokens,
    or all, of the part. For questions, runs that cover half of it suffice, too; and of the weaker pairs with a question
    (no such run, less than half) each row keeps one, the first with a run of MIN_RUN tokens.
    """
    pairs, pair_count, aligned, aligned_count = _pairs(stream, runs, arrays)
    return pairs[:pair_count], aligned[:aligned_count]


@kernel
def _pairs(stream, runs, ix):  # type: ignore[no-untyped-def]
    """Pairs and how many are used; aligned runs and how many are used."""
    pairs, pair_count = np.empty((64, 6), np.int64), 0
    aligned, count = np.empty((256, 3), np.int64), 0
    covered_at = np.zeros(longest_row(ix.part_start), np.uint8)
    first_run, row, weak_row = 0, -1, -1
    while first_run < len(runs):
        row, p = runs[first_run, RUN_ROW], runs[first_run, RUN_PART]
        origin, size = ix.part_start[p], ix.part_start[p + 1] - ix.part_start[p]
        # All runs of this row and part: which is the longest, and how much of the part they cover together.
        stop, best, covered, covered_weight, total_weight = first_run, first_run, 0, 0.0, 0.0
        while stop < len(runs) and runs[stop, RUN_ROW] == row and runs[stop, RUN_PART] == p:
            if runs[stop, RUN_LENGTH] > runs[best, RUN_LENGTH]:
                best = stop
            for t in range(runs[stop, RUN_INDEX_TOKEN], runs[stop, RUN_INDEX_TOKEN] + runs[stop, RUN_LENGTH]):
                if not covered_at[t - origin]:
                    covered_at[t - origin] = 1
                    covered += 1
                    covered_weight += ix.weight[t]
            stop += 1
        for t in range(size):
            covered_at[t] = 0
            total_weight += ix.weight[origin + t]
        longest = runs[best, RUN_LENGTH]
        measured = longest >= min(MIN_PASSAGE_RUN, size)
        strong = 2 * covered >= comparable_tokens(size, stream.offsets[row + 1] - stream.offsets[row])
        if ix.kind[p] == QUESTION and not measured:
            # A phrase of LaTeX or code occurs in hundreds of questions; each row keeps one of such weak pairs.
            measured = strong or (longest >= MIN_RUN and weak_row != row)
            if measured and not strong:
                weak_row = row
        if measured:
            first = count
            if (
                ix.kind[p] == QUESTION
                and longest < size
                and (strong or covered_weight >= MIN_ALIGNED_WEIGHT * total_weight)
            ):
                aligned, count = _align(
                    stream, row, ix, p, runs[best, RUN_TOKEN], runs[best, RUN_INDEX_TOKEN], aligned, count
                )
            if count == first:  # not aligned: the runs as they were found
                for r in range(first_run, stop):
                    # One occurrence of a whole part is enough; its other occurrences add nothing.
                    if longest == size and r != best:
                        continue
                    if count == len(aligned):
                        aligned = doubled(aligned)
                    aligned[count, ALIGNED_TOKEN] = runs[r, RUN_TOKEN]
                    aligned[count, ALIGNED_INDEX_TOKEN] = runs[r, RUN_INDEX_TOKEN]
                    aligned[count, ALIGNED_LENGTH] = runs[r, RUN_LENGTH]
                    count += 1
            if pair_count == len(pairs):
                pairs = doubled(pairs)
            pairs[pair_count, PAIR_ROW], pairs[pair_count, PAIR_PART] = row, p
            pairs[pair_count, PAIR_ALIGNED_START], pairs[pair_count, PAIR_ALIGNED_END] = first, count
            pairs[pair_count, PAIR_RUN_START], pairs[pair_count, PAIR_RUN_END] = first_run, stop
            pair_count += 1
        first_run = stop
    return pairs, pair_count, aligned, count


@borrowing_kernel
def _find_repeats(hashes, table, following):  # type: ignore[no-untyped-def]
    """Find for each token of a text where it occurs next.

    hashes: uint64 [n], the text. table: int32 [2 ** m], more than n: an open-addressing table of the tokens, in which
    the slot of each has its first place plus one; 0 = free. following: int32 [n], the next place of the same token plus
    one, 0 = none. Both are written.
    """
    mask = np.uint64(len(table) - 1)
    table[:] = 0
    for i in range(len(hashes) - 1, -1, -1):
        slot = hashes[i] & mask
        while table[slot] != 0 and hashes[table[slot] - 1] != hashes[i]:
            slot = (slot + _ONE) & mask
        following[i] = table[slot]
        table[slot] = i + 1


@borrowing_kernel
def _first_place(hashes, table, token):  # type: ignore[no-untyped-def]
    """The first place of a token plus one, 0 if the text does not have it, from the table of `_find_repeats`."""
    mask = np.uint64(len(table) - 1)
    slot = token & mask
    while table[slot] != 0 and hashes[table[slot] - 1] != token:
        slot = (slot + _ONE) & mask
    return table[slot]


@borrowing_kernel
def _fill_steps(hashes, table, following, tokens, base, width, score, step):  # type: ignore[no-untyped-def]
    """Fill the table of `_align`, line by line. Most of its cells repeat the score of the line before.

    A score is that of the best alignment of the tokens of the part up to a line with the text up to a place, so within
    a line it only grows. A line without matches therefore is the line before, and a match changes the places behind it
    as far as its score is above theirs.

    hashes: the text; table, following: those of `_find_repeats`. tokens: the part. base: the text's place before the
    first column of line 0, may be negative. score: int32 [len(tokens) + width + 1], zeros: the scores of the last line
    at the places base, base + 1, ... step: uint8 [len(tokens) + 1, width], the first line 0.
    """
    for a in range(1, len(tokens) + 1):
        line, before, column = step[a], step[a - 1], score[a:]  # column[k]: the score at place base + a + k
        for k in range(width):
            line[k] = _SKIP_INDEX
        first = base + a
        place = np.int64(_first_place(hashes, table, tokens[a - 1]))
        while place > 0 and place - 1 < first:
            place = np.int64(following[place - 1])
        # The score to the left of column k, and the line before's there.
        k, left, diagonal = 0, np.int32(0), score[a - 1]
        while k < width:
            match = place - 1 - first if place > 0 else width
            if k < match and left <= column[k]:
                # Nothing changes up to the next match.
                k = min(match, width - 1)
                if k > 0:
                    left = diagonal = column[k - 1]
                if k < match:  # the last column, which has no score of the line before
                    if left > column[k]:
                        column[k], line[k] = left, _SKIP_TEXT
                    break
            above = column[k]
            value = above
            if left > value:
                value, line[k] = left, _SKIP_TEXT
            if k == match:
                matched = diagonal + np.int32(_CONTINUED if before[k] == _MATCH else _NEW)
                if matched >= value:
                    value, line[k] = matched, _MATCH
                place = np.int64(following[place - 1])
            column[k], left, diagonal = value, value, above
            k += 1


@kernel
def _align(stream, row, ix, p, i, q, aligned, count):  # type: ignore[no-untyped-def]
    """Align part p with the text around its best run (text token i, index token q); append the runs of the alignment.

    The alignment is a longest common subsequence that prefers contiguous runs. It may leave the diagonal of the best
    run by half the part's length. Nothing is appended where that takes more than MAX_CELLS cells.
    """
    low, high = stream.offsets[row], stream.offsets[row + 1]
    origin, size = ix.part_start[p], ix.part_start[p + 1] - ix.part_start[p]
    slack = max(16, size // 2)
    width = 2 * slack + 1
    if width * size > MAX_CELLS:
        return aligned, count
    # A band of the table of all alignments. Line a is index token origin + a - 1; column k of line a is text token
    # base + a + k. Along a diagonal the column stays the same; skipping an index token comes from one column to the
    # right on the line before, skipping a text token from one to the left on the same line.
    base = i - (q - origin) - slack - 1
    begin, stop = max(low, base + 1), min(high, base + size + width)
    text = stream.hash[begin:stop]
    slots = 16
    while slots < 2 * len(text):
        slots *= 2
    table, following = np.empty(slots, np.int32), np.empty(len(text), np.int32)
    _find_repeats(text, table, following)
    score, step = np.zeros(size + width + 1, np.int32), np.empty((size + 1, width), np.uint8)
    step[0] = 0
    _fill_steps(text, table, following, ix.tokens[origin : origin + size], base - begin, width, score, step)
    # Back from the end of the part; a series of matches is a run.
    a, k = size, width - 1
    first = count
    while a > 0 and k >= 0:
        move = step[a, k] if k < width else _SKIP_INDEX
        if move == _MATCH:
            length = 0
            while a > 0 and step[a, k] == _MATCH:
                a -= 1
                length += 1
            if count == len(aligned):
                aligned = doubled(aligned)
            aligned[count, ALIGNED_TOKEN] = base + a + 1 + k
            aligned[count, ALIGNED_INDEX_TOKEN] = origin + a
            aligned[count, ALIGNED_LENGTH] = length
            count += 1
        elif move == _SKIP_INDEX:
            a -= 1
            k += 1
        else:
            k -= 1
    # The runs were collected from the end; reverse them into the order of the text.
    for r in range((count - first) // 2):
        for c in range(3):
            head, tail = aligned[first + r, c], aligned[count - 1 - r, c]
            aligned[first + r, c], aligned[count - 1 - r, c] = tail, head
    return aligned, count
