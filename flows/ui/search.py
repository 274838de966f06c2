"""Which rows have a text, and which were dropped for a reason? Rows of a run, read from its files a page at a time.

Nothing is indexed and nothing is written. A search reads files until it has enough rows or its time is over, and says
where to go on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.audit.page import number
from pipelines.errors import RunError, nearest
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.runs import RecordedRun
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.ledger.storage import TableRef

PAGE = 25
"""Rows of a page."""

MATCHES = 50
"""Rows that a search returns at a time."""

SEARCH_SECONDS = 10.0
"""Time that one request spends on searching."""

EXCERPT = 1500
"""Characters shown of a text in a list of rows."""

COLUMNS = ["id", "source", "condition", "instruction", "response"]


class Rows(NamedTuple):
    """A page of rows. total: of all pages. rows: COLUMNS, and of dropped rows `reason` and `evidence`."""

    total: int
    start: int
    rows: list[dict[str, Any]]


class Found(NamedTuple):
    """Rows with a text.

    rows: as in Rows, at most MATCHES of a file, with `step` where a step dropped the row, and the texts in `parts`:
    (text, whether it is the text searched for). matches: rows that have it, in the files read. files: how many were
    read, of `total`. next: the file to go on with, None at the end.
    """

    rows: list[dict[str, Any]]
    matches: int
    files: int
    total: int
    next: int | None


def kept_rows(run: RecordedRun, page: int) -> Rows:
    """A page of the rows of the corpus, in their order. page: from 1."""
    shards = run.records.shards
    return Rows(sum(shard.rows for shard in shards), (page - 1) * PAGE, list(_slice(shards, page, COLUMNS)))


def dropped_rows(run: RecordedRun, step: str, reason: str, page: int) -> Rows:
    """A page of the rows that a step dropped for a reason (`stage/reason`). page: from 1.

    Raises: RunError: if the run has no such step, or it dropped no row for this reason.
    """
    manifest = run.step(step)
    if manifest is None or not manifest.kept:
        names = [one.step for one in run.steps if one.kept]
        raise RunError(f"step {step}: no step of run {run.id} that drops rows; {nearest(step, names)}")
    total = manifest.reasons.get(reason, 0)
    if not total:
        raise RunError(f"{reason}: step {step} dropped no row for this reason; {nearest(reason, manifest.reasons)}")
    start, rows = (page - 1) * PAGE, []
    skip, missing = start, PAGE
    for part in manifest.parts:  # a part counts its reasons, so only the files of the page are read
        own = part.counts.get(reason, 0)
        if skip >= own:
            skip -= own
            continue
        if not missing:
            break
        for file in part.files.get(DROPPED_ROWS, ()):
            table = storage.read_parquet(file.path, [*COLUMNS, "stage", "reason", "evidence"])
            table = table.filter(pc.equal(pc.binary_join_element_wise(table["stage"], table["reason"], "/"), reason))
            taken = table.slice(skip, missing).to_pylist()
            skip = max(0, skip - table.num_rows)
            rows += [_with_evidence(row) for row in taken]
            missing -= len(taken)
    return Rows(total, start, rows)


def search(run: RecordedRun, text: str, start: int = 0) -> Found:
    """Rows whose instruction, response or id contains `text`, whatever its case: of the corpus, then dropped ones.

    start: the file to begin with.
    """
    files = _searched(run)
    deadline = time.monotonic() + SEARCH_SECONDS
    rows: list[dict[str, Any]] = []
    at, matches = start, 0
    for at in range(start, len(files)):
        step, file = files[at]
        if time.monotonic() > deadline or len(rows) >= MATCHES:
            break
        names = COLUMNS if step is None else [*COLUMNS, "stage", "reason", "evidence"]
        table = storage.read_parquet(file.path, names)
        mask = pa.array([False] * table.num_rows, pa.bool_())
        for name in ("instruction", "response", "id"):
            hits = pc.match_substring(table[name].combine_chunks(), text, ignore_case=True)
            mask = pc.or_(mask, hits)
        table = table.filter(mask)
        matches += table.num_rows
        for row in table.slice(0, MATCHES).to_pylist():
            row = row if step is None else _with_evidence(row)
            rows.append({**row, "step": step.step if step else None})
    else:
        at = len(files)
    for row in rows:
        row["parts"] = {name: marked(row[name], text) for name in ("instruction", "response")}
    return Found(rows, matches, max(at - start, 0), len(files), at if at < len(files) else None)


def marked(text: str, wanted: str) -> list[tuple[str, bool]]:
    """A text around the first place of `wanted`, as (text, whether it is that)."""
    at = text.lower().find(wanted.lower())
    if at < 0 or len(text.lower()) != len(text):  # letters whose lower case is longer: the place would be wrong
        return [(excerpt(text), False)]
    begin = max(0, at - EXCERPT // 2)
    end = min(len(text), at + len(wanted) + EXCERPT // 2)
    head, tail = "… " if begin else "", " …" if end < len(text) else ""
    return [
        (head + text[begin:at], False),
        (text[at : at + len(wanted)], True),
        (text[at + len(wanted) : end] + tail, False),
    ]


def excerpt(text: str, length: int = EXCERPT) -> str:
    """The first characters of a text, and how many are left out."""
    return text if len(text) <= length else f"{text[:length]} … ({len(text) - length:,} more characters)"


def _searched(run: RecordedRun) -> list[tuple[Manifest | None, TableRef]]:
    """The files of the corpus, and those of dropped records with the step that dropped them."""
    corpus = run.product("corpus")
    kept: list[tuple[Manifest | None, TableRef]] = [(None, shard) for shard in (corpus.shards if corpus else ())]
    return kept + [(step, file) for step in run.steps for file in step.dropped]


def _slice(shards: tuple[TableRef, ...], page: int, columns: list[str]) -> Iterator[dict[str, Any]]:
    skip, missing = (page - 1) * PAGE, PAGE
    for shard in shards:
        if skip >= shard.rows:
            skip -= shard.rows
            continue
        if missing <= 0:
            return
        rows = storage.read_parquet(shard.path, columns).slice(skip, missing).to_pylist()
        yield from rows
        skip, missing = 0, missing - len(rows)


def _with_evidence(row: dict[str, Any]) -> dict[str, Any]:
    evidence = json.loads(row["evidence"] or "{}")
    return {**row, "reason": f"{row['stage']}/{row['reason']}", "evidence": evidence_text(evidence)}


def evidence_text(evidence: dict[str, Any] | None) -> str:
    """The evidence of a reason in one line."""
    return ", ".join(f"{name} {_value(value)}" for name, value in (evidence or {}).items())


def _value(value: object) -> str:
    if isinstance(value, dict):
        return f"({evidence_text(value)})"
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return number(value) if isinstance(value, float) else str(value)
