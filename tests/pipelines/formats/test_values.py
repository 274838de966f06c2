"""Values are text as a person would write it; content parts and JSON text are read in every format."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.formats.pairs import read_pairs
from pipelines.formats.values import convert, plain_number
from tests.pipelines.formats.files import answers

QA = {"instruction": "q", "response": "a"}


def pairs(path: Path, columns: dict[str, Any] = QA) -> list[tuple[Any, ...]]:
    rows = [row for table in read_pairs(str(path), columns, "direct") for row in table.to_pylist()]
    return [(row["instruction"], row["response"], row["fault"]) for row in rows]


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


DOUBLES = {
    18.0: "18",
    0.1: "0.1",
    -2.5: "-2.5",
    1e15: "1000000000000000",
    -1e16: "-10000000000000000",
    123456789012345680.0: "123456789012345680",
    1e-7: "0.0000001",
    1e22: "1e+22",
    1.5e-9: "1.5e-9",
    -0.0: "0",
}


def test_doubles_are_written_as_a_person_would(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", question=["q"] * len(DOUBLES), answer=list(DOUBLES))
    assert [row[3] for row in answers(path)] == list(DOUBLES.values())


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_is_the_same_number_as_its_text(value: float) -> None:
    text, fault = convert(pa.array([value]), pa.string())
    assert fault is None and float(text[0].as_py()) == value


@given(st.integers(-(10**20), 10**20))
def test_the_exponent_of_a_whole_number_is_written_out(value: int) -> None:
    assert plain_number(f"{decimal.Decimal(value):e}") == str(value)


def test_other_types_are_text_without_padding(tmp_path: Path) -> None:
    day = datetime.datetime(2020, 1, 2, 3, 4, 5)
    columns = [
        (pa.array([decimal.Decimal("1E+3"), decimal.Decimal("2.50")]), ["1000.00", "2.50"]),
        (pa.array([decimal.Decimal("0E-10")]), ["0.0000000000"]),
        (pa.array([day, day.replace(microsecond=500)]), ["2020-01-02 03:04:05", "2020-01-02 03:04:05.0005"]),
        (pa.array([day.date(), None]), ["2020-01-02", None]),
        (pa.array([True, None]), ["true", None]),
        (pa.array([2**62]), [str(2**62)]),
        (pa.array([0.1], pa.float32()), ["0.1"]),
        (pa.array([float("nan"), 1.0]), [None, "1"]),
        (pa.array(["x"]).dictionary_encode(), ["x"]),
    ]
    for array, expected in columns:
        path = parquet(tmp_path / "a.parquet", question=["q"] * len(array), answer=array)
        assert [row[3] for row in answers(path)] == expected


def test_numbers_of_json_keep_their_spelling_but_no_exponent(tmp_path: Path) -> None:
    spelled = ["1e15", "1E+16", "-2.5e-3", "1.50", "12345678901234567890", "1e400", "18.0"]
    (tmp_path / "a.jsonl").write_text("".join(f'{{"q": "x", "a": {number}}}\n' for number in [*spelled, "NaN"]))
    read = [row[1] for row in pairs(tmp_path / "a.jsonl")]
    assert read == ["1000000000000000", "10000000000000000", "-0.0025", "1.50", spelled[4], "1e400", "18.0", None]


def chat(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "q"}, {"role": "assistant", "content": content}]


TEXT, IMAGE = {"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}
CONTENTS = [
    ("plain", ("q", "plain", None)),
    ([TEXT], ("q", "a", None)),
    ([TEXT, {"type": "text", "text": "b"}], ("q", "a\nb", None)),
    ([{"type": "output_text", "text": "a"}], ("q", "a", None)),
    ([{"text": "a"}], ("q", "a", None)),
    (
        [{"type": "thinking", "thinking": "hm"}, TEXT],
        ("q", "<reasoning_content>\nhm\n</reasoning_content>\na", None),
    ),
    ([IMAGE, TEXT], (None, None, "non_text_part")),
    (None, ("q", None, None)),
]


@pytest.mark.parametrize("stored", ["mixed", "alone", "json text", "parquet", "parquet json text", "csv"])
def test_content_parts_are_read_however_they_are_stored(tmp_path: Path, stored: str) -> None:
    for contents in [CONTENTS] if stored == "mixed" else [[content] for content in CONTENTS]:
        chats = [chat(content) for content, _ in contents]
        text = [json.dumps(one) for one in chats]
        path = tmp_path / f"a.{stored.split()[0] if stored in ('csv',) or 'parquet' in stored else 'jsonl'}"
        if stored in ("mixed", "alone"):
            path.write_text("".join(json.dumps({"m": one}) + "\n" for one in chats))
        elif stored == "json text":
            path.write_text("".join(json.dumps({"m": one}) + "\n" for one in text))
        elif stored == "csv":
            path.write_text("m\n" + "".join('"' + one.replace('"', '""') + '"\n' for one in text))
        else:
            # A column of Parquet has one type: the user's turn is then of parts as well.
            parts = isinstance(contents[0][0], list)
            typed = [[{**one[0], "content": [{"type": "text", "text": "q"}]}, one[1]] for one in chats]
            parquet(path, m=text if "text" in stored else typed if parts else chats)
        found = pairs(path, {"messages": "m"})
        expected = [(None, None, row[2]) if row[2] else row for _, row in contents]
        assert [(None, None, row[2]) if row[2] else row for row in found] == expected


def test_parts_of_a_response_are_text_and_a_list_of_answers_is_not(tmp_path: Path) -> None:
    rows = [{"q": "x", "a": [TEXT]}, {"q": "x", "a": ["one", "two"]}, {"q": "x", "a": []}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row[2] for row in pairs(tmp_path / "a.jsonl")] == [None, "wrong_type", "wrong_type"]


def test_json_text_that_is_broken_or_no_conversation_is_a_fault(tmp_path: Path) -> None:
    texts = [json.dumps(chat("a")), "[broken", "7", None, "", "[{'role': 'user', 'content': \"it's\"}]"]
    expected = [None, "broken_json", "wrong_type", "no_messages", "no_messages", "no_assistant_turn"]
    parquet(tmp_path / "a.parquet", m=texts)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"m": text}) + "\n" for text in texts))
    for name in ("a.parquet", "a.jsonl"):
        assert [row[2] for row in pairs(tmp_path / name, {"messages": "m"})] == expected


def test_a_struct_of_lists_is_a_list_of_structs(tmp_path: Path) -> None:
    turns = {"from": ["human", "gpt"], "value": ["q", "a"]}
    parquet(tmp_path / "a.parquet", m=[turns, {"from": [], "value": []}])
    (tmp_path / "a.jsonl").write_text(json.dumps({"m": turns}) + "\n" + json.dumps({"m": turns}) + "\n")
    assert pairs(tmp_path / "a.parquet", {"messages": "m"}) == [("q", "a", None), (None, None, "no_messages")]
    assert pairs(tmp_path / "a.jsonl", {"messages": "m"}) == [("q", "a", None)] * 2


NESTED = [
    {"qa": {"q": "x", "a": "y"}, "choices": [{"text": "c"}, {"text": "d"}]},
    {"qa": {"q": "x", "a": None}, "choices": []},
    {"qa": None, "choices": None},
]


@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
def test_columns_below_columns_are_read(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"a.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(NESTED), path)
    else:
        path.write_text(json.dumps(NESTED) if form == "json" else "".join(json.dumps(row) + "\n" for row in NESTED))
    columns = {"instruction": "qa.q", "response": "qa.a"}
    assert pairs(path, columns) == [("x", "y", None), ("x", None, None), (None, None, None)]
    columns = {"instruction": "qa.q", "response": "choices.1.text"}
    assert pairs(path, columns) == [("x", "d", None), ("x", None, None), (None, None, None)]
    with pytest.raises(InputError, match=r"no column 'qa\.z' \(the file has: qa\.q, qa\.a, .*\); did you mean 'qa\."):
        pairs(path, {"instruction": "qa.z", "response": "qa.a"})


def test_a_column_of_just_that_name_comes_before_one_below_a_column(tmp_path: Path) -> None:
    rows = [{"qa.q": "flat", "a": "y"}, {"qa": {"q": "nested"}, "a": "y"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row[0] for row in pairs(tmp_path / "a.jsonl", {"instruction": "qa.q", "response": "a"})] == [
        "flat",
        "nested",
    ]


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_two_columns_of_one_name_are_an_error_if_it_is_read(tmp_path: Path, form: str) -> None:
    table = pa.Table.from_arrays([pa.array([text]) for text in ("x", "y", "z")], ["q", "a", "a"])
    path = tmp_path / f"a.{form}"
    if form == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(InputError, match=rf"a\.{form}: two columns are called 'a'"):
        pairs(path)
    assert pairs(path, {"text": "q"}) == [("x", "", None)]


def test_a_row_that_has_a_requested_key_twice_is_a_fault_wherever_it_is(tmp_path: Path) -> None:
    good, twice, other = (
        '{"q": "x", "a": "y"}\n',
        '{"q": "x", "q": "z", "a": "y"}\n',
        '{"q": "x", "b": 1, "b": 2, "a": "y"}\n',
    )
    for rows in ([good, twice, other], [twice, good, other], [twice, other], [twice], [twice, twice]):
        (tmp_path / "a.jsonl").write_text("".join(rows))
        assert [row[2] for row in pairs(tmp_path / "a.jsonl")] == [
            "repeated_key" if row is twice else None for row in rows
        ]
