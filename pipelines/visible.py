"""Which characters of a text are shown as escapes, so that what a reader sees is what the text holds?

Two kinds are. Controls steer a terminal (C0, DEL, C1), break a line for some readers only (U+2028, U+2029), reorder
what follows (embeddings, overrides and isolates of Unicode's bidirectional algorithm) or cannot be encoded
(surrogates): they are always shown. Characters that nobody sees hide a text within another or make two names look
equal: zero-width characters, tag characters, variation selectors, fillers, directional marks, soft hyphens. They are
shown where they are out of place only, for ordinary Arabic, Hindi, Thai and emoji need them: the rules are those of
`filters.invisible`, by the categories of Unicode's database.
"""

from __future__ import annotations

import re
import unicodedata

_CONTROLS = (
    r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb\ufffe\uffff]"
)
_UNSEEN = (
    r"[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u2065\u206a-\u206f\u3164\ufe00-\ufe0f"
    r"\ufeff\uffa0\ufff0-\ufff8\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_FLAG = r"\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"
"""The flag of a region: a black flag, tag characters, cancel tag."""

_SHOWN = re.compile(f"{_FLAG}|{_CONTROLS}|{_UNSEEN}")
_ESCAPED_IN_JSON = re.compile(f"{_CONTROLS}|{_UNSEEN}")
_STEERING = re.compile(_CONTROLS)
_RIGHT_TO_LEFT = re.compile(
    r"[\u0590-\u061b\u061d-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]"
)


def visible(text: str) -> str:
    r"""Text with controls and unseen characters out of their place as escapes (`\x1b`, `\u202e`, `\U000e0041`).

    It can neither steer a terminal, nor reorder a line, nor hide a text. Line breaks and tabs stay.
    """
    return text if text.isascii() and text.isprintable() else _SHOWN.sub(_shown, text)


def visible_json(text: str) -> str:
    """JSON with the same value, in which all these characters are escaped as JSON escapes them."""
    return text if text.isascii() and "\x7f" not in text else _ESCAPED_IN_JSON.sub(_json_escape, text)


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _shown(match: re.Match[str]) -> str:
    character = match[0]
    if len(character) > 1:  # a flag
        return character
    if not _STEERING.match(character) and _in_place(character, match.string, match.start()):
        return character
    return character.encode("unicode_escape").decode()


def _in_place(character: str, text: str, at: int) -> bool:
    """Whether a character that nobody sees is needed where it stands."""
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    match character:
        case "\u200c" | "\u200d":
            joins = _is_letter_from(before, 0x590) or _is_letter_from(after, 0x590)
            return joins or (character == "\u200d" and _is_symbol(before) and _is_symbol(after))
        case "\u061c" | "\u200e" | "\u200f":
            return bool(_RIGHT_TO_LEFT.search(text))
        case "\xad":
            return before.isalpha() and after.isalpha()
        case "\u200b" | "\u2060":
            return _is_letter_from(before, 0xE00) or _is_letter_from(after, 0xE00)
        case "\u034f":
            return unicodedata.combining(before or " ") > 0
        case "\u115f" | "\u1160":
            return "\u1100" <= before <= "\u11ff" or "\u1100" <= after <= "\u11ff"
        case "\u17b4" | "\u17b5":
            return "\u1780" <= before <= "\u17ff"
    if "\u180b" <= character <= "\u180f":
        return "\u1800" <= before <= "\u18af"
    if "\ufe00" <= character <= "\ufe0f":
        emoji = _is_symbol(before) and before != "\ufe0f"
        return emoji or before in [*"#*0123456789"] or _is_letter_from(before, 0x1000)
    if "\U000e0100" <= character <= "\U000e01ef":
        return _is_letter_from(before, 0x3400)
    return False


def _is_letter_from(character: str, first: int) -> bool:
    """Whether it is a letter or a mark of a script whose block begins at `first` or after it."""
    seen = character != "" and ord(character) >= first and unicodedata.category(character)[0] in "LM"
    return seen and not re.match(_UNSEEN, character)


def _is_symbol(character: str) -> bool:
    """Whether it is, or ends, an emoji."""
    if character in ("\ufe0f", "\U000e007f", "\u20e3"):
        return True
    return character != "" and character > "\x7f" and unicodedata.category(character)[0] in "SP"
