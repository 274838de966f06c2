"""The evaluation flow: a checkpoint's score on a benchmark, on items that its corpus held and on those that it did not.

A checkpoint knows the key of the packs it was trained on, so the run that made them is found without being named, and
with it the benchmarks that the corpus was checked against and which of their items it held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.console import current_console
from pipelines.audit.report import write_report
from pipelines.errors import RunError, WinnowError, nearest
from pipelines.ledger.runs import RecordedRun, open_run, record_scores
from pipelines.recipe import BenchmarkSpec, Contamination
from pipelines.steps.benchmark_index import benchmark_items
from pipelines.steps.contamination_report import read_clean_ids
from pipelines.steps.decontaminate import CONTAMINATION
from training.evaluation.scores import EVALUATIONS, CorpusOverlap, Score, Scores, evaluate
from training.provenance import run_of

GENERATED_ITEMS = 300
"""Items asked of a computed benchmark where neither the recipe nor the caller says how many."""


def checked_against(run: RecordedRun) -> dict[str, BenchmarkSpec]:
    """The benchmarks that a run's corpus was checked against, by name."""
    settings = run.info["settings"].get("contamination")
    return {spec.name: spec for spec in Contamination.model_validate(settings).benchmarks} if settings else {}


def held_of(run: RecordedRun, benchmark: str) -> CorpusOverlap | None:
    """What the run's records held of the benchmark's items; None where they were not checked for it."""
    step = run.step(CONTAMINATION.name)
    value = read_clean_ids(step, benchmark) if step else None
    return CorpusOverlap(set(value["clean"]), value["overlap"]) if value else None


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
    """Score a checkpoint folder (or a training folder's latest checkpoint) on a benchmark.

    benchmark: a name that the run's recipe gives a benchmark, or one of `training.evaluation.EVALUATIONS` with `paths`
    to its files (a computed one takes none). run: the run that built the corpus, found by itself where it is under
    `root`. limit: ask only the first items. answers: write a JSON line per item there. device: `auto` (a GPU if torch
    sees one), `cpu`, `cuda` or `cuda:<number>`.

    Raises WinnowError and its kin for what cannot be found.
    """
    found = open_run(root, run) if run else run_of(checkpoint, root)
    specs = checked_against(found) if found else {}
    spec = specs.get(benchmark)
    held = held_of(found, benchmark) if found and spec and not paths else None
    if spec is None or paths:
        if benchmark not in EVALUATIONS:
            raise WinnowError(f"benchmark {benchmark}: {nearest(benchmark, {*EVALUATIONS, *specs})}")
        if benchmark == "generated":
            spec = BenchmarkSpec(name=benchmark, rows=max(limit or 0, GENERATED_ITEMS))
        elif paths:
            spec = BenchmarkSpec(name=benchmark, path=paths)
        else:
            raise RunError(
                f"benchmark {benchmark}: the checkpoint's run was not checked against it, so say where its files are: "
                f"--path {benchmark}.jsonl"
            )
    kind = spec.adapter or spec.name
    return evaluate(checkpoint, benchmark_items(spec), kind, held, limit, batch, average, answers, on_progress, device)


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
) -> dict[str, Any]:
    """Score a checkpoint on benchmarks and write the scores into its run's report.

    benchmarks: by default all that the run's corpus was checked against and that can be scored. The other parameters
    are those of `evaluate_checkpoint`. Returns {checkpoint, scores, report}.
    """
    found = open_run(root, run) if run else run_of(checkpoint, root)
    if not benchmarks:
        checked = checked_against(found) if found else {}
        benchmarks = tuple(name for name, spec in checked.items() if (spec.adapter or name) in EVALUATIONS)
    if not benchmarks:
        raise RunError(
            f"{checkpoint}: its run names no benchmark that can be scored; name one: --benchmark gsm8k --path FILE"
        )
    scores = []
    with current_console() as console:
        for name in benchmarks:

            def move(done: int, items: int, name: str = name) -> None:
                console.show(f"evaluate: {name}", done, items, "items")

            scored = evaluate_checkpoint(
                checkpoint, name, root, found.id if found else None, paths, limit, answers=answers, on_progress=move,
                device=device,
            )  # fmt: skip
            create_table_artifact(
                key="winnow-scores", table=table(scored), description=f"{name}: {scored.checkpoint}, step {scored.step}"
            )
            scores.append(scored.model_dump(mode="json"))
    report = None
    if found is not None:
        record_scores(found, scores)
        report = write_report(found)
    return {"checkpoint": scores[0]["checkpoint"], "scores": scores, "report": report}


def table(scores: Scores) -> list[dict[str, Any]]:
    """A line each for all, clean and contaminated items, then for the splits: score and interval in percent."""
    named: dict[str, Score | None] = {
        "all": scores.all,
        "clean": scores.clean,
        "contaminated": scores.contaminated,
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
