"""Cuts: which parts of a text are reasoning, by its tags.

Structure decides. Words beside a tag count only where nothing pairs, and for a pair inside one sentence.

- A block runs from an opening tag to the first closing tag of its family, whatever stands around that. If its family
  never closes, the next closing tag of another family of reasoning ends it (`<reasoning> ... </think>`).
- A closing tag that was never opened (R1 and Kimi, whose opener is in the prompt) ends a block that began with the
  text. After a block with an opener inside, it is that nested block's, and the block extends to it. After an answer,
  with nothing behind it, it is a stray tag, and only the tag is cut.
- An opening tag that is never closed begins a block that runs to the end of the text, or to a complete answer wrapper,
  or to a second opener that ends its line, which was meant to close.
- Answer wrappers (`<answer>`, `<Output>`) lose their tags and keep their content, if the text has a block, or the
  wrapper is the whole text or its end. Otherwise `<output>` is HTML.
- Text about tags is left alone: tags in inline code and in closed code fences, tags in quotes of their own, in a cell
  of a table or at the head of a list item, a pair inside one sentence ("between <think> and </think>"), a closer to
  which a sentence leads and behind which it carries on, lists of marks, and single tags beside words that show a
  mention. Inside a block nothing is protected but inline code, since reasoning may be cut off in the middle of code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.kernel import buffers, kernel
from filters.text import is_letter, is_space, rows_with
from filters.thinking.families import (
    ANSWER,
    BOX,
    FINAL,
    HARMONY,
    HEADER,
    RESPONSE,
    SENTENCE,
    SOLUTION,
    START,
    TURN,
    Lexicon,
    lexicon,
)
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
from filters.thinking.mentions import (
    ATTACHED,
    BARE,
    BREAKS,
    CARRIED,
    CONTINUES,
    INSIDE,
    ITEM,
    LINE_END,
    LINE_START,
    NAMED,
    NOUN,
    QUOTE_LEFT,
    QUOTED,
    STOPS,
    VERB,
    WORD_AFTER,
    WORD_BEFORE,
    quoted_behind,
)

MAX_MENTION_BYTES = 200
"""Bytes between the tags of a pair that may be a mention for the words around it."""
MAX_PATTERN_BYTES = 60
"""Bytes between two tags of a regular expression."""

CLOSED, TAG_ONLY, UNCLOSED = 1, 0, -1
"""What a cut is: a block with an end, a tag without a block, a block that nothing closes."""

# Columns of cuts, int64 [n, 7], in the order of Cuts.
_ROW, _START, _END, _INNER_START, _INNER_END, _FAMILY, _CLOSED = range(7)
_BACKSLASH = 92
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


def find_cuts(texts: pa.StringArray, tags: Lexicon | None = None) -> Cuts:
    """What to take out of each text in one reading. tags: by default those of FAMILIES."""
    tags = tags or lexicon()
    data, offsets = buffers(texts)
    escaped = len(rows_with(texts, r"\u003")) > 0
    cuts = _find_cuts(data, offsets, *find_marks(data, offsets, tags, escaped), tags.is_answer)
    # Of each text the blocks came first, then the answers' tags: sort both into the order of the text.
    cuts = cuts[np.argsort(cuts[:, _START], kind="stable")]
    return Cuts(*(np.ascontiguousarray(column) for column in cuts.T))


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


# What `_survey` finds for each mark of a text, int64 [n, 4]: the next closer of the same family, the next closer of any
# family of reasoning, and the next opener of the same family; -1 where there is none. Then how many fences follow.
_NEXT_CLOSE, _NEXT_ANY, _NEXT_OPEN, _FENCES = range(4)


@kernel
def _is_control(family: int) -> bool:
    """Whether a family of answers has control tokens for tags, which are never HTML or code."""
    return family in (SOLUTION, RESPONSE, BOX, FINAL, START, TURN, SENTENCE, HEADER)


@kernel
def _same_line(data, start, end):  # type: ignore[no-untyped-def]
    """Whether data[start:end] is short and holds no line feed."""
    if end - start > MAX_MENTION_BYTES:
        return False
    while start < end and data[start] != 10:
        start += 1
    return start == end


@kernel
def _joins(data, start, end):  # type: ignore[no-untyped-def]
    """What stands between two tags on a line: 2 for dots or nothing, 1 for one short word ("and"), 0 for more."""
    letters, i = 0, start
    while i < end:
        byte = data[i]
        if byte == 0xE2 and i + 2 < end and data[i + 1] == 0x80:  # an ellipsis or a dash
            i += 3
            continue
        if is_letter(byte) or byte >= 0x80:
            letters += 1
        elif 48 <= byte <= 57 or byte == 61 or (byte == 32 and letters > 0 and i + 1 < end):
            return 0
        i += 1
    return 2 if letters == 0 else 1 if letters <= 6 and (data[start] == 32 or data[start] >= 0x80) else 0


@kernel
def _counts(data, start, end):  # type: ignore[no-untyped-def]
    """Whether data[start:end] has a digit or an equals sign, as reasoning about numbers has."""
    while start < end and not (48 <= data[start] <= 57 or data[start] == 61):
        start += 1
    return start < end


@kernel
def _is_mention(flags: int) -> bool:
    """Whether a tag that pairs with nothing is one that the text talks about."""
    if flags & (QUOTED | NOUN):
        return True
    return not flags & LINE_START and flags & (WORD_BEFORE | WORD_AFTER) != 0


@kernel
def _is_mentioned_closer(flags: int) -> bool:
    """Whether a closer that was never opened, with text before and behind it, is one that the text talks about.

    One word beside it is not enough: reasoning may end with "a" and an answer begin with "to".
    """
    if flags & QUOTED or (flags & NOUN and flags & WORD_BEFORE) or (flags & ITEM and flags & CONTINUES):
        return True
    inside = not flags & (LINE_START | LINE_END) and flags & WORD_BEFORE != 0
    return inside and flags & (WORD_AFTER | NOUN | STOPS) != 0


@kernel
def _is_spoken_of(data, begin, end, start, stop, flags):  # type: ignore[no-untyped-def]
    """Whether the closer data[start:stop] of data[begin:end], which was never opened, is one that the text talks about.

    Reasoning ends with its line or its sentence, or an answer begins behind it. A closer is spoken of if one sentence
    leads to it and carries on behind it ("shows </think> because ..."), or if it is an item of a list of marks.
    """
    if _is_mentioned_closer(flags) or (flags & INSIDE and flags & (CARRIED | STOPS)):
        return True
    return _is_listed(data, begin, end, start, stop, flags)


@kernel
def _is_listed(data, begin, end, start, stop, flags):  # type: ignore[no-untyped-def]
    """Whether data[start:stop] is an item of a list of marks."""
    return flags & ITEM != 0 and flags & LINE_END != 0 and _beside_mark(data, begin, end, start, stop)


@kernel
def _is_mark_line(data, low, high):  # type: ignore[no-untyped-def]
    """Whether the line data[low:high] is a list item of which the content is one mark: `- <|im_end|>`."""
    while low < high and not (data[low] in (60, 91, 0x97) or is_letter(data[low])):  # < [ and, of ◁, E2 97 81
        low += 1
    while high > low and is_space(data[high - 1]):
        high -= 1
    if low == high or is_letter(data[low]) or data[high - 1] not in (62, 93, 0xB7):  # > ] and, of ▷, E2 96 B7
        return False
    while low < high and not is_space(data[low]):
        low += 1
    return low == high


@kernel
def _beside_mark(data, begin, end, start, stop):  # type: ignore[no-untyped-def]
    """Whether the line before or behind that of data[start:stop] is one mark."""
    line = start
    while line > begin and data[line - 1] != 10:
        line -= 1
    before = max(begin, line - 1)
    low = before
    while low > begin and before - low < MAX_MENTION_BYTES and data[low - 1] != 10:
        low -= 1
    if _is_mark_line(data, low, before):
        return True
    while stop < end and data[stop] != 10:
        stop += 1
    low = high = min(end, stop + 1)
    while high < end and high - low < MAX_MENTION_BYTES and data[high] != 10:
        high += 1
    return _is_mark_line(data, low, high)


@kernel
def _numbers(data, o_stop, closer, c_stop, end):  # type: ignore[no-untyped-def]
    """Whether two tags are rows of a table of numbers: `<think>,1`, and on the next line `</think>,2`."""
    if c_stop + 1 >= end or data[o_stop] not in (9, 44, 58, 59) or data[c_stop] != data[o_stop]:  # tab , : ;
        return False
    at = o_stop + 1
    while at < closer and (48 <= data[at] <= 57 or data[at] in (13, 32)):
        at += 1
    digit = data[c_stop + 1] if data[c_stop + 1] != 32 or c_stop + 2 == end else data[c_stop + 2]
    return o_stop + 1 < at == closer - 1 and data[at] == 10 and 48 <= digit <= 57


@kernel
def _is_mentioned_pair(data, begin, end, marks, o, c):  # type: ignore[no-untyped-def]
    """Whether the opener `o` and the closer `c` after it are what a sentence of data[begin:end] talks about.

    Both must be part of it: the opener after words that lead to it, the closer before words that carry on.
    """
    o_flags, o_stop = marks[o, MARK_FLAGS], marks[o, MARK_END]
    c_flags, closer, c_stop = marks[c, MARK_FLAGS], marks[c, MARK_START], marks[c, MARK_END]
    if (
        (o_flags & QUOTED and c_flags & QUOTED)
        or (o_flags & ITEM and c_flags & ITEM)
        or (o_flags & VERB and c_flags & VERB)
    ):
        return True
    if _is_code_pair(data, begin, end, marks[o, MARK_START], o_stop, closer, c_stop):
        return True
    if _numbers(data, o_stop, closer, c_stop, end):
        return True
    near = _same_line(data, o_stop, closer)
    joins = _joins(data, o_stop, closer) if near else 0
    if near and o_flags & QUOTE_LEFT and quoted_behind(data, c_stop, end):
        # A quotation of both. In JSON (`"content": "<think> ... </think>"`) it is a value.
        return joins == 2 or o_flags & WORD_BEFORE != 0 or not _is_value(data, begin, marks[o, MARK_START])
    if near and o_flags & INSIDE and not c_flags & QUOTED and _is_mentioned_closer(c_flags):
        return True  # "the prompt gets <think>, so the output has only the closing </think>."
    led = o_flags & NOUN if o_flags & LINE_START else o_flags & (WORD_BEFORE | WORD_AFTER | NOUN)
    carried = c_flags & (WORD_AFTER | NOUN) != 0 and c_flags & CONTINUES != 0
    if not led:
        # "<think> ... </think> is the format", or two tags joined by a word in another script.
        if joins == 2:
            return carried and o_stop < closer
        if joins == 0 or o_flags & LINE_START or c_flags & LINE_END:
            return False
        return data[o_stop] >= 0x80 or (data[o_stop + 1] >= 0x80 and c_flags & CONTINUES != 0)
    if joins > 0:
        return joins == 1 or c_flags & (CONTINUES | LINE_END) != 0
    if near and not _counts(data, o_stop, closer):
        if c_flags & CONTINUES:
            return True
        if c_flags & LINE_END:
            return c_flags & WORD_BEFORE != 0 and o_flags & CONTINUES != 0
    return carried and c_flags & WORD_BEFORE != 0 and o_flags & (WORD_AFTER | NOUN) != 0


@kernel
def _is_code_pair(data, begin, end, start, o_stop, closer, stop):  # type: ignore[no-untyped-def]
    """Whether the tags data[start:o_stop] and data[closer:stop] are those of a program, a pattern or a template.

    A literal: both stand in one string on one line (`f"<think>{t}</think>"`). A pattern: `.*?` or the like is between
    between them. A template: one placeholder is between them, in brackets, and the text does not begin with it.
    """
    low, high = o_stop, closer
    while low < high and is_space(data[low]):
        low += 1
    while high > low and is_space(data[high - 1]):
        high -= 1
    if high - low > MAX_MENTION_BYTES:
        return False
    if low < high and not _blank(data, begin, start) and _is_placeholder(data, low, high):
        return True
    if not _same_line(data, o_stop, closer):
        return False
    return _is_pattern(data, low, high) or _in_literal(data, begin, start, stop, end)


@kernel
def _is_placeholder(data, start, end):  # type: ignore[no-untyped-def]
    """Whether data[start:end] is one pair of brackets around words: `[your plan]`, `{thought}`, `{{ reasoning }}`."""
    first, last, letters = data[start], data[end - 1], 0
    if not ((first == 91 and last == 93) or (first == 123 and last == 125)):
        return False
    for i in range(start + 1, end - 1):
        byte = data[i]
        if byte in (first, last) and start + 1 < i < end - 2:
            return False
        letters += is_letter(byte)
    return letters > 0


@kernel
def _is_pattern(data, start, end):  # type: ignore[no-untyped-def]
    """Whether data[start:end] is a regular expression for any text: no blank, and `.*`, `.+`, `[^` or `[\\s` in it."""
    found = False
    for i in range(start, end):
        if is_space(data[i]):
            return False
        if i + 1 < end:
            after = data[i + 1]
            found = found or (data[i] == 46 and after in (42, 43)) or (data[i] == 91 and after in (94, 92))
    return found and end - start <= MAX_PATTERN_BYTES


_RETURN = np.frombuffer(b"return", np.uint8)


@kernel
def _returns(data, low, last):  # type: ignore[no-untyped-def]
    """Whether the word `return` ends at `last`."""
    for i in range(len(_RETURN)):  # noqa: SIM110 - numba compiles no generator
        if last - i < low or data[last - i] != _RETURN[len(_RETURN) - 1 - i]:
            return False
    return True


@kernel
def _in_literal(data, begin, start, stop, end):  # type: ignore[no-untyped-def]
    """Whether data[start:stop] stands in a string of a program: one that begins and ends on its line.

    The mark that begins it stands behind `(`, `=`, `,`, `+`, `-`, `[`, `{`, `return` or one of the letters with which a
    string may begin. So a quotation, and a value of JSON, are none.
    """
    at, low = start - 1, max(begin, start - MAX_MENTION_BYTES)
    while at >= low and data[at] != 10 and not (data[at] == 34 or data[at] == 39):
        at -= 1
    if at <= low or data[at] == 10:
        return False
    mark = data[at]
    before = at - 1
    if data[before] in (98, 102, 114, 117) and (before == begin or not is_letter(data[before - 1])):  # b f r u
        code = True
    else:
        while before >= low and data[before] == 32:
            before -= 1
        code = before >= low and (data[before] in (40, 61, 44, 43, 45, 91, 123) or _returns(data, low, before))
    if not code:
        return False
    at = stop
    while at < min(end, stop + MAX_MENTION_BYTES) and data[at] != 10:
        if data[at] == mark:
            return True
        at += 1
    return False


@kernel
def _is_value(data, begin, at):  # type: ignore[no-untyped-def]
    """Whether the quotation mark before `at` follows a colon."""
    at -= 2
    while at >= begin and (data[at] == 32 or data[at] == 9 or data[at] == 0x80 or data[at] == 0xE2):
        at -= 1
    return at >= begin and data[at] == 58


@kernel
def _find_cuts(data, offsets, marks, first, is_answer):  # type: ignore[no-untyped-def]
    rows = len(offsets) - 1
    # Every cut belongs to a mark: the one that begins it, or the closer without an opener that ends it.
    cuts = np.empty((len(marks), 7), np.int64)
    ahead = np.empty((len(marks), 4), np.int64)
    count = 0
    families = len(is_answer)
    seen = np.empty((2, families), np.int64)
    last_close = np.empty(families, np.int64)
    depth = np.empty(families, np.int64)
    for row in range(rows):
        if first[row] == first[row + 1]:
            continue
        begin, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        seen[:] = _NONE
        last_close[:] = _NONE
        depth[:] = 0
        any_tag, last_fence, last_answer = _survey(
            data, begin, end, marks, first[row], first[row + 1], seen, last_close, ahead, is_answer
        )
        if not any_tag:
            continue
        row_cuts = count
        count, blocks = _cut_blocks(
            data,
            begin,
            end,
            row,
            marks,
            first[row],
            first[row + 1],
            ahead,
            last_fence,
            last_answer,
            is_answer,
            cuts,
            count,
        )
        count = _cut_answer_tags(
            data, begin, end, row, marks, first[row], first[row + 1], ahead, last_close, depth, last_fence, is_answer,
            blocks, cuts, row_cuts, count,
        )  # fmt: skip
    return cuts[:count]


@kernel
def _survey(data, begin, end, marks, low, high, seen, last_close, ahead, is_answer):  # type: ignore[no-untyped-def]
    """Read the marks [low:high) of a text backwards: what is `ahead` of each, and the last closer of each family.

    Returns whether there is any tag, the last fence that can close another, and the last whole answer's opener.
    """
    any_tag, last_fence, last_answer, next_any, fences = False, _NONE, _NONE, _NONE, 0
    for t in range(high - 1, low - 1, -1):
        kind, family, flags = marks[t, MARK_KIND], marks[t, MARK_FAMILY], marks[t, MARK_FLAGS]
        ahead[t, _FENCES] = fences
        if kind == FENCE:
            fences += 1
            if last_fence < 0 and flags & BARE:
                last_fence = t
            continue
        any_tag = True
        closer = seen[CLOSE, family]
        ahead[t, _NEXT_CLOSE] = closer
        ahead[t, _NEXT_OPEN] = seen[OPEN, family]
        ahead[t, _NEXT_ANY] = next_any
        wraps = kind == OPEN and is_answer[family] and closer >= 0 and not flags & (QUOTED | NOUN)
        if wraps and last_answer < 0 and not _is_mentioned_pair(data, begin, end, marks, t, closer):
            last_answer = t
        if kind == CLOSE and seen[CLOSE, family] < 0:
            last_close[family] = t
        seen[kind, family] = t
        if kind == CLOSE and not is_answer[family] and family != HARMONY:
            next_any = t
    return any_tag, last_fence, last_answer


@kernel
def _cut_blocks(  # type: ignore[no-untyped-def]
    data, begin, end, row, marks, low, high, ahead, last_fence, last_answer, is_answer, cuts, count
):
    """Cut the blocks of reasoning of one text, and tags of theirs that stand alone: (how many cuts, how many blocks).

    data[begin:end]: the text; marks [low:high): its marks. Writes to `cuts` from `count` on.
    """
    row_cuts = count
    blocks, nested, last_family = 0, 0, _NONE
    harmony = False  # whether a tag of harmony has been read, without which `<|end|>` is another template's end of turn
    block, block_mark, block_end = _NONE, 0, _NONE  # the family of the open block, its opener, and its closer if known
    passed = _NONE  # the closer of a mentioned pair, which closes nothing
    fence_end = _NONE  # the mark that closes the code fence that is open
    opened = False  # whether a tag was opened in that fence
    for t in range(low, high):
        start, stop, kind = marks[t, MARK_START], marks[t, MARK_END], marks[t, MARK_KIND]
        family, flags = marks[t, MARK_FAMILY], marks[t, MARK_FLAGS]
        if block >= 0:
            # Inside a block: look for what closes it, and count openers that are nested in it.
            if kind == FENCE:
                continue
            if block == HARMONY:
                closes = family in (HARMONY, FINAL, START)
            else:
                closes = t == block_end
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
        if t == passed:
            continue
        if t <= fence_end:
            # Reasoning may end before it closes the code that it drafts. Then the fences behind it pair by themselves.
            left_open = kind == CLOSE and family != HARMONY and not is_answer[family] and not opened
            opened = opened or kind == OPEN
            if not left_open or flags & QUOTED or ahead[t, _FENCES] % 2 or _blank(data, stop, end):
                continue
            fence_end = t
        elif kind == FENCE:
            fence_end, opened = _fence_end(marks, t, last_fence), False
            continue
        if is_answer[family]:
            harmony = harmony or family in (FINAL, START)
            continue
        if kind == OPEN:
            if family == HARMONY:
                if not _is_mention(flags):
                    block, block_mark, nested, harmony = family, t, 0, True
                continue
            closer = ahead[t, _NEXT_CLOSE]
            if closer < 0 and not _is_mention(flags):
                closer = ahead[t, _NEXT_ANY]
                if closer >= 0 and _is_mentioned_closer(marks[closer, MARK_FLAGS]):
                    closer = _NONE
            if closer >= 0:
                if _is_mentioned_pair(data, begin, end, marks, t, closer):
                    passed = closer
                else:
                    block, block_mark, block_end, nested = family, t, closer, 0
                continue
            # Never closed. A whole answer wrapper after it holds the answer, and ends the block.
            if _is_mention(flags) or (
                data[start] == _BACKSLASH and not flags & LINE_START
            ):  # `\\<think\\>`: a whole word
                continue
            if _in_literal(data, begin, start, stop, end):
                continue
            if last_answer > t:
                answer = t + 1
                while (
                    not (marks[answer, MARK_KIND] == OPEN and is_answer[marks[answer, MARK_FAMILY]])
                    or ahead[answer, _NEXT_CLOSE] < 0
                ):
                    answer += 1
                answer_start = marks[answer, MARK_START]
                _put(cuts, count, row, start, answer_start, stop, answer_start, family, CLOSED)
                count += 1
                blocks, last_family, nested = blocks + 1, family, 0
                fence_end = max(fence_end, answer - 1)
                continue
            # A second opener at the end of its line, the last of its family, was meant to close.
            again = ahead[t, _NEXT_OPEN]
            if again >= 0 and flags & LINE_START and ahead[again, _NEXT_OPEN] < 0:
                again_flags = marks[again, MARK_FLAGS]
                if (
                    again_flags & LINE_END
                    and not again_flags & LINE_START
                    and not _blank(data, marks[again, MARK_END], end)
                ):
                    _put(
                        cuts, count, row, start, marks[again, MARK_END], stop, marks[again, MARK_START], family, CLOSED
                    )
                    count += 1
                    blocks, last_family, nested = blocks + 1, family, 0
                    fence_end = max(fence_end, again)
                    continue
            # Otherwise it must stand where blocks begin: at the start of a line or of a sentence, after a block, or
            # beside text without a blank. Then the rest of the text is reasoning.
            if flags & ATTACHED:
                begins = not flags & NAMED
            else:
                begins = flags & (LINE_START | BREAKS) != 0 or not flags & CONTINUES
            if begins or blocks > 0:
                block, block_mark = family, t
                break
        else:
            # A closer without an opener.
            if family == HARMONY:
                # Without channels it is the end of a turn.
                ends = not flags & (QUOTED | NOUN) and _blank(data, stop, end)
                if harmony or (ends and not (flags & WORD_BEFORE and _same_line(data, begin, start))):
                    _put(cuts, count, row, start, stop, start, start, family, TAG_ONLY)
                    count += 1
                continue
            last = _blank(data, stop, end)
            if blocks > 0 and family == last_family and nested > 0:
                # Its opener is nested in the block before, which therefore extends to here.
                nested -= 1
                cuts[count - 1, _END], cuts[count - 1, _INNER_END] = stop, start
            elif _is_spoken_of(data, begin, end, start, stop, flags) or _in_literal(data, begin, start, stop, end):
                continue
            elif blocks > 0 and last:
                # After a block and an answer, at the end of the text: a stray tag.
                _put(cuts, count, row, start, stop, start, start, family, TAG_ONLY)
                count += 1
            elif last and flags & WORD_BEFORE and _same_line(data, begin, start):
                continue  # one sentence that ends with the tag: "R1 stops thinking at </think>"
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
    data,
    begin,
    end,
    row,
    marks,
    low,
    high,
    ahead,
    last_close,
    depth,
    last_fence,
    is_answer,
    blocks,
    cuts,
    row_cuts,
    count,
):
    """Cut the tags of answer wrappers in what the blocks leave of one text: how many cuts there are.

    cuts[row_cuts:count]: the cuts of blocks, which are passed over. Writes to `cuts` from `count` on, and to `depth`.
    """
    cut, fence_end, block_cuts, passed = row_cuts, _NONE, count, _NONE
    struck = 0  # `<s>` of HTML that are open
    while begin < end and is_space(data[begin]):
        begin += 1
    head = begin  # nothing but white space and cuts stands before it
    for t in range(low, high):
        start, stop, kind = marks[t, MARK_START], marks[t, MARK_END], marks[t, MARK_KIND]
        family, flags = marks[t, MARK_FAMILY], marks[t, MARK_FLAGS]
        while cut < block_cuts and cuts[cut, _END] <= start:
            if _blank(data, head, cuts[cut, _START]):
                head = cuts[cut, _END]
            cut += 1
        if (cut < block_cuts and cuts[cut, _START] <= start) or t <= fence_end or t == passed:
            continue
        if kind == FENCE:
            fence_end = _fence_end(marks, t, last_fence)
            continue
        if not is_answer[family]:
            continue
        control = _is_control(family)
        if family in (TURN, START, HEADER, SENTENCE) and _blank(data, head, start):
            # What begins a turn, or ends the one before, where no text of the answer stands before it.
            whole = (
                family != SENTENCE
                or ahead[t, _NEXT_CLOSE] < 0
                or _blank(data, marks[ahead[t, _NEXT_CLOSE], MARK_END], end)
            )
            if whole and (blocks > 0 or not flags & (QUOTED | NOUN | CONTINUES)):
                if family == START:
                    while stop < end and is_letter(data[stop]):
                        stop += 1
                _put(cuts, count, row, start, stop, start, start, family, TAG_ONLY)
                count, head = count + 1, stop
                continue
        if family == HEADER:
            continue
        if family == SENTENCE and (kind == OPEN or struck > 0):
            struck += 1 if kind == OPEN else -1
            continue
        if kind == OPEN:
            closer = ahead[t, _NEXT_CLOSE]
            last = last_close[family]
            is_first = _blank(data, begin, start) or (cut > row_cuts and _blank(data, cuts[cut - 1, _END], start))
            to_end = closer >= 0 and _blank(data, marks[last, MARK_END], end)
            if depth[family] > 0 and not control:
                depth[family] += 1
                continue
            if closer >= 0:
                if not is_first and _is_mentioned_pair(data, begin, end, marks, t, closer):
                    passed = closer
                    continue
                wraps = (
                    blocks > 0 or control or (to_end and (is_first or (family == ANSWER and flags & LINE_START != 0)))
                )
            else:
                wraps = not _is_mention(flags) or (is_first and not flags & NOUN)
                wraps = wraps and (control or (blocks > 0 and (is_first or flags & LINE_START != 0)))
            if not wraps:
                continue
            depth[family] += 1
            if family == START:  # the role that follows belongs to the tag
                while stop < end and is_letter(data[stop]):
                    stop += 1
        elif depth[family] > 0:
            depth[family] -= 1
            # The last closer closes the wrapper, whatever looked like an opener inside it (`fn f<Output>()`).
            if depth[family] > 0 and ahead[t, _NEXT_CLOSE] >= 0 and not control:
                continue
        else:
            # A closer whose opener was in the prompt. Only at the end of the text is it certainly a tag.
            last_tag = _blank(data, stop, end)
            if control and family not in (TURN, SENTENCE):
                if flags & (QUOTED | NOUN) or (flags & WORD_BEFORE and not last_tag):
                    continue
            elif not last_tag or not (blocks > 0 or family in (ANSWER, TURN, SENTENCE)) or flags & QUOTED:
                continue
            if last_tag and flags & WORD_BEFORE and (blocks == 0 or control) and _same_line(data, begin, start):
                continue
            if _is_listed(data, begin, end, start, stop, flags):
                continue
        _put(cuts, count, row, start, stop, start, start, family, TAG_ONLY)
        count += 1
    return count
