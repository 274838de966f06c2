"""What stands around a tag: the evidence that a text talks about it, as in "the <think> tag".

Structure decides first (`filters.thinking.cuts`): tags that pair around reasoning are a block whatever stands beside
them. This evidence counts where nothing pairs, and for a pair inside one sentence ("between <think> and </think>").
"""

from __future__ import annotations

import numpy as np

from dedup.hashing import FNV_BASIS, fnv1a
from dedup.kernel import borrowing_kernel
from filters.text import is_letter, is_space
from filters.thinking.families import hash_table, look_up

BEFORE = """
    the a an and or with by in between inside within of to at from into on for use uses using used tag tags token tokens
    closing opening open close before after until like called via emit emits write writes put puts wrap wraps its each
    every no missing contains say says add adds as is are
    der die das den dem ein eine und oder mit zwischen im von schreibt le la les un une et ou entre avec dans balise
    balises el los las una y con en etiqueta etiquetas
"""
"""Words before a tag that show a mention, within a line."""
AFTER = """
    and or before after is are at to means marks ends opens closes in as when for
    und oder ist sind et ou est sont y es son
"""
"""Words after a tag that show a mention, in lower case, unless the tag begins its line."""
NOUNS = (
    "tag tags token tokens block blocks marker markers delimiter delimiters element elements pair pairs opens closes"
)
"""Words after a tag that show a mention wherever the tag stands."""
ANSWERS = """
    the a an it its i we you he she they this that these there here so thus hence therefore yes no true false none null
    let final result sum step def class import print return var const function select option answer
"""
"""Words in lower case with which answers begin, so that they carry no sentence on."""
VERBS = """
    opens closes begins starts ends marks signals denotes indicates encloses wraps introduces terminates finishes
    separates delimits contains beginnt beendet ouvre ferme commence termine abre cierra
"""
"""Words of which a tag is the subject. A pair of tags before two of them is what a text explains."""

# Flags of a tag or fence.
BARE = 1  # a fence without an info string
QUOTED = 2  # in quotes or brackets of its own, alone in a cell of a table, or the head of a list item
NOUN = 4  # one of NOUNS follows
LINE_START, LINE_END = 8, 16  # the first, the last of its line
WORD_BEFORE, WORD_AFTER = 32, 64  # one of BEFORE, AFTER beside it
CONTINUES = 128  # what follows on the line continues a sentence: a lower-case letter, or a comma, full stop ...
QUOTE_LEFT, QUOTE_RIGHT = 256, 512  # a quotation mark directly before, behind
ATTACHED = 1024  # a letter or digit directly before
NAMED = 2048  # a letter directly before and an upper-case name: a type of a program (`Box<Thought>`)
BREAKS = 4096  # the sentence before the tag has ended
STOPS = 8192  # a comma, full stop, colon, semicolon or closing parenthesis directly behind
ITEM = 16384  # the first of a list item
VERB = 32768  # one of VERBS follows
INSIDE = 65536  # a sentence leads to it: a word or a comma before it on its line, and a blank
CARRIED = (
    131072  # a sentence carries on behind it: a blank, a lower-case word that is none of ANSWERS, and another word
)

_MAX_WORD_BYTES = 12  # longer than every word of the lists
_MAX_ITEM_BYTES = 6  # "  10. ", the longest head of a list item that is looked for
_IS_BEFORE, _IS_AFTER, _IS_NOUN, _IS_VERB, _IS_ANSWER = 1, 2, 4, 8, 16

_words = dict.fromkeys(f"{BEFORE} {AFTER} {NOUNS} {VERBS} {ANSWERS}".encode().split(), 0)
for _list, _bits in (
    (BEFORE, _IS_BEFORE),
    (AFTER, _IS_AFTER),
    (NOUNS, _IS_AFTER | _IS_NOUN),
    (VERBS, _IS_VERB),
    (ANSWERS, _IS_ANSWER),
):
    for _word in _list.encode().split():
        _words[_word] |= _bits
_WORD_KEYS, _WORD_VALUES = hash_table(_words)


@borrowing_kernel
def fold_step(state, byte):  # type: ignore[no-untyped-def]
    """The FNV-1a state after one more byte, with ASCII letters in lower case."""
    return fnv1a(state, byte | 32 if 65 <= byte <= 90 else byte)


@borrowing_kernel
def _is_curly(data, at, begin, end):  # type: ignore[no-untyped-def]
    """Whether the character that begins at `at` is a curly quote (E2 80 98 to 9F) or a guillemet (C2 AB, C2 BB)."""
    if at < begin or at + 1 >= end:
        return False
    if data[at] == 0xC2:
        return data[at + 1] in (0xAB, 0xBB)
    return data[at] == 0xE2 and at + 2 < end and data[at + 1] == 0x80 and 0x98 <= data[at + 2] <= 0x9F


@borrowing_kernel
def _is_item(data, begin, at):  # type: ignore[no-untyped-def]
    """Whether nothing but the mark of a list item (`- `, `2. `) stands on the line up to `at`."""
    stop = at - _MAX_ITEM_BYTES
    while at >= begin and at > stop and data[at] != 10:
        byte = data[at]
        if not (is_space(byte) or 48 <= byte <= 57 or byte in (40, 41, 42, 43, 45, 46)):  # digits and ( ) * + - .
            return False
        at -= 1
    return at < begin or data[at] == 10


@borrowing_kernel
def _begins_item(data, begin, start):  # type: ignore[no-untyped-def]
    """Whether the tag at `start`, which may be emphasised, is the first of a list item: `2. **<think>**`."""
    at = start - 1
    while at >= begin and data[at] == 42:
        at -= 1
    if at < begin or not (data[at] == 32 or data[at] == 9):
        return False
    while at >= begin and (data[at] == 32 or data[at] == 9):
        at -= 1
    if at - 2 >= begin and data[at] == 0xA2 and data[at - 1] == 0x80 and data[at - 2] == 0xE2:  # a bullet
        return True
    return at >= begin and data[at] in (41, 42, 43, 45, 46) and _is_item(data, begin, at)


@borrowing_kernel
def _word_after(data, at, end):  # type: ignore[no-untyped-def]
    """Bits of the lower-case word that begins at `at`; 0 for a word of no list."""
    state, i = FNV_BASIS, at
    while i < end and is_letter(data[i]) and i - at < _MAX_WORD_BYTES:
        state = fnv1a(state, data[i])
        i += 1
    return max(look_up(_WORD_KEYS, _WORD_VALUES, state), 0) if i > at else 0


@borrowing_kernel
def _word_before(data, begin, last):  # type: ignore[no-untyped-def]
    """Bits of the word whose last letter is at `last`; 0 for a word of no list."""
    i = last
    while i >= begin and is_letter(data[i]) and last - i < _MAX_WORD_BYTES:
        i -= 1
    state = FNV_BASIS
    for j in range(i + 1, last + 1):
        state = fold_step(state, data[j])
    return max(look_up(_WORD_KEYS, _WORD_VALUES, state), 0) if i < last else 0


@borrowing_kernel
def _continues(data, at, end):  # type: ignore[no-untyped-def]
    """Whether a lower-case letter, Latin or Cyrillic, is at `at`."""
    if at >= end:
        return False
    if 97 <= data[at] <= 122:
        return True
    return at + 1 < end and ((data[at] == 0xD0 and data[at + 1] >= 0xB0) or data[at] == 0xD1)


@borrowing_kernel
def _leads_in(data, begin, left):  # type: ignore[no-untyped-def]
    """Whether a word, a number, inline code, a parenthesis or a comma ends at `left`: no sentence ends there."""
    byte = data[left]
    if is_letter(byte) or 48 <= byte <= 57 or byte in (34, 39, 41, 44, 96):
        return True
    # The last byte of a letter beyond ASCII: Latin, Greek, Cyrillic (C3 to D3).
    return 0x80 <= byte <= 0xBF and left > begin and 0xC3 <= data[left - 1] <= 0xD3


@borrowing_kernel
def _carries_on(data, right, end):  # type: ignore[no-untyped-def]
    """Whether the word at `right` has two letters or more, and another word follows it."""
    at = right
    while at < end and (is_letter(data[at]) or data[at] >= 0x80):
        at += 1
    if at < end and at - right > 1 and data[at] == 44:
        at += 1
    if at + 1 >= end or at - right < 2 or data[at] != 32:
        return False
    after = data[at + 1]
    return is_letter(after) or after >= 0x80 or 48 <= after <= 57 or after in (34, 39, 40, 60, 91, 96)


@borrowing_kernel
def _is_aside(data, right, end):  # type: ignore[no-untyped-def]
    """Whether a parenthesis or a dash, and words in lower case, stand at `right`: `(no opener)`, `— not so`."""
    at = right + 1
    if right + 3 < end and data[right] == 0xE2 and data[right + 1] == 0x80 and data[right + 2] in (0x93, 0x94):
        at = right + 4
    elif data[right] != 40:
        return False
    return _continues(data, at, end) and _carries_on(data, at, end)


@borrowing_kernel
def mention_flags(data, begin, start, stop, end):  # type: ignore[no-untyped-def]
    """The flags of the tag data[start:stop] in the text data[begin:end]."""
    flags = 0
    # `left` and `right`: the nearest bytes on either side that are not blanks.
    left = start - 1
    while left >= begin and (data[left] == 32 or data[left] == 9):
        left -= 1
    right = stop
    while right < end and (data[right] == 32 or data[right] == 9 or data[right] == 13):
        right += 1
    if left < begin or data[left] == 10:
        flags |= LINE_START
    elif data[left] in (33, 46, 58, 63, 59) or data[left] >= 0x80:  # ! . : ? ; and signs beyond ASCII
        flags |= BREAKS
    if right >= end or data[right] == 10:
        flags |= LINE_END
    if stop < end and data[stop] in (44, 46, 58, 59, 41):
        flags |= STOPS | CONTINUES
    elif right > stop and _continues(data, right, end):
        flags |= CONTINUES
    if right > stop:
        word = _word_after(data, right, end)
        if word & _IS_NOUN:
            flags |= NOUN
        if word & _IS_VERB:
            flags |= VERB
        if word & _IS_AFTER and not flags & LINE_START:
            flags |= WORD_AFTER
        carried = not word & _IS_ANSWER and _continues(data, right, end) and _carries_on(data, right, end)
        if carried or (right < end and _is_aside(data, right, end)):
            flags |= CARRIED
    # A table's cell between bars (unless the tag itself begins with one), or the head of a list item.
    cell = left >= begin and right < end and data[left] == 124 and data[right] == 124 and data[start] != 124
    behind = stop
    while behind < end and data[behind] == 42:  # emphasis
        behind += 1
    head = behind < end and data[behind] == 58
    if not flags & LINE_START and _begins_item(data, begin, start):
        flags |= ITEM
    if right > stop and right + 1 < end:
        head = head or (data[right] == 45 and data[right + 1] == 32)
    if cell or (head and left >= begin and data[left] != 10 and _is_item(data, begin, left)):
        flags |= QUOTED
    if left < start - 1:
        if not flags & LINE_START and _word_before(data, begin, left) & _IS_BEFORE:
            flags |= WORD_BEFORE
        if not flags & LINE_START and _leads_in(data, begin, left):
            flags |= INSIDE
        return flags
    if left < begin:
        return flags
    # No blank before the tag.
    byte, after = data[left], data[stop] if stop < end else np.uint8(0)
    if is_letter(byte) or 48 <= byte <= 57:
        flags |= ATTACHED
        if 65 <= data[min(start + 1, end - 1)] <= 90 and not (
            data[start] == 60 and 65 <= data[min(start + 2, end - 1)] <= 90
        ):
            flags |= NAMED
    curly_left = _is_curly(data, left - 2, begin, end) or _is_curly(data, left - 1, begin, end)
    curly_right = _is_curly(data, stop, begin, end)
    if byte in (34, 39) or curly_left:
        flags |= QUOTE_LEFT
    pair = (byte == after and byte in (34, 39, 96)) or (byte == 40 and after == 41) or (byte == 91 and after == 93)
    # A pattern between slashes: `/<think>/`, `s/<think>.*//`, `s/.*<\\/think>//`.
    pattern = (byte == 47 and after in (47, 46, 91, 40, 92, 124)) or (after == 47 and byte in (42, 63, 41, 93))
    if pair or pattern or (curly_left and curly_right):
        flags |= QUOTED
    return flags


@borrowing_kernel
def quoted_behind(data, stop, end):  # type: ignore[no-untyped-def]
    """Whether a quotation mark stands directly behind a tag that ends at `stop`."""
    return stop < end and (data[stop] in (34, 39) or _is_curly(data, stop, stop, end))
