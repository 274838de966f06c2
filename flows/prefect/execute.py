"""How is a recipe executed within a flow run? With an engine by name, tracked by Prefect, recorded with its report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

from pydantic import BaseModel, ConfigDict
from rich.markup import escape

from filters.contamination.paraphrase import SentenceModel
from flows.console import current_console, unread_line
from flows.prefect.tracker import Tracker, publish
from flows.ray.engine import RayEngine
from pipelines.audit.report import empty_sources, write_report
from pipelines.curate import STEPS, curate, wanted
from pipelines.ledger import storage
from pipelines.ledger.engine import Engine, LocalEngine
from pipelines.ledger.run import Run, StepResult
from pipelines.ledger.runs import RecordedRun, record
from pipelines.recipe import Recipe
from pipelines.steps.ingest import unread_by_source
from pipelines.steps.step import RecipeStep

EngineName = Literal["ray", "local"]


class Execution(NamedTuple):
    """An executed recipe: the recorded run, the results of its steps in order, and the path of its report."""

    run: RecordedRun
    results: list[StepResult]
    report: str


class StepAnswer(BaseModel):
    """A step of an executed recipe.

    rows_in, rows_kept: None for a step that conserves no rows. seconds: that this execution took for it. shards: paths
    of the files of its main product. files: product -> paths.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    key: str
    reused: bool
    rows_in: int | None
    rows_kept: int | None
    seconds: float
    shards: tuple[str, ...]
    files: dict[str, tuple[str, ...]]


def execute_recipe(
    recipe: Recipe,
    text: str,
    root: str,
    engine: EngineName,
    workers: int | None,
    steps: Sequence[RecipeStep] = STEPS,
) -> Execution:
    """Make the steps of a recipe within a flow run, and record the run with its report and artifacts.

    text: the recipe as the user wrote it. workers: shards processed at a time, None for one per CPU. steps: the steps
    to choose from; those that the recipe asks for are made.

    Raises: WinnowError: for a mistake in the recipe or its inputs. CheckFailed: if a step fails.
    """
    root, console = absolute(root), current_console()
    model = _sentence_model_of(recipe)
    with make_engine(engine, workers or cpus()) as running, console:
        tracker = Tracker(console, len(wanted(recipe, steps)))
        run = Run(root, cast(Engine, running), tracker.perform, tracker.watch)
        corpus = curate(run, recipe, model, steps)
    recorded = record(root, recipe.name, text, recipe.model_dump(mode="json"), corpus.products, run.results)
    report = write_report(recorded)
    for name, columns in unread_by_source(recorded.steps[0]).items():
        console.print(f" [yellow]! {escape(unread_line(name, columns))}[/yellow]")
    for name in empty_sources(recorded):
        console.print(f" [yellow]! no row of source {name!r} was kept; the report gives the reasons[/yellow]")
    publish(recorded.id, run.results, report)
    return Execution(recorded, run.results, report)


def step_answers(results: Sequence[StepResult]) -> tuple[StepAnswer, ...]:
    """The results of steps, as answers give them."""
    return tuple(
        StepAnswer(
            name=result.manifest.step,
            key=result.manifest.key,
            reused=result.reused,
            rows_in=result.manifest.rows_in,
            rows_kept=result.manifest.rows_kept,
            seconds=round(result.seconds, 3),
            shards=_paths(result, result.step.type.main_product),
            files={product: _paths(result, product) for product in result.step.type.products},
        )
        for result in results
    )


def _paths(result: StepResult, product: str) -> tuple[str, ...]:
    return tuple(file.path for file in result.manifest.files(product))


def make_engine(name: EngineName, workers: int) -> RayEngine | LocalEngine:
    """The engine of that name with so many workers."""
    return RayEngine(workers) if name == "ray" else LocalEngine(workers)


def cpus() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def absolute(root: str) -> str:
    """A root as workers on any node see it: an absolute path, or a URL without a slash at its end."""
    return str(Path(root).expanduser().resolve()) if storage.is_local(root) else root.rstrip("/")


def _sentence_model_of(recipe: Recipe) -> SentenceModel | None:
    """The model of the sentence vectors, for `contamination: {semantic: true}`; else None.

    Raises: WinnowError: if the model is not installed, or its weights are not the expected ones.
    """
    if not recipe.contamination or not recipe.contamination.semantic:
        return None
    from training.embedding import sentence_model  # imports torch: seconds, which few recipes need

    return sentence_model()
