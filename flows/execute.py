"""How is a recipe executed? With an engine by name, watched by a tracker, and recorded with its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict

from filters.contamination.paraphrase import SentenceModel
from filters.rewrite import Rewrite
from flows.console import Console, unread_line
from flows.lineage import Sender
from flows.tracker import Tracker
from pipelines.audit.quality import cut_warnings
from pipelines.audit.report import empty_sources, write_report
from pipelines.check import check
from pipelines.credentials import hidden, masked
from pipelines.curate import STEPS, curate, is_finished, products_of, wanted
from pipelines.errors import NothingNew, RecipeError, WinnowError, nearest
from pipelines.ledger import corpus_manifest, storage
from pipelines.ledger import manifest as manifests
from pipelines.ledger.engine import Engine, LocalEngine, cpus
from pipelines.ledger.lineage import Lineage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Perform, Run, StepResult
from pipelines.ledger.runs import Attempt, RecordedRun, failures, now, record, status_of, wait_for_gc
from pipelines.ledger.step import Step
from pipelines.recipe import Recipe, load, recipe_path
from pipelines.sources.catalogue import origin_of
from pipelines.steps.ingest import unread_by_source
from pipelines.steps.pack import values_without_rows
from pipelines.steps.step import MakeRewriter, Steps

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
    steps: Steps = STEPS,
    tracker: Tracker | None = None,
    from_step: str | None = None,
    memory: int | None = None,
    is_arm: bool = False,
) -> Execution:
    """Make the steps of a recipe, and record the run with its report. A run that fails is recorded as far as it came.

    text: the recipe as the user wrote it. workers: shards processed at a time, None for one per CPU. steps: the steps
    to choose from; those that the recipe asks for are made. tracker: what shows the progress, by default the console.
    from_step: this step and those after it are made again, though they are finished. memory: bytes that each worker may
    hold, None for no limit. is_arm: as of `record`.

    Raises: WinnowError: for a mistake in the recipe or its inputs. CheckFailed: if a step fails, and if a worker holds
        more than `memory`.
    """
    check_positive(workers=workers, memory=memory)
    root, tracker = absolute(root), tracker or Tracker()
    again = steps_from(recipe, from_step, steps)
    check(recipe, root, steps)
    console, model, rewriter = tracker.console, sentence_model_of(recipe), rewriter_of(recipe)
    names, settings = [step.name for step in wanted(recipe, steps)], recipe.model_dump(mode="json")
    attempt, send = Attempt(root, recipe.name, text, settings, names), Sender()
    lineage = Lineage(root, recipe.name, text, settings, now, send)
    try:
        wait_for_gc(root, lambda holder, seconds: console.watch_waiting("build", str(holder), seconds))
        with make_engine(engine, workers, root, memory) as running, console:
            tracker.start(len(names))
            perform = _recorded_in(attempt, _traced_by(lineage, _making_again(tracker.perform, root, again)))
            run = Run(root, tracker.engine(running), perform, tracker.watch, recipe.name)
            corpus = curate(run, recipe, model, steps, rewriter)
        lineage.end()
        sources = {spec.name: origin_of(spec.adapter) for spec in recipe.sources if spec.adapter}
        products, results = corpus.products, run.results
        recorded = record(root, recipe.name, text, settings, products, results, lineage.lines, sources, is_arm)
    except BaseException as error:
        lineage.end(error)
        _record_failure(attempt, error, console, lineage.lines)
        raise
    finally:
        send.close(console.warn)
    attempt.succeed()
    for name, info in failures(root):
        if info["recipe"] == recipe.name and status_of(info) not in ("running", "unknown"):
            console.note(f"failed run {name} had other settings, and stays listed")
    report = write_report(recorded)
    for name, columns in unread_by_source(recorded.steps[0]).items():
        console.warn(unread_line(name, columns))
    for name in empty_sources(recorded):
        console.warn(f"no row of source {name!r} was kept; the report gives the reasons")
    for line in cut_warnings(recorded):
        console.warn(line)
    packs = recorded.product("packs")
    for line in values_without_rows(packs.counts) if packs else ():
        console.warn(f"sampling.weights: no row of the corpus has {line}")
    tracker.finish(recorded, run.results, report)
    return Execution(recorded, run.results, report)


def _recorded_in(attempt: Attempt, perform: Perform) -> Perform:
    """`perform`, with the record of the run that has begun kept up to date."""
    made: dict[str, Manifest] = {}

    def perform_and_record(step: Step, work: Callable[[], StepResult]) -> StepResult:
        result = perform(step, work)
        made[step.name] = result.manifest
        attempt.finish_step(result, products_of(made))
        return result

    return perform_and_record


def _traced_by(lineage: Lineage, perform: Perform) -> Perform:
    """`perform`, with the events of each step that is made."""

    def perform_and_trace(step: Step, work: Callable[[], StepResult]) -> StepResult:
        if not manifests.is_finished(lineage.root, step.folder):
            lineage.start(step)
        try:
            result = perform(step, work)
        except BaseException as error:
            lineage.fail(step, error)
            raise
        lineage.complete(result)
        return result

    return perform_and_trace


def _record_failure(attempt: Attempt, error: BaseException, console: Console, lines: str) -> None:
    """Record that a run failed, with its report. Nothing is raised in the place of the error of the run.

    A run without new rows leaves no record: its rows are those of earlier runs.
    """
    try:
        if isinstance(error, NothingNew):
            attempt.succeed()
            return
        run = attempt.fail(error, lines)
        if isinstance(error, Exception):  # a run that is stopped has no time
            report = write_report(run)
            console.warn(f"run {run.id} failed; how far it came: {report}")
    except Exception as problem:
        console.warn(f"the failed run could not be recorded: {problem}")


def steps_from(recipe: Recipe, from_step: str | None, steps: Steps = STEPS) -> frozenset[str]:
    """The names of a step of the recipe and of all after it; none for None.

    Raises: WinnowError: if the recipe has no such step.
    """
    if from_step is None:
        return frozenset()
    names = [step.name for step in wanted(recipe, steps)]
    if from_step not in names:
        raise WinnowError(f"from_step {from_step}: no step of recipe {recipe.name!r}; {nearest(from_step, names)}")
    return frozenset(names[names.index(from_step) :])


def _making_again(perform: Perform, root: str, again: frozenset[str]) -> Perform:
    """`perform`, which first removes the manifests of some steps. Their files stay until equal ones replace them."""

    def forget_and_perform(step: Step, work: Callable[[], StepResult]) -> StepResult:
        if step.name in again:
            manifests.forget(root, step.folder)
        return perform(step, work)

    return forget_and_perform


def is_executed(recipe: Recipe, root: str, steps: Steps = STEPS) -> bool:
    """Whether `execute_recipe` will reuse every step."""
    return is_finished(absolute(root), recipe, sentence_model_of(recipe), steps, rewriter_of(recipe))


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


def load_with_text(recipe: str | Recipe, settings: tuple[str, ...] = ()) -> tuple[Recipe, str]:
    """A recipe and its text, from the path or name of its file, or from the recipe itself.

    Raises: WinnowError: for a mistake in the recipe.
    """
    if isinstance(recipe, Recipe):
        assert not settings, "settings override a file's keys"
        given = recipe.model_dump(mode="json")
        recipe = recipe if hidden(given) == given else Recipe.model_validate(hidden(given))
        return recipe, recipe_text(recipe)
    loaded = load(recipe, settings)
    if loaded.manifest is not None and corpus_manifest.is_manifest(recipe):
        return loaded, recipe_text(loaded)
    return loaded, masked(storage.read_bytes(recipe_path(recipe)).decode())


def recipe_text(recipe: Recipe) -> str:
    """A recipe as YAML, without the keys that have their default."""
    value = recipe.model_dump(mode="json", exclude_defaults=True)
    for key, parts in (("scores", recipe.scores), ("stages", recipe.stages)):
        if parts:  # `kind` is the default of each model, and tells which model it is
            value[key] = [{"kind": part.kind, **given} for part, given in zip(parts, value[key], strict=True)]
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def make_engine(
    name: EngineName, workers: int | None, root: str, memory: int | None = None
) -> AbstractContextManager[Engine]:
    """The engine of that name with so many workers, for steps below `root`.

    workers: None for one per CPU of this machine, or of Ray's cluster. memory: bytes that each may hold.
    """
    if name == "local":
        return LocalEngine(workers or cpus(), memory)
    from flows.ray.engine import RayEngine

    return RayEngine(workers, root, memory)


def check_positive(**numbers: int | None) -> None:
    """Raises: WinnowError: naming the first of these arguments that is not None and less than 1."""
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise WinnowError(f"{name}={number}: must be at least 1; leave it out for the default")


def absolute(root: str) -> str:
    """A root as workers on any node see it: an absolute path, or a URL without a slash at its end."""
    return str(Path(root).expanduser().resolve()) if storage.is_local(root) else root.rstrip("/")


def sentence_model_of(recipe: Recipe) -> SentenceModel | None:
    """The model of the sentence vectors, for `contamination: {semantic: true}`; else None.

    Raises: WinnowError: if the model is not installed, or its weights are not the expected ones.
    """
    if not recipe.contamination or not recipe.contamination.semantic:
        return None
    from training.embedding import sentence_model

    return sentence_model()


def rewriter_of(recipe: Recipe) -> MakeRewriter | None:
    """What answers for the stages `rewrite`; None for a recipe without one.

    Raises: WinnowError: naming a stage whose strategy is unknown, or the package that verifying lacks.
    """
    stages = {f"stages.{index}": stage for index, stage in enumerate(recipe.stages) if isinstance(stage, Rewrite)}
    if not stages:
        return None
    from training.rewriting import EndpointRewriter

    for key, stage in stages.items():
        try:
            EndpointRewriter(stage)
        except WinnowError as error:
            raise RecipeError(f"{key}: {error}") from None
    return EndpointRewriter
