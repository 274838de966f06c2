"""Marks: the tags and code fences of a text, in its order. Tags in inline code are no marks."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from dedup.growing import doubled
from dedup.hashing import FNV_BASIS, fnv1a_bytes
from dedup.kernel import borrowing_kernel, kernel
from filters.text import is_letter, is_space
from filters.thinking.families import BEGINS, HEAD_ENDS, HEADS, MAX_TAG_BYTES, Lexicon, folded, look_up
from filters.thinking.mentions import BARE, QUOTED, fold_step, mention_flags

# Columns of marks, int64 [n, 5]: first byte, end, kind, family (of a fence: its byte), flags (`mentions`).
MARK_START, MARK_END, MARK_KIND, MARK_FAMILY, MARK_FLAGS = range(5)
OPEN, CLOSE, FENCE = 0, 1, 2
"""Kinds of marks."""

# Bounds on how far one mark is read. They keep the time linear in the size of hostile text.
MAX_ATTRIBUTE_BYTES = 200
MAX_CODE_BYTES = 1000  # of inline code

_LESS, _BRACKET, _BAR, _TRIANGLE = 60, 91, 124, 0xE2  # the bytes that a tag can begin with: < [ | and ◁ (E2 97 81)
_GREATER, _BACKTICK, _TILDE, _EQUALS = 62, 96, 126, 61
_AMPERSAND, _BACKSLASH, _FULL_WIDTH = 38, 92, 0xEF  # an escaped or full-width < can begin with these
_LINE_FEED = 10
_NOT_CODE = -1_000_000  # so low that no later backtick on the line is counted up to a run
# Escaped angle brackets, in lower case.
_LESS_FORMS = (b"&lt;", b"&amp;lt;", b"&#60;", b"&#x3c;", b"\\u003c", b"\xef\xbc\x9c")
_GREATER_FORMS = (b"&gt;", b"&amp;gt;", b"&#62;", b"&#x3e;", b"\\u003e", b"\xef\xbc\x9e", b"\\>")


def _joined(forms: tuple[bytes, ...]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    return np.frombuffer(b"".join(forms), np.uint8), np.cumsum([len(form) for form in forms], dtype=np.int64)


_LESS_BYTES, _LESS_ENDS = _joined(_LESS_FORMS)
_GREATER_BYTES, _GREATER_ENDS = _joined(_GREATER_FORMS)
_HEAD_END_BYTES, _HEAD_END_ENDS = _joined(HEAD_ENDS)
_HEAD_KEYS = np.array([fnv1a_bytes(folded(head)) for head in HEADS], np.uint64)

_BEGINS = np.isin(np.arange(256), list(BEGINS))

_I64 = npt.NDArray[np.int64]


def find_marks(data: npt.NDArray[np.uint8], offsets: _I64, lexicon: Lexicon, escaped: bool = True) -> tuple[_I64, _I64]:
    """The marks of texts: int64 [n, 5] (columns MARK_*), and where each text's marks begin, int64 [rows + 1].

    data: uint8, the texts' bytes; offsets: int64 [rows + 1]. escaped: whether `\\u003c` may stand in them.
    """
    begins = lexicon.begins.copy()
    # Formulas are full of backslashes. They are looked at only where one may begin an escaped bracket.
    begins[_BACKSLASH] |= escaped
    usual = bool((begins == _BEGINS).all())
    return cast(tuple[_I64, _I64], _find_marks(data, offsets, *lexicon[1:3], usual, begins, *lexicon[4:-1]))


@borrowing_kernel
def _spells(data, at, end, wanted, low, high):  # type: ignore[no-untyped-def]
    """Whether data[at:end] begins with the lower-case bytes wanted[low:high], in any case."""
    if high - low > end - at:
        return False
    for i in range(high - low):
        byte = data[at + i]
        if (byte | 32 if 65 <= byte <= 90 else byte) != wanted[low + i]:
            return False
    return True


@borrowing_kernel
def _which(data, at, end, forms, ends):  # type: ignore[no-untyped-def]
    """The place of the first of `forms` with which data[at:end] begins, and its length; (-1, 0) for none."""
    low = 0
    for place in range(len(ends)):
        if _spells(data, at, end, forms, low, ends[place]):
            return place, ends[place] - low
        low = ends[place]
    return -1, 0


@borrowing_kernel
def _less(data, at, end):  # type: ignore[no-untyped-def]
    """The length of the `<` at `at`, which may be escaped; 0 where there is none."""
    if data[at] == _LESS:
        return 1
    if at + 2 < end and data[at] == _FULL_WIDTH and data[at + 1] != 0xBC:
        return 0
    return _which(data, at, end, _LESS_BYTES, _LESS_ENDS)[1]


@borrowing_kernel
def _greater(data, at, end):  # type: ignore[no-untyped-def]
    """The length of the `>` at `at`, which may be escaped; 0 where there is none."""
    byte = data[at]
    if byte == _GREATER:
        return 1
    if byte in (_AMPERSAND, _BACKSLASH, _FULL_WIDTH):
        return _which(data, at, end, _GREATER_BYTES, _GREATER_ENDS)[1]
    return 0


@borrowing_kernel
def _ignored(data, at, end):  # type: ignore[no-untyped-def]
    """The length of what is ignored in a tag's name at `at`: `_`, `-`, a soft hyphen, a zero-width character."""
    byte = data[at]
    if byte == 95 or byte == 45:
        return 1
    if byte < 0x80 or at + 1 >= end:
        return 0
    if byte == 0xC2:
        return 2 if data[at + 1] == 0xAD else 0
    if at + 2 >= end:
        return 0
    if byte == 0xE2:
        if data[at + 1] == 0x80:  # U+200B to U+200F, U+202A to U+202E
            return 3 if 0x8B <= data[at + 2] <= 0x8F or 0xAA <= data[at + 2] <= 0xAE else 0
        return 3 if data[at + 1] == 0x81 and 0xA0 <= data[at + 2] <= 0xAF else 0  # U+2060 to U+206F
    return 3 if byte == 0xEF and data[at + 1] == 0xBB and data[at + 2] == 0xBF else 0


@borrowing_kernel
def _blanks(data, at, end):  # type: ignore[no-untyped-def]
    """Where the blanks and ignored characters that begin at `at` end."""
    while at < end:
        width = 1 if data[at] == 32 or data[at] == 9 else _ignored(data, at, end)
        if width == 0:
            break
        at += width
    return at


@borrowing_kernel
def _invisible(data, at, end):  # type: ignore[no-untyped-def]
    """The length of the zero-width character at `at`; 0 for any other."""
    return _ignored(data, at, end) if data[at] >= 0x80 else 0


@borrowing_kernel
def _narrow(data, at, end):  # type: ignore[no-untyped-def]
    """The ASCII character that the full-width one at `at` (U+FF01 to U+FF5E) stands for; 0 for any other."""
    if data[at] != _FULL_WIDTH or at + 2 >= end:
        return np.uint8(0)
    if data[at + 1] == 0xBC and data[at + 2] >= 0x81:
        return np.uint8(data[at + 2] - 0x60)
    if data[at + 1] == 0xBD and data[at + 2] <= 0x9E:
        return np.uint8(data[at + 2] - 0x20)
    return np.uint8(0)


@borrowing_kernel
def _fold_character(data, at, end, state):  # type: ignore[no-untyped-def]
    """The hash `state` of a tag's name after the character at `at`, and its length."""
    byte, width = data[at], _ignored(data, at, end)
    if width > 0:
        return state, width
    narrow = _narrow(data, at, end)
    if narrow == 0:
        return fold_step(state, byte), 1
    return (state, 3) if narrow in (95, 45) else (fold_step(state, narrow), 3)


@borrowing_kernel
def _is_head(state):  # type: ignore[no-untyped-def]
    """Whether `state` is the hash of a mark that a name follows."""
    for key in _HEAD_KEYS:  # noqa: SIM110 - numba compiles no generator
        if key == state:
            return True
    return False


@borrowing_kernel
def _header(data, at, end, state, keys, values):  # type: ignore[no-untyped-def]
    """The tag whose head (`<|channel|>`) ends before `at`, with hash `state`: (its value, where it ends).

    The name behind it belongs to the tag, and so does what follows up to the end of the header, within the line:
    `<|channel|>commentary to=f <|message|>`.
    """
    alone, name = look_up(keys, values, state), at
    while name < end and (data[name] == 32 or data[name] == 9):
        name += 1
    stop = name
    while stop < end and is_letter(data[stop]):
        state = fold_step(state, data[stop])
        stop += 1
    value = look_up(keys, values, state)
    if value < 0:  # a tag without a name that is known
        return alone, at
    for i in range(stop, min(end, stop + MAX_ATTRIBUTE_BYTES)):
        if data[i] == _LINE_FEED:
            break
        width = _less(data, i, end)
        if width > 0:
            place, size = _which(data, i + width, end, _HEAD_END_BYTES, _HEAD_END_ENDS)
            tail = i + width + size
            if place >= 0 and tail < end and _greater(data, tail, end) > 0:
                return value, tail + _greater(data, tail, end)
    return value, stop


@borrowing_kernel
def _tag(data, at, end, keys, values):  # type: ignore[no-untyped-def]
    """The tag at `at`: (its value, or -1; where it ends; whether that is in doubt).

    In doubt are attributes that programs write (`<Thought :text="t">`): they open what is closed later, or nothing.
    """
    opener = data[at]
    if opener in (_BRACKET, _BAR):
        closer = np.uint8(93) if opener == _BRACKET else np.uint8(_BAR)
        state, i, stop = fold_step(FNV_BASIS, opener), at + 1, min(end, at + MAX_TAG_BYTES)
        while i < stop and data[i] != closer and not is_space(data[i]):
            if data[i] == _BACKSLASH and i + 1 < stop and data[i + 1] == closer:  # escaped by Markdown
                i += 1
                break
            state, width = _fold_character(data, i, end, state)
            i += width
        if i >= stop or data[i] != closer:
            return -1, at, False
        return look_up(keys, values, state), i + 1, False
    if opener == _TRIANGLE:  # ◁ is E2 97 81; ▷, which ends the tag, is E2 96 B7
        if at + 2 >= end or data[at + 1] != 0x97 or data[at + 2] != 0x81:
            return -1, at, False
        state, i, stop = FNV_BASIS, at, min(end, at + MAX_TAG_BYTES)
        while i + 2 < stop and not (data[i] == 0xE2 and data[i + 1] == 0x96 and data[i + 2] == 0xB7):
            state, width = _fold_character(data, i, end, state)
            i += width
        return (look_up(keys, values, state), i + 3, False) if i + 2 < stop else (-1, at, False)
    width = _less(data, at, end)
    if width == 0:
        return -1, at, False
    # The name: after blanks and a slash, up to the closing bracket or a blank.
    state, i = fold_step(FNV_BASIS, np.uint8(_LESS)), at + width
    stop = min(end, i + MAX_TAG_BYTES)
    if i < stop and not is_letter(data[i]):
        i = _blanks(data, i, stop)
        slash = i < stop and data[i] == 47
        if not slash and i + 1 < stop and data[i] == _BACKSLASH and data[i + 1] == 47:  # `<\/think>`, as JSON writes it
            slash, i = True, i + 1
        wide = i < stop and _narrow(data, i, end) == 47
        if slash or wide:
            state = fold_step(state, np.uint8(47))
            i = _blanks(data, i + (3 if wide else 1), stop)
    tail = 0
    while i < stop and not is_space(data[i]):
        if is_letter(data[i]):  # before the rarer cases, since most bytes of a name are letters
            state = fold_step(state, data[i])
            i += 1
            continue
        tail = _greater(data, i, end)
        if tail > 0:
            break
        state, width = _fold_character(data, i, end, state)
        i += width
    if i >= stop:
        return -1, at, False
    if tail > 0:
        closed = fold_step(state, np.uint8(_GREATER))
        if _is_head(closed):
            value, stop = _header(data, i + tail, end, closed, keys, values)
            return value, stop, False
        return look_up(keys, values, state), i + tail, False
    value = look_up(keys, values, state)
    if value < 0:
        return -1, at, False
    # A blank after the name: the end of the tag, or attributes, which only an opener may have.
    i = _blanks(data, i, end)
    line = i
    while line < stop and is_space(data[line]):
        line += 1
    tail = _greater(data, line, end) if line < end else 0
    if tail > 0:
        return value, line + tail, False
    if i >= end:
        return -1, at, False
    if value % 2 == CLOSE:
        return -1, at, False
    usual, equals = is_letter(data[i]), False
    for j in range(i, min(end, i + MAX_ATTRIBUTE_BYTES)):
        byte = data[j]
        if byte == _EQUALS:
            equals = True
        elif byte == _LINE_FEED:
            usual = False
        elif byte == _LESS:
            return -1, at, False
        else:
            tail = _greater(data, j, end)
            if tail > 0:  # an element that closes itself, as `<Reasoning steps={s} />`, opens nothing
                return (value, j + tail, not (usual and equals)) if data[j - 1] != 47 else (-1, at, False)
    return -1, at, False


# Two functions of one loop, since a table that is a constant is read faster. Inside a larger function the loop is ten
# times slower.
@borrowing_kernel
def _next_begin(data, at, end):  # type: ignore[no-untyped-def]
    """The first byte from `at` on with which a mark of the usual forms may begin."""
    while at < end and not _BEGINS[data[at]]:
        at += 1
    return at


@borrowing_kernel
def _next_of(data, at, end, begins):  # type: ignore[no-untyped-def]
    """The first byte from `at` on that is one of `begins`, bool [256]."""
    while at < end and not begins[data[at]]:
        at += 1
    return at


@borrowing_kernel
def _run_end(data, at, end):  # type: ignore[no-untyped-def]
    """Where the run of equal bytes that begins at `at` ends."""
    stop = at
    while stop < end and data[stop] == data[at]:
        stop += 1
    return stop


@borrowing_kernel
def _is_fence(data, begin, at, stop):  # type: ignore[no-untyped-def]
    """Whether the run data[at:stop] of backticks or tildes is a code fence: three or more, first on their line.

    begin: of the text, or the end of the tag before: what stands behind a tag is first once that is cut.
    """
    left = at - 1
    while left >= begin and data[left] == 32:
        left -= 1
    return stop - at >= 3 and (left < begin or data[left] == _LINE_FEED)


@borrowing_kernel
def _code_end(data, at, end, run):  # type: ignore[no-untyped-def]
    """Where inline code that begins with `run` backticks before `at` ends; `at` where it does not.

    It ends with exactly as many backticks on the same line.
    """
    i, ticks = at, 0
    while i < min(end, at + MAX_CODE_BYTES) and data[i] != _LINE_FEED and ticks != run:
        if data[i] == _BACKTICK:
            ticks += 1
        elif ticks > 0:
            ticks = 0
        i += 1
        if ticks == run and i < end and data[i] == _BACKTICK:
            ticks = _NOT_CODE  # a longer run of backticks: this is not read as inline code
    return i if ticks == run else at


@borrowing_kernel
def _is_part(data, begin, start, stop, end):  # type: ignore[no-untyped-def]
    """Whether the tag data[start:stop] is a part of another mark: `|x|` in `<|x|>`, `<x>` in `<<x>>`."""
    left = data[start - 1] if start > begin else np.uint8(0)
    if data[start] == _BAR:
        return left in (_LESS, _BRACKET) or (stop < end and (data[stop] == 93 or _greater(data, stop, end) > 0))
    return left == _LESS and stop < end and data[start] == _LESS and data[stop] == _GREATER


@borrowing_kernel
def _widened(data, begin, start, stop, end):  # type: ignore[no-untyped-def]
    """The tag data[start:stop] with a backslash before it that escapes it, and zero-width characters beside it."""
    if start > begin and data[start - 1] == _BACKSLASH:
        for i in range(start, stop):
            if data[i] == _BACKSLASH:
                start -= 1
                break
    while start - 3 >= begin and data[start - 1] >= 0x80 and _invisible(data, start - 3, end) == 3:
        start -= 3
    while stop < end and _invisible(data, stop, end) > 0:
        stop += _invisible(data, stop, end)
    return start, stop


@borrowing_kernel
def _emphasis(data, begin, start, stop, end):  # type: ignore[no-untyped-def]
    """How many stars on either side of data[start:stop] are its own (`**<think>**`).

    Those of what stands beside it are not (`**b**</think>**c**`): its own have a blank on one side, or no stars on the
    line before that they would close.
    """
    stars = 0
    while start - stars > begin and stop + stars < end and data[start - stars - 1] == data[stop + stars] == 42:
        stars += 1
    first, last = start - stars, stop + stars
    if stars == 0 or first == begin or last == end or is_space(data[first - 1]) or is_space(data[last]):
        return stars
    at, before = first - 1, 0
    while at >= max(begin, first - MAX_ATTRIBUTE_BYTES) and data[at] != _LINE_FEED:
        before += data[at] == 42
        at -= 1
    return 0 if (before // stars) % 2 else stars


# A function of its own: an assignment of a tuple to a part of an array takes a second to compile wherever it stands.
@kernel
def _put(marks, n, start, end, kind, family, flags):  # type: ignore[no-untyped-def]
    marks[n, MARK_START], marks[n, MARK_END], marks[n, MARK_KIND] = start, end, kind
    marks[n, MARK_FAMILY], marks[n, MARK_FLAGS] = family, flags


@kernel
def _find_marks(data, offsets, keys, values, usual, begins, literals, literal_ends, literal_values):  # type: ignore[no-untyped-def]
    rows = len(offsets) - 1
    first = np.zeros(rows + 1, np.int64)
    marks = np.empty((1024, 5), np.int64)
    count = 0
    for row in range(rows):
        begin, end = offsets[row], offsets[row + 1]
        at = tag_end = begin
        while True:
            at = _next_begin(data, at, end) if usual else _next_of(data, at, end, begins)
            if at == end:
                break
            byte = data[at]
            if count == len(marks):
                marks = doubled(marks)
            if byte in (_BACKTICK, _TILDE):
                stop = _run_end(data, at, end)
                if _is_fence(data, tag_end, at, stop):
                    # The rest of the line is its info string ("python"). Only a fence without one can close another.
                    # A tag ends it ("```</answer>").
                    bare = True
                    line = stop
                    while line < end and data[line] != _LINE_FEED:
                        if bare and begins[data[line]]:
                            if _tag(data, line, end, keys, values)[0] >= 0:
                                break
                            if _which(data, line, end, literals, literal_ends)[0] >= 0:
                                break
                        bare = bare and is_space(data[line])
                        line += 1
                    _put(marks, count, at, line, FENCE, np.int64(byte), BARE if bare else 0)
                    count += 1
                    at = line
                    continue
                at = _code_end(data, stop, end, stop - at) if byte == _BACKTICK else stop
                continue
            value, stop, doubt = -1, at, False
            after = data[at + 1] if at + 1 < end else np.uint8(0)
            # Comparisons, LaTeX's brackets and tables have something else behind the first byte.
            if is_letter(after) or after >= 0x80 or after in (_BAR, _BACKSLASH, 32, 35, 47):  # | \\ blank # /
                value, stop, doubt = _tag(data, at, end, keys, values)
            if value >= 0 and _is_part(data, begin, at, stop, end):
                value, stop = -1, at
            if value < 0 and len(literal_ends) > 0:
                place, size = _which(data, at, end, literals, literal_ends)
                if place >= 0:
                    value, stop = literal_values[place], at + size
            if value < 0:
                at += 1
                continue
            start, stop = _widened(data, tag_end, at, stop, end)
            flags = mention_flags(data, begin, start, stop, end) | (QUOTED if doubt else 0)
            emphasis = _emphasis(data, tag_end, start, stop, end)
            tag_end = at = stop + emphasis
            _put(marks, count, start - emphasis, at, value % 2, value // 2, flags)
            count += 1
        first[row + 1] = count
    return marks[:count], first
