"""What a symbol means where it stands: ASCII characters whose meaning depends on their neighbours.

A mark of prose ends a token and is dropped; a mark of mathematics or code is a token. All rules are local:

| mark | is a token |
|---|---|
| `'` | after a variable of one letter (`f'(x)`, `A'B'`), after another prime, after the bracket of a call |
| `"` | after the bracket of a call or `=` |
| `!` | after a digit, a variable of one letter or `)` (factorial); before `=`, or before a word that it touches |
| `(` `[` | touching a word before it (call, index), after an operator, before a digit, an operator or `)`, `]`, `:` |
| `)` `]` | after a digit (not `1)` at the start of a line), before an operator, `!` of a sum, a prime, `(` |
| `{` | after `=` or the bracket of a call, and before a sum (`2^{n+1}`) |
| `:` | between digits, brackets or words of a slice, before `=`, next to another one |
| `?` | before `$ : * + = \\`, or a point and a name: a pattern or an optional member |
| `_` | between two words that it touches (`my_var`, `x_1`, `x_{1}`) |
| `#` `@` | touching a word (`C#`, `#x`, `a@b`) |
| `$` | before a name, where no second `$` makes a formula (`$HOME`) |
| `^ & < > * - ~` | always, but see `dedup.markup`; `<=`, `>=` and `!=` are one token |

`{`, `}` and the delimiters of formulas (`$`, `\\(`, `\\[`) are transparent: what they separate still touches.
"""

from __future__ import annotations

import numpy as np

from dedup.characters import SEPARATOR, SINGLE, TRANSPARENT
from dedup.hashing import FNV_BASIS, fnv1a
from dedup.kernel import borrowing_kernel
from dedup.latex import DROP_FIRST_LETTER, NO_TEXT

MAX_FORMULA_BYTES = 2000
"""A `$` opens a formula only if the second one stands within this many bytes, in the same paragraph."""
MAX_GROUP_BYTES = 60
"""Longer groups in braces are no exponents."""
MAX_COMMAND_BYTES = 20
"""Longer runs of letters after a backslash are no LaTeX command."""

_QUOTE, _PRIME, _NEWLINE, _BACKSLASH, _DOLLAR, _COMMA = 34, 39, 10, 92, 36, 44
_EMPTY = np.uint64(0)


@borrowing_kernel
def is_digit(byte):  # type: ignore[no-untyped-def]
    return byte >= 48 and byte <= 57


@borrowing_kernel
def is_ascii_letter(byte):  # type: ignore[no-untyped-def]
    return (byte | 32) >= 97 and (byte | 32) <= 122


@borrowing_kernel
def is_word_byte(byte):  # type: ignore[no-untyped-def]
    """An ASCII letter or digit, or a byte of any other character."""
    return is_ascii_letter(byte) or is_digit(byte) or byte >= 128


@borrowing_kernel
def is_space(byte):  # type: ignore[no-untyped-def]
    return byte == 32 or (byte >= 9 and byte <= 13)


@borrowing_kernel
def _is_operator(byte):  # type: ignore[no-untyped-def]
    """+ - / ^ = < >. `*` is left out, since it is also emphasis."""
    return byte == 43 or byte == 45 or byte == 47 or byte == 94 or byte == 61 or byte == 60 or byte == 62


@borrowing_kernel
def command_end(row, i, end):  # type: ignore[no-untyped-def]
    """Where the letters after the backslash at `i` end."""
    j = i + 1
    while j < end and is_ascii_letter(row[j]):
        j += 1
    return j


@borrowing_kernel
def look_up_hash(key, keys, values, missing):  # type: ignore[no-untyped-def]
    """The value of a hash uint64 in an open-addressing table (see `look_up`), else `missing`."""
    mask = np.uint64(len(keys) - 1)
    slot = key & mask
    while keys[slot] != _EMPTY:
        if keys[slot] == key:
            return values[slot]
        slot = (slot + np.uint64(1)) & mask
    return np.int32(missing)


@borrowing_kernel
def look_up(row, begin, stop, keys, values, missing):  # type: ignore[no-untyped-def]
    """The value of the name row[begin:stop] in an open-addressing table of FNV-1a hashes, else `missing`.

    Names are in lower case in the table and in any case in the text, since case is folded in all that is read.
    keys: uint64 [2 ** n], 0 for a free slot. values: int32 [2 ** n].
    """
    state = FNV_BASIS
    for j in range(begin, stop):
        byte = row[j]
        state = fnv1a(state, byte | 32 if byte >= 65 and byte <= 90 else byte)
    return look_up_hash(state, keys, values, missing)


@borrowing_kernel
def _skip_transparent(row, i, end, keys, values):  # type: ignore[no-untyped-def]
    """The first index from `i` on that is not space, a brace, a delimiter of a formula or a command without text."""
    while i < end:
        byte = row[i]
        if is_space(byte) or byte == 123 or byte == 125 or byte == _DOLLAR:
            i += 1
        elif byte == _BACKSLASH and i + 1 < end:
            after = row[i + 1]
            if after == 40 or after == 41 or after == 91 or after == 93 or after == 44 or after == 33:
                i += 2
            elif is_ascii_letter(after):
                stop = command_end(row, i, end)
                if stop - i > MAX_COMMAND_BYTES or look_up(row, i + 1, stop, keys, values, 0) != NO_TEXT:
                    return i
                i = stop
            else:
                return i
        else:
            return i
    return i


@borrowing_kernel
def formula_end(row, i, end):  # type: ignore[no-untyped-def]
    """The index of the `$` that closes the formula opened at `i`, or -1; and where the search for it ended.

    As in Pandoc: no space after the first `$`, none before the second, and no digit after it.
    """
    j = i + 1
    last = min(end, i + MAX_FORMULA_BYTES)
    if j >= end or is_space(row[j]):
        # Formulas with spaces inside both delimiters are common too: `$ x $`.
        k = j
        while k < last and row[k] == 32:
            k += 1
        while k < last and row[k] != _DOLLAR and row[k] != _NEWLINE:
            k += 1
        if k < last and row[k] == _DOLLAR and row[k - 1] == 32 and j < end and row[j] == 32:
            return k, k
        return -1, j
    while j < last:
        byte = row[j]
        if byte == _BACKSLASH:
            j += 2
            continue
        if byte == _NEWLINE and j + 1 < end and row[j + 1] == _NEWLINE:
            return -1, j
        if byte == _DOLLAR and not is_space(row[j - 1]) and j > i + 1 and not (j + 1 < end and is_digit(row[j + 1])):
            return j, j
        j += 1
    return -1, j


@borrowing_kernel
def thousands_end(row, stop, i, end):  # type: ignore[no-untyped-def]
    """For the first comma, at `i`, after digits that end at `stop`: whether it groups thousands (1,000,000), and where
    the list of digits and commas ends. In 89,71,92 the commas separate numbers."""
    begin = stop
    while begin > 0 and is_digit(row[begin - 1]):
        begin -= 1
    grouped = stop - begin <= 3 and not (begin > 0 and (row[begin - 1] == 46 or row[begin - 1] == _COMMA))
    j = i
    while j < end and row[j] == _COMMA and j + 1 < end and is_digit(row[j + 1]):
        k = j + 1
        while k < end and is_digit(row[k]):
            k += 1
        grouped = grouped and k - j == 4
        j = k
    return grouped and j > i, j


@borrowing_kernel
def groups_thousands(row, begin, width, end):  # type: ignore[no-untyped-def]
    """Whether LaTeX's `{,}` or `\\,` of `width` bytes at `begin` stands before exactly three digits and after one."""
    j = begin + width
    return (
        begin > 0
        and is_digit(row[begin - 1])
        and j + 2 < end
        and is_digit(row[j])
        and is_digit(row[j + 1])
        and is_digit(row[j + 2])
        and not (j + 3 < end and is_digit(row[j + 3]))
    )


@borrowing_kernel
def is_fraction(row, i, end):  # type: ignore[no-untyped-def]
    """Whether the command at `i` is \\frac, \\dfrac, \\tfrac or \\cfrac, in any case."""
    j = i + 1
    if j < end and row[j] | 32 != 102:  # f
        j += 1
    if j + 4 > end or (j + 4 < end and is_ascii_letter(row[j + 4])):
        return False
    return row[j] | 32 == 102 and row[j + 1] | 32 == 114 and row[j + 2] | 32 == 97 and row[j + 3] | 32 == 99


@borrowing_kernel
def is_degree(row, i, end):  # type: ignore[no-untyped-def]
    """Whether U+2218 (a small circle) or U+00B0 (the degree sign) is at `i`."""
    if i + 1 < end and row[i] == 0xC2:
        return row[i + 1] == 0xB0
    return i + 2 < end and row[i] == 0xE2 and row[i + 1] == 0x88 and row[i + 2] == 0x98


@borrowing_kernel
def _begins_line(row, i):  # type: ignore[no-untyped-def]
    """Whether only spaces stand between the start of the line and index `i`."""
    while i > 0 and (row[i - 1] == 32 or row[i - 1] == 9):
        i -= 1
    return i == 0 or row[i - 1] == _NEWLINE


@borrowing_kernel
def _ends_list_number(row, i):  # type: ignore[no-untyped-def]
    """Whether the `)` at `i` follows one to three digits that begin the line, as in `1) `."""
    j = i
    while j > 0 and i - j < 4 and is_digit(row[j - 1]):
        j -= 1
    return i - j > 0 and i - j < 4 and _begins_line(row, j)


@borrowing_kernel
def _holds_operator(row, i, end):  # type: ignore[no-untyped-def]
    """Whether the braces opened before `i` hold an operator: 2^{n+1} is not 2^n+1."""
    depth = 0
    for j in range(i, min(end, i + MAX_GROUP_BYTES)):
        byte = row[j]
        if byte == 125:
            if depth == 0:
                return False
            depth -= 1
        elif byte == 123:
            depth += 1
        elif byte == _NEWLINE and j + 1 < end and row[j + 1] == _NEWLINE:
            return False
        elif depth == 0 and j > i and ((_is_operator(byte) and byte != 94) or byte == 42):
            return True
    return False


@borrowing_kernel
def read_symbol(code, row, i, width, end, start, stop, anchor, after_prime, after_bracket, keys, values):  # type: ignore[no-untyped-def]
    """The kind of the symbol `code` of `width` bytes at index `i`, and the character that stands for it.

    start, stop: the bytes of the last token. anchor: where the transparent characters after it end. after_prime,
    after_bracket: the index after the last prime and the last opening bracket that were tokens. keys, values: the
    table of LaTeX commands. `$` and `\\` are read elsewhere.
    """
    touching = stop > 0 and (stop == i or anchor == i)
    last = np.int64(row[stop - 1]) if stop > 0 else np.int64(0)
    at = i + width
    after = np.int64(row[at]) if at < end else np.int64(0)
    before = np.int64(row[i - 1]) if i > 0 else np.int64(32)
    variable = touching and stop - start == 1 and is_ascii_letter(last)
    kind = SEPARATOR
    if code == _PRIME:
        # In "I'm" and "x's" an apostrophe and no prime; in A'B' a prime.
        second = np.int64(row[at + 1]) if at + 1 < end else np.int64(0)
        lower = after | 32
        contraction = lower == 115 or lower == 109 or lower == 100 or lower == 116  # s m d t
        apostrophe = is_ascii_letter(after) and (is_ascii_letter(second) or contraction)
        quoted = start > 0 and (row[start - 1] == _PRIME or row[start - 1] == _QUOTE)
        if (
            (touching and after_prime == stop)
            or (variable and not quoted and not apostrophe)
            or after_bracket == i
            or (last == 61 and touching)
        ):
            kind = SINGLE
            if after_bracket == i or last == 61:
                code = _QUOTE
    elif code == _QUOTE:
        if after_bracket == i or (last == 61 and touching):
            kind = SINGLE
    elif code == 33:  # !
        factorial = touching and (is_digit(last) or variable or last == 41 or last == 33)
        opens = is_space(before)
        for mark in b"([{&|,=!;":
            opens |= before == mark
        negation = opens and after < 128 and (is_word_byte(after) or after == 40 or after == 33)
        if factorial or after == 61 or negation:
            kind = SINGLE
    elif code == 40 or code == 91:  # ( [
        if (touching and (is_word_byte(last) or last == 41 or last == 93 or last == _PRIME)) or (
            stop > 0 and _is_operator(last)
        ):
            kind = SINGLE
        else:
            j = _skip_transparent(row, at, end, keys, values)
            inside = np.int64(row[j]) if j < end else np.int64(0)
            if is_digit(inside) or _is_operator(inside) or inside == 41 or inside == 93 or inside == 58:
                kind = SINGLE
    elif code == 41 or code == 93:  # ) ]
        # (n-1)! and (n - k)! are factorials, "(s, t)!" is not.
        sum_before = stop - start == 1 and (
            (start > 0 and _is_operator(row[start - 1]))
            or (start > 1 and is_space(row[start - 1]) and _is_operator(row[start - 2]))
        )
        if code == 41 and is_space(after) and touching and is_digit(last) and _ends_list_number(row, i):
            kind = SEPARATOR
        elif (
            (stop > 0 and is_digit(last))
            or (after == 33 and sum_before)
            or after == _PRIME
            or after == 91
            or after == 40
        ):
            kind = SINGLE
        else:
            j = _skip_transparent(row, at, end, keys, values)
            follows = np.int64(row[j]) if j < end else np.int64(0)
            # \right)\left( is )(
            if _is_operator(follows) or follows == 42 or (follows == 40 and after == _BACKSLASH):
                kind = SINGLE
    elif code == 123 or code == 125:  # { }
        assigned = before == 61 or (before == 32 and i > 1 and row[i - 2] == 61)
        sum_inside = code == 123 and _holds_operator(row, at, end)
        kind = SINGLE if code == 123 and (after_bracket == i or assigned or sum_inside) else TRANSPARENT
    elif code == 58:  # :
        left, right = is_digit(before) or before == 91, is_digit(after) or after == 93
        if (
            (left and right)
            or (before == 91 and is_word_byte(after))
            or (is_word_byte(before) and after == 93)
            or after == 61
            or (touching and (after == 58 or before == 58))
        ):
            kind = SINGLE
    elif code == 63:  # ? of a pattern: a?$, (?:a), a?.b
        pattern = after == 36 or after == 58 or after == 42 or after == 43 or after == 61 or after == 92
        if pattern or (after == 46 and at + 1 < end and is_ascii_letter(row[at + 1])):
            kind = SINGLE
    elif code == 95:  # _
        if touching and (is_word_byte(last) or last == 41) and (is_word_byte(after) or after == 123 or after == 92):
            kind = SINGLE
    elif code == 35 or code == 64:  # # @
        if (touching and stop == i and is_ascii_letter(last)) or (after < 128 and is_word_byte(after)):
            kind = SINGLE
    else:
        kind = SINGLE
    return kind, code


@borrowing_kernel
def read_backslash(row, i, end, keys, values):  # type: ignore[no-untyped-def]
    """What the backslash at `i` begins: its kind, the code point that stands for it (0 for none), and its bytes.

    A command without text is transparent, with the space after it. An unknown command ends before its name, which is
    then read as a word.
    """
    if i + 1 >= end:
        return SINGLE, _BACKSLASH, 1
    after = row[i + 1]
    if is_ascii_letter(after):
        stop = command_end(row, i, end)
        if stop - i <= MAX_COMMAND_BYTES:
            value = look_up(row, i + 1, stop, keys, values, -9)
            if value == NO_TEXT:
                return TRANSPARENT, 0, stop - i + (stop < end and row[stop] == 32)
            if value == DROP_FIRST_LETTER:
                return SEPARATOR, 0, 2
            if value > 0:
                return SINGLE, np.int64(value), stop - i
        return SEPARATOR, 0, 1
    if after == 40 or after == 41 or after == 91 or after == 93 or after == 33 or after == _DOLLAR:
        return TRANSPARENT, 0, 2  # \( \) \[ \] \! \$
    if after == 37 or after == 35 or after == 38 or after == 95 or after == 47:
        return TRANSPARENT, 0, 1  # \% \# \& \_ \/: the character itself
    if after == 124:
        return SINGLE, 124, 2
    if is_digit(after):
        return SINGLE, _BACKSLASH, 1
    if after >= 128:
        return SEPARATOR, 0, 1
    return SEPARATOR, 0, 2  # \\ \{ \} \, \; \: and others
