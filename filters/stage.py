"""What a stage is, and how a list of stages is applied to a table of records.

A stage is a frozen value: its fields are its parameters, and its one method works on an Arrow table. Filters judge and
never rewrite; transforms rewrite and never drop. A dropped record is therefore written exactly as it was judged.

A record that a transform leaves without a response is dropped by `apply`, in the transform's name and as it was before.
"""

from __future__ import annotations

import contextlib
import math
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dedup.columns import as_array
from dedup.exact import digest128

VERDICT = pa.struct([("reason", pa.string()), ("value", pa.float64()), ("threshold", pa.float64())])
"""A filter's answer for one record: null keeps it; otherwise the reason, the measured value and the limit it broke."""

DROP_FIELDS = (
    pa.field("stage", pa.string(), False),
    pa.field("reason", pa.string(), False),
    pa.field("evidence", pa.string(), False),
)
"""Columns that a dropped record has beside its own. `evidence` is a JSON object."""


Count = Annotated[int, Field(ge=0)]
"""A parameter that is a number of characters, words, lines, ..."""

Ratio = Annotated[float, Field(ge=0, le=1)]
"""A parameter that is a share of something: 0 to 1."""


class StageError(RuntimeError):
    """A stage does not do what a Filter or a Transform must; the message names the stage and a row."""


class RenamedKeyWarning(FutureWarning):
    """A recipe uses the former name of a parameter, which still works.

    A FutureWarning, because Python shows those to users by default and hides a DeprecationWarning.
    """


class Stage(BaseModel):
    """A frozen value whose fields are its parameters. Unknown fields are errors.

    kind: the name of the stage. on: the text that is judged: `instruction`, `response`, or `both`
    as one document.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    RENAMED_KEYS: ClassVar[Mapping[str, str]] = {}
    """Former names of parameters and their names now. A recipe may use either, the former with a warning."""

    kind: str

    @model_validator(mode="before")
    @classmethod
    def _accept_former_names(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not cls.RENAMED_KEYS.keys() & values.keys():
            return values
        renamed: dict[Any, Any] = {}
        for key, value in values.items():
            name = cls.RENAMED_KEYS.get(key, key)
            if name in renamed or (name != key and name in values):
                raise ValueError(f"`{key}` is the former name of `{name}`, and both are given; keep `{name}` only")
            if name != key:
                kind = cls.model_fields["kind"].default
                message = f"stage {kind}: `{key}` is now called `{name}`; the former name still works"
                warnings.warn(message, RenamedKeyWarning, stacklevel=2)
            renamed[name] = value
        return renamed

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        """Raises: ValueError: if a `min_<name>` is above its `max_<name>`: nothing could be kept."""
        for name in type(self).model_fields:
            other = name.replace("min_", "max_", 1)
            least, most = getattr(self, name), getattr(self, other, None)
            if name.startswith("min_") and most is not None and least > most:
                raise ValueError(f"`{name}` ({least:g}) is above `{other}` ({most:g}); change one")
        return self

    def check(self) -> None:
        """Raises: ValueError, FileNotFoundError: if the stage cannot run with its parameters, or lacks a file.

        It is called before anything is computed. A stage that reads no file has nothing to check here.
        """

    def parameters(self) -> dict[str, Any]:
        """Everything that the stage's output depends on, as JSON values: its fields, and the class's VERSION, else 1.

        The result is hashed into step keys, so its keys are a file format. Parameters keep their former names here:
        renaming one in recipes does not change the key of any step.
        """
        former = {name: key for key, name in self.RENAMED_KEYS.items()}
        fields = {former.get(name, name): value for name, value in self.model_dump(mode="json").items()}
        return {**fields, "version": getattr(type(self), "VERSION", 1)}


class Filter(Stage):
    """A stage that keeps or drops."""

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Return one VERDICT per record (`len(records)` rows, in order); null keeps the record.

        A verdict depends on the record alone, never on the other records of the table: shards are cut anywhere.
        """
        raise TypeError(f"{type(self).__name__} does not implement judge")


class Transform(Stage):
    """A stage that rewrites columns."""

    def rewrite(self, records: pa.Table) -> pa.Table:
        """Return the same rows in the same order, with columns replaced or appended."""
        raise TypeError(f"{type(self).__name__} does not implement rewrite")

    def reject(self, records: pa.Table) -> pa.StructArray | None:
        """One VERDICT for each rewritten record, of those that must not stay as they are now; None for no such rule."""
        return None


class CorpusStage(Stage):
    """A stage that is not applied record by record: a step of its own makes it (`pipelines/steps/stages.py`)."""


def with_texts(records: pa.Table, texts: Mapping[str, tuple[npt.NDArray[np.int64], Sequence[str]]]) -> pa.Table:
    """`records` with some texts replaced, and the digests of their rows where there is such a column.

    texts: by column, rows [n], ascending, and their texts [n]. A text may be equal to the old one.
    """
    changed = np.zeros(records.num_rows, np.bool_)
    for name, (rows, new) in texts.items():
        column = as_array(records[name])
        replacements = pa.array(new, pa.string())
        differs = np.asarray(pc.not_equal(column.take(pa.array(rows)), replacements))
        if not differs.any():
            continue
        mask = np.zeros(records.num_rows, np.bool_)
        mask[rows[differs]] = True
        changed |= mask
        column = pc.replace_with_mask(column, pa.array(mask), replacements.filter(pa.array(differs)))
        records = with_column(records, records.schema.field(name), column)
    if changed.any() and "digest" in records.column_names:
        mask = pa.array(changed)
        contents = (as_array(records[name]).filter(mask) for name in ("condition", "instruction", "response"))
        digest = pc.replace_with_mask(as_array(records["digest"]), mask, digest128(*contents))
        records = with_column(records, records.schema.field("digest"), digest)
    return records


def with_column(records: pa.Table, field: pa.Field, column: pa.Array) -> pa.Table:
    """`records` with the column of that name replaced, or appended."""
    if field.name not in records.column_names:
        return records.append_column(field, column)
    return records.set_column(records.column_names.index(field.name), field, column)


class Outcome(NamedTuple):
    """What stages make of a table. The rows of `kept` and `dropped` add up to the rows of the input."""

    kept: pa.Table
    dropped: pa.Table


def apply(
    stages: Sequence[Stage], records: pa.Table, on_stage: Callable[[int, float], None] = lambda number, seconds: None
) -> Outcome:
    """Run `stages` in order over `records`. A record dropped by one stage does not reach the next transform.

    A record's reason is that of the first filter it fails. A record whose response a transform leaves blank is
    dropped as `empty_response`, one that the transform itself rejects for its reason, both as they were before the
    transform. `dropped` has the columns of `records`, as they were when the record was judged, and DROP_FIELDS. Both
    tables keep the order of the input (`dropped`: by stage, then input). on_stage: called after each stage, with its
    number from 0 and the CPU seconds of this process that it took.

    Raises: TypeError: for a stage that is neither a Filter nor a Transform. StageError: for one that loses, doubles or
    moves rows, or makes of a row alone something else than of the row among others.
    """
    columns = records.column_names
    table, dropped = records.combine_chunks(), []
    # Consecutive filters judge the same table, and the rows that any of them failed are taken out once, before the next
    # transform. Copying the kept text after each filter would cost more than most filters do.
    alive = np.ones(table.num_rows, np.bool_)
    for number, stage in enumerate(stages):
        begun = time.process_time()
        with _named(stage):
            if isinstance(stage, Transform):
                before = _keep(table, alive)
                table = stage.rewrite(before)
                _check_rewritten(stage, before, table)
                alive = np.ones(table.num_rows, np.bool_)
                rejected = stage.reject(table)
                if rejected is not None:
                    _check_judged(stage, table, rejected)
                for verdicts in (emptied(before, table), rejected):
                    if verdicts is not None and (lost := np.asarray(verdicts.is_valid()) & alive).any():
                        mask = pa.array(lost)
                        dropped.append(
                            mark_verdicts(before.select(columns).filter(mask), stage.kind, verdicts.filter(mask))
                        )
                        alive &= ~lost
            elif isinstance(stage, Filter):
                verdicts = stage.judge(table)
                _check_judged(stage, table, verdicts)
                failed = np.asarray(verdicts.is_valid()) & alive
                if failed.any():
                    mask = pa.array(failed)
                    dropped.append(mark_verdicts(table.select(columns).filter(mask), stage.kind, verdicts.filter(mask)))
                    alive &= ~failed
            else:
                raise TypeError(f"{stage.kind}: a stage is a Filter or a Transform")
        on_stage(number, time.process_time() - begun)
    kept = _keep(table, alive)
    empty = mark_verdicts(records.slice(0, 0), "", pa.array([], VERDICT))
    outcome = Outcome(kept, pa.concat_tables([empty, *dropped]))
    assert outcome.kept.num_rows + outcome.dropped.num_rows == records.num_rows
    return outcome


@contextlib.contextmanager
def _named(stage: Stage) -> Iterator[None]:
    """Name the stage, and the line of its code, in errors of a plugin or of a library that it calls."""
    try:
        yield
    except (StageError, MemoryError):
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{frames[-1].filename}, line {frames[-1].lineno}"
        said = f"the stage {stage.kind} raised {type(error).__name__}: {error} ({where})"
        raise StageError(said) from error


SAMPLED_ROWS = 4
"""Rows on which a stage is run again, to see that its work on a row does not depend on the other rows: of the first
table of each process, since a call takes milliseconds."""

_sampled: set[tuple[type[Stage], str, str]] = set()
"""The stages of which that was seen in this process: class, settings, method."""


def _is_new(stage: Stage, method: str) -> bool:
    key = (type(stage), stage.model_dump_json(), method)
    is_new = key not in _sampled
    _sampled.add(key)
    return is_new


def _check_rewritten(stage: Transform, before: pa.Table, after: pa.Table) -> None:
    """Check that a transform returned the same rows in the same order. Raises: StageError: if not."""
    if after.num_rows != before.num_rows:
        raise StageError(f"{stage.kind}: {before.num_rows} rows became {after.num_rows}; a transform returns every row")
    if "id" in before.column_names and not ("id" in after.column_names and after["id"].equals(before["id"])):
        row = _first_other(before["id"], after["id"]) if "id" in after.column_names else before["id"][0].as_py()
        raise StageError(
            f"{stage.kind}: row {row} is not where it was; a transform returns the same rows in their order"
        )
    if "source" in before.column_names and not (
        "source" in after.column_names and after["source"].equals(before["source"])
    ):
        raise StageError(f"{stage.kind}: the source of a row was changed; a transform changes texts and conditions")
    if before.num_rows > 1 and _is_new(stage, "rewrite"):
        rows = pa.array(_sample(before.num_rows))
        alone, among = (_texts(table) for table in (stage.rewrite(before.take(rows)), after.take(rows)))
        if not alone.equals(among):
            raise _depends_on_others(stage, before, rows, alone, among)


def _check_judged(stage: Filter | Transform, records: pa.Table, verdicts: pa.StructArray) -> None:
    """Check that each row has its own verdict. Raises: StageError: if not."""
    if len(verdicts) != records.num_rows:
        raise StageError(f"{stage.kind}: {len(verdicts)} verdicts for {records.num_rows} rows; every row is judged")
    if records.num_rows < 2 or not _is_new(stage, "judge"):
        return
    failed = np.asarray(verdicts.is_valid())
    for places in (np.flatnonzero(failed), np.flatnonzero(~failed)):
        rows = pa.array(places[_sample(len(places))])
        if not len(rows) or len(rows) == records.num_rows:
            continue
        sample = records.take(rows)
        again = stage.judge(sample) if isinstance(stage, Filter) else stage.reject(sample)
        # The values are not compared: NaN may be measured, and is equal to nothing.
        alone = _reasons(pa.nulls(len(rows), VERDICT) if again is None else again)
        among = _reasons(verdicts.take(rows))
        if not alone.equals(among):
            raise _depends_on_others(stage, records, rows, alone, among)


def _texts(records: pa.Table) -> pa.Table:
    """Without numbers: NaN is equal to nothing."""
    return records.select([field.name for field in records.schema if not pa.types.is_floating(field.type)])


def _reasons(verdicts: pa.StructArray) -> pa.Table:
    return pa.table({"reason": pc.if_else(verdicts.is_valid(), verdicts.field("reason"), pa.scalar(None, pa.string()))})


def _sample(rows: int) -> npt.NDArray[np.int64]:
    """Some of so many rows [up to SAMPLED_ROWS]: of several the last but not the first, and no two neighbours.

    So the sample differs from the whole in what is first, and in what is beside or opposite a row.
    """
    return np.arange(rows - 1, 0 if rows > 1 else -1, -max(2, -(-rows // SAMPLED_ROWS)))[::-1]


def _depends_on_others(stage: Stage, records: pa.Table, rows: pa.Array, alone: pa.Table, among: pa.Table) -> StageError:
    differs = next((at for at in range(len(rows)) if not alone.slice(at, 1).equals(among.slice(at, 1))), 0)
    row = records["id"][rows[differs].as_py()] if "id" in records.column_names else f"number {rows[differs]}"
    return StageError(
        f"{stage.kind}: row {row} comes out otherwise alone than among other rows; what a stage makes of a row must "
        "depend on that row only, and stand at its place"
    )


def _first_other(before: pa.ChunkedArray, after: pa.ChunkedArray) -> str:
    """The first id that is another one."""
    differs = pc.fill_null(pc.not_equal(before, after.cast(before.type)), True)
    return str(before[pc.index(differs, True).as_py()])


def blank_responses(records: pa.Table) -> npt.NDArray[np.bool_]:
    """Which responses are empty or white space: bool [rows]. False where there is no such column."""
    if "response" not in records.column_names:
        return np.zeros(records.num_rows, np.bool_)
    response = records["response"]
    return np.asarray(pc.or_(pc.equal(pc.binary_length(response), 0), pc.utf8_is_space(response)).to_numpy())


def emptied(before: pa.Table, after: pa.Table) -> pa.StructArray | None:
    """VERDICT [rows] of a table in which a transform made a response blank: `empty_response`."""
    blank = blank_responses(after)
    if not blank.any():
        return None
    emptied = blank & ~blank_responses(before)
    reasons = pa.array(["empty_response"] * len(emptied), pa.string())
    numbers = pa.nulls(len(emptied), pa.float64())
    return pa.StructArray.from_arrays([reasons, numbers, numbers], fields=list(VERDICT), mask=pa.array(~emptied))


def _keep(table: pa.Table, alive: npt.NDArray[np.bool_]) -> pa.Table:
    return table if alive.all() else table.filter(pa.array(alive))


def mark(
    records: pa.Table, stages: pa.Array | str, reasons: pa.Array | str, evidence: pa.Array | Sequence[str]
) -> pa.Table:
    """Append DROP_FIELDS to dropped records [rows]: the one way in which a row is marked as dropped.

    stages, reasons: string [rows], or one for all rows. evidence: a JSON object for each row, string [rows].
    """
    rows = records.num_rows
    columns = (
        pa.array([stages] * rows, pa.string()) if isinstance(stages, str) else stages,
        pa.array([reasons] * rows, pa.string()) if isinstance(reasons, str) else reasons,
        evidence if isinstance(evidence, pa.Array | pa.ChunkedArray) else pa.array(evidence, pa.string()),
    )
    for field, column in zip(DROP_FIELDS, columns, strict=True):
        records = records.append_column(field, column)
    return records


def mark_verdicts(records: pa.Table, stage: str, verdicts: pa.StructArray) -> pa.Table:
    """`mark` for records that a filter failed. verdicts: VERDICT [rows], none null; their values are the evidence."""
    values, thresholds = verdicts.field("value").to_pylist(), verdicts.field("threshold").to_pylist()
    # A loop over dropped records only, which may be a third of all. The text is the one that json.dumps writes.
    evidence = [
        f"{{{', '.join(filter(None, (_member('value', value), _member('threshold', threshold))))}}}"
        for value, threshold in zip(values, thresholds, strict=True)
    ]
    return mark(records, stage, verdicts.field("reason"), evidence)


def _member(name: str, number: float | None) -> str:
    """A member of a JSON object, to six decimal places. JSON has no NaN and no infinity: such a measure is left out."""
    return "" if number is None or not math.isfinite(number) else f'"{name}": {round(number, 6)!r}'
