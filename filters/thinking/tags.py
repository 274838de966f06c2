"""Where thinking stands in a text: the families of tags, and how a text's tags are read.

- A block runs from an opening tag to the first closing tag of its family. Tags are known by the table FAMILIES, in any
  case and with attributes (`<think time="3">`).
- A closing tag that was never opened (R1 and Kimi, whose opener is in the prompt) ends a block that began with the
  text. If a block stands before it, with an opener inside, then it is that nested block's: the block reaches to here.
  If an answer stands before it and nothing after, it is a stray tag, and only the tag goes.
- An opening tag that is never closed begins a block that runs to the end of the text, or to a complete answer wrapper.
- Answer wrappers (`<answer>`, `<Output>`) lose their tags and keep what is in them, where the text has a block or the
  wrapper is the whole text. Elsewhere `<output>` is HTML.
- Text about the tags is left alone: in inline code and fenced code, in quotes, in a cell of a table, as an item of a
  list with a colon after it, beside words like "the ... tag", and an opening tag in the middle of a line that nothing
  closes. Inside a block a fence protects nothing, since reasoning is cut off in the middle of code.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.kernel import buffers, kernel
from filters.text import is_letter, is_space


class Family(NamedTuple):
    """Tags that belong together: any opener of a family is closed by any closer of it."""

    name: str
    opens: tuple[str, ...]
    closes: tuple[str, ...]
    wraps: Literal["thinking", "answer"] = "thinking"


FAMILIES = (
    Family(
        "think",
        ("<think>", "<thinking>", "<|think|>", "<|thinking|>", "|startthink|"),
        ("</think>", "</thinking>", "<|/think|>", "<|/thinking|>", "|endthink|"),
    ),
    Family("thought", ("<thought>", "<thoughts>"), ("</thought>", "</thoughts>")),  # Marco-o1
    Family("reasoning", ("<reasoning>",), ("</reasoning>",)),
    Family("reflection", ("<reflection>",), ("</reflection>",)),
    Family("scratchpad", ("<scratchpad>",), ("</scratchpad>",)),
    Family(
        "monologue",
        ("<inner_monologue>", "<thought_process>", "<chain_of_thought>", "<ant_thinking>", "<antthinking>"),
        ("</inner_monologue>", "</thought_process>", "</chain_of_thought>", "</ant_thinking>", "</antthinking>"),
    ),
    Family(
        "column", ("<reasoning_content>",), ("</reasoning_content>",)
    ),  # a column of its own, see pipelines.formats.pairs
    Family("seed", ("<seed:think>",), ("</seed:think>",)),
    Family("mm", ("<mm:think>",), ("</mm:think>",)),
    Family("begin_of_thought", ("<|begin_of_thought|>",), ("<|end_of_thought|>",)),  # Sky-T1, OpenThoughts
    Family("kimi", ("◁think▷",), ("◁/think▷",)),
    Family("mistral", ("[think]",), ("[/think]",)),
    Family("command", ("<|start_thinking|>",), ("<|end_thinking|>",)),
    Family(
        "harmony",  # gpt-oss: channels; any of its tags ends a block
        ("<|channel|>analysis", "<|channel|>commentary"),
        ("<|end|>", "<|call|>"),
    ),
    Family("answer", ("<answer>", "<final_answer>"), ("</answer>", "</final_answer>"), "answer"),
    Family("output", ("<output>",), ("</output>",), "answer"),
    Family("solution", ("<|begin_of_solution|>",), ("<|end_of_solution|>",), "answer"),
    Family("response", ("<|start_response|>",), ("<|end_response|>",), "answer"),
    Family("final_channel", ("<|channel|>final",), ("<|return|>",), "answer"),
    Family("start", ("<|start|>",), (), "answer"),  # harmony's start of a turn: no content of its own
)

# Words beside a tag that show that the tag is being talked about. After a tag, NOUNS show it wherever the tag stands.
BEFORE = """
    the a an and or with by in between inside within of to use uses using used tag tags token tokens closing opening
    open close before after until like called via emit emits write writes its each every no missing
"""
AFTER = "and or before after is are at to means"
NOUNS = "tag tags token tokens block blocks marker markers delimiter delimiters element elements pair opens closes"

_OPEN, _CLOSE, _FENCE = 0, 1, 2
_BARE, _ABOUT, _NOUN, _LINE_START = 1, 2, 4, 8  # a fence without an info string; talked about; by a noun after it
_MAX_ATTRIBUTES = 200  # bytes of attributes in a tag
_MAX_MENTION = 400  # bytes between two tags that are talked about together
_MAX_CODE = 1000  # bytes of inline code; these bounds keep the reading of hostile text linear


def _hash(text: bytes) -> int:
    state = 0xCBF29CE484222325
    for byte in text:
        state = ((state ^ byte) * 0x100000001B3) % (1 << 64)
    return state


def _table(entries: dict[bytes, int]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """An open-addressing table of hashes for the kernels; a value of -1 marks a free slot."""
    keys, values = np.zeros(512, np.uint64), np.full(512, -1, np.int64)
    for text, value in entries.items():
        slot = _hash(text) & 511
        while values[slot] >= 0:
            assert keys[slot] != _hash(text), text
            slot = (slot + 1) & 511
        keys[slot], values[slot] = _hash(text), value
    return keys, values


def _stem(tag: str) -> bytes:
    """A tag without its closing bracket, after which attributes may follow."""
    return tag.encode() if tag.startswith("<|channel|>") else tag[:-1].encode()


_TAG_KEYS, _TAG_VALUES = _table(
    {
        _stem(tag): 2 * number + kind
        for number, family in enumerate(FAMILIES)
        for kind, tags in enumerate((family.opens, family.closes))
        for tag in tags
    }
)
_WORDS = dict.fromkeys(f"{BEFORE} {AFTER} {NOUNS}".encode().split(), 0)
for _words, _bits in ((BEFORE, 1), (AFTER, 2), (NOUNS, 2 | 4)):
    for _word in _words.encode().split():
        _WORDS[_word] |= _bits
_WORD_KEYS, _WORD_VALUES = _table(_WORDS)
_NUMBER = {family.name: number for number, family in enumerate(FAMILIES)}
_HARMONY, _FINAL, _START = _NUMBER["harmony"], _NUMBER["final_channel"], _NUMBER["start"]
_SOLUTION, _RESPONSE = _NUMBER["solution"], _NUMBER["response"]
_IS_ANSWER = np.array([family.wraps == "answer" for family in FAMILIES])
_BEGINS = np.isin(np.arange(256), list(b"<[|`~\xe2"))  # the bytes that a tag or code can begin with
_CHANNEL, _MESSAGE = b"<|channel|>", b"<|message|>"


class Cuts(NamedTuple):
    """What to take out of a column of texts: `data[start:end]` of each cut, in order, never overlapping.

    row: int64 [cuts]; start, end, inner_start, inner_end: int64 [cuts], bytes into the column's data, `inner` being a
    block's content; family: int64 [cuts], an index into FAMILIES; closed: int64 [cuts], 1 a closed block, 0 a tag only,
    -1 a block that nothing closed.
    """

    row: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    inner_start: npt.NDArray[np.int64]
    inner_end: npt.NDArray[np.int64]
    family: npt.NDArray[np.int64]
    closed: npt.NDArray[np.int64]


def find(texts: pa.StringArray) -> Cuts:
    """One reading of every text: what to take out of it."""
    data, offsets = buffers(texts)
    tokens, first = _tokens(data, offsets)
    cuts = _cuts(data, offsets, tokens, first)
    cuts = cuts[np.argsort(cuts[:, 1], kind="stable")]  # blocks and answer tags, in the order of the text
    return Cuts(*(np.ascontiguousarray(column) for column in cuts.T))


def spell_out(texts: pa.StringArray) -> pa.StringArray:
    """Write harmony's channels as tags where decoding has left only their names: `analysisWe
    add...assistantfinal42`.
    """
    bare = pc.starts_with(texts, "analysis")  # first, since it reads one word of each text
    if not pc.any(bare).as_py():
        return texts
    tagged = r"<|channel|>analysis<|message|>\1<|end|>"
    spelt = pc.replace_substring_regex(texts.filter(bare), r"(?s)^analysis(.*)assistantfinal", tagged)
    return pc.replace_with_mask(texts, bare, spelt)


@kernel
def _look_up(keys, values, state):  # type: ignore[no-untyped-def]
    slot = np.int64(state & np.uint64(511))
    while values[slot] >= 0:
        if keys[slot] == state:
            return values[slot]
        slot = (slot + 1) & 511
    return -1


@kernel
def _step(state, byte):  # type: ignore[no-untyped-def]
    lower = byte | 32 if 65 <= byte <= 90 else byte
    return (state ^ np.uint64(lower)) * np.uint64(0x100000001B3)


@kernel
def _spells(data, at, end, wanted):  # type: ignore[no-untyped-def]
    matched = 0
    while matched < len(wanted) and at + matched < end and data[at + matched] == wanted[matched]:
        matched += 1
    return matched == len(wanted)


@kernel
def _tag(data, at, end):  # type: ignore[no-untyped-def]
    """The tag that begins at `at`: (its value in the table, or -1; where it ends)."""
    opener = data[at]
    closer = 62 if opener == 60 else 93 if opener == 91 else 124 if opener == 124 else 0xE2
    state, i = _step(np.uint64(0xCBF29CE484222325), opener), at + 1
    if opener == 0xE2:  # ◁ is E2 97 81, and ▷ that ends the tag is E2 96 B7
        if i + 1 >= end or data[i] != 0x97 or data[i + 1] != 0x81:
            return -1, at
        state, i = _step(_step(state, data[i]), data[i + 1]), i + 2
    stop = min(end, at + 32)
    while i < stop and data[i] != closer and not is_space(data[i]):
        state = _step(state, data[i])
        i += 1
    if i >= stop:
        return -1, at
    if opener == 0xE2:
        value = _look_up(_TAG_KEYS, _TAG_VALUES, state)
        return (
            (value, i + 3) if value >= 0 and i + 2 < end and data[i + 1] == 0x96 and data[i + 2] == 0xB7 else (-1, at)
        )
    if opener == 60 and _spells(data, at, end, _CHANNEL):
        # The channel's name belongs to the tag, and so does all up to its message: `<|channel|>commentary to=f
        # <|message|>`
        state, i = _step(state, data[i]), i + 1
        while i < end and is_letter(data[i]):
            state = _step(state, data[i])
            i += 1
        value = _look_up(_TAG_KEYS, _TAG_VALUES, state)
        limit = min(end, i + _MAX_ATTRIBUTES)
        for j in range(i, limit):
            if data[j] == 10:
                break
            if _spells(data, j, end, _MESSAGE):
                return value, j + len(_MESSAGE)
        return value, i
    value = _look_up(_TAG_KEYS, _TAG_VALUES, state)
    if value < 0:
        return -1, at
    if data[i] == closer:
        return value, i + 1
    if opener != 60:
        return -1, at
    while i < end and (data[i] == 32 or data[i] == 9):
        i += 1
    if i < end and data[i] == 62:
        return value, i + 1
    if i >= end or not is_letter(data[i]) or value % 2 == 1:
        return -1, at
    equals = False
    for j in range(i, min(end, i + _MAX_ATTRIBUTES)):
        byte = data[j]
        if byte == 61:
            equals = True
        elif byte == 10 or byte == 60:
            return -1, at
        elif byte == 62:
            return (value, j + 1) if equals else (-1, at)
    return -1, at


@kernel
def _is_quote(byte: int) -> bool:
    return byte == 34 or byte == 39 or byte == 40 or byte == 41 or byte == 96


@kernel
def _is_item(data, begin, at):  # type: ignore[no-untyped-def]
    """Whether nothing but the mark of a list item (`- `, `2. `) stands on the line up to `at`."""
    stop = at - 6
    while at >= begin and at > stop and data[at] != 10:
        byte = data[at]
        if not (is_space(byte) or 48 <= byte <= 57 or byte in (40, 41, 42, 43, 45, 46)):
            return False
        at -= 1
    return at < begin or data[at] == 10


@kernel
def _mention(data, begin, start, stop, end):  # type: ignore[no-untyped-def]
    """Flags of the tag data[start:stop] in data[begin:end]: whether its line talks about it, and where it stands."""
    flags = 0
    left = start - 1
    while left >= begin and (data[left] == 32 or data[left] == 9):
        left -= 1
    if left < begin or data[left] == 10:
        flags |= _LINE_START
    right = stop
    while right < end and (data[right] == 32 or data[right] == 9):
        right += 1
    state, i = np.uint64(0xCBF29CE484222325), right
    while i < end and is_letter(data[i]) and i - right < 12:
        state = _step(state, data[i])
        i += 1
    word = _look_up(_WORD_KEYS, _WORD_VALUES, state) if i > right > stop else -1
    if word >= 0 and word & 4:
        flags |= _NOUN | _ABOUT
    cell = left >= begin and right < end and data[left] == 124 and data[right] == 124 and data[start] != 124
    if cell or (stop < end and data[stop] == 58 and _is_item(data, begin, left)):
        flags |= _ABOUT
    if flags & _LINE_START:
        return flags
    if word >= 0 and word & 2:
        flags |= _ABOUT
    if left < start - 1:
        i = left
        while i >= begin and is_letter(data[i]) and left - i < 12:
            i -= 1
        state = np.uint64(0xCBF29CE484222325)
        for j in range(i + 1, left + 1):
            state = _step(state, data[j])
        word = _look_up(_WORD_KEYS, _WORD_VALUES, state) if i < left else -1
        if word >= 0 and word & 1:
            flags |= _ABOUT
    else:
        curly = left - 2 >= begin and data[left - 2] == 0xE2 and data[left - 1] == 0x80 and 0x98 <= data[left] <= 0x9F
        after = data[stop] if stop < end else np.uint8(46)
        if (_is_quote(data[left]) or curly) and (
            _is_quote(after) or is_space(after) or after in (44, 46, 58, 59, 0xE2)
        ):
            flags |= _ABOUT
    return flags


@kernel
def _next(data, at, end):  # type: ignore[no-untyped-def]
    """Where a tag or code may begin, from `at` on. (Written inside a larger function the loop runs ten times
    slower.)
    """
    while at < end and not _BEGINS[data[at]]:
        at += 1
    return at


# Small functions, because a tuple or an array assigned to a part of an array costs a second of compiling, each.
@kernel
def _grown(tokens):  # type: ignore[no-untyped-def]
    grown = np.empty((2 * len(tokens), 5), np.int64)
    for i in range(len(tokens)):
        for j in range(5):
            grown[i, j] = tokens[i, j]
    return grown


@kernel
def _put_token(tokens, at, start, end, kind, family, flags):  # type: ignore[no-untyped-def]
    tokens[at, 0], tokens[at, 1], tokens[at, 2], tokens[at, 3], tokens[at, 4] = start, end, kind, family, flags


@kernel
def _put_cut(cuts, at, row, start, end, inner_start, inner_end, family, closed):  # type: ignore[no-untyped-def]
    cuts[at, 0], cuts[at, 1], cuts[at, 2], cuts[at, 3] = row, start, end, inner_start
    cuts[at, 4], cuts[at, 5], cuts[at, 6] = inner_end, family, closed


@kernel
def _tokens(data, offsets):  # type: ignore[no-untyped-def]
    """Tags and code fences of every text: int64 [tokens, 5] of start, end, kind, family, flags; and where each text's
    tokens start, int64 [rows + 1]. Tags in inline code are no tokens."""
    rows = len(offsets) - 1
    first = np.zeros(rows + 1, np.int64)
    tokens = np.empty((1024, 5), np.int64)
    count = 0
    for row in range(rows):
        begin, end = offsets[row], offsets[row + 1]
        at = begin
        while True:
            at = _next(data, at, end)
            if at == end:
                break
            byte = data[at]
            if count == len(tokens):
                tokens = _grown(tokens)
            if byte == 96 or byte == 126:
                stop = at
                while stop < end and data[stop] == byte:
                    stop += 1
                run = stop - at
                left = at - 1
                while left >= begin and data[left] == 32:
                    left -= 1
                if run >= 3 and (left < begin or data[left] == 10):
                    bare = True
                    line = stop
                    while line < end and data[line] != 10:
                        bare = bare and is_space(data[line])
                        line += 1
                    _put_token(tokens, count, at, line, _FENCE, np.int64(byte), _BARE if bare else 0)
                    count += 1
                    at = line
                    continue
                if byte == 96:  # inline code runs to as many backticks on the same line; without them it is a backtick
                    i, found = stop, 0
                    while i < min(end, stop + _MAX_CODE) and data[i] != 10 and found != run:
                        if data[i] == 96:
                            found += 1
                        elif found > 0:
                            found = 0
                        i += 1
                        if found == run and i < end and data[i] == 96:
                            found = -1000000
                    if found == run:
                        stop = i
                at = stop
                continue
            value, stop = _tag(data, at, end)
            if value < 0:
                at += 1
                continue
            _put_token(tokens, count, at, stop, value % 2, value // 2, _mention(data, begin, at, stop, end))
            count += 1
            at = stop
        first[row + 1] = count
    return tokens[:count], first


@kernel
def _blank(data, at, end):  # type: ignore[no-untyped-def]
    while at < end and is_space(data[at]):
        at += 1
    return at == end


@kernel
def _fence_end(tokens, t, last_fence):  # type: ignore[no-untyped-def]
    """The token that closes the fence which token `t` opens, or `t`: a fence that nothing closes protects nothing."""
    for other in range(t + 1, last_fence + 1):
        if tokens[other, 2] == _FENCE and tokens[other, 3] == tokens[t, 3] and tokens[other, 4] & _BARE:
            return other
    return t


@kernel
def _is_rescue(tokens, t, last_close):  # type: ignore[no-untyped-def]
    """Whether token `t` opens an answer wrapper that is closed."""
    family = tokens[t, 3]
    return tokens[t, 2] == _OPEN and _IS_ANSWER[family] and not tokens[t, 4] & _ABOUT and last_close[family] > t


@kernel
def _cuts(data, offsets, tokens, first):  # type: ignore[no-untyped-def]
    """Decide what each text's tags mean: int64 [cuts, 7], the columns of Cuts."""
    rows = len(offsets) - 1
    cuts = np.empty((len(tokens), 7), np.int64)  # every cut owns the token that begins it, or the orphan that ends it
    count = 0
    families = len(_IS_ANSWER)
    last_close = np.empty(families, np.int64)
    about_at = np.empty(families, np.int64)
    depth = np.empty(families, np.int64)
    for row in range(rows):
        if first[row] == first[row + 1]:
            continue
        begin, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        row_cuts = count
        for family in range(families):
            last_close[family], about_at[family], depth[family] = -1, -1, 0
        any_tag, last_fence, last_rescue = False, -1, -1
        for t in range(first[row + 1] - 1, first[row] - 1, -1):
            kind, family = tokens[t, 2], tokens[t, 3]
            if kind == _FENCE:
                if last_fence < 0 and tokens[t, 4] & _BARE:
                    last_fence = t
                continue
            any_tag = True
            if kind == _CLOSE and last_close[family] < 0 and not tokens[t, 4] & _NOUN:
                last_close[family] = t
            if last_rescue < 0 and _is_rescue(tokens, t, last_close):
                last_rescue = t
        if not any_tag:
            continue
        blocks, nested, last_family, harmony = 0, 0, -1, False
        block, block_token = -1, 0
        fence_end = -1  # the token that closes the fence we are in
        for t in range(first[row], first[row + 1]):
            start, stop, kind, family, flags = tokens[t, 0], tokens[t, 1], tokens[t, 2], tokens[t, 3], tokens[t, 4]
            if block >= 0:
                if kind == _FENCE or flags & _NOUN:
                    continue
                if block == _HARMONY:
                    closes = family in (_HARMONY, _FINAL, _START)
                else:
                    closes = family == block and kind == _CLOSE
                    nested += family == block and kind == _OPEN
                if not closes:
                    continue
                stop = stop if kind == _CLOSE else start  # a new channel ends the block and stays to be read
                _put_cut(cuts, count, row, tokens[block_token, 0], stop, tokens[block_token, 1], start, block, 1)
                count += 1
                blocks, last_family, block = blocks + 1, block, -1
                if kind == _CLOSE:
                    continue
            if t <= fence_end:
                continue
            if kind == _FENCE:
                fence_end = _fence_end(tokens, t, last_fence)
                continue
            if _IS_ANSWER[family]:
                harmony = harmony or family in (_FINAL, _START)
                continue
            if kind == _OPEN:
                if flags & _ABOUT:
                    about_at[family] = start
                    continue
                if last_close[family] > t or family == _HARMONY:
                    block, block_token, nested = family, t, 0
                    harmony = harmony or family == _HARMONY
                    continue
                # Never closed. A whole answer wrapper after it is the answer; else it must stand where blocks begin.
                if last_rescue > t:
                    rescue = t + 1
                    while not _is_rescue(tokens, rescue, last_close):
                        rescue += 1
                    _put_cut(cuts, count, row, start, tokens[rescue, 0], stop, tokens[rescue, 0], family, 1)
                    count += 1
                    blocks, last_family, nested = blocks + 1, family, 0
                    fence_end = max(fence_end, rescue - 1)
                    continue
                before = data[start - 1] if start > begin else np.uint8(10)
                if flags & _LINE_START or blocks > 0 or not is_space(before):
                    block, block_token = family, t
                    break
                about_at[family] = start
            else:
                if family == _HARMONY and not harmony:
                    continue  # `<|end|>` alone is another template's end of turn
                if flags & _ABOUT:
                    continue
                if about_at[family] >= 0 and start - about_at[family] <= _MAX_MENTION:
                    partner = True
                    for i in range(about_at[family], start):
                        if data[i] == 10:
                            partner = False
                            break
                    if partner:
                        continue
                if family == _HARMONY:
                    _put_cut(cuts, count, row, start, stop, start, start, family, 0)
                    count += 1
                elif blocks > 0 and family == last_family and nested > 0:
                    nested -= 1
                    cuts[count - 1, 2], cuts[count - 1, 4] = stop, start
                elif blocks > 0 and _blank(data, stop, end):
                    _put_cut(cuts, count, row, start, stop, start, start, family, 0)
                    count += 1
                else:
                    count = row_cuts
                    _put_cut(cuts, count, row, begin, stop, begin, start, family, 1)
                    count += 1
                    blocks, last_family, nested = blocks + 1, family, 0
        if block >= 0:
            _put_cut(cuts, count, row, tokens[block_token, 0], end, tokens[block_token, 1], end, block, -1)
            count += 1
            blocks += 1
        # Answer wrappers, in what is left: their tags go.
        cut, fence_end, tags = row_cuts, -1, count
        for t in range(first[row], first[row + 1]):
            start, stop, kind, family, flags = tokens[t, 0], tokens[t, 1], tokens[t, 2], tokens[t, 3], tokens[t, 4]
            while cut < tags and cuts[cut, 2] <= start:
                cut += 1
            if (cut < tags and cuts[cut, 1] <= start) or t <= fence_end:
                continue
            if kind == _FENCE:
                fence_end = _fence_end(tokens, t, last_fence)
                continue
            if not _IS_ANSWER[family] or flags & _ABOUT:
                continue
            control = family in (_SOLUTION, _RESPONSE, _FINAL, _START)
            if kind == _OPEN:
                closed = last_close[family] > t
                whole = closed and _blank(data, begin, start) and _blank(data, tokens[last_close[family], 1], end)
                depth[family] += 1
                if depth[family] > 1 and not control:
                    continue
                if not (blocks > 0 or whole or control):
                    depth[family] -= 1
                    continue
                touches = cut > row_cuts and _blank(data, cuts[cut - 1, 2], start)
                if not (closed or control or touches or flags & _LINE_START):
                    depth[family] -= 1
                    continue
                if family == _START:  # the role that follows belongs to the tag
                    while stop < end and is_letter(data[stop]):
                        stop += 1
            elif depth[family] > 0:
                depth[family] -= 1
                # The last closer closes the wrapper, whatever looked like an opener within (`fn f<Output>()`).
                if depth[family] > 0 and t < last_close[family] and not control:
                    continue
            elif not ((blocks > 0 or control) and _blank(data, stop, end)):
                continue
            _put_cut(cuts, count, row, start, stop, start, start, family, 0)
            count += 1
    return cuts[:count]
