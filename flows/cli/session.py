"""What does a command set up before its work and take down after it? Environment, console, Prefect server, warnings."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO, TypeVar, cast

from flows.console import CONSOLE, Console
from flows.styled import Shown

if TYPE_CHECKING:
    from pipelines.recipe import Recipe
    from pipelines.steps.step import Steps

P = ParamSpec("P")
R = TypeVar("R")

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # The command prints its own error message. Prefect's log, with tracebacks, is for the UI.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
    # Without a database the server answers with 500.
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500,504",
    # For the automation that closes flow runs whose process was killed (docs/prefect.md).
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
}
"""Environment in which Prefect, Ray and other libraries print nothing on the terminal. The user's variables win."""

PACKAGES = ("dedup", "filters", "pipelines", "training", "flows")
"""The packages of Winnow: warnings of classes that they define are for the user."""


def prepare_process() -> None:
    """Silence the libraries, and print Winnow's own warnings as one line each. Call it before anything is imported."""
    gc.set_threshold(50_000, 20, 100)  # imports make some 200,000 objects that stay: looking for garbage finds none
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    sys.stderr = cast(TextIO, Shown(sys.stderr))
    logging.raiseExceptions = False  # Prefect's handler prints when the server does not take a line
    # A command that is stopped ends its pool without taking it down; multiprocessing's tracker removes the semaphores.
    ignored = "ignore:resource_tracker:UserWarning"
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), ignored)))
    show_other = warnings.showwarning
    shown: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category.__module__.partition(".")[0] not in PACKAGES:
            show_other(message, category, filename, lineno, file, line)
        elif str(message) not in shown:  # a flow loads its recipe again, and warns again
            shown.add(str(message))
            print(f"warning: {message}", file=sys.stderr)

    warnings.showwarning = show


def open_console(as_json: bool) -> Console:
    """The console of a command. With `--json` it prints progress on a terminal, and nothing into a pipe or file."""
    return Console(quiet=as_json and not sys.stderr.isatty())


def announce(as_json: bool, text: str) -> None:
    """Print what a command begins, as its first line, before the imports that it needs."""
    if not as_json or sys.stderr.isatty():
        print(f"{text} ...", file=sys.stderr, flush=True)


class Session:
    """A command that runs a flow, with its console and its Prefect server.

    tracked: whether Prefect shows the run. A command that is not tracked calls the function that the flow wraps.
    """

    def __init__(self, console: Console, tracked: bool, wait_for_server: Callable[[], None]) -> None:
        self.console, self.tracked = console, tracked
        self._wait_for_server = wait_for_server

    def run(self, flow: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a flow as soon as the server answers, or the function that it wraps.

        The answer is that of the work, whatever becomes of the server. If it is away when the work ends, the process
        leaves without waiting for Prefect's threads (`leave`).

        Raises: RuntimeError: if the server does not start. Whatever the work raises.
        """
        self._wait_for_server()
        if not self.tracked:
            return flow(*args, **kwargs)
        from flows.prefect.tracker import call_flow

        return cast(R, call_flow(cast(Any, flow), _abandon, *args, **kwargs))


_abandoned = False
"""Whether the Prefect server was away when a flow run ended."""


def _abandon() -> None:
    global _abandoned
    _abandoned = True


def leave(code: int) -> None:
    """End the process at once if Prefect's threads would wait for a server that is away; else return."""
    if _abandoned:
        from flows.cli.supervise import note_end

        note_end()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@contextlib.contextmanager
def flow_session(as_json: bool, tracked: bool = True, engine: str = "local") -> Iterator[Session]:
    """Set up a command that runs a flow. engine: that runs its steps.

    The Prefect server starts in another process at once. Import the flow, which takes seconds, inside the block and
    call it with `Session.run`: the import and the start of the server then overlap.

    Raises: WinnowError: if the Prefect server or the Ray cluster that the environment names does not answer.
    """
    from flows.prefect.ephemeral import start_server
    from flows.reach import check_prefect, check_ray

    if engine == "ray":
        check_ray()
    if tracked:
        check_prefect()
    wait_for_server = start_server() if tracked else lambda: None
    with console_session(as_json) as console:
        yield Session(console, tracked, wait_for_server)


def needs_prefect(engine: str, recipe: Recipe, root: str, steps: Steps | None = None, again: bool = False) -> bool:
    """Whether Prefect tracks the execution of a recipe. steps: as in `execute_recipe`, None for those of a build.
    again: whether finished steps are made again.

    A server that the user has configured sees every run. Without one, a server is started for the engine `ray`, unless
    every step is finished.
    """
    from flows.execute import is_executed
    from flows.prefect.ephemeral import configured
    from pipelines.curate import STEPS

    return configured() or (engine != "local" and (again or not is_executed(recipe, root, steps or STEPS)))


@contextlib.contextmanager
def console_session(as_json: bool) -> Iterator[Console]:
    """Make the command's console the one that flows and functions print to."""
    console = open_console(as_json)
    token = CONSOLE.set(console)
    try:
        yield console
    finally:
        CONSOLE.reset(token)
