"""Do the scores of a run agree with people? Ratings are joined to scores, and each score is compared with them."""

from __future__ import annotations

import glob
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import xxhash
from pydantic import BaseModel, ConfigDict

from filters.scores.score import PREFIX
from filters.scores.table import TableScore
from flows.console import current_console, quantity
from pipelines.audit.calibration import (
    MIN_RATINGS,
    MIN_ROWS,
    Calibration,
    Floats,
    Raters,
    Ratings,
    calibrate,
    rater_agreement,
)
from pipelines.audit.calibration_picture import write_picture
from pipelines.audit.ratings import RatedRows, read_ratings, score_columns
from pipelines.audit.report import write_report
from pipelines.audit.scoring import learned_rows, score_table, scores_of
from pipelines.errors import InputError, WinnowError, nearest
from pipelines.formats.read import column_names, text_columns
from pipelines.ledger import input_files, storage
from pipelines.ledger.runs import (
    CALIBRATION,
    RecordedRun,
    open_run,
    read_calibration,
    record_calibration,
    withdraw_calibration,
)
from pipelines.ledger.score_tables import MANIFEST, open_scores
from pipelines.steps.scores_by_id import find_table

SUBJECT = "subject"
MEASURE_ROWS = 2_000
"""Rows measured between two movements of the progress bar."""

NAMED = 5
"""Ids that a note names."""

TEXTS = ("instruction", "response", "source", "condition")


class CalibrateAnswer(BaseModel):
    """How scores agree with ratings. `winnow calibrate --json` prints it.

    run: None if only `scores` files were given. columns: file -> what was read from which column. ratings: rated rows,
    or pairs. not_found: of those, the ones that the run does not hold. subject: where the subjects came from. raters:
    None where there is one rating of each row, or the raters are not told apart. pictures: of `--out`. recorded: the
    file in the run's folder, or None.
    """

    model_config = ConfigDict(frozen=True)

    run: str | None
    columns: dict[str, dict[str, str]]
    pairs: bool
    ratings: int
    not_found: int
    subject: str
    raters: Raters | None
    calibrations: tuple[Calibration, ...]
    notes: tuple[str, ...]
    pictures: tuple[str, ...]
    recorded: str | None


def calibrate_scores(
    run: str | None,
    ratings: Sequence[str],
    root: str = "./winnow-data",
    scores: Sequence[str] = (),
    names: Sequence[str] = (),
    columns: Mapping[str, str | Sequence[str]] | None = None,
    subject: str | None = None,
    cut: float | None = None,
    min_ratings: int = MIN_RATINGS,
    out: str | None = None,
) -> CalibrateAnswer:
    """Compare scores with people's ratings.

    Args:
        run: whose rows are rated, and whose scores measure rows that are rated by their texts.
        ratings: files, folders or globs (`pipelines.audit.ratings`).
        scores: files with `id` and columns of scores, or folders of score tables; by row id.
        names: of the scores to compare. Default: all.
        columns: role -> column of the ratings.
        subject: a column of the ratings, or of the run's records. Default: a column `subject` of either.
        cut: a row is good from this rating on.
        min_ratings: of a subject to be taken as a result.
        out: folder for pictures, the joined table and the answer as JSON.

    Raises: WinnowError: for a mistake in the arguments, or a package that is not installed. InputError: if a file
        cannot be read, or too few ratings fit a row.
    """
    for package in ("sklearn", "krippendorff"):
        if importlib.util.find_spec(package) is None:
            raise WinnowError(f"{package} is not installed; run `pip install 'winnow-corpus[quality]'`")
    if run is None and not scores:
        raise WinnowError("name a run whose scores are compared, or files of scores: --scores FILE")
    recorded = open_run(root, run) if run is not None else None
    _check_names(recorded, scores, names)
    for path in [*ratings, *scores]:
        if storage.is_local(path) and not glob.has_magic(path) and not storage.exists(path):
            raise InputError(f"{path}: no such file")
    files = list(dict.fromkeys(path for pattern in ratings for path in input_files.expand(pattern)))
    # A column of the ratings comes first: they may be of rows that the run does not hold.
    of_run = recorded is not None and subject in _text_columns(recorded)
    of_ratings = subject is not None and (not of_run or all(subject in column_names(path) for path in files))
    roles = dict(columns or {}) | ({SUBJECT: subject} if subject is not None and of_ratings else {})
    rated = read_ratings(files, roles)
    notes = list(_reading_notes(rated))
    with current_console() as console:
        rated, sides, missing = _find_rows(recorded, rated, bool(scores), notes)
        tables = []
        for number, side in enumerate(sides):
            console.move_bar("measure", number, len(sides), quantity(len(side), "row"))
            tables.append(_measure(recorded, side, scores, names, rated.pairs, "ab"[number], notes))
        values, groups = _values(tables, names)
        joined, where = _ratings(rated, sides, groups, subject or SUBJECT, cut)
        if len(np.unique(joined.mean)) < 2:
            raise InputError(f"{', '.join(files)}: all ratings are {joined.mean[0]:g}; nothing can be compared")
        lowest, highest = float(np.nanmin(joined.values)), float(np.nanmax(joined.values))
        if cut is not None and not lowest < cut <= highest:
            raise WinnowError(
                f"--cut {cut:g}: the ratings are from {lowest:g} to {highest:g}, so "
                f"{'no row is' if cut > highest else 'all rows are'} good; give a rating above the lowest"
            )
        notes += _scale_notes(joined)
        calibrations = []
        for number, (name, series) in enumerate(values.items()):
            console.move_bar("calibrate", number, len(values), name)
            measured = int((~np.isnan(series)).sum())
            if measured < MIN_ROWS:
                shown = quantity(measured, "rated row") if measured else "no rated row"
                notes.append(f"{name}: {shown} {'have' if measured > 1 else 'has'} this score, {MIN_ROWS} are needed")
            else:
                calibrations.append(calibrate(name, series, joined, min_ratings))
    if not calibrations:
        raise InputError("; ".join(["nothing can be compared", *notes]))
    answer = CalibrateAnswer(
        run=recorded.id if recorded else None,
        columns=rated.columns,
        pairs=rated.pairs,
        ratings=len(rated.rows),
        not_found=missing,
        subject=where,
        raters=rater_agreement(joined) if joined.values.shape[1] > 1 and not rated.unnamed else None,
        calibrations=tuple(calibrations),
        notes=tuple(dict.fromkeys(notes)),
        pictures=(),
        recorded=storage.join(recorded.folder, CALIBRATION) if recorded else None,
    )
    if out is not None:
        pictures = tuple(write_picture(one, storage.join(out, f"{one.score}.png")) for one in calibrations)
        answer = answer.model_copy(update={"pictures": pictures})
        storage.write_bytes(storage.join(out, CALIBRATION), answer.model_dump_json(indent=2).encode())
        storage.write_parquet(storage.join(out, "ratings.parquet"), _joined_table(rated, joined, values))
    if recorded is not None:
        record_calibration(recorded, list(_lines(answer, files)))
        write_report(recorded)
    return answer


def _reading_notes(rated: RatedRows) -> Iterator[str]:
    """What a reader should know of how the ratings were read."""
    if rated.ignored:
        yield f"{quantity(rated.ignored, 'line')} without any rating"
    if rated.repeated:
        yield f"{quantity(rated.repeated, 'line')} left out that repeat{'s' * (rated.repeated == 1)} a line before"
    if rated.unnamed:
        yield (
            f"{quantity(rated.unnamed, 'row')} with several ratings and no rater: the mean counts, and nothing is said "
            "of the agreement of raters; name their column: --columns rater=COLUMN"
        )


def _scale_notes(rated: Ratings) -> Iterator[str]:
    """Raters whose ratings have no value in common: they may have rated on different scales."""
    ends = [
        (float(np.nanmin(column)), float(np.nanmax(column)))
        for column in rated.values.T
        if (~np.isnan(column)).sum() >= MIN_ROWS
    ]
    if not ends:
        return
    low, high = min(ends, key=lambda pair: pair[1]), max(ends)
    if low[1] < high[0]:
        yield (
            f"one rater gave {low[0]:g} to {low[1]:g}, another {high[0]:g} to {high[1]:g}, and the mean counts: if "
            "these are two scales, write all ratings on one"
        )


class Withdrawn(BaseModel):
    """Agreement that was removed from a run. `winnow calibrate --withdraw --json` prints it.

    withdrawn: score and files of ratings of each line.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    withdrawn: tuple[tuple[str, tuple[str, ...]], ...]


def withdraw(run: str, scores: Sequence[str], ratings: Sequence[str], root: str = "./winnow-data") -> Withdrawn:
    """Remove recorded agreement from a run and its report.

    scores: names of scores, all if there is none. ratings: files of ratings, of which the names count; all likewise.

    Raises: RunError: if there is no such run. WinnowError: if nothing like this is recorded.
    """
    recorded = open_run(root, run)
    lines = read_calibration(recorded)
    removed = withdraw_calibration(recorded, scores, [path.rsplit("/", 1)[-1] for path in ratings])
    if not removed:
        there = "; ".join(f"--score {line['score']} --ratings {' '.join(line['files'])}" for line in lines)
        raise WinnowError(f"run {recorded.id}: nothing to withdraw; recorded: {there or 'nothing'}")
    write_report(recorded)
    return Withdrawn(run=recorded.id, withdrawn=tuple((line["score"], tuple(line["files"])) for line in removed))


def _check_names(run: RecordedRun | None, scores: Sequence[str], names: Sequence[str]) -> None:
    """Raises: WinnowError: if a score is named that neither the run nor a file has."""
    known = [column.name.removeprefix(PREFIX) for score in (scores_of(run) if run else ()) for column in score.columns]
    for name in () if scores else names:
        if not any(_wanted(one, [name]) for one in known):
            raise WinnowError(f"--score {name}: no such score; {nearest(name, known)}")


def _lines(answer: CalibrateAnswer, files: Sequence[str]) -> Iterator[dict[str, object]]:
    """The lines of `calibration.json`."""
    digests = [input_files.identity(path) for path in files]
    key = xxhash.xxh3_64_hexdigest(json.dumps([digests, answer.columns], sort_keys=True).encode())
    for one in answer.calibrations:
        yield {
            "ratings": key,
            "files": [path.rsplit("/", 1)[-1] for path in files],
            "rows": answer.ratings,
            "raters": answer.raters.model_dump(mode="json") if answer.raters else None,
            **one.model_dump(mode="json"),
        }


def _joined_table(rated: RatedRows, joined: Ratings, values: Mapping[str, Floats]) -> pa.Table:
    table = rated.rows.drop("key").with_columns(
        rating=pl.Series(joined.mean),
        length=pl.Series(joined.length),
        subject=pl.Series(joined.subject.tolist(), dtype=pl.String),
        **{PREFIX + name: pl.Series(series) for name, series in values.items()},
    )
    return table.to_arrow()


# ----------------------------------------------------------------------------------------------------------------- rows


def _text_columns(run: RecordedRun) -> set[str]:
    """The columns of a run's records that name groups of rows, and those that its scores give."""
    names = {name for shard in run.records.shards[:1] for name in storage.columns(shard.path)}
    return {name for name in names if not name.startswith(PREFIX)} - {"id", "digest", "instruction", "response"}


def _find_rows(
    run: RecordedRun | None, rated: RatedRows, scored: bool, notes: list[str]
) -> tuple[RatedRows, list[pl.DataFrame], int]:
    """The rated rows that can be measured, and their records (`id` and TEXTS, null where unknown) for each side.

    Rows rated by id are looked up in the corpus, and among the rows that the run dropped. scored: whether scores are
    given by id, so that the rows need no texts.
    """
    names = [("response_a", "source_a"), ("response_b", "source_b")] if rated.pairs else [("response", "source")]
    sides = [
        rated.rows.select(
            "id",
            "instruction",
            response=pl.col(response),
            source=pl.col(source),
            condition=pl.lit(None, pl.String),
        )
        for response, source in names
    ]
    missing = 0
    unknown = rated.rows["id"].is_not_null() & sides[0]["response"].is_null()
    if run is not None and not rated.pairs and unknown.any():
        wanted = rated.rows["id"].filter(unknown).unique().to_list()
        found = rows_of(run, wanted)
        side = sides[0].join(found, on="id", how="left", suffix="_run", maintain_order="left")
        side = side.with_columns(pl.coalesce(f"{name}_run", name).alias(name) for name in TEXTS)
        absent = unknown & side["response"].is_null()
        missing = int(absent.sum())
        if missing:
            shown = ", ".join(rated.rows["id"].filter(absent).head(NAMED).to_list())
            notes.append(
                f"{quantity(missing, 'rating')} of ids that run {run.id} does not hold, left out: {shown}"
                + (" ..." if missing > NAMED else "")
            )
        further = [name for name in side.columns if name not in sides[0].columns and not name.endswith("_run")]
        sides = [side.select(*sides[0].columns, *further)]
        if not scored:
            rated = rated._replace(rows=rated.rows.filter(~absent), values=rated.values[~absent.to_numpy()])
            sides = [sides[0].filter(~absent)]
        if not len(rated.rows):
            raise InputError(f"none of the ratings is of a row of run {run.id}: {shown}; ids are those of `winnow why`")
    return rated, sides, missing


def rows_of(run: RecordedRun, ids: Sequence[str]) -> pl.DataFrame:
    """Rows of a run by id, kept or dropped: `id`, TEXTS and further columns of text; no line for an unknown id."""
    wanted = pl.DataFrame({"id": list(ids)}, schema={"id": pl.String})
    shards = [*run.records.shards, *(shard for step in reversed(run.steps) for shard in step.dropped)]
    parts = [wanted.clear().with_columns(pl.lit(None, pl.String).alias(name) for name in TEXTS)]
    for shard in shards:
        if not len(wanted):
            break
        left_out = ("digest", "stage", "reason", "evidence")
        names = [name for name in storage.columns(shard.path) if name not in left_out and not name.startswith(PREFIX)]
        found = pl.DataFrame(storage.read_parquet(shard.path, names)).join(wanted, on="id", how="semi")
        parts.append(found.select(pl.col(name) for name, kind in found.schema.items() if kind == pl.String))
        wanted = wanted.join(found, on="id", how="anti")
    return pl.concat(parts, how="diagonal").unique("id", keep="first", maintain_order=True)


def _measure(
    run: RecordedRun | None,
    rows: pl.DataFrame,
    scores: Sequence[str],
    names: Sequence[str],
    pairs: bool,
    side: str,
    notes: list[str],
) -> pl.DataFrame:
    """The columns of scores of rows: numbers `score_...`, and strings that name groups."""
    columns: dict[str, pl.Series] = {name: rows[name] for name in rows.columns if name not in ("id", *TEXTS)}
    for path in scores:
        columns |= _given(path, rows["id"], f"_{side}" if pairs else "", notes)
    if run is not None and scores_of(run):
        wanted = [
            score.name
            for score in scores_of(run)
            if any(pa.types.is_string(column.type) for column in score.columns)
            or any(_wanted(column.name, names) for column in score.columns)
        ]
        columns |= _of_run(run, rows, wanted, notes)
    elif run is not None and not scores:
        notes.append(f"run {run.id}: its recipe has no `scores`")
    return pl.DataFrame(columns)


def _wanted(name: str, names: Sequence[str]) -> bool:
    """Whether a score, or the score that a column belongs to, was asked for."""
    plain = name.removeprefix(PREFIX)
    return not names or any(plain == one or plain.startswith(f"{one}_") for one in names)


def _of_run(run: RecordedRun, rows: pl.DataFrame, wanted: Sequence[str], notes: list[str]) -> dict[str, pl.Series]:
    """What the scores of the run say of rows with texts. Of rows that a score has learned from, it says nothing."""
    records = rows.with_row_index("place").filter(pl.col("response").is_not_null())
    if not len(records) or not wanted:
        return {}
    texts = {name: records[name].fill_null("") for name in TEXTS}
    ids = records.select(pl.coalesce("id", pl.lit("row ") + pl.col("place").cast(pl.String))).to_series()
    table = pl.DataFrame({"id": ids, **texts}).to_arrow()
    table = table.cast(text_columns(*table.column_names))
    parts = []
    with current_console() as console:
        for start in range(0, table.num_rows, MEASURE_ROWS):
            console.move_bar("measure", start, table.num_rows, ", ".join(wanted))
            parts.append(pl.DataFrame(score_table(run, table.slice(start, MEASURE_ROWS), wanted)).drop("id"))
    measured = pl.concat(parts).with_columns(records["place"])
    for score in scores_of(run):
        learned = pl.Series(learned_rows(run, score, table)) if score.name in wanted else pl.Series([False])
        if learned.any():
            names = [column.name for column in score.columns if column.name.startswith(PREFIX)]
            cleared = [pl.when(learned).then(None).otherwise(pl.col(name)).alias(name) for name in names]
            measured = measured.with_columns(cleared)
            notes.append(f"{score.name}: {quantity(int(learned.sum()), 'rated row')} left out that it was trained on")
    full = rows.with_row_index("place").select("place").join(measured, on="place", how="left", maintain_order="left")
    return {name: full[name] for name in full.columns if name != "place"}


def _given(path: str, ids: pl.Series, suffix: str, notes: list[str]) -> dict[str, pl.Series]:
    """The scores of rows from a file, or the folder of a score table. suffix: of the columns that are meant.

    Raises: InputError: if it has no scores, or none of these ids.
    """
    if ids.null_count() == len(ids):
        raise InputError(f"{path}: scores are joined by id, and the ratings have no column `id`")
    folder = storage.exists(storage.join(path, MANIFEST))
    names = open_scores(path).columns.names if folder else list(score_columns(path))
    names = [name for name in names if name.endswith(suffix)]
    if not names:
        ending = f" that end in {suffix}" if suffix else ""
        raise InputError(f"{path}: no columns of scores{ending} (columns: {', '.join(column_names(path))})")
    wanted = pa.chunked_array([ids.fill_null("").to_arrow().cast(pa.string())])
    found = {}
    for name in names:
        plain = PREFIX + name.removesuffix(suffix).removeprefix(PREFIX)
        table = find_table(TableScore(name="given", path=path, column=name))
        found[plain] = pl.DataFrame(table.lookup(wanted, pa.field(plain, pa.float32()))).to_series()
    absent = ids.is_not_null() & pl.DataFrame(found).select(pl.all_horizontal(pl.all().is_null())).to_series()
    if absent.any():
        shown = ", ".join(ids.filter(absent).head(NAMED).to_list())
        if absent.sum() == ids.is_not_null().sum():
            raise InputError(f"{path}: has no score of any rated id ({shown}); the ids of both files must be the same")
        more = " ..." if absent.sum() > NAMED else ""
        notes.append(f"{quantity(int(absent.sum()), 'rating')} of ids without a score in {path}: {shown}{more}")
    return found


# -------------------------------------------------------------------------------------------------------------- numbers


def _values(tables: Sequence[pl.DataFrame], names: Sequence[str]) -> tuple[dict[str, Floats], pl.DataFrame]:
    """The scores that were asked for, of pairs the differences; and the columns that name groups."""
    groups = tables[0].select(pl.col(name) for name, kind in tables[0].schema.items() if kind == pl.String)
    numbers = [name for name, kind in tables[0].schema.items() if kind.is_numeric()]
    known = [name.removeprefix(PREFIX) for name in numbers]
    for name in names:
        if not any(_wanted(one, [name]) for one in known):
            raise WinnowError(f"--score {name}: no such score; {nearest(name, known)}")
    found = {}
    for column, name in zip(numbers, known, strict=True):
        if _wanted(name, names):
            sides = [table[column].cast(pl.Float64).to_numpy() for table in tables]
            series = sides[0] if len(sides) == 1 else sides[0] - sides[1]
            found[name] = np.where(np.isfinite(series), series, np.nan)
    return found, groups


def _ratings(
    rated: RatedRows, sides: Sequence[pl.DataFrame], groups: pl.DataFrame, subject: str, cut: float | None
) -> tuple[Ratings, str]:
    """The ratings as numbers, and where the subjects came from."""
    rows = rated.rows
    own = rows["subject"]
    if own.null_count() < len(own):
        subjects, where = own, "the ratings"
    elif subject in groups.columns:
        subjects, where = groups[subject], f"column {subject} of the run"
    else:
        subjects, where = own, ""
    place = pl.Series([f"\x1f{number}" for number in range(len(rows))])
    cluster = pl.select(pl.coalesce(rows["question"], sides[0]["instruction"], place)).to_series()
    lengths = [side["response"].fill_null("").str.len_chars().cast(pl.Float64).to_numpy() for side in sides]
    sources = np.stack([side["source"].fill_null("").to_numpy().astype(np.str_) for side in sides], axis=1)
    return Ratings(
        rated.values,
        rated.pairs,
        subjects.fill_null("").to_numpy().astype(np.str_),
        cluster.to_numpy().astype(np.str_),
        lengths[0] if len(lengths) == 1 else lengths[0] - lengths[1],
        sources,
        cut,
    ), where
