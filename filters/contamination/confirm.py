"""Confirmation: shared runs are compared byte by byte, because equal hashes alone prove nothing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.characters import ascii_folds
from dedup.kernel import buffers, kernel
from dedup.tokens import normalise
from filters.contamination.index import IndexArrays
from filters.contamination.layout import (
    ALIGNED_INDEX_TOKEN,
    ALIGNED_LENGTH,
    ALIGNED_TOKEN,
    PAIR_ALIGNED_END,
    PAIR_ALIGNED_START,
    PAIR_PART,
    PAIR_ROW,
    READING,
    RUN_INDEX_TOKEN,
    RUN_LENGTH,
    RUN_PART,
    RUN_ROW,
    RUN_TOKEN,
)
from filters.contamination.stream import Field, Stream

_SPACE = 32  # separates the tokens of a normalised text

_I64 = npt.NDArray[np.int64]


class Texts(NamedTuple):
    """The texts of a scan in every form that a comparison needs.

    columns: instruction and response [rows]; fields: where their tokens are; stream: the tokens of both, row after row.
    """

    columns: tuple[pa.StringArray, pa.StringArray]
    fields: tuple[Field, Field]
    stream: Stream


def cut_unequal_runs(texts: Texts, arrays: IndexArrays, runs: _I64) -> _I64:
    """Runs as found, int64 [n, 5], each as an aligned run int64 [n, 3], cut where its bytes differ from the index's."""
    number = np.arange(len(runs))
    each = np.stack([runs[:, RUN_ROW], runs[:, RUN_PART], number, number + 1], axis=1)
    aligned: _I64 = np.stack([runs[:, RUN_TOKEN], runs[:, RUN_INDEX_TOKEN], runs[:, RUN_LENGTH]], axis=1)
    cut_unequal(texts, arrays, each, aligned)
    return aligned


def cut_unequal(texts: Texts, arrays: IndexArrays, pairs: _I64, aligned: _I64) -> int:
    """Cut aligned runs, in place, at their first token whose bytes differ from the index's. Returns how many were cut.

    pairs: int64 [n, 4 or more], columns PAIR_ROW to PAIR_ALIGNED_END. ASCII is compared where it stands. Rows with
    other bytes, or with a difference, are normalised and compared again.
    """
    stream = texts.stream
    pairs = pairs[_differing(pairs, aligned, stream, *texts.fields, ascii_folds(), arrays)]
    if not len(pairs):
        return 0
    rows, place = np.unique(pairs[:, PAIR_ROW], return_inverse=True)
    left, right = (buffers(normalise(column.take(pa.array(rows)), READING)) for column in texts.columns)
    row_start = np.concatenate([[0], np.cumsum(np.diff(stream.offsets)[rows])]).astype(np.int64)
    starts, ends = _word_places(*left, *right, row_start)
    return int(_cut(pairs, aligned, place, stream, rows, row_start, starts, ends, left[0], right[0], arrays))


@kernel
def _differing(pairs, aligned, stream, left, right, folds, ix):  # type: ignore[no-untyped-def]
    """Which pairs have a run whose bytes, with ASCII letters folded, are not the index's: bool [n]."""
    out = np.zeros(len(pairs), np.bool_)
    for n in range(len(pairs)):
        row, p = pairs[n, PAIR_ROW], pairs[n, PAIR_PART]
        text_end = ix.text_start[p + 1]
        for r in range(pairs[n, PAIR_ALIGNED_START], pairs[n, PAIR_ALIGNED_END]):
            for k in range(aligned[r, ALIGNED_LENGTH]):
                t = aligned[r, ALIGNED_TOKEN] - stream.offsets[row] + k
                b = ix.text_start[p] + ix.start[aligned[r, ALIGNED_INDEX_TOKEN] + k]
                field, at = left, left.offsets[row] + t
                if t >= stream.split[row]:
                    field, at = right, right.offsets[row] + t - stream.split[row]
                first, last = field.row_start[row] + field.start[at], field.row_start[row] + field.end[at]
                # The index's token must have as many bytes: a space, or the end of the part, follows them.
                stop = b + last - first
                same = stop == text_end or (stop < text_end and ix.text[stop] == _SPACE)
                if same:
                    for c in range(first, last):
                        same &= folds[field.data[c]] == ix.text[b]
                        b += 1
                if not same:
                    out[n] = True
                    break
            if out[n]:
                break
    return out


@kernel
def _word_places(left, left_start, right, right_start, row_start):  # type: ignore[no-untyped-def]
    """The first byte and the end of every token of normalised fields (tokens separated by spaces).

    Row after row, the instruction's tokens first: int64 [T] each, into the bytes of the token's field.
    """
    starts, ends = np.zeros(row_start[-1], np.int64), np.zeros(row_start[-1], np.int64)
    t = 0
    for row in range(len(row_start) - 1):
        for field in range(2):
            data = left if field == 0 else right
            i, high = (left_start[row], left_start[row + 1]) if field == 0 else (right_start[row], right_start[row + 1])
            while i < high:
                starts[t] = i
                while i < high and data[i] != _SPACE:
                    i += 1
                ends[t] = i
                t += 1
                i += 1
        assert t == row_start[row + 1]
    return starts, ends


@kernel
def _cut(pairs, aligned, place, stream, rows, row_start, starts, ends, left, right, ix):  # type: ignore[no-untyped-def]
    """Cut each run at its first token whose normalised bytes differ; the number of runs cut."""
    cut = 0
    for n in range(len(pairs)):
        row, p = rows[place[n]], pairs[n, PAIR_PART]
        text_end = ix.text_start[p + 1]
        for r in range(pairs[n, PAIR_ALIGNED_START], pairs[n, PAIR_ALIGNED_END]):
            # Both texts are normalised, so the bytes of consecutive tokens are consecutive, one space apart.
            b = ix.text_start[p] + ix.start[aligned[r, ALIGNED_INDEX_TOKEN]]
            for k in range(aligned[r, ALIGNED_LENGTH]):
                t = aligned[r, ALIGNED_TOKEN] - stream.offsets[row] + k
                data = left if t < stream.split[row] else right
                t += row_start[place[n]]
                same = True
                for c in range(starts[t], ends[t]):
                    same &= b < text_end and data[c] == ix.text[b]
                    b += 1
                same &= b == text_end or ix.text[b] == _SPACE
                b += 1
                if not same:
                    aligned[r, ALIGNED_LENGTH] = k
                    cut += 1
                    break
    return cut
