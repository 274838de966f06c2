"""Thinking tokens: reasoning that a model wrote between tags before its answer, taken out with proof.

`thinking` judges the text as it came: an answer that was cut off or never given is dropped, with the text that shows
it. `strip_thinking` then leaves of each response its answer alone. Both read a text as `filters.thinking.tags` does, which
says what a block is. What is left is read again until nothing is found in it; `pipelines.steps.refine` scans the rows that
come out of all stages once more, and fails the run where a block has come through.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dedup.exact import digest128
from dedup.kernel import buffers, kernel
from filters.stage import Filter, Transform
from filters.text import contiguous, is_space, strings
from filters.thinking.tags import FAMILIES, find, spell_out
from filters.verdict import Check, first_failure

PASSES = 16
"""Readings of a text: tags that appear only when others are gone (`<th<think>x</think>ink>`) are an attack, not a
trace, and a text with more layers of them is given up."""


class Answers(NamedTuple):
    """Texts without their thinking.

    text: string [rows]; thinking: string [rows], the blocks' contents, a blank line between them; blocks: int64 [rows],
    how many were taken out; unclosed: bool [rows]; changed: bool [rows], where `text` is not what came in; tangled:
    bool [rows], where after PASSES readings there still is thinking.
    """

    text: pa.StringArray
    thinking: pa.StringArray
    blocks: npt.NDArray[np.int64]
    unclosed: npt.NDArray[np.bool_]
    changed: npt.NDArray[np.bool_]
    tangled: npt.NDArray[np.bool_]


class Thinking(Filter):
    """Drop records whose response is unfinished thinking, judged before it is stripped.

    drop: `unfinished`, or `any` to drop every record that has thinking instead of stripping it.
    """

    kind: Literal["thinking"] = "thinking"
    drop: Literal["unfinished", "any"] = "unfinished"

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `thinking_unclosed` (a block never ends: what follows was cut off), `thinking_without_answer`
        (nothing is left beside the thinking), `answer_unclosed` (the solution that follows begin_of_thought never
        ends), `thinking_tangled` (tags within tags, so deep that no reading frees the text of them),
        `thinking_present` (where `drop` is `any`). The value is the number of blocks."""
        responses = contiguous(records["response"])
        answers = strip(responses, keep=False)
        empty = pc.equal(pc.utf8_trim_whitespace(answers.text), "").to_numpy(zero_copy_only=False)
        some = answers.blocks > 0
        checks = [
            Check("thinking_tangled", answers.tangled, answers.blocks, PASSES),
            Check("thinking_unclosed", answers.unclosed, answers.blocks, 0),
            Check("thinking_without_answer", some & empty, answers.blocks, 0),
            Check("answer_unclosed", _solution_unclosed(responses, some), answers.blocks, 0),
        ]
        if self.drop == "any":
            checks.append(Check("thinking_present", some, answers.blocks, 0))
        return first_failure(checks)


class StripThinking(Transform):
    """Leave the answer of each response alone.

    Appends `score_thinking` (float32): how many blocks were taken out, negative where the last was never closed (put
    the stage `thinking` first to drop those). mode: `strip`, or `keep` to keep the reasoning in a string column
    `thinking`. A response without tags comes out as it went in; one with tags loses white space at its ends as well.
    """

    kind: Literal["strip_thinking"] = "strip_thinking"
    mode: Literal["strip", "keep"] = "strip"

    def rewrite(self, records: pa.Table) -> pa.Table:
        """Rewrite `response`, and `digest` where there is one.

        A response that cannot be freed of thinking keeps what is left: `thinking` before this stage drops it as
        `thinking_tangled`, and without that the scan of `pipelines.steps.refine` fails the run.
        """
        answers = strip(contiguous(records["response"]), keep=self.mode == "keep")
        if answers.changed.any():
            place = records.column_names.index("response")
            records = records.set_column(place, records.schema.field(place), answers.text)
            if "digest" in records.column_names:
                place = records.column_names.index("digest")
                contents = (contiguous(records[name]) for name in ("condition", "instruction", "response"))
                records = records.set_column(place, records.schema.field(place), digest128(*contents))
        score = np.where(answers.unclosed, -answers.blocks, answers.blocks).astype(np.float32)
        columns: list[tuple[str, pa.Array]] = [("score_thinking", pa.array(score))]
        if self.mode == "keep":
            columns.append(("thinking", answers.thinking))
        for name, column in columns:
            field = pa.field(name, column.type, False)
            if name in records.column_names:
                records = records.set_column(records.column_names.index(name), field, column)
            else:
                records = records.append_column(field, column)
        return records


def _solution_unclosed(responses: pa.StringArray, some: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Where, among the rows with `some` thinking, a solution is begun and not ended: bool [rows].

    Only of this wrapper is a missing end a sign: `</answer>` and `<|return|>` are stop words that decoding leaves out.
    """
    found = np.zeros(len(responses), np.bool_)
    rows = np.flatnonzero(some)
    texts = responses.take(pa.array(rows))
    opened = pc.match_substring(texts, "<|begin_of_solution|>", ignore_case=True)
    closed = pc.match_substring(texts, "<|end_of_solution|>", ignore_case=True)
    found[rows] = pc.and_not(opened, closed).to_numpy(zero_copy_only=False)
    return found


def strip(texts: pa.StringArray, keep: bool = True) -> Answers:
    """Take the thinking out of every text; texts without tags come out byte by byte as they went in.

    keep: whether the thinking is wanted; without it `thinking` is empty, and a third of the time is saved.
    """
    rows = len(texts)
    blocks = np.zeros(rows, np.int64)
    unclosed, changed, tangled = (np.zeros(rows, np.bool_) for _ in range(3))
    texts = spell_out(texts)
    thinking = strings(np.zeros(0, np.uint8), np.zeros(rows + 1, np.int32))
    touched = np.arange(rows)  # the rows of `part`
    part, left = texts, PASSES
    while True:
        cuts = find(part)
        if len(cuts.row) == 0:
            return Answers(texts, thinking, blocks, unclosed, changed, tangled)
        if left == 0:
            tangled[touched[cuts.row]] = True
            return Answers(texts, thinking, blocks, unclosed, changed, tangled)
        left -= 1
        hit = np.unique(cuts.row)
        blocks_here = np.bincount(cuts.row, cuts.closed != 0, len(part)).astype(np.int64)
        blocks[touched] += blocks_here
        unclosed[touched] |= np.bincount(cuts.row, cuts.closed < 0, len(part)) > 0
        data, offsets = buffers(part)
        answer = strings(*_without(data, offsets, cuts.row, cuts.start, cuts.end)).take(pa.array(hit))
        touched = touched[hit]
        mask = np.zeros(rows, np.bool_)
        mask[touched] = changed[touched] = True
        texts = pc.replace_with_mask(texts, pa.array(mask), answer)
        if keep:
            within = _within(data, offsets, cuts.row, cuts.inner_start, cuts.inner_end, cuts.closed)
            inner = strings(*within).take(pa.array(hit))
            if left < PASSES - 1:  # a later pass adds to what an earlier one found
                earlier = thinking.take(pa.array(touched))
                both = pc.and_(pc.not_equal(earlier, ""), pc.not_equal(inner, ""))
                inner = pc.binary_join_element_wise(earlier, inner, pc.if_else(both, "\n\n", ""))
            thinking = pc.replace_with_mask(thinking, pa.array(mask), inner)
        part = answer


CENSUS = pa.schema(
    [
        pa.field("source", pa.string(), False),
        pa.field("family", pa.string(), False),
        *(pa.field(name, pa.int64(), False) for name in ("rows", "blocks", "unclosed", "dropped")),
    ]
)
"""What was found of each family in each source. unclosed: blocks; dropped: rows, which count in each of their
families."""


def census(records: pa.Table, dropped: npt.NDArray[np.bool_]) -> pa.Table:
    """The thinking in `response`, by source and family (CENSUS, ordered by both), for reports.

    dropped: bool [rows], the rows that went for their thinking.
    """
    cuts = find(spell_out(contiguous(records["response"])))
    block = cuts.closed != 0
    rows = cuts.row[block]
    found = pl.DataFrame(
        {
            "source": pl.Series(contiguous(records["source"]).take(pa.array(rows)), dtype=pl.String),
            "family": pl.Series([FAMILIES[family].name for family in cuts.family[block].tolist()], dtype=pl.String),
            "row": rows,
            "unclosed": cuts.closed[block] < 0,
            "dropped": dropped[rows],
        }
    )
    counted = found.group_by("source", "family").agg(
        rows=pl.col("row").n_unique(),
        blocks=pl.len(),
        unclosed=pl.col("unclosed").sum(),
        dropped=pl.col("row").filter("dropped").n_unique(),
    )
    return counted.sort("source", "family").select(CENSUS.names).to_arrow().cast(CENSUS)


def leaks(responses: pa.StringArray) -> npt.NDArray[np.int64]:
    """The rows in which thinking, or a tag of it, is found, ascending: none, in responses that were stripped."""
    return np.unique(find(spell_out(responses)).row)


@kernel
def _trim(data, start, end):  # type: ignore[no-untyped-def]
    """`start` and `end` less the white space within them at either end."""
    while start < end and is_space(data[start]):
        start += 1
    while end > start and is_space(data[end - 1]):
        end -= 1
    return start, end


@kernel
def _copy(target, at, data, start, end):  # type: ignore[no-untyped-def]
    """Write data[start:end] into `target` at `at`; where it ends there."""
    if end <= start:
        return at
    target[at : at + end - start] = data[start:end]  # a block at a time: a loop over bytes is no memcpy to numba
    return at + end - start


@kernel
def _without(data, offsets, row, start, end):  # type: ignore[no-untyped-def]
    """The texts less the cuts (data uint8, offsets int32 [rows + 1]); a text that has none comes out empty.

    Each text is trimmed, and where a cut leaves white space on both sides, that after it goes."""
    rows = len(offsets) - 1
    result = np.empty(offsets[rows] - offsets[0], np.uint8)
    places = np.zeros(rows + 1, np.int32)
    size, cut = 0, 0
    for r in range(rows):
        if cut < len(row) and row[cut] == r:
            base, at, stop = size, offsets[r], offsets[r + 1]
            while True:
                more = cut < len(row) and row[cut] == r
                piece = start[cut] if more else stop
                if size == base or is_space(result[size - 1]):
                    while at < piece and is_space(data[at]):
                        at += 1
                size = _copy(result, size, data, at, piece)
                if not more:
                    break
                at = end[cut]
                cut += 1
            size = _trim(result, base, size)[1]
        places[r + 1] = size
    return result[:size], places


@kernel
def _within(data, offsets, row, start, end, closed):  # type: ignore[no-untyped-def]
    """The contents of the blocks of each text, trimmed, a blank line between them (data uint8, offsets int32 [rows +
    1]).
    """
    rows = len(offsets) - 1
    result = np.empty(offsets[rows] - offsets[0] + 2 * len(row), np.uint8)
    places = np.zeros(rows + 1, np.int32)
    size, cut = 0, 0
    for r in range(rows):
        base = size
        while cut < len(row) and row[cut] == r:
            left, right = _trim(data, start[cut], end[cut])
            if closed[cut] != 0 and right > left:
                if size > base:
                    result[size] = result[size + 1] = 10
                    size += 2
                size = _copy(result, size, data, left, right)
            cut += 1
        places[r + 1] = size
    return result[:size], places
