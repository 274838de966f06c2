"""The exact values of sides, and whether two are equal or one is the other rounded."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from filters.scores.equations.tokens import GLYPHS, OPERAND_START, OPERATORS, WORK, Token, Unreadable

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
"""Difference below which sides with such roots are equal, relative to them if they are above 1."""
ROUNDED_ROOT = Fraction(1, 100)
"""Relative error of a result that may have been computed with a rounded root."""
ROUNDED_SUM = Fraction(1, 1000)
"""Relative error of a sum of rounded numbers."""
HUNDREDTH, _UNIT, SHARE = PERCENT = ("hundredth", "unit", "share")
_SCIENTIFIC = re.compile(r"[-−–]?\d\.?\d*(?:\\times|\\cdot|[x×·*])10(?:\*\*|\^)\{?([-−–]?\d{1,2})\}?")


class Side:
    """One side: a recursive-descent reader of its tokens.

    percent: whether `%` is a hundredth, a unit, or where it is added, a share of the sum before it. mixed: whether
    `1 1/2` is a sum, or a product. dots: whether dots separate thousands. bar: whether the denominator of a slash that
    is behind several factors, or a factorial, is the product of all that follow it.
    """

    def __init__(self, tokens: list[Token], percent: str, mixed: bool, dots: bool, bar: bool = False) -> None:
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
        """The exact value. Raises: Unreadable."""
        value = self._sum()
        if self.at < len(self.tokens):
            raise Unreadable
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
        return not any(token.kind in WORK - {"minus"} for token in self.tokens) and self.literals == 1

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
            if self.percent == SHARE and [token.kind for token in self.tokens[first : self.at]] == [
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
                    raise Unreadable
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
                    raise Unreadable
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
                    raise Unreadable  # a double factorial
                if value.denominator != 1 or not 0 <= value <= MAX_FACTORIAL:
                    raise Unreadable
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
                    raise Unreadable
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
            value = Fraction(*GLYPHS[self.tokens[self.at].text])
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
                raise Unreadable
            return top / bottom
        if kind == "binom":
            self.at += 1
            top, bottom = self._argument(), self._argument()
            if top.denominator != 1 or bottom.denominator != 1 or not 0 <= bottom <= top <= 200:
                raise Unreadable
            return Fraction(math.comb(int(top), int(bottom)))
        if kind == "sqrt":
            self.at += 1
            bare = self._kind() == "number"
            value = self._argument() if self._kind() == "brace" else self._primary()
            if value < 0:
                raise Unreadable
            # The bar may be meant to be longer: √25×36. It is not over another root.
            self.doubt |= bare and self._kind() in OPERATORS | OPERAND_START and self._kind(1) != "sqrt"
            return self._root(value)
        raise Unreadable

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
                raise Unreadable
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
            raise Unreadable
        token = self.tokens[self.at]
        if len(token.text) > 2 or not token.text.isdigit():
            raise Unreadable
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
            raise Unreadable
        self.at += 1

    def _number(self) -> Fraction:
        text = re.sub(r"\D" if self.dots else r"[^\d.]", "", self.tokens[self.at].text)
        self.at += 1
        if len(text) > MAX_DIGITS or text.count(".") > 1:
            raise Unreadable
        self.literals += 1
        self.decimals = max(self.decimals, len(text.partition(".")[2]))
        return Fraction(text)


def _raised(value: Fraction, exponent: Fraction) -> Fraction:
    """A power with a whole exponent. Raises: Unreadable: for others, and for large results."""
    if exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT or (value == 0 and exponent < 0):
        raise Unreadable
    bits = max(value.numerator.bit_length(), value.denominator.bit_length())
    if bits * abs(int(exponent)) > MAX_BITS:
        raise Unreadable
    return value ** int(exponent)


def compare(left: Fraction, right: Fraction, one: Side, other: Side, approximate: bool) -> bool | None:
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
    for exact, whole, number, side in ((left, one, right, other), (right, other, left, one)):
        if not side.literal:
            continue
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
    for side, result in ((one, other), (other, one)):
        if side.product and not result.decimals and difference <= size * side.precision:
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
