"""What is measured of each record? Each score is a step, and so is each model that a score trains.

A score step writes its columns beside the records, with ids and in the same order; `select` joins them. A model is
trained on rows of the recipe, those still kept or those that an earlier step dropped, chosen by their digests: the
sample depends neither on the order of rows nor on the shards.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.exact import digest128, leading
from filters.cut import ScoreCut, column_of
from filters.scores.catalogue import origin, parameters
from filters.scores.score import PREFIX, Rows, Score, TrainedScore
from filters.scores.table import TableScore
from filters.stage import CorpusStage, Transform
from filters.text import TextField
from pipelines.errors import CheckFailed, InputError, WinnowError, nearest
from pipelines.formats.numbers import first_unread, numbers_of
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part, part
from pipelines.ledger.run import StepContext, Target
from pipelines.ledger.storage import FileRef, TableRef
from pipelines.recipe import Recipe
from pipelines.steps.products import MEASURES, MODEL, RECORDS, SCORES, TRAINING_ROWS
from pipelines.steps.scores_by_id import FoundTable, find_table
from pipelines.steps.step import Build, RecipeStep
from pipelines.validation import Key

Model = FileRef | FoundTable | None
"""What a score measures by: the file of its model, a table, or nothing but its settings."""

TRAIN, MEASURE = "train-", "score-"
"""How the names of the steps of a score begin."""

BINS = 1 << 16
"""Bins of digests, by their first two bytes."""


def score_steps(recipe: Recipe) -> list[RecipeStep]:
    """The steps of all scores of a recipe, in order: `train-<name>` where there is a model, and `score-<name>`."""
    steps = []
    for score in recipe.scores:
        if isinstance(score, TrainedScore):
            steps.append(_train_step(score))
        steps.append(_measure_step(score))
    return steps


def score_problems(recipe: Recipe) -> Iterator[tuple[Key, str]]:
    """What does not fit together in the scores of a recipe and the stages that read them: key, message."""
    known = ["source", "condition", *recipe.extra_columns]
    sources = [spec.name for spec in recipe.sources]
    columns: list[str] = []
    for index, score in enumerate(recipe.scores):
        key: Key = ("scores", index)
        for rows in _choices_of(score):
            if rows.column is not None and rows.column not in (there := [*known, *columns]):
                hint = f"{nearest(rows.column, there)}; `extra` of a source declares one"
                yield key, f"no record has a column {rows.column!r}; {hint}"
            for name in rows.source:
                if name not in sources:
                    yield key, f"no source is called {name!r}; {nearest(name, sources)}"
        for name in score.needs:
            if column_of(name, tuple(columns)) is None:
                earlier_names = [column.removeprefix(PREFIX) for column in columns]
                there_are = nearest(name, earlier_names) if earlier_names else "none is"
                yield key, f"no score before this one is called {name!r}; {there_are}"
        if isinstance(score, TableScore):
            try:
                find_table(score)
            except WinnowError as error:
                yield key, str(error)
        own = [field.name for field in score.columns]
        for name in own:
            if name in known or name in columns:
                yield key, f"there is already a column {name!r}; give this score another `name`"
        columns += own
    groups = [
        *known,
        *(field.name for score in recipe.scores for field in score.columns if not field.name.startswith(PREFIX)),
    ]
    for name in recipe.sampling.weights:
        if name not in groups:
            hint = "weights are given to names, not to numbers" if name in columns else nearest(name, groups)
            yield ("sampling", "weights", name), f"no column {name!r} names groups of rows; {hint}"
    earlier: CorpusStage | None = None
    for index, stage in enumerate(recipe.stages):
        if isinstance(stage, ScoreCut):
            earlier = earlier or stage
            yield from ((("stages", index), message) for message in _cut_problems(stage, columns, groups))
        elif earlier is not None and isinstance(stage, Transform | CorpusStage):
            message = f"{stage.kind} rewrites what the scores have measured; put it before the first stage `score`"
            yield ("stages", index), message


def _choices_of(score: Score) -> Iterator[Rows]:
    if isinstance(score, TrainedScore):
        for chosen in score.training.values():
            yield from chosen


def _cut_problems(cut: ScoreCut, columns: Sequence[str], groups: Sequence[str]) -> Iterator[str]:
    column = column_of(cut.name, tuple(columns))
    if column is None:
        names = [name.removeprefix(PREFIX) for name in columns]
        yield f"no score is called {cut.name!r}; " + (nearest(cut.name, names) if names else "add it to `scores`")
    elif column in groups and not cut.drop:
        yield f"the values of {cut.name!r} are names; write `drop: <name>`"
    elif column not in groups and cut.drop:
        yield f"the values of {cut.name!r} are numbers; write `min`, `max` or `top`"
    for name in cut.within:
        if name not in groups:
            yield f"within: no column {name!r} names groups; {nearest(name, groups)}"


# The model of a score


def _train_step(score: TrainedScore) -> RecipeStep:
    return RecipeStep(
        name=f"{TRAIN}{score.name}",
        products={
            MODEL: "the model, one file",
            TRAINING_ROWS: "the rows of the training sample: id, digests, label, whether the model learned from it",
            MEASURES: "what was measured on rows that were held out, JSON",
        },
        wanted=lambda recipe: True,
        make=lambda build: train_score(build, score),
        rate=f"{TRAIN}{score.kind}",
    )


def train_score(build: Build, score: TrainedScore) -> Manifest:
    """Train, or find, the model of a score on the records made so far.

    Raises: CheckFailed: if a label has no row. ValueError: as the score's `train`.
    """
    records = build.records
    choices = {label: tuple(chosen) for label, chosen in score.training.items()}
    uses_dropped = any(rows.dropped for chosen in choices.values() for rows in chosen)
    earlier = [manifest for manifest in build.made.values() if manifest.kept == RECORDS] if uses_dropped else []
    named = {rows.column for chosen in choices.values() for rows in chosen if rows.column}
    beside = _beside(build, named | set(score.needs))
    settings = {
        "score": {**score.train_parameters(), **origin(score)},
        "training": {label: [rows.model_dump(mode="json") for rows in chosen] for label, chosen in choices.items()},
    }
    dropped_by = [manifest.key for manifest in earlier if manifest.key != records.key]
    step = _train_step(score).step(settings, (records.key, *dropped_by, *(manifest.key for manifest in beside)))

    def work(context: StepContext) -> Sequence[Part]:
        items = scored_shards(records, beside)
        items += [ScoredShard(shard, (), manifest.step) for manifest in earlier for shard in manifest.dropped]
        tallies = context.map(functools.partial(_tally_labels, choices), items, "tally")
        last = _last_bins([storage.map_arrow(one.file("tally").path) for one in tallies], choices, score)
        drawn = context.map(functools.partial(_draw_rows, choices, last, score.needs), items, "rows")
        paths = tuple(one.file("rows").path for one in drawn if one.rows("rows"))
        return context.map(functools.partial(_train, score), [paths])

    return build.run.do(step, work)


def trained_rows(trained: Manifest) -> dict[str, int]:
    """Label -> the rows that a score was trained on."""
    return {key.removeprefix("trained/"): rows for key, rows in trained.counts.items() if key.startswith("trained/")}


class ScoredShard(NamedTuple):
    """A shard of records. tables: columns of scores that lie beside it. dropped_by: the step that dropped these
    records, or ""."""

    shard: TableRef
    tables: tuple[TableRef, ...] = ()
    dropped_by: str = ""


def scored_shards(records: Manifest, scores: Sequence[Manifest]) -> list[ScoredShard]:
    """The shards of records, with the columns of scores that are measured of them."""
    files = zip(records.shards, *(manifest.tables(SCORES) for manifest in scores), strict=True)
    return [ScoredShard(shard, tuple(tables)) for shard, *tables in files]


def read_scored(item: ScoredShard) -> pa.Table:
    """The records of a shard, with the columns of scores beside it. Raises: CheckFailed: as `joined`."""
    return joined(storage.read_parquet(item.shard.path).combine_chunks(), item.tables)


def labels_of(records: pa.Table, choices: Mapping[str, Sequence[Rows]], step: str) -> npt.NDArray[np.int64]:
    """The number of the label of each record [rows], -1 for none: the first label of which a choice holds."""
    labels = np.full(records.num_rows, -1, np.int64)
    for number, chosen in enumerate(choices.values()):
        for rows in chosen:
            labels[(labels < 0) & _holds(records, rows, step)] = number
    return labels


def _holds(records: pa.Table, rows: Rows, step: str) -> npt.NDArray[np.bool_]:
    holds = np.full(records.num_rows, bool(rows.dropped) == bool(step))
    if rows.source:
        holds &= _is_in(records["source"], rows.source)
    if rows.dropped and step:
        reasons = pc.binary_join_element_wise(records["stage"], records["reason"], "/")
        by_step = np.full(records.num_rows, step in rows.dropped)
        holds &= by_step | _is_in(records["stage"], rows.dropped) | _is_in(reasons, rows.dropped)
    if rows.column is not None:
        if rows.column not in records.column_names:  # a score, which rows dropped before have not
            return np.zeros(records.num_rows, np.bool_)
        column = records[rows.column]
        if rows.equals:
            holds &= _is_in(column.cast(pa.string()), rows.equals)
        if rows.min is not None or rows.max is not None:
            chosen = np.flatnonzero(holds)  # in rows of other sources the column may hold words
            places = pa.array(chosen)
            values = _numbers(column.take(places), rows.column, records["id"].take(places))
            with np.errstate(invalid="ignore"):
                within = values >= (-np.inf if rows.min is None else rows.min)
                within &= values <= (np.inf if rows.max is None else rows.max)
            holds[chosen] = within
    return holds


def _numbers(column: pa.ChunkedArray, name: str, ids: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """The values of a column of this name as numbers, float64 [rows]; NaN where there is none. ids: of the rows.

    Raises: InputError: naming a row whose value is no number.
    """
    try:
        return numbers_of(column)
    except ValueError as error:
        row = first_unread(column.to_pylist())
        where = "" if row is None else f"row {ids[row].as_py()}, "
        raise InputError(
            f"{where}column {name!r}: {error}; choose rows by `equals`, or leave out what is no number"
        ) from error


def _is_in(column: pa.ChunkedArray, values: Sequence[str]) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.is_in(column, value_set=pa.array(values, pa.string())).to_numpy(), np.bool_)


def _tally_labels(choices: Mapping[str, Sequence[Rows]], item: ScoredShard, target: Target) -> Part:
    records = read_scored(item)
    labels = labels_of(records, choices, item.dropped_by)
    chosen = labels >= 0
    pairs, rows = np.unique(labels[chosen] * BINS + leading(as_array(records["digest"]))[chosen], return_counts=True)
    tally = pa.table({"label": pairs // BINS, "bin": pairs % BINS, "rows": rows.astype(np.int64)})
    return part(tally=storage.write_arrow(target.path(suffix=".arrow"), tally))


def _last_bins(tallies: Sequence[pa.Table], choices: Mapping[str, Sequence[Rows]], score: TrainedScore) -> list[int]:
    """For each label the last bin of digests that is needed for `max_rows` rows.

    Raises: CheckFailed: naming a label without rows.
    """
    counts = np.zeros((len(choices), BINS), np.int64)
    for tally in tallies:
        np.add.at(counts, (tally["label"].to_numpy(), tally["bin"].to_numpy()), tally["rows"].to_numpy())
    for label, own in zip(choices, counts, strict=True):
        if not own.any():
            raise CheckFailed(
                f"score {score.name!r}: no row is left for the label {label!r}: "
                f"{', '.join(map(_said, choices[label]))}; choose other rows"
            )
    # Some rows are equal, so more are drawn than are asked for; `_train` takes the first.
    return [min(int(np.searchsorted(np.cumsum(own), 2 * score.max_rows)), BINS - 1) for own in counts]


def _said(rows: Rows) -> str:
    given = rows.model_dump(exclude_defaults=True)
    return ", ".join(
        f"{key}: {', '.join(value) if isinstance(value, tuple) else value}" for key, value in given.items()
    )


def _draw_rows(
    choices: Mapping[str, Sequence[Rows]],
    last: Sequence[int],
    needs: Sequence[str],
    item: ScoredShard,
    target: Target,
) -> Part:
    records = read_scored(item)
    labels = labels_of(records, choices, item.dropped_by)
    drawn = (labels >= 0) & (leading(as_array(records["digest"])) <= np.array(last, np.int64)[labels])
    rows = records.filter(pa.array(drawn))
    columns = ["id", "source", "condition", "instruction", "response", "digest"]
    columns += [column for name in needs if (column := column_of(name, tuple(rows.column_names)))]
    numbered = rows.select(columns).append_column("number", pa.array(labels[drawn]))
    return part(rows=storage.write_parquet(target.path(), numbered))


def _train(score: TrainedScore, paths: tuple[str, ...], target: Target) -> Part:
    tables = [storage.read_parquet(path) for path in paths]
    rows = pa.concat_tables(tables, promote_options="default").combine_chunks()
    # Equal digests are the same text. The label that comes first counts.
    rows = rows.sort_by([("digest", "ascending"), ("number", "ascending"), ("id", "ascending")])
    digests = as_array(rows["digest"])
    first = np.ones(rows.num_rows, np.bool_)
    first[1:] = np.asarray(pc.not_equal(digests.slice(1), digests.slice(0, len(digests) - 1)))
    numbers = np.asarray(rows["number"].to_numpy())
    for number in range(len(score.training)):
        own = np.flatnonzero(first & (numbers == number))
        first[own[score.max_rows :]] = False
    labels = pa.array(list(score.training), pa.string())
    rows = rows.filter(pa.array(first))
    rows = rows.append_column("label", labels.take(rows["number"].combine_chunks())).drop_columns(["number"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        try:
            measures = score.train(rows, str(path))
        except ValueError as error:
            raise CheckFailed(f"score {score.name!r}: {error}") from error
        model = storage.write_bytes(storage.join(target.folder, MODEL, f"{score.name}.bin"), path.read_bytes())
    held = score.held_out(rows)
    parts = (("trained", rows.filter(pa.array(~held))), ("held_out", rows.filter(pa.array(held))))
    return part(
        counts={
            f"{name}/{label}": pc.sum(pc.equal(chosen["label"], label)).as_py() or 0
            for name, chosen in parts
            for label in score.training
            if name == "trained" or held.any()
        },
        model=model,
        training_rows=storage.write_parquet(target.path(TRAINING_ROWS), _listed(score, rows)),
        measures=storage.write_json(storage.join(target.folder, MEASURES, "measures.json"), measures),
    )


def _listed(score: TrainedScore, rows: pa.Table) -> pa.Table:
    """TRAINING_ROWS: id, digest of the record, label, `learned`, and `read_instruction` and `read_response`."""
    table = rows.select(["id", "digest", "label"]).append_column("learned", pa.array(score.learned_from(rows)))
    for name in FIELDS:
        table = table.append_column(READ + name, read_digests(score, name, rows))
    return table


READ = "read_"
"""How the columns of TRAINING_ROWS begin that have the digests of a field as the score reads it."""

FIELDS: tuple[TextField, ...] = ("instruction", "response")


def read_digests(score: TrainedScore, name: TextField, records: pa.Table) -> pa.FixedSizeBinaryArray:
    """The digests of a field of records as the score reads it: fixed_size_binary(16) [rows]."""
    return digest128(score.as_read(name, as_array(records[name])))


# The columns of a score


def _measure_step(score: Score) -> RecipeStep:
    return RecipeStep(
        name=f"{MEASURE}{score.name}",
        products={SCORES: "id and the columns of the score, one file a shard of records"},
        wanted=lambda recipe: True,
        make=lambda build: measure_score(build, score),
        rate=f"{MEASURE}{score.kind}",
    )


def measure_score(build: Build, score: Score) -> Manifest:
    """Measure, or find, a score of the records made so far."""
    records = build.records
    model: Model = None
    if isinstance(score, TrainedScore):
        model = build.made[f"{TRAIN}{score.name}"].file(MODEL)
    elif isinstance(score, TableScore):
        model = find_table(score)
    fields = [{"name": field.name, "type": str(field.type)} for field in score.columns]
    settings = {"score": parameters(score), "columns": fields, "model": model.digest if model else None}
    beside = _beside(build, set(score.needs))
    step = _measure_step(score).step(settings, (records.key, *(manifest.key for manifest in beside)))
    work = functools.partial(_measure_shard, score, model)
    missing = f"not_measured/{fields[0]['name']}"

    def measured(context: StepContext) -> Sequence[Part]:
        parts = context.map(work, scored_shards(records, beside))
        rows = sum(one.counts[missing] for one in parts)
        if isinstance(model, FoundTable) and rows and rows == records.rows_kept:
            raise CheckFailed(
                f"score {score.name!r}: {model.path} has no score of any of the {records.rows_kept:,} rows; its ids "
                "must be those of this recipe (`winnow why`), from the same files under the same names of sources"
            )
        return parts

    return build.run.do(step, measured)


def _measure_shard(score: Score, model: Model, item: ScoredShard, target: Target) -> Part:
    records = read_scored(item)
    table = measure(score, records, model)
    counts = {f"not_measured/{name}": table[name].null_count for name in table.column_names}
    return part(counts=counts, scores=storage.write_parquet(target.path(), table.add_column(0, "id", records["id"])))


def measure(score: Score, records: pa.Table, model: Model) -> pa.Table:
    """The columns of a score for records [rows]."""
    if model is None:
        table = score.measure(records)
    elif isinstance(model, FoundTable):
        table = model.lookup(records["id"], score.columns[0])
    else:
        if not storage.exists(model.path):
            raise CheckFailed(f"{model.path}: the model is lost; remove the folder of its step and build again")
        with storage.local_copy(model.path) as path:
            table = score.measure(records, path)
    expected = pa.schema(score.columns)
    assert table.num_rows == records.num_rows, f"{score.kind} measured {table.num_rows} of {records.num_rows} rows"
    assert table.schema.equals(expected), f"{score.kind} gave {table.schema}, not {expected}"
    if not score.min_chars:
        return table
    enough = pc.greater_equal(pc.utf8_length(records["response"]), score.min_chars)
    columns = [pc.if_else(enough, table[name], pa.scalar(None, table[name].type)) for name in table.column_names]
    return pa.table(columns, schema=expected)


def score_manifests(build: Build) -> list[Manifest]:
    """The scores that are measured of the records that the build now has."""
    key = build.records.key
    return [made for made in build.made.values() if made.step.startswith(MEASURE) and key in made.parents]


def _beside(build: Build, names: set[str]) -> list[Manifest]:
    """The scores measured so far that have one of these columns, or of which one is the name."""
    found = []
    for manifest in score_manifests(build):
        columns = tuple(column["name"] for column in manifest.parameters["columns"])
        if any(column_of(name, columns) for name in names):
            found.append(manifest)
    return found


def joined(records: pa.Table, tables: Sequence[TableRef]) -> pa.Table:
    """Records [rows] with the columns of scores measured of them.

    Raises: CheckFailed: if a file holds other rows.
    """
    for file in tables:
        table = storage.read_parquet(file.path).combine_chunks()
        if not table["id"].equals(records["id"]):
            raise CheckFailed(f"{file.path}: these are scores of other rows; remove its step and build again")
        for name in table.column_names[1:]:
            records = records.append_column(table.schema.field(name), table[name])
    return records
