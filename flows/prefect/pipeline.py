"""From sources to scores in one flow run: the corpus is built, a model trained on it, and the model evaluated."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict

from flows.build import BuildAnswer
from flows.evaluate import EvaluateAnswer
from flows.prefect.curate import build_reported
from flows.prefect.evaluate import evaluate_reported
from flows.prefect.parameters import (
    Against,
    Benchmarks,
    Config,
    Engine,
    FromStep,
    Limit,
    Recipe,
    Root,
    Settings,
    Start,
    Steps,
    TrainSettings,
    TrainWorkers,
    Workers,
)
from flows.prefect.tracker import reported
from flows.prefect.train import TrainAnswer, train_reported
from flows.root import root_or_default
from training.evaluation.evaluate import ModelSpec


class PipelineAnswer(BaseModel):
    """What the three parts answered."""

    model_config = ConfigDict(frozen=True)

    build: BuildAnswer
    train: TrainAnswer
    evaluate: EvaluateAnswer


def _run_name() -> str:
    return f"{Path(flow_run.parameters['recipe']).stem} {flow_run.parameters.get('config', '')}"


@flow(name="curate-train-evaluate", flow_run_name=_run_name, validate_parameters=True)
@reported
def curate_train_evaluate_flow(
    recipe: Recipe,
    config: Config = "tiny",
    benchmarks: Benchmarks = (),
    root: Root = None,
    engine: Engine = "ray",
    workers: Workers = None,
    settings: Settings = (),
    against: Against = (),
    from_step: FromStep = None,
    train_workers: TrainWorkers = None,
    train_steps: Steps = None,
    train_settings: TrainSettings = (),
    train_start: Start = None,
    limit: Limit = None,
) -> PipelineAnswer:
    """Build a corpus, train HRM-Text on its packs, and score the checkpoint. What is finished is reused.

    Raises: WinnowError: for a mistake in the arguments, the recipe or its inputs. CheckFailed: if a step fails.
    """
    root = root_or_default(root)
    built = build_reported(recipe, root, engine, workers, settings, against, from_step)
    trained = train_reported(built.run, config, root, None, train_workers, train_steps, train_settings, train_start)
    scored = evaluate_reported(ModelSpec(trained.out), benchmarks, root, run=built.run, limit=limit)
    return PipelineAnswer(build=built, train=trained, evaluate=scored)
