"""What a person sees while a run goes on: a bar on a terminal, a line per step elsewhere; always on stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from rich.console import Console as Rich
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from pipelines.ledger import run as runs


def count(number: int | float) -> str:
    """1234567 -> `1,234,567`."""
    return f"{number:,.0f}"


def rate(rows: int, seconds: float) -> str:
    """Rows per second, or nothing where the time is too short to divide by."""
    return f"{count(rows / seconds)} rows/s" if seconds > 0.05 else ""


class Console:
    """Shows steps. `quiet` shows nothing, for `--json` into a pipe and for schedulers with a UI of their own."""

    def __init__(self, quiet: bool = False) -> None:
        self.rich = Rich(stderr=True, quiet=quiet)
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.rich,
            transient=True,
            disable=not self.rich.is_terminal or quiet,
        )
        self.bar: TaskID | None = None
        self.shown = ""

    def watch(self, progress: runs.Progress) -> None:
        """Move the bar: the step, its phase where it has several, shards done, rows kept, rows per second."""
        if progress.phase == "reused":
            return
        name = progress.step if progress.phase == "shards" else f"{progress.step}: {progress.phase}"
        words = ""
        if progress.rows_in and progress.rows_kept is not None:
            words = f"{count(progress.rows_kept)} rows kept, {rate(progress.rows_in, progress.seconds)}"
        self.show(name, progress.done, progress.total, words)

    def trained(self, metrics: Mapping[str, Any]) -> None:
        """Move the bar of a training: steps, and of the last one all that was measured."""
        right, whole = metrics["token_accuracy"], metrics["sequence_accuracy"]
        words = (
            f"loss {metrics['loss']:.3f}, right {right:.0%} of tokens {whole:.0%} of answers, "
            f"gradient {metrics['grad_norm']:.2f}, {count(metrics['tokens_per_second'])} tokens/s, "
            f"MFU {metrics['mfu']:.0%}, wait {metrics['input_wait']:.0%}, {metrics['memory'] / 1e9:.1f} GB"
        )
        self.show("train", metrics["step"], metrics["total_steps"], words)

    def show(self, name: str, done: int, total: int, words: str = "") -> None:
        """Move the bar of that name; the one before it goes."""
        if name != self.shown:
            if self.bar is not None:
                self.bars.remove_task(self.bar)
            # What was there before does not count as speed.
            self.bar, self.shown = self.bars.add_task(name, total=total, completed=done, words=""), name
        assert self.bar is not None
        self.bars.update(self.bar, completed=done, total=total, words=words)

    def finished(self, result: runs.StepResult) -> None:
        """Print one line for a finished step."""
        manifest = result.manifest
        if manifest.rows_kept is None:
            files = len(manifest.files(result.step.type.main_product))
            rows = f"{files:>10} file{'s' if files != 1 else ''}"
        else:
            rows = f"{count(manifest.rows_kept):>10} kept"
            rows += f"  {count(manifest.rows_dropped):>8} dropped" if manifest.rows_dropped else ""
        speed = "reused" if result.reused else f"{result.seconds:6.1f} s"
        if not result.reused and manifest.rows_in:
            speed += f"  {rate(manifest.rows_in, result.seconds)}"
        mark = "[dim]·[/dim]" if result.reused else "[green]✓[/green]"
        self.say(f" {mark} {manifest.step:<20}{rows:<38}{speed}")

    def say(self, text: str) -> None:
        """A line for the user."""
        self.rich.print(text, highlight=False, soft_wrap=True)

    def beside(self, left: tuple[str, str], right: tuple[str, str]) -> None:
        """Two texts side by side, each under its heading."""
        table = Table(show_edge=False, expand=True, pad_edge=True)
        for heading, _ in (left, right):
            table.add_column(Text(heading), ratio=1, overflow="fold")
        table.add_row(Text(left[1]), Text(right[1]))
        self.rich.print(table)

    def __enter__(self) -> Console:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()
        sys.stderr.flush()


CONSOLE: ContextVar[Console | None] = ContextVar("CONSOLE", default=None)
"""The console, if a flow was started from a terminal. It is no parameter of the flow: Prefect records parameters."""


def current_console() -> Console:
    """The console of the terminal that started the flow, or one that prints nothing."""
    return CONSOLE.get() or Console(quiet=True)
