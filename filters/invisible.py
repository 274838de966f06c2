"""Invisible: characters that a reader does not see, and whether they are in their place.

The properties are those of the Unicode Character Database: Default_Ignorable_Code_Point and Bidi_Control
(PropList.txt, DerivedCoreProperties.txt), variation sequences (StandardizedVariants.txt, emoji-variation-sequences.txt)
and tag sequences (UTS 51, ED-14a). Whether a character is in its place is decided by its neighbours:

- a joiner or non-joiner: beside a letter of a script that joins (Arabic, Indic and the like); a joiner also between two
  emoji,
- a variation selector: behind one emoji, symbol, digit or ideograph,
- a tag character: within the flag of a region (black flag, three to six tags, cancel tag),
- a directional mark, embedding or isolate: in a text with letters that run from right to left,
- a soft hyphen: between letters, with at least two on each side,
- a Hangul filler: in the place of a missing jamo. U+3164 and U+FFA0 have none,
- a zero-width space: beside a letter of a script without spaces (Thai, Lao, Khmer, Myanmar, Han, kana).

Out of their place, some are stray remains of a page (a byte order mark, a zero-width space). Others are never an
accident, because they carry a text that only a program reads (tag characters, runs of variation selectors or of
zero-width characters), reorder what is seen (overrides), or feign a blank (fillers).
"""

from __future__ import annotations

import numpy as np

from dedup.kernel import borrowing_kernel
from dedup.utf8 import decode

MIN_ZERO_WIDTH_RUN = 8
"""Zero-width characters in a row that are taken for a text. Steganography needs eight or more for one byte."""

MIN_SELECTORS = 4
"""Variation selectors out of place, in one text, that are taken for a text: one stands for one byte."""

# Kinds of characters, as `kind_of` returns them. Kinds from ZERO_WIDTH on are invisible.
VISIBLE, ZERO_WIDTH, JOINER, SELECTOR, TAG, MARK, OVERRIDE, SOFT_HYPHEN, FILLER = range(9)


@borrowing_kernel
def kind_of(point):  # type: ignore[no-untyped-def]
    """The kind of an invisible character, or VISIBLE."""
    if point < 0x2000:
        if point == 0xAD:
            return SOFT_HYPHEN
        if point == 0x115F or point == 0x1160:
            return FILLER
        if point == 0x61C:
            return MARK
        if 0x180B <= point <= 0x180F and point != 0x180E:
            return SELECTOR
        return ZERO_WIDTH if point == 0x34F or point == 0x180E or point == 0x17B4 or point == 0x17B5 else VISIBLE
    if point < 0x2070:
        if point == 0x200C or point == 0x200D:
            return JOINER
        if point == 0x200B or 0x2060 <= point <= 0x2065 or point >= 0x206A:
            return ZERO_WIDTH
        if point == 0x202D or point == 0x202E:
            return OVERRIDE
        if 0x200E <= point <= 0x200F or 0x202A <= point <= 0x202C or 0x2066 <= point <= 0x2069:
            return MARK
        return VISIBLE
    if point < 0xFE00:
        return FILLER if point == 0x3164 else VISIBLE
    if point <= 0xFE0F or 0xE0100 <= point <= 0xE01EF:
        return SELECTOR
    if point == 0xFEFF or 0xFFF9 <= point <= 0xFFFB:
        return ZERO_WIDTH
    if point == 0xFFA0:
        return FILLER
    return TAG if 0xE0000 <= point < 0xE1000 else VISIBLE


@borrowing_kernel
def is_right_to_left(point):  # type: ignore[no-untyped-def]
    """Whether the character is of a script that runs from right to left (by block)."""
    return (
        (0x590 <= point <= 0x8FF and point != 0x61C)
        or 0xFB1D <= point <= 0xFDFF
        or 0xFE70 <= point <= 0xFEFC
        or 0x10800 <= point <= 0x10FFF
        or 0x1E800 <= point <= 0x1EFFF
    )  # fmt: skip


@borrowing_kernel
def _joins(point):  # type: ignore[no-untyped-def]
    """Whether the character is of a script whose letters take other shapes beside each other (by block)."""
    return (
        0x600 <= point <= 0x8FF
        or 0x900 <= point <= 0xDFF
        or 0xF00 <= point <= 0x109F
        or 0x1700 <= point <= 0x18AF
        or 0x1900 <= point <= 0x1CFF
        or 0xA800 <= point <= 0xABFF
        or 0xFB50 <= point <= 0xFDFF
        or 0xFE70 <= point <= 0xFEFC
        or 0x10A00 <= point <= 0x11FFF
        or 0x1E800 <= point <= 0x1EFFF
    )


@borrowing_kernel
def _has_no_spaces(point):  # type: ignore[no-untyped-def]
    """Whether the character is of a script without spaces between words (by block)."""
    return (
        0xE00 <= point <= 0xEFF
        or 0xF00 <= point <= 0x109F
        or 0x1780 <= point <= 0x17FF
        or 0x1900 <= point <= 0x1AAF
        or 0x3000 <= point <= 0x30FF
        or 0x3400 <= point <= 0x9FFF
        or 0xAC00 <= point <= 0xD7A3
    )


@borrowing_kernel
def _is_han(point):  # type: ignore[no-untyped-def]
    return 0x3400 <= point <= 0x9FFF or 0xF900 <= point <= 0xFAFF or 0x20000 <= point <= 0x3FFFF


@borrowing_kernel
def _is_pictograph(point):  # type: ignore[no-untyped-def]
    """Whether the character may be part of an emoji (by block: symbols, arrows, signs, modifiers)."""
    return (
        point == 0xA9
        or point == 0xAE
        or 0x2010 <= point <= 0x2049
        or 0x2100 <= point <= 0x2BFF
        or 0x20D0 <= point <= 0x20FF
        or 0x3030 <= point <= 0x303D
        or 0x3297 <= point <= 0x3299
        or 0x1F000 <= point <= 0x1FBFF
    ) and not (0x2028 <= point <= 0x202F)


@borrowing_kernel
def _takes_selector(point, selector):  # type: ignore[no-untyped-def]
    """Whether a variation selector may stand behind the character."""
    if 0x180B <= selector <= 0x180F:
        return 0x1800 <= point <= 0x18AF
    if selector >= 0xE0100:
        return _is_han(point)
    return (
        _is_pictograph(point)
        or 48 <= point <= 57
        or point == 35
        or point == 42
        or _is_han(point)
        or (0x2000 < point < 0x3100 and kind_of(point) == VISIBLE)
        or 0x1000 <= point <= 0x109F
        or 0xA840 <= point <= 0xA87F
        or 0x1D400 <= point <= 0x1D7FF
        or 0x10A00 <= point <= 0x11FFF
        or 0xFF00 <= point <= 0xFF65
    )


@borrowing_kernel
def _is_letter_before(point):  # type: ignore[no-untyped-def]
    """Whether a soft hyphen may stand behind the character: letters, by block."""
    return 65 <= point <= 90 or 97 <= point <= 122 or 0xC0 <= point <= 0x1FFF


@borrowing_kernel
def flag_length(data, at, end):  # type: ignore[no-untyped-def]
    """Bytes of the tags behind a black flag, if they name a region: three to six tags, cancel tag. Else 0."""
    start, tags = at, 0
    while at < end and data[at] == 0xF3:  # the first byte of every tag character
        point, width = decode(data, at)
        at += width
        if point == 0xE007F:
            return at - start if 3 <= tags <= 6 else 0
        if not (0xE0030 <= point <= 0xE0039 or 0xE0061 <= point <= 0xE007A):
            return 0
        tags += 1
    return 0


@borrowing_kernel
def is_in_place(point, kind, before, after):  # type: ignore[no-untyped-def]
    """Whether an invisible character may stand between two others. 0 stands for the end of the text.

    Marks and overrides depend on the whole text, and tags on what precedes them: they are not decided here.
    """
    if kind == JOINER:
        if _joins(before) or _joins(after):
            return True
        emoji_before = _is_pictograph(before) or before == 0xFE0F or before == 0xE007F
        return point == 0x200D and emoji_before and _is_pictograph(after)
    if kind == SELECTOR:
        return _takes_selector(before, point)
    if kind == SOFT_HYPHEN:
        return _is_letter_before(before) and _is_letter_before(after)
    if kind == FILLER:
        if point == 0x115F:  # a syllable without a leading consonant
            return 0x1160 <= after <= 0x11A7
        return point == 0x1160 and (0x1100 <= before <= 0x115F)
    if kind == ZERO_WIDTH:
        if point == 0x34F:  # combining grapheme joiner: between marks
            return before >= 0x300 and kind_of(before) == VISIBLE
        if point == 0x17B4 or point == 0x17B5:
            return 0x1780 <= before <= 0x17FF
        if point == 0x180E:
            return 0x1800 <= before <= 0x18AF
        if point == 0x200B or point == 0x2060:
            return _has_no_spaces(before) or _has_no_spaces(after)
    return False


@borrowing_kernel
def count_invisible(data, at, end):  # type: ignore[no-untyped-def]
    """Invisible characters out of place in data[at:end]: stray ones, and those that are never an accident."""
    stray, hidden, marks, overrides, selectors = 0, 0, 0, 0, 0
    right_to_left = False
    before, run, since_hyphen = np.int32(0), 0, 0
    while at < end:
        if data[at] < 0x80:
            before = np.int32(data[at])
            run, at, since_hyphen = 0, at + 1, since_hyphen + 1
            continue
        point, width = decode(data, at)
        at += width
        kind = kind_of(point)
        if kind == VISIBLE:
            right_to_left |= is_right_to_left(point)
            if point == 0x1F3F4:
                length = flag_length(data, at, end)
                if length > 0:
                    at, point = at + length, np.int32(0xE007F)
            before, run, since_hyphen = point, 0, since_hyphen + 1
            continue
        run = 0 if kind in (SELECTOR, TAG, FILLER) else run + 1
        after = decode(data, at)[0] if at < end else np.int32(0)
        if kind == MARK:
            marks += 1
        elif kind == OVERRIDE:
            overrides += 1
        elif kind == TAG:
            hidden += 1
        elif not is_in_place(point, kind, before, after) or (kind == SOFT_HYPHEN and since_hyphen < 2):
            if kind == FILLER:
                hidden += 1
            elif kind == SELECTOR:
                selectors += 1
            else:
                stray += 1
        if kind == SOFT_HYPHEN:
            since_hyphen = 0
        if run == MIN_ZERO_WIDTH_RUN:
            hidden += run
        elif run > MIN_ZERO_WIDTH_RUN:
            hidden += 1
        before = point
    if not right_to_left:
        stray += marks
        hidden += overrides
    if selectors >= MIN_SELECTORS:
        hidden += selectors
    else:
        stray += selectors
    return stray, hidden
