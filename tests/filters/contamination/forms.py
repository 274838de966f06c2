"""An item in other spellings that mean the same, and with twists that change its meaning.

A form rewrites the text of an item (question and choices); None where it does not apply or changes nothing. Every form
must be found as the item, no twist may be.
"""

from __future__ import annotations

import html
import random
import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

Form = Callable[[str, random.Random], str | None]

ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
CONFUSABLE = str.maketrans("aceopxyAEOPCTHKMB", "асеорхуАЕОРСТНКМВ")  # Cyrillic


def number_word(n: int) -> str:
    """A number from 0 to 100 in words."""
    if n < 20:
        return ONES[n]
    if n == 100:
        return "one hundred"
    return TENS[n // 10 - 2] + (f"-{ONES[n % 10]}" if n % 10 else "")


def is_code(text: str) -> bool:
    """Whether a text is a program or formal notation, in which white space, marks or numbers have other meanings."""
    return bool(re.search(r"(?m)^\s*(def |from \w+ import|import |return |>>>)", text))


def has_marks_in_rows(text: str) -> bool:
    """Whether a text has brackets or terms with spaces between them, where `> ` or `- ` at the start of a line would be
    one of them: "( < [ ] >", "((-7 * 2 - 5) * (-3 - 9))"."""
    return bool(re.search(r"(?:[\[\](){}<>]\s+){2}|^\(\(", text))


def is_formal(text: str) -> bool:
    """Whether a text has formulas, code or rows of marks."""
    return is_code(text) or bool(re.search(r"[\\$^_{}<>\[\]|=*]|(?:[()]\s*){2}|\d\s*[-+/]\s*\d", text))


FORMULA = r"\$(?=\S)[^$]*?(?<=\S)\$(?!\d)"
"""A formula between single dollars, as Pandoc reads it: "$5 and $6" has none."""


def plain_latex(text: str) -> bool:
    """Whether a text has formulas between single dollars, and no dollar of money."""
    return text.count("$") >= 2 and text.count("$") % 2 == 0 and "\\$" not in text and not re.search(r"\$\$", text)


def per_line(mark: Callable[[int], str], width: int = 10) -> Form:
    """Lines of `width` words, each with a mark before it."""

    def form(text: str, dice: random.Random) -> str | None:
        if is_code(text) or has_marks_in_rows(text):
            return None
        words = text.split()
        lines = [" ".join(words[n : n + width]) for n in range(0, len(words), width)]
        return "\n".join(mark(n) + line for n, line in enumerate(lines, 1))

    return form


def upper(text: str, dice: random.Random) -> str | None:
    return text.upper() if text.upper().casefold() == text.casefold() else None


def lower(text: str, dice: random.Random) -> str | None:
    return text.lower()


def no_punctuation(text: str, dice: random.Random) -> str | None:
    """Without marks between words."""
    return None if is_formal(text) else re.sub(r"(?<!\d)[.,;:!?\"()](?=\s|$)", "", text)


def spaced(text: str, dice: random.Random) -> str | None:
    if is_code(text) or has_marks_in_rows(text):
        return None
    return re.sub(r"\s+", lambda m: dice.choice(["  ", "\n", "\t", "\u00a0", " \r\n "]), text)


def nfd(text: str, dice: random.Random) -> str | None:
    return unicodedata.normalize("NFD", text)


def fullwidth(text: str, dice: random.Random) -> str | None:
    """Letters and digits in full width, which NFKC undoes."""
    return re.sub(r"[A-Za-z0-9]", lambda m: chr(ord(m[0]) + 0xFEE0), text)


def invisible(mark: str) -> Form:
    """A character that is not seen within every word."""

    def form(text: str, dice: random.Random) -> str | None:
        return re.sub(r"(?<=[A-Za-z])(?=[A-Za-z]{3})", lambda m: mark, text)

    return form


def homoglyphs(text: str, dice: random.Random) -> str | None:
    """Cyrillic letters that look like Latin ones, in some words."""
    return re.sub(
        r"(?<![\\\w])[A-Za-z]{3,}", lambda m: m[0].translate(CONFUSABLE) if dice.random() < 0.5 else m[0], text
    )


def entities(text: str, dice: random.Random) -> str | None:
    return html.escape(text, quote=True).replace("$", "&#36;")


def tags(text: str, dice: random.Random) -> str | None:
    if is_code(text) or "<" in text:
        return None
    paragraphs = re.split(r"\n+", text)
    # No page has a tag in the name of an environment, \begin{align}.
    bold = [re.sub(r"(?<![\\\w${])([A-Za-z]{5,})(?![\w$])", r"<b>\1</b>", p, count=2) for p in paragraphs]
    return "".join(f'<p class="q">{p}</p>\n' for p in bold)


def emphasis(text: str, dice: random.Random) -> str | None:
    if is_formal(text):
        return None
    marks = ("**", "*", "_", "__")
    return re.sub(
        r"(?<!\w)[A-Za-z]{4,}(?!\w)",
        lambda m: f"{mark}{m[0]}{mark}" if dice.random() < 0.3 and (mark := dice.choice(marks)) else m[0],
        text,
    )


def escaped(text: str, dice: random.Random) -> str | None:
    """As in a JSON string that was never decoded."""
    if "\\" in text:
        return None
    text = text.replace('"', '\\"').replace("<", "\\u003c").replace(">", "\\u003e").replace("'", "\\u0027")
    return text.replace("\n", "\\n")


def hyphenated(text: str, dice: random.Random) -> str | None:
    """A line ends within some words. Not within the name of an environment, which TeX would not read."""
    if is_code(text):
        return None
    return re.sub(
        r"(?<![\\\w${-])([A-Za-z]{4})([a-z]{4,})(?![\w$-])",
        lambda m: f"{m[1]}-\n{m[2]}" if dice.random() < 0.3 else m[0],
        text,
    )


def spelled_numbers(text: str, dice: random.Random) -> str | None:
    """Whole numbers up to a hundred between words of prose, in words."""
    if is_formal(text):
        return None
    pattern = r"(?<=[A-Za-z,] )(\d{1,2}|100)(?= [A-Za-z])"
    return re.sub(pattern, lambda m: number_word(int(m[0])) if str(int(m[0])) == m[0] else m[0], text)


def digits(text: str, dice: random.Random) -> str | None:
    """Number words up to a hundred between words of prose, in digits."""
    if is_formal(text):
        return None
    values = {number_word(n): str(n) for n in range(2, 101)}
    names = "|".join(sorted(values, key=len, reverse=True))
    return re.sub(rf"(?<=[a-z,] )({names})(?= [a-z])", lambda m: values[m[0]], text)


def dollars(text: str, dice: random.Random) -> str | None:
    if re.search(r"[\\^_{}]", text) or re.search(FORMULA, text):
        return None
    return re.sub(r"\$(\d+(?:[.,]\d+)*)(?![\w.]*\$)", r"\1 dollars", text)


def thousands(text: str, dice: random.Random) -> str | None:
    """With separators if there are none, else without."""
    if is_code(text):
        return None
    if re.search(r"\d,\d{3}\b", text):
        # Not in lists of numbers: "arc(1,0,180,360)".
        return re.sub(r"(?<![\d.,(])\d{1,3}(?:,\d{3})+(?![\d,)])", lambda m: m[0].replace(",", ""), text)
    return re.sub(
        r"(?<![\w.,^_{}])\d{4,7}(?![\w.,}])", lambda m: m[0] if m[0][:2] in ("19", "20") else f"{int(m[0]):,}", text
    )


def round_delimiters(text: str, dice: random.Random) -> str | None:
    return re.sub(r"\$([^$]+)\$", r"\\(\1\\)", text) if plain_latex(text) else None


def no_delimiters(text: str, dice: random.Random) -> str | None:
    return text.replace("$", "") if plain_latex(text) else None


def display(text: str, dice: random.Random) -> str | None:
    return re.sub(r"\$([^$]+)\$", r"\\[\1\\]", text) if plain_latex(text) else None


def dfrac(text: str, dice: random.Random) -> str | None:
    return text.replace("\\frac", dice.choice(["\\dfrac", "\\tfrac"]))


def sized(text: str, dice: random.Random) -> str | None:
    """\\left and \\right before round brackets in formulas."""
    if not plain_latex(text):
        return None
    return re.sub(
        r"\$[^$]+\$",
        lambda m: m[0] if "\\left" in m[0] else m[0].replace("(", "\\left(").replace(")", "\\right)"),
        text,
    )


FORMS: dict[str, Form] = {
    "upper case": upper,
    "lower case": lower,
    "no punctuation": no_punctuation,
    "white space": spaced,
    "NFD": nfd,
    "full width": fullwidth,
    "zero width": invisible("\u200b"),
    "soft hyphen": invisible("\u00ad"),
    "homoglyphs": homoglyphs,
    "HTML entities": entities,
    "HTML tags": tags,
    "emphasis": emphasis,
    "list marks": per_line(lambda n: "- "),
    "quote marks": per_line(lambda n: "> "),
    "line numbers": per_line(lambda n: f"{n}. "),
    "escapes": escaped,
    "hyphenated lines": hyphenated,
    "numbers in words": spelled_numbers,
    "numbers in digits": digits,
    "dollars in words": dollars,
    "thousands": thousands,
    "\\( \\)": round_delimiters,
    "\\[ \\]": display,
    "no $": no_delimiters,
    "dfrac": dfrac,
    "\\left \\right": sized,
}
"""Harmless forms, by name."""


# --------------------------------------------------------------------------------------------------------------- twists


def last_sentence(text: str) -> tuple[str, str]:
    """A text, cut before its last sentence."""
    cut = [m.end() for m in re.finditer(r"[.?!][$)\]}\"']*\s+|\n+", text.rstrip())]
    return (text[: cut[-1]], text[cut[-1] :]) if cut else ("", text)


def replaced(text: str, pattern: str, make: Callable[[re.Match[str]], str], whole: bool = False) -> str | None:
    """The last match in the last sentence (or in the whole text) replaced."""
    head, tail = ("", text) if whole else last_sentence(text)
    matches = list(re.finditer(pattern, tail))
    if not matches:
        return None
    one = matches[-1]
    return head + tail[: one.start()] + make(one) + tail[one.end() :]


def swapped_words(pairs: str) -> Form:
    """One word of the last sentence for its counterpart. pairs: "a=b c=d"."""
    other = dict(pair.split("=") for pair in pairs.split())
    other |= {b: a for a, b in other.items() if b not in other}
    names = "|".join(other)
    return lambda text, dice: replaced(text, rf"(?<![\w\\-])(?:{names})(?![\w-])", lambda m: other[m[0]])


def other_number(text: str, dice: random.Random) -> str | None:
    return replaced(text, r"(?<![\w.,])\d+(?![\w.,])", lambda m: str(int(m[0]) + 1), whole=True)


def other_symbol(text: str, dice: random.Random) -> str | None:
    """A letter of a formula in what is asked."""
    if not plain_latex(text) or not re.search(r"\$", last_sentence(text)[1]):
        return None
    return replaced(
        text,
        r"(?<=[$ ({+=-])[b-hj-zA-Z](?=[$ )}+=^_-])",
        lambda m: chr((ord(m[0]) & 32) | (88 if m[0] in "yY" else 89)),
    )


def other_operator(text: str, dice: random.Random) -> str | None:
    if "[asy]" in text:  # the code of a figure is not the question
        return None
    sign = {"+": "-", "-": "+", "*": "+", "<": ">", ">": "<"}
    return replaced(
        text,
        r"(?:(?<=\b\w )|(?<=[\d}] ))[-+*<>](?= (?:\w\b|[\d\\]))|(?<=\w)[+](?=\w)",
        lambda m: sign[m[0]],
        whole=True,
    )


def negated(text: str, dice: random.Random) -> str | None:
    return replaced(text, r"(?<![\w\\])(?:is|are|was|does|did|do|can|will|should)(?= [a-z])", lambda m: m[0] + " not")


QUANTIFIER = "all=some both=neither each=any every=some most=least none=all maximum=minimum largest=smallest"
QUANTITY = (
    "area=perimeter sum=product radius=diameter mean=median cost=weight height=width days=weeks "
    "hours=minutes before=after total=average sin=cos distance=time north=south cause=effect increase=decrease "
    "wife=husband"
)

TWISTS: dict[str, Form] = {
    "another number": other_number,
    "another symbol asked": other_symbol,
    "another operator": other_operator,
    "another quantifier asked": swapped_words(QUANTIFIER),
    "negated": negated,
    "another quantity asked": swapped_words(QUANTITY),
}
"""Twists of meaning, by name."""


class Made(NamedTuple):
    """A text made from an item."""

    id: str
    text: str


def made_from(form: Form, items: list[tuple[str, str]], seed: int = 3) -> list[Made]:
    """The texts that a form makes of items (id, text), where it applies and changes something."""
    dice = random.Random(seed)
    texts = [(one, form(text, dice), text) for one, text in items]
    return [Made(one, new) for one, new, text in texts if new is not None and new != text]
