"""Text to the tokens of equations: numbers, operators, brackets, words; markup that is no arithmetic is blank."""

from __future__ import annotations

import re
from typing import NamedTuple


class Token(NamedTuple):
    """A part of a text, text[start:end]. kind: the name of its group in `_TOKEN`, or what a word stands for."""

    kind: str
    text: str
    start: int
    end: int


class Unreadable(Exception):
    """The side is no arithmetic."""


_TEXT_OF = re.compile(r"\\\w+\{\s*of\s*\}")
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
GLYPHS = {"½": (1, 2), "¼": (1, 4), "¾": (3, 4), "⅓": (1, 3), "⅔": (2, 3), "⅛": (1, 8)}
SKIPPED = " \t$£€&~\\\u00a0\u202f"
SIZED = re.compile(r"\\(?:left|right|bigl?|bigr?|Bigl?|Bigr?|displaystyle)(?![a-zA-Z])")
OPERATORS = frozenset({"times", "over", "power", "star", "plus", "minus", "of"})
_WORD_OPERATORS = {"times": "times", "plus": "plus", "minus": "minus", "x": "times", "X": "times"}
OPERAND_START = frozenset({"number", "glyph", "open", "frac", "binom", "sqrt", "brace", "boxed"})
OPERAND_END = frozenset({"number", "glyph", "close", "unbrace", "percent", "bang", "square", "cube", "unit"})


def word_set(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\S+", text))


SHORT_UNITS = word_set(
    "cm mm km kg mg ml lb lbs ft in mph hr hrs min mins sec secs oz yd yds g m s h L l kWh GB MB pm am kph yrs"
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
SAID = "＝"
"""What `equals` is read as: a sign of its own, because its left side may be of what was said before."""
_EQUALS = re.compile(r"(?<=[\w)}%!²³°£€$] )(?:equals|(?:is|are) equal to)(?= *\\?[\d(\\$£€.{√½¼¾⅓⅔−-])")


def blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def without_markup(text: str) -> str:
    """The text with the same length, in which markup that is no arithmetic is blank, and `equals` is a sign."""
    if "`" in text or "~~~" in text:
        text = _FENCE.sub(lambda match: "\n" * len(match[0]), text)
        # No side begins after a span. Two apostrophes end a quotation of LaTeX, which begins with two backticks.
        text = _SPAN.sub(lambda match: match[0] if "''" in match[0] else "#" * len(match[0]), text)
    if "~~" in text or "</" in text:
        text = _STRUCK.sub(blank, text)
    if "\\" in text:
        text = _INLINE.sub("  ", _DISPLAY.sub("$$", text))
    if "*" in text or "`" in text or "__" in text:
        for _ in range(2):  # one kind of emphasis inside another
            text = _EMPHASIS.sub(lambda m: f"{' ' * len(m['mark'])}{m['inside']}{' ' * len(m['mark'])}", text)
    if "</" in text or "<br" in text:
        text = _FONTS.sub(blank, _CELLS.sub(lambda match: "\n" * len(match[0]), text))
    if "|" in text:
        text = _ROW.sub(lambda match: match[0].replace("|", "\n"), text)
    if ">" in text:
        text = _QUOTE.sub(blank, text)
    text = _ITEM.sub(blank, text)
    text = _BULLETS.sub(lambda match: _BULLET.sub(blank, match[0]), text)
    if "equal" in text:
        text = _EQUALS.sub(lambda match: f"{SAID}{' ' * (len(match[0]) - 1)}", text)
    return text


def tokenize(text: str, start: int, end: int) -> list[Token]:
    tokens = [
        Token(match.lastgroup or "", match[0], match.start(), match.end())
        for match in _TOKEN.finditer(text, start, end)
        if match.lastgroup != "skip"
    ]
    kept: list[Token] = []
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
            operand = following.kind in OPERAND_START or (following.kind == "minus" and spaced)
            named = before is not None and before.kind == "word" and len(before.text) > 1 and token.text != "times"
            if token.text in "xX" and not spaced and following.kind in ("sqrt", "frac", "binom"):
                operator = None  # 2x\sqrt{3}
            if operator and operand and before is not None and (before.kind in OPERAND_END or named):
                token = token._replace(kind=operator)
            elif token.text == "of" and following.kind in ("number", "glyph", "frac") and before is not None:
                fraction = len(kept) > 2 and kept[-2].kind == "over" and before.kind == "number"
                if before.kind == "percent" or fraction:
                    token = token._replace(kind="of")
        elif token.kind == "power" and token.text == "**":
            operand = following is not None and following.kind in OPERAND_START | {"minus"}
            if not (operand and before is not None and before.kind in OPERAND_END):
                token = token._replace(kind="other")
        kept.append(token)
    return kept


WORK = frozenset(
    {"times", "over", "power", "star", "plus", "minus", "of", "frac", "binom", "sqrt", "bang", "square", "cube"}
)


def unit_name(token: Token) -> str:
    """`km` of `km` and of `\\text{ km}^2`."""
    return re.sub(r"\\[a-z]+\{|[{}^\s\d]", "", token.text)


UNITS = ("word", "unit")
LITERAL = frozenset({"number", "glyph", "frac", "brace", "unbrace", "over", "word", "unit"})
"""Tokens of a number, which may have a unit: whole, decimal, a fraction or mixed."""
