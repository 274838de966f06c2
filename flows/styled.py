"""How is a text in colours made? From pieces, each with a style. Text of the user's is never read as markup."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TextIO

# What shows and masks texts is imported where it is used: `winnow --help` prints none, and compiling its patterns takes
# 20 ms.
if TYPE_CHECKING:
    from rich.text import Text

Style = Literal["", "bold", "dim", "red", "green", "yellow", "bold red", "bold green", "bold yellow"]


class Piece(NamedTuple):
    """A text in one style."""

    text: str
    style: Style = ""


class Styled(tuple[Piece, ...]):
    """Pieces, one after the other."""

    def __str__(self) -> str:
        return "".join(piece.text for piece in self)


def rich_text(line: str | Styled) -> Text:
    """A line for rich: its pieces as they are, but controls and unseen characters shown as escapes."""
    from rich.text import Text

    from pipelines.visible import visible

    return Text.assemble(*((visible(text), style) for text, style in styled(line)))


def styled(*parts: str | Styled) -> Styled:
    """Texts, plain or styled, one after the other."""
    return Styled(piece for part in parts for piece in ((Piece(part),) if isinstance(part, str) else part))


def bold(text: str) -> Styled:
    return Styled((Piece(text, "bold"),))


def dim(text: str) -> Styled:
    return Styled((Piece(text, "dim"),))


def red(text: str) -> Styled:
    return Styled((Piece(text, "red"),))


def green(text: str) -> Styled:
    return Styled((Piece(text, "green"),))


def yellow(text: str) -> Styled:
    return Styled((Piece(text, "yellow"),))


class Shown:
    """A text stream that shows controls and unseen characters of all that is written to it as escapes, and hides
    credentials in addresses.

    It stands for stderr in a command: messages of libraries, warnings and tracebacks quote names and texts too.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        from pipelines.credentials import masked
        from pipelines.visible import visible

        self.stream.write(visible(masked(text)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def own_stderr() -> TextIO:
    """The stream behind stderr, for what is shown as escapes already and has colours of its own."""
    return sys.stderr.stream if isinstance(sys.stderr, Shown) else sys.stderr
