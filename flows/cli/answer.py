"""How does a command print what it was asked for? On stdout: one JSON object, or lines for a reader.

Progress, notes and warnings go to stderr (`flows.console`), so that a pipe or a file receives the answer and nothing
else. Lines have colours on a terminal and are plain text in a pipe. Colours come from `flows.styled` alone: control
characters in a line, as texts of rows may have, are shown as escapes (`pipelines.visible`), in JSON as JSON's own.
A reader that closes the pipe early (`| head -1`) changes nothing else: the command ends without a message, with its own
exit code.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from flows.styled import Styled, rich_text

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console


class Columns(NamedTuple):
    """Two texts, each a pair of heading and text: side by side on a terminal, one below the other in a pipe."""

    left: tuple[str, str]
    right: tuple[str, str]


Line = str | Styled | Columns
"""A line, in pieces with styles or as it is; or two texts. Brackets in a text are no markup."""


def print_answer(
    answer: BaseModel | dict[str, Any],
    lines: Iterable[Line],
    as_json: bool,
    exclude_none: bool = False,
    raw: bool = False,
) -> None:
    """Print an answer on stdout: as one JSON object, or its lines.

    exclude_none: leave fields that are None out of the JSON object. raw: print lines as they are, without styles, and
    control characters too.
    """
    if as_json:
        value = answer if isinstance(answer, dict) else answer.model_dump(mode="json", exclude_none=exclude_none)
        from pipelines.visible import visible_json

        return _write([visible_json(json.dumps(value, ensure_ascii=False))])
    if raw:
        return _write(_plain(lines, lambda text: text))
    from pipelines.visible import visible

    console = _terminal()
    if console is None:
        return _write(_plain(lines, visible))
    for line in lines:
        if isinstance(line, Columns):
            _print_columns(console, line)
        else:
            console.print(rich_text(line), soft_wrap=True)


def _terminal() -> Console | None:
    """The terminal that stdout is; None for a pipe or a file, for which Rich is not even loaded."""
    if not sys.stdout.isatty() and not any(name in os.environ for name in ("FORCE_COLOR", "TTY_COMPATIBLE")):
        return None
    from rich.console import Console

    console = Console(emoji=False, highlight=False)
    return console if console.is_terminal else None


def _plain(lines: Iterable[Line], shown: Callable[[str], str]) -> Iterable[str]:
    """The lines without styles, and without the empty line that sets an answer apart from the progress above it."""
    for number, line in enumerate(lines):
        if isinstance(line, Columns):
            for heading, text in line:
                yield f"  {shown(heading)}"
                yield from (f"    {part}" for part in shown(text).splitlines())
        elif number or line:
            plain = shown(str(line))
            yield plain if number else plain.lstrip("\n")


def _write(lines: Iterable[str]) -> None:
    try:
        for line in lines:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader needs no more. What is still buffered would fail again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_columns(console: Console, columns: Columns) -> None:
    from rich.table import Table

    table = Table(show_edge=False, expand=True, pad_edge=True)
    for heading, _ in columns:
        table.add_column(rich_text(heading), ratio=1, overflow="fold")
    table.add_row(*(rich_text(text) for _, text in columns))
    console.print(table)
