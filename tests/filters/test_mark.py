"""Dropped rows are marked in one way: by stage, reason and evidence."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from filters.stage import DROP_FIELDS, mark, mark_verdicts
from filters.verdict import Check, first_failure

ROWS = pa.table({"id": ["a", "b"], "response": ["x", "y"]})


def test_marks_are_appended_and_columns_stay() -> None:
    marked = mark(ROWS, "exact", "exact_duplicate", ['{"twin": "c"}', '{"twin": "d"}'])
    assert marked.schema.names == ["id", "response", "stage", "reason", "evidence"]
    assert [marked.schema.field(field.name) for field in DROP_FIELDS] == list(DROP_FIELDS)
    assert marked.select(["id", "response"]).equals(ROWS)
    assert marked["stage"].to_pylist() == ["exact"] * 2
    assert marked["reason"].to_pylist() == ["exact_duplicate"] * 2


def test_reasons_and_evidence_may_be_columns() -> None:
    reasons, evidence = pa.array(["test_leak", "template"]), pa.array(["{}", '{"score": 1}'])
    marked = mark(ROWS, "contamination", reasons, evidence)
    assert marked["reason"].to_pylist() == reasons.to_pylist()
    assert marked["evidence"].to_pylist() == evidence.to_pylist()
    assert mark(ROWS, "contamination", pa.chunked_array([reasons]), pa.chunked_array([evidence])).equals(marked)


def test_no_rows_have_the_schema_of_marked_rows() -> None:
    empty = mark(ROWS.slice(0, 0), "exact", "exact_duplicate", [])
    assert empty.num_rows == 0
    assert empty.schema.equals(mark(ROWS, "exact", "exact_duplicate", ["{}", "{}"]).schema)


def test_a_verdict_is_evidence_as_valid_json_whatever_was_measured() -> None:
    values = np.array([0.12345678, np.nan])
    verdicts = first_failure([Check("too_long", np.array([True, True]), values, np.inf)])
    marked = mark_verdicts(ROWS, "length", verdicts)
    assert [json.loads(row) for row in marked["evidence"].to_pylist()] == [{"value": 0.123457}, {}]
    assert marked["reason"].to_pylist() == ["too_long"] * 2
