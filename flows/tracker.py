"""What shows that a run goes on? The console; `flows.prefect.tracker` shows it in Prefect too."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from dedup.kernel import share_compiled
from flows.console import current_console
from pipelines.errors import CheckFailed, WinnowError
from pipelines.ledger.engine import Engine
from pipelines.ledger.run import Progress, StepResult
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.step import Step

RETRY_DELAY_SECONDS = 5
"""Time before a failed step is retried once: enough for a short failure of storage or network to pass."""

MIN_SHARE_COMPILED = 0.25
"""Below this share of compiled kernels, the first items take noticeably longer. After a build, a few that no recipe
used are left."""


def may_pass(error: BaseException) -> bool:
    """Whether a retry may help. It does not against a mistake of the user's, a failed check or a bug."""
    return isinstance(error, Exception) and not isinstance(error, WinnowError | CheckFailed | AssertionError)


class Tracker:
    """Performs the steps of a run, retries a failed one once, and shows the progress on the current console."""

    def __init__(self) -> None:
        self.console = current_console()
        self.computes = False

    def start(self, steps: int) -> None:
        """The run begins. steps: how many it has."""

    def watch(self, progress: Progress) -> None:
        """Show the progress of a step. Before the first one that is made, say whether the kernels have to be compiled:
        workers compile them on their first items, without a sign of life."""
        if not self.computes and progress.phase not in ("reused", "waiting", "damaged"):
            self.computes = True
            if share_compiled() < MIN_SHARE_COMPILED:
                self.console.print(" compiling kernels (once, a minute or two)")
        self.console.watch(progress)

    def perform(self, step: Step, work: Callable[[], StepResult]) -> StepResult:
        """Make one step."""
        try:
            result = work()
        except Exception as error:
            if not may_pass(error):
                raise
            self.retrying(step, error)
            time.sleep(RETRY_DELAY_SECONDS)
            result = work()
        self.console.step_finished(result)
        return result

    def retrying(self, step: Step, error: Exception) -> None:
        """A step failed, and is tried again after RETRY_DELAY_SECONDS."""

    def engine(self, engine: Engine) -> Engine:
        """The engine that runs the shards of the steps, given one that can."""
        return engine

    def finish(self, run: RecordedRun, results: Sequence[StepResult], report: str) -> None:
        """The run is recorded. report: the report's path."""
