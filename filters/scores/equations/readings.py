"""What else an equation that does not hold may mean: a conversion, a remainder, a list, a price, a hedge, a share."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction

from filters.scores.equations.tokens import (
    LITERAL,
    OPERAND_END,
    OPERAND_START,
    OPERATORS,
    SAID,
    UNITS,
    WORK,
    Token,
    Unreadable,
    unit_name,
    word_set,
)
from filters.scores.equations.values import APPROXIMATE, HUNDREDTH, MAX_DIGITS, PERCENT, SHARE, Side, compare

_RATIO_BEFORE, _RATIO_AFTER = re.compile(r"\d\s*:\s*$"), re.compile(r"\s*:\s*\d")


def may_mean_otherwise(
    text: str, tokens: list[Token], first: int, at: int, last: int, value: Fraction, result: Fraction
) -> bool:
    """Whether an equation that does not hold as written may mean something that does, or is not said to hold.

    tokens[first:at] and tokens[at + 1 : last] are its sides, with the values `value` and `result`.
    """
    left, right, following = tokens[first:at], tokens[at + 1 : last], tokens[last : last + 6]
    before, after = text[max(0, left[0].start - 80) : left[0].start], text[right[-1].end : right[-1].end + 50]
    shown, answer = text[left[0].start : left[-1].end], text[right[0].start : right[-1].end]
    earlier = tokens[first - 1].kind if first else ""
    percent = any(token.kind == "percent" for token in (*left, *right))
    return bool(
        # Not all of a side.
        (_RATIO_BEFORE.search(before[-12:]) and _RATIO_AFTER.match(after))  # 1 : 2/5 = 5 : 2
        or (tokens[at].text == SAID and not _is_said_of(left, value))
        or before.endswith("~")
        or (earlier == "minus" and _may_be_sign(tokens, first - 1))
        or (earlier == "open" and first > 1 and tokens[first - 2].kind in OPERATORS)  # 100 + (100 * 10/100 = 110
        or _is_part_of_words(tokens, first, left)
        or _is_list(tokens, first, at, last)
        or _goes_on(following)
        # Not a sum of numbers.
        or any(_CLOCK_TIME.fullmatch(token.text) for token in (*left, *right))
        or (value < 0 < result and _PHONE.fullmatch(shown))
        or _is_range(left, result)
        or _is_exchange(text, left, right, following)
        or _is_share_name(text, left, right, following, value, result)
        # Another operation, base or unit.
        or _is_own_operator(text, left)
        or _is_modular(text, value, result)
        or _BASE.search(before)
        or _BASE.search(after)
        or _converts(left, right, following, value, result)
        or (percent and _mixes_percent(left, right, following))
        # Another way to write the result.
        or _is_glued(answer, value)
        or (_FLOORED.search(text) and result == value // 1)
        or (_REMAINDER_BEFORE.search(before) and _is_remainder(left, result))
        or (_LEFT_OVER.match(after) and any(token.kind in ("over", "frac") for token in left))
        or _AFTER.match(after)
        or (_OF_THEM.match(after) and not _is_sum_or_product(left))
        # Not said to hold.
        or _NOT_SAID_BEFORE.search(before)
        or _NOT_SAID_AFTER.match(after)
    )


def is_share_of(value: Fraction, share: list[Token]) -> bool:
    """Whether a number is the share before an `of`: `3/3 - 2/3 = 1/3 of $150`."""
    return _value(share) == value


def _value(side: list[Token]) -> Fraction | None:
    """The value of a side, None if it has none."""
    try:
        return Side(side, HUNDREDTH, True, False).value()
    except Unreadable:
        return None


def has_bar(side: list[Token]) -> bool:
    """Whether a side may be a fraction whose denominator is all that follows the slash: `13*12*11/3*2*1`."""
    kinds = [token.kind for token in side]
    return "over" in kinds and bool({"times", "star", "open", "bang"} & set(kinds))


def _is_list(tokens: list[Token], first: int, at: int, last: int) -> bool:
    """Whether the sides tokens[first:at] and tokens[at + 1 : last] are elements of lists: `2/6, 2/8 = 1/3, 1/4`.

    An element is a number, or on the left a sum in brackets.
    """
    left, right = tokens[first:at], tokens[at + 1 : last]
    bracket = left[0].kind == "open" and left[-1].kind == "close"
    if _is_sum_or_product(right[1:]) or (_is_sum_or_product(left) and not bracket):
        return False
    if first < 2 or last + 1 >= len(tokens) or (tokens[first - 1].text, tokens[last].text) != (",", ","):
        return False
    if tokens[last + 1].kind not in OPERAND_START | {"minus"}:
        return False
    i = first - 2
    while i > 0 and tokens[i].kind in OPERAND_START | OPERAND_END | {"over", "minus"}:
        i -= 1
    return i < first - 2 and tokens[i].kind != "equals"


def _is_part_of_words(tokens: list[Token], first: int, left: list[Token]) -> bool:
    """Whether a side in brackets explains the last term of a sum in words: `pens (5 x $2) + books (2 x $10) = $30`."""
    if left[0].kind != "open" or left[-1].kind != "close" or not first or tokens[first - 1].kind != "word":
        return False
    line = itertools.takewhile(lambda token: token.kind not in ("line", "equals"), reversed(tokens[: first - 1]))
    return any(token.kind in ("plus", "minus", "times", "star") for token in line)


_PRICED = word_set("point pt leg wheel day hour credit calorie cent dollar dime eye head amu")
"""What unlike things may be worth together: `2 wins + 1 draw = 7 points`."""


def _is_exchange(text: str, left: list[Token], right: list[Token], after: list[Token]) -> bool:
    """Whether a sum of unlike things is said to have a price or a worth: `1 pie + 2 tarts = $2.10`."""
    names = {_singular(unit_name(token)) for token in left if token.kind in UNITS}
    if len(names) < 2 or not any(token.kind in ("plus", "minus") for token in left[1:]):
        return False
    priced = any(sign in text[left[-1].end : right[-1].end] for sign in "$£€")
    shown = text[left[0].start : left[-1].end]
    return (priced and not any(sign in shown for sign in "$£€")) or any(
        token.kind in UNITS and _singular(unit_name(token)) in _PRICED - names for token in (*right, *after[:1])
    )


def _is_range(left: list[Token], result: Fraction) -> bool:
    """Whether a side may be, or begin with, a range: `18-24 = 12%`. Differences of a larger number are negative."""
    if [token.kind for token in left[:3]] != ["number", "minus", "number"] or result < 0:
        return False
    low, high = _value(left[:1]), _value(left[2:3])
    touching = left[0].end == left[1].start and left[1].end == left[2].start
    return touching and low is not None and high is not None and low < high


def _is_share_name(
    text: str, left: list[Token], right: list[Token], after: list[Token], value: Fraction, result: Fraction
) -> bool:
    """Whether a fraction may name the share that an amount is: `3/5 = 30 students`, `4/4 = 4 beats`."""
    amount = any(token.kind in UNITS for token in (*left[1:], *right, *after[:1]))
    amount |= "$" in text[left[-1].end : right[-1].end]
    return amount and 0 < value <= 1 <= result and all(token.kind in LITERAL for token in left)


def _is_own_operator(text: str, left: list[Token]) -> bool:
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


def _is_remainder(left: list[Token], result: Fraction) -> bool:
    """Whether a result is the remainder of a division: `380/3 = 2`."""
    if [token.kind for token in left] != ["number", "over", "number"]:
        return False
    top, bottom = _value(left[:1]), _value(left[2:])
    return top is not None and bottom is not None and bottom != 0 and top % bottom == result


def is_near(value: Fraction, result: Fraction) -> bool:
    """Whether one number may be the other rounded."""
    difference = abs(value - result)
    return difference < 1 or difference <= APPROXIMATE * abs(value)


_DOTTED = re.compile(r"\d{1,3}(?:\.\d{3})+")


def is_dotted(left: list[Token], right: list[Token]) -> bool:
    """Whether dots may separate thousands: each number with a dot has groups of three digits, `1.250 + 50 = 1.300`."""
    with_dot = [token.text for token in (*left, *right) if token.kind == "number" and "." in token.text]
    return bool(with_dot) and all(_DOTTED.fullmatch(number) for number in with_dot)


def _is_sum_or_product(side: list[Token]) -> bool:
    return any(token.kind in ("plus", "minus", "times", "star") for token in side)


def _is_said_of(left: list[Token], value: Fraction) -> bool:
    """Whether `equals` after a side speaks of this side: not where `3/4` may be the share, and `16!` the number, of
    what was said before, nor where it is not clear in which order words (`5 plus 4 times 2`) are computed."""
    if not any(token.kind in WORK for token in left):
        return True
    operators = {token.kind for token in left if token.kind in OPERATORS}
    spoken = {token.kind for token in left if token.text in ("times", "plus", "minus")}
    if operators == {"over"}:  # 12 / 4 is no share
        return value > 1 and value.denominator == 1 and not any(a.end == b.start for a, b in itertools.pairwise(left))
    return bool(operators & {"plus", "minus", "times", "star"}) and not (len(operators) > 1 and spoken)


def _may_be_sign(tokens: list[Token], i: int) -> bool:
    """Whether the minus tokens[i] at the start of a line may be none of a list: the line before ends with a number."""
    before = [token for token in tokens[:i] if token.kind != "line"]
    return i > 0 and tokens[i - 1].kind == "line" and bool(before) and before[-1].kind in OPERAND_END


def is_product(side: list[Token]) -> bool:
    """Whether a side is a product without a sign: `(2)(3)`."""
    return sum(token.kind == "number" for token in side) > 1


_CONVERTED = re.compile(
    r"(?i)^(?:dozens?|hours?|hrs?|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?|yrs?|decades?|foot|feet|ft|inch"
    r"|inches|in|yards?|yds?|miles?|meters?|metres?|m|cm|mm|km|centimeters?|kilometers?|kg|mg|g|grams?|kilograms?|pounds?|lbs?"
    r"|ounces?|oz|tons?|gallons?|quarts?|pints?|cups?|liters?|litres?|l|ml|milliliters?|cents?|dollars?|pennies|penny|nickels?"
    r"|dimes?|quarters?|pairs?|scores?|h|s|thousand|thousands|hundred|hundreds|million|millions|billion|billions|k|degrees?"
    r"|teaspoons?|tablespoons?|am|pm|half|halves|thirds?|sets?|packs?|boxes|box|mph|kph|ppm|rows?|teams?)$"
)
"""Units that a text may convert."""


def _converts(left: list[Token], right: list[Token], after: list[Token], value: Fraction, result: Fraction) -> bool:
    """Whether a side that does not equal the other has a unit that may be converted.

    Nothing is converted where all numbers of a sum, and the result, have the same unit (`5 km + 3 km = 16 km`). Where
    only the result has a unit (`24 + 18 = 32 minutes`), the sides of a conversion have the ratio of two units.
    """
    behind = _units_after(after)
    shown = (left, [*right, *behind])
    named = [frozenset(re.sub(r"\W|s\b", "", t.text) for t in side if t.kind == "unit") for side in shown]
    if len(named[0]) > 1 or (named[0] and named[1] and named[0] != named[1]):
        return True
    texts = [[unit_name(token) for token in side if token.kind in UNITS] for side in shown]
    ours, results = ([unit for unit in side if _CONVERTED.match(unit) or "°" in unit] for side in texts)
    if not ours and not results:
        return False
    kinds = {_singular(unit) for unit in (*ours, *results)}
    if len(kinds) > 1 or not results or any(_CLOCK.match(unit) for unit in kinds):
        return True
    is_sum = any(token.kind in ("plus", "minus") for token in left[1:])
    exponents = sum(a.kind == "power" and b.kind == "number" for a, b in itertools.pairwise(left))
    is_same = is_sum and len(ours) == sum(token.kind == "number" for token in left) - exponents
    if not is_same and may_convert(value, result):
        return True
    if _has_remainder(after[len(behind) :], kinds):
        return True
    if any(len(unit) == 1 for unit in ours) or (len(results[0]) == 1 and _touches(right, behind)):
        return True  # an unknown: 5s^2 = 16s
    if ours:
        return is_sum and not is_same
    grouped = any(_GROUP.match(unit) for unit in kinds) and not (is_sum and value < 2 * result and result < 2 * value)
    return grouped or result.denominator > value.denominator


def _has_remainder(after: list[Token], kinds: set[str]) -> bool:
    """Whether a result goes on in a smaller unit: `60 + 15 = 1 hour 15 minutes`, `2 feet, with 7 inches left`.

    after: the tokens behind its unit. Only those of the same sentence are read. kinds: the units of the equation.
    """
    sentence = itertools.takewhile(lambda token: token.kind not in ("line", "bang") and token.text not in ".?", after)
    rest = [token for token in sentence if token.text not in (",", "and")]
    if rest and rest[0].kind in ("number", "glyph"):
        return True
    return any(
        number.kind == "number" and _CONVERTED.match(name) and _singular(name) not in kinds
        for number, name in ((number, unit_name(unit)) for number, unit in itertools.pairwise(rest))
    )


def _singular(unit: str) -> str:
    return unit.lower().removesuffix("s")


def _touches(right: list[Token], behind: list[Token]) -> bool:
    return not behind or behind[0].start == right[-1].end


_CLOCK = re.compile(r"am|pm|o['’]clock|.*°|degree|\\circ")
_GROUP = re.compile(
    r"(?:pair|score|set|pack|box|boxe|row|team|half|halve|third|quarter|dozen|cup|k|thousand|hundred|million|billion)$"
)
"""Units of which a text may say how many of another they are."""
_RATIOS = (2.54, 30.48, 1.609, 2.205, 3.785, 28.35, 3.281, 22 / 15, 3.6, 52 / 12, 30.4)
"""Ratios of units that are no whole numbers."""


def may_convert(value: Fraction, result: Fraction) -> bool:
    """Whether the ratio of two values may be that of two units: whole, or one of _RATIOS."""
    if not value or not result:
        return True
    ratio = max(abs(value / result), abs(result / value))
    whole = round(ratio)
    return (whole > 1 and abs(ratio - whole) <= ratio / 500) or any(abs(float(ratio) / r - 1) < 0.01 for r in _RATIOS)


def _units_after(after: list[Token]) -> list[Token]:
    """The words after a result that may be its unit: at most two, none from a preposition or article on.

    `in` is inches at the end of a phrase only: not in `32 in total`.
    """
    units: list[Token] = []
    for token, following in itertools.zip_longest(after[:2], after[1:3]):
        if token is None or token.kind not in UNITS:
            break
        if token.text in ("in", "a"):
            if token.text == "in" and (following is None or following.kind != "word"):
                units.append(token)
            break
        if token.text in ("per", "each", "every", "an", "for", "on", "at", "by"):
            break
        units.append(token)
    return units


def percent_readings(left: list[Token], right: list[Token]) -> tuple[str, ...]:
    """How `%` may be read. It is a unit if the result has it, or all numbers of the other side do."""
    kinds = [token.kind for token in left]
    if right[-1].kind == "percent" or kinds.count("percent") == kinds.count("number"):
        return PERCENT
    return HUNDREDTH, SHARE


def _mixes_percent(left: list[Token], right: list[Token], after: list[Token]) -> bool:
    """Whether it is not clear of what a per cent is a share: `20% of 80 + 10`, `20% = 80 + 30`, `20 = 20% more`."""
    for side in (left, right):
        kinds = [token.kind for token in side]
        sums = "plus" in kinds[1:] or "minus" in kinds[1:]
        shares, terms = kinds.count("percent"), 1 + sum(kind in ("plus", "minus") for kind in kinds[1:])
        if sums and ("of" in kinds or (shares > 1 and shares != terms) or (shares == 1 and terms > 2)):
            return True
        if any(a == "percent" and b in ("word", "unit", "open", "close") for a, b in itertools.pairwise(kinds)):
            return True
    if left[-1].kind == "percent" and not any(token.kind in WORK for token in left):
        return True
    if len(left) == 1 and any(token.kind == "percent" for token in right) and any(t.kind == "plus" for t in right):
        return True  # 48 = 100% + 20%
    return right[-1].kind == "percent" and bool(after) and after[0].text.lower() in _CHANGES


_CHANGES = word_set(
    "off more less higher lower larger smaller greater bigger better worse faster slower cheaper increase decrease "
    "discount reduction rise gain growth loss profit change drop raise markup interest tax"
)
"""Words after a per cent that is a change: `60 / 50 = 20% more`."""


def nearly(value: Fraction, result: Fraction, one: Side, other: Side, approximate: bool) -> bool:
    """Whether sides with per cent differ by a factor of 100, or by rounding to a whole number: `15% of 37 = 6`."""
    if compare(100 * value, result, one, other, approximate) or compare(value, 100 * result, one, other, approximate):
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


def runs_on(one: Side, value: Fraction, right: list[Token]) -> bool:
    """Whether the next calculation begins with the result of this one: `70 + 50 = 120 * 5/18`, `10/3 = 3.33 + 2`."""
    if not any(token.kind in WORK for token in right):
        return False
    for i, token in enumerate(right):
        if token.kind in WORK and token.kind != "frac" and i:
            start = Side(right[:i], one.percent, True, False)
            try:
                result = start.value()
                if value == result or (start.decimals and compare(value, result, one, start, False)):
                    return True
            except Unreadable:
                pass
        if token.kind not in LITERAL:
            return False
    return False


def _goes_on(after: list[Token]) -> bool:
    """Whether a side goes on in the next line."""
    rest = [token.kind for token in after[:6] if token.kind not in ("line", "gap")]
    return bool(rest) and len(rest) < len(after[:6]) and after[0].kind in ("line", "gap") and rest[0] in OPERATORS
