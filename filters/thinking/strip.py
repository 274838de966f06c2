"""Thinking: reasoning that a model wrote before its answer, and the two stages that remove it.

`thinking` judges the text as it came: a response whose reasoning or answer was cut off is dropped, with the text that
shows it. `strip_thinking` then leaves only the answer of each response. Both find blocks by `filters.thinking.cuts`,
and leave what the instruction asked for (`filters.thinking.asked`). What is left is read again until nothing more is
found. `pipelines.steps.refine` scans the result of all stages once more, and counts what `filters.thinking.proof`,
which shares no code with this, finds in it.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, model_validator

from dedup.columns import as_array
from dedup.exact import digest128
from dedup.kernel import buffers, kernel
from filters.stage import Filter, Transform, with_column
from filters.text import is_space, rows_with, strings
from filters.thinking.asked import asked_for
from filters.thinking.bare import is_bare_answer, retagged
from filters.thinking.cuts import TAG_ONLY, Cuts, find_cuts
from filters.thinking.families import CUT_SHORT, Family, Lexicon, lexicon
from filters.thinking.notations import write_as_tags
from filters.verdict import Check, first_failure

MAX_PASSES = 16
"""Readings of a text. Tags that appear only after others are removed (`<th<think>x</think>ink>`) are an attack, not a
trace; a text with more layers of them is dropped as `thinking_tangled`."""


class AddedFamily(BaseModel):
    """A family of tags that a recipe adds to FAMILIES.

    name: for the report. opens, closes: its tags, any closer ending what any opener began. wraps: `thinking` is removed
    with its tags, an `answer` loses its tags only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    opens: tuple[str, ...]
    closes: tuple[str, ...]
    wraps: Literal["thinking", "answer"] = "thinking"


Added = tuple[AddedFamily, ...]


def lexicon_of(families: Added) -> Lexicon:
    """The tags of FAMILIES and those of a recipe. Raises: ValueError: as `lexicon`."""
    return lexicon(tuple(Family(one.name, one.opens, one.closes, one.wraps) for one in families))


class Answers(NamedTuple):
    """Texts without their thinking.

    text: string [rows]; thinking: string [rows], the contents of blocks, separated by a blank line; blocks: int64
    [rows], the number of blocks removed; unclosed: bool [rows], whether a block was never closed; unmarked: bool
    [rows], whether such a block may hold the answer too; changed: bool [rows], whether `text` differs from the input;
    tangled: bool [rows], whether thinking is left after MAX_PASSES readings.
    """

    text: pa.StringArray
    thinking: pa.StringArray
    blocks: npt.NDArray[np.int64]
    unclosed: npt.NDArray[np.bool_]
    unmarked: npt.NDArray[np.bool_]
    changed: npt.NDArray[np.bool_]
    tangled: npt.NDArray[np.bool_]


class Thinking(Filter):
    """Drop records whose response is unfinished thinking. Put it before `strip_thinking`.

    drop: `unfinished`, or `any` to drop every record with thinking instead of stripping it. families: tags beside those
    of `filters.thinking.families`; give both stages the same.
    """

    VERSION: ClassVar[int] = 4

    kind: Literal["thinking"] = "thinking"
    drop: Literal["unfinished", "any"] = "unfinished"
    families: Added = ()

    @model_validator(mode="after")
    def _check_families(self) -> Self:
        lexicon_of(self.families)
        return self

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `thinking_tangled` (tags within tags, too deep to remove), `answer_unmarked` (a word or heading
        begins reasoning, and nothing shows where it ends), `thinking_unclosed` (a block never ends, so what follows it
        was cut off), `thinking_without_answer` (nothing is left beside the thinking), `answer_unclosed` (the solution
        after begin_of_thought never ends), `thinking_present` (where `drop` is `any`). The value is the number of
        blocks.
        """
        responses = as_array(records["response"])
        answers = strip(responses, keep=False, instructions=_instructions(records), tags=lexicon_of(self.families))
        empty = pc.equal(pc.utf8_trim_whitespace(answers.text), "").to_numpy(zero_copy_only=False)
        present = answers.blocks > 0
        checks = [
            Check("thinking_tangled", answers.tangled, answers.blocks, MAX_PASSES),
            Check("answer_unmarked", answers.unmarked, answers.blocks, 0),
            Check("thinking_unclosed", answers.unclosed, answers.blocks, 0),
            Check("thinking_without_answer", present & empty, answers.blocks, 0),
            Check("answer_unclosed", _solution_unclosed(responses, present), answers.blocks, 0),
        ]
        if self.drop == "any":
            checks.append(Check("thinking_present", present, answers.blocks, 0))
        return first_failure(checks)


class StripThinking(Transform):
    """Leave only the answer of each response.

    mode: `strip`, or `keep` to move the reasoning to a string column `thinking`. families: as of `Thinking`.
    bare_answer: what becomes of a record of the condition `cot` whose reasoning was all in the block, so that a bare
    answer is left (`filters.thinking.bare`): `direct` gives it that tag for `cot`, `drop` drops it, `keep` leaves it.

    Appends `score_thinking` (float32): the number of blocks removed, negative if the last one was never closed. A
    response without tags is unchanged; one with tags also loses the white space at its ends.
    """

    VERSION: ClassVar[int] = 4

    kind: Literal["strip_thinking"] = "strip_thinking"
    mode: Literal["strip", "keep"] = "strip"
    bare_answer: Literal["direct", "drop", "keep"] = "direct"
    families: Added = ()

    @model_validator(mode="after")
    def _check_families(self) -> Self:
        lexicon_of(self.families)
        return self

    def rewrite(self, records: pa.Table) -> pa.Table:
        """Rewrite `response`, `condition`, and `digest` where there is one.

        A response that still has thinking after MAX_PASSES readings keeps it. `thinking` before this stage drops it as
        `thinking_tangled`; without that stage, the scan of `pipelines.steps.refine` fails the run.
        """
        responses = as_array(records["response"])
        keep = self.mode == "keep"
        answers = strip(responses, keep, instructions=_instructions(records), tags=lexicon_of(self.families))
        changed = answers.changed.any()
        if changed:
            records = with_column(records, records.schema.field("response"), answers.text)
        if self.bare_answer == "direct" and "condition" in records.column_names and answers.blocks.any():
            conditions = as_array(records["condition"])
            new = retagged(conditions, (answers.blocks > 0) & is_bare_answer(conditions, answers.text))
            records = with_column(records, records.schema.field("condition"), new)
        if changed and "digest" in records.column_names:
            contents = (as_array(records[name]) for name in ("condition", "instruction", "response"))
            records = with_column(records, records.schema.field("digest"), digest128(*contents))
        score = np.where(answers.unclosed, -answers.blocks, answers.blocks).astype(np.float32)
        records = with_column(records, pa.field("score_thinking", pa.float32(), False), pa.array(score))
        if keep:
            records = with_column(records, pa.field("thinking", pa.string(), False), answers.thinking)
        return records

    def reject(self, records: pa.Table) -> pa.StructArray | None:
        """Reason: `bare_answer`, where that is to be dropped. The value is the number of blocks."""
        if self.bare_answer != "drop" or "condition" not in records.column_names:
            return None
        blocks = np.abs(records["score_thinking"].to_numpy())
        bare = is_bare_answer(as_array(records["condition"]), as_array(records["response"]))
        failed = (blocks > 0) & bare
        return first_failure([Check("bare_answer", failed, blocks, 0)]) if failed.any() else None


def _instructions(records: pa.Table) -> pa.StringArray | None:
    return as_array(records["instruction"]) if "instruction" in records.column_names else None


def _solution_unclosed(responses: pa.StringArray, present: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows, of those with thinking `present`, begin a solution and do not end it: bool [rows].

    Only for this wrapper does a missing end show a cut. `</answer>` and `<|return|>` are stop strings, which decoding
    leaves out.
    """
    unclosed = np.zeros(len(responses), np.bool_)
    hinted = [rows_with(responses, name) for name in ("_solution|>", "_SOLUTION|>")]
    rows = np.union1d(*hinted)
    rows = rows[present[rows]]
    texts = responses.take(pa.array(rows))
    opened = pc.match_substring(texts, "<|begin_of_solution|>", ignore_case=True)
    closed = pc.match_substring(texts, "<|end_of_solution|>", ignore_case=True)
    unclosed[rows] = pc.and_not(opened, closed).to_numpy(zero_copy_only=False)
    return unclosed


def strip(
    texts: pa.StringArray,
    keep: bool = True,
    instructions: pa.StringArray | None = None,
    tags: Lexicon | None = None,
) -> Answers:
    """Take the thinking out of every text. Texts without any are returned byte for byte.

    keep: whether to collect the thinking. Without it `Answers.thinking` is empty, and a third of the time is saved.
    instructions: string [rows], which may ask for elements that look like thinking; None asks for none. tags: by
    default those of FAMILIES.
    """
    tags = tags or lexicon()
    rows, given = len(texts), texts
    blocks = np.zeros(rows, np.int64)
    unclosed, unmarked, cut, tangled = (np.zeros(rows, np.bool_) for _ in range(4))
    texts = written = write_as_tags(texts)
    thinking = strings(np.zeros(0, np.uint8), np.zeros(rows + 1, np.int32))
    cut_short = np.array([family.name in CUT_SHORT for family in tags.families])
    # Each pass reads only the texts that the one before changed: `part`, whose rows in `texts` are `part_rows`.
    part, part_rows = texts, np.arange(rows)
    for remaining in range(MAX_PASSES, -1, -1):
        said = instructions if instructions is None or len(part) == rows else instructions.take(pa.array(part_rows))
        cuts = _unasked(find_cuts(part, tags), part, said, tags)
        if len(cuts.row) == 0:
            break
        if remaining == 0:
            tangled[part_rows[cuts.row]] = True
            break
        cut_rows = np.unique(cuts.row)
        blocks[part_rows] += np.bincount(cuts.row, cuts.closed != TAG_ONLY, len(part)).astype(np.int64)
        open_ended = cuts.closed < 0
        unclosed[part_rows[cuts.row[open_ended]]] = True
        unmarked[part_rows[cuts.row[open_ended & cut_short[cuts.family]]]] = True
        data, offsets = buffers(part)
        answer = strings(*_without(data, offsets, cuts.row, cuts.start, cuts.end)).take(pa.array(cut_rows))
        part_rows = part_rows[cut_rows]
        mask = np.zeros(rows, np.bool_)
        mask[part_rows] = cut[part_rows] = True
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
    if written is not given:  # a notation of which nothing was cut was none
        restored = pc.and_not(pc.not_equal(written, given), pa.array(cut))
        if pc.any(restored).as_py():
            texts = pc.if_else(restored, given, texts)
    return Answers(texts, thinking, blocks, unclosed, unmarked, cut, tangled)


def _unasked(cuts: Cuts, texts: pa.StringArray, instructions: pa.StringArray | None, tags: Lexicon) -> Cuts:
    """The cuts without those of elements that the instructions asked for."""
    if instructions is None or len(cuts.row) == 0:
        return cuts
    data, offsets = buffers(texts)
    leads = _leads(data, offsets, cuts.row, cuts.start, cuts.end)
    first = np.bincount(cuts.row, leads & (cuts.closed != TAG_ONLY), len(texts))[cuts.row] > 0
    behind = offsets[:-1].astype(np.int64)
    behind[cuts.row[leads]] = cuts.end[leads]  # the last of a row is what stays
    rest, contents = _pieces(data, behind, offsets[1:]), _pieces(data, cuts.inner_start, cuts.inner_end)
    asked = asked_for(tags.families, instructions, texts, rest, cuts.row, cuts.family, leads, first, contents)
    return Cuts(*(column[~asked] for column in cuts)) if asked.any() else cuts


def _pieces(data: npt.NDArray[np.uint8], start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> pa.StringArray:
    """The pieces data[start:end], in order and not overlapping: string [2 * pieces - 1], with what is between them.

    It stands over the memory of `data`, since few of the pieces are looked at.
    """
    return strings(data, np.stack([start, end], axis=1).reshape(-1).astype(np.int32))


@kernel
def _leads(data, offsets, row, start, end):  # type: ignore[no-untyped-def]
    """Whether nothing but white space and other cuts stands before each cut in its text: bool [cuts]."""
    leads = np.zeros(len(row), np.bool_)
    for cut in range(len(row)):
        follows = cut > 0 and row[cut - 1] == row[cut]
        if follows and not leads[cut - 1]:
            continue
        at = end[cut - 1] if follows else offsets[row[cut]]
        while at < start[cut] and is_space(data[at]):
            at += 1
        leads[cut] = at == start[cut]
    return leads


CENSUS = pa.schema(
    [
        pa.field("source", pa.string(), False),
        pa.field("family", pa.string(), False),
        *(pa.field(name, pa.int64(), False) for name in ("rows", "blocks", "unclosed", "dropped")),
    ]
)
"""Thinking by source and family of tags. rows: with such thinking; blocks, unclosed: blocks; dropped: rows. A row
counts in each of its families."""


def census(records: pa.Table, dropped: npt.NDArray[np.bool_], families: Added = ()) -> pa.Table:
    """The thinking in `response` by source and family: CENSUS, ordered by both.

    dropped: bool [rows], the rows that were dropped for their thinking.
    """
    tags, texts = lexicon_of(families), write_as_tags(as_array(records["response"]))
    cuts = _unasked(find_cuts(texts, tags), texts, _instructions(records), tags)
    block = cuts.closed != TAG_ONLY
    rows = cuts.row[block]
    by_block = pl.DataFrame(
        {
            "source": pl.Series(as_array(records["source"]).take(pa.array(rows)), dtype=pl.String),
            "family": pl.Series(
                [tags.families[family].name for family in cuts.family[block].tolist()], dtype=pl.String
            ),
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


def rows_with_thinking(
    responses: pa.StringArray, instructions: pa.StringArray | None = None, families: Added = ()
) -> npt.NDArray[np.int64]:
    """The rows in which thinking, or a tag of it, is found, ascending. None in responses that were stripped."""
    tags, texts = lexicon_of(families), write_as_tags(responses)
    return np.unique(_unasked(find_cuts(texts, tags), texts, instructions, tags).row)


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

    Each text is trimmed. Where a cut leaves white space on both sides, that behind it is removed. The indentation of a
    text's first line, and of a line behind a cut, stays: code depends on it.
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
                    at = _indented(data, at, piece_end, at == offsets[r])
                size = _copy(result, size, data, at, piece_end)
                if not more:
                    break
                at = end[cut]
                cut += 1
            while size > base and is_space(result[size - 1]):
                size -= 1
        places[r + 1] = size
    return result[:size], places


@kernel
def _indented(data, at, end, begins):  # type: ignore[no-untyped-def]
    """Where data[at:end] begins without white space, but with the indentation of its first line.

    Indentation are a tab or two blanks at least, behind a line feed or where a text `begins`.
    """
    line = at if begins else end
    while at < end and is_space(data[at]):
        at += 1
        if data[at - 1] == 10:
            line = at
    indents = at < end and line < at and (data[line] == 9 or at - line > 1)
    return line if indents else at


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
