"""What does a user see while a run goes on? A progress bar on a terminal and a line per step, always on stderr."""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flows.styled import Piece, Styled, dim, green, own_stderr, rich_text, styled, yellow

if TYPE_CHECKING:
    # Rich takes 50 ms to import, and the ledger loads Arrow and the filters. A command that shows no progress needs
    # neither.
    from rich.console import Console as RichConsole
    from rich.progress import Progress, TaskID

    from pipelines.ledger import run as runs
    from pipelines.ledger.lease import Holder

MIN_RATE_SECONDS = 0.05
"""A rate over a shorter time says nothing: the clock and start-up dominate it."""

MIN_SHOWN_SECONDS = 0.1
"""Between two moves of a step's bar, which is drawn ten times a second. Shards may finish much faster."""


def count(number: int | float) -> str:
    """1234567 -> `1,234,567`."""
    return f"{number:,.0f}"


def quantity(number: int, noun: str) -> str:
    """(1, "file") -> `1 file`; (2345, "file") -> `2,345 files`."""
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")


def rate(rows: int, seconds: float) -> str:
    """Rows per second; an empty string if the time is too short to measure."""
    return f"{count(rows / seconds)} rows/s" if seconds > MIN_RATE_SECONDS else ""


def output_of(result: runs.StepResult) -> str:
    """What a step wrote: rows kept and dropped; for a step that conserves no rows, the files of its main product."""
    manifest = result.manifest
    if manifest.rows_kept is None:
        return quantity(len(manifest.files(result.step.type.main_product)), "file")
    return f"{quantity(manifest.rows_kept, 'row')} kept, {count(manifest.rows_dropped or 0)} dropped"


def unread_line(source: str, columns: Sequence[str]) -> str:
    """The warning about columns with text that the recipe does not name."""
    shown = ", ".join(columns[:12]) + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")
    return (
        f"source {source!r} has text in columns that are not read: {shown} "
        "(several columns are joined by `instruction: [a, b]`)"
    )


class Console:
    """Prints progress and notes on stderr; `flows.cli.answer` prints what was asked for, on stdout.

    A `quiet` console prints nothing: for `--json` without a terminal, and for flows that a scheduler starts.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.bar: TaskID | None = None
        self.bar_name = ""
        self.waiting_for = ""
        self.shown = -math.inf

    @functools.cached_property
    def rich(self) -> RichConsole:
        """Rich's console of stderr."""
        from rich.console import Console as RichConsole

        return RichConsole(file=own_stderr(), quiet=self.quiet, emoji=False, markup=False)

    @functools.cached_property
    def bars(self) -> Progress:
        """The progress bar. It is shown between `__enter__` and `__exit__`, on a terminal."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<18}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.rich,
            transient=True,
            disable=not self.rich.is_terminal or self.quiet,
        )

    def watch(self, progress: runs.Progress) -> None:
        """Move the bar of a step: shards done, rows kept, rows per second."""
        now = time.monotonic()
        if progress.phase == "reused" or (0 < progress.done < progress.total and now < self.shown + MIN_SHOWN_SECONDS):
            return
        if progress.phase == "damaged":
            self.note(progress.holder)
            return
        if progress.phase == "waiting":
            self.watch_waiting(progress.step, progress.holder, progress.seconds)
            return
        self.shown = now
        name = progress.step if progress.phase == "shards" else f"{progress.step}: {progress.phase}"
        text = ""
        if progress.rows_in and progress.rows_kept is not None:
            text = f"{quantity(progress.rows_kept, 'row')} kept, {rate(progress.rows_in, progress.seconds)}"
        self.move_bar(name, progress.done, progress.total, text)

    def watch_waiting(self, work: str, holder: str, seconds: float) -> None:
        """Print once for whom this work waits, and show for how long."""
        text = f"{work}: waiting for {holder}"
        if text != self.waiting_for:
            self.waiting_for = text
            self.note(text)
        self.move_bar(f"{work}: waiting", 0, 1, f"{seconds:.0f} s")

    def watch_training(self, metrics: Mapping[str, Any]) -> None:
        """Move the bar of a training: steps done, and the metrics of the last one (`training.journal.Metrics`)."""
        if metrics["loss"] is None:
            self.move_bar("train", metrics["step"], metrics["total_steps"], "skipped: loss or gradient not finite")
            return
        text = (
            f"loss {metrics['loss']:.3f}, correct: {metrics['token_accuracy']:.0%} of tokens, "
            f"{metrics['sequence_accuracy']:.0%} of answers, gradient norm {metrics['grad_norm']:.2f}, "
            f"{count(metrics['tokens_per_second'])} tokens/s, MFU {metrics['mfu']:.0%}, "
            f"input wait {metrics['input_wait']:.0%}, {metrics['memory'] / 1e9:.1f} GB"
        )
        self.move_bar("train", metrics["step"], metrics["total_steps"], text)

    def move_bar(self, name: str, done: int, total: int, text: str = "") -> None:
        """Move the bar of this name. A new name replaces the bar."""
        from pipelines.visible import visible

        name, text = visible(name), visible(text)
        if name != self.bar_name:
            if self.bar is not None:
                self.bars.remove_task(self.bar)
            # `completed` from the start: the remaining time is estimated from what is done after it.
            self.bar, self.bar_name = self.bars.add_task(name, total=total, completed=done, text=""), name
        assert self.bar is not None
        self.bars.update(self.bar, completed=done, total=total, text=text)

    def step_finished(self, result: runs.StepResult) -> None:
        """Print the line of a finished step."""
        manifest = result.manifest
        if manifest.rows_kept is None:
            files = len(manifest.files(result.step.type.main_product))
            output = f"{count(files):>10} file{'' if files == 1 else 's'}"
        else:
            output = f"{count(manifest.rows_kept):>10} kept"
            output += f"  {count(manifest.rows_dropped):>8} dropped" if manifest.rows_dropped else ""
        time = "reused" if result.reused else f"{result.seconds:6.1f} s"
        if not result.reused and manifest.rows_in:
            time += f"  {rate(manifest.rows_in, result.seconds)}"
        mark = dim("·") if result.reused else green("✓")
        self.print(styled(" ", mark, f" {manifest.step:<20}{output:<38}{time}"))

    def print(self, line: str | Styled) -> None:
        """Print a line, as it is: brackets are no markup, and control characters are shown as escapes (`visible`)."""
        from pipelines.credentials import masked

        pieces = Styled(Piece(masked(piece.text), piece.style) for piece in styled(line))
        self.rich.print(rich_text(pieces), highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a remark on what is going on."""
        self.print(styled(" ", yellow("·"), f" {text}"))

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.print(styled(" ", yellow(f"! {text}")))

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


def show_waiting(work: str, holder: Holder, seconds: float) -> None:
    """Show on the current console for whom this work waits: `on_wait` of a lease."""
    current_console().watch_waiting(work, str(holder), seconds)


@contextlib.contextmanager
def polled(look: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call `look` in a thread every so many seconds during the block, and once at its end."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(seconds):
            look()
        look()

    thread = threading.Thread(target=loop, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
