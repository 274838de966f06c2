"""What does a run's recipe measure of other rows? Its scores, by the models that the run trained."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.exact import digest128
from filters.cut import column_of
from filters.scores.score import Score, TrainedScore
from filters.scores.table import TableScore
from pipelines.errors import RunError, nearest
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import Recipe
from pipelines.steps.products import MODEL, TRAINING_ROWS
from pipelines.steps.scores import TRAIN, Model, measure
from pipelines.steps.scores_by_id import find_table


def scores_of(run: RecordedRun) -> tuple[Score, ...]:
    """The scores of a run's recipe, in order."""
    return Recipe.model_validate(run.info["settings"]).scores


def model_of(run: RecordedRun, score: Score) -> Manifest | None:
    """The step that trained a score's model; None for a score without a model."""
    return run.step(TRAIN + score.name) if isinstance(score, TrainedScore) else None


def learned_rows(run: RecordedRun, score: Score, records: pa.Table) -> npt.NDArray[np.bool_]:
    """From which records a score's model has learned, by id or by text: bool [rows].

    records: `id`, `instruction` and `response`.
    """
    trained = model_of(run, score)
    if trained is None:
        return np.zeros(records.num_rows, np.bool_)
    rows = storage.read_parquet(trained.file(TRAINING_ROWS).path, ["id", "texts", "learned"])
    rows = rows.filter(rows["learned"])
    texts = digest128(as_array(records["instruction"]), as_array(records["response"]))
    by_id = pc.is_in(as_array(records["id"]), value_set=as_array(rows["id"]))
    by_text = pc.is_in(texts, value_set=as_array(rows["texts"]))
    return np.asarray(pc.or_(by_id, by_text), np.bool_)


def _model(run: RecordedRun, score: Score) -> Model:
    if isinstance(score, TableScore):
        return find_table(score)
    trained = model_of(run, score)
    return None if trained is None else trained.file(MODEL)


def score_table(run: RecordedRun, records: pa.Table, names: Collection[str] = ()) -> pa.Table:
    """`id` and the columns of the run's scores for records [rows] that need not be the run's.

    records: `id`, `instruction` and `response`; `source` and `condition` are empty where there are no such columns.
    names: of scores, all by default. A score from a table is null for records whose id the table lacks.

    Raises: RunError: if the recipe has no scores, or none of that name.
    """
    scores = scores_of(run)
    if not scores:
        raise RunError(f"run {run.id}: its recipe has no `scores`; add some and build again")
    known = [score.name for score in scores]
    for name in names:
        if name not in known:
            raise RunError(f"run {run.id}: no score is called {name!r}; {nearest(name, known)}")
    records = records.combine_chunks()
    for name in ("source", "condition"):
        if name not in records.column_names:
            records = records.append_column(name, pa.array([""] * records.num_rows, pa.string()))
    table, wanted = records.select(["id"]), set(names or known)
    needed = wanted | {other for score in scores if score.name in wanted for other in score.needs}
    for score in scores:
        if not any(column_of(name, (score.name, *(field.name for field in score.columns))) for name in needed):
            continue
        columns = measure(score, records, _model(run, score))
        for field in columns.schema:
            records = records.append_column(field, columns[field.name])
            if score.name in wanted:
                table = table.append_column(field, columns[field.name])
    return table
