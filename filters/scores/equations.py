"""Equations between numbers in text: found, read and evaluated exactly.

An equation is checked if both sides are numbers, at least one has an operator, and nothing else could be meant. What is
read: `16 - 3 = 13`, `<<16-3=13>>`, `12 x $2 = $24`, `50% of 80 = 40`, `\\frac{1}{2} + 1 = \\frac{3}{2}`, `2^3 = 8`,
`5! = 120`, `√25 = 5`, units (`3 apples + 4 apples = 7 apples`), chains (`2 * 3 + 1 = 6 + 1 = 7`), thousands separators,
Unicode operators, and `equals`. Delimiters of formulas, emphasis, list numbers, borders of table cells and HTML tags
are read as blanks or ends of lines.

What is not checked: sides with unknowns, functions or unbalanced brackets; definitions (`1 hour = 60 minutes`);
remainders and congruences; proportions (`1 : 2 = 5 : 10`); code; struck text. An equation that does not hold is not
counted if another reading of it might hold, if it may convert units, if it rounds a quotient up or down, or if the text
does not say that it holds (`is wrong`, a question).

Of `20 + 30 = 50 + 10 = 60`, where each calculation begins with the result of the one before, only the last link is
counted. Of `2 + 2 = 4 = 5`, both are.

Per cent has three readings: a hundredth, a unit (`20% + 30% = 50%`), and a share of what is before it
(`100 - 25% = 75`).

Numbers are fractions; roots that are none are computed to ROOT_DIGITS decimals. Nothing is evaluated as code; the sizes
of numbers and expressions are limited.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

MAX_TOKENS = 60
"""Tokens of one side."""
MAX_DIGITS = 30
MAX_EXPONENT = 64
MAX_BITS = 4096
"""Of the numerator or the denominator of a power."""
MAX_FACTORIAL = 30
EXACT_DECIMALS = 9
"""More decimals than these are those of a floating-point number."""
APPROXIMATE = Fraction(1, 10)
"""Relative error that `≈` allows."""
ROOT_DIGITS = 60
"""Decimals of a root that is no fraction."""
ROOT_ERROR = Fraction(1, 10**40)
"""Relative difference below which sides with such roots are equal."""
ROUNDED_ROOT = Fraction(1, 100)
"""Relative error of a result that may have been computed with a rounded root."""
ROUNDED_SUM = Fraction(1, 1000)
"""Relative error of a sum of rounded numbers."""
WINDOW = 200
"""Characters on each side of an equals sign that are looked at."""


class Equation(NamedTuple):
    """A checked equation. start, end: characters of the text. left, right: the sides as written. holds: whether they
    are equal, or one is the other rounded."""

    start: int
    end: int
    left: str
    right: str
    holds: bool


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


class _Unreadable(Exception):
    """The side is no arithmetic."""


_TEXT_OF = re.compile(r"\\\w+\{\s*of\s*\}")
_ANNOTATION = re.compile(r"<<([^<>\n]{1,200})>>")
_CANDIDATE = re.compile(r"(?<![<>!=:~+*/-])(?:[=＝]|≈|\\approx(?![a-z]))(?![=>])(?=[\s&$]*(?:[\d(\\£€.{½¼¾⅓⅔−-]))")
CANDIDATE_ROW = (
    r"[\d½¼¾⅓⅔⅛][^\n]*(?:=|≈|\\approx|\bequals\b|\bequal to\b|＝)"
    r"|[\d)}][\s$&\\]*\n[\s$&\\]*(?:=|≈|\\approx)"
)
"""A regular expression (RE2) that every text with an equation matches."""

_TOKEN = re.compile(
    r"""
    (?P<code>0[xXbBoO][0-9a-fA-F]+)
  | (?P<number>\d{1,3}(?:\.\d{3}){2,}(?![\d.])
      |(?:\d{1,3}(?:(?:,|\{,\}|,\\!|\\,|[_\u00a0\u2009\u202f])\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)
  | (?P<percent>\\?%|percent\b|per\ cent\b)
  | (?P<word>[A-Za-z]+(?:['’][a-z]+)?)
  | (?P<glyph>[½¼¾⅓⅔⅛])
  | (?P<equals>(?<![<>!=:~])(?:[=＝]|≈|\\approx(?![a-z]))(?![=>]))
  | (?P<gap>\\q?quad(?![a-z])|\$\$)
  | (?P<skip>\\?\$|[£€&~]|\ |\t|\u00a0|\u202f|\\[,;:!\ ]
      |\\(?:left|right|displaystyle|bigl?|bigr?|Bigl?|Bigr?|hphantom)(?![a-zA-Z]))
  | (?P<frac>\\[dtc]?frac(?![a-zA-Z]))
  | (?P<binom>\\[dt]?binom(?![a-zA-Z]))
  | (?P<sqrt>\\sqrt(?![a-zA-Z])|√)
  | (?P<boxed>\\(?:boxed|fbox|(?:math|text)(?:bf|rm|it)(?=\{[\s$]*\d)|text(?=\{[\s$]*\d)|underline)(?=\{))
  | (?P<unit>\\(?:text|mbox|mathrm|textrm)\{[^{}=]*\}(?:\^\{?[23]\}?)?|\^\{?\\circ\}?|°)
  | (?P<times>\\times(?![a-z])|\\cdot(?![a-z])|[×·∙⋅✕∗])
  | (?P<over>\\div(?![a-z])|÷|/|⁄)
  | (?P<power>\*\*|\^)
  | (?P<star>\*)
  | (?P<plus>\+)
  | (?P<minus>[-−–])
  | (?P<bang>!(?!=))
  | (?P<square>²)
  | (?P<cube>³)
  | (?P<open>\()
  | (?P<close>\))
  | (?P<brace>\{)
  | (?P<unbrace>\})
  | (?P<line>\\\\|\n)
  | (?P<command>\\[a-zA-Z]+|\\[&#])
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_GLYPHS = {"½": (1, 2), "¼": (1, 4), "¾": (3, 4), "⅓": (1, 3), "⅔": (2, 3), "⅛": (1, 8)}
_SKIPPED = " \t$£€&~\\\u00a0\u202f"
_SIZED = re.compile(r"\\(?:left|right|bigl?|bigr?|Bigl?|Bigr?|displaystyle)(?![a-zA-Z])")
_OPERATORS = frozenset({"times", "over", "power", "star", "plus", "minus", "of"})
_WORD_OPERATORS = {"times": "times", "plus": "plus", "minus": "minus", "x": "times", "X": "times"}
_OPERAND_START = frozenset({"number", "glyph", "open", "frac", "binom", "sqrt", "brace", "boxed"})
_OPERAND_END = frozenset({"number", "glyph", "close", "unbrace", "percent", "bang", "square", "cube", "unit"})


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\S+", text))


_RATIO_BEFORE, _RATIO_AFTER = re.compile(r"\d\s*:\s*$"), re.compile(r"\s*:\s*\d")
_SHORT_UNITS = _words(
    "cm mm km kg mg ml lb lbs ft in mph hr hrs min mins sec secs oz yd yds g m s h L l kWh GB MB pm am kph yrs"
)
_CONVERTED = re.compile(
    r"(?i)^(?:dozens?|hours?|hrs?|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?|yrs?|decades?|foot|feet|ft|inch"
    r"|inches|in|yards?|yds?|miles?|meters?|metres?|m|cm|mm|km|centimeters?|kilometers?|kg|mg|g|grams?|kilograms?|pounds?|lbs?"
    r"|ounces?|oz|tons?|gallons?|quarts?|pints?|cups?|liters?|litres?|l|ml|milliliters?|cents?|dollars?|pennies|penny|nickels?"
    r"|dimes?|quarters?|pairs?|scores?|h|s|thousand|thousands|hundred|hundreds|million|millions|billion|billions|k|degrees?"
    r"|teaspoons?|tablespoons?|am|pm|half|halves|thirds?|sets?|packs?|boxes|box|mph|kph|ppm|rows?|teams?)$"
)
_DOUBTFUL_BEFORE = _words(
    "of per by than times twice thrice double triple half square root cube from over sin cos tan log ln lim gcd "
    "lcm max min mod plus minus divided multiplied subtract add multiply divide difference sum product ratio "
    "average negative first next last every each another a an base"
)
"""Words before a side that may belong to it: `half of 80 + 5 = 45`."""
_SHORT_WORDS = _words("is so be as at if or do it we by to an")
_NO_UNITS = _words(
    "of and or so is are was then if which because than less more fewer would cost already up when where we have "
    "has had get gives since thus but with before after appear for in at on to as this that it he she they i you"
)
_LABELS = _words(
    "week weeks day days step steps page pages chapter chapters question problem part year years grade grades "
    "month months number numbers equation lesson section case room row group team level hour hours exercise "
    "figure table item flight gate route highway platform verse theorem version channel"
)
_DOUBTFUL_AFTER = _words(
    "remainder r R rem mod modulo million thousand hundred billion dozen k factorial squared cubed to over"
)


_INLINE = re.compile(r"(?<!\\)\\[()]")
_DISPLAY = re.compile(r"(?<!\\)\\[\[\]]")
_EMPHASIS = re.compile(
    r"(?<![\w)*}%])(?P<mark>\*{2,3}|__|`|(?<![\d)}%] )\*)(?P<inside>(?=[^\s*`])[^*`\n]*(?<=[^\s*`]))(?P=mark)(?![\w(*])"
)
"""Marks around text, which no operand touches from outside: not `2**3 + 4**5`, nor `3 *4* 5`."""
_FENCE = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[^\n`]*\n.*?(?:^[ \t]*(?P=fence)[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL
)
_SPAN = re.compile(r"(?<!`)(?P<mark>`+)(?!`)[^`\n]*[=≈][^`\n]*(?P=mark)(?!`)")
"""Code with an equals sign, which may assign. Code without one is read as emphasis: ``15 + 4 = `19` ``."""
_STRUCK = re.compile(r"~~(?=\S)[^~\n]+~~|<(s|del|strike)>[^<>\n]*</\1>")
_ROW = re.compile(r"^[ \t]*\|(?=[\s|:-]).*(?<=[\s|:-])\|[ \t]*$", re.MULTILINE)
_CELLS = re.compile(r"</?(?:td|th|tr|p|li|br|div|h\d)\b[^<>\n]*>")
_FONTS = re.compile(r"</?(?:b|i|em|strong|u|span|code)\b[^<>\n]*>")
_QUOTE = re.compile(r"^[ \t]*(?:>[ \t]?)+", re.MULTILINE)
_ITEM = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]+(?=.*=)|(?:(?:Step|Part|Case|Option|Question|Problem|Example)[ \t]+)?"
    r"\(?(?:\d{1,3}|[A-Za-z]|[ivx]{1,4})\)[ \t]+(?![-+*/×÷·^=%\\]))",
    re.MULTILINE,
)
"""What is before the first word of a line: a heading, the number of an item."""
_BULLETS = re.compile(r"^[ \t]*([-*+•])[ \t][^\n]*(?:\n+[ \t]*\1[ \t][^\n]*)+", re.MULTILINE)
_BULLET = re.compile(r"^[ \t]*[-*+•]", re.MULTILINE)
_SAID = "＝"
"""What `equals` is read as: a sign of its own, because its left side may be of what was said before."""
_EQUALS = re.compile(r"(?<=[\w)}%!²³°£€$] )(?:equals|(?:is|are) equal to)(?= *\\?[\d(\\$£€.{√½¼¾⅓⅔−-])")


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _plain(text: str) -> str:
    """The text with the same length, in which markup that is no arithmetic is blank, and `equals` is a sign."""
    if "`" in text or "~~~" in text:
        text = _FENCE.sub(lambda match: "\n" * len(match[0]), text)
        # No side begins after a span. Two apostrophes end a quotation of LaTeX, which begins with two backticks.
        text = _SPAN.sub(lambda match: match[0] if "''" in match[0] else "#" * len(match[0]), text)
    if "~~" in text or "</" in text:
        text = _STRUCK.sub(_blank, text)
    if "\\" in text:
        text = _INLINE.sub("  ", _DISPLAY.sub("$$", text))
    if "*" in text or "`" in text or "__" in text:
        for _ in range(2):  # one kind of emphasis inside another
            text = _EMPHASIS.sub(lambda m: f"{' ' * len(m['mark'])}{m['inside']}{' ' * len(m['mark'])}", text)
    if "</" in text or "<br" in text:
        text = _FONTS.sub(_blank, _CELLS.sub(lambda match: "\n" * len(match[0]), text))
    if "|" in text:
        text = _ROW.sub(lambda match: match[0].replace("|", "\n"), text)
    if ">" in text:
        text = _QUOTE.sub(_blank, text)
    text = _ITEM.sub(_blank, text)
    text = _BULLETS.sub(lambda match: _BULLET.sub(_blank, match[0]), text)
    if "equal" in text:
        text = _EQUALS.sub(lambda match: f"{_SAID}{' ' * (len(match[0]) - 1)}", text)
    return text


def equations(text: str) -> list[Equation]:
    """The equations of a text that can be checked, in order."""
    found: list[Equation] = []
    bare = text
    if "<<" in text:
        for match in _ANNOTATION.finditer(text):
            found += _equations(match[1], match.start(1), annotation=True)
        bare = _ANNOTATION.sub(_blank, text)
    for one in _equations(_plain(bare), 0, annotation=False):
        end = one.start + len(one.left)
        found.append(one._replace(left=text[one.start : end], right=text[one.end - len(one.right) : one.end]))
    return sorted(set(found))


def _equations(text: str, shift: int, annotation: bool) -> Iterator[Equation]:
    regions: list[list[int]] = []
    for match in _CANDIDATE.finditer(text):
        start, end = max(0, match.start() - WINDOW), min(len(text), match.end() + WINDOW)
        if regions and start <= regions[-1][1]:
            regions[-1][1] = end
        else:
            regions.append([start, end])
    for start, end in regions:
        tokens = _tokens(text, start, end)
        for at, token in enumerate(tokens):
            if token.kind == "equals" and 0 < at < len(tokens) - 1:
                equation = _check(text, tokens, at, annotation)
                if equation is not None:
                    yield equation._replace(start=equation.start + shift, end=equation.end + shift)


def _tokens(text: str, start: int, end: int) -> list[_Token]:
    tokens = [
        _Token(match.lastgroup or "", match[0], match.start(), match.end())
        for match in _TOKEN.finditer(text, start, end)
        if match.lastgroup != "skip"
    ]
    kept: list[_Token] = []
    for i, token in enumerate(tokens):
        if token.kind == "unit" and _TEXT_OF.fullmatch(token.text):
            tokens[i] = token = token._replace(kind="word", text="of")
        following = tokens[i + 1] if i + 1 < len(tokens) else None
        before = kept[-1] if kept else None
        if token.kind == "line":
            # A line that begins with an equals sign goes on with the line before.
            j = i
            while j < len(tokens) and tokens[j].kind == "line":
                j += 1
            if j < len(tokens) and tokens[j].kind == "equals":
                continue
        elif token.kind == "word" and following is not None and (token.text in _WORD_OPERATORS or token.text == "of"):
            operator = _WORD_OPERATORS.get(token.text)
            spaced = before is not None and before.end < token.start
            operand = following.kind in _OPERAND_START or (following.kind == "minus" and spaced)
            named = before is not None and before.kind == "word" and len(before.text) > 1 and token.text != "times"
            if token.text in "xX" and not spaced and following.kind in ("sqrt", "frac", "binom"):
                operator = None  # 2x\sqrt{3}
            if operator and operand and before is not None and (before.kind in _OPERAND_END or named):
                token = token._replace(kind=operator)
            elif token.text == "of" and following.kind in ("number", "glyph", "frac") and before is not None:
                fraction = len(kept) > 2 and kept[-2].kind == "over" and before.kind == "number"
                if before.kind == "percent" or fraction:
                    token = token._replace(kind="of")
        elif token.kind == "power" and token.text == "**":
            operand = following is not None and following.kind in _OPERAND_START | {"minus"}
            if not (operand and before is not None and before.kind in _OPERAND_END):
                token = token._replace(kind="other")
        kept.append(token)
    return kept


def _check(text: str, tokens: list[_Token], at: int, annotation: bool) -> Equation | None:
    """The equation around the equals sign tokens[at], or None if it cannot be checked."""
    try:
        first = _left_start(text, tokens, at, annotation)
        last = _right_end(text, tokens, at)
    except _Unreadable:
        return None
    left, right = tokens[first:at], tokens[at + 1 : last]
    if not left or not right or len(left) > MAX_TOKENS or len(right) > MAX_TOKENS:
        return None
    numbers = not any(token.kind in _WORK for token in (*left, *right)) and not (_factors(left) or _factors(right))
    if numbers and not _is_result(text, tokens, first, annotation):
        return None
    approximate = tokens[at].text not in ("=", _SAID)
    holds = readable = doubt = False
    percent = any(token.kind == "percent" for token in (*left, *right))
    dotted = _is_dotted(left, right)
    barred = any(_has_bar(side) for side in (left, right))
    for bar, reading, mixed, dots in itertools.product(
        (False, True) if barred else (False,),
        _percent_readings(left, right) if percent else _PERCENT[:1],
        (True, False),
        (False, True) if dotted else (False,),
    ):
        try:
            one, other = (_Side(side, reading, mixed, dots, bar) for side in (left, right))
            value, result = one.value(), other.value()
        except _Unreadable:
            continue
        readable = True
        equal = _equal(value, result, one, other, approximate)
        if bar:
            doubt |= equal is True
            continue
        holds |= equal is True
        doubt |= equal is None or one.doubt or other.doubt or _runs_on(one, value, right)
        doubt |= any(_is_share_of(value, right[:i]) for i, token in enumerate(right) if token.kind == "of")
        doubt |= percent and _nearly(value, result, one, other, approximate)
        doubt |= numbers and (_may_convert(value, result) or _is_near(value, result))
        if holds:
            break
    if not readable:
        return None
    if not holds:
        before, after = text[max(0, left[0].start - 80) : left[0].start], text[right[-1].end : right[-1].end + 50]
        if _RATIO_BEFORE.search(before[-12:]) and _RATIO_AFTER.match(after):
            return None  # 1 : 2/5 = 5 : 2
        following = tokens[last : last + 6]
        if tokens[at].text == _SAID and not _is_said_of(left, value):
            return None
        if text[left[0].start - 1 : left[0].start] == "~" or _is_glued(text[right[0].start : right[-1].end], value):
            return None
        if any(_CLOCK_TIME.fullmatch(token.text) for token in (*left, *right)):
            return None
        if first and tokens[first - 1].kind == "minus" and _may_be_sign(tokens, first - 1):
            return None
        if first > 1 and tokens[first - 1].kind == "open" and tokens[first - 2].kind in _OPERATORS:
            return None  # a bracket that does not close: 100 + (100 * 10/100 = 110
        if (
            _is_list(tokens, first, at, last)
            or _is_own_operator(text, left)
            or _is_part_of_words(tokens, first, left)
            or _is_exchange(text, left, right, following)
            or _is_range(left, result)
            or _is_share_name(text, left, right, following, value, result)
            or (_FLOORED.search(text) and result == value // 1)
        ):
            return None
        if (
            doubt
            or _converts(left, right, following, value, result)
            or (percent and _mixes_percent(left, right, following))
        ):
            return None
        if (
            _AFTER.match(after)
            or (_LEFT_OVER.match(after) and any(token.kind in ("over", "frac") for token in left))
            or (_OF_THEM.match(after) and not _is_sum_or_product(left))
            or (value < 0 < result and _PHONE.fullmatch(text[left[0].start : left[-1].end]))
            or _is_modular(text, value, result)
            or (_REMAINDER_BEFORE.search(before) and _is_remainder(left, result))
            or _BASE.search(before)
            or _BASE.search(after)
            or _goes_on(following)
            or _NOT_SAID_BEFORE.search(before)
            or _NOT_SAID_AFTER.match(after)
        ):
            return None
    return Equation(
        left[0].start, right[-1].end, text[left[0].start : left[-1].end], text[right[0].start : right[-1].end], holds
    )


def _is_result(text: str, tokens: list[_Token], first: int, annotation: bool) -> bool:
    """Whether the number tokens[first] is the result of a calculation before it: the 4 of `2 + 2 = 4 = 5`."""
    if not first or tokens[first - 1].kind != "equals":
        return False
    try:
        start = _left_start(text, tokens, first - 1, annotation)
    except _Unreadable:
        return False
    return any(token.kind in _WORK for token in tokens[start : first - 1])


def _is_share_of(value: Fraction, share: list[_Token]) -> bool:
    """Whether a number is the share before an `of`: `3/3 - 2/3 = 1/3 of $150`."""
    try:
        return _Side(share, _HUNDREDTH, True, False).value() == value
    except _Unreadable:
        return False


def _has_bar(side: list[_Token]) -> bool:
    """Whether a side may be a fraction whose denominator is all that follows the slash: `13*12*11/3*2*1`."""
    kinds = [token.kind for token in side]
    return "over" in kinds and bool({"times", "star", "open", "bang"} & set(kinds))


def _is_list(tokens: list[_Token], first: int, at: int, last: int) -> bool:
    """Whether the sides tokens[first:at] and tokens[at + 1 : last] are elements of lists: `2/6, 2/8 = 1/3, 1/4`."""
    sums = {"plus", "minus", "times", "star"}
    bracket = tokens[first].kind == "open" and tokens[at - 1].kind == "close"
    if first < 2 or last + 1 >= len(tokens):
        return False
    if any(token.kind in sums for token in tokens[at:last][2:]) or not (
        bracket or not any(token.kind in sums for token in tokens[first:at])
    ):
        return False
    if (tokens[first - 1].text, tokens[last].text) != (",", ",") or tokens[last + 1].kind not in _OPERAND_START | {
        "minus"
    }:
        return False
    i = first - 2
    while i > 0 and tokens[i].kind in _OPERAND_START | _OPERAND_END | {"over", "minus"}:
        i -= 1
    return i < first - 2 and tokens[i].kind != "equals"


def _is_part_of_words(tokens: list[_Token], first: int, left: list[_Token]) -> bool:
    """Whether a side in brackets explains the last term of a sum in words: `pens (5 x $2) + books (2 x $10) = $30`."""
    if left[0].kind != "open" or left[-1].kind != "close" or not first or tokens[first - 1].kind != "word":
        return False
    line = itertools.takewhile(lambda token: token.kind not in ("line", "equals"), reversed(tokens[: first - 1]))
    return any(token.kind in ("plus", "minus", "times", "star") for token in line)


_PRICED = _words("point pt leg wheel day hour credit calorie cent dollar dime eye head amu")
"""What unlike things may be worth together: `2 wins + 1 draw = 7 points`."""


def _is_exchange(text: str, left: list[_Token], right: list[_Token], after: list[_Token]) -> bool:
    """Whether a sum of unlike things is said to have a price or a worth: `1 pie + 2 tarts = $2.10`."""
    names = {_unit_name(token).lower().removesuffix("s") for token in left if token.kind in _UNITS}
    if len(names) < 2 or not any(token.kind in ("plus", "minus") for token in left[1:]):
        return False
    priced = any(sign in text[left[-1].end : right[-1].end] for sign in "$£€")
    shown = text[left[0].start : left[-1].end]
    return (priced and not any(sign in shown for sign in "$£€")) or any(
        token.kind in _UNITS and _unit_name(token).lower().removesuffix("s") in _PRICED - names
        for token in (*right, *after[:1])
    )


def _is_range(left: list[_Token], result: Fraction) -> bool:
    """Whether a side may be, or begin with, a range: `18-24 = 12%`. Differences of a larger number are negative."""
    if [token.kind for token in left[:3]] != ["number", "minus", "number"] or result < 0:
        return False
    low, high = (Fraction(re.sub(r"[^\d.]", "", left[i].text)) for i in (0, 2) if left[i].text.count(".") < 2)
    return left[0].end == left[1].start and left[1].end == left[2].start and low < high


def _is_share_name(
    text: str, left: list[_Token], right: list[_Token], after: list[_Token], value: Fraction, result: Fraction
) -> bool:
    """Whether a fraction may name the share that an amount is: `3/5 = 30 students`, `4/4 = 4 beats`."""
    amount = any(token.kind in _UNITS for token in (*left[1:], *right, *after[:1]))
    amount |= "$" in text[left[-1].end : right[-1].end]
    return amount and 0 < value <= 1 <= result and all(token.kind in _LITERAL for token in left)


def _is_own_operator(text: str, left: list[_Token]) -> bool:
    r"""Whether `*` may be an operation that the text defines, since it multiplies with `\cdot` or `\times`."""
    kinds = [token.kind for token in left]
    return kinds == ["number", "star", "number"] and ("\\cdot" in text or "\\times" in text)


def _is_modular(text: str, value: Fraction, result: Fraction) -> bool:
    """Whether a text may say that two numbers are equal modulo a third, or have the same last digit or parity."""
    difference = value - result
    if difference.denominator != 1:
        return False
    return bool(
        _MODULAR.search(text)
        or (difference % 10 == 0 and _LAST_DIGIT.search(text))
        or (difference % 2 == 0 and result in (0, 1) and _PARITY.search(text))
    )


def _is_remainder(left: list[_Token], result: Fraction) -> bool:
    """Whether a result is the remainder of a division: `380/3 = 2`."""
    if [token.kind for token in left] != ["number", "over", "number"]:
        return False
    top, bottom = (Fraction(re.sub(r"[^\d.]", "", left[i].text)) for i in (0, 2))
    return bottom != 0 and top % bottom == result


def _is_near(value: Fraction, result: Fraction) -> bool:
    """Whether one number may be the other rounded."""
    difference = abs(value - result)
    return difference < 1 or difference <= APPROXIMATE * abs(value)


_DOTTED = re.compile(r"\d{1,3}(?:\.\d{3})+")


def _is_dotted(left: list[_Token], right: list[_Token]) -> bool:
    """Whether dots may separate thousands: each number with a dot has groups of three digits, `1.250 + 50 = 1.300`."""
    with_dot = [token.text for token in (*left, *right) if token.kind == "number" and "." in token.text]
    return bool(with_dot) and all(_DOTTED.fullmatch(number) for number in with_dot)


def _is_sum_or_product(side: list[_Token]) -> bool:
    return any(token.kind in ("plus", "minus", "times", "star") for token in side)


def _is_said_of(left: list[_Token], value: Fraction) -> bool:
    """Whether `equals` after a side speaks of this side: not where `3/4` may be the share, and `16!` the number, of
    what was said before, nor where it is not clear in which order words (`5 plus 4 times 2`) are computed."""
    if not any(token.kind in _WORK for token in left):
        return True
    operators = {token.kind for token in left if token.kind in _OPERATORS}
    spoken = {token.kind for token in left if token.text in ("times", "plus", "minus")}
    if operators == {"over"}:  # 12 / 4 is no share
        return value > 1 and value.denominator == 1 and not any(a.end == b.start for a, b in itertools.pairwise(left))
    return bool(operators & {"plus", "minus", "times", "star"}) and not (len(operators) > 1 and spoken)


def _may_be_sign(tokens: list[_Token], i: int) -> bool:
    """Whether the minus tokens[i] at the start of a line may be none of a list: the line before ends with a number."""
    before = [token for token in tokens[:i] if token.kind != "line"]
    return i > 0 and tokens[i - 1].kind == "line" and bool(before) and before[-1].kind in _OPERAND_END


_WORK = frozenset(
    {"times", "over", "power", "star", "plus", "minus", "of", "frac", "binom", "sqrt", "bang", "square", "cube"}
)


def _factors(side: list[_Token]) -> bool:
    """Whether a side is a product without a sign: `(2)(3)`."""
    return sum(token.kind == "number" for token in side) > 1


def _converts(left: list[_Token], right: list[_Token], after: list[_Token], value: Fraction, result: Fraction) -> bool:
    """Whether a side that does not equal the other has a unit that may be converted.

    Nothing is converted where all numbers of a sum, and the result, have the same unit (`5 km + 3 km = 16 km`). Where
    only the result has a unit (`24 + 18 = 32 minutes`), the sides of a conversion have the ratio of two units.
    """
    behind = _units_after(after)
    shown = (left, [*right, *behind])
    named = [frozenset(re.sub(r"\W|s\b", "", t.text) for t in side if t.kind == "unit") for side in shown]
    if len(named[0]) > 1 or (named[0] and named[1] and named[0] != named[1]):
        return True
    texts = [[_unit_name(token) for token in side if token.kind in _UNITS] for side in shown]
    ours, results = ([unit for unit in side if _CONVERTED.match(unit) or "°" in unit] for side in texts)
    if not ours and not results:
        return False
    kinds = {unit.lower().removesuffix("s") for unit in (*ours, *results)}
    if len(kinds) > 1 or not results or any(_CLOCK.match(unit) for unit in kinds):
        return True
    is_sum = any(token.kind in ("plus", "minus") for token in left[1:])
    exponents = sum(a.kind == "power" and b.kind == "number" for a, b in itertools.pairwise(left))
    is_same = is_sum and len(ours) == sum(token.kind == "number" for token in left) - exponents
    if not is_same and _may_convert(value, result):
        return True
    if _has_remainder(after[len(behind) :], kinds):
        return True
    if any(len(unit) == 1 for unit in ours) or (len(results[0]) == 1 and _touches(right, behind)):
        return True  # an unknown: 5s^2 = 16s
    if ours:
        return is_sum and not is_same
    grouped = any(_GROUP.match(unit) for unit in kinds) and not (is_sum and value < 2 * result and result < 2 * value)
    return grouped or result.denominator > value.denominator


def _has_remainder(after: list[_Token], kinds: set[str]) -> bool:
    """Whether a result goes on in a smaller unit: `60 + 15 = 1 hour 15 minutes`, `2 feet, with 7 inches left`.

    after: the tokens behind its unit. Only those of the same sentence are read. kinds: the units of the equation.
    """
    sentence = itertools.takewhile(lambda token: token.kind not in ("line", "bang") and token.text not in ".?", after)
    rest = [token for token in sentence if token.text not in (",", "and")]
    if rest and rest[0].kind in ("number", "glyph"):
        return True
    return any(
        number.kind == "number" and _CONVERTED.match(name) and name.lower().removesuffix("s") not in kinds
        for number, name in ((number, _unit_name(unit)) for number, unit in itertools.pairwise(rest))
    )


def _unit_name(token: _Token) -> str:
    """`km` of `km` and of `\\text{ km}^2`."""
    return re.sub(r"\\[a-z]+\{|[{}^\s\d]", "", token.text)


def _touches(right: list[_Token], behind: list[_Token]) -> bool:
    return not behind or behind[0].start == right[-1].end


_UNITS = ("word", "unit")
_CLOCK = re.compile(r"am|pm|o['’]clock|.*°|degree|\\circ")
_GROUP = re.compile(
    r"(?:pair|score|set|pack|box|boxe|row|team|half|halve|third|quarter|dozen|cup|k|thousand|hundred|million|billion)$"
)
"""Units of which a text may say how many of another they are."""
_RATIOS = (2.54, 30.48, 1.609, 2.205, 3.785, 28.35, 3.281, 22 / 15, 3.6, 52 / 12, 30.4)
"""Ratios of units that are no whole numbers."""


def _may_convert(value: Fraction, result: Fraction) -> bool:
    """Whether the ratio of two values may be that of two units: whole, or one of _RATIOS."""
    if not value or not result:
        return True
    ratio = max(abs(value / result), abs(result / value))
    whole = round(ratio)
    return (whole > 1 and abs(ratio - whole) <= ratio / 500) or any(abs(float(ratio) / r - 1) < 0.01 for r in _RATIOS)


def _units_after(after: list[_Token]) -> list[_Token]:
    """The words after a result that may be its unit: at most two, none from a preposition or article on.

    `in` is inches at the end of a phrase only: not in `32 in total`.
    """
    units: list[_Token] = []
    for token, following in itertools.zip_longest(after[:2], after[1:3]):
        if token is None or token.kind not in _UNITS:
            break
        if token.text in ("in", "a"):
            if token.text == "in" and (following is None or following.kind != "word"):
                units.append(token)
            break
        if token.text in ("per", "each", "every", "an", "for", "on", "at", "by"):
            break
        units.append(token)
    return units


def _percent_readings(left: list[_Token], right: list[_Token]) -> tuple[str, ...]:
    """How `%` may be read. It is a unit if the result has it, or all numbers of the other side do."""
    kinds = [token.kind for token in left]
    if right[-1].kind == "percent" or kinds.count("percent") == kinds.count("number"):
        return _PERCENT
    return _HUNDREDTH, _SHARE


def _mixes_percent(left: list[_Token], right: list[_Token], after: list[_Token]) -> bool:
    """Whether it is not clear of what a per cent is a share: `20% of 80 + 10`, `20% = 80 + 30`, `20 = 20% more`."""
    for side in (left, right):
        kinds = [token.kind for token in side]
        sums = "plus" in kinds[1:] or "minus" in kinds[1:]
        shares, terms = kinds.count("percent"), 1 + sum(kind in ("plus", "minus") for kind in kinds[1:])
        if sums and ("of" in kinds or (shares > 1 and shares != terms) or (shares == 1 and terms > 2)):
            return True
        if any(a == "percent" and b in ("word", "unit", "open", "close") for a, b in itertools.pairwise(kinds)):
            return True
    if left[-1].kind == "percent" and not any(token.kind in _WORK for token in left):
        return True
    if len(left) == 1 and any(token.kind == "percent" for token in right) and any(t.kind == "plus" for t in right):
        return True  # 48 = 100% + 20%
    return right[-1].kind == "percent" and bool(after) and after[0].text.lower() in _CHANGES


_CHANGES = _words(
    "off more less higher lower larger smaller greater bigger better worse faster slower cheaper increase decrease "
    "discount reduction rise gain growth loss profit change drop raise markup interest tax"
)
"""Words after a per cent that is a change: `60 / 50 = 20% more`."""


def _nearly(value: Fraction, result: Fraction, one: _Side, other: _Side, approximate: bool) -> bool:
    """Whether sides with per cent differ by a factor of 100, or by rounding to a whole number: `15% of 37 = 6`."""
    if _equal(100 * value, result, one, other, approximate) or _equal(value, 100 * result, one, other, approximate):
        return True
    return any(
        side.literal and number.denominator == 1 and exact.denominator > 1 and abs(exact - number) < 1
        for exact, number, side in ((value, result, other), (result, value, one))
    )


_NOT_SAID_BEFORE = re.compile(
    r"(?i)[✗✘❌]\s*$|\b(?:wrong|incorrect\w*|false|mistake\w*|erroneous\w*|untrue|absurd|contradict\w*"
    r"|not\ (?:true|correct|say|claim)|estimat\w*|errors?)\b[^.!?;\n]*$"
    r"|(?:\b(?:not|never|cannot|if|unless|whether|suppose|assume|instead\ of|rather\ than|say|says|said|claim\w*|think"
    r"|thinks|thought|believe\w*|wrote|writes|guess\w*|about|roughly|nearly"
    r"|almost|around|approximately|accept\ that)|n['’]t)(?:\ that|:|,)?[\s\"'“‘`$]*$"
)
"""Before an equation that the text does not say to hold: `It is wrong to say`, `Tom thinks that`, `if`."""
_NOT_SAID_AFTER = re.compile(
    r"(?i)[\s$*)\"'”’`]*(?:\?|[.!]?\s*(?:wait\b|oops\b|no[,.]|that['’]s\ (?:not\ right|wrong))"
    r"|[\s,⇒→]*(?:an?\ )?(?:contradiction|impossible|doesn['’]t\ (?:satisfy|work)|does\ not\ (?:satisfy|work))"
    r"|[(\[]*\s*(?:[✗✘❌]|(?:this|that|which)?\s*(?:is\s+)?"
    r"(?:wrong|incorrect|false|mistaken?|error|not\ (?:true|right|correct))\b)|(?:,?\ (?:which|that|this|and|but))?\s*"
    r"(?:is|was|are|would\ be|cannot|can't|isn't|does|doesn't)\b"
    r"[^.;\n]{0,20}?\b(?:wrong|incorrect|false|not|untrue|impossible|absurd|hold|be|mistake\w*|contradict\w*)\b)"
)
"""After such an equation: `is false`, a question mark."""

_AFTER = re.compile(
    r"!|[\s$]*(?:\\[a-z]+\{)?\s*\(?"
    r"(?:[rR]em(?:ainder)?|[rR]|mod|modulo|of(?!\ (?:them|these|those)\b)|times|and\s*\(?[\d\\])\b"  # 5 and 2/3
    r"|[\s$}]*[,(]?\s*(?:[\w\s,$]{0,20}\bto\ the\ nearest|(?:when\ |if\ |after\ )?round(?:ed|ing|s)?\b)"
    r"|[\s$]*\w*\s*,?\ carry"
)
"""After a result that is not the whole value of the other side."""
_LEFT_OVER = re.compile(r"[^.;!\n]*?\b(?:\d+|one|some)\b[^.;!\n]*\b(?:left|remain\w*|over)\b")
"""After a quotient without its remainder: `50/3 = 16 each, with 2 left`."""

_OF_THEM = re.compile(r"[\s$]*of\ (?:them|these|those)\b")
_CLOCK_TIME = re.compile(r"0\d+")
"""A number that begins with a zero: `0900 - 0130 = 0730`."""
_PHONE = re.compile(r"\d{3}-(?:\d{3}-)?\d{4}")
_MODULAR = re.compile(
    r"(?i)\b(?:modulo|modulus|mod|xor|boolean|overflow\w*|clock|characteristic)\b|≡|\\(?:equiv|pmod|bmod|mod)(?![a-z])"
    r"|congruences?\b|congruent\s+(?:to\s+)?[$\\(\s-]*\d"
)
_FLOORED = re.compile(r"(?i)\binteger division|\bfloor|truncat|\bin\ (?:Java|C|C\+\+|Go|Rust|Ruby|Python\ 2)\b")
_LAST_DIGIT = re.compile(r"(?i)\b(?:units?|ones|last|final)['’]?s? (?:\w+ )?digit")
_PARITY = re.compile(r"(?i)\bparit(?:y|ies)\b|\b(?:odd|even)\b")
_REMAINDER_BEFORE = re.compile(r"(?i)\bremainder\s*(?:is|of|=|:|,)?\s*$")
_BASE = re.compile(r"(?i)\bbase[\s-]*(?:\d|two|eight|sixteen)|\b(?:binary|octal|hexadecimal)\b|o['’]clock")


_GLUED = re.compile(r"(\d+)([/⁄]\d+)")


def _is_glued(right: str, value: Fraction) -> bool:
    """Whether a fraction is a mixed number that has lost its space: `60/9 = 62/3`."""
    match = _GLUED.fullmatch(right)
    if not match or len(right) > MAX_DIGITS:
        return False
    digits, over = match[1], match[2].replace("⁄", "/")
    if not over.strip("/0"):
        return False
    return any(int(digits[:i]) + Fraction(digits[i:] + over) == value for i in range(1, len(digits)))


def _runs_on(one: _Side, value: Fraction, right: list[_Token]) -> bool:
    """Whether the next calculation begins with the result of this one: `70 + 50 = 120 * 5/18`, `10/3 = 3.33 + 2`."""
    if not any(token.kind in _WORK for token in right):
        return False
    for i, token in enumerate(right):
        if token.kind in _WORK and token.kind != "frac" and i:
            start = _Side(right[:i], one.percent, True, False)
            try:
                result = start.value()
                if value == result or (start.decimals and _equal(value, result, one, start, False)):
                    return True
            except _Unreadable:
                pass
        if token.kind not in _LITERAL:
            return False
    return False


_LITERAL = frozenset({"number", "glyph", "frac", "brace", "unbrace", "over", "word", "unit"})
"""Tokens of a number, which may have a unit: whole, decimal, a fraction or mixed."""


def _goes_on(after: list[_Token]) -> bool:
    """Whether a side goes on in the next line."""
    rest = [token.kind for token in after[:6] if token.kind not in ("line", "gap")]
    return bool(rest) and len(rest) < len(after[:6]) and after[0].kind in ("line", "gap") and rest[0] in _OPERATORS


def _left_start(text: str, tokens: list[_Token], at: int, annotation: bool) -> int:
    """Where the side before the equals sign tokens[at] begins. Raises: _Unreadable: if it has unknowns."""
    i = at
    depth = 0
    operand = True  # whether an operand, or the end of one, is expected before tokens[i]
    while i > 0:
        kind = tokens[i - 1].kind
        if kind in ("word", "unit") and operand:
            j = i - 1
            while j > 0 and i - j < 4 and _in_unit(tokens[j - 1], tokens[j]):
                j -= 1
            if j == 0 or tokens[j - 1].kind not in _OPERAND_END or not _is_unit(tokens[j:i]):
                raise _Unreadable
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
        elif kind in _OPERAND_START:
            i, operand = i - 1, False
        elif kind in ("percent", "bang", "square", "cube"):
            i, operand = i - 1, True
        elif kind in _OPERATORS:
            signed = tokens[i].kind == "minus" and kind in ("times", "star", "over")  # -3 * -4
            if operand and kind not in ("minus", "plus") and not signed:
                raise _Unreadable
            i, operand = i - 1, True
        elif depth:
            raise _Unreadable
        else:
            break
        if at - i > MAX_TOKENS:
            raise _Unreadable
    if i < at and tokens[i].kind in _OPERATORS:
        i = _after_sign(text, tokens, i)
    if i >= at or depth or (annotation and i):
        raise _Unreadable
    side = tokens[i:at]
    works = any(token.kind in _WORK for token in side)
    if not works and any(token.kind in ("word", "unit") for token in side):
        raise _Unreadable  # `5 friends = 250 / 5`
    if (i and _belongs_before(text, tokens, i, works)) or (
        not i and _SIZED.sub("", text[: tokens[0].start]).strip(_SKIPPED)
    ):
        raise _Unreadable
    return i


def _after_sign(text: str, tokens: list[_Token], i: int) -> int:
    """Where a side that begins with the operator tokens[i] begins: there if it is a sign, after it if it is a bullet.

    Raises: _Unreadable: if something unknown is before it.
    """
    kind, end = tokens[i].kind, tokens[i].end
    before = tokens[i - 1] if i else None
    starts = before is None or before.kind == "line"
    if kind == "star" and (before is None or before.kind != "word"):
        return i + 1
    if kind == "minus" and starts and text[end : end + 1].isspace():
        return i + 1
    if kind != "minus" or tokens[i + 1].kind not in _OPERAND_START:
        raise _Unreadable
    if before is not None:
        touching = before.end == tokens[i].start
        if before.kind in ("word", "command", "unit") and text[end] == " ":
            raise _Unreadable
        if touching and before.kind not in ("line", "other", "equals", "open"):
            raise _Unreadable
    return i


def _belongs_before(text: str, tokens: list[_Token], i: int, works: bool) -> bool:
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
            return touching and bool(text[: before.start].strip(_SKIPPED))
        return touching and joined and kind in ("word", "command", "other", "power", "number")
    if before.kind == "line":
        return kind in _OPERATORS or kind in ("unbrace", "command")
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


def _right_end(text: str, tokens: list[_Token], at: int) -> int:
    """Where the side after the equals sign tokens[at] ends. Raises: _Unreadable: if it has unknowns."""
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
        elif kind in _OPERAND_START:
            if kind == "open" and not operand and depth == 0 and following is not None and following.kind == "word":
                if len(following.text) < 3 or following.text.isupper():
                    raise _Unreadable
                break  # a remark in brackets
            if kind == "boxed" and not operand:
                raise _Unreadable
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
        elif kind in _OPERATORS:
            if operand and kind not in ("minus", "plus"):
                raise _Unreadable
            if kind == "times" and tokens[i].text == "times" and tokens[i - 1].end < tokens[i].start - 1:
                raise _Unreadable
            j = i + 1
            while j < n and tokens[j].kind in ("minus", "plus"):
                j += 1
            if j < n and tokens[j].kind in _OPERAND_START:
                i, operand = j, True
            elif not operand and depth == 0 and _ends_at_operator(kind, tokens[j] if j < n else None):
                break
            else:
                raise _Unreadable
        elif kind in ("word", "unit") and not operand:
            j = i
            while j < n and j - i < 3 and (j == i or _in_unit(tokens[j - 1], tokens[j])):
                j += 1
            _check_unit(tokens, i)
            follows = j + 1 < n and tokens[j].kind in _OPERATORS and tokens[j + 1].kind in _OPERAND_START
            inside = depth > 0 and j < n and tokens[j].kind in ("close", "unbrace")
            ends = j < n and tokens[j].kind == "equals"
            if not (follows or inside or ends) or not _is_unit(tokens[i:j]):
                if tokens[i].text == "and" and following is not None and following.kind in ("number", "frac"):
                    raise _Unreadable  # 5 and 2/3
                if tokens[i].text in _DOUBTFUL_AFTER or depth:
                    raise _Unreadable
                break
            i = j
        else:
            break
        if i - at > MAX_TOKENS:
            raise _Unreadable
    if operand or depth:
        raise _Unreadable
    if (i < n and _belongs_after(text, tokens, i)) or (i == n and text[tokens[-1].end :].strip(_SKIPPED)):
        raise _Unreadable
    return i


def _in_unit(token: _Token, following: _Token) -> bool:
    """Whether two tokens can be neighbours in a unit: `minutes per hour`, `minutes/hour`."""
    words = ("word", "unit")
    return (
        (token.kind in words or token.kind == "over")
        and (following.kind in words or following.kind == "over")
        and (token.kind != "over" or following.kind == "word")
    )


def _ends_at_operator(kind: str, following: _Token | None) -> bool:
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


def _belongs_after(text: str, tokens: list[_Token], i: int) -> bool:
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


def _is_unit(words: list[_Token]) -> bool:
    """Whether words between a number and an operator can be its unit."""
    return all(
        word.kind != "word"
        or ((len(word.text) > 2 or word.text in _SHORT_UNITS) and word.text.lower() not in _NO_UNITS)
        for word in words
    )


def _is_mixed(tokens: list[_Token], i: int) -> bool:
    """Whether tokens[i] begins the fraction of a mixed number: `1 1/2`."""
    return i + 2 < len(tokens) and tokens[i + 1].kind == "over" and tokens[i + 2].kind == "number"


_FUNCTIONS = _words("pi mod sin cos tan log ln sqrt choose squared cubed factorial")


def _check_unit(tokens: list[_Token], i: int) -> None:
    """Raises: _Unreadable: if the word tokens[i] after a number is an unknown (`3x`) and not a unit."""
    word, before = tokens[i], tokens[i - 1]
    if word.kind == "unit":
        return
    touching = word.start == before.end
    if word.text.lower() in _NO_UNITS and not touching:
        return  # prose
    if (touching or len(word.text) < 3) and word.text not in _SHORT_UNITS and not (word.text in "aAI" and not touching):
        raise _Unreadable
    if word.text in _FUNCTIONS:
        raise _Unreadable


_HUNDREDTH, _UNIT, _SHARE = _PERCENT = ("hundredth", "unit", "share")


_SCIENTIFIC = re.compile(r"[-−–]?\d\.?\d*(?:\\times|\\cdot|[x×·*])10(?:\*\*|\^)\{?([-−–]?\d{1,2})\}?")


class _Side:
    """One side: a recursive-descent reader of its tokens.

    percent: whether `%` is a hundredth, a unit, or where it is added, a share of the sum before it. mixed: whether
    `1 1/2` is a sum, or a product. dots: whether dots separate thousands. bar: whether the denominator of a slash that
    is behind several factors, or a factorial, is the product of all that follow it.
    """

    def __init__(self, tokens: list[_Token], percent: str, mixed: bool, dots: bool, bar: bool = False) -> None:
        self.tokens = tokens
        self.at = 0
        self.percent = percent
        self.mixed = mixed
        self.dots = dots
        self.bar = bar
        self.doubt = False
        self.root = False
        self.literals = 0
        self.decimals = 0

    def value(self) -> Fraction:
        """The exact value. Raises: _Unreadable."""
        value = self._sum()
        if self.at < len(self.tokens):
            raise _Unreadable
        return value

    @property
    def exponent(self) -> int | None:
        """The exponent of a number in scientific notation, `2.1 \\times 10^{-16}`; None for another side."""
        match = _SCIENTIFIC.fullmatch("".join(f"{t.text}" for t in self.tokens if t.kind not in ("word", "unit")))
        return int(match[1].replace("−", "-").replace("–", "-")) if match else None

    @property
    def literal(self) -> bool:
        """Whether the side is one number, and may be rounded."""
        if self.exponent is not None:
            return True
        return not any(token.kind in _WORK - {"minus"} for token in self.tokens) and self.literals == 1

    @property
    def quotient(self) -> bool:
        """Whether the side is a quotient, and no sum: `(20 + 15)/2`, not `15/2 + 1`."""
        kinds = {token.kind for token in self.tokens}
        return bool(kinds & {"over", "frac"}) and not self._adds

    @property
    def _adds(self) -> bool:
        """Whether the side is a sum, and not only parts of it in brackets."""
        depth = 0
        for token in self.tokens:
            depth += (token.kind in ("open", "brace")) - (token.kind in ("close", "unbrace"))
            if depth == 0 and token.kind in ("plus", "minus"):
                return True
        return False

    @property
    def product(self) -> bool:
        """Whether the side is a product with a decimal, or a power of one, and no sum."""
        return self.decimals > 0 and not self.literal and not self._adds

    @property
    def precision(self) -> Fraction:
        """The relative error of a product of numbers of which those with two decimals or more are rounded."""
        error = Fraction(0)
        for token in self.tokens:
            digits = re.sub(r"[^\d.]", "", token.text) if token.kind == "number" else ""
            decimals = len(digits.partition(".")[2])
            if decimals > 1 and digits.count(".") == 1 and Fraction(digits):
                error += Fraction(1, 2 * 10 ** min(decimals, EXACT_DECIMALS)) / Fraction(digits)
        return error

    def _kind(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.tokens[at].kind if at < len(self.tokens) else ""

    def _sum(self) -> Fraction:
        sign = 1
        while self._kind() in ("minus", "plus"):
            sign = -sign if self._kind() == "minus" else sign
            self.at += 1
        value = sign * self._product()
        while (kind := self._kind()) in ("plus", "minus"):
            self.at += 1
            first = self.at
            term = self._product()
            if self.percent == _SHARE and [token.kind for token in self.tokens[first : self.at]] == [
                "number",
                "percent",
            ]:
                term *= value
            value = value + term if kind == "plus" else value - term
        return value

    def _product(self) -> Fraction:
        value = self._power()
        several, divided = self.tokens[self.at - 1].kind == "bang", False
        while True:
            kind = self._kind()
            if self.bar and several and divided and kind in ("times", "star", "open"):
                self.at += kind != "open"
                factor = self._signed()
                if factor == 0:
                    raise _Unreadable
                value /= factor
                continue
            several |= not divided and kind in ("times", "star", "open")
            if kind in ("times", "star", "of"):
                divided = False
                self.at += 1
                value *= self._signed()
            elif kind == "over":
                if self._kind(1) in ("word", "unit"):
                    self.at += 2  # per hour
                    continue
                self.at += 1
                divisor = self._signed()
                if divisor == 0:
                    raise _Unreadable
                value /= divisor
                self.doubt |= divided  # 3 / 1/4
                divided = True
            elif kind in ("open", "frac", "sqrt", "binom", "brace", "boxed"):
                before = self.tokens[self.at - 1]
                remark = kind == "open" and before.kind == "number" and before.end < self.tokens[self.at].start
                remark &= self._kind(2) in ("close", "times", "star", "word")
                self.doubt |= divided or remark  # $12 ($6 x 2)
                value *= self._power()
            elif kind in ("number", "glyph") and self.tokens[self.at - 1].kind in ("close", "unbrace"):
                self.doubt = True  # (72)2 may have been a power
                value *= self._power()
            else:
                return value

    def _signed(self) -> Fraction:
        sign = 1
        while self._kind() in ("minus", "plus"):
            sign = -sign if self._kind() == "minus" else sign
            self.at += 1
        return sign * self._power()

    def _power(self) -> Fraction:
        value = self._primary()
        while True:
            kind = self._kind()
            if kind == "percent":
                self.at += 1
                if self.percent != _UNIT:
                    value /= 100
                    self.decimals += 2
            elif kind == "bang":
                self.at += 1
                if self._kind() == "bang":
                    raise _Unreadable  # a double factorial
                if value.denominator != 1 or not 0 <= value <= MAX_FACTORIAL:
                    raise _Unreadable
                value = Fraction(math.factorial(int(value)))
            elif kind in ("square", "cube"):
                self.at += 1
                value = _raised(value, Fraction(2 if kind == "square" else 3))
            elif kind in ("word", "unit"):
                self.at += 1
                if self._kind() == "power" and self._kind(1) in ("number", "brace", "minus"):
                    self.at += 1  # of the unit: 5 cm^2
                    _ = self._braced() if self._kind() == "brace" else self._signed()
            elif kind == "power":
                if self.at > 1 and self.tokens[self.at - 2].kind == "power":
                    raise _Unreadable
                self.at += 1
                braced = self._kind() == "brace"
                exponent = self._braced() if braced else self._signed()
                value = _raised(value, exponent)
            else:
                return value

    def _primary(self) -> Fraction:
        kind = self._kind()
        if kind == "number":
            value = self._number()
            return value + self._fraction_part() if value.denominator == 1 and self.mixed else value
        if kind == "glyph":
            value = Fraction(*_GLYPHS[self.tokens[self.at].text])
            self.at += 1
            self.literals += 2
            return value
        if kind == "open":
            self.at += 1
            value = self._sum()
            self._take("close")
            return value
        if kind == "brace":
            return self._braced()
        if kind == "boxed":
            self.at += 1
            return self._braced()
        if kind == "frac":
            self.at += 1
            top, bottom = self._argument(), self._argument()
            if bottom == 0:
                raise _Unreadable
            return top / bottom
        if kind == "binom":
            self.at += 1
            top, bottom = self._argument(), self._argument()
            if top.denominator != 1 or bottom.denominator != 1 or not 0 <= bottom <= top <= 200:
                raise _Unreadable
            return Fraction(math.comb(int(top), int(bottom)))
        if kind == "sqrt":
            self.at += 1
            bare = self._kind() == "number"
            value = self._argument() if self._kind() == "brace" else self._primary()
            if value < 0:
                raise _Unreadable
            # The bar may be meant to be longer: √25×36. It is not over another root.
            self.doubt |= bare and self._kind() in _OPERATORS | _OPERAND_START and self._kind(1) != "sqrt"
            return self._root(value)
        raise _Unreadable

    def _root(self, value: Fraction) -> Fraction:
        """The square root: exact if it is a fraction, else to ROOT_DIGITS decimals."""
        root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
        if root * root == value:
            return root
        self.root = True
        unit: int = 10**ROOT_DIGITS
        return Fraction(math.isqrt(value.numerator * unit * unit // value.denominator), unit)

    def _fraction_part(self) -> Fraction:
        r"""What follows a whole number and makes it a mixed one: `1 1/2`, `1½`, `1\frac{1}{2}`; else 0."""
        kind = self._kind()
        if kind == "glyph":
            return self._primary()
        if kind == "number" and self._kind(1) == "over" and self._kind(2) == "number":
            top = self._number()
            self.at += 1
            bottom = self._number()
            if not 0 < top < bottom:
                raise _Unreadable
            return top / bottom
        if kind == "frac":
            before = self.at
            value = self._primary()
            if 0 < value < 1:
                return value
            self.at = before
        return Fraction(0)

    def _argument(self) -> Fraction:
        r"""An argument of a LaTeX command: in braces, or one digit (`\frac12`)."""
        if self._kind() == "brace":
            return self._braced()
        if self._kind() != "number":
            raise _Unreadable
        token = self.tokens[self.at]
        if len(token.text) > 2 or not token.text.isdigit():
            raise _Unreadable
        if len(token.text) == 2:
            self.tokens = [*self.tokens]
            self.tokens[self.at] = token._replace(text=token.text[1], start=token.start + 1)
        else:
            self.at += 1
        self.literals += 1
        return Fraction(int(token.text[0]))

    def _braced(self) -> Fraction:
        self._take("brace")
        value = self._sum()
        self._take("unbrace")
        return value

    def _take(self, kind: str) -> None:
        if self._kind() != kind:
            raise _Unreadable
        self.at += 1

    def _number(self) -> Fraction:
        text = re.sub(r"\D" if self.dots else r"[^\d.]", "", self.tokens[self.at].text)
        self.at += 1
        if len(text) > MAX_DIGITS or text.count(".") > 1:
            raise _Unreadable
        self.literals += 1
        self.decimals = max(self.decimals, len(text.partition(".")[2]))
        return Fraction(text)


def _raised(value: Fraction, exponent: Fraction) -> Fraction:
    """A power with a whole exponent. Raises: _Unreadable: for others, and for large results."""
    if exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT or (value == 0 and exponent < 0):
        raise _Unreadable
    bits = max(value.numerator.bit_length(), value.denominator.bit_length())
    if bits * abs(int(exponent)) > MAX_BITS:
        raise _Unreadable
    return value ** int(exponent)


def _equal(left: Fraction, right: Fraction, one: _Side, other: _Side, approximate: bool) -> bool | None:
    """Whether two sides are equal, or one of them is a number that the other rounds to. None if this is not clear."""
    if left == right:
        return True
    difference, size = abs(left - right), max(abs(left), abs(right))
    roots = one.root or other.root
    if approximate and difference <= APPROXIMATE * size:
        return True
    if roots and difference <= ROOT_ERROR * max(size, Fraction(1)):  # 2 - √2 * √2 = 0
        return True
    clear = not (roots and difference <= ROUNDED_ROOT * size)
    for exact, number, side in ((left, right, other), (right, left, one)):
        if not side.literal:
            continue
        whole = one if side is other else other
        step = Fraction(10) ** ((side.exponent or 0) - min(side.decimals, EXACT_DECIMALS))
        if side.decimals > EXACT_DECIMALS and difference < step * max(Fraction(1), abs(exact)):
            return True  # a binary floating-point number: 99.00000000000001
        if (exact / step).denominator == 1:
            continue
        if approximate or side.decimals or side.exponent is not None:
            if difference < step:
                if approximate or 2 * difference <= step or abs(number) < abs(exact):
                    return True
                clear = False  # rounded up: 1/3 = 0.34
        elif 2 * difference <= 1 and (roots or not _terminates(exact)):
            return True
        elif difference < 1 and abs(exact) > 1 and (whole.quotient or whole.product):
            clear = False  # rounded up or down: 30/4 = 8 buses
    for side, whole in ((one, other), (other, one)):
        if side.product and not whole.decimals and difference <= size * side.precision:
            clear = False  # of a rounded factor: 83.33 * 12 = 1000
        rounded = side.literals * Fraction(1, 10 ** min(side.decimals, EXACT_DECIMALS)) if side.decimals else 0
        if not side.literal and 2 * difference <= rounded and difference <= size * ROUNDED_SUM:
            clear = False  # 100/12 * 3 = 8.3 + 8.3 + 8.3
    return False if clear else None


def _terminates(value: Fraction) -> bool:
    """Whether the decimals of a number end."""
    rest = value.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    return rest == 1
