"""Does the Python in a response parse, and are its names defined? Nothing is run."""

from __future__ import annotations

import ast
import builtins
import contextlib
import re
import textwrap
import warnings
from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from filters.scores.score import Score

MAX_BYTES = 1 << 16
"""A longer program is not read: parsing is recursive, and takes long for hostile text."""

CODE_SHARE = 0.8
"""A response without fences is a program if this share of its lines, at least, look like code."""

_CANDIDATE = (
    r"(?m)^\s*(?:```|~~~|def |class |async def |from [\w.]+ import|import \w|for .*:|while .*:|if .*:|with .*:|print\()"
)
_FENCE = re.compile(r"^[ \t]*(```|~~~)[ \t]*(\w*)[^\n]*\n(.*?)^[ \t]*\1", re.MULTILINE | re.DOTALL)
_PYTHON = frozenset({"python", "py", "python3"})
_OPENING = re.compile(r"^\s*(?:def |class |async def |from [\w.]+ import|import \w|@\w)", re.MULTILINE)
_CODE_LINE = re.compile(
    r"^\s*(?:(?:def|class|async|from|import|for|while|if|elif|else|try|except|finally|with|return|yield|raise|assert|pass|break"
    r"|continue|del|global|nonlocal|lambda|print|match|case)\b.*|[@%!]\w.*|#.*"
    r"|[\w.\[\]'\", ()*]+\s*(?:[-+*/%|&]|//|\*\*)?=(?!=).*"
    r"|[\w.]+(?:\[.*\])?\(.*|[)\]}].*|\"\"\".*|'''.*|['\"\d({\[].*,?)$"
)
_FIRST_LINE = re.compile(
    r"\s*(?:def \w|class \w|async def |from [\w.]+ import|import \w|@\w|#|\"\"\"|[a-zA-Z_]\w*\s*(?::\s*\w+\s*)?=[^=])"
)
_ELSEWHERE = re.compile(
    r"^\s*(?:[{}]\s*$|end\s*$|puts |require |module |\w+ :: |#include|using |package |public |private |function\b.*\{"
    r"|var |let |const |<[a-zA-Z!/]|SELECT |\$\w|console\.|.*;\s*$)",
    re.MULTILINE,
)
"""Lines of other languages: Ruby, Haskell, C and its relatives, JavaScript, HTML, SQL, shells."""
_MAGIC = re.compile(r"^[%!].*$", re.MULTILINE)
_BUILTINS = frozenset(dir(builtins)) | {"__file__", "__name__", "__doc__", "__builtins__", "_"}


class Python(Score):
    """Whether the Python in a response can be parsed and its names are defined: 0 to 1; 1 is good.

    Programs are fenced blocks marked `python`, and responses without fences of which most lines look like Python. The
    score of a program that cannot be parsed is 0. Else it is the share of the names it reads that are defined in it, in
    the code of the instruction, or by Python. A response with several programs has the mean; one without is null.
    Python 2 cannot be parsed.
    """

    VERSION: ClassVar[int] = 1

    kind: Literal["python"] = "python"

    def measure(self, records: pa.Table, model: str | None = None) -> pa.Table:
        """The column `score_<name>` [rows], float32."""
        texts, asked = as_array(records["response"]), as_array(records["instruction"])
        rows = np.flatnonzero(pc.match_substring_regex(texts, _CANDIDATE).to_numpy(zero_copy_only=False))
        chosen = pa.array(rows)
        values = np.full(records.num_rows, np.nan, np.float32)
        for row, text, instruction in zip(
            rows, texts.take(chosen).to_pylist(), asked.take(chosen).to_pylist(), strict=True
        ):
            found = [_judged(program, instruction) for program in programs(text)]
            if found:
                values[row] = sum(found) / len(found)
        return pa.table([pa.array(values, from_pandas=True)], schema=pa.schema(self.columns))


def programs(text: str) -> Iterator[str]:
    """The Python programs of a response."""
    fenced = _FENCE.findall(text)
    if fenced or "```" in text:
        for _, language, code in fenced:
            if language.lower() in _PYTHON or (not language and _is_python(code)):
                yield from _short(textwrap.dedent(code))
    elif _is_python(text):
        yield from _short(text)


def _short(code: str) -> Iterator[str]:
    if ">>>" not in code and len(code.encode()) <= MAX_BYTES:
        yield code


def _is_python(text: str) -> bool:
    """Whether a text looks like Python, right or wrong."""
    if _OPENING.search(text) is None or _ELSEWHERE.search(text) is not None:
        return False
    lines = [line for line in text.splitlines() if line.strip()]
    if _FIRST_LINE.match(lines[0]) is None:  # an explanation
        return False
    return sum(_CODE_LINE.match(line[:400]) is not None for line in lines) >= CODE_SHARE * len(lines)


def _judged(code: str, instruction: str) -> float:
    tree = _tree(code)
    if tree is None:
        return 0.0
    used, known = _names(tree)
    if known is None or not used:
        return 1.0
    missing = [name for name in used if name not in known]
    # A function to be completed is in the instruction, with its arguments and imports.
    undefined = [name for name in missing if not re.search(rf"\b{re.escape(name)}\b", instruction)]
    return 1 - len(undefined) / len(used)


def _tree(code: str) -> ast.Module | None:
    """The program, or the body of a function, parsed; None if it cannot be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = _MAGIC.sub("", code)
        for text in (code, "def f():\n" + textwrap.indent(code, " ")):
            with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                return ast.parse(text)
    return None


def _names(tree: ast.Module) -> tuple[list[str], set[str] | None]:
    """The names that a program reads, and those that it or Python defines; None if it imports all names of a module."""
    known: set[str] = set(_BUILTINS)
    used = []
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.append(name)
            case ast.Name(id=name):
                known.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                known.add(name)
            case ast.arg(arg=name):
                known.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                known.add(name)
            case ast.MatchMapping(rest=str(name)):
                known.add(name)
            case ast.alias(name="*"):
                return used, None
            case ast.alias(name=name, asname=other):
                known.add((other or name).partition(".")[0])
    return used, known
