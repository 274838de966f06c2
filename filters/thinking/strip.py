"""Thinking: reasoning that a model wrote between tags before its answer, and the two stages that remove it.

`thinking` judges the text as it came: a response whose reasoning or answer was cut off is dropped, with the text that
shows it. `strip_thinking` then leaves only the answer of each response. Both find blocks by `filters.thinking.cuts`.
What is left is read again until nothing more is found. `pipelines.steps.refine` scans the result of all stages once
more and fails the run if it still finds thinking.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.exact import digest128
from dedup.kernel import buffers, kernel
from filters.stage import Filter, Transform
from filters.text import is_space, strings
from filters.thinking.cuts import TAG_ONLY, find_cuts, write_out_channels
from filters.thinking.families import FAMILIES
from filters.verdict import Check, first_failure

MAX_PASSES = 16
"""Readings of a text. Tags that appear only after others are removed (`<th<think>x</think>ink>`) are an attack, not a
trace; a text with more layers of them is dropped as `thinking_tangled`."""


class Answers(NamedTuple):
    """Texts without their thinking.

    text: string [rows]; thinking: string [rows], the contents of blocks, separated by a blank line; blocks: int64
    [rows], the number of blocks removed; unclosed: bool [rows], whether a block was never closed; changed: bool [rows],
    whether `text` differs from the input; tangled: bool [rows], whether thinking is left after MAX_PASSES readings.
    """

    text: pa.StringArray
    thinking: pa.StringArray
    blocks: npt.NDArray[np.int64]
    unclosed: npt.NDArray[np.bool_]
    changed: npt.NDArray[np.bool_]
    tangled: npt.NDArray[np.bool_]


class Thinking(Filter):
    """Drop records whose response is unfinished thinking. Put it before `strip_thinking`.

    drop: `unfinished`, or `any` to drop every record with thinking instead of stripping it.
    """

    kind: Literal["thinking"] = "thinking"
    drop: Literal["unfinished", "any"] = "unfinished"

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `thinking_tangled` (tags within tags, too deep to remove), `thinking_unclosed` (a block never ends,
        so what follows it was cut off), `thinking_without_answer` (nothing is left beside the thinking),
        `answer_unclosed` (the solution after begin_of_thought never ends), `thinking_present` (where `drop` is `any`).
        The value is the number of blocks.
        """
        responses = as_array(records["response"])
        answers = strip(responses, keep=False)
        empty = pc.equal(pc.utf8_trim_whitespace(answers.text), "").to_numpy(zero_copy_only=False)
        present = answers.blocks > 0
        checks = [
            Check("thinking_tangled", answers.tangled, answers.blocks, MAX_PASSES),
            Check("thinking_unclosed", answers.unclosed, answers.blocks, 0),
            Check("thinking_without_answer", present & empty, answers.blocks, 0),
            Check("answer_unclosed", _solution_unclosed(responses, present), answers.blocks, 0),
        ]
        if self.drop == "any":
            checks.append(Check("thinking_present", present, answers.blocks, 0))
        return first_failure(checks)


class StripThinking(Transform):
    """Leave only the answer of each response.

    mode: `strip`, or `keep` to move the reasoning to a string column `thinking`. Appends `score_thinking` (float32):
    the number of blocks removed, negative if the last one was never closed. A response without tags is unchanged; one
    with tags also loses the white space at its ends.
    """

    kind: Literal["strip_thinking"] = "strip_thinking"
    mode: Literal["strip", "keep"] = "strip"

    def rewrite(self, records: pa.Table) -> pa.Table:
        """Rewrite `response`, and `digest` where there is one.

        A response that still has thinking after MAX_PASSES readings keeps it. `thinking` before this stage drops it as
        `thinking_tangled`; without that stage, the scan of `pipelines.steps.refine` fails the run.
        """
        answers = strip(as_array(records["response"]), keep=self.mode == "keep")
        if answers.changed.any():
            records = _set_column(records, records.schema.field("response"), answers.text)
            if "digest" in records.column_names:
                contents = (as_array(records[name]) for name in ("condition", "instruction", "response"))
                records = _set_column(records, records.schema.field("digest"), digest128(*contents))
        score = np.where(answers.unclosed, -answers.blocks, answers.blocks).astype(np.float32)
        records = _set_column(records, pa.field("score_thinking", pa.float32(), False), pa.array(score))
        if self.mode == "keep":
            records = _set_column(records, pa.field("thinking", pa.string(), False), answers.thinking)
        return records


def _set_column(records: pa.Table, field: pa.Field, column: pa.Array) -> pa.Table:
    """Replace the column of that name, or append it."""
    if field.name not in records.column_names:
        return records.append_column(field, column)
    return records.set_column(records.column_names.index(field.name), field, column)


def _solution_unclosed(responses: pa.StringArray, present: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows, of those with thinking `present`, begin a solution and do not end it: bool [rows].

    Only for this wrapper does a missing end show a cut. `</answer>` and `<|return|>` are stop strings, which decoding
    leaves out.
    """
    unclosed = np.zeros(len(responses), np.bool_)
    rows = np.flatnonzero(present)
    texts = responses.take(pa.array(rows))
    opened = pc.match_substring(texts, "<|begin_of_solution|>", ignore_case=True)
    closed = pc.match_substring(texts, "<|end_of_solution|>", ignore_case=True)
    unclosed[rows] = pc.and_not(opened, closed).to_numpy(zero_copy_only=False)
    return unclosed


def strip(texts: pa.StringArray, keep: bool = True) -> Answers:
    """Take the thinking out of every text. Texts without tags are returned byte for byte.

    keep: whether to collect the thinking. Without it `Answers.thinking` is empty, and a third of the time is saved.
    """
    rows = len(texts)
    blocks = np.zeros(rows, np.int64)
    unclosed, changed, tangled = (np.zeros(rows, np.bool_) for _ in range(3))
    texts = write_out_channels(texts)
    thinking = strings(np.zeros(0, np.uint8), np.zeros(rows + 1, np.int32))
    # Each pass reads only the texts that the one before changed: `part`, whose rows in `texts` are `part_rows`.
    part, part_rows = texts, np.arange(rows)
    for remaining in range(MAX_PASSES, -1, -1):
        cuts = find_cuts(part)
        if len(cuts.row) == 0:
            break
        if remaining == 0:
            tangled[part_rows[cuts.row]] = True
            break
        cut_rows = np.unique(cuts.row)
        blocks[part_rows] += np.bincount(cuts.row, cuts.closed != TAG_ONLY, len(part)).astype(np.int64)
        unclosed[part_rows] |= np.bincount(cuts.row, cuts.closed < 0, len(part)) > 0
        data, offsets = buffers(part)
        answer = strings(*_without(data, offsets, cuts.row, cuts.start, cuts.end)).take(pa.array(cut_rows))
        part_rows = part_rows[cut_rows]
        mask = np.zeros(rows, np.bool_)
        mask[part_rows] = changed[part_rows] = True
        texts = pc.replace_with_mask(texts, pa.array(mask), answer)
        if keep:
            contents = _contents(data, offsets, cuts.row, cuts.inner_start, cuts.inner_end, cuts.closed)
            inner = strings(*contents).take(pa.array(cut_rows))
            if remaining < MAX_PASSES:  # append to what earlier passes collected
                earlier = thinking.take(pa.array(part_rows))
                both = pc.and_(pc.not_equal(earlier, ""), pc.not_equal(inner, ""))
                inner = pc.binary_join_element_wise(earlier, inner, pc.if_else(both, "\n\n", ""))
            thinking = pc.replace_with_mask(thinking, pa.array(mask), inner)
        part = answer
    return Answers(texts, thinking, blocks, unclosed, changed, tangled)


CENSUS = pa.schema(
    [
        pa.field("source", pa.string(), False),
        pa.field("family", pa.string(), False),
        *(pa.field(name, pa.int64(), False) for name in ("rows", "blocks", "unclosed", "dropped")),
    ]
)
"""Thinking by source and family of tags. rows: with such thinking; blocks, unclosed: blocks; dropped: rows. A row
counts in each of its families."""


def census(records: pa.Table, dropped: npt.NDArray[np.bool_]) -> pa.Table:
    """The thinking in `response` by source and family: CENSUS, ordered by both.

    dropped: bool [rows], the rows that were dropped for their thinking.
    """
    cuts = find_cuts(write_out_channels(as_array(records["response"])))
    block = cuts.closed != TAG_ONLY
    rows = cuts.row[block]
    by_block = pl.DataFrame(
        {
            "source": pl.Series(as_array(records["source"]).take(pa.array(rows)), dtype=pl.String),
            "family": pl.Series([FAMILIES[family].name for family in cuts.family[block].tolist()], dtype=pl.String),
            "row": rows,
            "unclosed": cuts.closed[block] < 0,
            "dropped": dropped[rows],
        }
    )
    counted = by_block.group_by("source", "family").agg(
        rows=pl.col("row").n_unique(),
        blocks=pl.len(),
        unclosed=pl.col("unclosed").sum(),
        dropped=pl.col("row").filter("dropped").n_unique(),
    )
    return counted.sort("source", "family").select(CENSUS.names).to_arrow().cast(CENSUS)


def rows_with_thinking(responses: pa.StringArray) -> npt.NDArray[np.int64]:
    """The rows in which thinking, or a tag of it, is found, ascending. None in responses that were stripped."""
    return np.unique(find_cuts(write_out_channels(responses)).row)


@kernel
def _trim(data, start, end):  # type: ignore[no-untyped-def]
    """`start` and `end` without the white space at either end of data[start:end]."""
    while start < end and is_space(data[start]):
        start += 1
    while end > start and is_space(data[end - 1]):
        end -= 1
    return start, end


@kernel
def _copy(target, at, data, start, end):  # type: ignore[no-untyped-def]
    """Write data[start:end] into `target` from `at` on; returns where it ends there."""
    if end <= start:
        return at
    target[at : at + end - start] = data[start:end]  # a slice, because numba turns no loop over bytes into a memcpy
    return at + end - start


@kernel
def _without(data, offsets, row, start, end):  # type: ignore[no-untyped-def]
    """The texts without their cuts, as data uint8 and offsets int32 [rows + 1]. A text without cuts comes out empty.

    Each text is trimmed. Where a cut leaves white space on both sides, that behind it is removed.
    """
    rows = len(offsets) - 1
    result = np.empty(offsets[rows] - offsets[0], np.uint8)
    places = np.zeros(rows + 1, np.int32)
    size, cut = 0, 0
    for r in range(rows):
        if cut < len(row) and row[cut] == r:
            base, at, stop = size, offsets[r], offsets[r + 1]
            # One piece of text before each cut of the row, and one behind the last.
            while True:
                more = cut < len(row) and row[cut] == r
                piece_end = start[cut] if more else stop
                if size == base or is_space(result[size - 1]):
                    while at < piece_end and is_space(data[at]):
                        at += 1
                size = _copy(result, size, data, at, piece_end)
                if not more:
                    break
                at = end[cut]
                cut += 1
            size = _trim(result, base, size)[1]
        places[r + 1] = size
    return result[:size], places


@kernel
def _contents(data, offsets, row, start, end, closed):  # type: ignore[no-untyped-def]
    """The contents of each text's blocks, trimmed and separated by a blank line, as data uint8 and offsets int32."""
    rows = len(offsets) - 1
    result = np.empty(offsets[rows] - offsets[0] + 2 * len(row), np.uint8)
    places = np.zeros(rows + 1, np.int32)
    size, cut = 0, 0
    for r in range(rows):
        base = size
        while cut < len(row) and row[cut] == r:
            left, right = _trim(data, start[cut], end[cut])
            if closed[cut] != TAG_ONLY and right > left:
                if size > base:
                    result[size] = result[size + 1] = 10
                    size += 2
                size = _copy(result, size, data, left, right)
            cut += 1
        places[r + 1] = size
    return result[:size], places
