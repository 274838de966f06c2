"""How are duplicates removed? By shard, from the decisions of all rounds; evidence names the kept row.

Evidence is a JSON object: `twin`, the id of the kept row; `jaccard`, for near-duplicates, an object with the Jaccard of
each compared field; `against`, the folder of the earlier run's step if the kept row belongs to an earlier run.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.stage import mark
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest, Part
from pipelines.ledger.run import StepContext, Target, commit_rows
from pipelines.ledger.step import DROPPED_ROWS
from pipelines.ledger.storage import TableRef
from pipelines.steps.duplicates.ranges import ALL_KEYS, check_files, column_values, jaccard_column, map_file
from pipelines.steps.duplicates.shards import ShardFiles
from pipelines.steps.products import RECORDS
from pipelines.steps.step import DROPPED_RECORDS

PRODUCTS = {RECORDS: "the records that stay", DROPPED_ROWS: DROPPED_RECORDS}
"""Of both duplicate steps."""

SAME_WORDS = "same_words"
"""The reason of a near-duplicate with all words of the kept row: case, punctuation or spaces differ."""

JACCARD_STEPS = 1e4
"""Evidence gives the Jaccard in steps of 1 / JACCARD_STEPS."""


class _Origin(NamedTuple):
    """The rows with a number below `end` (and not below the previous origin's) are kept by `step` of an earlier run."""

    end: int
    step: str


class _Shard(NamedTuple):
    """A shard to remove rows from, the number of its first row, and which of how many tasks handles it."""

    records: TableRef
    start: int
    task: int
    tasks: int


def remove_duplicates(
    context: StepContext,
    records: Manifest,
    stage: str,
    fields: Sequence[str],
    files: ShardFiles,
    against: Sequence[Manifest],
    decisions: Sequence[TableRef],
    as_text: bool,
) -> list[Part]:
    """The step's parts: each shard's records that stay, and those dropped.

    stage: also the reason. fields: the compared fields of near-duplicates, whose Jaccard is evidence; the reason is
    SAME_WORDS for a row that has all words of the kept one. decisions: files of `survivors.Decisions`, in order of
    their rounds. as_text: as `commit_rows`.
    """
    starts = files.starts[len(files.rows) - len(records.shards) : -1]
    ends = np.cumsum([manifest.rows_kept or 0 for manifest in against], dtype=np.int64).tolist()
    origins = tuple(_Origin(end, manifest.folder) for end, manifest in zip(ends, against, strict=True))
    work = functools.partial(_remove_from_shard, stage, tuple(fields), origins, tuple(decisions), as_text)
    shards = zip(records.shards, starts, strict=True)
    return context.map(work, [_Shard(shard, start, n, len(starts)) for n, (shard, start) in enumerate(shards)])


def _remove_from_shard(
    stage: str,
    fields: Sequence[str],
    origins: Sequence[_Origin],
    decisions: Sequence[TableRef],
    as_text: bool,
    shard: _Shard,
    target: Target,
) -> Part:
    check_files(decisions, ALL_KEYS._replace(task=shard.task, tasks=shard.tasks))
    dropped_rows = _dropped_rows(shard, decisions)
    records = storage.read_parquet(shard.records.path, None if as_text else ["id"])
    local = column_values(dropped_rows, "row") - shard.start
    stays = np.ones(shard.records.rows, np.bool_)
    stays[local] = False
    reasons: str | pa.Array = stage
    if fields:
        same_words = dropped_rows["same_words"].combine_chunks()
        reasons = pc.if_else(same_words, pa.scalar(SAME_WORDS), pa.scalar(stage))
    # Dropped rows are written with their text.
    whole = as_text or not len(local)
    rows = records.take(pa.array(local)) if whole else storage.read_parquet(shard.records.path, rows=pa.array(local))
    dropped = mark(rows, stage, reasons, _evidence(dropped_rows, fields, origins))
    return commit_rows(shard.records, records, pa.array(stays), dropped, target, as_text)


def _dropped_rows(shard: _Shard, decisions: Sequence[TableRef]) -> pa.Table:
    """The decisions about a shard's dropped rows, sorted by row."""
    pieces = []
    for file in decisions:
        table = map_file(file)
        first, end = np.searchsorted(column_values(table, "row"), [shard.start, shard.start + shard.records.rows])
        pieces.append(table.slice(first, end - first))
    decided = pa.concat_tables(pieces).combine_chunks()
    rows = column_values(decided, "row")
    by_row = np.argsort(rows, kind="stable")
    # Files are in order of rounds and the sort is stable: the last entry of a row is its last decision.
    is_last = np.ones(len(rows), np.bool_)
    is_last[:-1] = rows[by_row][1:] != rows[by_row][:-1]
    decided = decided.take(pa.array(by_row[is_last]))
    return decided.filter(pc.greater_equal(decided["duplicate_of"], 0))


def _evidence(dropped_rows: pa.Table, fields: Sequence[str], origins: Sequence[_Origin]) -> pa.Array:
    """The evidence of each dropped row, string [rows]."""
    ids = dropped_rows["duplicate_of_id"].combine_chunks()
    if pc.any(pc.match_substring_regex(ids, r"[^ !#-\[\]-~]")).as_py():
        quoted = pa.array([json.dumps(name) for name in ids.to_pylist()], pa.string())
    else:
        # No character needs escaping, which is the usual case and much faster.
        quoted = pc.binary_join_element_wise('"', ids, '"', "")
    pieces = ['{"twin": ', quoted]
    for number, field in enumerate(fields):
        # Formatting floats is slow, and there are few distinct values: format each once.
        jaccard = np.rint(jaccard_column(dropped_rows)[:, number].astype(np.float64) * JACCARD_STEPS)
        steps, positions = np.unique(jaccard, return_inverse=True)
        formatted = pa.array([str(value / JACCARD_STEPS) for value in steps.tolist()], pa.string())
        pieces += [f', "{field}": ' if number else f', "jaccard": {{"{field}": ', formatted.take(pa.array(positions))]
    if fields:
        pieces.append("}")
    if origins:
        named = pa.array([*(f', "against": "{origin.step}"' for origin in origins), ""])
        ends = [origin.end for origin in origins]
        pieces.append(named.take(pa.array(np.searchsorted(ends, column_values(dropped_rows, "duplicate_of"), "right"))))
    return pc.binary_join_element_wise(*pieces, "}", "")
