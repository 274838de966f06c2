"""Truncated: what is no evidence of a cut, and what is; the last sentence is read by one pattern, as by those that it
stands for."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.truncated import MIN_WORDS_ALONE, Truncated, _last_sentences

END = r"[.!?…]\$?['\"”’»)]*"
INNER = (
    r"(?:[(\"'“‘«]?(?:\p{L}[\p{L}\p{M}'’\-–—/]*|\$?\d[\d,.]*%?|\$[^$\n]{1,80}\$[\p{L}\-]*)['\"”’»]?\)?[,;:]?['\"”’»]?|"
    r"[-–—&])"
)
BEFORE = (
    r"(?:[\p{Ll}\p{Lo}]{2}|\d{4}|[\p{Ll}\d][)\"'”’»]|\$|(?:is|are|of|to|by|get|than|be|equals|and) \$?\d{1,3}%?)"
    rf"{END}"
)
BEFORE = rf"(?:{BEFORE}|\n[ \t]*```[ \t]*)"
DISPLAY, NUMBER = r"[.!?]?(?:\\\]|\$\$|\\end\{[a-z]+\*?\})\s*", r"(?:\d{1,2}[.)] )?"
OPENER = r"(?:The|An?|My|Our|His|Her|Its|Their|This|That|In|On|At|When|While|If|As|For|With|Because)"
ALONE = rf"(?:{OPENER}|I|We|You|He|She|It|They|These|Those|Since|Then|Thus|After|Before|To|By|From|Also|However)"
WORD = r"\p{Lu}[\p{L}'’\-]*[,:]?"
SHORT = rf"{NUMBER}(?:{ALONE}|{OPENER} {INNER}|{WORD}(?: {INNER}){{2,}})"
LATER = rf"\s*\n\s*{NUMBER}{WORD}(?: {INNER}){{4,}}"
OPEN = rf"(?:{BEFORE}[ \t]+{SHORT}|{DISPLAY}{SHORT}|{BEFORE}{LATER})\s*\z"
LONG = rf"(?:{BEFORE}\s+|{DISPLAY}){NUMBER}{WORD}(?: {INNER}){{11,}}\s*\z"

pieces = st.sampled_from(
    [
        *(
            "end.",
            "is it?",
            "so'.",
            "1999.",
            "(so.)",
            'said."',
            "e.g.",
            "A.",
            "…",
            "日本。",
            "é\u0301t",
            "42",
            "'",
            "”",
        ),
        *("\n```\n", "```", "\n  ``` \n\n"),
        *(" ", " ", " ", "  ", "\t", "\n", "\r\n", "\f", "\n\n"),
        *("The", "An", "Because", "the", "Then", "Öl", "It's,", "and", "then;", "x-y", "word", "Then:", "3. ", "\\]"),
        *(" and", " so", " then on", " we go on and on and on and on", " because of it,"),
    ]
)
texts = st.lists(pieces, max_size=14).map("".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.builds("{} {}".format, texts, texts) | texts | texts.map("It is so. Then".__add__), max_size=20))
def test_one_pattern_reads_the_last_sentence_as_two_with_numbers_of_words(rows: list[str]) -> None:
    column = pa.array(rows, pa.string())
    is_open, words = _last_sentences(column)
    np.testing.assert_array_equal(is_open, pc.match_substring_regex(column, OPEN))
    np.testing.assert_array_equal(words >= MIN_WORDS_ALONE, pc.match_substring_regex(column, LONG))


def reasons(instruction: str, response: str) -> str | None:
    record = pa.table({"instruction": [instruction], "response": [response]})
    verdict = Truncated().judge(record).to_pylist()[0]
    return verdict and verdict["reason"]


APOSTROPHES = [
    "Use a set (it's faster, and the order doesn't matter).\n\n```python\nprint({1, 2})\n```\n\nThat is all.",
    "See [the project's page](https://example.org/a).\n\n```c\nwhile (on) {\n}\n```\n\nThen build it.",
    "[STATE]: {Done, I'll {name the step} next.}\n\nThis format shows what is under way. Let's begin!",
    "^[a-z!#$%&'*+/=?^_`{|}~-]+@[a-z0-9]+(?:\\.[a-z]{2,})*$",
    "  /\\_/\\\n {  `.' }\n ( o.o )\n  > ^ |",
    'A board is 5" wide (and 3" high).\n\n```json\n{"w": 5}\n```\n\nThat fits.',
]
"""Brackets are balanced, and quotes are apostrophes, inches or parts of a pattern."""


@pytest.mark.parametrize("response", APOSTROPHES)
def test_an_apostrophe_hides_no_bracket(response: str) -> None:
    assert reasons("Show me how.", response) is None


@pytest.mark.parametrize(
    "response",
    [
        "let d = {n: 'x (y', k: [1, [2, 3], {z: 4",
        "def f(x):\n    return {b'key': g(x,\n        h(x)",
        'It\'s a map:\n\n{"a": {"b": [1, 2, 3',
    ],
)
def test_brackets_behind_apostrophes_and_strings_are_counted(response: str) -> None:
    assert reasons("Write it as code.", response) == "open_bracket"


@pytest.mark.parametrize(
    "response",
    [
        "Put `\\usepackage{graphicx}` before `\\begin{document}` and compile twice.",
        "Place the command after \\begin{document} and before the first section. Then compile.",
        'The text stands between "\\begin{quote}" and its end, as the manual says.',
        "We have \\begin{align*} x &= 1 \\end{align*} which is what was asked. \\begin{cases} 1 \\end{cases}.",
    ],
)
def test_an_environment_that_is_named_need_not_end(response: str) -> None:
    assert reasons("How does LaTeX do it?", response) is None


@pytest.mark.parametrize(
    "response",
    [r"We solve it: \begin{align*} x &= 1 \\", "```latex\n\\begin{document}\nHello\n```", r"So \begin{cases} 1 & x"],
)
def test_an_environment_without_its_end_is_open(response: str) -> None:
    assert reasons("Solve it.", response) == "open_environment"


def test_a_heading_underlined_with_tildes_opens_no_fence() -> None:
    assert reasons("Write a page.", "Report\n~~~~~~\n\nAll is well here.\n\nEnd\n~~~\n\nNothing else.\n") is None
    assert reasons("Write a page.", "All is well here.\n\n~~~\nx = 1\n") == "open_code"


def test_a_dollar_is_money_where_formulas_stand_in_brackets() -> None:
    text = r"1. Two combos: \(2 \times $40 = $80\)\n2. Two shirts: \(2 \times $6 = $12\)\n\nThe total is $92."
    assert reasons("How much was it?", text.replace(r"\n", "\n")) is None


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (
            "Here.\n\n```python\nx = 1\n```\n\nIn this program, we have set the value of one variable to the number",
            "open_sentence",
        ),
        (
            "Ingredients:\n\n* rice\n* two eggs\n\n1. Wash the rice.\n2. Beat the eggs well.\n3. Stir both in the hot",
            "open_item",
        ),
    ],
)
def test_a_cut_behind_a_fence_or_in_the_last_of_several_lists_is_found(response: str, reason: str) -> None:
    assert reasons("Explain it.", response) == reason


@pytest.mark.parametrize(
    "ending",
    [
        *(
            "**Answer: $35**",
            "Answer: **$35**",
            "Price: **$35/month**",
            "Tickets are $35+",
            "She has **$35 left**",
            "*$35*",
        ),
        *("\\boxed{35}\n\nThe answer is $35.", "\\[x + y = 35\\]\n\n**So, it costs $35 (thirty-five dollars).**"),
    ],
)
def test_an_amount_at_the_end_is_no_open_formula(ending: str) -> None:
    text = "Cream cost $10 / 2 = $5.\nA pack of cuts cost $10 x 2 = $20.\nIn all $10 + $5 + $20 = $35 was spent.\n\n"
    for dollars in ("", "It was $1 more than before.\n"):  # an odd and an even number
        assert reasons("How much was it?", dollars + text + ending) is None


@pytest.mark.parametrize("cut", ["$x = ", "$\\frac{1", "$x^2 + 3x", "$$y = \\sqrt{", "$17"])
def test_a_formula_that_does_not_end_is_open(cut: str) -> None:
    text = "The roots are $x = \\frac{1}{2}$ and $x = 3$, so $p(x)$ has degree $2$. Hence "
    assert reasons("Solve it.", text + cut) == "open_formula"


BEFORE_IT = "The tower is old, and nobody lives there. It was built by the sea. "


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        ("As", "open_sentence"),
        ("2. Use of the rooms: The guests have", "open_sentence"),
        ("Its keeper said 'we light the lamp' to every ship", "open_sentence"),
        ("(So he wrote; I never saw it) It stands – like others – near", None),  # begins with no capital letter
        ("The keeper – an old man – lives near them", "open_sentence"),
        ("It ends here: we know of nobody who has seen the wall that this was a part of", "dangling_word"),
        ("\\[x = 3.\\]Then the other root", "open_sentence"),
        ("\\begin{align*}\nx &= 3\n\\end{align*}Squaring both sides", "open_sentence"),
    ],
)
def test_a_sentence_with_quotes_dashes_a_number_or_behind_a_display_is_open(cut: str, reason: str | None) -> None:
    assert reasons("Tell me of it.", BEFORE_IT + cut) == reason


@pytest.mark.parametrize(
    "response",
    [
        "His aunt has a pool near the house and he wanted somebody to swim with",
        "He told all of us at great length what he had come for",
        BEFORE_IT + "Nobody knows what it is for.\n\nKeeper: an old man of the town",
        BEFORE_IT + "It is a",
        BEFORE_IT + "So the tower is $20+5=25$ metres high and the answer is $\\boxed{25}$ - tower_fan7",
    ],
)
def test_a_whole_sentence_may_end_in_a_preposition_or_lack_its_mark(response: str) -> None:
    asked = 'Which words come first in "It is a tower"? Continue: It is a'
    assert reasons(asked if response.endswith("It is a") else "Tell me.", response) is None


def test_two_common_words_that_the_instruction_has_too_excuse_no_open_end() -> None:
    instruction, response = "Explain the use of the lamp. What is it for?", BEFORE_IT + "It burned oil for most of the"
    assert reasons(instruction, response) == "dangling_word"
    assert reasons("Quote what comes before 'night': it burned oil for most of the night", response) is None
