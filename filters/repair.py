"""Repair: undo what a wrong conversion did to a text, where that is certain.

Four kinds of damage are mended:

- mojibake: UTF-8 that was read in a one-byte encoding (U+00E2 U+20AC U+2122 for a curly apostrophe), also twice over,
- characters U+0080 to U+009F: Windows-1252 that was read as Latin-1 (U+0096 for an en dash),
- TeX commands whose backslash was read as an escape (form feed and `rac` for `\\frac`),
- a byte order mark in front of a text.

ftfy decodes the first two. Its heuristic looks for sequences of characters that no language writes. Everything else
that ftfy can do is off: quotes, ligatures, widths, entities, line ends and normal forms stay as they are. It reads only
texts in which a kernel finds a suspect pair of characters. Texts about encodings are left alone.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from dedup.columns import as_array
from dedup.kernel import borrowing_kernel, buffers, kernel
from dedup.utf8 import decode
from filters.stage import Transform, with_texts
from filters.text import On, fields, next_unusual

if TYPE_CHECKING:
    import ftfy  # takes 75 ms to load, which commands that only read a recipe do not need

ABOUT_ENCODINGS = [
    "mojibake", "utf-8", "utf8", "utf_8", "latin-1", "latin1", "iso-8859", "iso8859", "windows-125", "cp125",
    "encoding", "charset", "character set", "unicode", "garbled",
]  # fmt: skip
"""A text that names encodings may show mojibake on purpose."""

_TOKEN = re.compile(r"[^\x00-\x7F][^ \t\r\n]*")
"""What ftfy reads at a time: from a little before a character outside ASCII to the next space. It decodes a text as a
whole or not at all, so a token is independent of damage elsewhere."""
_BEFORE = 2  # characters before it that are read too

# A closing quote whose third byte Windows-1252 does not have, so that it was left out.
_LOST_QUOTE = re.compile(r"â€(?<=\Sâ€)(?=[\s.,;:!?)]|\Z)")

# TeX commands by the control character that their first two characters were read as.
_ESCAPED_COMMANDS = {
    "\x07": "alpha angle approx arccos arcsin arctan ast",
    "\x08": "bar begin beta big bigcup bigl binom bmod boldsymbol bot boxed bullet",
    "\x0b": "varepsilon varnothing varphi vdots vec vee vert",
    "\x0c": "flat forall frac",
    "\t": "tfrac theta tilde times triangle",
}
_LETTERS = {control: commands[0] for control, commands in _ESCAPED_COMMANDS.items()}
_ESCAPED = re.compile(
    "|".join(
        f"{control}(?=(?:{'|'.join(command[1:] for command in commands.split())})(?![a-z]))"
        for control, commands in _ESCAPED_COMMANDS.items()
    )
)
_TABBED = [f"\t{command[1:]}" for command in _ESCAPED_COMMANDS["\t"].split()]


class Repair(Transform):
    """Undo wrong conversions of characters. Put it first, so that all other stages see the text as it was meant.

    on: the fields that are repaired.
    """

    kind: Literal["repair"] = "repair"
    on: On = "both"

    def rewrite(self, records: pa.Table) -> pa.Table:
        """Rewrite `instruction` and `response`, and `digest` where there is one."""
        changed: dict[str, tuple[npt.NDArray[np.int64], list[str]]] = {}
        for field in fields(self.on):
            texts = as_array(records[field])
            rows = not_about_encodings(records, suspects(texts))
            changed[field] = rows, [repair(text) for text in texts.take(pa.array(rows)).to_pylist()]
        return with_texts(records, changed)


def repair(text: str) -> str:
    """The text without the damage that this module describes."""
    text = text.lstrip("\ufeff")
    if any(control in text for control in _ESCAPED_COMMANDS):
        text = _ESCAPED.sub(lambda match: "\\" + _LETTERS[match[0]], text)
    decoded = _decoded(text)
    quoted = _LOST_QUOTE.sub("”", decoded)
    # A quote that was restored may complete what was not decoded before.
    return quoted if quoted == decoded else _decoded(quoted)


def _decoded(text: str) -> str:
    return "".join(_decode(token) for token in _tokens(text))


def _tokens(text: str) -> Iterator[str]:
    """Pieces of `text`: those that ftfy reads, and the ASCII between them."""
    at = 0
    for match in _TOKEN.finditer(text):
        start = max(at, match.start() - _BEFORE)
        yield text[at:start]
        yield text[start : match.end()]
        at = match.end()
    yield text[at:]


@functools.lru_cache(maxsize=1 << 16)
def _decode(token: str) -> str:
    """The token without mojibake. Words recur, so results are kept."""
    if token.isascii():
        return token
    decode_with, decoding, decoding_spaces = _ftfy()
    decoded = decode_with(token, decoding)
    return token if decoded == token else decode_with(token, decoding_spaces)


@functools.cache
def _ftfy() -> tuple[Callable[[str, ftfy.TextFixerConfig], str], ftfy.TextFixerConfig, ftfy.TextFixerConfig]:
    """ftfy's function, its settings, and those that restore non-breaking spaces too: on its own that would change
    "Ã is a letter"."""
    import ftfy

    decoding = ftfy.TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        restore_byte_a0=False,
        replace_lossy_sequences=False,  # it writes U+FFFD
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
    return ftfy.fix_encoding, decoding, decoding._replace(restore_byte_a0=True)


def mojibake_chars(records: pa.Table, texts: pa.StringArray, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many characters of mojibake each text holds, int64 [rows of `texts`]; looked for in `rows` only.

    Counted are the characters by which the decoded tokens are shorter, at least one for each that changes. records:
    the table of `texts`, in which texts about encodings are not counted.
    """
    result = np.zeros(len(texts), np.int64)
    rows = not_about_encodings(records, rows)
    for row, text in zip(rows, texts.take(pa.array(rows)).to_pylist(), strict=True):
        for token in _tokens(text):
            decoded = _decode(token)
            if decoded != token:
                result[row] += max(len(token) - len(decoded), 1)
        result[row] += len(_LOST_QUOTE.findall(text))
    return result


def not_about_encodings(records: pa.Table, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those of `rows` in which neither field is about encodings. An instruction of one word says too little."""
    if not len(rows):
        return rows
    about = np.zeros(len(rows), np.bool_)
    for field in fields("both"):
        texts = pl.Series(as_array(records[field]).take(pa.array(rows)), dtype=pl.String)
        named = texts.str.contains_any(ABOUT_ENCODINGS, ascii_case_insensitive=True)
        about |= (named & texts.str.contains(r"\S\s+\S")).to_numpy()
    return rows[~about]


def suspects(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """The rows [n] whose text may be damaged, ascending."""
    tabbed = pl.Series(texts).str.contains_any(_TABBED).to_numpy()
    return np.flatnonzero(_suspects(*buffers(texts)) | tabbed)


@kernel
def _suspects(data, offsets):  # type: ignore[no-untyped-def]
    """Which texts hold a suspect pair, a control character, or a byte order mark in front: bool [rows]."""
    rows = len(offsets) - 1
    result = np.zeros(rows, np.bool_)
    for row in range(rows):
        at, end = offsets[row], offsets[row + 1]
        before, before_end = np.int32(0), np.int64(-1)
        while True:
            at = next_unusual(data, at, end)
            if at == end:
                break
            point, width = decode(data, at)
            if (
                point < 0xA0
                or (point == 0xFEFF and at == offsets[row])
                or (at == before_end and is_suspect_pair(before, point))
            ):
                result[row] = True
                break
            at += width
            before, before_end = point, at
    return result


@borrowing_kernel
def is_suspect_pair(first, second):  # type: ignore[no-untyped-def]
    """Whether two characters in a row may be the first bytes of a UTF-8 sequence that was read in another encoding.

    Most text has few such pairs. They are a hint: ftfy decides.
    """
    symbol = 0x80 <= second <= 0xBF or 0x2013 <= second <= 0x203A or second == 0x20AC or second == 0x2122
    if 0xC2 <= first <= 0xF4 or first == 0x102 or first == 0x139:  # Latin-1, Windows-1252, -1250, -1254
        return symbol or 0x102 <= second <= 0x192 or second == 0x2C6 or second == 0x2DC
    if first == 0x420 or first == 0x421:  # Windows-1251, in which most Cyrillic letters begin with these two
        return 0x401 <= second <= 0x40F or 0x450 <= second <= 0x491 or 0xA0 <= second <= 0xBF or second == 0x2116
    if first == 0x432:
        return second == 0x402
    if first == 0x201A or first == 0x393:  # quotes and dashes read as Mac Roman or code page 437
        return second == 0xC4 or second == 0xC7
    return (first == 0x221A or first == 0x251C) and (0xA0 <= second <= 0xFF or 0x2202 <= second <= 0x2265)
