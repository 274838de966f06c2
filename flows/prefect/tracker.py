"""What does Prefect show of a run? A task run per step, a progress artifact, and a table of the rows by step.

Prefect tracks steps and Ray tracks shards: a task run per shard would be a call to Prefect's server per shard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast
from uuid import UUID

from prefect import task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType
from prefect.logging import get_run_logger

from flows.console import count, output_of
from flows.tracker import RETRY_DELAY_SECONDS, Tracker, may_pass
from pipelines.ledger.run import Progress, StepResult
from pipelines.ledger.step import Step

MIN_UPDATE_SECONDS = 1.0
"""Time between two updates of the progress artifact: each is a call to Prefect's server."""


class PrefectTracker(Tracker):
    """Runs steps as Prefect task runs, and shows their progress in an artifact and on the console. For use in a flow
    run."""

    def start(self, steps: int) -> None:
        """Create the artifact of the progress."""
        self.steps, self.finished_steps, self.last_update = steps, 0, 0.0
        artifact = create_progress_artifact(
            progress=0.0, key="winnow-progress", description="Curation: share of the steps and shards that are done"
        )
        self.artifact = cast(UUID, artifact)

    def watch(self, progress: Progress) -> None:
        """Show the progress of a step."""
        super().watch(progress)
        if time.monotonic() - self.last_update >= MIN_UPDATE_SECONDS:
            self._update((self.finished_steps + progress.done / max(progress.total, 1)) / self.steps)

    def perform(self, step: Step, work: Callable[[], StepResult]) -> StepResult:
        """Run one step as one task run. The task run of a reused step ends in the state `Cached`."""
        results: list[StepResult] = []

        @task(
            name=step.name,
            task_run_name=step.folder,
            cache_policy=NO_CACHE,
            retries=1,
            retry_delay_seconds=RETRY_DELAY_SECONDS,
            retry_condition_fn=_should_retry,
        )
        def run_step() -> State[None]:
            results.append(work())
            result = results[-1]
            message = f"{output_of(result)}, {result.seconds:.1f} s"
            get_run_logger().info("%s: %s", step.name, "reused" if result.reused else message)
            return State(type=StateType.COMPLETED, name="Cached" if result.reused else "Completed", message=message)

        run_step(return_state=True).result()
        self.finished_steps += 1
        self._update(self.finished_steps / self.steps)
        self.console.step_finished(results[-1])
        return results[-1]

    def finish(self, run: str, results: Sequence[StepResult], report: str) -> None:
        """Create the artifacts of a finished run: the table of its rows by step, and the path of its report."""
        table = funnel(results)
        create_table_artifact(key="winnow-funnel", table=table, description=f"The rows of {run}, step by step")
        create_markdown_artifact(key="winnow-report", markdown=f"Run `{run}`: report at `{report}`")

    def _update(self, fraction: float) -> None:
        self.last_update = time.monotonic()
        update_progress_artifact(artifact_id=self.artifact, progress=min(100.0, 100.0 * fraction))


def _should_retry(_task: Any, _run: Any, state: State[Any]) -> bool:
    try:
        state.result()
    except BaseException as error:
        return may_pass(error)
    return False


def funnel(results: Sequence[StepResult]) -> list[dict[str, Any]]:
    """One line per step: rows in, kept and dropped, the most frequent reason, seconds.

    The row columns of a step that conserves no rows are empty.
    """
    table = []
    for result in results:
        manifest = result.manifest
        reason, dropped = max(manifest.reasons.items(), key=lambda pair: pair[1], default=("", 0))
        rows = {"rows in": manifest.rows_in, "kept": manifest.rows_kept, "dropped": manifest.rows_dropped}
        table.append(
            {
                "step": manifest.step,
                **{name: "" if number is None else number for name, number in rows.items()},
                "most frequent reason": f"{reason} ({count(dropped)})" if dropped else "",
                "seconds": round(result.seconds, 1),
                "reused": "yes" if result.reused else "",
            }
        )
    return table
