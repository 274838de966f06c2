"""Where the sides of an equation begin and end, and what beside them may belong to them."""

from __future__ import annotations

from filters.scores.equations.tokens import (
    OPERAND_END,
    OPERAND_START,
    OPERATORS,
    SHORT_UNITS,
    SIZED,
    SKIPPED,
    WORK,
    Token,
    Unreadable,
    word_set,
)

MAX_TOKENS = 60
"""Tokens of one side."""
_DOUBTFUL_BEFORE = word_set(
    "of per by than times twice thrice double triple half square root cube from over sin cos tan log ln lim gcd "
    "lcm max min mod plus minus divided multiplied subtract add multiply divide difference sum product ratio "
    "average negative first next last every each another a an base"
)
"""Words before a side that may belong to it: `half of 80 + 5 = 45`."""
_SHORT_WORDS = word_set("is so be as at if or do it we by to an")
_NO_UNITS = word_set(
    "of and or so is are was then if which because than less more fewer would cost already up when where we have "
    "has had get gives since thus but with before after appear for in at on to as this that it he she they i you"
)
_LABELS = word_set(
    "week weeks day days step steps page pages chapter chapters question problem part year years grade grades "
    "month months number numbers equation lesson section case room row group team level hour hours exercise "
    "figure table item flight gate route highway platform verse theorem version channel"
)
_DOUBTFUL_AFTER = word_set(
    "remainder r R rem mod modulo million thousand hundred billion dozen k factorial squared cubed to over"
)


def is_result(text: str, tokens: list[Token], first: int, annotation: bool) -> bool:
    """Whether the number tokens[first] is the result of a calculation before it: the 4 of `2 + 2 = 4 = 5`."""
    if not first or tokens[first - 1].kind != "equals":
        return False
    try:
        start = left_start(text, tokens, first - 1, annotation)
    except Unreadable:
        return False
    return any(token.kind in WORK for token in tokens[start : first - 1])


def left_start(text: str, tokens: list[Token], at: int, annotation: bool) -> int:
    """Where the side before the equals sign tokens[at] begins. Raises: Unreadable: if it has unknowns."""
    i = at
    depth = 0
    operand = True  # whether an operand, or the end of one, is expected before tokens[i]
    while i > 0:
        kind = tokens[i - 1].kind
        if kind in ("word", "unit") and operand:
            j = i - 1
            while j > 0 and i - j < 4 and _in_unit(tokens[j - 1], tokens[j]):
                j -= 1
            if j == 0 or tokens[j - 1].kind not in OPERAND_END or not _is_unit(tokens[j:i]):
                raise Unreadable
            _check_unit(tokens, j)
            i, operand = j, True
        elif kind in ("close", "unbrace"):
            depth += 1
            i, operand = i - 1, True
        elif kind in ("open", "brace"):
            if depth == 0:
                break
            depth -= 1
            i, operand = i - 1, False
        elif kind in OPERAND_START:
            i, operand = i - 1, False
        elif kind in ("percent", "bang", "square", "cube"):
            i, operand = i - 1, True
        elif kind in OPERATORS:
            signed = tokens[i].kind == "minus" and kind in ("times", "star", "over")  # -3 * -4
            if operand and kind not in ("minus", "plus") and not signed:
                raise Unreadable
            i, operand = i - 1, True
        elif depth:
            raise Unreadable
        else:
            break
        if at - i > MAX_TOKENS:
            raise Unreadable
    if i < at and tokens[i].kind in OPERATORS:
        i = _after_sign(text, tokens, i)
    if i >= at or depth or (annotation and i):
        raise Unreadable
    side = tokens[i:at]
    works = any(token.kind in WORK for token in side)
    if not works and any(token.kind in ("word", "unit") for token in side):
        raise Unreadable  # `5 friends = 250 / 5`
    if (i and _belongs_before(text, tokens, i, works)) or (
        not i and SIZED.sub("", text[: tokens[0].start]).strip(SKIPPED)
    ):
        raise Unreadable
    return i


def _after_sign(text: str, tokens: list[Token], i: int) -> int:
    """Where a side that begins with the operator tokens[i] begins: there if it is a sign, after it if it is a bullet.

    Raises: Unreadable: if something unknown is before it.
    """
    kind, end = tokens[i].kind, tokens[i].end
    before = tokens[i - 1] if i else None
    starts = before is None or before.kind == "line"
    if kind == "star" and (before is None or before.kind != "word"):
        return i + 1
    if kind == "minus" and starts and text[end : end + 1].isspace():
        return i + 1
    if kind != "minus" or tokens[i + 1].kind not in OPERAND_START:
        raise Unreadable
    if before is not None:
        touching = before.end == tokens[i].start
        if before.kind in ("word", "command", "unit") and text[end] == " ":
            raise Unreadable
        if touching and before.kind not in ("line", "other", "equals", "open"):
            raise Unreadable
    return i


def _belongs_before(text: str, tokens: list[Token], i: int, works: bool) -> bool:
    """Whether what is before the side that begins with tokens[i] may belong to it. works: whether it has operators."""
    before, earlier = tokens[i - 1], tokens[i - 2] if i > 1 else None
    touching = before.end == tokens[i].start
    joined = earlier is not None and earlier.end == before.start
    kind = earlier.kind if earlier is not None else ""
    if before.kind == "word":
        word = before.text.lower()
        return (
            touching
            or (tokens[i].kind == "sqrt" and (before.text.isupper() or (len(word) == 2 and word not in _SHORT_WORDS)))
            or word in _DOUBTFUL_BEFORE
            or word in _LABELS
            or (len(word) == 1 and before.text not in "aI")
            or (word == "and" and kind == "number")
            or kind in ("plus", "times")  # 25 + his 1 + 1
            or not works  # the last word of a name: `Week 2 = 35 + 35`
        )
    if before.kind in ("open", "brace"):
        if earlier is None:
            return touching and bool(text[: before.start].strip(SKIPPED))
        return touching and joined and kind in ("word", "command", "other", "power", "number")
    if before.kind == "line":
        return kind in OPERATORS or kind in ("unbrace", "command")
    if before.kind == "other":
        if before.text in "_|[]<>#@≤≥≠±∓≡→…∠№" or (before.text.isalpha() and touching):
            return True
        if before.text in "'’′" and touching and joined and kind in ("word", "other"):
            return True  # a derivative: f'(2)
        if before.text == "." and earlier is not None and earlier.text.lower() in ("no", "nos", "fig", "eq", "ch"):
            return True
        if before.text in ".,:" and touching and joined and kind in ("number", "word"):
            return True
        if before.text in ".," and earlier is not None and earlier.text in (".", ","):
            return True
        if before.text == "," and kind == "number" and len(tokens[i].text) == 3:
            return True  # 14, 400
        return before.text == "." and text[before.start - 1 : before.start].isspace()
    return before.kind in ("command", "unit")


def right_end(text: str, tokens: list[Token], at: int) -> int:
    """Where the side after the equals sign tokens[at] ends. Raises: Unreadable: if it has unknowns."""
    i, n = at + 1, len(tokens)
    depth = 0
    operand = True
    while i < n:
        kind = tokens[i].kind
        following = tokens[i + 1] if i + 1 < n else None
        if kind in ("number", "glyph"):
            if not operand and kind == tokens[i - 1].kind == "number" and not _is_mixed(tokens, i):
                break
            i, operand = i + 1, False
        elif kind in OPERAND_START:
            if kind == "open" and not operand and depth == 0 and following is not None and following.kind == "word":
                if len(following.text) < 3 or following.text.isupper():
                    raise Unreadable
                break  # a remark in brackets
            if kind == "boxed" and not operand:
                raise Unreadable
            depth += kind in ("open", "brace")
            i, operand = i + 1, True
        elif kind in ("close", "unbrace"):
            if depth == 0:
                break
            depth -= 1
            i, operand = i + 1, False
        elif kind in ("percent", "square", "cube") and not operand:
            i += 1
        elif kind == "bang" and not operand:
            if depth == 0 and (following is None or following.kind in ("line", "word")):
                break  # an exclamation mark
            i += 1
        elif kind in OPERATORS:
            if operand and kind not in ("minus", "plus"):
                raise Unreadable
            if kind == "times" and tokens[i].text == "times" and tokens[i - 1].end < tokens[i].start - 1:
                raise Unreadable
            j = i + 1
            while j < n and tokens[j].kind in ("minus", "plus"):
                j += 1
            if j < n and tokens[j].kind in OPERAND_START:
                i, operand = j, True
            elif not operand and depth == 0 and _ends_at_operator(kind, tokens[j] if j < n else None):
                break
            else:
                raise Unreadable
        elif kind in ("word", "unit") and not operand:
            j = i
            while j < n and j - i < 3 and (j == i or _in_unit(tokens[j - 1], tokens[j])):
                j += 1
            _check_unit(tokens, i)
            follows = j + 1 < n and tokens[j].kind in OPERATORS and tokens[j + 1].kind in OPERAND_START
            inside = depth > 0 and j < n and tokens[j].kind in ("close", "unbrace")
            ends = j < n and tokens[j].kind == "equals"
            if not (follows or inside or ends) or not _is_unit(tokens[i:j]):
                if tokens[i].text == "and" and following is not None and following.kind in ("number", "frac"):
                    raise Unreadable  # 5 and 2/3
                if tokens[i].text in _DOUBTFUL_AFTER or depth:
                    raise Unreadable
                break
            i = j
        else:
            break
        if i - at > MAX_TOKENS:
            raise Unreadable
    if operand or depth:
        raise Unreadable
    if (i < n and _belongs_after(text, tokens, i)) or (i == n and text[tokens[-1].end :].strip(SKIPPED)):
        raise Unreadable
    return i


def _in_unit(token: Token, following: Token) -> bool:
    """Whether two tokens can be neighbours in a unit: `minutes per hour`, `minutes/hour`."""
    words = ("word", "unit")
    return (
        (token.kind in words or token.kind == "over")
        and (following.kind in words or following.kind == "over")
        and (token.kind != "over" or following.kind == "word")
    )


def _ends_at_operator(kind: str, following: Token | None) -> bool:
    """Whether a side ends before an operator without an operand: a dash, the end of bold text, or `/hour`."""
    if kind == "over":
        return following is not None and following.kind in ("word", "unit") and len(following.text) > 1
    if kind not in ("star", "minus", "power"):
        return False
    if following is None or (following.kind in ("line", "star") and kind != "minus"):
        return True
    return following.kind == "other" and following.text not in "([|"


_ENDS = frozenset({"\\end", "\\implies", "\\Rightarrow", "\\rightarrow", "\\blacksquare"})
"""LaTeX commands that may follow a side."""


def _belongs_after(text: str, tokens: list[Token], i: int) -> bool:
    """Whether tokens[i], after a side, may be a part of it."""
    after = tokens[i]
    if after.kind == "command":
        return after.text not in _ENDS
    if after.kind == "other":
        beyond = text[after.end : after.end + 2]
        if after.text in "_|[≤≥≠±∓≡…<>" or (after.text == "." and beyond == ".."):
            return True
        if after.text in ".,:" and after.start == tokens[i - 1].end and beyond[:1].isdigit():
            return True
        if after.text == "." and i + 1 < len(tokens) and tokens[i + 1].text in ("\\overline", "\\bar", "\\dot"):
            return True  # 0.\overline{3}
        return after.text == "," and i + 1 < len(tokens) and tokens[i + 1].kind == "other"
    return after.kind == "number"


def _is_unit(words: list[Token]) -> bool:
    """Whether words between a number and an operator can be its unit."""
    return all(
        word.kind != "word" or ((len(word.text) > 2 or word.text in SHORT_UNITS) and word.text.lower() not in _NO_UNITS)
        for word in words
    )


def _is_mixed(tokens: list[Token], i: int) -> bool:
    """Whether tokens[i] begins the fraction of a mixed number: `1 1/2`."""
    return i + 2 < len(tokens) and tokens[i + 1].kind == "over" and tokens[i + 2].kind == "number"


_FUNCTIONS = word_set("pi mod sin cos tan log ln sqrt choose squared cubed factorial")


def _check_unit(tokens: list[Token], i: int) -> None:
    """Raises: Unreadable: if the word tokens[i] after a number is an unknown (`3x`) and not a unit."""
    word, before = tokens[i], tokens[i - 1]
    if word.kind == "unit":
        return
    touching = word.start == before.end
    if word.text.lower() in _NO_UNITS and not touching:
        return  # prose
    if (touching or len(word.text) < 3) and word.text not in SHORT_UNITS and not (word.text in "aAI" and not touching):
        raise Unreadable
    if word.text in _FUNCTIONS:
        raise Unreadable
