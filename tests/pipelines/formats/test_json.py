"""JSON lines and JSON arrays: every row is returned with its number, a bad one with its fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.formats.blocks import MAX_ROW_BYTES
from pipelines.formats.json import split_array, split_lines
from pipelines.formats.read import read, read_objects
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


@pytest.mark.parametrize("ending", ["", ", ", ', {"question": "q", "answer'])
def test_a_truncated_json_array_returns_its_complete_rows_and_then_an_error(tmp_path: Path, ending: str) -> None:
    (tmp_path / "a.json").write_text('[{"question": "q", "answer": "a"}' + ending)
    with pytest.raises(
        InputError, match=r"a\.json: cannot be read beyond its first \d rows: the JSON array does not end"
    ):
        list(read(str(tmp_path / "a.json"), QA))


def test_a_json_file_without_rows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"question": ["q"], "answer": ["a", "b"]}')
    with pytest.raises(
        InputError, match=r"a\.json: its columns question, answer are of different lengths \(\[1, 2\]\)"
    ):
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
