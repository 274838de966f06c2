"""Cuts: which parts of a text are reasoning, by its tags.

- A block runs from an opening tag to the first closing tag of its family.
- A closing tag that was never opened (R1 and Kimi, whose opener is in the prompt) ends a block that began with the
  text. After a block with an opener inside, it is that nested block's, and the block extends to it. After an answer,
  with nothing behind it, it is a stray tag, and only the tag is cut.
- An opening tag that is never closed begins a block that runs to the end of the text, or to a complete answer wrapper.
- Answer wrappers (`<answer>`, `<Output>`) lose their tags and keep their content, if the text has a block or the
  wrapper is the whole text. Otherwise `<output>` is HTML.
- Text about tags is left alone: mentions (`filters.thinking.mentions`), tags in inline code and in closed code fences,
  and an opening tag in the middle of a line that nothing closes. Inside a block a fence protects nothing, since
  reasoning may be cut off in the middle of code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.kernel import buffers, kernel
from filters.text import is_letter, is_space
from filters.thinking.families import FINAL, HARMONY, IS_ANSWER, RESPONSE, SOLUTION, START
from filters.thinking.marks import (
    CLOSE,
    FENCE,
    MARK_END,
    MARK_FAMILY,
    MARK_FLAGS,
    MARK_KIND,
    MARK_START,
    OPEN,
    find_marks,
)
from filters.thinking.mentions import BARE, LINE_START, MENTION, NOUN

MAX_MENTION_BYTES = 400
"""Bytes between a mentioned opener and a closer on its line that is taken for part of the same mention."""

CLOSED, TAG_ONLY, UNCLOSED = 1, 0, -1
"""What a cut is: a block with an end, a tag without a block, a block that nothing closes."""

# Columns of cuts, int64 [n, 7], in the order of Cuts.
_ROW, _START, _END, _INNER_START, _INNER_END, _FAMILY, _CLOSED = range(7)
_NONE = -1  # no mark, no family, no position


class Cuts(NamedTuple):
    """What to take out of a column of texts: `data[start:end]` of each cut, in order and never overlapping.

    All int64 [cuts]. row; start, end, inner_start, inner_end: bytes into the column's data, `inner` being a block's
    content; family: a place in FAMILIES; closed: CLOSED, TAG_ONLY or UNCLOSED.
    """

    row: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    inner_start: npt.NDArray[np.int64]
    inner_end: npt.NDArray[np.int64]
    family: npt.NDArray[np.int64]
    closed: npt.NDArray[np.int64]


def find_cuts(texts: pa.StringArray) -> Cuts:
    """What to take out of each text in one reading."""
    data, offsets = buffers(texts)
    cuts = _find_cuts(data, offsets, *find_marks(data, offsets))
    # Of each text the blocks came first, then the answers' tags: sort both into the order of the text.
    cuts = cuts[np.argsort(cuts[:, _START], kind="stable")]
    return Cuts(*(np.ascontiguousarray(column) for column in cuts.T))


def write_out_channels(texts: pa.StringArray) -> pa.StringArray:
    """Write harmony's channels as tags where decoding left only their names: `analysisWe add...assistantfinal42`."""
    bare = pc.starts_with(texts, "analysis")  # before the pattern, since it reads one word of each text
    if not pc.any(bare).as_py():
        return texts
    tagged = r"<|channel|>analysis<|message|>\1<|end|>"
    written = pc.replace_substring_regex(texts.filter(bare), r"(?s)^analysis(.*)assistantfinal", tagged)
    return pc.replace_with_mask(texts, bare, written)


@kernel
def _blank(data, at, end):  # type: ignore[no-untyped-def]
    """Whether data[at:end] is white space."""
    while at < end and is_space(data[at]):
        at += 1
    return at == end


@kernel
def _put(cuts, n, row, start, end, inner_start, inner_end, family, closed):  # type: ignore[no-untyped-def]
    cuts[n, _ROW], cuts[n, _START], cuts[n, _END] = row, start, end
    cuts[n, _INNER_START], cuts[n, _INNER_END] = inner_start, inner_end
    cuts[n, _FAMILY], cuts[n, _CLOSED] = family, closed


@kernel
def _fence_end(marks, t, last_fence):  # type: ignore[no-untyped-def]
    """The mark that closes the fence at mark `t`, or `t` where none does: such a fence protects nothing."""
    for other in range(t + 1, last_fence + 1):
        same = marks[other, MARK_KIND] == FENCE and marks[other, MARK_FAMILY] == marks[t, MARK_FAMILY]
        if same and marks[other, MARK_FLAGS] & BARE:
            return other
    return t


@kernel
def _opens_whole_answer(marks, t, last_close):  # type: ignore[no-untyped-def]
    """Whether mark `t` opens an answer wrapper that is closed."""
    family = marks[t, MARK_FAMILY]
    opens = marks[t, MARK_KIND] == OPEN and IS_ANSWER[family] and not marks[t, MARK_FLAGS] & MENTION
    return opens and last_close[family] > t


@kernel
def _find_cuts(data, offsets, marks, first):  # type: ignore[no-untyped-def]
    rows = len(offsets) - 1
    # Every cut belongs to a mark: the one that begins it, or the closer without an opener that ends it.
    cuts = np.empty((len(marks), 7), np.int64)
    count = 0
    families = len(IS_ANSWER)
    last_close = np.empty(families, np.int64)
    mentioned_at = np.empty(families, np.int64)
    depth = np.empty(families, np.int64)
    for row in range(rows):
        if first[row] == first[row + 1]:
            continue
        begin, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        for family in range(families):
            last_close[family], mentioned_at[family], depth[family] = _NONE, _NONE, 0
        any_tag, last_fence, last_answer = _survey(marks, first[row], first[row + 1], last_close)
        if not any_tag:
            continue
        row_cuts = count
        count, blocks = _cut_blocks(
            data, begin, end, row, marks, first[row], first[row + 1], last_close, mentioned_at, last_fence,
            last_answer, cuts, count,
        )  # fmt: skip
        count = _cut_answer_tags(
            data, begin, end, row, marks, first[row], first[row + 1], last_close, depth, last_fence, blocks, cuts,
            row_cuts, count,
        )  # fmt: skip
    return cuts[:count]


@kernel
def _survey(marks, low, high, last_close):  # type: ignore[no-untyped-def]
    """Read the marks [low:high) of a text backwards, and set the last closer of each family.

    Returns whether there is any tag, the last fence that can close another, and the last whole answer's opener.
    """
    any_tag, last_fence, last_answer = False, _NONE, _NONE
    for t in range(high - 1, low - 1, -1):
        kind, family = marks[t, MARK_KIND], marks[t, MARK_FAMILY]
        if kind == FENCE:
            if last_fence < 0 and marks[t, MARK_FLAGS] & BARE:
                last_fence = t
            continue
        any_tag = True
        if kind == CLOSE and last_close[family] < 0 and not marks[t, MARK_FLAGS] & NOUN:
            last_close[family] = t
        if last_answer < 0 and _opens_whole_answer(marks, t, last_close):
            last_answer = t
    return any_tag, last_fence, last_answer


@kernel
def _in_mention(data, opened, start):  # type: ignore[no-untyped-def]
    """Whether a closer at `start` belongs to a mentioned opener at `opened`: on the same line, not far behind it."""
    if opened < 0 or start - opened > MAX_MENTION_BYTES:
        return False
    i = opened
    while i < start and data[i] != 10:
        i += 1
    return i == start


@kernel
def _cut_blocks(  # type: ignore[no-untyped-def]
    data, begin, end, row, marks, low, high, last_close, mentioned_at, last_fence, last_answer, cuts, count
):
    """Cut the blocks of reasoning of one text, and tags of theirs that stand alone: (how many cuts, how many blocks).

    data[begin:end]: the text; marks [low:high): its marks. Writes to `cuts` from `count` on, and to `mentioned_at`.
    """
    row_cuts = count
    blocks, nested, last_family = 0, 0, _NONE
    harmony = False  # whether a tag of harmony has been read, without which `<|end|>` is another template's end of turn
    block, block_mark = _NONE, 0  # the family of the block that is open, and the mark that opened it
    fence_end = _NONE  # the mark that closes the code fence that is open
    for t in range(low, high):
        start, stop, kind = marks[t, MARK_START], marks[t, MARK_END], marks[t, MARK_KIND]
        family, flags = marks[t, MARK_FAMILY], marks[t, MARK_FLAGS]
        if block >= 0:
            # Inside a block: look for what closes it, and count openers that are nested in it.
            if kind == FENCE or flags & NOUN:
                continue
            if block == HARMONY:
                closes = family in (HARMONY, FINAL, START)
            else:
                closes = family == block and kind == CLOSE
                nested += family == block and kind == OPEN
            if not closes:
                continue
            stop = stop if kind == CLOSE else start  # a new channel ends the block and is read itself
            opener, inner = marks[block_mark, MARK_START], marks[block_mark, MARK_END]
            _put(cuts, count, row, opener, stop, inner, start, block, CLOSED)
            count += 1
            blocks, last_family, block = blocks + 1, block, _NONE
            if kind == CLOSE:
                continue
        if t <= fence_end:
            continue
        if kind == FENCE:
            fence_end = _fence_end(marks, t, last_fence)
            continue
        if IS_ANSWER[family]:
            harmony = harmony or family in (FINAL, START)
            continue
        if kind == OPEN:
            if flags & MENTION:
                mentioned_at[family] = start
                continue
            if last_close[family] > t or family == HARMONY:
                block, block_mark, nested = family, t, 0
                harmony = harmony or family == HARMONY
                continue
            # Never closed. A whole answer wrapper after it holds the answer, and ends the block.
            if last_answer > t:
                answer = t + 1
                while not _opens_whole_answer(marks, answer, last_close):
                    answer += 1
                answer_start = marks[answer, MARK_START]
                _put(cuts, count, row, start, answer_start, stop, answer_start, family, CLOSED)
                count += 1
                blocks, last_family, nested = blocks + 1, family, 0
                fence_end = max(fence_end, answer - 1)
                continue
            # Otherwise it must stand where blocks begin: at the start of a line, after a block, or beside text
            # without a blank. Then the rest of the text is reasoning.
            before = data[start - 1] if start > begin else np.uint8(10)
            if flags & LINE_START or blocks > 0 or not is_space(before):
                block, block_mark = family, t
                break
            mentioned_at[family] = start
        else:
            # A closer without an opener.
            if family == HARMONY and not harmony:
                continue
            if flags & MENTION or _in_mention(data, mentioned_at[family], start):
                continue
            if family == HARMONY:
                _put(cuts, count, row, start, stop, start, start, family, TAG_ONLY)
                count += 1
            elif blocks > 0 and family == last_family and nested > 0:
                # Its opener is nested in the block before, which therefore extends to here.
                nested -= 1
                cuts[count - 1, _END], cuts[count - 1, _INNER_END] = stop, start
            elif blocks > 0 and _blank(data, stop, end):
                # After a block and an answer, at the end of the text: a stray tag.
                _put(cuts, count, row, start, stop, start, start, family, TAG_ONLY)
                count += 1
            else:
                # Its opener was in the prompt: all of the text before it is reasoning, cuts so far included.
                count = row_cuts
                _put(cuts, count, row, begin, stop, begin, start, family, CLOSED)
                count += 1
                blocks, last_family, nested = blocks + 1, family, 0
    if block >= 0:
        _put(cuts, count, row, marks[block_mark, MARK_START], end, marks[block_mark, MARK_END], end, block, UNCLOSED)
        count += 1
        blocks += 1
    return count, blocks


@kernel
def _cut_answer_tags(  # type: ignore[no-untyped-def]
    data, begin, end, row, marks, low, high, last_close, depth, last_fence, blocks, cuts, row_cuts, count
):
    """Cut the tags of answer wrappers in what the blocks leave of one text: how many cuts there are.

    cuts[row_cuts:count]: the cuts of blocks, which are passed over. Writes to `cuts` from `count` on, and to `depth`.
    """
    cut, fence_end, block_cuts = row_cuts, _NONE, count
    for t in range(low, high):
        start, stop, kind = marks[t, MARK_START], marks[t, MARK_END], marks[t, MARK_KIND]
        family, flags = marks[t, MARK_FAMILY], marks[t, MARK_FLAGS]
        while cut < block_cuts and cuts[cut, _END] <= start:
            cut += 1
        if (cut < block_cuts and cuts[cut, _START] <= start) or t <= fence_end:
            continue
        if kind == FENCE:
            fence_end = _fence_end(marks, t, last_fence)
            continue
        if not IS_ANSWER[family] or flags & MENTION:
            continue
        # Control tokens are always tags; `<answer>` and `<output>` may be HTML or code.
        control = family in (SOLUTION, RESPONSE, FINAL, START)
        if kind == OPEN:
            closed = last_close[family] > t
            is_all = closed and _blank(data, begin, start) and _blank(data, marks[last_close[family], MARK_END], end)
            depth[family] += 1
            if depth[family] > 1 and not control:
                continue
            if not (blocks > 0 or is_all or control):
                depth[family] -= 1
                continue
            after_block = cut > row_cuts and _blank(data, cuts[cut - 1, _END], start)
            if not (closed or control or after_block or flags & LINE_START):
                depth[family] -= 1
                continue
            if family == START:  # the role that follows belongs to the tag
                while stop < end and is_letter(data[stop]):
                    stop += 1
        elif depth[family] > 0:
            depth[family] -= 1
            # The last closer closes the wrapper, whatever looked like an opener inside it (`fn f<Output>()`).
            if depth[family] > 0 and t < last_close[family] and not control:
                continue
        elif not ((blocks > 0 or control) and _blank(data, stop, end)):
            continue
        _put(cuts, count, row, start, stop, start, start, family, TAG_ONLY)
        count += 1
    return count
