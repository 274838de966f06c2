"""The schemas of raw rows, records and benchmark items, and the function that turns raw rows into records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.exact import digest128
from filters.stage import DROP_FIELDS, Outcome, mark
from pipelines.errors import RecordError

CONDITIONS = ("direct", "cot", "noisy", "synth")
"""The condition tags of HRM-Text. A record's condition is one or more of them, joined by commas, in any order."""

MAX_TEXT_BYTES = 8 << 20
"""A record with more bytes of text than this is dropped as `oversize`. It could not be trained on (the context is 4,096
tokens), and would make its shard hundreds of times larger than the others."""

RECORD = pa.schema(
    [
        pa.field("id", pa.string(), False),
        pa.field("source", pa.string(), False),
        pa.field("condition", pa.string(), False),
        pa.field("instruction", pa.string(), False),
        pa.field("response", pa.string(), False),
        pa.field("digest", pa.binary(16), False),
    ]
)
"""A record. No column is nullable: a comparison with null is null, and a filter would keep such a row.

digest: 128 bits of condition, instruction and response (`dedup.exact.digest128`).
"""

DROPPED = pa.schema([*RECORD, *DROP_FIELDS])
"""A dropped record, with the stage, the reason and the evidence (JSON)."""

ITEM = pa.schema(
    [
        pa.field("id", pa.string(), False),
        pa.field("split", pa.string(), False),
        pa.field("question", pa.string(), False),
        pa.field("answer", pa.string(), False),
        pa.field("choices", pa.list_(pa.field("element", pa.string(), False)), False),
        pa.field("passage", pa.string(), False),
    ]
)
"""One item of an evaluation set. Without passage or choices these are "" and []."""

RAW = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field("variant", pa.string()),
        pa.field("condition", pa.string()),
        pa.field("instruction", pa.string()),
        pa.field("response", pa.string()),
        pa.field("fault", pa.string()),
    ]
)
"""A row as a source returns it, before it is a record.

row: its number in the file, from 0. variant: "", or the name of a further record from the same row. fault: null, or why
the row is no record. Either it could not be read (`broken_json`, `invalid_utf8` ...; `response` is then the text that
could be read), or a rule of its source leaves it out (`source/proof`, `source/code` ...; see `pairs.exclude`).
"""

TASK = pa.field("task", pa.string())
"""A further column of RAW, for sources that are not sampled by file: the name of the task that is sampled. A file of
FLAN has hundreds of tasks; the task is `all` for a set that HRM-Text merges into one file. In ids it replaces the
file."""

EXTRA = "extra/"
"""Prefix of further columns of RAW: those that a source declares as `extra`, by their names in records."""

RULE = "source/"
"""Prefix of the fault of a row that was read but is left out by a rule of its source."""


def record_schema(extra: Sequence[str] = ()) -> pa.Schema:
    """RECORD with further columns of text. A row whose source has no such column, or no value in it, has ""."""
    return pa.schema([*RECORD, *(pa.field(name, pa.string(), False) for name in extra)])


def dropped_schema(extra: Sequence[str] = ()) -> pa.Schema:
    """DROPPED with further columns of text."""
    return pa.schema([*record_schema(extra), *DROP_FIELDS])


def conform(
    raw: pa.Table,
    source: str,
    file: str,
    on_bad_row: Literal["drop", "fail"] = "drop",
    extra: Sequence[str] = (),
) -> Outcome:
    """Turn RAW rows of one file into records: `kept` is `record_schema(extra)`, `dropped` is `dropped_schema(extra)`.

    The stage of a dropped row is `conform`, or `source` for a rule of the source. The reason is the first that holds:
    the fault of the reader or the rule, `null_instruction`, `null_response`, `unknown_condition`, `oversize`. The id is
    `<source>/<file>/<row>`, plus `/<variant>` for further records of a row. With a TASK it is
    `<source>/<task>/<row>/<file>`, plus `.<variant>`, and a `/` in the file's name becomes `__`.

    Raises: RecordError: naming source, file and row of the first bad row, if `on_bad_row` is `fail`. A row that a rule
        leaves out is not bad.
    """
    raw = raw.combine_chunks()
    fault = raw["fault"].combine_chunks()
    text_bytes = _bytes(raw["instruction"]) + _bytes(raw["response"])
    reasons = pc.case_when(
        pc.make_struct(
            pc.is_valid(fault),
            pc.is_null(raw["instruction"]),
            pc.is_null(raw["response"]),
            pc.invert(_known_condition(raw["condition"])),
            pa.array(text_bytes > MAX_TEXT_BYTES),
        ),
        fault,
        "null_instruction",
        "null_response",
        "unknown_condition",
        "oversize",
    )
    if isinstance(reasons, pa.ChunkedArray):
        reasons = reasons.combine_chunks()
    by_rule = pc.fill_null(pc.starts_with(reasons, RULE), False)
    bad = pc.and_not(reasons.is_valid(), by_rule).to_numpy(zero_copy_only=False)
    if on_bad_row == "fail" and bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise RecordError(
            f"{source}: {file}: row {raw['row'][first].as_py()}: {reasons[first].as_py()} "
            "(fix the row, or set `on_bad_row: drop` in the recipe to drop and count such rows)"
        )
    records = _records(raw, source, file, extra)
    if reasons.null_count == len(reasons):
        return Outcome(records, dropped_schema(extra).empty_table())
    drop = reasons.is_valid()
    details = raw.filter(drop)
    evidence = [
        json.dumps({"file": file, "row": row, "condition": condition, "bytes": int(size)})
        for row, condition, size in zip(
            details["row"].to_pylist(),
            details["condition"].to_pylist(),
            text_bytes[drop.to_numpy(zero_copy_only=False)],
            strict=True,
        )
    ]
    stages = pc.if_else(by_rule.filter(drop), RULE.rstrip("/"), "conform")
    rules = pc.replace_substring_regex(reasons.filter(drop), f"^{RULE}", "")
    dropped = mark(records.filter(drop), stages, rules, evidence)
    outcome = Outcome(records.filter(pc.invert(drop)), dropped)
    assert outcome.kept.num_rows + outcome.dropped.num_rows == raw.num_rows
    return outcome


def _records(raw: pa.Table, source: str, file: str, extra: Sequence[str]) -> pa.Table:
    variant = raw["variant"].fill_null("")
    is_first, number = pc.equal(variant, ""), raw["row"].cast(pa.string())
    if TASK.name in raw.column_names:
        name = pa.scalar(file.replace("/", "__"))
        last = pc.if_else(is_first, name, pc.binary_join_element_wise(name, variant, "."))
        ids = pc.binary_join_element_wise(pa.scalar(source), raw[TASK.name], number, last, "/")
    else:
        ids = pc.binary_join_element_wise(pa.scalar(f"{source}/{file}"), number, "/")
        ids = pc.if_else(is_first, ids, pc.binary_join_element_wise(ids, variant, "/"))
    condition, instruction, response = (
        as_array(raw[name].fill_null("")) for name in ("condition", "instruction", "response")
    )
    columns = [
        as_array(ids),
        pa.array([source], pa.string()).take(pa.array(np.zeros(raw.num_rows, np.int32))),
        condition,
        instruction,
        response,
        digest128(condition, instruction, response),
    ]
    for name in extra:
        given = EXTRA + name in raw.column_names
        columns.append(
            as_array(raw[EXTRA + name].fill_null("")) if given else pa.array([""] * raw.num_rows, pa.string())
        )
    return pa.table(columns, schema=record_schema(extra))


def _bytes(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.binary_length(column).fill_null(0).to_numpy(), np.int64)


def _known_condition(column: pa.ChunkedArray) -> pa.Array:
    """Whether each value is one or more known tags joined by commas; false for null."""
    # A corpus has a handful of distinct conditions: check each once, then look up the rows.
    encoded = as_array(column).dictionary_encode()
    known = [
        value is not None and all(tag in CONDITIONS for tag in value.split(","))
        for value in encoded.dictionary.to_pylist()
    ]
    return pa.array([*known, False], pa.bool_()).take(encoded.indices.fill_null(len(known)))
