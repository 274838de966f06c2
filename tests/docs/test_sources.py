"""`first_exchange` returns what the table of chat rows in docs/sources.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.formats.pairs import MESSAGES, first_exchange

TEXT = (Path(__file__).parents[2] / "docs" / "sources.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in TEXT.split("| turns |")[1].splitlines()[2:]
    if line.startswith("|")
]


def test_the_table_shows_system_turns_tool_turns_several_rounds_and_every_reason() -> None:
    assert {row[3] for row in ROWS} >= {"", "tool_turns", "no_user_turn", "no_assistant_turn", "unknown_role"}
    assert any("system" in row[0] for row in ROWS) and any(row[0].count("assistant") > 1 and row[2] for row in ROWS)


@pytest.mark.parametrize(("turns", "instruction", "response", "reason"), ROWS, ids=[row[0] or "none" for row in ROWS])
def test_a_row_of_the_table(turns: str, instruction: str, response: str, reason: str) -> None:
    said = re.findall(r"(\w+): (\w+)", turns)
    conversation = [{"role": who, "content": what} for who, what in said]
    (asked,), (answered,), (fault,) = (
        column.to_pylist() for column in first_exchange(pa.chunked_array([pa.array([conversation], MESSAGES)]))
    )
    assert fault == (reason or None)
    if not reason:
        assert (asked, answered) == (instruction.replace(" / ", "\n\n"), response)
