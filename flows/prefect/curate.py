"""The curation flow: `pipelines.curate` under Prefect's eyes. Prefect tracks steps, Ray tracks shards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from filters.contamination.paraphrase import Embed
from flows.console import Console, count, current_console
from flows.ray.engine import RayEngine
from pipelines.audit.report import empty_sources, write_report
from pipelines.curate import curate, wanted
from pipelines.errors import CheckFailed, WinnowError
from pipelines.ledger import storage
from pipelines.ledger.engine import Engine, LocalEngine
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Progress, Run, StepResult
from pipelines.ledger.runs import RecordedRun, record
from pipelines.ledger.step import Step
from pipelines.recipe import Recipe, load
from pipelines.steps import STEPS
from pipelines.steps.pack import PACK, pack_files
from pipelines.steps.step import RecipeStep

EngineName = Literal["ray", "local"]

UPDATE_SECONDS = 1.0
"""A progress artifact moves at most this often: each move is a call to the server."""


def cpus() -> int:
    """The processors this process may use: the default number of workers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_engine(name: EngineName, workers: int) -> RayEngine | LocalEngine:
    """The engine of that name."""
    return RayEngine(workers) if name == "ray" else LocalEngine(workers)


def absolute(root: str) -> str:
    """A root as workers on any node see it."""
    return str(Path(root).expanduser().resolve()) if storage.is_local(root) else root.rstrip("/")


def vectors_for(recipe: Recipe) -> Embed | None:
    """Where the vectors come from that `contamination: {semantic: true}` asks for; None where it does not.

    Errors: WinnowError where the model is not installed.
    """
    if not recipe.contamination or not recipe.contamination.semantic:
        return None
    from training.embedding import check_installed, embed  # torch takes seconds to load, and few recipes need it

    check_installed()
    return embed


class Tracker:
    """Turns steps into task runs and their progress into an artifact."""

    def __init__(self, console: Console, steps: int) -> None:
        self.console, self.steps, self.done, self.moved = console, steps, 0, 0.0
        self.artifact = cast(
            UUID,
            create_progress_artifact(
                progress=0.0, key="winnow-progress", description="Curation: steps and shards done"
            ),
        )

    def watch(self, progress: Progress) -> None:
        """Show a finished shard."""
        self.console.watch(progress)
        if time.monotonic() - self.moved >= UPDATE_SECONDS:
            self._move((self.done + progress.done / max(progress.total, 1)) / self.steps)

    def perform(self, step: Step, work: Callable[[], StepResult]) -> StepResult:
        """Run one step as one task run; a reused one ends in the state `Cached`."""
        performed: list[StepResult] = []

        @task(
            name=step.name,
            task_run_name=step.folder,
            cache_policy=NO_CACHE,
            retries=1,
            retry_delay_seconds=5,
            retry_condition_fn=worth_a_retry,
        )
        def run_step() -> State[None]:
            performed.append(work())
            last = performed[-1]
            message = f"{summary_of(last.manifest)}, {last.seconds:.1f} s"
            get_run_logger().info("%s: %s", step.name, "reused" if last.reused else message)
            return State(type=StateType.COMPLETED, name="Cached" if last.reused else "Completed", message=message)

        run_step(return_state=True).result()
        self.done += 1
        self._move(self.done / self.steps)
        self.console.finished(performed[-1])
        return performed[-1]

    def _move(self, fraction: float) -> None:
        self.moved = time.monotonic()
        update_progress_artifact(artifact_id=self.artifact, progress=min(100.0, 100.0 * fraction))


def summary_of(manifest: Manifest) -> str:
    """What a step left, in words: rows where it has rows, else files."""
    if manifest.rows_kept is None:
        files = len(manifest.all_files)
        return f"{files} file{'s' if files != 1 else ''}"
    return f"{count(manifest.rows_kept)} rows kept, {count(manifest.rows_dropped or 0)} dropped"


def worth_a_retry(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether a step's failure may pass: a user's mistake or a failed check does not."""
    try:
        state.result()
    except (WinnowError, CheckFailed, AssertionError):
        return False
    except Exception:
        return True
    return False


def _run_name() -> str:
    """A flow run is called by its recipe."""
    return Path(flow_run.parameters["recipe"]).stem


@flow(name="curate", flow_run_name=_run_name, validate_parameters=True)
def curate_flow(
    recipe: str,
    root: str = "./winnow-data",
    engine: EngineName = "ray",
    workers: int | None = None,
    settings: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Build a corpus from a recipe.

    recipe: path of the YAML file. root: folder or object-store URL. workers: shards at a time (default: all
    processors). settings: overrides, `path.to.key=value`. Returns what `winnow build --json` prints.
    """
    loaded = load(recipe, settings)
    text = storage.read_bytes(recipe).decode()
    return answer(execute_recipe(loaded, text, root, engine, workers))


class Execution(NamedTuple):
    """A recipe that was executed: the recorded run, the results of its steps, and the path of its report."""

    run: RecordedRun
    results: list[StepResult]
    report: str


def execute_recipe(
    recipe: Recipe,
    text: str,
    root: str,
    engine: EngineName,
    workers: int | None,
    steps: Sequence[RecipeStep] = STEPS,
) -> Execution:
    """Make a recipe's steps within a flow run, show progress, and record the run with its report and artifacts.

    text: the recipe as the user wrote it. steps: those to make, of which the recipe may want some.
    """
    root, console = absolute(root), current_console()
    embed = vectors_for(recipe)
    with make_engine(engine, workers or cpus()) as running, console:
        tracker = Tracker(console, len(wanted(recipe, steps)))
        run = Run(root, cast(Engine, running), tracker.perform, tracker.watch)
        corpus = curate(run, recipe, embed, steps)
    recorded = record(root, recipe.name, text, recipe.model_dump(mode="json"), corpus.products, run.results)
    report = write_report(recorded)
    for name in empty_sources(recorded):
        console.say(f" [yellow]! no row of source {name!r} was kept; the report says why[/yellow]")
    create_table_artifact(
        key="winnow-funnel",
        table=funnel(run.results),
        description=f"Where the rows of {recorded.id} went, step by step",
    )
    create_markdown_artifact(key="winnow-report", markdown=f"Run `{recorded.id}`: report at `{report}`")
    return Execution(recorded, run.results, report)


def funnel(results: Sequence[StepResult]) -> list[dict[str, Any]]:
    """One line per step: rows in, kept, dropped, the most frequent reason, seconds. No rows where there are none."""
    table = []
    for entry in results:
        manifest = entry.manifest
        worst = max(manifest.reasons.items(), key=lambda pair: pair[1], default=("", 0))
        rows = {"rows in": manifest.rows_in, "kept": manifest.rows_kept, "dropped": manifest.rows_dropped}
        table.append(
            {
                "step": manifest.step,
                **{name: "" if number is None else number for name, number in rows.items()},
                "most often": f"{worst[0]} ({count(worst[1])})" if worst[1] else "",
                "seconds": round(entry.seconds, 1),
                "reused": "yes" if entry.reused else "",
            }
        )
    return table


def steps_made(results: Sequence[StepResult]) -> list[dict[str, Any]]:
    """A run's steps as `--json` prints them. shards: the files of the step's main product; files: those of all."""
    return [
        {
            "name": entry.manifest.step,
            "key": entry.manifest.key,
            "reused": entry.reused,
            "rows_in": entry.manifest.rows_in,
            "rows_kept": entry.manifest.rows_kept,
            "seconds": round(entry.seconds, 3),
            "shards": [file.path for file in entry.manifest.files(entry.step.type.main_product)],
            "files": {name: [file.path for file in entry.manifest.files(name)] for name in entry.step.type.products},
        }
        for entry in results
    ]


def answer(done: Execution) -> dict[str, Any]:
    """The JSON answer of `winnow build`."""
    run, packs = done.run, done.run.step(PACK.name)
    assert packs is not None, "a build ends with packs"
    dropped: dict[str, int] = {}
    for step in run.steps:
        for reason, rows in step.reasons.items():
            dropped[reason] = dropped.get(reason, 0) + rows
    return {
        "run": run.id,
        "root": run.root,
        "rows_in": run.steps[0].rows_in or 0,
        "rows_kept": run.records.rows_kept,
        "dropped": dropped,
        "steps": steps_made(done.results),
        "corpus": [shard.path for shard in run.records.shards],
        "tokens": [file.path for file in pack_files(packs)],
        "report": done.report,
    }
