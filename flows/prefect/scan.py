"""The scan flow: a contamination check of any corpus, with the engine, steps and progress of a build."""

from __future__ import annotations

import yaml
from prefect import flow

from flows.prefect.execute import EngineName, StepAnswer, execute_recipe, step_answers
from pipelines.curate import SCAN_STEPS
from pipelines.recipe import Contamination
from pipelines.scan import ScanSummary, find_benchmarks, scan_recipe, summary


class ScanAnswer(ScanSummary):
    """A scan. `winnow scan --json` prints it.

    not_read: files named or found among `benchmarks` that hold no known evaluation set.
    """

    root: str
    not_read: tuple[str, ...]
    steps: tuple[StepAnswer, ...]
    report: str


@flow(name="scan", validate_parameters=True)
def scan_flow(
    corpus: tuple[str, ...],
    benchmarks: tuple[str, ...],
    columns: dict[str, str | tuple[str, ...]] | None = None,
    rule: str = "ngram13",
    semantic: bool = False,
    root: str = "./winnow-data",
    engine: EngineName = "ray",
    workers: int | None = None,
) -> ScanAnswer:
    """Check a corpus against evaluation sets.

    corpus: paths, folders, globs or URLs. benchmarks: as in `pipelines.scan.find_benchmarks`. columns: which columns
    hold the text, None to guess them by name. rule: a name in `filters.contamination.rules.RULES`. semantic: also
    search for paraphrased items. root, engine, workers: as in `curate_flow`.

    Raises: WinnowError: for a mistake in the arguments or the files. CheckFailed: if a step fails.
    """
    sets = find_benchmarks(benchmarks)
    recipe = scan_recipe(corpus, columns, Contamination(benchmarks=sets.specs, rule=rule, semantic=semantic))
    text = yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    execution = execute_recipe(recipe, text, root, engine, workers, SCAN_STEPS)
    return ScanAnswer(
        **summary(execution.run).model_dump(),
        root=execution.run.root,
        not_read=sets.others,
        steps=step_answers(execution.results),
        report=execution.report,
    )
