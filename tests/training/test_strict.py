r"""The strict score: equal values are right however they are written, and nothing else is."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from pipelines.errors import WinnowError
from training.evaluation import math_worker
from training.evaluation.math_worker import Comparison, compare
from training.evaluation.strict import canonical, final_answer, strict_scorer
from training.evaluation.task import Answer, Judgement

Case = tuple[str, str]
"""An expected answer and the text of a model."""


def judge(cases: list[Case]) -> list[Judgement]:
    answers = [Answer(text, 0, "stop") for _, text in cases]
    return strict_scorer().judge(answers, [{"id": "x", "answer": gold} for gold, _ in cases])


def in_a_box(*cases: Case) -> list[Case]:
    return [(gold, f"so \\boxed{{{content}}}.") for gold, content in cases]


RIGHT = {
    "numbers": in_a_box(
        ("9500", "9{,}500"),
        ("9500", "9,500"),
        ("9500", "9\\,500"),
        ("9500", "9,\\!500.00"),
        ("9500", "9.5 \\times 10^3"),
        ("9500", "9.5e3"),
        ("1,234", "1234"),
        ("18", "36/2"),
        ("18", "+18"),
        ("18", "\\textbf{18}"),
        ("18", "2 \\cdot 9"),
        ("-3", "−3"),
        ("0.5", "\\dfrac{1}{2}"),
        ("\\frac{1}{2}", ".5"),
        ("\\frac{3}{2}", "1\\frac12"),
        ("\\frac{3}{2}", "1 1/2"),
        ("-\\frac{1}{2}", "\\frac{-1}{2}"),
        ("\\sqrt{2}", "\\sqrt2"),
        ("\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}"),
        ("2", "\\sqrt{4}"),
        ("0.\\overline{3}", "\\frac{1}{3}"),
    ),
    "percentages": in_a_box(
        ("50", "50\\%"), ("50\\%", "50"), ("50", "50 percent"), ("0.5", "50\\%"), ("50\\%", "0.5"), ("1", "100\\%")
    ),
    "units and words": in_a_box(
        ("18", "18\\text{ dollars}"),
        ("18", "\\$18"),
        ("18", "18 apples"),
        ("18", "18 \\text{ cm}^2"),
        ("18", "\\text{Janet makes } 18 \\text{ dollars}"),
        ("18", "\\text{18 dollars}"),
        ("18", "\\text{Janet makes 18 dollars}"),
        ("10\\text{ cm}", "10"),
        ("10\\text{ inches}", "10\\,\\mathrm{in}"),
        ("90", "90^\\circ"),
        ("1010_2", "1010_{2}"),
        ("1010_2", "1010"),
        ("2\\pi", "2\\pi\\text{ cm}"),
    ),
    "equations": in_a_box(
        ("5", "x=5"),
        ("x=5", "5"),
        ("2x+3", "y = 3 + 2x"),
        ("18", "36/2 = 18"),
        ("2", "x \\approx 2"),
        ("5", "5 = x"),
        ("5", "|AB| = 5"),
    ),
    "several values": in_a_box(
        ("(1,2)", "\\left(1, \\frac{4}{2}\\right)"),
        ("[1,2)", "[1, 2)"),
        ("\\{1,2\\}", "\\{2,1\\}"),
        ("1,2", "2 \\text{ and } 1"),
        ("1,2", "x=1 \\text{ or } x=2"),
        ("3 \\pm \\sqrt{2}", "3-\\sqrt{2}, 3+\\sqrt{2}"),
        ("(-\\infty,1)\\cup(2,3)", "(2,3)\\cup(-\\infty,1)"),
        ("(-\\infty, 2)", "x<2"),
        ("(-\\infty,-2]\\cup[2,\\infty)", "x \\le -2 \\text{ or } x \\ge 2"),
        ("(3,4)", "(x, y) = (3, 4)"),
        ("(3,4)", "x = 3, y = 4"),
        ("\\emptyset", "\\varnothing"),
        ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\left(\\begin{array}{cc}1&2\\\\3&4\\end{array}\\right)"),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{bmatrix}1\\\\2\\end{bmatrix}"),
    ),
    "words and expressions": in_a_box(
        ("\\text{Evelyn}", "Evelyn"),
        ("\\text{(C)}", "C"),
        ("x^2+2x+1", "(x+1)^2"),
        ("6+9i", "9i+6"),
        ("3:2", "3 : 2"),
    ),
    "texts without a box": [
        ("18", "18"),
        ("18", "$18$"),
        ("18", "**18**"),
        ("18", "It is 9 + 9.\n#### 18"),
        ("18", "It is 9 + 9.\nA: 18"),
        ("18", "First 9, then 9. The answer is 18."),
        ("18", "The final answer is: $18$. I hope it is correct."),
        ("18", "She makes \\$18 every day."),
    ],
    "several boxes": [
        ("1,2", "$\\boxed{1}$ and $\\boxed{2}$"),
        ("18", "\\boxed{18}\n\n\\boxed{18}"),
        ("2", "\\boxed{1}, so it is \\boxed{2}"),
    ],
}
WRONG = {
    "numbers": in_a_box(
        ("8", "8.5"),
        ("18", "18.9"),
        ("18", "17.999999999"),
        ("18", "18 + 10^{-30}"),
        ("18", "-18"),
        ("18", "1e1000"),
        ("18", "18/0"),
        ("18", "\\infty"),
        ("18", "nan"),
        ("\\frac{1}{3}", "0.3333333"),
        ("\\sqrt{2}", "1.414"),
        ("18", "18!"),
        ("18", "9 9"),
        ("18", "1 8"),
        ("18", "18x"),
    ),
    "percentages, units, names and bases": in_a_box(
        ("50", "5000\\%"),
        ("10\\text{ cm}", "10\\text{ m}"),
        ("x=5", "y=5"),
        ("1010_2", "1010_3"),
        ("5", "2x = 10"),
        ("18", "17 = 18"),
        ("5", "x > 5"),
    ),
    "several candidates": in_a_box(
        ("18", "17, 18"),
        ("18", "17 \\text{ or } 18"),
        ("18", "18; 20"),
        ("18", "\\{17, 18\\}"),
        ("18", "18 \\quad 20"),
        ("18", "18 \\text{ to } 20"),
        ("18", "17\\text{ or }18\\text{ dollars}"),
        ("18", "\\pm 18"),
        ("18", "16 < x < 20"),
        ("1,2", "1"),
        ("1,2", "1,2,3"),
        ("C", "C, D"),
        ("\\text{Evelyn}", "\\text{Evelyn or Bob}"),
    ),
    "qualified numbers": in_a_box(
        ("18", "\\text{not } 18"),
        ("18", "\\text{at least } 18"),
        ("18", "18 \\text{ or more}"),
        ("18", "\\text{less than 18 dollars}"),
        ("18", "\\ge 18"),
        ("18", "\\ne 18"),
    ),
    "other things": in_a_box(
        ("(1,2)", "(2,1)"),
        ("(1,2)", "[1,2]"),
        ("(1,2)", "1,2"),
        ("(3,4)", "x = 3, x = 4"),
        ("3:2", "2:3"),
        ("18", ""),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 1 & 2 \\end{pmatrix}"),
    ),
    "texts": [
        ("18", ""),
        ("18", "\\boxed{18"),
        ("18", "18 or 20"),
        ("18", "It is 17 or 18 dollars"),
        ("18", "It is more than 18 dollars"),
        ("18", "\\boxed{18} or \\boxed{20}"),
        ("18", "The answer is 18. No, it is 20."),
    ],
}


@pytest.mark.parametrize("kind", RIGHT)
def test_other_spellings_of_the_expected_answer_are_right(kind: str) -> None:
    cases = RIGHT[kind]
    judgements = judge(cases)
    assert [case for case, one in zip(cases, judgements, strict=True) if one.score != 1] == []
    assert all(one.valid for one in judgements)


@pytest.mark.parametrize("kind", WRONG)
def test_other_answers_are_wrong(kind: str) -> None:
    cases = WRONG[kind]
    assert [case for case, one in zip(cases, judge(cases), strict=True) if one.score != 0] == []


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "18",
            ["1.5 dozen", "The answer is 18 (not 19).", "So \\boxed{18}!", "\\boxed{18}^\\circ"],
            [
                "18 thousand",
                "18 million dollars",
                "\\boxed{18\\text{ million}}",
                "\\boxed{18} hundred",
                "\\boxed{18}^2",
                "$\\boxed{18}$ thousand",
                "half of 18",
                "18 and a half",
            ],
        ),
        (
            "1000000",
            ["1 million", "1_000_000", "It costs 1.0 million dollars", "\\boxed{1} million", "1,000 thousand"],
            ["1 billion", "1.1 million", "1"],
        ),
        ("3\\text{ PM}", ["3 p.m.", "3"], ["3 AM", "3 a.m."]),
        ("\\{1, 2\\}", ["\\{2, 1, 2\\}"], ["\\{1\\}"]),
    ],
)
def test_words_that_scale_a_number_count(gold: str, right: list[str], wrong: list[str]) -> None:
    texts = [*right, *wrong]
    item = {"id": "x/1", "question": "", "answer": gold}
    judged = strict_scorer().judge([Answer(text, 1, "stop") for text in texts], [item] * len(texts))
    assert [text for text, one in zip(texts, judged, strict=True) if one.score == 1] == right


def test_a_text_that_gives_no_answer_is_invalid() -> None:
    cases = [("18", text) for text in ("", "\\boxed{}", "\\boxed{18", "First 9.\nThen 9 more.", "9" * 5000)]
    assert judge(cases) == [Judgement(0.0, False)] * len(cases)


def test_judgements_do_not_depend_on_the_batch() -> None:
    cases = [case for group in (*RIGHT.values(), *WRONG.values()) for case in group]
    together = dict(zip(cases, judge(cases), strict=True))
    shuffled = random.Random(0).sample(cases, len(cases))
    assert [judge([case])[0] for case in shuffled] == [together[case] for case in shuffled]


@pytest.fixture
def one_second() -> Iterator[None]:
    """A worker with a shorter limit, so that the test is short."""
    limit = math_worker.CPU_SECONDS
    math_worker._WORKER.stop()
    math_worker.CPU_SECONDS = 1.0
    yield
    math_worker.CPU_SECONDS = limit
    math_worker._WORKER.stop()


@pytest.mark.usefixtures("one_second")
@pytest.mark.parametrize(
    "hostile",
    [
        "9^{9^{9^{9^9}}}",
        "(((10^{10^{10}})!)!)!",
        "\\frac{" * 80 + "1" + "}{x}" * 80,
    ],
)
@pytest.mark.fault("pathological expressions in answers", "wrong, and scoring ends")
def test_a_hostile_expression_is_wrong_and_ends(hostile: str) -> None:
    before, attack, after = judge(in_a_box(("x+1", "1+x"), ("18x", hostile), ("x+2", "2+x")))
    assert (before.score, attack.score, after.score) == (1, 0, 1)
    assert attack.valid


def test_the_published_rule_of_math_verify_has_the_same_process() -> None:
    comparisons = [Comparison("published", "\\frac{1}{2}", text) for text in ("0.5", "so $x = 0.5$", "0.6", "")]
    assert compare(comparisons) == [True, True, False, False]


def test_a_missing_library_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_worker, "LIBRARIES", (*math_worker.LIBRARIES, "no-such-distribution"))
    with pytest.raises(WinnowError, match=r"no-such-distribution.*winnow-corpus\[eval\]"):
        judge([("18", "18")])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed{1}, so \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\fbox{7}", "7"),
        ("A: 3\nbut\nAnswer: 4 apples", "4 apples"),
        ("**Answer:** 4", "** 4"),
        ("no answer\nat all", None),
    ],
)
def test_the_final_answer_is_what_the_text_says_it_is(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


def test_votes_are_counted_over_one_spelling() -> None:
    assert {canonical(text) for text in ("1/2", "0.50", "\\dfrac{1}{2}", "\\frac12", "$0.5$")} == {"1/2"}
    assert canonical("\\text{Evelyn}") == canonical("evelyn")
    assert canonical("x + 1") != canonical("x + 2")
