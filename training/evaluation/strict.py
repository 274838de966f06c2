r"""A strict score of final answers that knows LaTeX: equal values are right however they are written, others are wrong.

The final answer is what the model says it is: its last box; else what follows `####`; else what follows "answer is" in
the last line that says so; else a text of one line, which is the answer or has exactly one number. Boxes that only `,`,
`and` or `or` separates are one answer of several values.

Two answers are the same under these rules.

- Numbers are compared exactly: `8.5` is not 8, and 0.333 is not 1/3. `9{,}500`, `9,500`, `9500.0`, `9.5e3` and
  `19000/2` are one number. A decimal is equal to an irrational number if 12 decimals are.
- A percentage `p\%` is p, whether or not the expected answer has the sign. It is also p/100 if the expected answer is
  at most 1. So `50\%` is 50, and 0.5, and `5000\%` is not 50.
- Units, currencies and words around a value do not count (`\boxed{18\text{ dollars}}`), but two known units must not
  differ (`10\text{ cm}` is not `10\text{ m}`). The same holds for the base of a number, `1010_2`.
- `x = 5` is 5, and `36/2 = 18` is 18, but `17 = 18` is nothing. Between two assignments the names must agree.
- Tuples, intervals and matrices are compared by brackets and by element. `1, 2`, `1 or 2`, `\{2, 1\}` and
  `x = 1, x = 2` are one set, which is not the pair `(1, 2)`. `a \pm b` is two values. A set is never equal to one of
  its elements: an answer that lists several candidates is wrong.
- `1.5 million` is 1500000 and `2 dozen` is 24. Words such as `half` and `at least` make a number something else.
- Words are compared without case; `(C)` is `\text{C}`.
- Everything else is compared by math-verify.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from training.evaluation.math_worker import LIBRARIES, Comparison, compare
from training.evaluation.task import Answer, Item, Judgement, Scorer

Equal = Callable[[str, str], bool]
"""Are two LaTeX expressions equal? The expected one is first."""

MAX_ANSWER_CHARS = 1000
"""A longer final answer is not an answer."""
MAX_PROSE_CHARS = 300
"""Of a text of one line that is an answer as a whole."""


# The final answer of a text.

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_BETWEEN_BOXES = re.compile(r"(?:[\s$,;.&{}]|\\[()\[\],;! ]|\\q?quad|\\text|\\mbox|\\mathrm|and|or)*")
_STATED = re.compile(r"(?i)(?:\banswer(?:\s+(?:is|to\s[^.:?]{1,80}\sis))?\s*(?:is|:)|^\s*A:)\s*:?")
_QUALIFIER = re.compile(
    r"(?i)\b(?:not|no|never|neither|nor|except|without|(?:more|less|fewer|greater|other) than|at (?:least|most)|between"
    r"|or (?:more|less|fewer|so)|up to|under|almost|nearly|either|half|quarter|twice|thrice|double|triple)\b|n't\b"
)
"""Words that make a number something else."""
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_NUMBER_IN_PROSE = re.compile(
    r"(?<![\w.,])[-+−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:\s*/\s*\d+)?(?:\s*\\?%)?(?![\w/])"
)


_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SCALE = r"\s*(?:\\text\{\s*)?(hundred|thousand|million|billion|trillion|dozen)s?(?![A-Za-z])"
_AFTER_BOX = re.compile(rf"(?i)\$?(?:{_SCALE}|\s*\^\s*(?:\d|\{{\s*\d+\s*\}}))")
"""What follows a box and changes its value: a scale or a power."""


def final_answer(text: str) -> str | None:
    """What a text gives as its answer; None if it gives none."""
    answer = _find_final_answer(text)
    return answer if answer and len(answer) <= MAX_ANSWER_CHARS else None


def _prose(text: str) -> str:
    """The number of a sentence that has exactly one; the text itself if it is anything else."""
    text = _SCALED.sub(_multiplied, text)
    numbers = [match[0] for match in _NUMBER_IN_PROSE.finditer(text)]
    is_prose = len(re.findall(r"(?<!\w)[A-Za-z]{2,}", text)) > 1 and "\\" not in text
    return numbers[0] if is_prose and len(numbers) == 1 and not _QUALIFIER.search(text) else text


def _find_final_answer(text: str) -> str | None:
    boxes = list(_boxes(text))
    if boxes:
        return _joined(text, boxes)
    if "\\boxed" in text:
        return None  # not closed: the answer is cut off
    _, mark, rest = text.rpartition("####")
    if mark:
        return rest.strip().split("\n")[0].strip()
    for line in reversed(text.strip().split("\n")):
        stated = list(_STATED.finditer(line))
        if stated:
            return _first_sentence(line[stated[-1].end() :].strip())
    text = text.strip().replace("\\$", "$")
    if "\n" in text or len(text) > MAX_PROSE_CHARS:
        return None
    return _prose(text)


def _boxes(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and content of each closed box."""
    end = 0
    for match in _BOX.finditer(text):
        if match.start() < end:
            continue  # inside of another
        depth = 0
        for position in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                end = position + 1
                yield match.start(), end, text[match.end() + 1 : position].strip()
                break
        else:
            return


def _joined(text: str, boxes: Sequence[tuple[int, int, str]]) -> str | None:
    """The content of the last box, and of those before it from which only a separator separates it."""
    start, end, content = boxes[-1]
    if "\\boxed" in text[end:]:
        return None
    if match := _AFTER_BOX.match(text, end):
        return f"{content}{match[0].lstrip('$')}" + ("}" if "\\text" in match[0] else "")
    contents = [content]
    for previous_start, previous_end, content in reversed(boxes[:-1]):
        if not _BETWEEN_BOXES.fullmatch(text, previous_end, start):
            break
        contents.append(content)
        start = previous_start
    return ", ".join(reversed(dict.fromkeys(contents)))


def _first_sentence(text: str) -> str | None:
    """The first sentence of an answer. None if others with numbers follow, which may correct it."""
    match = _SENTENCE_END.search(text)
    if match is None:
        return text or None
    return None if re.search(r"\d", text[match.end() :]) else text[: match.start()].strip() or None


# The normal form of an answer.

_UNICODE = str.maketrans(
    {"−": "-", "–": "-", "×": "\\times ", "·": "\\cdot ", "÷": "\\div ", "π": "\\pi ", "∞": "\\infty ", "∪": "\\cup "}
    | {"≤": "\\le ", "≥": "\\ge ", "°": "^\\circ ", "±": "\\pm ", "≠": "\\ne ", "∈": "\\in ", "≈": "\\approx "}
    | {
        "€": "",
        "£": "",
        "¥": "",
        "₹": "",
        "\u00a0": " ",
        "\u202f": " ",
        "\u2009": " ",
        "“": "",
        "”": "",
        '"': "",
        "`": "",
    }
    | {"√": "\\sqrt ", "½": "\\frac{1}{2}", "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}", "²": "^2", "³": "^3"}
)
_REPLACED = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\\\(?=\s*(?:\[|$))", " "),
        (r"\\\$|\$|\\(?:pounds|euro|yen)(?![A-Za-z])", ""),
        (r"\\textdegree(?![A-Za-z])", r"^\\circ"),
        (r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset "),
        (r"(?<!\\)\\[()\[\]]", " "),
        (r"\*\*|__", ""),
        (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|phantom\{[^{}]*\})(?![A-Za-z])\.?", ""),
        (r"(?<!\\)\\!\s*", ""),
        (r"\{,\}", ","),
        (r"(?<!\\)\\[,;: ]|~|\\q?quad(?![A-Za-z])|\\(?:hspace|vspace|hskip)\*?\{[^{}]*\}", " "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\(?:textbf|mathbf|boldsymbol|bm|textit|emph|underline)\s*\{([^{}]*)\}", r"\1"),
        (r"\\(?:mathrm|textrm|mbox|textnormal|operatorname|hbox|textsf|rm)\s*\{", r"\\text{"),
        (r"\\(?:leq|leqslant)(?![A-Za-z])", r"\\le"),
        (r"\\(?:geq|geqslant)(?![A-Za-z])", r"\\ge"),
        (r"\\neq(?![A-Za-z])", r"\\ne"),
        (r"\\(?:lbrace|\{)", r"\\{"),
        (r"\\(?:rbrace|\})", r"\\}"),
        (r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree(?![A-Za-z])", r"\\text{ degrees}"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*(?=\{)", r"\\frac{\1}"),
        (r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
        (r"\\text\s*\{\s*(and|or)\s*\}", r" \1 "),
        (r"(?i)\(\s*(?:and )?(?:not|rather than|instead of)\s[^()]*\)", ""),
        (r"(?i)\b([ap])\.\s?m(?:\.|\b)", r"\1m"),
        (r"(?<![\w.])(\d{1,3})\\?_(\d{3})(?:\\?_(\d{3}))?(?:\\?_(\d{3}))?(?!\w)", r"\1\2\3\4"),
        (r"\s+", " "),
    )
)


def normal(answer: str) -> str:
    """LaTeX in one spelling: without delimiters, spacing commands, sizes and currency signs."""
    text = answer.translate(_UNICODE)
    for pattern, replacement in _REPLACED:
        text = pattern.sub(replacement, text)
    text = _SCALED.sub(_multiplied, text).strip().rstrip(".,;:").strip()
    # Braces around the whole.
    while text.startswith("{") and text.endswith("}") and _closing(text, 0) == len(text) - 1:
        text = text[1:-1].strip()
    # A whole that is text, or a sentence.
    if match := re.fullmatch(r"\\text\{([^{}]*\d[^{}]*)\}", text):
        text = match[1].strip()
    return _prose(text)


def _multiplied(match: re.Match[str]) -> str:
    """A number and the word that scales it, as one number in digits."""
    value = number(match[1])
    if value is None:
        return match[0]
    scale = match[2].lower()
    value *= 12 if scale == "dozen" else 10 ** _SCALES[scale]
    # What is left of `\\text{ million dollars}` is text again.
    return str(value) + ("\\text{" if "\\text" in match[0] and not match[0].endswith("}") else "")


def _closing(text: str, start: int) -> int:
    """The position of the bracket that closes the one at `start`; -1 if there is none. `(` and `]` may be a pair."""
    depth = 0
    for position in range(start, len(text)):
        if text[position] in "([{":
            depth += 1
        elif text[position] in ")]}":
            depth -= 1
            if depth == 0:
                return position
    return -1


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    """The parts of a text between separators that are outside of brackets and environments."""
    parts, start, depth, position = [], 0, 0, 0
    while position < len(text):
        if text.startswith("\\begin", position):
            depth += 1
        elif text.startswith("\\end", position) or text[position] in ")]}":
            depth -= 1
        elif text[position] in "([{":
            depth += 1
        elif depth == 0 and (match := separator.match(text, position)):
            parts.append(text[start : match.start()])
            position = start = match.end()
            continue
        position += 1
    return [part.strip() for part in (*parts, text[start:])]


# A value: a number, a word or an expression, with what is written around it.

_PLAIN = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)")
_SCALED = re.compile(rf"(?i)(?<![\w.,])((?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?){_SCALE}(?:\s*\}})?")
_SCIENTIFIC = re.compile(
    r"([-+]?(?:\d+\.?\d*|\.\d+))(?:[eE]([-+]?\d{1,3})|\s*\\(?:times|cdot)\s*10\s*\^\s*\{?\s*([-+]?\d{1,3})\s*\}?)"
)
_QUOTIENT = re.compile(r"([-+]?)\\frac\{\s*([^{}]+?)\s*\}\{\s*([^{}]+?)\s*\}|([-+]?[\d.]+)\s*/\s*([-+]?[\d.]+)")
_REPEATING = re.compile(r"([-+]?\d*)\.(\d*)\\overline\s*\{(\d+)\}")
_MIXED = re.compile(r"([-+]?)(\d+)\s*(?:\\frac\{(\d+)\}\{(\d+)\}|\s(\d+)/(\d+))")
_GROUPED = re.compile(r"[-+]?\d{1,3}(?:[, ]\d{3})+(?:\.\d+)?")
_MAX_DIGITS = 60


def number(text: str) -> Fraction | None:
    """The exact value of a decimal, a quotient or a mixed number; None for anything else."""
    text = text.strip()
    if len(text) > _MAX_DIGITS:
        return None
    if _GROUPED.fullmatch(text):
        text = re.sub("[, ]", "", text)
    if _PLAIN.fullmatch(text):
        return Fraction(text)
    if match := _REPEATING.fullmatch(text):
        return _repeating(match[1], match[2], match[3])
    if match := _SCIENTIFIC.fullmatch(text):
        return Fraction(match[1]) * Fraction(10) ** int(match[2] or match[3])
    if match := _MIXED.fullmatch(text):
        part = _divide(Fraction(match[3] or match[5]), Fraction(match[4] or match[6]))
        return None if part is None else (-1 if match[1] == "-" else 1) * (int(match[2]) + part)
    if match := _QUOTIENT.fullmatch(text):
        above, below = (number(part) if part else None for part in (match[2] or match[4], match[3] or match[5]))
        if above is None or below is None:
            return None
        value = _divide(above, below)
        return -value if value is not None and match[1] == "-" else value
    return None


def _repeating(before: str, once: str, repeated: str) -> Fraction:
    """The value of a decimal with digits that repeat: before.once, then `repeated` for ever."""
    whole = Fraction(f"{before or '0'}.{once or '0'}")
    part = Fraction(int(repeated), (10 ** len(repeated) - 1) * 10 ** len(once))
    return whole - part if before.startswith("-") else whole + part


def _divide(above: Fraction, below: Fraction) -> Fraction | None:
    return above / below if below else None


class _Value(NamedTuple):
    """core: the value without what surrounds it. unit: a known unit or base, else ""."""

    core: str
    percent: bool
    unit: str


_UNITS = {
    alias: unit
    for unit, aliases in {
        "cm": "cm centimeter centimetre",
        "mm": "mm millimeter millimetre",
        "m": "m meter metre",
        "km": "km kilometer kilometre",
        "in": "in inch inches",
        "ft": "ft foot feet",
        "yd": "yd yard",
        "mi": "mi mile",
        "s": "s sec second",
        "min": "min minute",
        "h": "h hr hour",
        "day": "day",
        "week": "week",
        "month": "month",
        "year": "year yr",
        "g": "g gram",
        "kg": "kg kilogram",
        "lb": "lb pound",
        "oz": "oz ounce",
        "ml": "ml milliliter millilitre",
        "l": "l liter litre",
        "degree": "degree deg",
        "radian": "radian rad",
        "cent": "cent",
        "dollar": "dollar",
        "am": "am",
        "pm": "pm",
    }.items()
    for alias in aliases.split()
}
_TEXT = r"\\text\{[^{}]*\}"
_TRAILING = re.compile(rf"(?s)(.*?[\w)}}\]!])\s*((?:{_TEXT}(?:\s*\^\s*\{{?\s*[23]\s*\}}?)?[\s./]*)+)")
_LEADING = re.compile(rf"(?s)((?:{_TEXT}\s*:?\s*)+)(.*\d.*)")
_PLAIN_WORDS = re.compile(
    r"(?s)(.*?(?:\d|[)}]|\\pi))\s*((?:[A-Za-z]{2,}|per|a)(?:[\s./]+[A-Za-z]+)*(?:\s*\^\s*\{?\s*[23]\s*\}?)?)"
)
_PERCENT = re.compile(
    r"(?is)(.*?)\s*(?:\\?%|\\text\{\s*(?:\\?%|percent|per cent|pct)\s*\}|\bper ?cent\b)\s*(?:\\text\{[^{}]*\})?"
)
_BASE = re.compile(r"(?s)([0-9A-Fa-f]+)\s*_\s*\{?\s*(?:\\text\{)?\s*(\d+|two|three|eight|ten|sixteen)\s*\}*")


def _value(text: str) -> _Value:
    unit, percent = "", False
    if match := _PERCENT.fullmatch(text):
        text, percent = match[1], True
    if _QUALIFIER.search(text):
        return _Value(text, percent, "")
    if match := _LEADING.fullmatch(text):
        text = match[2]
    match = _TRAILING.fullmatch(text)
    if match is None and not _words(text):
        match = _PLAIN_WORDS.fullmatch(text)
    if match and not _words(text):
        text, unit = match[1], _unit(match[2])
    if match := _BASE.fullmatch(text.strip()):
        text, unit = match[1], f"base {match[2]}"
    return _Value(text.strip(), percent, unit)


def _unit(text: str) -> str:
    words = re.findall(r"[A-Za-z]+|\^\s*\{?\s*[23]", text.replace("\\text", ""))
    if not words:
        return ""
    name = words[0].lower()
    known = _UNITS.get(name) or _UNITS.get(name.removesuffix("s"))
    return known if known and len(words) == 1 else ""


_COMMANDS = re.compile(r"\\text\{([^{}]*)\}")
_WORDS = re.compile(r"\(?[A-Za-z][A-Za-z' -]*\)?\.?")


def _words(text: str) -> str | None:
    """The words of a text that is only words, in one spelling; None for any other. A single letter keeps its case."""
    plain = _COMMANDS.sub(r" \1 ", text).strip()
    if not _WORDS.fullmatch(plain):
        return None
    plain = " ".join(plain.strip("().").split())
    return plain if len(plain) == 1 else plain.casefold()


# Comparison.

_LIST = re.compile(r"\s*[,;]\s*(?:and|or)?(?![A-Za-z])\s*|\s+(?:and|or)\s+")
_COMMA = re.compile(r"\s*[,;]\s*")
_UNION = re.compile(r"\s*(?:\\cup(?![A-Za-z])|(?<![A-Za-z])U(?![A-Za-z]))\s*")
_EQUALS = re.compile(r"(?<![<>!\\])=(?!=)")
_APPROXIMATELY = re.compile(r"\\(?:approx|simeq)(?![A-Za-z])")
_RELATION = re.compile(r"<|>|\\l[et](?![A-Za-z])|\\g[et](?![A-Za-z])|\\ne(?![A-Za-z])")
_MEMBER = re.compile(r"[A-Za-z](?:_\{?\w+\}?)?\s*\\in(?![A-Za-z])\s*")
_NAME = re.compile(
    r"(?:\\text\{[^{}]*\}|\\?[A-Za-z]+(?:_\{?\w+\}?)?'*)(?:\s*\([\w\s,]*\))?"
    r"|m?\s*\\angle\s*\w+|\|\s*[A-Z]{1,3}\s*\||\\overline\s*\{\s*[A-Z]+\s*\}|\(\s*[A-Za-z](?:\s*,\s*[A-Za-z])+\s*\)"
)
_MATRIX = re.compile(
    r"[(\[]?\s*\\begin\{([pbv]?)(?:small)?(?:matrix|array)\}(?:\{[^{}]*\})?(.*)"
    r"\\end\{[pbv]?(?:small)?(?:matrix|array)\}\s*[)\]]?",
    re.DOTALL,
)
_ADJACENT_NUMBERS = re.compile(r"\d\s+[\d.]")
_MAX_ELEMENTS = 64


def same(gold: str, answer: str, equal: Equal) -> bool:
    """Are two final answers the same? equal: compares expressions.

    The first is the expected one: it decides how a comma or a percent sign in the other is read.
    """
    return any(_same(g, a, equal) for g in _readings(normal(gold)) for a in _readings(normal(answer)))


def _readings(text: str) -> tuple[str, ...]:
    """A number with separated thousands may also be a list."""
    value = _value(text)
    if _GROUPED.fullmatch(value.core):
        return text.replace(value.core, re.sub("[, ]", "", value.core)), text
    return (text,)


def _same(gold: str, answer: str, equal: Equal) -> bool:
    if _compact(gold) == _compact(answer) and gold:
        return True
    gold, answer = (_MEMBER.sub("", text, count=1) if _MEMBER.match(text) else text for text in (gold, answer))
    sides = [[text] if _set(text) else _sides(text) for text in (gold, answer)]
    if any(len(parts) > 1 for parts in sides):
        return _same_equation(gold, answer, sides[0], sides[1], equal)
    (gold,), (answer,) = sides
    for elements in (_set, _sequence, _union, _matrix):
        left, right = elements(gold), elements(answer)
        if left is not None and right is not None:
            return _same_elements(left, right, elements in (_sequence, _matrix), equal)
        if left is not None or right is not None:
            return _same_kind(gold, answer, equal)
    return _same_single(_value(gold), _value(answer), gold, answer, equal)


def _compact(text: str) -> str:
    text = re.sub(r"(?<=[\d.])\s+(?=[\d.])", "_", _COMMANDS.sub(r"\1", text).strip())
    return re.sub(r"\s", "", text).rstrip(".")


def _same_kind(gold: str, answer: str, equal: Equal) -> bool:
    """Two spellings of a thing of several values: an interval and an inequality, a pair and its named values."""
    values = _set(answer) or []
    if parts := _union(gold):
        return all(_RELATION.search(value) for value in values) and _same_elements(parts, values, False, equal)
    if parts := _sequence(gold):
        named = [_split(value, _EQUALS) for value in values]
        names = {name for name, *_ in named}
        if values and all(len(sides) == 2 and _NAME.fullmatch(sides[0]) for sides in named):
            return len(names) == len(named) and _same_elements(parts[1:-1], [side for _, side in named], True, equal)
    relations = [bool(_RELATION.search(text)) and not _set(text) for text in (gold, answer)]
    return relations[0] != relations[1] and equal(gold, answer)


def _set(text: str) -> list[str] | None:
    """The elements of a set, a list or a double sign; None for a single value."""
    if text.startswith("\\{") and text.endswith("\\}") and _closing(text, 1) == len(text) - 1:
        return list(dict.fromkeys(_split(text[2:-2].strip(), _COMMA)))
    parts = _split(text, _LIST)
    if len(parts) == 1 and "\\pm" not in text:
        return None
    values: list[str] = []
    for part in parts:
        signs = (("+", "-"), ("-", "+")) if "\\pm" in part else (("", ""),)
        values += [part.replace("\\pm", plus).replace("\\mp", minus).strip() for plus, minus in signs]
    # x = 1, 2 is x = 1, x = 2
    name, *rest = _split(values[0], _EQUALS)
    if len(rest) == 1 and _NAME.fullmatch(name) and not any(_EQUALS.search(value) for value in values[1:]):
        values[0] = rest[0]
    return values


def _sequence(text: str) -> list[str] | None:
    """The brackets and elements of a tuple or an interval."""
    if not text or text[0] not in "([" or text[-1] not in ")]" or _closing(text, 0) != len(text) - 1:
        return None
    parts = _split(text[1:-1], _COMMA)
    return None if len(parts) == 1 else [text[0], *parts, text[-1]]


def _union(text: str) -> list[str] | None:
    parts = _split(text, _UNION)
    return None if len(parts) == 1 or not all(part[:1] in "([\\" for part in parts) else parts


def _matrix(text: str) -> list[str] | None:
    """The kind and the elements of a matrix, with its rows separated."""
    match = _MATRIX.fullmatch(text)
    if match is None:
        return None
    rows = [row for row in re.split(r"\\\\", match[2]) if row.strip()]
    elements = [part.strip() for row in rows for part in ("|", *row.split("&"))]
    return ["determinant" if match[1] == "v" else "matrix", *elements]


def _same_elements(gold: Sequence[str], answer: Sequence[str], ordered: bool, equal: Equal) -> bool:
    if len(gold) != len(answer) or len(gold) > _MAX_ELEMENTS:
        return False
    if ordered:
        return all(_same_element(g, a, equal) for g, a in zip(gold, answer, strict=True))
    rest = list(answer)
    for element in gold:
        match = next((one for one in rest if _same_element(element, one, equal)), None)
        if match is None:
            return False
        rest.remove(match)
    return True


def _same_element(gold: str, answer: str, equal: Equal) -> bool:
    if not gold or not answer or gold in "()[]|":
        return gold == answer
    return _same(gold, answer, equal)


def _same_equation(
    gold: str, answer: str, gold_sides: Sequence[str], answer_sides: Sequence[str], equal: Equal
) -> bool:
    """Are they the same if at least one is an equation?"""
    if len(gold_sides) > 1 and len(answer_sides) > 1:
        if _NAME.fullmatch(gold_sides[0]) and _NAME.fullmatch(answer_sides[0]):
            is_same_name = _compact(gold_sides[0]) == _compact(answer_sides[0])
            return is_same_name and _same(gold_sides[-1], answer_sides[-1], equal)
        return equal(gold, answer)
    if len(answer_sides) > 1:
        return _is_result(answer_sides, equal) and _same(gold, answer_sides[-1], equal)
    return bool(_NAME.fullmatch(gold_sides[0])) and _same(gold_sides[-1], answer, equal)


def _sides(text: str) -> list[str]:
    """The sides of an equation. Of an approximation, the exact side counts."""
    exact = _split(text, _APPROXIMATELY)
    if len(exact) > 1:
        text = exact[0] if exact[0] and not _NAME.fullmatch(exact[0]) else exact[-1]
    sides = _split(text, _EQUALS)
    is_reversed = len(sides) == 2 and _NAME.fullmatch(sides[1]) and not _NAME.fullmatch(sides[0])
    return sides[::-1] if is_reversed else sides


def _is_result(sides: Sequence[str], equal: Equal) -> bool:
    """Is the last side a result: of names and of terms that are equal to it?"""
    *terms, result = sides
    return all(
        _NAME.fullmatch(term) or _same_single(_value(result), _value(term), result, term, equal) for term in terms
    )


def _same_single(gold: _Value, answer: _Value, gold_text: str, answer_text: str, equal: Equal) -> bool:
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return False
    words = [_words(text) for text in (gold_text, answer_text)]
    if words[0] is not None or words[1] is not None:
        return words[0] == words[1]
    values = number(gold.core), number(answer.core)
    if gold.unit.startswith("base") or answer.unit.startswith("base"):
        return _compact(gold.core).casefold() == _compact(answer.core).casefold()
    if values[0] is not None and values[1] is not None:
        return values[0] in _meanings(values[1], answer.percent and not gold.percent, values[0]) or (
            gold.percent and not answer.percent and values[0] / 100 == values[1]
        )
    parts = [_split(value.core, re.compile(":")) for value in (gold, answer)]
    if len(parts[0]) > 1 or len(parts[1]) > 1:
        return _same_elements(parts[0], parts[1], True, equal)
    if _ADJACENT_NUMBERS.search(answer.core) or not answer.core or not gold.core:
        return False
    return equal(gold.core, answer.core)


def _meanings(value: Fraction, is_percentage: bool, gold: Fraction) -> tuple[Fraction, ...]:
    return (value, value / 100) if is_percentage and abs(gold) <= 1 else (value,)


def canonical(answer: str) -> str:
    """A final answer in one spelling, by which votes for it are counted. Numbers are exact quotients."""
    text = normal(answer)
    value = _value(text)
    exact = number(value.core)
    if exact is not None and not value.unit.startswith("base"):
        return f"{exact}%" if value.percent else str(exact)
    return _words(text) or _compact(text)


# The scorer.


def strict_scorer(gold: Callable[[Item], str] = lambda item: str(item["answer"])) -> Scorer:
    """The scorer `strict`. gold: of an item, its expected answer in LaTeX."""
    return Scorer("strict", 2, functools.partial(_judge, gold), LIBRARIES)


def _judge(gold: Callable[[Item], str], answers: Sequence[Answer], items: Sequence[Item]) -> list[Judgement]:
    finals = [final_answer(answer.text) for answer in answers]
    comparisons = [
        Comparison("strict", gold(item), final) for item, final in zip(items, finals, strict=True) if final is not None
    ]
    results = iter(compare(comparisons))
    return [
        Judgement(0.0, False) if final is None else Judgement(float(next(results)), True, final) for final in finals
    ]
