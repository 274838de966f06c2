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
from pipelines.steps.scores import FIELDS, READ, TRAIN, Model, measure, read_digests
from pipelines.steps.scores_by_id import find_table


def scores_of(run: RecordedRun) -> tuple[Score, ...]:
    """The scores of a run's recipe, in order."""
    return Recipe.model_validate(run.info["settings"]).scores


def model_of(run: RecordedRun, score: Score) -> Manifest | None:
    """The step that trained a score's model; None for a score without a model."""
    return run.step(TRAIN + score.name) if isinstance(score, TrainedScore) else None


def learned_rows(run: RecordedRun, score: Score, records: pa.Table) -> npt.NDArray[np.bool_]:
    """From which records a score has learned, or a score that it needs: bool [rows]. By id, or because what the score
    reads of the record is what it reads of a row that its model was trained on.

    records: `id`, `instruction` and `response`.

    Raises: RunError: if the run's step does not say what it has read.
    """
    needed = [other for other in scores_of(run) if _column(score.needs, other)]
    learned = np.zeros(records.num_rows, np.bool_)
    for other in needed:
        learned |= learned_rows(run, other, records)
    trained = model_of(run, score)
    if trained is None or not isinstance(score, TrainedScore):
        return learned
    path = trained.file(TRAINING_ROWS).path
    if READ + "response" not in storage.columns(path):
        raise RunError(f"run {run.id}: {score.name} was trained by an earlier version of Winnow; build the run again")
    read = [name for name in FIELDS if name in _reads(score, scores_of(run))]
    rows = storage.read_parquet(path, ["id", "learned", *(READ + name for name in read)])
    rows = rows.filter(rows["learned"])
    learned |= np.asarray(pc.is_in(as_array(records["id"]), value_set=as_array(rows["id"])), np.bool_)
    if read:
        texts = digest128(*(_as_binary(read_digests(score, name, records)) for name in read))
        known = digest128(*(_as_binary(rows[READ + name]) for name in read))
        learned |= np.asarray(pc.is_in(texts, value_set=known), np.bool_)
    return learned


def _column(names: Collection[str], score: Score) -> bool:
    """Whether one of the names is that of a score, or of one of its columns."""
    return any(column_of(name, (score.name, *(field.name for field in score.columns))) for name in names)


def _reads(score: Score, scores: Collection[Score]) -> set[str]:
    """The fields that a score reads, itself or by the scores that it needs."""
    return set(score.reads).union(*(_reads(other, scores) for other in scores if _column(score.needs, other)))


def _as_binary(digests: pa.Array | pa.ChunkedArray) -> pa.BinaryArray:
    return as_array(digests.cast(pa.binary()))


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
        if not _column(needed, score):
            continue
        columns = measure(score, records, _model(run, score))
        for field in columns.schema:
            records = records.append_column(field, columns[field.name])
            if score.name in wanted:
                table = table.append_column(field, columns[field.name])
    return table
