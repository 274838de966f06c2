"""How do prints and warnings of tasks on the workers reach the log of a flow run? With the result of the task."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from pipelines.ledger.engine import ONE_CPU, Engine
from pipelines.ledger.step import Resources

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_LINES = 20
"""Lines of one task that are sent back: its last ones."""

MAX_STEP_LINES = 200
"""Lines of all tasks of a phase that are logged. A warning for each row would otherwise fill Prefect's database."""

MAX_LINE = 500
"""Characters of a line that are kept."""


class Heard(NamedTuple):
    """The result of a task, and what it printed."""

    result: Any
    lines: tuple[str, ...]


class HearingEngine:
    """An engine whose tasks send what they print on stdout and stderr to a log. Else it is the engine that it wraps."""

    def __init__(self, engine: Engine, log: logging.LoggerAdapter[Any] | logging.Logger) -> None:
        self._engine, self._log = engine, log

    @property
    def workers(self) -> int:
        """Tasks of one CPU that run at a time."""
        return self._engine.workers

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], resources: Resources = ONE_CPU
    ) -> Iterator[Result]:
        """Yield `work(item)` in the order of the items, and log what the task printed."""
        logged = 0
        for heard in self._engine.map(functools.partial(_heard, work), items, resources):
            for line in heard.lines if logged < MAX_STEP_LINES else ():
                self._log.warning("%s", line)
            logged += len(heard.lines)
            if logged - len(heard.lines) < MAX_STEP_LINES <= logged:
                self._log.warning("further lines of the workers are not shown for this phase")
            yield heard.result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def _heard(work: Callable[[Item], Result], item: Item) -> Heard:
    printed = io.StringIO()
    out, err = _Both(sys.stdout, printed), _Both(sys.stderr, printed)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        result = work(item)
    lines = [line[:MAX_LINE] for line in printed.getvalue().splitlines() if line.strip()]
    return Heard(result, tuple(lines[-MAX_LINES:]))


class _Both(io.TextIOBase):
    """Writes to a stream, and to a copy."""

    def __init__(self, stream: Any, copy: io.StringIO) -> None:
        self._stream, self._copy = stream, copy

    def write(self, text: str) -> int:
        self._copy.write(text)
        return int(self._stream.write(text))

    def flush(self) -> None:
        self._stream.flush()
