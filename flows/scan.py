"""How is any corpus checked for contamination? With the engine, steps and progress of a build."""

from __future__ import annotations

from flows.execute import EngineName, StepAnswer, execute_recipe, recipe_text, step_answers
from flows.tracker import Tracker
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


def scan(
    corpus: tuple[str, ...],
    benchmarks: tuple[str, ...],
    columns: dict[str, str | tuple[str, ...]] | None = None,
    rule: str = "ngram13",
    semantic: bool = False,
    root: str = "./winnow-data",
    engine: EngineName = "ray",
    workers: int | None = None,
    tracker: Tracker | None = None,
    memory: int | None = None,
) -> ScanAnswer:
    """Check a corpus against evaluation sets.

    corpus: paths, folders, globs or URLs. benchmarks: as in `pipelines.scan.find_benchmarks`. columns: which columns
    hold the text, None to guess them by name. rule: a name in `filters.contamination.rules.RULES`. semantic: also
    search for paraphrased items. The other arguments are those of `flows.build.build`.

    Raises: WinnowError: for a mistake in the arguments or the files. CheckFailed: if a step fails.
    """
    sets = find_benchmarks(benchmarks)
    recipe = scan_recipe(corpus, columns, Contamination(benchmarks=sets.specs, rule=rule, semantic=semantic))
    execution = execute_recipe(recipe, recipe_text(recipe), root, engine, workers, SCAN_STEPS, tracker, memory=memory)
    return ScanAnswer(
        **summary(execution.run).model_dump(),
        root=execution.run.root,
        not_read=sets.others,
        steps=step_answers(execution.results),
        report=execution.report,
    )
