# ruff: noqa: E501
"""Which texts are the same to each reading, and which are not. docs/readings.md has these tables in words."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.characters import SYMBOLS, fold
from dedup.readings import Reading, reading_tables
from dedup.tokens import normalise, token_hash, tokenize


def words(text: str, reading: Reading = "near") -> str:
    result: str = normalise(pa.array([text], pa.string()), reading)[0].as_py()
    return result


NEAR_SAME = {
    "case in formulas": (r"$\dfrac{x}{2} \leq \Delta$", r"$\DFRAC{X}{2} \LEQ \DELTA$"),
    "case of names": ("the points A'B' and e.g. f'(x)", "THE POINTS a'b' AND E.G. F'(X)"),
    "apostrophes": ("I'm sure it's x's value, don't", "I’m sure it’s x’s value, don’t", "I'M SURE IT'S X'S VALUE, DON'T"),
    "case and prose punctuation": (
        "The cat, the dog; the “end”.", "the CAT the dog\n\nThe end", "\tThe cat... (the dog) [the end]"
    ),
    "exclamations": ("In the form (s, t)! Now", "In the form (s, t). Now"),
    "quotes": ("She said \"no\" and 'yes'.", "She said “no” and ‘yes’.", "She said «no» and yes"),
    "composed and decomposed": ("Besançon était fermé", unicodedata.normalize("NFD", "Besançon était fermé")),
    "Korean syllables and letters": ("한국어 문장", unicodedata.normalize("NFD", "한국어 문장")),
    "ligatures": ("the final office file", "the ﬁnal oﬃce ﬁle"),
    "full-width": ("Buy 12 cows, 30 hens", "Ｂｕｙ １２ ｃｏｗｓ， ３０ ｈｅｎｓ"),
    "mathematical letters": ("let x be in R", "let 𝑥 be in ℝ"),
    "zero-width characters": ("forty hours", "f\u200bor\u200dty h\ufeffours"),
    "soft hyphens": ("overtime pay", "over\u00adtime pay"),
    "variation selectors": ("heavy ❤ heart 12", "heavy ❤\ufe0f heart 12\ufe0f", "heavy ❤\U000e0101 heart 12"),
    "fillers": ("two words", "two\u3164 words"),
    "delimiters of formulas": ("Let $x = 2$ be", r"Let \(x = 2\) be", r"Let \[x = 2\] be", "Let $$x = 2$$ be", "Let x = 2 be"),
    "sentences that end in a formula": ("What is $x?$", "What is $x$?", "What is x?"),
    "spaces in formulas": ("Let $x=2$ be", "Let $ x = 2 $ be"),
    "sizing commands": (r"$y = \left(x - 1\right)^2$", "$y = (x - 1)^2$", r"$y = \bigl( x - 1 \bigr)^2$"),
    "sizes of fractions": (r"$\frac{1}{2}$", r"$\dfrac{1}{2}$", r"$\tfrac{1}{2}$", r"$\displaystyle\frac{1}{2}$"),
    "commands and their characters": (r"$\alpha \leq \sqrt{2}$", "α ≤ √2"),
    "degrees": (r"a $30^\circ$ angle", r"a $30^{\circ}$ angle", "a 30° angle"),
    "primes": ("Find f'(2)", "Find $f'(2)$", "Find f’(2)", "Find f′(2)", r"Find $f^\prime(2)$", r"Find $f^{\prime}(2)$"),
    "superscripts": ("x² + 10³", "x^2 + 10^3", "$x^{2} + 10^{3}$"),
    "fractions in one character": ("3½ cups", "3 1/2 cups"),
    "digits after commands": (r"$\cot90 + \frac23$", r"$\cot 90 + \frac 2 3$", r"$\cot 90 + \frac{2}{3}$", r"$\cot{90} + \dfrac23$"),
    "negative superscripts": ("10⁻³ and x²³", "10^{-3} and x^{23}", "10^-3 and x^23"),
    "ranges": ("1990–2000 and 5 – 3", "1990-2000 and 5 - 3"),
    "minus signs": ("5 − 3", "5 - 3"),
    "type of letters": (r"$\text{Area} = \mathrm{m}$", "Area = m"),
    "thousands": ("costs 1,000,000", "costs 1000000", "costs $1{,}000{,}000$", r"costs $1\,000\,000$"),
    "coefficients": ("14xy - 2x", "14 xy - 2 x", r"14\,xy - 2\,x"),
    "powers of a product": ("x^3y^2z", "x^{3}y^{2}z", "x³y²z"),
    "products with Greek letters": (r"2\pi r and \alpha", "2πr and α", "2 π r and α"),
    "subscripts": ("x_1 + x_{12}", "$x_{1} + x_{12}$", r"\mathbf{x}_1 + \mathbf{x_{12}}"),
    "empty scripts": ("Find $a_1$ and $r$", "Find $a_1^{}$ and $r^{}_{}$"),
    "formulas of chemistry": ("CO2 and H2O", "CO₂ and H₂O"),
    "subscripts of numbers": ("1011_2", "1011_{2}", "1011₂"),
    "comparisons": ("x <= 3, y >= 2, z != 1", "x ≤ 3, y ≥ 2, z ≠ 1", r"$x \leq 3$, $y \geq 2$, $z \neq 1$"),
    "circles for degrees": (r"240^\circ", "240^∘", "240°"),
    "brackets of a product": (r"\left(x+1\right)\left(x-1\right)", "(x+1)(x-1)"),
    "sums in braces over two lines": (r"\frac{1}{x + 2}", "\\frac{1}{x +\n2}"),
    "emphasis": ("water is the name", "**water** is the *name*"),
    "bullets": ("one thing\nanother thing", "- one thing\n- another thing", "* one thing\n* another thing", "• one thing\n• another thing"),
    "numbers of lists": ("1. one\n2. two", "1) one\n2) two"),
    "lists of numbers": ("scores of 89, 71, 92, 100 and 86", "scores of 89,71,92,100 and 86"),
}  # fmt: skip

NEAR_DIFFERENT = {
    "numbers": ("What is 3 + 5?", "What is 41 + 5?"),
    "operators": ("What is 3 + 5?", "What is 3 - 5?"),
    "comparison": ("a < b", "a > b"),
    "equal and not equal": ("is a == b", "is a != b"),
    "not equal": ("a = b", "a ≠ b"),
    "primes": ("Find f(2).", "Find f'(2)."),
    "second derivatives": ("Solve y'' = y", "Solve y' = y"),
    "points of a figure": ("the line AB", "the line A'B'"),
    "factorials": ("What is 3!", "What is 3"),
    "factorial of a variable": ("the limit of n!/2", "the limit of n/2"),
    "factorial of a sum": ("(n+1)! - 1", "(n+1) - 1"),
    "factorial of a difference": ("(n - k)! ways", "(n - k) ways"),
    "negation": ("if (!ready) start();", "if (ready) start();"),
    "intervals": ("the length of [0,1]", "the length of (0,1)"),
    "half-open intervals": ("the length of [0,1)", "the length of [0,1]"),
    "collections": ("x = {1, 2}", "x = [1, 2]", "x = (1, 2)"),
    "call and index": ("print(x)", "print[x]"),
    "call and name": ("foo(x) is", "foo x is"),
    "slices": ("return a[1:]", "return a[:1]", "return a[1]"),
    "slices of names": ("return a[i:]", "return a[:i]"),
    "ratios": ("Simplify 10:4", "Simplify 10 4"),
    "names with underscores": ("print my_var", "print my var"),
    "subscripts": ("Find x_1", "Find x 1"),
    "attributes": ("the file a.b here", "the file a, b here"),
    "patterns": ("does ^a?$ match", "does ^a$ match"),
    "decimal points": ("0.5 of it", "05 of it", "0 5 of it"),
    "grids": ("53..7....6..19", "5..37....6..19"),
    "powers of powers": ("(a+b)^2", "a+b^2"),
    "grouping": ("c/(a+b)", "c/a+b"),
    "grouping after a number": ("2(a+b)", "2a+b"),
    "superscripts and digits": ("10² is", "102 is"),
    "mixed fractions": ("3½ cups", "31/2 cups"),
    "exponents": ("2^{n+1}", "2^n+1"),
    "roots of sums": (r"\sqrt{x+1}", r"\sqrt{x}+1"),
    "negation in a condition": ("while(!done) x", "while(done) x"),
    "negation after a comma": ("f(a,!b)", "f(a,b)"),
    "calls of derivatives": ("f''(x)=0", "f''x=0"),
    "floor and ceiling": (r"$\lfloor x \rfloor$", r"$\lceil x \rceil$"),
    "floor": ("⌊x⌋ + 1", "x + 1"),
    "comments": ("Is it run? #print('hello')", "Is it run? print('hello')"),
    "quotes of a call": ("What is type('int') here", "What is type(int) here"),
    "languages": ("Write it in C#", "Write it in C", "Write it in C++"),
    "shell variables": ("echo $HOME", "echo HOME"),
    "accents": ("résumé the work", "resume the work"),
    "commas in decimals": ("1,5 and 2", "15 and 2"),
    "subset and superset": (r"$A \subset B$", r"$A \supset B$"),
    "roots": (r"$\sqrt{3}$", "3"),
    "times and plus": (r"$3 \times 4$", "$3 + 4$", "$3 4$"),
}

MARKUP_FREE_SAME = {
    "accents": ("a crème brûlée and gâteau", "a creme brulee and gateau"),
    "HTML entities": ('has "more" legs & it\'s < 5', "has &quot;more&quot;&nbsp;legs &amp; it&#39;s &lt; 5", "has more legs & it&#x27;s &#60; 5"),
    "HTML tags": ("costs $150 for <b>5</b> books", "costs $<b>150</b> for 5 books", '<p class="x">costs $150 for<br/>5 books</p>'),
    "emphasis": ("find the **area** of *it*", "find the area of it", "find the __area__ of _it_", "find the `area` of ~~it~~"),
    "bullets": ("First this.\nThen that.", "- First this.\n- Then that.", "* First this.\n* Then that."),
    "quoted lines": ("to buy a book\nthat costs $5", "> to buy a book\n> that costs $5", ">> to buy a book\n>> that costs $5"),
    "quoted units": ("a rate of 6 percent for twenty five days", "> a rate of 6\n> percent for twenty\n> five days", "a rate of 6% for 25 days"),
    "numbered lines": ("to buy\na book\nthat costs 5", "1. to buy\n2. a book\n3. that costs 5", "1: to buy\n2: a book\n3: that costs 5", "12) to buy\n13) a book\n14) that costs 5"),
    "inline lists": ("the steps: 1. mix 2. bake 3. eat", "the steps:\n1. mix\n2. bake\n3. eat", "the steps:\n- mix\n- bake\n- eat"),
    "dashes": ("the end - or so", "the end — or so", "the end\n- or so"),
    "Python sessions": ("It is:\n>>> add(2, 3)\n5", "It is: >>> add(2, 3) 5"),
    "escapes": ("a book\nthat costs a < 5", r"a book\nthat costs a \u003c 5", r"a book\r\nthat costs a < 5"),
    "escaped quotes": ("Janet’s ducks", r"Janet\u2019s ducks"),
    "hyphenated line ends": ("a transformation of it", "a trans-\nformation of it", "a trans-\n   formation of it"),
    "hyphenated number words": ("the fourteenth of fourteen in 60 days", "the four-\nteenth of four-\nteen in six-\n  ty days"),
    "hyphens": ("the light-year unit", "the light-\nyear unit", "the lightyear unit"),
    "number words": ("saw five movies and 25 birds in 100 days", "saw 5 movies and twenty-five birds in one hundred days", "saw five movies and twenty five birds in 100 days"),
    "dollars": ("costs $5 and $12.50", "costs 5 dollars and 12.50 dollars", "costs 5 and 12.50", "costs \\$5 and \\$12.50"),
    "percent": ("gained 5% more", "gained 5 percent more", r"gained $5\%$ more", "gained five percent more"),
    "words of Cyrillic capitals": ("triangle ABC, HTTP", "triangle АВС, НТТР"),
    "line ends before capitals": ("size 3\nE is\nNU or\rTo", r"size 3\nE is\nNU or\rTo"),
    "case of a command": (r"\ne \nu \to \rvert", r"\NE \NU \TO \rVert"),
    "case of Cyrillic": ("тест в Москве", "ТЕСТ В МОСКВЕ"),
    "formulas of wikis": ("If $x = 2$, what is $f(x)$", "If <math>x = 2</math>, what is <math>f(x)</math>"),
    "signs of products": ("8 * 8 and v * v", "8× 8 and v·v", r"$8 \times 8$ and $v \cdot v$"),
    "emphasis of a heading": ("Problem. Find it", "**Problem.** Find it"),
    "Cyrillic letters": ("Colby loves going to the movies", "Cоlby lоvеs gоing tо thе mоviеs"),
    "Cyrillic capitals": ("The Bank of Kent", "Тhe Вank of Кent"),
    "Greek letters in Latin words": ("a bottle of wine", "a bοttle οf wine"),
    "multiplication": (r"$3 \times 4$", r"$3 \cdot 4$", "3 × 4", "3 · 4", "3*4"),
    "multiplication without spaces": (r"$3\cdot4$", r"$3 \cdot 4$", r"$3\times 4$", "3*4"),
    "ages": ("a twelve-year-old boy", "a 12-year-old boy"),
    "Unicode hyphens": ("a family-size box", "a family‑size box", "a family‐size box"),
    "numbers with Unicode hyphens": ("25 birds", "twenty‑five birds", "twenty-five birds"),
    "superscript tags": ("10<sup>3</sup> of x<sup>2</sup>", "10^3 of x^2"),
    "division": ("12 ÷ 4", r"$12 \div 4$", "12 / 4"),
    "thousands": ("costs 1,000,000", "costs 1000000"),
}  # fmt: skip

MARKUP_FREE_DIFFERENT = {
    **NEAR_DIFFERENT,
    "other number words": ("saw five movies", "saw six movies"),
    "tens and units": ("saw twenty-five birds", "saw 20 birds", "saw 5 birds"),
    "numbers that are compared": ("20 > 5 percent", "20 > 5", "25 percent"),
    "numbers at a line break": ("the four\nteen volunteers", "the fourteen volunteers"),
    "comparison without spaces": ("if a<b and c>d", "if a and c"),
    "comparison of names": ("if a<b and c>d", "if a>b and c<d"),
    "minus between variables": ("find x-y", "find xy"),
    "multiplication and power": ("find 2*3", "find 2**3", "find 2 3"),
    "Greek variables": ("the angle α and β", "the angle a and b"),
    "Greek commands": (r"the angle $\nu$", "the angle u", r"the angle $\tau$"),
    "entities": ("a &lt; b", "a &gt; b"),
    "not equal": ("a = b", "a ≠ b"),
    "a number at the end of a sentence": ("It costs 1. How much", "It costs 2. How much", "It costs. How much"),
    "sums over lines": ("7\n- 5", "7\n+ 5", "7 5"),
    "operators between spaces": (
        "6 * -6 + 3x - 7",
        "6 -6 + 3x - 7",
        "6 * -6 3x - 7",
        "6 * -6 + 3x 7",
        "6 * -6 + 3x + 7",
    ),
    "calls that end with a number": ("f(3, 1) and f(2, 2)", "f(3) and f(2)", "f(3, 2) and f(2, 1)"),
    "numbers at line starts": ("the sum of\n5 and 12", "the sum of\n7 and 12"),
    "percent": ("gained 5%", "gained 5"),
}
# Accents, the `$` of a shell variable, the point of an attribute and the `?` of a pattern are not read without markup.
for kind in ("accents", "shell variables", "attributes", "patterns"):
    del MARKUP_FREE_DIFFERENT[kind]


@pytest.mark.parametrize("kind", NEAR_SAME)
@pytest.mark.parametrize("reading", ["near", "markup_free"])
def test_a_harmless_spelling_is_the_same_text(kind: str, reading: Reading) -> None:
    assert len({words(text, reading) for text in NEAR_SAME[kind]}) == 1, [words(t, reading) for t in NEAR_SAME[kind]]


@pytest.mark.parametrize("kind", MARKUP_FREE_SAME)
def test_markup_is_no_part_of_a_text_without_markup(kind: str) -> None:
    texts = MARKUP_FREE_SAME[kind]
    assert len({words(text, "markup_free") for text in texts}) == 1, [words(text, "markup_free") for text in texts]


@pytest.mark.parametrize("kind", NEAR_DIFFERENT)
def test_a_mark_that_means_something_makes_another_text(kind: str) -> None:
    texts = NEAR_DIFFERENT[kind]
    assert len({words(text) for text in texts}) == len(texts), [words(text) for text in texts]


@pytest.mark.parametrize("kind", MARKUP_FREE_DIFFERENT)
def test_a_twist_of_meaning_survives_the_removal_of_markup(kind: str) -> None:
    texts = MARKUP_FREE_DIFFERENT[kind]
    readings = [words(text, "markup_free") for text in texts]
    assert len(set(readings)) == len(texts), readings


pieces = st.one_of(
    st.sampled_from("aAxZ09 .,+-*/=<>^%$\\&!?'\"_()[]{}:#@~`;|\n\t漢あßİΣςé½²…ﬁ①ﷺ㍿\u0301\u200d\u00ad\u2019\u2032"),
    st.sampled_from(
        ["\\frac", "\\left(", "\\nu", "\\n", "&amp;", "&#36;", "<b>", "twenty", "five", "dollars", "percent", "hundred", "1,000",
         "eightlet", "Pneumonoultramicroscopic", "letters7", "sevenle8x", "12345678", "word, ", "word: ", "word's ", 'word" '
        ]
    ),
    st.characters(exclude_categories=["Cs"]),
)  # fmt: skip
any_text = st.lists(pieces, max_size=40).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(any_text, max_size=4), st.sampled_from(["near", "markup_free"]))
def test_hashes_and_normalised_texts_are_of_the_same_tokens(texts: list[str], reading: Reading) -> None:
    column = pa.array(texts, pa.string())
    tokens = tokenize(column, reading)
    for row, normal in enumerate(normalise(column, reading).to_pylist()):
        span = slice(tokens.offsets[row], tokens.offsets[row + 1])
        assert tokens.hash[span].tolist() == [token_hash(token.encode()) for token in normal.split(" ") if token]
        size = len(texts[row].encode())
        starts, ends = tokens.start[span].tolist(), tokens.end[span].tolist()
        assert starts == sorted(starts) and all(0 <= a < b <= size for a, b in zip(starts, ends, strict=True))


@settings(max_examples=150, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]).filter(lambda c: not set(fold(c)) & set(SYMBOLS + "."))),
    st.sampled_from(["NFC", "NFD"]),
    st.sampled_from(["near", "markup_free"]),
)
def test_unicode_forms_do_not_matter_to_words(text: str, form: str, reading: Reading) -> None:
    # Symbols look at the ASCII characters beside them, and the order of several marks on one letter is not changed.
    text = unicodedata.normalize("NFC", text)
    marks = [unicodedata.combining(character) for character in unicodedata.normalize("NFD", text)]
    if any(a and b for a, b in pairwise(marks)):
        return
    assert words(unicodedata.normalize(form, text), reading) == words(text, reading)  # type: ignore[arg-type]


def test_an_unknown_reading_is_refused() -> None:
    with pytest.raises(ValueError, match="markup_free"):
        reading_tables("loud")  # type: ignore[arg-type]


def test_a_hundred_takes_no_units() -> None:
    text = pa.array(["exactly one hundred three-digit numbers", "one hundred five"])
    assert normalise(text, "markup_free").to_pylist() == ["exactly 100 3 digit numbers", "100 5"]
    assert tokenize(text, "markup_free").hash.tolist()[1:3] == [token_hash(b"100"), token_hash(b"3")]
