"""How are a recipe's scores trained and measured by themselves? With the steps of a build, which a build reuses."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from filters.scores.score import PREFIX
from flows.execute import EngineName, Execution, StepAnswer, execute_recipe, load_with_text, step_answers
from flows.tracker import Tracker
from pipelines.audit.scoring import model_of, scores_of
from pipelines.curate import SCORE_STEPS
from pipelines.errors import RecipeError
from pipelines.ledger import storage
from pipelines.recipe import Recipe
from pipelines.steps.products import MEASURES, MODEL
from pipelines.steps.scores import trained_rows

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The quantiles that are shown of each score."""


class ScoreAnswer(BaseModel):
    """A score of a run.

    columns: of the records. model: path of its model, None for a score without one. trained: label -> rows that the
    model was trained on. measures: what was measured while training, on rows that were held out. measured: rows with
    a value. quantiles: column -> its values at SHARES, for columns of numbers. groups: value -> rows, for names.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: str
    columns: tuple[str, ...]
    model: str | None
    trained: dict[str, int]
    measures: dict[str, float]
    measured: int
    quantiles: dict[str, tuple[float, ...]]
    groups: dict[str, int]


class ScoresAnswer(BaseModel):
    """Scores of a recipe. `winnow score train --json` prints it. rows: that were measured. shares: of the quantiles."""

    model_config = ConfigDict(frozen=True)

    run: str
    root: str
    rows: int
    shares: tuple[float, ...] = SHARES
    scores: tuple[ScoreAnswer, ...]
    steps: tuple[StepAnswer, ...]
    report: str


def train_scores(
    recipe: str | Recipe,
    root: str = "./winnow-data",
    engine: EngineName = "ray",
    workers: int | None = None,
    settings: tuple[str, ...] = (),
    tracker: Tracker | None = None,
) -> ScoresAnswer:
    """Train the models of a recipe's scores and measure all rows that reach them. A build reuses these steps.

    The arguments are those of `flows.build.build`.

    Raises: WinnowError: for a mistake in the recipe or its inputs, and if it has no scores. CheckFailed: if a step
    fails.
    """
    loaded, text = load_with_text(recipe, settings)
    if not loaded.scores:
        raise RecipeError(f"{recipe if isinstance(recipe, str) else loaded.name}: the recipe has no `scores`; add one")
    return _answer(execute_recipe(loaded, text, root, engine, workers, SCORE_STEPS, tracker))


def _answer(execution: Execution) -> ScoresAnswer:
    run = execution.run
    return ScoresAnswer(
        run=run.id,
        root=run.root,
        rows=run.records.rows_kept or 0,
        scores=tuple(_score(execution, score.name) for score in scores_of(run)),
        steps=step_answers(execution.results),
        report=execution.report,
    )


def _score(execution: Execution, name: str) -> ScoreAnswer:
    run = execution.run
    score = next(score for score in scores_of(run) if score.name == name)
    trained = model_of(run, score)
    columns = [field.name for field in score.columns]
    table = pa.concat_tables([storage.read_parquet(shard.path, columns) for shard in run.records.shards])
    numbers = [column for column in columns if column.startswith(PREFIX)]
    names = [column for column in columns if not column.startswith(PREFIX)]
    quantiles = {column: pc.quantile(table[column], q=list(SHARES), skip_nulls=True).to_pylist() for column in numbers}
    counted = [pc.value_counts(table[column]).to_pylist() for column in names]
    groups = {str(one["values"]): int(one["counts"]) for values in counted for one in values}
    return ScoreAnswer(
        name=name,
        kind=score.kind,
        columns=tuple(columns),
        model=None if trained is None else trained.file(MODEL).path,
        trained={} if trained is None else trained_rows(trained),
        measures={} if trained is None else storage.read_json(trained.file(MEASURES).path),
        measured=table.num_rows - min(table[column].null_count for column in columns),
        quantiles={column: tuple(values) for column, values in quantiles.items() if None not in values},
        groups=dict(sorted(groups.items(), key=lambda one: -one[1])),
    )
