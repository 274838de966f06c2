"""What does Prefect show of a run? A task run per step, its log, artifacts: progress, tables, a link to the report.

Prefect tracks steps and Ray tracks shards: a task run per shard would be a call to Prefect's server per shard. All
calls go through a `Channel`, so no state of the server changes what the work does or how it ends.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID, uuid4

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.context import FlowRunContext
from prefect.exceptions import Abort, Pause
from prefect.logging import get_run_logger
from prefect.states import Completed

from flows.console import count, current_console, output_of, quantity, rate
from flows.prefect.channel import Artifact, Channel, Request, is_away, reason_of
from flows.prefect.ephemeral import server_ended
from flows.prefect.heard import HearingEngine
from flows.prefect.tables import contamination, funnel, thinking
from flows.tracker import RETRY_DELAY_SECONDS, Tracker, may_pass
from flows.ui.address import report_url
from pipelines.credentials import masked
from pipelines.errors import NothingNew
from pipelines.ledger.engine import Engine
from pipelines.ledger.run import Progress, StepResult
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.step import Step
from pipelines.visible import visible

P = ParamSpec("P")
R = TypeVar("R")

UPDATE_SECONDS = 10.0
"""Shortest time between two reports of the progress of a step. A phase that is shorter is reported at its end alone."""

UPDATE_SHARE = 0.1
"""The progress of a step is reported after each tenth of its shards, so 10,000 shards are reported like ten ..."""

SLOW_UPDATE_SECONDS = 60.0
"""... and once a minute where a tenth takes longer."""

COMMAND_PATIENCE_SECONDS = 30.0
"""How long a finished command waits for a server that is away, to report to it."""

WORKER_PATIENCE_SECONDS = 3600.0
"""How long a finished run of a deployment does. Nobody waits for it, and a run that was not reported looks crashed."""

STOP_PATIENCE_SECONDS = 1.0
"""How long one that is cancelled or interrupted does."""


def _show(record: logging.LogRecord) -> bool:
    """A filter of the log of flow runs: control characters of what it quotes are shown as escapes."""
    record.msg, record.args = visible(masked(record.getMessage())), ()
    if record.exc_info:
        record.exc_text = visible(masked(logging.Formatter().formatException(record.exc_info)))
    return True


class Report:
    """What one flow run shows in Prefect: steps, log lines and artifacts. All methods return at once."""

    def __init__(self, flow_run: UUID, channel: Channel) -> None:
        self.flow_run, self.channel = flow_run, channel
        self.log = get_run_logger()
        cast(Any, self.log).logger.addFilter(_show)
        self._last_step: str | None = None
        self._steps = 0

    def artifact(self, type: str, key: str, description: str) -> Artifact:
        """An artifact, shown once it is written. type: `progress`, `table` or `markdown`."""
        return Artifact(self.channel, self.flow_run, type, key, description)

    @contextlib.contextmanager
    def step(self, name: str, title: str | None = None) -> Iterator[list[str]]:
        """A task run for the length of the block. The block may append the name of the final state and its message to
        the list; else it is `Completed`, and for an exception `Failed` with its message."""
        id, after = str(uuid4()), self._last_step
        self._steps += 1
        body = {
            "id": id,
            "name": title or name,
            "flow_run_id": str(self.flow_run),
            "task_key": name,
            "dynamic_key": str(self._steps),
            "task_inputs": {"after": [{"input_type": "task_run", "id": after}] if after else []},
            "state": {"type": "RUNNING", "name": "Running"},
        }
        self.channel.send(lambda client: _post(client, "/task_runs/", body))
        self._last_step = id
        final: list[str] = []
        try:
            yield final
        except BaseException as error:
            stopped = not isinstance(error, Exception)
            message = "stopped" if stopped else str(error) or type(error).__name__
            self._finish(id, "CANCELLED" if stopped else "FAILED", "Cancelled" if stopped else "Failed", message)
            raise
        self._finish(id, "COMPLETED", *(final or ("Completed", "")))

    def _finish(self, id: str, type: str, name: str, message: str) -> None:
        body = {"state": {"type": type, "name": name, "message": visible(masked(message))}, "force": True}
        self.channel.send(lambda client: _post(client, f"/task_runs/{id}/set_state", body))


def _post(client: SyncPrefectClient, path: str, body: dict[str, Any]) -> None:
    client.request("POST", cast(Any, path), json=body)


REPORT: ContextVar[Report | None] = ContextVar("REPORT", default=None)
"""The report of the flow run that is going on."""

OUTCOME: ContextVar[list[tuple[Any, BaseException | None]] | None] = ContextVar("OUTCOME", default=None)
"""Where a command that calls a flow learns how its work ended, whatever becomes of the flow run."""


def reported(work: Callable[P, R]) -> Callable[P, R]:
    """Let the function of a flow report to Prefect through a channel. It runs without one outside a flow run.

    The flow run ends when all has been reported, so that Prefect's engine, which sets the final state, meets a server
    that answers. If none answers in time, the engine is left by `Abort`, which sets no state.
    """

    @functools.wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            return work(*args, **kwargs)
        channel = Channel(_say)
        token = REPORT.set(Report(context.flow_run.id, channel))
        outcome = OUTCOME.get()
        retries = context.flow_run.empirical_policy.retries
        patience = WORKER_PATIENCE_SECONDS if context.flow_run.deployment_id else COMMAND_PATIENCE_SECONDS
        try:
            answer = work(*args, **kwargs)
            if outcome is not None:
                outcome.append((answer, None))
            return answer
        except BaseException as error:
            # Prefect stores the message of what ends a flow run.
            error.args = tuple(masked(one) if isinstance(one, str) else one for one in error.args)
            if outcome is not None:
                outcome.append((None, error))
            if isinstance(error, NothingNew):
                return cast(R, Completed(message=str(error)))  # a state that a flow returns is its own
            patience = patience if isinstance(error, Exception) else STOP_PATIENCE_SECONDS
            if retries and not may_pass(error):
                channel.send(_without_retries(context.flow_run.id))
            raise
        finally:
            REPORT.reset(token)
            _close(channel, patience)

    # Prefect reads types where this wrapper is defined, which knows none of the names in them, and the descriptions of
    # parameters from the docstring alone.
    run.__signature__ = inspect.signature(work, eval_str=True)  # type: ignore[attr-defined]
    run.__annotations__ = inspect.get_annotations(work, eval_str=True)
    fields = {name: getattr(type, "__metadata__", ()) for name, type in run.__annotations__.items()}
    lines = [f"    {name}: {field.description}" for name, found in fields.items() for field in found[-1:]]
    run.__doc__ = "\n".join([inspect.getdoc(work) or "", "", "Args:", *lines])
    return run


def _without_retries(flow_run: UUID) -> Request:
    """Let the server not start a run again whose mistake would be the same."""
    body = {"empirical_policy": {"retries": 0}}

    def request(client: SyncPrefectClient) -> None:
        client.request("PATCH", "/flow_runs/{id}", path_params={"id": str(flow_run)}, json=body)

    return request


def _close(channel: Channel, patience: float) -> None:
    if channel.away:
        if server_ended():
            patience = 0.0
        elif patience > COMMAND_PATIENCE_SECONDS:
            _say(f"the work is done; waiting up to {patience / 60:.0f} min for the Prefect server")
        elif patience > STOP_PATIENCE_SECONDS:
            _say(f"the work is done; waiting up to {patience:.0f} s for the Prefect server")
    if not channel.close(patience):
        raise Abort("the Prefect server does not answer")


def call_flow(flow: Flow[P, R], on_away: Callable[[], None], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a flow from a command. The answer is that of its work, whatever becomes of the flow run.

    on_away: called if Prefect does not know how the run ended.

    Raises: what its work raised. If Prefect fails before the work begins, the work is done without it.
    """
    outcome: list[tuple[Any, BaseException | None]] = []
    token = OUTCOME.set(outcome)
    try:
        answer = flow(*args, **kwargs)
        if outcome and isinstance(outcome[-1][1], NothingNew):
            raise outcome[-1][1]  # the flow run has completed
        return answer
    except (Exception, Abort, Pause) as error:
        if not outcome:
            if not is_away(error):
                raise
            on_away()
            _say(f"the Prefect server does not answer ({reason_of(error)}); the work goes on without it")
            return flow.fn(*args, **kwargs)
        answer, raised = outcome[-1]
        if raised is error:
            raise
        on_away()
        _say("the Prefect server does not know that this run has ended; the ledger does")
        if raised is not None:
            raise raised from None
        return cast(R, answer)
    finally:
        OUTCOME.reset(token)


def _say(text: str) -> None:
    console = current_console()
    if console.quiet:
        print(f"! {text}", file=sys.stderr, flush=True)
    else:
        console.warn(text)


def line_of(progress: Progress) -> str:
    """How far a step is, in a line of the log."""
    if progress.phase == "waiting":
        return f"{progress.step}: waiting for {progress.holder}"
    if progress.phase == "damaged":
        return f"{progress.step}: {progress.holder}"
    phase = "" if progress.phase == "shards" else f" ({progress.phase})"
    line = f"{progress.step}{phase}: {count(progress.done)} of {quantity(progress.total, 'shard')} done"
    if progress.rows_in:
        line += f", {quantity(progress.rows_in, 'row')}, {rate(progress.rows_in, progress.seconds)}"
    return line


class PrefectTracker(Tracker):
    """Shows the steps of a run in the flow run that is going on, and on the console. Outside one, on the console."""

    def __init__(self) -> None:
        super().__init__()
        self.report = REPORT.get()
        self.steps, self.finished_steps = 1, 0

    def start(self, steps: int) -> None:
        """Create the artifact of the progress."""
        self.steps = steps
        self._reported: tuple[str, float, float] = ("", 0.0, time.monotonic())  # phase, share, time
        if self.report:
            self.progress = self.report.artifact("progress", "winnow-progress", "Steps and shards that are done")
            self.progress.write(0.0)

    def engine(self, engine: Engine) -> Engine:
        """Let what tasks print and warn on the workers reach the log of the flow run."""
        return HearingEngine(engine, self.report.log) if self.report else engine

    def watch(self, progress: Progress) -> None:
        """Show the progress of a step. What Prefect gets of it does not depend on the number of shards."""
        super().watch(progress)
        if not self.report or progress.phase == "reused":
            return
        phase, share, last = self._reported
        now, done = time.monotonic(), progress.done / max(progress.total, 1)
        name = f"{progress.step}/{progress.phase}"
        share = share if phase == name else 0.0
        elapsed = now - last
        if progress.done < progress.total and elapsed >= UPDATE_SECONDS:
            if done - share < UPDATE_SHARE and elapsed < SLOW_UPDATE_SECONDS:
                return
            self._reported = (name, done, now)
            self.report.log.info("%s", line_of(progress))
            self.progress.write(round(100.0 * (self.finished_steps + done) / self.steps, 1))

    def perform(self, step: Step, work: Callable[[], StepResult]) -> StepResult:
        """Make one step, as one task run. That of a reused step ends in the state `Cached`."""
        if not self.report:
            return super().perform(step, work)
        self._reported = ("", 0.0, time.monotonic())
        with self.report.step(step.name, step.folder) as final:
            result = super().perform(step, work)
            message = f"{output_of(result)}, {result.seconds:.1f} s"
            final += ["Cached" if result.reused else "Completed", message]
        self.finished_steps += 1
        self.report.log.info("%s: %s", step.name, "reused" if result.reused else message)
        self.progress.write(round(100.0 * self.finished_steps / self.steps, 1))
        return result

    def retrying(self, step: Step, error: Exception) -> None:
        """Log that a step failed and is tried again."""
        if self.report:
            self.report.log.warning("%s failed and is made again in %g s: %s", step.name, RETRY_DELAY_SECONDS, error)

    def finish(self, run: RecordedRun, results: Sequence[StepResult], report: str) -> None:
        """Create the artifacts of a finished run: tables of its rows, and the link to its report."""
        if not self.report:
            return
        rows = self.report.artifact("table", "winnow-funnel", f"Rows of run `{run.id}` by step")
        rows.write(funnel(results))
        tables = (
            ("contamination", "Items of evaluation sets found in the rows, by benchmark", contamination(run)),
            ("thinking", "Thinking of models in the responses, by source", thinking(run)),
        )
        for name, description, table in tables:
            if table:
                self.report.artifact("table", f"winnow-{name}", description).write(table)
        text = f"[Report of run {run.id}]({report_url(run.id)})\n\nStored at `{report}`. " + (
            f"The link opens while `winnow ui --root {run.root}` runs."
        )
        self.report.artifact("markdown", "winnow-report", f"Report of run `{run.id}`").write(text)
