"""What would the filters and scores of a recipe drop? Measured with the engine of a build; nothing is dropped."""

from __future__ import annotations

from pydantic import ConfigDict

from filters.cut import ScoreCut
from filters.stage import CorpusStage
from flows.execute import EngineName, absolute, check_positive, load_with_text, make_engine
from flows.tracker import Tracker
from pipelines.audit.analysis import Analysis, analysis, count_values
from pipelines.check import check
from pipelines.curate import SCORE_STEPS, curate
from pipelines.ledger.run import Run
from pipelines.recipe import Recipe
from pipelines.steps.ingest import INGEST


class AnalysisAnswer(Analysis):
    """An analysis. `winnow analyze --json` prints it."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    root: str


def analyze(
    recipe: str | Recipe,
    root: str = "./winnow-data",
    engine: EngineName = "ray",
    workers: int | None = None,
    settings: tuple[str, ...] = (),
    tracker: Tracker | None = None,
) -> AnalysisAnswer:
    """Measure what every filter and score of a recipe sees in its sources, and count what limits would drop.

    The arguments are those of `flows.build.build`. The steps that it makes are reused by a build, and by the next
    analysis with other limits of cuts.

    Raises: WinnowError: for a mistake in the recipe or its inputs. CheckFailed: if a step fails.
    """
    check_positive(workers=workers)
    loaded, _ = load_with_text(recipe, settings)
    root, tracker = absolute(root), tracker or Tracker()
    steps = SCORE_STEPS if loaded.scores else (INGEST,)
    check(loaded, root, steps)
    stages = [stage for stage in loaded.stages if not isinstance(stage, CorpusStage)]
    cuts = [stage for stage in loaded.stages if isinstance(stage, ScoreCut)]
    with make_engine(engine, workers, root) as running, tracker.console:
        tracker.start(len(steps) + 1)
        run = Run(root, tracker.engine(running), tracker.perform, tracker.watch, loaded.name)
        corpus = curate(run, loaded, steps=steps)
        counted = count_values(run, corpus.steps[INGEST.name], stages)
    found = analysis(counted, corpus.records if loaded.scores else None, cuts)
    return AnalysisAnswer(recipe=loaded.name, root=root, **dict(found))
