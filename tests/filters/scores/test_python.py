"""Whether Python in responses can be parsed and its names are defined."""

from __future__ import annotations

import pyarrow as pa
import pytest

from filters.scores.python import MAX_BYTES, Python

GOOD = "def area(radius):\n    return 3 * radius ** 2\n\nprint(area(2))\n"


def score(response: str, instruction: str = "") -> float | None:
    table = pa.table({"instruction": [instruction], "response": [response]})
    return Python(name="python").measure(table)["score_python"][0].as_py()


@pytest.mark.parametrize(
    "response",
    [
        GOOD,
        f"Here it is:\n\n```python\n{GOOD}```\nIt prints the area.",
        f"```\n{GOOD}```",
        "  ```py\n  import os\n  print(os.name)\n  ```",
        "from math import *\nprint(sqrt(2))",
        "import sys\n%matplotlib inline\n!pip install numpy\nprint(sys.argv)",
        "def f(x):\n    match x:\n        case [first, *rest]:\n            return first, rest",
        "import csv\nrows = [len(r) for r in csv.reader([])]\ntry:\n    print(rows)\nexcept OSError as e:\n    str(e)",
        "class Stack:\n    def __init__(self):\n        self.a = 1\n\n    def size(self):\n        return self.a",
    ],
)  # fmt: skip
def test_a_whole_program_has_1(response: str) -> None:
    assert score(response) == 1


@pytest.mark.parametrize(
    "response",
    [
        GOOD.replace("):", ")"),
        GOOD.replace("    return", "return"),
        GOOD.replace("print(area(2))", "print(area(2)"),
        f"Here it is:\n```python\n{GOOD[:30]}(\n```",
        "import sys\nprint 'hello'",
    ],
)
def test_a_program_that_cannot_be_parsed_has_0(response: str) -> None:
    assert score(response) == 0


def test_a_name_that_nothing_defines_counts_by_its_share() -> None:
    assert score("def area(radius):\n    return 3 * raduis * radius") == pytest.approx(0.5)
    both = f"```python\n{GOOD}```\nand\n```python\n{GOOD.replace('):', ')')}```"
    assert score(both) == pytest.approx(0.5)


def test_names_of_the_instructions_code_are_defined() -> None:
    body = "def double(values):\n    return [scale(value) for value in values]"
    assert score(body) < 1
    assert score(body, "Use the function scale(x) that is given.") == 1


@pytest.mark.parametrize(
    "response",
    [
        "",
        "The class was imported from Italy.",
        "To import a module, write import and its name. For example:\n\nimport math\n\nThis gives you its functions.",
        "def reverse(text)\n  text.reverse\nend",
        "import java.util.Scanner;\n\npublic class Main {\n}",
        "import Data.Char\n\nmain :: IO ()\nmain = print 1",
        "```javascript\nfunction f() { return 1 }\n```",
        "```json\n{\"a\": }\n```",
        ">>> import os\n>>> print(os.name)\nposix",
        "def f():\n" + "    x = 1\n" * (MAX_BYTES // 8),
    ],
)  # fmt: skip
def test_a_response_without_a_program_to_read_has_no_score(response: str) -> None:
    assert score(response) is None


@pytest.mark.parametrize(
    "response",
    [
        "import os\nx = " + "(" * 20_000,
        "import os\nx = " + "-" * 30_000 + "1",
        "import os\nx = " + "+".join(["1"] * 15_000),
        "import os\nx = " + "[" * 90 + "]" * 90 + "\n" + "a." * 10_000 + "b",
        "```python\n" * 2_000,
        "import os\n" + "x = 'a" * 5_000,
    ],
)
@pytest.mark.fault("pathological programs in answers", "read, in bounded time")
def test_hostile_programs_are_read(response: str) -> None:
    value = score(response)
    assert value is None or 0 <= value <= 1
