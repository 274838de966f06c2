"""JSON lines and JSON arrays: every row is returned with its number, a bad one with its fault."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.formats.blocks import MAX_ROW_BYTES
from pipelines.formats.json import split_array, split_lines
from pipelines.formats.read import read, read_objects, text_columns
from tests.pipelines.formats.files import QA, answers, rows_of


def test_a_bad_line_is_a_row_with_its_number_and_a_fault(tmp_path: Path) -> None:
    good = b'{"question": "q", "answer": "a"}'
    lines = [
        good,
        b'{"question": "q", "answer": "a"',
        b'{"question": "q", "answer": "\xff\xfe"}',
        b"null",
        b'["q", "a"]',
        b'{"question": "q", "answer": {"text": "a"}}',
        b'{"question": "q", "answer": "\\ud800"}',
        good + b" " + good,
        b'{"question": "q", "answer": 4.50}',
        b'{"question": 12345678901234567890, "answer": true}',
        b'{"question": "q"}',
        b'{"question": "q", "answer": null}',
        good + b"\r",
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines[:3]) + b"\n\n  \n" + b"\n".join(lines[3:]))
    assert answers(tmp_path / "a.jsonl") == [
        (0, None, "q", "a"),
        (1, "broken_json", None, None),
        (2, "invalid_utf8", None, None),
        (3, "not_an_object", None, None),
        (4, "not_an_object", None, None),
        (5, "wrong_type", None, None),
        (6, "invalid_utf8", None, None),
        (7, None, "q", "a"),
        (8, None, "q", "a"),
        (9, None, "q", "4.50"),
        (10, None, "12345678901234567890", "true"),
        (11, None, "q", None),
        (12, None, "q", None),
        (13, None, "q", "a"),
    ]
    assert rows_of(tmp_path / "a.jsonl")[1]["broken"] == '{"question": "q", "answer": "a"'


def test_a_bad_element_of_a_json_array_is_a_row_with_its_number_and_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '[{"question": "q", "answer": "a"}, 5, {"question": q}, null, {"question": "}]", "answer": "x"}]'
    )
    assert [(row, fault) for row, fault, _, _ in answers(tmp_path / "a.json")] == [
        (0, None),
        (1, "not_an_object"),
        (2, "broken_json"),
        (3, "not_an_object"),
        (4, None),
    ]


def test_a_bad_line_far_into_a_file_keeps_its_number(tmp_path: Path) -> None:
    line = json.dumps({"question": "q", "answer": "x" * 1000}) + "\n"
    (tmp_path / "a.jsonl").write_text(line * 9000 + "{broken\n" + line * 10)  # three blocks
    faults = [(row["row"], row["fault"]) for row in rows_of(tmp_path / "a.jsonl") if row["fault"]]
    assert faults == [(9000, "broken_json")]


def test_a_line_of_60_mb_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("w") as file:
        file.write('{"question": "q", "answer": "a"}\n')
        file.write('{"question": "long", "answer": "' + "x" * 60_000_000 + '"}\n')
        file.write('{"question": "q", "answer": "b"}\n')
    tables = list(read(str(tmp_path / "a.jsonl"), QA))
    lengths = [len(answer) for table in tables for answer in table["answer"].to_pylist()]
    assert lengths == [1, 60_000_000, 1]


def test_a_line_over_the_limit_is_oversize_and_the_next_is_read() -> None:
    def parts() -> Any:
        yield bytearray(b'{"a": "')
        for _ in range(MAX_ROW_BYTES // (8 << 20) + 2):
            yield bytearray(8 << 20)
        yield bytearray(b'"}\n{"a": "b"}\n')

    blocks = [(block.fault, len(block.starts), block.row(0)[:10]) for block in split_lines(parts())]
    assert blocks == [("oversize", 1, b'{"a": "\0\0\0'), (None, 1, b'{"a": "b"}')]


def test_a_column_that_only_later_rows_have_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "q"}\n' * 3 + '{"question": "q", "answer": "a"}\n')
    assert [row[3] for row in answers(tmp_path / "a.jsonl")] == [None, None, None, "a"]


@pytest.mark.parametrize("after", ['\n[{"question": "r", "answer": "b"}]', "xyz", ' {"question": "r"}'])
def test_text_after_a_json_array_is_an_error_and_not_lost(tmp_path: Path, after: str) -> None:
    (tmp_path / "a.json").write_text('[{"question": "q", "answer": "a"}]' + after)
    with pytest.raises(InputError, match=r"text follows the end of the JSON array"):
        list(read(str(tmp_path / "a.json"), QA))


@pytest.mark.parametrize("ending", ["", ", ", ', {"question": "q", "answer'])
@pytest.mark.fault("a truncated JSON array", "its complete rows, then an error")
def test_a_truncated_json_array_returns_its_complete_rows_and_then_an_error(tmp_path: Path, ending: str) -> None:
    (tmp_path / "a.json").write_text('[{"question": "q", "answer": "a"}' + ending)
    with pytest.raises(
        InputError, match=r"a\.json: cannot be read beyond its first \d rows: the JSON array does not end"
    ):
        list(read(str(tmp_path / "a.json"), QA))


def test_a_json_file_without_rows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"question": ["q"], "answer": ["a", "b"]}')
    with pytest.raises(InputError, match=r"a\.json: its columns question, answer are of different lengths"):
        list(read(str(tmp_path / "a.json"), QA))


def test_objects_of_mixed_types_keep_their_spelling(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"a": 1.0, "b": [2, true]}, 7, {"a": nope}]')
    assert [(row, value, fault) for row, value, fault, _ in read_objects(str(tmp_path / "a.json"))] == [
        (0, {"a": "1.0", "b": ["2", True]}, None),
        (1, None, "not_an_object"),
        (2, None, "broken_json"),
    ]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(JSON_VALUES, max_size=8), pieces=st.integers(1, 40), indent=st.sampled_from([None, 1]))
def test_a_json_array_split_into_any_blocks_has_the_same_elements(
    values: list[Any], pieces: int, indent: int | None
) -> None:
    data = json.dumps(values, indent=indent, ensure_ascii=False).encode()
    parts = iter([bytearray(data[i : i + pieces]) for i in range(0, len(data), pieces)])
    assert [json.loads(block.row(i)) for block in split_array(parts) for i in range(len(block.starts))] == values


@settings(max_examples=40, deadline=None)
@given(lines=st.lists(st.text("ab \r", max_size=6), max_size=8), pieces=st.integers(1, 20))
def test_lines_split_into_any_blocks_are_the_same(lines: list[str], pieces: int) -> None:
    data = "\n".join(lines).encode()
    parts = iter([bytearray(data[i : i + pieces]) for i in range(0, len(data), pieces)])
    found = [block.row(i).decode() for block in split_lines(parts) for i in range(len(block.starts))]
    assert found == [line.removesuffix("\r") for line in lines if line.removesuffix("\r")]


# Shapes

ROW_1, ROW_2 = {"question": "q1", "answer": "a1"}, {"question": "q2", "answer": "a2"}
BOTH = [(0, None, "q1", "a1"), (1, None, "q2", "a2")]

SHAPES: dict[str, str] = {
    "array": json.dumps([ROW_1, ROW_2]),
    "pretty array": json.dumps([ROW_1, ROW_2], indent=2),
    "pretty objects": json.dumps(ROW_1, indent=2) + "\n" + json.dumps(ROW_2, indent=2) + "\n",
    "objects on one line": json.dumps(ROW_1) + json.dumps(ROW_2),
    "objects on one of several lines": json.dumps(ROW_1) + " " + json.dumps(ROW_2) + "\n\n",
    "lines": json.dumps(ROW_1) + "\n" + json.dumps(ROW_2),
    "lines with commas": json.dumps(ROW_1) + ",\n" + json.dumps(ROW_2) + ",\n",
    "lines that end with a carriage return": json.dumps(ROW_1) + "\r" + json.dumps(ROW_2) + "\r",
    "below a key": json.dumps({"version": "1", "rows": [ROW_1, ROW_2]}),
    "below several keys": json.dumps({"a": 1, "b": {"c": [1], "d": [ROW_1, ROW_2]}}, indent=1),
    "after another array": json.dumps({"licences": [{"name": "MIT"}], "rows": [ROW_1, ROW_2], "after": [{}]}),
    "in objects of an array": json.dumps({"data": [{"title": "t", "items": [ROW_1]}, {"items": [ROW_2]}]}),
    "by id": json.dumps({"one": ROW_1, "two": ROW_2}),
    "by id below a key": json.dumps({"meta": {"answer": 1}, "rows": {"one": ROW_1, "two": ROW_2}}),
    "columns as lists": json.dumps({"question": ["q1", "q2"], "answer": ["a1", "a2"]}),
    "columns by index": json.dumps({"question": {"0": "q1", "1": "q2"}, "answer": {"0": "a1", "1": "a2"}}),
    "split": json.dumps({"columns": ["question", "answer"], "index": [0, 1], "data": [["q1", "a1"], ["q2", "a2"]]}),
    "table": json.dumps({"schema": {"fields": [{"name": "question"}, {"name": "answer"}]}, "data": [ROW_1, ROW_2]}),
}


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize("shape", SHAPES)
def test_json_is_read_in_the_shapes_that_people_write(tmp_path: Path, shape: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_text(SHAPES[shape], newline="")
    assert answers(path) == BOTH


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_one_object_is_one_row(tmp_path: Path, suffix: str) -> None:
    for indent in (None, 1):
        (tmp_path / f"a.{suffix}").write_text(json.dumps(ROW_1, indent=indent))
        assert answers(tmp_path / f"a.{suffix}") == BOTH[:1]


def test_rows_in_several_places_are_an_error_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"train": [ROW_1, ROW_2], "test": [ROW_2]}))
    with pytest.raises(InputError, match=r"a\.json: .* in several places: train \(2 rows\), test \(1 rows\)"):
        list(read(str(tmp_path / "a.json"), QA))


def test_the_error_for_rows_that_are_nowhere_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"licences": [{"name": "MIT"}], "rows": [{"q": "x", "answer": "y"}]}))
    with pytest.raises(
        InputError, match=r"a\.json: no column 'question' \(the file has: licences: name; rows: q, answer\)"
    ):
        list(read(str(tmp_path / "a.json"), QA))


def test_the_rows_of_an_object_too_large_to_hold_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.formats.json.MAX_DOCUMENT_BYTES", 1 << 20)
    rows = [{"question": f"q{i}", "answer": "x" * 1000} for i in range(3000)]
    for indent in (None, 1):
        document = {"info": {"list": [ROW_1]}, "licences": [{"name": "MIT"}] * 3, "rows": rows}
        (tmp_path / "a.json").write_text(json.dumps(document, indent=indent))
        assert [row[2] for row in answers(tmp_path / "a.json")] == [row["question"] for row in rows]
        with pytest.raises(InputError, match=r"no column 'questions' .*did you mean 'question'"):
            list(read(str(tmp_path / "a.json"), text_columns("questions", "answer")))


def test_a_broken_object_over_several_lines_is_one_row_with_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{\n"question": "q1",\n"answer": "a1"\n}\n{\n"question": \n}\n{"question": "q3"}\n'
    )
    assert [row[:2] for row in answers(tmp_path / "a.jsonl")] == [(0, None), (1, "broken_json"), (2, None)]
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW_1, indent=1) + "\n" + json.dumps(ROW_2, indent=1)[:-2])
    with pytest.raises(InputError, match=r"cannot be read beyond its first 1 rows: a JSON value does not end"):
        list(read(str(tmp_path / "a.jsonl"), QA))


def test_a_broken_first_line_is_a_row_with_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "q", "answer": "a"\n' + json.dumps(ROW_2) + "\n")
    assert [row[:2] for row in answers(tmp_path / "a.jsonl")] == [(0, "broken_json"), (1, None)]


def test_the_first_line_may_be_longer_than_a_block(tmp_path: Path) -> None:
    long = {"question": "q", "answer": "x" * 3_000_000}
    (tmp_path / "a.jsonl").write_text(json.dumps(long) + "\n" + json.dumps(ROW_2) + "\n")
    assert [row[2] for row in answers(tmp_path / "a.jsonl")] == ["q", "q2"]


# Columns that appear late


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_a_key_that_first_appears_far_into_a_file_is_a_column(tmp_path: Path, suffix: str) -> None:
    early = json.dumps({"question": "q", "other": {"answer": "no"}, "text": '"answer": 1' + "x" * 200}) + "\n"
    late = json.dumps({"question": "q", "answer": "a"}) + "\n"
    path = tmp_path / f"a.{suffix}"

    def write(text: str) -> None:
        path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())

    write(early * 25_000 + late + early)
    found = [row[3] for row in answers(path)]
    assert found == [*[None] * 25_000, "a", None]
    write(early * 25_000)
    with pytest.raises(InputError, match=r"no column 'answer' \(the file has: question, other\.answer, text\)"):
        next(read(str(path), QA))


def test_a_key_that_appears_late_may_be_escaped_or_nested(tmp_path: Path) -> None:
    early, columns = '{"q": "x"}\n' * 30_000, text_columns("q", "é")
    for key in ('"é"', '"\\u00e9"'):
        (tmp_path / "a.jsonl").write_text(early + f'{{"q": "x", {key} : "late"}}\n', encoding="utf-8")
        assert rows_of(tmp_path / "a.jsonl", columns)[-1]["é"] == "late"
    (tmp_path / "a.jsonl").write_text(early + '{"q": "x", "r": {"s": "late"}}\n')
    assert rows_of(tmp_path / "a.jsonl", text_columns("q", "r.s"))[-1]["r.s"] == "late"
