"""Which benchmarks can a checkpoint be scored on? Those that its corpus was checked against, and those with files."""

from __future__ import annotations

from pipelines.errors import RunError, WinnowError, nearest
from pipelines.ledger import input_files
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import BenchmarkSpec, Contamination
from training.evaluation.tasks import TASKS

GENERATED_ITEMS = 300
"""Items of a generated benchmark, if neither the recipe nor the caller gives a number: intervals of some 6 points."""


def checked_against(run: RecordedRun) -> dict[str, BenchmarkSpec]:
    """The benchmarks that the corpus of a run was checked against, by name."""
    settings = run.info["settings"].get("contamination")
    return {spec.name: spec for spec in Contamination.model_validate(settings).benchmarks} if settings else {}


def benchmarks_to_score(
    names: tuple[str, ...], checkpoint: str, run: RecordedRun | None, paths: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """The names of the benchmarks to score: those given, or all that the corpus was checked against.

    run: that made the packs of the checkpoint. paths: files of the benchmark, if the run's recipe does not name them.

    Raises: WinnowError: for an unknown name, or one without files. RunError: if there is none to score.
    """
    if not names:
        specs = checked_against(run) if run else {}
        names = tuple(name for name, spec in specs.items() if (spec.adapter or name) in TASKS)
    if not names:
        raise RunError(
            f"{checkpoint}: its run has no benchmark that can be scored; name one: --benchmark gsm8k --path FILE"
        )
    for name in names:
        for pattern in benchmark_to_score(name, run, paths).paths:
            input_files.expand(pattern)
    return names


def benchmark_to_score(
    name: str, run: RecordedRun | None, paths: tuple[str, ...] = (), limit: int | None = None
) -> BenchmarkSpec:
    """The benchmark of that name. limit: items that a generated one has at least.

    Raises: WinnowError: for an unknown name. RunError: for one without files.
    """
    specs = checked_against(run) if run else {}
    if name in specs and not paths:
        kind = specs[name].adapter or name
        if kind not in TASKS:
            raise WinnowError(f"benchmark {name}: {kind!r} cannot be scored; these can: {', '.join(TASKS)}")
        return specs[name]
    if name not in TASKS:
        raise WinnowError(f"benchmark {name}: {nearest(name, {*TASKS, *specs})}")
    if name == "generated":
        return BenchmarkSpec(name=name, rows=max(limit or 0, GENERATED_ITEMS))
    if paths:
        return BenchmarkSpec(name=name, path=paths)
    raise RunError(
        f"benchmark {name}: the checkpoint's run was not checked against it; name its files: --path {name}.jsonl"
    )
