"""Which benchmarks can a checkpoint be scored on? Those that its corpus was checked against, and those with files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from pipelines.benchmarks import BENCHMARKS
from pipelines.errors import InputError, RunError, WinnowError, nearest
from pipelines.ledger import input_files
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import BenchmarkSpec, Contamination
from pipelines.steps.benchmark_index import benchmark_items
from training.evaluation.evaluate import How, task_of
from training.evaluation.tasks import TASKS

GENERATED_ITEMS = 300
"""Items of a generated benchmark, if neither the recipe nor the caller gives a number: intervals of some 6 points."""


def checked_against(run: RecordedRun) -> dict[str, BenchmarkSpec]:
    """The benchmarks that the corpus of a run was checked against, by name."""
    settings = run.info["settings"].get("contamination")
    return {spec.name: spec for spec in Contamination.model_validate(settings).benchmarks} if settings else {}


class Scorable(NamedTuple):
    """A benchmark with its task's name and its files. shots: files that hold the examples of its prompts."""

    spec: BenchmarkSpec
    task: str
    shots: tuple[str, ...]


def benchmarks_to_score(
    names: tuple[str, ...],
    checkpoint: str,
    run: RecordedRun | None,
    how: How,
    paths: tuple[str, ...] = (),
    shots: tuple[str, ...] = (),
    limit: int | None = None,
) -> tuple[Scorable, ...]:
    """The benchmarks to score: those named, or all that the corpus was checked against.

    run: that made the packs of the checkpoint. paths, shots: files of the benchmark and of its examples, if the run's
    recipe does not name them. limit: items that a generated one has at least.

    Raises: WinnowError: for an unknown name, or one without files. RunError: if there is none to score.
    """
    if not names:
        specs = checked_against(run) if run else {}
        names = tuple(name for name, spec in specs.items() if (spec.adapter or name) in TASKS)
    if not names:
        raise RunError(
            f"{checkpoint}: its run has no benchmark that can be scored; name one: --benchmark gsm8k --path FILE"
        )
    if len(names) > 1 and (paths or shots):
        raise WinnowError("--path and --shots-path are for one benchmark; name it with --benchmark")
    found = tuple(benchmark_to_score(name, run, how, paths, shots, limit) for name in names)
    for benchmark in found:
        _check_files(benchmark.spec.name, benchmark.spec.paths, "give copies of its files: --path FILE")
        _check_files(
            benchmark.spec.name,
            benchmark.shots,
            "give the files of the examples in its prompts (--shots-path), or ask without any (--shots 0)",
        )
    return found


def _check_files(name: str, patterns: Sequence[str], mend: str) -> None:
    """Raises: InputError: if a pattern names no file, or its place cannot be reached. mend: what to do then."""
    for pattern in patterns:
        try:
            input_files.expand(pattern)
        except InputError as error:
            raise InputError(f"benchmark {name}: {error}; {mend}") from error


def benchmark_to_score(
    name: str,
    run: RecordedRun | None,
    how: How,
    paths: tuple[str, ...] = (),
    shots: tuple[str, ...] = (),
    limit: int | None = None,
) -> Scorable:
    """The benchmark of that name: see `benchmarks_to_score`."""
    specs = checked_against(run) if run else {}
    known = specs.get(name)
    kind = (known.adapter or name) if known else name
    if kind not in TASKS and known:
        raise WinnowError(f"benchmark {name}: {kind!r} cannot be scored; these can: {', '.join(TASKS)}")
    if kind not in TASKS:
        raise WinnowError(f"benchmark {name}: {nearest(name, {*TASKS, *specs})}")
    benchmark = BENCHMARKS[kind]
    if benchmark.generate is not None:
        rows = known.rows if known and known.rows else max(limit or 0, GENERATED_ITEMS)
        return Scorable(BenchmarkSpec(name=name, adapter=kind, rows=rows), kind, ())
    # The recipe's files are those to search for in a corpus. Some benchmarks are scored on more files.
    addresses = paths or (known.paths if known else ()) or benchmark.scored or benchmark.path
    if not addresses:
        raise RunError(f"benchmark {name}: it has no published address; name its files: --path {name}.jsonl")
    # MMLU has its examples among its own files.
    if not shots and task_of(kind, how).shots and not set(benchmark.shots) <= set(benchmark.path):
        shots = benchmark.shots
    return Scorable(BenchmarkSpec(name=name, adapter=kind, path=addresses), kind, shots)


def read_items(benchmark: Scorable) -> tuple[pa.Table, pa.Table | None]:
    """The items of a benchmark, and those that may be examples in its prompts; None if these are among the items.

    Raises: InputError: for files that cannot be read.
    """
    items = benchmark_items(benchmark.spec)
    if not benchmark.shots:
        return items, None
    return items, benchmark_items(benchmark.spec.model_copy(update={"path": benchmark.shots}))
