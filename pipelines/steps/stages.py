"""Which steps do a recipe's stages make? Stages run in the order written.

Consecutive stages that judge or rewrite record by record are one step, `refine`. A stage that needs more has a step of
its own. The scores are measured before the first cut at one; without a cut, after all stages.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace

from filters.cut import ScoreCut
from filters.rewrite import Rewrite
from filters.stage import CorpusStage, Stage
from pipelines.ledger.manifest import Manifest
from pipelines.recipe import Recipe
from pipelines.steps.refine import REFINE, estimate_stages, refine
from pipelines.steps.rewrite import rewrite_steps
from pipelines.steps.scores import score_steps
from pipelines.steps.select import SELECT, select_step
from pipelines.steps.step import Build, RecipeStep, StepGroup


def stage_steps(recipe: Recipe) -> list[RecipeStep]:
    """The steps of a recipe's stages and scores, in order. The first is always `refine`."""
    runs = [(kind, tuple(stages)) for kind, stages in itertools.groupby(recipe.stages, _kind)]
    if not runs or runs[0][0] != "":
        runs.insert(0, ("", ()))
    if recipe.scores and not any(kind == "score" for kind, _ in runs):
        runs.append(("score", ()))
    steps: list[RecipeStep] = []
    seen: dict[str, int] = {}
    for kind, stages in runs:
        seen[kind] = seen.get(kind, 0) + 1
        if kind == "":
            steps.append(_refine_step(_numbered(REFINE.name, seen[kind]), stages))
        elif kind == "rewrite":
            for number, stage in enumerate(stages, seen[kind]):
                assert isinstance(stage, Rewrite)
                steps += rewrite_steps(stage, _numbered("rewrite", number))
            seen[kind] += len(stages) - 1
        else:
            assert kind == "score", f"{kind}: no step makes this stage"
            steps += score_steps(recipe) if seen[kind] == 1 else []
            cuts = [stage for stage in stages if isinstance(stage, ScoreCut)]
            steps.append(select_step(_numbered(SELECT, seen[kind]), cuts))
    return steps


STAGE_STEPS = StepGroup(stage_steps)


def steps_to_scores(recipe: Recipe) -> list[RecipeStep]:
    """The steps of a recipe's stages up to its scores, which become columns of the records; without cuts."""
    first = next((at for at, stage in enumerate(recipe.stages) if isinstance(stage, ScoreCut)), len(recipe.stages))
    return stage_steps(recipe.model_copy(update={"stages": recipe.stages[:first]}))


STEPS_TO_SCORES = StepGroup(steps_to_scores)


def _kind(stage: Stage) -> str:
    """The kind of a stage that has a step of its own; "" for the others."""
    return stage.kind if isinstance(stage, CorpusStage) else ""


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def _refine_step(name: str, stages: Sequence[Stage]) -> RecipeStep:
    step = replace(REFINE, name=name, rate=REFINE.name, estimate=functools.partial(estimate_stages, tuple(stages)))
    return replace(step, make=functools.partial(_make_refine, step, tuple(stages)))


def _make_refine(step: RecipeStep, stages: tuple[Stage, ...], build: Build) -> Manifest:
    return refine(build.run, build.records, stages, step, build.as_text(step.name))
