"""What became of a row? Its way from the source through the steps, up to the packs and epochs that training reads.

`run.json` names the steps of a run, each step's manifest names its files, and a dropped row lies in the step that
dropped it with reason and evidence. Every answer is read back from what the steps wrote. `RowIndex` says where.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from pipelines.audit.difference import difference
from pipelines.audit.rows import REWRITING, Location, RowIndex, indices_of, split_id
from pipelines.errors import CheckFailed, RunError
from pipelines.ledger import storage
from pipelines.ledger.arrow_file import ArrowFile, ids_of
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun, open_run
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.steps.products import LIMITS, REWRITES, ROW_FATES, VALIDATION_PACKS

TEXTS = ("instruction", "response")
COLUMNS = ("id", "source", "condition", *TEXTS, "digest")
"""The columns of RECORD, which `pipelines.records` has, without its imports."""

DROP_COLUMNS = ("stage", "reason", "evidence")
SCORE = "score_"
"""How the columns of scores begin (`filters.scores.score.PREFIX`)."""


class Origin(BaseModel):
    """Where a row comes from.

    source: its name in the recipe. file: in the ids, with its suffix; None for a source that is computed. row: its
    number in the file, or among the rows that were computed, from 0. variant: of several records from one row. path: of
    the source's files, as the recipe has it. digest: of the file, as the first step read it. adapter, title, home,
    licence, revision: of a known data set, as they were when the run was recorded, or as the recipe says; None where
    neither is known.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    file: str | None
    row: int
    variant: str
    path: tuple[str, ...]
    digest: str | None
    adapter: str | None
    title: str | None = None
    home: str | None = None
    licence: str | None = None
    revision: str | None = None


class Change(BaseModel):
    """What a transform changed in a row.

    stages: the transform; several if it cannot be told which of them it was. field: condition, instruction or
    response. differs: pairs of what stood there before and what stands in its place.
    """

    model_config = ConfigDict(frozen=True)

    stages: tuple[str, ...]
    field: str
    differs: tuple[tuple[str, str], ...]


class Measured(BaseModel):
    """A score of a row, and a cut at it. value: None if the row was not measured; a text for a score that names groups.

    min, max: the limits of the cut, None without one. drop: values whose rows it drops. top: the share of rows that it
    keeps, and least: the least value that it kept, in `group`.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    value: float | str | None
    min: float | None = None
    max: float | None = None
    drop: tuple[str, ...] = ()
    top: float | None = None
    least: float | None = None
    group: dict[str, str] | None = None


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
    holds the row, in which it is row number `row`. stage, reason, evidence: of a dropped row. A row that a model was
    asked about has reason and evidence too: `rewritten`, or why its response stayed. changes: by the step's transforms.
    scores: that the step judged, each with its limits. draws: how often the epochs draw the row for training.
    truncated: whether its response is cut to fit the context. places: the packs that hold it.
    """

    model_config = ConfigDict(frozen=True)

    step: str
    verdict: Literal["kept", "dropped", "trained", "held_out", "not_drawn", "unused"]
    shard: str
    row: int | None = None
    stage: str | None = None
    reason: str | None = None
    evidence: dict[str, Any] | None = None
    changes: tuple[Change, ...] = ()
    scores: tuple[Measured, ...] = ()
    draws: int | None = None
    truncated: bool | None = None
    places: tuple[Place, ...] | None = None


class Twin(BaseModel):
    """A row in whose favour a duplicate was dropped, and what became of it.

    run: that has it: this one or one of `against`; None if that run is gone. verdict: `kept`, or `dropped` by `step`
    with stage, reason and evidence. instruction, response: None if the run is gone. differs: pairs of what the twin has
    and what the row that was asked for has in its place.
    """

    model_config = ConfigDict(frozen=True)

    row: str
    run: str | None
    verdict: Literal["kept", "dropped"]
    step: str | None = None
    stage: str | None = None
    reason: str | None = None
    evidence: dict[str, Any] | None = None
    instruction: str | None = None
    response: str | None = None
    differs: tuple[tuple[str, str], ...] = ()


class RowFate(BaseModel):
    """The fate of one row. verdict: `dropped` if some step dropped it, else `kept`. Texts as they stood last.

    digest: of condition, instruction and response, hex. columns: further columns of the record, as text. twins: of a
    duplicate: the row that it duplicates, the row which that one duplicates if it was dropped as well, and so on to the
    last, which was kept or dropped for another reason.
    """

    model_config = ConfigDict(frozen=True)

    row: str
    run: str
    verdict: Literal["kept", "dropped"]
    origin: Origin
    history: tuple[StepFate, ...]
    twins: tuple[Twin, ...] = ()
    instruction: str
    response: str
    condition: str
    digest: str
    columns: dict[str, str] = {}


class _Way(NamedTuple):
    """The steps that had a row, and the row as it stood last."""

    history: list[StepFate]
    record: dict[str, Any]
    first: Location


def why(run: RecordedRun, row: str, index: RowIndex | None = None) -> RowFate:
    """The fate of one row. index: of the rows of the run; by default one that is made in this process.

    Raises: RunError: if the run never had such a row; it names the nearest. CheckFailed: if the ledger is damaged.
    """
    index = index or RowIndex(run, Run(run.root, LocalEngine()))
    way = _follow(index, row)
    if way is None:
        raise RunError(f"{row}: no such row in run {run.id}; {index.describe_unknown(row)}")
    history, record, first = way
    return RowFate(
        row=row,
        run=run.id,
        verdict="dropped" if history[-1].verdict == "dropped" else "kept",
        origin=_origin(index, row, first),
        history=tuple(history),
        twins=tuple(_twins(index, history[-1].evidence or {}, record)),
        digest=record["digest"].hex(),
        columns={
            name: str(value)
            for name, value in record.items()
            if name not in (*COLUMNS, *DROP_COLUMNS) and not name.startswith(SCORE) and value not in (None, "")
        },
        **{name: record[name] for name in (*TEXTS, "condition")},
    )


# ---- the source


def _origin(index: RowIndex, row: str, first: Location) -> Origin:
    source = row.partition("/")[0]
    run = index.run
    spec: dict[str, Any] = next((spec for spec in run.info["settings"]["sources"] if spec["name"] == source), {})
    name, digest = _source_file(index.first, row, source, first)
    prefix, number, suffix = split_id(row)
    paths = spec.get("path") or ()
    return Origin(
        source=source,
        file=name,
        row=number,
        variant=suffix.strip("/") if prefix.count("/") > 1 and suffix and not _by_task(suffix, name) else "",
        path=(paths,) if isinstance(paths, str) else tuple(paths),
        digest=digest,
        adapter=spec.get("adapter"),
        **_described(run, spec),
    )


def _by_task(suffix: str, file: str | None) -> bool:
    """Whether what follows the number of an id is the name of a file: of a source that is sampled by task."""
    return file is not None and suffix.strip("/").startswith(file.partition(".")[0].replace("/", "__"))


def _source_file(ingest: Manifest, row: str, source: str, first: Location) -> tuple[str | None, str | None]:
    """The name of a row's file, with its suffix, and its digest; None where the source has no files."""
    entries = ingest.parameters.get("sources", ())
    at = next(
        number
        for number, part in enumerate(ingest.parts)
        if any(file.path == first.file.path for files in part.files.values() for file in files)
    )
    begin = 0
    for entry in entries:
        items = entry["items"]
        if entry["name"] == source and begin <= at < begin + items and entry["files"]:
            files = _files_read(entry, at - begin)
            if len(files) > 1:  # of a group of files, or of all up to a limit of rows
                named = [file for file in files if _is_of_file(row, source, file[0])]
                files = sorted(named, key=lambda file: -len(file[0])) or files
            name, suffix, digest = files[0]
            return name if name.endswith(suffix) else name + suffix, digest
        begin += items
    return None, None


def _files_read(source: Mapping[str, Any], item: int) -> list[list[str]]:
    """The files of one item of a source, as the parameters of ingest describe it: name, suffix and digest of each."""
    files: list[list[str]] = source["files"]
    if "reads" in source:
        first, end = source["reads"][item][:2]
        return files[first:end]
    return files[item : item + 1] if len(files) == source["items"] else files


def _is_of_file(row: str, source: str, file: str) -> bool:
    """Whether an id may name a file: `<source>/<file>/<number>`, or by task `<source>/<task>/<number>/<file>`."""
    by_task = rf"/\d+/{re.escape(file.replace('/', '__'))}(\.|$)"
    return row.startswith(f"{source}/{file}/") or re.search(by_task, row) is not None


def _described(run: RecordedRun, spec: Mapping[str, Any]) -> dict[str, str]:
    """Title, home, licence and revision of a known data set, and what the recipe says of them, which counts more."""
    said = {name: str(spec[name]) for name in ("home", "licence") if spec.get(name)}
    return {**_recorded_origin(run, spec), **said}


def _recorded_origin(run: RecordedRun, spec: Mapping[str, Any]) -> dict[str, str]:
    """What is known of the data set of an adapter. A run of an earlier version did not record it."""
    if "sources" in run.info:
        return dict(run.info["sources"].get(spec.get("name"), {}))
    if spec.get("adapter") is None:
        return {}
    from pipelines.sources.catalogue import origin_of  # loads all adapters

    return origin_of(spec["adapter"])


# ---- the steps


def _follow(index: RowIndex, row: str) -> _Way | None:
    """What each step did with a row; None for a row that the run never had.

    Raises: CheckFailed: if a step that took the row neither kept nor dropped it.
    """
    history: list[StepFate] = []
    record: dict[str, Any] = {}
    first: Location | None = None
    run = index.run
    for step in index.record_steps:
        (places,) = index.locate(step, [row])
        if not places:
            if first is None:
                return None
            raise CheckFailed(_lost(run, row, step))
        place = places[0]
        before, record = record, _record(place, record)
        first = first or place
        history.append(_fate(step, place, before, record))
        if place.product == DROPPED_ROWS:
            return _Way(history, record, first)
    assert first is not None
    tokens, packs = run.product("tokens"), run.product("packs")
    if tokens is not None:
        history += _in_tokens(index, row, tokens, packs)
    return _Way(history, record, first)


def _lost(run: RecordedRun, row: str, step: Manifest) -> str:
    return (
        f"{row}: step {step.step} neither kept nor dropped it, though the step before kept it; files of the run were "
        f"changed: `winnow verify {run.id}` names them"
    )


def _record(place: Location, before: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it stands in a file. Texts are read only if the digest says that they are not those of before."""
    names = storage.columns(place.file.path)
    small = [name for name in names if name not in TEXTS]
    record = storage.read_row(place.file.path, place.row, small)
    if before and before["digest"] == record["digest"]:
        return record | {name: before[name] for name in TEXTS}
    return record | storage.read_row(place.file.path, place.row, list(TEXTS))


def _fate(step: Manifest, place: Location, before: Mapping[str, Any], record: Mapping[str, Any]) -> StepFate:
    fate = StepFate(
        step=step.step,
        verdict="dropped" if place.product == DROPPED_ROWS else "kept",
        shard=place.file.path,
        row=place.row,
        changes=tuple(_changes(step, before, record)) if before else (),
        scores=tuple(_scores(step, record)),
    )
    if place.product == DROPPED_ROWS:
        return fate.model_copy(update=_reason(record))
    rewritten = _rewrite(step, record["id"])
    return fate.model_copy(update=rewritten) if rewritten else fate


def _reason(record: Mapping[str, Any]) -> dict[str, Any]:
    evidence = json.loads(record["evidence"] or "{}")
    return {"stage": record["stage"], "reason": record["reason"], "evidence": evidence}


def _rewrite(step: Manifest, row: str) -> dict[str, Any] | None:
    """What became of the answer of a model to a row, for the step of a stage `rewrite`."""
    for file in step.tables(REWRITES):
        for _, at in indices_of(ids_of(file), [row]):
            answer = storage.read_row(file.path, at)
            return {"reason": answer["outcome"], "evidence": json.loads(answer["evidence"])}
    return None


def _changes(step: Manifest, before: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[Change]:
    """What the step's transforms changed, one after another."""
    fields = [name for name in ("condition", *TEXTS) if before[name] != record[name]]
    if not fields:
        return
    if not step.step.startswith(REWRITING[0]):
        yield from _between((step.step,), before, record, fields)
        return
    from pipelines.audit.transforms import transforms_of, versions  # loads the filters

    transforms = transforms_of(step)
    names = tuple(transform.kind for transform in transforms)
    stood = versions(transforms, before, record) if len(transforms) > 1 else None
    if stood is None:
        yield from _between(names, before, record, fields)
        return
    for name, (old, new) in stood:
        yield from _between((name,), old, new, [field for field in fields if old[field] != new[field]])


def _between(
    stages: tuple[str, ...], before: Mapping[str, Any], after: Mapping[str, Any], fields: Sequence[str]
) -> Iterator[Change]:
    for field in fields:
        differs = difference(before[field], after[field])
        yield Change(stages=stages, field=field, differs=tuple(differs))


# ---- scores


def _scores(step: Manifest, record: Mapping[str, Any]) -> Iterator[Measured]:
    """The scores that a step of cuts judged or joined, each with the limits of its cuts."""
    cuts = step.parameters.get("cuts")
    if cuts is None:
        return
    limits = storage.read_json(step.file(LIMITS).path) if step.files(LIMITS) else [{}] * len(cuts)
    named = set()
    for cut, least in zip(cuts, limits, strict=True):
        column = next((name for name in (SCORE + cut["name"], cut["name"]) if name in record), cut["name"])
        named.add(column)
        group = {name: str(record.get(name) or "") for name in cut["within"]}
        yield Measured(
            name=cut["name"],
            value=_value(record.get(column)),
            min=cut["min"],
            max=cut["max"],
            drop=tuple(cut["drop"]),
            top=cut["top"],
            least=_value(least.get("\n".join(map(escaped, group.values())))) if cut["top"] is not None else None,
            group=group or None,
        )
    for column, value in record.items():
        if column.startswith(SCORE) and column not in named:
            yield Measured(name=column.removeprefix(SCORE), value=_value(value))


def escaped(value: str) -> str:
    """A value in the name of a group of `top`, as `filters.cut.groups_of` writes it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n")


def _value(value: Any) -> float | str | None:
    if isinstance(value, float | int):
        return round(float(value), 6) if math.isfinite(value) else None
    return None if value in (None, "") else str(value)


# ---- duplicates


def _twins(index: RowIndex, evidence: dict[str, Any], record: Mapping[str, Any]) -> Iterator[Twin]:
    """The rows that the evidence of a duplicate leads to. Each step keeps the rows that its evidence names, so a row is
    dropped by a later step than the one before, and the chain ends."""
    while "twin" in evidence:
        row = evidence["twin"]
        if "against" in evidence:
            earlier = _run_with_step(index.run, evidence["against"])
            if earlier is None:
                yield Twin(row=row, run=None, verdict="kept")
                return
            index = RowIndex(earlier, index.maker)
        way = _follow(index, row)
        if way is None:
            raise CheckFailed(
                f"{row}: a duplicate names it, but run {index.run.id} has no such row; the files of the run were "
                f"changed: `winnow verify {index.run.id}` names them"
            )
        last = way.history[-1]
        fields: dict[str, Any] = {}
        if last.verdict == "dropped":
            fields = {name: getattr(last, name) for name in ("step", "stage", "reason", "evidence")}
        yield Twin(
            row=row,
            run=index.run.id,
            verdict="dropped" if last.verdict == "dropped" else "kept",
            instruction=way.record["instruction"],
            response=way.record["response"],
            differs=tuple(pair for name in TEXTS for pair in difference(way.record[name], record[name])),
            **fields,
        )
        evidence = (last.evidence or {}) if last.verdict == "dropped" else {}


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


# ---- tokens and packs


def _in_tokens(index: RowIndex, row: str, tokens: Manifest, packs: Manifest | None) -> Iterator[StepFate]:
    """What the tokens step, and then the pack step, did with a row of the corpus."""
    (places,) = index.locate(tokens, [row])
    if not places:
        raise CheckFailed(_lost(index.run, row, tokens))
    place = places[0]
    fate = StepFate(step=tokens.step, verdict="kept", shard=place.file.path, row=place.row)
    if place.product == DROPPED_ROWS:
        dropped = _reason(storage.read_row(place.file.path, place.row, list(DROP_COLUMNS)))
        yield fate.model_copy(update={"verdict": "dropped", **dropped})
        return
    yield fate
    if packs is None:
        return
    shard = index.shard_of(row)
    assert shard is not None
    fates = packs.tables(ROW_FATES)[shard]
    use = storage.read_row(fates.path, place.row)
    packed = tuple(_places(index, row, packs)) if use["draws"] or use["held_out"] else ()
    verdict: Literal["trained", "held_out", "not_drawn", "unused"] = (
        "unused" if use["reason"] else "held_out" if use["held_out"] else "trained" if use["draws"] else "not_drawn"
    )
    yield StepFate(
        step=packs.step,
        verdict=verdict,
        shard=packed[0].file if packed else fates.path,
        reason=use["reason"] or None,
        draws=use["draws"],
        truncated=use["truncated"],
        places=packed,
    )


def _places(index: RowIndex, row: str, packs: Manifest) -> Iterator[Place]:
    (found,) = index.locate(packs, [row])
    for product, file, pack in found:
        files = packs.tables(product)
        before = sum(other.rows for other in files[: files.index(file)])
        epoch = json.loads(ArrowFile(file.path, file.bytes).schema.metadata[b"winnow"])["epoch"]
        split: Literal["train", "validation"] = "validation" if product == VALIDATION_PACKS else "train"
        yield Place(split=split, epoch=epoch, pack=before + pack, file=file.path)
