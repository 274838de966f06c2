"""RAW rows from rows: faults are kept, and a conversation gives its first exchange."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.formats.pairs import MESSAGES, first_exchange, interleave, join_input, raw, read_pairs
from pipelines.formats.read import read
from tests.pipelines.formats.files import QA


def test_a_row_that_cannot_be_read_keeps_its_fault_and_is_returned_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "q", "answer": "a"}\n{broken\n{"question": "r", "answer": "b"}\n')
    rows = pa.concat_tables(list(read(str(tmp_path / "a.jsonl"), QA)))
    both = interleave(
        [
            raw(rows, rows["question"], rows["answer"], "cot"),
            raw(rows, rows["question"], rows["answer"], "direct", "direct"),
        ]
    )
    assert [
        (row["row"], row["variant"], row["condition"], row["response"], row["fault"]) for row in both.to_pylist()
    ] == [
        (0, "", "cot", "a", None),
        (0, "direct", "direct", "a", None),
        (1, "", "cot", "{broken", "broken_json"),
        (2, "", "cot", "b", None),
        (2, "direct", "direct", "b", None),
    ]


def test_an_input_follows_its_instruction_after_an_empty_line() -> None:
    instruction, given = pa.array(["a", "b", "c", None]), pa.array(["x", "", None, "y"])
    assert join_input(instruction, given).to_pylist() == ["a\n\nx", "b", "c", None]


def turns(*said: tuple[str, str | None]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in said]


CONVERSATIONS: list[tuple[Any, tuple[str | None, str | None, str | None]]] = [
    (turns(("user", "q"), ("assistant", "a")), ("q", "a", None)),
    (turns(("system", "s"), ("user", "q"), ("assistant", "a")), ("s\n\nq", "a", None)),
    (turns(("system", ""), ("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b")), ("q", "a", None)),
    (turns(("user", "q"), ("user", "r"), ("assistant", "a")), ("q\n\nr", "a", None)),
    ([{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], ("q", "a", None)),
    (turns(("user", "q"), ("assistant", None)), ("q", None, None)),
    (turns(("user", "q"), ("assistant", "call"), ("tool", "t"), ("assistant", "a")), ("q", "call", "tool_turns")),
    (turns(("user", "q"), ("tool", "t"), ("assistant", "a")), ("q", "a", "tool_turns")),
    (turns(("user", "q"), ("assistant", "a"), ("user", "r"), ("tool", "t")), ("q", "a", None)),
    (turns(("narrator", "n"), ("user", "q"), ("assistant", "a")), ("q", "a", "unknown_role")),
    (turns(("assistant", "a")), ("", "a", "no_user_turn")),
    (turns(("user", "q")), ("q", None, "no_assistant_turn")),
    ([], (None, None, "no_messages")),
    (None, (None, None, "no_messages")),
]


@pytest.mark.parametrize(("conversation", "expected"), CONVERSATIONS)
def test_the_first_exchange_of_a_conversation(conversation: Any, expected: tuple[Any, ...]) -> None:
    found = first_exchange(pa.chunked_array([pa.array([conversation], MESSAGES)]))
    assert tuple(column[0].as_py() for column in found) == expected


def test_conversations_do_not_leak_into_each_other(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("w") as file:
        for conversation, _ in CONVERSATIONS:
            file.write(json.dumps({"messages": conversation, "id": 1}) + "\n")
    tables = list(read_pairs(str(tmp_path / "a.jsonl"), {"messages": "messages"}, "cot"))
    made = pa.concat_tables(tables).to_pylist()
    assert [row["fault"] for row in made] == [fault for _, (_, _, fault) in CONVERSATIONS]
    good = [(row["instruction"], row["response"]) for row in made if row["fault"] is None]
    assert good == [(asked, answered) for _, (asked, answered, fault) in CONVERSATIONS if fault is None]


def test_conversations_are_read_from_parquet(tmp_path: Path) -> None:
    table = pa.table({"chat": [turns(("user", "q"), ("assistant", "a")), turns(("user", "r"), ("assistant", "b"))]})
    pq.write_table(table, tmp_path / "a.parquet")
    made = pa.concat_tables(list(read_pairs(str(tmp_path / "a.parquet"), {"messages": "chat"}, "direct"))).to_pylist()
    assert [(row["instruction"], row["response"]) for row in made] == [("q", "a"), ("r", "b")]
