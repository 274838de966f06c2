"""The record: what every step from ingest to tokens carries, and the one door through which rows become records."""

from __future__ import annotations

import json
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from dedup.exact import digest128
from filters.stage import DROP_FIELDS, Outcome
from pipelines.errors import RecordError

CONDITIONS = ("direct", "cot", "noisy", "synth")
"""The condition tags of HRM-Text; a record's condition is one or more of them, comma-joined, in the order written."""

MAX_TEXT_BYTES = 8 << 20
"""A record with more text than this is dropped as `oversize`: it could not be trained on (the context is 4,096
tokens) and would make one shard hundreds of times the size of its neighbours."""

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
"""Non-null, since Arrow compares null with anything to null, and a filter would let such a row through."""

DROPPED = pa.schema([*RECORD, *DROP_FIELDS])

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
"""One item of an evaluation set; "" and [] where a benchmark has no passage or choices."""

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
"""A row as a source reads it, before it is a record.

row: its number in the file, from 0. variant: "" or the name of a second record made of the same row. fault: null, or
why the row is no record: it could not be read (`broken_json`, `invalid_utf8` ...), and then `response` holds what could
be read of it; or a rule of its source leaves it out (`source/proof`, `source/code` ...: see `pairs.exclude`).
"""

TASK = pa.field("task", pa.string())
"""A column that a source adds to RAW where its files are not what is sampled: the name of what is (a task of FLAN, of
which each file holds hundreds; `all` where upstream makes one file of many). It takes the file's place in the id."""

RULE = "source/"
"""What the fault of a row begins with that can be read well, but that a rule of its source leaves out."""


def conform(raw: pa.Table, source: str, file: str, on_bad_row: Literal["drop", "fail"] = "drop") -> Outcome:
    """Turn RAW rows of one file into records: `kept` RECORD, `dropped` DROPPED (stage `conform`, or `source` for a rule
    of the source).

    Reasons, the first that holds: the reader's own fault or the source's rule, `null_instruction`, `null_response`,
    `unknown_condition`, `oversize`. The id is `<source>/<file>/<row>`, plus `/<variant>` where a row gives several
    records; with a TASK it is `<source>/<task>/<row>/<file>`, plus `.<variant>`, a `/` in the file's name as `__`.

    Errors: RecordError naming source, file and row of the first bad row, when `on_bad_row` is `fail`. A row that a rule
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
    ruled = pc.fill_null(pc.starts_with(reasons, RULE), False)
    failed = pc.and_not(reasons.is_valid(), ruled).to_numpy(zero_copy_only=False)
    if on_bad_row == "fail" and failed.any():
        first = int(np.flatnonzero(failed)[0])
        raise RecordError(
            f"{source}: {file}: row {raw['row'][first].as_py()}: {reasons[first].as_py()} "
            "(mend the row, or set `on_bad_row: drop` in the recipe to drop and count such rows)"
        )
    records = _records(raw, source, file)
    if reasons.null_count == len(reasons):
        return Outcome(records, DROPPED.empty_table())
    bad = reasons.is_valid()
    dropped = records.filter(bad)
    details = raw.filter(bad)
    evidence = [
        json.dumps({"file": file, "row": row, "condition": condition, "bytes": int(size)})
        for row, condition, size in zip(
            details["row"].to_pylist(),
            details["condition"].to_pylist(),
            text_bytes[bad.to_numpy(zero_copy_only=False)],
            strict=True,
        )
    ]
    marks = [
        pc.if_else(ruled.filter(bad), RULE.rstrip("/"), "conform"),
        pc.replace_substring_regex(reasons.filter(bad), f"^{RULE}", ""),
        pa.array(evidence, pa.string()),
    ]
    for field, column in zip(DROP_FIELDS, marks, strict=True):
        dropped = dropped.append_column(field, column)
    outcome = Outcome(records.filter(pc.invert(bad)), dropped)
    assert outcome.kept.num_rows + outcome.dropped.num_rows == raw.num_rows
    return outcome


def _records(raw: pa.Table, source: str, file: str) -> pa.Table:
    variant = raw["variant"].fill_null("")
    single, number = pc.equal(variant, ""), raw["row"].cast(pa.string())
    if TASK.name in raw.column_names:
        place = pa.scalar(file.replace("/", "__"))
        last = pc.if_else(single, place, pc.binary_join_element_wise(place, variant, "."))
        ids = pc.binary_join_element_wise(pa.scalar(source), raw[TASK.name], number, last, "/")
    else:
        ids = pc.binary_join_element_wise(pa.scalar(f"{source}/{file}"), number, "/")
        ids = pc.if_else(single, ids, pc.binary_join_element_wise(ids, variant, "/"))
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
    return pa.table(columns, schema=RECORD)


def _bytes(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.binary_length(column).fill_null(0).to_numpy(), np.int64)


def _known_condition(column: pa.ChunkedArray) -> pa.Array:
    """Whether each value is one or more known tags joined by commas. A null is not."""
    # A corpus has a handful of distinct conditions, so the few are judged and the many are looked up.
    encoded = as_array(column).dictionary_encode()
    known = [
        value is not None and all(tag in CONDITIONS for tag in value.split(","))
        for value in encoded.dictionary.to_pylist()
    ]
    return pa.array([*known, False], pa.bool_()).take(encoded.indices.fill_null(len(known)))
