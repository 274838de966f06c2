"""Which equations are checked, and which of them hold."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from filters.scores.arithmetic import Arithmetic, find
from filters.scores.equations import CANDIDATE_ROW, equations

HOLD = r"""
3 + 4 = 7
16 - 3 = <<16-3=13>>13 ducks
12 x 2 = 24
3 boxes x 4 = 12
$1,200 / 4 = $300
Total cost: 5*$3=$15.
50% of 80 = 40
1/2 of 80 = 40
20% + 30% = 50%
0.25*100 = 25%
2/3 = 67%
1/3 = 0.33
2/3 = 0.66
1/3 ≈ 0.3333
100/3 = 33
99 * 1.1 = 108.90000000000001
10 ÷ 4 = 2.5
3 × 4 = 12
2·5 = 10
7 − 9 = −2
y = -5 + 3 = -2
3 apples + 4 apples = 7 apples
2 hours * 60 minutes/hour = 120 minutes
4 * 5 minutes = 20 minutes
3 plus 4 = 7
2(3+4) = 14
(2)(3) = 6
1 1/2 + 1/2 = 2
14 * 1 1/2 = 21
12 * .5 = 6
2,500 + 2,500 = 5,000
2^3 = 8
5! = 120
50 + 50 = 100!
- 3 + 4 = 7
**3 + 4 = 7**
1. 3 + 4 = 7
\frac{1}{2} + \frac{1}{4} = \frac{3}{4}
$$\frac12 + \frac13 = \frac56$$
3\frac{1}{2} = 3.5
1{,}000 + 1 = 1001
\binom{5}{2} = 10
\sqrt{16} + 1 = 5
$3+4=\boxed{7}$
2 \times 3 \cdot 4 = 24
P(A) = 1/2 * 1/3 = 1/6
2 * 3 + 1 = 6 + 1 = 7
100 - 25% = 75
100 + 20% = 120
50\% \text{ of } 80 = 40
√25 = 5
√16 + √9 = 7
\sqrt{50} = 5\sqrt{2}
√50 = 7.07
\textbf{15} + 4 = \mathbf{19}
\( 15 \) + \( 4 \) = \( 19 \)
7 + 8 is equal to 15
**15 + 4** = 19
(25) * 9 = 225
""".strip().split("\n")

FAIL = r"""
3 + 4 = 8
16 - 3 = <<16-3=14>>14 ducks
12 x 2 = 26
3 apples + 4 apples = 8 apples
$1,200 / 4 = $30
10 ÷ 4 = 3.5
1/2 = 1
7/2 = 5
1/3 = 0.35
1. 3 + 4 = 8
\frac{1}{2} + \frac{1}{4} = \frac{2}{6}
2^3 = 6
Total cost: 5*$3=$16.
so 10-3 = 6 apples
3 times 4 = 13
x = 3 + 4 = 8
Step 1: 3 + 4 = 8
50% of 80 = 45
25% of $40 = $12
80 * 50% = 45
50% * 80 = 45
120% of 50 = 70
100 - 25% = 80
20% + 30% = 60%
20/50 = 30%
50\% \text{ of } 80 = 45
√25 = 6
√16 + √9 = 8
\sqrt{50} = 6\sqrt{2}
√50 = 8
7 + 8 equals 16
$15\text{ apples} + 4 = 70$
15 + 4 = \boxed{20\text{ apples}}
The answer is 3 + 4 = 8
If he buys 3, it costs 3 * 4 = 13
We know that it is not cheap, and he pays 3 * 4 = 13
""".strip().split("\n")

NOT_CHECKED = r"""
x + 3 = 7
2x = 4
x = 3
3x + 2 = 11
1 hour = 60 minutes
1/2 hour = 20 minutes
3 feet = 3 * 10 inches
f(2) + 1 = 9
a_1 + 2 = 5
101_2 + 1 = 7
17 / 5 = 3 remainder 2
5 mod 3 + 1 = 3
half of 80 + 5 = 80
Week 1 + Week 2 = 35 + 36
5 friends = 250 / 50
\sin 30 + 1 = 2
3+4i = 5
12/25/2020 = x
9^{9^{9^9}} = 1
1 / 0 = 1
pages 3-5 = 9
$x = 3$ and $y = -2$
if (a[3] == 4) b = 2 != 1
<a href="x?y=3+4">
755=2x-175
6!/6 = 5!$ ways
(72)2 = 5184
70 + 50 = 120 * 5/18
1: 2/5 = 5: 2
the sides are as 3 : 1/2 = 6 : 1
0x10 + 1 = 17
It is wrong to say 2 + 2 = 5
2 + 2 = 5 is false
Is 2 + 2 = 5?
Tom thinks that 2 + 2 = 5
if 3 + 4 = 8
1/3 = 0.34
√25×36 = 30
√9+16 = 5
\sqrt{3} \cdot 5 = 8.65
so $2x\sqrt{3} = 10\sqrt{2}$
AC \sqrt{2} = 4\sqrt{3} \cdot \sqrt{2}
\sqrt[3]{27} + 1 = 4
15% of 37 = 6
20% of 80 + 10 = 18
20% = 0.2 * 50 = 10
20% = 80 + 20
60/50 = 20% more
25% * 40 = 10%
25% off 40 = 30
100 - 20% - 10% = 70
70 (70%) - 60 (60%) = 10 questions
Since 3/4 is equal to $15
what divides into 16! is equal to 2^15
5 plus 4 times 2 equals 18
5 squared + 4 = 29
3 dozen + 1 = 37
15 \text{ km} = 15 \cdot 2 \text{ miles}
half of \(80 + 5 = 45\)
2 **3 + 4 **2 = 24
|3-5| + |2| = |4|
x = 5~- 3 + 4 = 6
10 ÷ 4 = 2
7/2 = 3
""".strip().split("\n")


@pytest.mark.parametrize("text", HOLD)
def test_these_hold(text: str) -> None:
    found = equations(text)
    assert found and all(equation.holds for equation in found)


@pytest.mark.parametrize("text", FAIL)
def test_these_do_not(text: str) -> None:
    assert not equations(text)[-1].holds


@pytest.mark.parametrize("text", NOT_CHECKED)
def test_these_are_not_checked_or_hold(text: str) -> None:
    assert all(equation.holds for equation in equations(text.replace("~", "\n")))


MARKUP = r"""
\(§\)
\( § \)
Then \(§\).
\[§\]
So:~\[ § \]~Done.
\[ \text{Total} = § \]
$§$
$$§$$
**§**
Hence **§**.
*§*
1. §
1) §
(b) §
Step 1) §
- §
- 1 + 1 = 2~- §~- 2 + 2 = 4
* §
### §
> §
> **So:** §
| § |
| first | § |
|---|~| § | last |
<td>§</td>
<p>So <b>§</b></p>
""".strip().split("\n")


@pytest.mark.parametrize("markup", MARKUP)
def test_markup_around_an_equation_or_its_result_does_not_change_what_is_said_of_it(markup: str) -> None:
    for value, holds in ((19, True), (20, False)):
        for plain in (
            f"15 + 4 = {value}",
            f"60% of 30 + 1 = {value}" if holds else "60% of 30 = 20",
            f"√361 = {value}",
        ):
            text = markup.replace("~", "\n").replace("§", plain)
            last = [equation for equation in equations(text) if text[equation.start : equation.end] == plain]
            assert [equation.holds for equation in last] == [holds], text
    for mark in ("**", "*", "__", "`"):
        for value, holds in ((19, True), (20, False)):
            assert [e.holds for e in equations(f"15 + 4 = {mark}{value}{mark} apples")] == [holds]


def test_a_generated_per_cent_is_right_if_and_only_if_it_was_made_right() -> None:
    rng = random.Random(2)
    for _ in range(500):
        share, whole = rng.randint(1, 39) * 5, rng.randint(1, 50) * 20
        value = share * whole // 100
        change = rng.choice([0, 0, 2, 7])
        result = value + change
        text = rng.choice(
            [f"{share}% of {whole} = {result}", f"{whole} * {share}% = {result}",
             f"{share} percent of ${whole} = ${result}", rf"\({share}\% \times {whole} = {result}\)"]
        )  # fmt: skip
        assert [equation.holds for equation in equations(text)] == [change == 0], text


def test_a_chain_over_lines_is_checked_link_by_link() -> None:
    found = equations("\\begin{align*}\nx &= 3+4 \\\\\n&= 8 - 1 \\\\\n&= 6\n\\end{align*}")
    assert [(equation.left, equation.right, equation.holds) for equation in found] == [
        ("3+4", "8 - 1", True),
        ("8 - 1", "6", False),
    ]


def test_a_generated_sum_is_right_if_and_only_if_it_was_made_right() -> None:
    rng = random.Random(0)
    for _ in range(500):
        b, a = sorted((rng.randint(2, 9999), rng.randint(2, 9999)))  # `5-9` may be a range
        sign, value = rng.choice([("+", a + b), ("-", a - b), ("*", a * b), ("×", a * b), ("x", a * b)])
        result = value + rng.choice([0, 0, 1, -1, 10])
        space, currency, unit = rng.choice(["", " "]), rng.choice(["", "$", "£"]), rng.choice(["", " apples"])
        if sign == "x" and not space:
            sign = "*"
        text = f"So she has {currency}{a:,}{space}{sign}{space}{b}{space}={space}{currency}{result:,}{unit}."
        (found,) = equations(text)
        assert found.holds == (result == value), text


def test_any_text_is_read_in_bounded_time_and_spans_are_in_it() -> None:
    rng = random.Random(1)
    pieces = [*"0123456789+-*/^=().,% $x{}!<>\\\n&~≈×÷", "\\frac", "\\sqrt", "\\binom", " of ", "<<", ">>", "**"]
    pieces += [" equals ", "√", "½", "\\(", "\\)", "\\[", "\\]", "|", "`", "\n- ", "\n1) ", "\\text{ of }", "0x"]
    texts = ["".join(rng.choices(pieces, k=rng.randint(1, 60))) for _ in range(3000)]
    for text in texts:
        if equations(text):
            assert re.search(CANDIDATE_ROW, text), text
    texts += ["9" * 5000 + "+1=5", "(" * 5000 + "1" + ")" * 5000 + "=1", "2^" * 50 + "2=4", "9^64^64=1", "1=" * 3000]
    for text in texts:
        for equation in equations(text):
            assert text[equation.start : equation.end].startswith(equation.left)


def test_the_share_is_null_where_nothing_can_be_checked() -> None:
    texts = ["3 + 4 = 7. Then 7 * 2 = 15.", "no sums here", "x = 5", "", "1 + 1 = 2"]
    records = pa.table({"response": texts})
    assert Arithmetic(name="arithmetic").measure(records)["score_arithmetic"].to_pylist() == [0.5, None, None, None, 1]
    found = find(records)
    assert found["equation"].to_pylist() == ["3 + 4 = 7", "7 * 2 = 15", "1 + 1 = 2"]
    assert found["row"].to_pylist() == [0, 0, 4]
    assert [found["holds"][1].as_py(), found["right"][1].as_py()] == [False, "15"]
    assert find(records.slice(1, 2)).num_rows == 0


def test_few_equations_of_gold_solutions_are_wrong(shared_data: Path) -> None:
    with (shared_data / "sources/gsm8k_train.jsonl").open(encoding="utf-8") as file:
        answers = [json.loads(line)["answer"] for line in file][:1500]
    table = pq.read_table(shared_data / "sources/math_train.parquet", columns=["reward_model"])
    answers += [row["reward_model"]["ground_truth"]["solution"] for row in table.slice(0, 1500).to_pylist()]
    holds = find(pa.table({"response": answers}))["holds"].to_pylist()
    assert len(holds) > 8000
    assert holds.count(False) / len(holds) < 0.001


AFTER = [
    "in total",
    "in all",
    "in the jar",
    "in her purse",
    "of them",
    "a week",
    "books in total",
    "m",
    "minutes",
    "dollars",
]


@pytest.mark.parametrize("after", AFTER)
def test_a_word_after_the_result_does_not_hide_a_wrong_sum(after: str) -> None:
    for sides, value in (("17 + 26", 43), ("9 * 7", 63), ("81 - 12", 69)):
        for result in (value, value - 6):
            assert [e.holds for e in equations(f"So it is {sides} = {result} {after}.")] == [result == value]


@pytest.mark.parametrize("unit", ["km", "kg", "hours", "inches", r"\text{ cm}", "dollars", "pairs", "boxes"])
def test_nothing_is_converted_where_all_numbers_have_the_same_unit(unit: str) -> None:
    for result in (15, 16, 30, 5):
        assert [e.holds for e in equations(f"8 {unit} + 7 {unit} = {result} {unit}.")] == [result == 15]


CONVERSIONS = """
3 * 60 = 3 hours
45 + 15 = 1 hour
60 + 25 = 1 hour 25 minutes
60 + 25 = 1 hour and 25 minutes
5 * 12 + 7 = 5 feet, 7 inches
2 * 36 = 6 feet
4 * 250 = 1 kg
3 * 20 = 5 dozen
6 + 8 = 2 weeks
30 * 4 = 2 hours
8 * 25 = 2 dollars
4 * 3 = 6 pairs
90 / 6 = 3 boxes
2 days + 6 hours = 54 hours
1 hour + 20 = 80 minutes
10 + 5 = 3 pm
2,000,000 + 3,000,000 = 5 million
10 * 1 = 25.4 cm
5m + 3m = 7m
0830 + 0045 = 0915 hours
270° + 180° = 90°
90 + 45 = 2 hours (15 minutes)
90 + 45 = 2 h 15 min
90 + 45 = 2 hours with 15 minutes left
90 + 45 = 2 hours and an additional 15 minutes
90 + 45 = 2 hours 15
90 + 45 = 2\\text{ h}, and\\ 15\\text{ min}
90 minutes + 45 minutes = 2 hours, then 15 minutes
20 + 11 = 2 feet; 7 inches
0830 + 0045 = 0915 h
""".strip().split("\n")


@pytest.mark.parametrize("text", CONVERSIONS)
def test_a_conversion_is_never_wrong(text: str) -> None:
    assert all(equation.holds for equation in equations(text))


GOES_ON = [
    ". Then 750 / 3 = 250.",
    ". In 3 days he does more.",
    "\n2 * 3 = 6",
    "! 3 more",
    "? No, 3 {unit}.",
    " in each of the 3 rooms",
    ", more than the 3 {unit} before",
]


@pytest.mark.parametrize("unit", ["m", "h", "hours", "minutes", r"\text{ km}"])
@pytest.mark.parametrize("after", GOES_ON)
def test_a_number_after_the_sentence_or_of_the_same_unit_does_not_hide_a_wrong_sum(after: str, unit: str) -> None:
    for result in (43, 37):
        found = list(equations(f"360 / 20 = 18. So 17 + 26 = {result} {unit}{after.format(unit=unit)}"))
        assert found[1].left == "17 + 26" and found[1].holds == (result == 43)


NOT_WRONG = """
8 + 7 = 3 (mod 12)
7 * 5 = 11 (modulo 12)
We count modulo 10. So 8 + 7 = 5.
Since 8 ≡ 1, it follows that 8 + 8 = 2.
$8 + 7 = 3 \\pmod{12}$
In base 8, 7 + 3 = 12.
1 + 1 = 10 in binary
47/6 = 8 (rounded up)
47/6 = 7 (rounded down)
so 47/6 = 8 vans are needed
50/8 = 7
50/8 = 6
\\frac{50}{8} = 7
4.5 * 3 = 14 (rounded)
4.2 * 3 = 13, rounded to the nearest ten
2 + 3 = 6 (incorrect)
2 + 3 = 6 (this is wrong)
2 + 3 = 6 ✗
❌ 2 + 3 = 6
~~2 + 3 = 6~~
<del>2 + 3 = 6</del> 2 + 3 = 5
11 o'clock + 3 = 2 o'clock
5!! = 15
phone 555-8765 = 20
Flight 20 - 3 = 5
Gate 20 + 3 = 5
`2 + 3 = 6`
Run `x = 2 + 3 = 6` now.
```~2 + 3 = 6~```
```python~2 + 3 = 6
~10 + 1 = -11
60/9 = 62/3
""".strip().split("\n")


@pytest.mark.parametrize("text", NOT_WRONG)
def test_what_is_rounded_hedged_code_or_no_sum_is_not_wrong(text: str) -> None:
    broken = text.replace("~", "\n") if text.startswith("```") else text
    assert all(equation.holds for equation in equations(broken))


READ = """
1.000 + 700 = 1.§
2.250 € + 50 € = 2.§ €
10\\,700 - 10\\,000 = §
1_000 + 700 = 1_§
\\left(20+10\\right) \\cdot 20 + 100 = §
(650 + 50 = §)
-70 * -10 = §
2100 / 3 equals §
350 + 350 = 700 = §
$350 + 350 &= 700 \\\\ &= § $
Take the ``first'' one: $600 + 100 = §$ and ``two''
""".strip().split("\n")


@pytest.mark.parametrize("text", READ)
def test_a_form_that_is_read_when_right_is_read_when_wrong(text: str) -> None:
    right = 300 if text.startswith("2.") else 700
    for value in (right, right + 137):
        assert (found := equations(text.replace("§", str(value))))
        assert found[-1].holds == (value == right)


def test_of_a_running_total_only_the_last_link_is_counted() -> None:
    for last in (90, 95):
        found = equations(f"30 + 40 = 70 + 20 = {last}")
        assert [(e.left, e.holds) for e in found] == [("70 + 20", last == 90)]


OTHER_READINGS = r"""
\frac{2.40 \mathrm{~min}^{-1}}{15.3 \mathrm{~min}^{-1}}=0.157
5 cm^2 + 3 cm^2 = 8 cm^2
\frac{33}{37}=\frac{891}{999} = 0.\overline{891}
she has 3 / 3 - 2 / 3 = 1 / 3 of $150 left
the numbers are $\frac 26, \frac 28 = \frac 13, \frac 14$ anyway
a total of $100 + ($100 * (10 / 100) = $110 from sales
By the parity of both sides, $1+1=0$.
Looking at the units digit, $7 \cdot 3 = 1$
We have: $3*2=3^2+3\cdot 2-2^2=9+6-4=\boxed{11}$.
13*12*11/3*2*1 = 286
16C2 = 16!/14!*2! = 120
3*100/5*2 = 30
45/4 = 11 1/4 *2 = 22 1/2 days
45/4 = 11 ¼ *2 = 22 ½ days
72/7 = 72/7 *2 = 20 4/7 days
221 + 43 = 264/17 = 9 (Remainder)
the remainder = 380/3 = 2.
9.11 \times\left(2.30 \times 10^{-17}\right)=2.10 \times 10^{-16}
301 * 40 = 1.2 x 10^4
250 (1 + \frac{1}{2} + \frac{1}{3} + \frac{1}{4}) = 250 + 125 + 83.3 + 62.5
""".strip().split("\n")


@pytest.mark.parametrize("text", OTHER_READINGS)
def test_an_equation_that_holds_in_another_reading_is_not_wrong(text: str) -> None:
    assert all(equation.holds for equation in equations(text))


WRONG_IN_EVERY_READING = r"""
\frac{2.40 \mathrm{~min}^{-1}}{15.3 \mathrm{~min}^{-1}}=0.175
5 cm^2 + 3 cm^2 = 9 cm^2
she has 3 / 3 - 2 / 3 = 2 / 3 of $150 left
1/2 = 0.5, 1/4 = 0.35, 3/4 = 0.75
the sum (100 * 2 = 300) is
By the parity of both sides, $1+1=3$.
Looking at the units digit, $7 \cdot 3 = 22$
We have $3*2=7$.
13*12*11/3*2*1 = 287
100/5*2 = 10
45/4 = 11 1/4 *2 = 23 1/2 days
45/4 = 11 ¼ *2 = 23 ½ days
6^2 = 6*6*6*6
264/17 = 9
the quotient = 380/3 = 2.
9.11 \times\left(2.30 \times 10^{-17}\right)=2.11 \times 10^{-16}
305 * 40 = 1.1 x 10^4
250 (1 + \frac{1}{2} + \frac{1}{3} + \frac{1}{4}) = 250 + 125 + 84.3 + 62.5
0.5 + 0.25 = 0.76
""".strip().split("\n")


@pytest.mark.parametrize("text", WRONG_IN_EVERY_READING)
def test_an_equation_that_holds_in_no_reading_is_wrong(text: str) -> None:
    assert [equation.holds for equation in equations(text)].count(False) == 1


HOLDS_FOR_A_PERSON = r"""
1649 x 1.55 = 2556 calories
69 × 2.54 = 175 cm
1000 × 1.08^5 = 1,469
Cost of pens (5 x $2) + cost of books (2 x $10) = $30
Carbs (50 x 4) + Protein (30 x 4) + Fat (10 x 9) = 410 calories
1 peanut pie + 2 coconut tarts = $ 2.10
2 adults + 3 kids = $35
2 wins + 1 draw = 7 points
105 \times \frac{2}{3} = 105 \times 0.6667 = 70
$83.33 x 12 = $1000
4.33 x 12 = 52
900 x .333 = $300
100/3 = 33.33 x 2 = 66.67
10/3 = 3.33 + 2 = 5.33
10 x 2 = 20 minutes + 15 minutes = 35 minutes
3 x 4 = 12 apples + 5 apples = 17 apples
10 - 4 = 6 apples x $2 = $12
\frac{17+18}{4} = 9 \text{ cars}
(20 + 15)/2 = 18 people
mid = (0 + 5) / 2 = 2
1 / 2 = 0 in integer division
Age: 18-24 = 12%; 25-34 = 35%; 35-44 = 53%
1-2 = 0 points, 3-4 = 1 point
1914-1918 = 4 years
Δφ = φ2 - φ1 = 0.610865 - 0.436332 = 0.174533
β0 = 10 - 2(3) = 4
∠1 = 180 - 50 = 130°
No. 2 = 3 + 1 = 4
if $f(2)=3$, $f'(2)=-4$
$f'(1) = 2(1) + 3 = 5$
-9/2 =4 ⇒ Contradiction unless m=0
which gives 3 + 2 = 6, impossible
3/5 = 30 students, so 1/5 = 10 students
25 classmates + his 1 teacher + 1 himself = 27
2010 (7) + 2011 (12) = 7 + 12 = 19
$12 ($6 x 2) + $8 = $20
5 + 3 = 9. Wait, no. 5 + 3 = 8.
about 48 + 31 = 80
Estimate: 48 + 31 = 80
7 + 8 = 5, carry the 1
Boolean: 1+1=1
45/50 = 90 points
12 is 50/3 = 16 each, with 2 left
\frac{1}{2}(\sqrt{2})^4 - 1.5(\sqrt{2})^2 + 1 = \frac{1}{2}(4) - 1.5(2) + 1
deviations: (1 - 2.5), (2 - 2.5), (4 - 2.5) = -1.5, -0.5, 1.5
it is 20% greater, 48 = 100% + 20% = 120% of the number
\frac{1}{4} \text{ of the total number of students} = 20
""".strip().split("\n")


@pytest.mark.parametrize("text", HOLDS_FOR_A_PERSON)
def test_what_a_person_would_not_correct_is_not_wrong(text: str) -> None:
    assert all(equation.holds for equation in equations(text))


WRONG_FOR_A_PERSON = r"""
He ate 3 * 2 = 7 cookies, so he has 20 - 7 = 13 left.
She sold 3 + 4 = 8 cakes and had 12 - 8 = 4 cakes left.
He used 3 * 5 = 16 eggs over 2 days.
The triangles are congruent, so the perimeter is 3 + 4 + 5 = 13.
1/6 × 1/6 = 1/12
1/2 * 1/3 = 1/5
4/52 × 3/51 = 12/2602
$200 - 25% = $175
$50 + 20% = $70
8 + 4 = 13 cups
30 + 4 = 38 boxes
12 + 8 = 22 rows
100/3 = 33.33 x 2 = 67.66
1649 x 1.55 = 2576 calories
12 dogs + 5 cats = 18 animals
(20 + 15)/2 = 19 people
$25.50 x 12 = $316
9-12 = -4
it says that 'a' and 3 + 4 = 8
the original price was 20 + 5 = 35
1+1 = 2, 2+2 = 5, 3+3 = 6
\sqrt{2} - \sqrt{2} = 1
""".strip().split("\n")


@pytest.mark.parametrize("text", WRONG_FOR_A_PERSON)
def test_what_a_person_would_correct_is_wrong(text: str) -> None:
    assert any(not equation.holds for equation in equations(text))


PIECES = r"""
1 2 10 3.5 0 1.000.000 1,000 007 ½ 10^-3 = = = ≈ + - * / ( ) { } ^ % , . ! $ ° x of
\frac \cdot \times \sqrt \text{km} \boxed{ \overline equals remainder hours cm 's
"""


def test_no_text_makes_it_fail() -> None:
    rng = random.Random(0)
    whole = ["1.000.000-2.000 = 5", "2.000.000/3 = 1", "9" * 40, "0." + "3" * 20]
    parts = [*PIECES.split(), *whole, "\n", " ", ""]
    for _ in range(4000):
        text = "".join(rng.choice(parts) + rng.choice(["", " "]) for _ in range(rng.randint(3, 25)))
        for equation in equations(text):
            assert text[equation.start :].startswith(equation.left)
