"""The evaluation flow: scores of a checkpoint on all items, and on those found and not found in its training rows.

A checkpoint has the key of the packs it was trained on. The run that made them is found by that key, and with it the
benchmarks that the corpus was checked against and which of their items the packs hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from pydantic import BaseModel, ConfigDict

from flows.benchmarks import benchmark_to_score, benchmarks_to_score, checked_against
from flows.console import current_console
from pipelines.audit.report import write_report
from pipelines.ledger.runs import RecordedRun, open_run, record_scores
from pipelines.steps.benchmark_index import benchmark_items
from pipelines.steps.contamination_report import read_clean_ids
from pipelines.steps.decontaminate import CONTAMINATION
from pipelines.steps.training_overlap import TRAINING_OVERLAP, read_trained_items
from training.evaluation.scores import Score, Scores, TrainingOverlap, evaluate
from training.provenance import run_of


class EvaluateAnswer(BaseModel):
    """An evaluation. `winnow evaluate --json` prints it.

    checkpoint: folder. scores: of each benchmark. report: path of the run's report with these scores, None if the run
    is not below the root.
    """

    model_config = ConfigDict(frozen=True)

    checkpoint: str
    scores: tuple[Scores, ...]
    report: str | None


def training_overlap(run: RecordedRun, benchmark: str) -> TrainingOverlap | None:
    """What the training rows of a run hold of a benchmark's items; None if they were not checked against it.

    The step `training-overlap` measures the rows drawn. A run that was built without it has what the contamination step
    found in all rows that it was given.
    """
    drawn, checked = run.step(TRAINING_OVERLAP.name), run.step(CONTAMINATION.name)
    if drawn is not None and (value := read_trained_items(drawn, benchmark)):
        return TrainingOverlap(set(value["found"]), value["overlap"], "drawn_rows")
    if checked is not None and (value := read_clean_ids(checked, benchmark)):
        return TrainingOverlap(set(value["contaminated"]), value["overlap"], "checked_rows")
    return None


def evaluate_checkpoint(
    checkpoint: str,
    benchmark: str = "generated",
    root: str = "./winnow-data",
    run: str | None = None,
    paths: tuple[str, ...] = (),
    limit: int | None = None,
    batch: int = 32,
    average: bool = True,
    answers: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    device: str = "auto",
) -> Scores:
    """Score a checkpoint folder, or the latest checkpoint of a training folder, on one benchmark.

    benchmark: a name that the recipe of the run gives to a benchmark, or one of `training.evaluation.tasks.TASKS` with
    the `paths` of its files (a generated one has none). run: the run that built the corpus; by default it is looked up
    below `root`. limit: ask only the first items. answers: path of a file for one JSON line per item. device: `auto` (a
    GPU if torch sees one), `cpu`, `cuda` or `cuda:<number>`.

    Raises: WinnowError: if the run, the benchmark or its files cannot be found.
    """
    recorded = open_run(root, run) if run else run_of(checkpoint, root)
    spec = benchmark_to_score(benchmark, recorded, paths, limit)
    checked = recorded is not None and benchmark in checked_against(recorded) and not paths
    overlap = training_overlap(recorded, benchmark) if recorded and checked else None
    kind = spec.adapter or spec.name
    return evaluate(
        checkpoint, benchmark_items(spec), kind, overlap, limit, batch, average, answers, on_progress, device
    )  # fmt: skip


@flow(name="evaluate", validate_parameters=True)
def evaluate_flow(
    checkpoint: str,
    benchmarks: tuple[str, ...] = (),
    root: str = "./winnow-data",
    run: str | None = None,
    paths: tuple[str, ...] = (),
    limit: int | None = None,
    answers: str | None = None,
    device: str = "auto",
) -> EvaluateAnswer:
    """Score a checkpoint on benchmarks and write the scores into the report of its run.

    benchmarks: by default all that the corpus was checked against and that can be scored. The other parameters are
    those of `evaluate_checkpoint`.

    Raises: WinnowError: if the run, a benchmark or its files cannot be found.
    """
    recorded = open_run(root, run) if run else run_of(checkpoint, root)
    benchmarks = benchmarks_to_score(benchmarks, checkpoint, recorded, paths)
    run_id = recorded.id if recorded else None
    all_scores: list[Scores] = []
    with current_console() as console:
        for name in benchmarks:

            def move(done: int, items: int, name: str = name) -> None:
                console.move_bar(f"evaluate: {name}", done, items, "items")

            scores = evaluate_checkpoint(
                checkpoint, name, root, run_id, paths, limit, answers=answers, on_progress=move, device=device
            )
            create_table_artifact(
                key="winnow-scores", table=table(scores), description=f"{name}: {scores.checkpoint}, step {scores.step}"
            )
            all_scores.append(scores)
    report = None
    if recorded is not None:
        record_scores(recorded, [scores.model_dump(mode="json") for scores in all_scores])
        report = write_report(recorded)
    return EvaluateAnswer(checkpoint=all_scores[0].checkpoint, scores=tuple(all_scores), report=report)


def table(scores: Scores) -> list[dict[str, Any]]:
    """One line each for all items, those not found and found in training rows, then for the splits: score and interval
    in percent."""
    named: dict[str, Score | None] = {
        "all": scores.all,
        "not found": scores.not_found,
        "found": scores.found,
        **(scores.splits if len(scores.splits) > 1 else {}),
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
