"""Mentions: tags that a text talks about instead of using them, as in "the <think> tag".

A mention shows in the tag's surroundings: quotes, a cell of a table, the head of a list item, or one of the words below
beside it. Such a tag opens and closes nothing.
"""

from __future__ import annotations

import numpy as np

from dedup.hashing import FNV_BASIS, fnv1a
from dedup.kernel import kernel
from filters.text import is_letter, is_space
from filters.thinking.families import hash_table, look_up

BEFORE = """
    the a an and or with by in between inside within of to use uses using used tag tags token tokens closing opening
    open close before after until like called via emit emits write writes its each every no missing
"""
"""Words before a tag that show a mention, within a line."""
AFTER = "and or before after is are at to means"
"""Words after a tag that show a mention, unless the tag begins its line."""
NOUNS = "tag tags token tokens block blocks marker markers delimiter delimiters element elements pair opens closes"
"""Words after a tag that show a mention wherever the tag stands."""

# Flags of a tag or fence: a fence without an info string; a tag that is a mention; one by a noun after it; the first
# of its line.
BARE, MENTION, NOUN, LINE_START = 1, 2, 4, 8

_MAX_WORD_BYTES = 12  # longer than every word of the lists
_MAX_ITEM_BYTES = 6  # "  10. ", the longest head of a list item that is looked for
_IS_BEFORE, _IS_AFTER, _IS_NOUN = 1, 2, 4

_words = dict.fromkeys(f"{BEFORE} {AFTER} {NOUNS}".encode().split(), 0)
for _list, _bits in ((BEFORE, _IS_BEFORE), (AFTER, _IS_AFTER), (NOUNS, _IS_AFTER | _IS_NOUN)):
    for _word in _list.encode().split():
        _words[_word] |= _bits
_WORD_KEYS, _WORD_VALUES = hash_table(_words)


@kernel
def fold_step(state, byte):  # type: ignore[no-untyped-def]
    """The FNV-1a state after one more byte, with ASCII letters in lower case."""
    return fnv1a(state, byte | 32 if 65 <= byte <= 90 else byte)


@kernel
def _is_quote(byte: int) -> bool:
    return byte == 34 or byte == 39 or byte == 40 or byte == 41 or byte == 96  # " ' ( ) `


@kernel
def _is_item(data, begin, at):  # type: ignore[no-untyped-def]
    """Whether nothing but the mark of a list item (`- `, `2. `) stands on the line up to `at`."""
    stop = at - _MAX_ITEM_BYTES
    while at >= begin and at > stop and data[at] != 10:
        byte = data[at]
        if not (is_space(byte) or 48 <= byte <= 57 or byte in (40, 41, 42, 43, 45, 46)):  # digits and ( ) * + - .
            return False
        at -= 1
    return at < begin or data[at] == 10


@kernel
def _word_after(data, at, end):  # type: ignore[no-untyped-def]
    """Bits of the word that begins at `at`; -1 for a word of no list."""
    state, i = FNV_BASIS, at
    while i < end and is_letter(data[i]) and i - at < _MAX_WORD_BYTES:
        state = fold_step(state, data[i])
        i += 1
    return look_up(_WORD_KEYS, _WORD_VALUES, state) if i > at else -1


@kernel
def _word_before(data, begin, last):  # type: ignore[no-untyped-def]
    """Bits of the word whose last letter is at `last`; -1 for a word of no list."""
    i = last
    while i >= begin and is_letter(data[i]) and last - i < _MAX_WORD_BYTES:
        i -= 1
    state = FNV_BASIS
    for j in range(i + 1, last + 1):
        state = fold_step(state, data[j])
    return look_up(_WORD_KEYS, _WORD_VALUES, state) if i < last else -1


@kernel
def mention_flags(data, begin, start, stop, end):  # type: ignore[no-untyped-def]
    """MENTION, NOUN and LINE_START of the tag data[start:stop] in the text data[begin:end]."""
    flags = 0
    # `left` and `right`: the nearest bytes on either side that are not blanks.
    left = start - 1
    while left >= begin and (data[left] == 32 or data[left] == 9):
        left -= 1
    if left < begin or data[left] == 10:
        flags |= LINE_START
    right = stop
    while right < end and (data[right] == 32 or data[right] == 9):
        right += 1
    word = _word_after(data, right, end) if right > stop else -1
    if word >= 0 and word & _IS_NOUN:
        flags |= NOUN | MENTION
    # A table's cell between bars (unless the tag itself begins with one), or the head of a list item with a colon.
    cell = left >= begin and right < end and data[left] == 124 and data[right] == 124 and data[start] != 124
    if cell or (stop < end and data[stop] == 58 and _is_item(data, begin, left)):
        flags |= MENTION
    if flags & LINE_START:
        return flags
    if word >= 0 and word & _IS_AFTER:
        flags |= MENTION
    if left < start - 1:
        word = _word_before(data, begin, left)
        if word >= 0 and word & _IS_BEFORE:
            flags |= MENTION
    else:
        # No blank before the tag: quotes or brackets on both sides. Curly quotes are E2 80 98 to E2 80 9F in UTF-8.
        curly = left - 2 >= begin and data[left - 2] == 0xE2 and data[left - 1] == 0x80 and 0x98 <= data[left] <= 0x9F
        after = data[stop] if stop < end else np.uint8(46)
        if (_is_quote(data[left]) or curly) and (
            _is_quote(after) or is_space(after) or after in (44, 46, 58, 59, 0xE2)  # , . : ; and curly quotes
        ):
            flags |= MENTION
    return flags
