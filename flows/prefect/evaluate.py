"""The evaluation as a flow, for schedules and the Prefect UI: a table of scores per benchmark."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.evaluate import EngineName, EvaluateAnswer, evaluate
from training.configs import Precision
from training.evaluation.evaluate import How, ModelSpec
from training.evaluation.scores import Score, Scores


@flow(name="evaluate", validate_parameters=True)
def evaluate_flow(
    checkpoint: str,
    benchmarks: tuple[str, ...] = (),
    root: str = "./winnow-data",
    run: str | None = None,
    paths: tuple[str, ...] = (),
    shots: tuple[str, ...] = (),
    limit: int | None = None,
    hows: tuple[How, ...] = (How(),),
    average: bool = True,
    device: str = "auto",
    precision: Precision = "fp32",
    batch: int = 32,
    model: str | None = None,
    engine: Literal["ray", "local"] = "local",
    workers: int | None = None,
) -> EvaluateAnswer:
    """Score a checkpoint on benchmarks and write the scores into the report of its run.

    The parameters are those of `flows.evaluate.evaluate` and of its `ModelSpec`.

    Raises: WinnowError: if the run, a benchmark or its files cannot be found.
    """
    chosen: EngineName = engine
    spec = ModelSpec(checkpoint, average, device, precision, batch, model)
    return evaluate(
        spec, benchmarks, hows, root, run, paths, shots, limit, chosen, workers, on_scores=_write_artifact
    )  # fmt: skip


def _write_artifact(scores: Scores) -> None:
    create_table_artifact(
        key="winnow-scores",
        table=table(scores),
        description=f"{scores.benchmark}: {scores.checkpoint}, step {scores.step}",
    )


def table(scores: Scores) -> list[dict[str, Any]]:
    """One line each for all items, those not found and found in training rows, then for the splits: score and interval
    in percent."""
    named: dict[str, Score | None] = {
        "all": scores.all,
        "not found": scores.not_found,
        "found": scores.found,
        **(scores.splits if len(scores.splits) > 1 else {}),
        **{f"all, {name}": score for name, score in scores.scorers.items() if name != scores.scorer},
    }
    return [
        {
            "items": name,
            "n": score.n,
            "correct": score.correct,
            "invalid": score.invalid,
            "score": f"{score.score:.1%}",
            "95 % interval": f"{score.low:.1%} to {score.high:.1%}",
        }
        for name, score in named.items()
        if score is not None and score.score is not None
    ]
