"""What became of a row? Its way through the steps, up to the packs and epochs that training reads.

`run.json` names the steps of a run, each step's manifest names its files, and a dropped row lies in the step that
dropped it with reason and evidence. Nothing else is stored: every answer is read back from what the steps wrote.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from pipelines.errors import RunError, nearest
from pipelines.ledger import storage
from pipelines.ledger.arrow_file import ArrowFile
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import RecordedRun, open_run
from pipelines.ledger.storage import FileRef
from pipelines.steps.products import PACKS, RECORDS, REWRITES, ROW_FATES, VALIDATION_PACKS


class Place(BaseModel):
    """Where a row lies in packs. pack: its number among all packs of its split, in training order, from 0."""

    model_config = ConfigDict(frozen=True)

    split: Literal["train", "validation"]
    epoch: int
    pack: int
    file: str


class StepFate(BaseModel):
    """What one step did with a row.

    verdict: `kept` or `dropped`; of the pack step `trained` (drawn for training), `held_out` (for validation),
    `not_drawn` (usable, but in no epoch) or `unused` (no epoch can draw it, `reason` says why). shard: the file that
    holds the row. stage, reason, evidence: of a dropped row. A row that a model was asked about has reason and evidence
    too: `rewritten`, or why its response stayed. draws: how often the epochs draw the row for training. truncated:
    whether its response is cut to fit the context. places: the packs that hold it.
    """

    model_config = ConfigDict(frozen=True)

    step: str
    verdict: Literal["kept", "dropped", "trained", "held_out", "not_drawn", "unused"]
    shard: str
    stage: str | None = None
    reason: str | None = None
    evidence: dict[str, Any] | None = None
    draws: int | None = None
    truncated: bool | None = None
    places: tuple[Place, ...] | None = None


class Twin(BaseModel):
    """A row in whose favour a duplicate was dropped, and what became of it.

    run: that has it: this one or one of `against`; None if that run is gone. verdict: `kept`, or `dropped` by `step`
    with stage, reason and evidence.
    """

    model_config = ConfigDict(frozen=True)

    row: str
    run: str | None
    verdict: Literal["kept", "dropped"]
    step: str | None = None
    stage: str | None = None
    reason: str | None = None
    evidence: dict[str, Any] | None = None


class RowFate(BaseModel):
    """The fate of one row. verdict: `dropped` if some step dropped it, else `kept`. Texts as they stood last.

    twins: of a duplicate: the row that it duplicates, the row which that one duplicates if it was dropped as well, and
    so on to the last, which was kept or dropped for another reason.
    """

    model_config = ConfigDict(frozen=True)

    row: str
    run: str
    verdict: Literal["kept", "dropped"]
    history: tuple[StepFate, ...]
    twins: tuple[Twin, ...] = ()
    instruction: str
    response: str
    condition: str


def why(run: RecordedRun, row: str) -> RowFate:
    """The fate of one row.

    Raises: RunError: if the run never had such a row.
    """
    history, record = _history(run, row)
    if record is None:
        raise RunError(f"{row}: no such row in run {run.id}; {_hint(run, row)}")
    return RowFate(
        row=row,
        run=run.id,
        verdict=_verdict(history),
        history=tuple(history),
        twins=tuple(_twins(run, history[-1].evidence or {})),
        **{name: record[name] for name in ("instruction", "response", "condition")},
    )


def _hint(run: RecordedRun, row: str) -> str:
    """What is wrong with an id: its source, its file, or its number."""
    source, *rest = row.split("/")
    sources = [entry["name"] for entry in run.info["settings"]["sources"]]
    if source not in sources:
        return f"an id is <source>/<file>/<row>; source {source!r}: {nearest(source, sources)}"
    number = rest[-1] if rest else "0"
    # The rows of the first step that keeps any are those that the sources have.
    first = next(step for step in run.steps if step.kept == RECORDS)
    tables = (storage.read_parquet(file.path, ["id"])["id"] for file in (*first.shards, *first.dropped))
    ids = pa.chunked_array([chunk for table in tables for chunk in table.chunks], pa.string())
    ids = ids.filter(pc.starts_with(ids, f"{source}/"))
    files = pc.unique(pc.replace_substring_regex(ids, r"/[^/]*$", "")).to_pylist()
    if not files:
        return f"source {source!r} has no rows in this run"
    file = row.rpartition("/")[0]
    if file not in files:
        return nearest(row, [f"{name}/{number}" for name in files])
    rows = ids.filter(pc.starts_with(ids, f"{file}/"))
    numbers = pc.replace_substring_regex(rows, r"^.*/(\d*).*$", r"\1")
    numbers = numbers.filter(pc.not_equal(numbers, "")).cast(pa.int64())
    low, high = pc.min_max(numbers).values()
    return f"{file} has {len(rows):,} row{'' if len(rows) == 1 else 's'}, from {file}/{low} to {file}/{high}"


def _verdict(history: Sequence[StepFate]) -> Literal["kept", "dropped"]:
    return "dropped" if history[-1].verdict == "dropped" else "kept"


def _twins(run: RecordedRun, evidence: dict[str, Any]) -> Iterator[Twin]:
    """The rows that the evidence of a duplicate leads to. Each step keeps the rows that its evidence names, so a row is
    dropped by a later step than the one before, and the chain ends."""
    while "twin" in evidence:
        row, earlier = evidence["twin"], run
        if "against" in evidence:
            found = _run_with_step(run, evidence["against"])
            if found is None:
                yield Twin(row=row, run=None, verdict="kept")
                return
            earlier = found
        run = earlier
        history, _ = _history(run, row)
        if not history:
            return
        last = history[-1]
        if last.verdict != "dropped":
            yield Twin(row=row, run=run.id, verdict="kept")
            return
        fields = {name: getattr(last, name) for name in ("step", "stage", "reason", "evidence")}
        yield Twin(row=row, run=run.id, verdict="dropped", **fields)
        evidence = last.evidence or {}


def _run_with_step(run: RecordedRun, folder: str) -> RecordedRun | None:
    """The run of `against` that has the step in this folder; None if it is gone."""
    for name in run.info["settings"]["against"]:
        try:
            earlier = open_run(run.root, name)
        except RunError:
            continue
        if any(step.folder == folder for step in earlier.steps):
            return earlier
    return None


def _history(run: RecordedRun, row: str) -> tuple[list[StepFate], dict[str, Any] | None]:
    """What each step did with a row, and the row as it stood last; None for a row that the run never had."""
    history: list[StepFate] = []
    record: dict[str, Any] | None = None
    for step in run.steps:
        if step.kept != RECORDS:
            continue
        found = _in_step(row, step)
        if found is None:
            continue
        fate, record = found
        history.append(fate)
        if fate.verdict == "dropped":
            break
    tokens, packs = run.product("tokens"), run.product("packs")
    if history and history[-1].verdict == "kept" and tokens is not None:
        history += _in_tokens(row, tokens, packs)
    return history, record


def _in_step(row: str, step: Manifest) -> tuple[StepFate, dict[str, Any]] | None:
    """What a step did with a row, and the row as it stands there; None where the step never had it."""
    at = _find(row, step.dropped)
    if at is not None:
        file, index = step.dropped[at[0]], at[1]
        record = storage.read_parquet(file.path).slice(index, 1).to_pylist()[0]
        return _dropped(step, file, record), record
    at = _find(row, step.shards)
    if at is None:
        return None
    file, index = step.shards[at[0]], at[1]
    record = storage.read_parquet(file.path).slice(index, 1).to_pylist()[0]
    kept = StepFate(step=step.step, verdict="kept", shard=file.path)
    rewrites = step.tables(REWRITES)
    if rewrites and (at := _find(row, rewrites)) is not None:
        found = storage.read_parquet(rewrites[at[0]].path).slice(at[1], 1).to_pylist()[0]
        evidence = json.loads(found["evidence"])
        kept = kept.model_copy(update={"reason": found["outcome"], "evidence": evidence})
    return kept, record


def _dropped(step: Manifest, file: FileRef, record: dict[str, Any]) -> StepFate:
    evidence = json.loads(record["evidence"] or "{}")
    return StepFate(
        step=step.step,
        verdict="dropped",
        shard=file.path,
        stage=record["stage"],
        reason=record["reason"],
        evidence=evidence,
    )


def _find(row: str, files: Sequence[FileRef]) -> tuple[int, int] | None:
    """Number of the file that holds a row, and the row's index in it. Only ids are read."""
    for number, file in enumerate(files):
        ids = (
            storage.read_parquet(file.path, ["id"])["id"]
            if file.path.endswith(".parquet")
            else ArrowFile(file.path, file.bytes).read(columns=["id"])["id"]
        )
        if indices := _indices(ids, row):
            return number, indices[0]
    return None


def _indices(ids: pa.ChunkedArray | pa.Array, row: str) -> list[int]:
    """Where a column of strings has the value `row`, ascending."""
    data = row.encode()
    # `pa.scalar` of a Python value imports pandas (0.4 s).
    value = pa.StringArray.from_buffers(1, pa.py_buffer(struct.pack("=2i", 0, len(data))), pa.py_buffer(data))[0]
    return cast(list[int], pc.indices_nonzero(pc.equal(ids, value)).to_pylist())


def _in_tokens(row: str, tokens: Manifest, packs: Manifest | None) -> Iterator[StepFate]:
    """What the tokens step, and then the pack step, did with a row of the corpus."""
    at = _find(row, tokens.dropped)
    if at is not None:
        file = tokens.dropped[at[0]]
        yield _dropped(tokens, file, storage.read_parquet(file.path).slice(at[1], 1).to_pylist()[0])
        return
    at = _find(row, tokens.shards)
    assert at is not None, "the tokens step accounts for every row of the corpus"
    yield StepFate(step=tokens.step, verdict="kept", shard=tokens.shards[at[0]].path)
    if packs is None:
        return
    fates = packs.tables(ROW_FATES)[at[0]]
    fate = storage.read_parquet(fates.path).slice(at[1], 1).to_pylist()[0]
    places = tuple(_places(row, packs)) if fate["draws"] or fate["held_out"] else ()
    verdict: Literal["trained", "held_out", "not_drawn", "unused"] = (
        "unused" if fate["reason"] else "held_out" if fate["held_out"] else "trained" if fate["draws"] else "not_drawn"
    )
    yield StepFate(
        step=packs.step,
        verdict=verdict,
        shard=places[0].file if places else fates.path,
        reason=fate["reason"] or None,
        draws=fate["draws"],
        truncated=fate["truncated"],
        places=places,
    )


def _places(row: str, packs: Manifest) -> Iterator[Place]:
    for split, product in (("train", PACKS), ("validation", VALIDATION_PACKS)):
        first = 0
        for file in packs.tables(product):
            table = ArrowFile(file.path, file.bytes).read(columns=["ids"])
            ids = table["ids"].combine_chunks()
            if matches := _indices(ids.flatten(), row):
                epoch = json.loads(table.schema.metadata[b"winnow"])["epoch"]
                parents = pc.list_parent_indices(ids)
                packs_of_row = (parents[index].as_py() for index in matches)
                yield from (Place(split=split, epoch=epoch, pack=first + pack, file=file.path) for pack in packs_of_row)
            first += table.num_rows
