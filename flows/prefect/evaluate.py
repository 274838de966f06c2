"""The evaluation as a flow, for schedules and the Prefect UI: a table of scores per benchmark."""

from __future__ import annotations

from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

from flows.evaluate import EngineName, EvaluateAnswer, evaluate
from flows.execute import check_positive
from flows.prefect.parameters import Batch, Benchmarks, Limit, Root, Workers
from flows.prefect.tables import scores as table
from flows.prefect.tracker import REPORT, reported
from flows.root import root_or_default
from training.configs import Precision
from training.evaluation.evaluate import How, ModelSpec
from training.evaluation.scores import Scores
from training.folders import find_checkpoint
from training.inference.models import is_endpoint


@flow(name="evaluate", flow_run_name="evaluate {checkpoint}", validate_parameters=True)
@reported
def evaluate_flow(
    checkpoint: Annotated[
        str, Field(description="A checkpoint's folder, a training folder, `latest`, or a URL.")
    ] = "latest",
    benchmarks: Benchmarks = (),
    root: Root = None,
    run: Annotated[
        str | None, Field(description="The run that built the corpus. Default: looked up below the root.")
    ] = None,
    paths: Annotated[
        tuple[str, ...], Field(description="Of the benchmark, if the run's recipe does not name them.")
    ] = (),
    shots: Annotated[tuple[str, ...], Field(description="Of the examples in the prompts of a benchmark.")] = (),
    limit: Limit = None,
    hows: Annotated[tuple[How, ...], Field(description="Each benchmark is asked in each of these ways.")] = (How(),),
    average: Annotated[bool, Field(description="Use the moving average of the weights of a checkpoint.")] = True,
    device: Annotated[str, Field(description="`auto`, `cpu`, `cuda` or `cuda:<number>`.")] = "auto",
    precision: Annotated[Precision, Field(description="`bf16` is faster on a GPU.")] = "fp32",
    batch: Batch = 32,
    model: Annotated[
        str | None, Field(description="The name of an endpoint's model, if the checkpoint is a URL.")
    ] = None,
    engine: Annotated[
        Literal["ray", "local"],
        Field(description="`ray`: actors on the cluster. `local`: in the process of the flow."),
    ] = "local",
    workers: Workers = None,
) -> EvaluateAnswer:
    """Score a checkpoint on benchmarks and write the scores into the report of its run.

    Raises: WinnowError: if the run, a benchmark or its files cannot be found.
    """
    root = root_or_default(root)
    target = checkpoint if is_endpoint(checkpoint) else find_checkpoint(checkpoint, root)
    spec = ModelSpec(target, average, device, precision, batch, model)
    return evaluate_reported(spec, benchmarks, root, hows, run, paths, shots, limit, engine, workers)


def evaluate_reported(
    spec: ModelSpec,
    benchmarks: tuple[str, ...],
    root: str,
    hows: tuple[How, ...] = (How(),),
    run: str | None = None,
    paths: tuple[str, ...] = (),
    shots: tuple[str, ...] = (),
    limit: int | None = None,
    engine: EngineName = "local",
    workers: int | None = None,
) -> EvaluateAnswer:
    """Evaluate, and show it in the flow run that is going on. The arguments are those of `flows.evaluate.evaluate`."""
    check_positive(limit=limit, workers=workers, batch=spec.batch)
    report = REPORT.get()

    def show(result: Scores) -> None:
        if report is not None:
            description = f"{result.benchmark}: {result.checkpoint}, step {result.step}"
            key = "winnow-scores-" + "".join(c if c.isalnum() else "-" for c in result.benchmark.lower())
            report.artifact("table", key, description).write(table(result))

    def work() -> EvaluateAnswer:
        return evaluate(spec, benchmarks, hows, root, run, paths, shots, limit, engine, workers, on_scores=show)

    if report is None:
        return work()
    with report.step("evaluate"):
        return work()
