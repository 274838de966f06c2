"""HumanEval: write the body of a function that has a signature and a docstring (Chen et al., arXiv 2107.03374).

HRM-Text does not report HumanEval; the protocol is that of the paper and of lm-eval. The prompt is the beginning of the
program, condition `direct`, because the program continues at once. An answer is right if the program passes
the benchmark's tests in a sandbox (`sandbox.py`), within 5 s of CPU time where the paper allows 3 s of wall time.

- `published`, pass@1: prompt and answer are concatenated. The answer is cut before the first of `STOP`, lm-eval's stop
  strings. The cut is made here and not while the model writes, so that the other scorer sees the whole answer.
- `extracted`: the answer may also hold a fenced code block, the whole function, or a body without indentation.

Invalid answers are those that are not Python.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence

from pipelines.errors import WinnowError
from training.evaluation import sandbox
from training.evaluation.task import Answer, Item, Judgement, Scorer, Task, detail

STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")

_FENCED = re.compile(r"^[ \t]*```[ \t]*(?:\w+)?[ \t]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_INDENT = "    "


def beginning(item: Item) -> str:
    """The beginning of the program: imports, signature and docstring."""
    question: str = item["question"]
    return question


def prompt(item: Item, shots: Sequence[Item]) -> str:
    """The beginning of the program without white space around it, as all prompts of HRM-Text."""
    return beginning(item).strip()


def cut(text: str) -> str:
    """The text before the first stop string."""
    return text[: min((at for stop in STOP if (at := text.find(stop)) >= 0), default=len(text))]


def concatenated(text: str, item: Item) -> str:
    """The program without tests: prompt and answer."""
    return beginning(item) + cut(text)


def extracted(text: str, item: Item) -> str:
    """The program without tests: the prompt, and the function or body that the answer gives.

    Of several fenced blocks it takes the last that defines the function, else the first. A definition replaces that of
    the prompt, whose imports and helper functions stay.
    """
    whole = re.compile(rf"^(?:async )?def {re.escape(_entry_point(item))}\(", re.MULTILINE)
    blocks = [match[1] for match in _FENCED.finditer(text)]
    code = next((block for block in reversed(blocks) if whole.search(block)), blocks[0] if blocks else text)
    if whole.search(code):
        return f"{beginning(item)}{_INDENT}pass\n\n{code}"
    return beginning(item) + _indented(cut(code.strip("\n")))


def _indented(body: str) -> str:
    """A body with the indentation of a function's body, which its first line or all of its lines may lack."""
    first, newline, rest = body.partition("\n")
    if not first.strip() or first.startswith((" ", "\t")):
        return body
    lines = [line for line in rest.split("\n") if line.strip()]
    # A block that the first line opens is one level deeper than the line itself.
    indent = _INDENT * (2 if first.rstrip().endswith(":") else 1)
    if lines and lines[0].startswith(indent) and all(line.startswith(_INDENT) for line in lines):
        return f"{_INDENT}{first}{newline}{rest}"
    return textwrap.indent(body, _INDENT)


def _entry_point(item: Item) -> str:
    name = detail(item, "entry_point")
    if not name:
        raise WinnowError(
            f"{item['id']}: the benchmark's file has no columns `test` and `entry_point`, by which answers are scored"
        )
    return str(name)


def tested(program: str, item: Item) -> str:
    """A program with the benchmark's tests of it."""
    name = _entry_point(item)
    return f"{program}\n{detail(item, 'test')}\ncheck({name})"


def _passes(write: Callable[[str, Item], str]) -> Callable[[Sequence[Answer], Sequence[Item]], list[Judgement]]:
    """The judge that runs what `write` makes of an answer, with the item's tests."""

    def judge(answers: Sequence[Answer], items: Sequence[Item]) -> list[Judgement]:
        pairs = zip(answers, items, strict=True)
        outcomes = sandbox.run_all([tested(write(answer.text, item), item) for answer, item in pairs])
        return [_judgement(outcome) for outcome in outcomes]

    return judge


def _judgement(outcome: sandbox.Outcome) -> Judgement:
    """extracted: how the program ended, such as `passed`, `AssertionError` or `time`."""
    if outcome.completed:
        return Judgement(1.0, True, "passed")
    error = outcome.output.rstrip().rpartition("\n")[2].partition(":")[0]
    reason = error if outcome.ended == "exit" and error.isidentifier() else outcome.ended
    return Judgement(0.0, reason not in ("SyntaxError", "IndentationError", "TabError"), reason)


HUMANEVAL = Task(
    name="humaneval",
    condition="direct",
    scorers=(
        Scorer("published", 1, _passes(concatenated)),
        Scorer("extracted", 1, _passes(extracted)),
    ),
    prompt=prompt,
    extract=lambda text, item: extracted(text, item).strip() or None,
    max_tokens=1024,
)
