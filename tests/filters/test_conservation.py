"""A stage that loses, doubles, moves or mixes up rows is an error that names the stage and a row."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pytest

from filters import stage
from filters.catalogue import STAGES
from filters.stage import VERDICT, Filter, StageError, Transform, apply, with_texts

ROWS = [2, 3, 7, 64, 1000]


@pytest.fixture(autouse=True)
def _first_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "_sampled", set())


def records(rows: int) -> pa.Table:
    return pa.table(
        {
            "id": [f"a/a/{row}" for row in range(rows)],
            "source": ["a"] * rows,
            "condition": ["direct"] * rows,
            "instruction": [f"What is the number after {row}, in {'digits ' * (row % 7)}?" for row in range(rows)],
            "response": [f"It is the number {row + 1}, which is one more." for row in range(rows)],
        },
        schema=pa.schema([(name, pa.string()) for name in ("id", "source", "condition", "instruction", "response")]),
    )


class Moves(Transform):
    """Returns other rows than it was given."""

    kind: Literal["moves"] = "moves"
    how: str

    def rewrite(self, records: pa.Table) -> pa.Table:
        """By `how`."""
        rows = np.arange(records.num_rows)
        last = len(rows) - 1
        match self.how:
            case "loses the first and doubles the second":
                return records.take(np.where(rows == 0, min(1, last), rows))
            case "doubles the last":
                return records.take(np.where(rows == max(last - 1, 0), last, rows))
            case "reverses":
                return records.take(rows[::-1])
            case "swaps two":
                return records.take(np.concatenate([rows[:-2], rows[-2:][::-1]]))
            case "loses the last":
                return records.slice(0, last)
            case "has no ids":
                return records.drop_columns(["id"])
            case "rolls responses":
                response = records["response"].take(pa.array(np.roll(rows, 1)))
                return records.set_column(records.column_names.index("response"), "response", response)
            case "reverses responses":
                response = records["response"].take(pa.array(rows[::-1]))
                return records.set_column(records.column_names.index("response"), "response", response)
            case "numbers rows":
                texts = [f"{row}: {text}" for row, text in enumerate(records["response"].to_pylist())]
                return with_texts(records, {"response": (rows, texts)})
        return records


class Judges(Filter):
    """Gives rows the verdicts of others."""

    kind: Literal["judges"] = "judges"
    how: str

    def judge(self, records: pa.Table) -> pa.StructArray:
        """By `how`."""
        texts = records["response"].to_pylist()
        bad = np.array([len(text) % 3 == 0 or text.endswith("1, which is one more.") for text in texts], np.bool_)
        if self.how == "rolled":
            bad = np.roll(bad, 1)
        if self.how == "all but the first":
            bad = np.arange(len(bad)) > 0
        if self.how == "the shortest":
            length = np.array([len(text) for text in records["instruction"].to_pylist()])
            bad = length == length.min(initial=999)
        reasons = ["bad" if one else None for one in bad]
        nones = pa.nulls(len(bad), pa.float64())
        columns = [pa.array(reasons, pa.string()), nones, nones]
        verdicts = pa.StructArray.from_arrays(columns, fields=list(VERDICT), mask=pa.array(~bad))
        return verdicts[:-1] if self.how == "one less" else verdicts


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(
    "how",
    [
        "loses the first and doubles the second", "doubles the last", "reverses", "swaps two", "loses the last",
        "has no ids", "rolls responses", "reverses responses", "numbers rows",
    ],
)  # fmt: skip
@pytest.mark.fault("a transform loses, doubles, moves or mixes up rows", "an error that names the stage and the row")
def test_a_transform_that_returns_other_rows_is_an_error(how: str, rows: int) -> None:
    with pytest.raises(StageError, match=r"^moves: .*(row a/a/\d+|rows became)"):
        apply([Moves(how=how)], records(rows))


@pytest.mark.parametrize("rows", [7, 64, 1000])
@pytest.mark.parametrize("how", ["rolled", "all but the first", "the shortest", "one less"])
@pytest.mark.fault("a filter gives rows the verdicts of other rows", "an error that names the stage and the row")
def test_a_filter_that_gives_rows_the_verdicts_of_others_is_an_error(how: str, rows: int) -> None:
    with pytest.raises(StageError, match=r"^judges: .*(row a/a/\d+|verdicts for)"):
        apply([Judges(how=how)], records(rows))


def test_stages_that_do_as_they_must_pass() -> None:
    for rows in (0, 1, 2, 64):
        outcome = apply([Moves(how=""), Judges(how=""), *(STAGES[kind]() for kind in STAGES.own)], records(rows))
        assert outcome.kept.num_rows + outcome.dropped.num_rows == rows
