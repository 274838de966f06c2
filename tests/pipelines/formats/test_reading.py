"""Reading files of rows: every row comes out under its number, and what is wrong with one is said."""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.formats import cutting
from pipelines.formats.pairs import MESSAGES, exchange, interleave, join_input, raw, read_pairs
from pipelines.formats.reading import Layout, read, read_objects, text

QA = text("question", "answer")
ROWS = [{"question": f"What is {i} + {i}?", "answer": f"It is {2 * i} – naïvely", "other": [i]} for i in range(50)]


def rows_of(path: Path, columns: pa.Schema = QA, **options: Any) -> list[dict[str, Any]]:
    return pa.concat_tables(list(read(str(path), columns, **options))).to_pylist()


def answers(path: Path, **options: Any) -> list[tuple[Any, ...]]:
    return [(row["row"], row["fault"], row["question"], row["answer"]) for row in rows_of(path, **options)]


def as_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def as_json(path: Path) -> None:
    path.write_text(json.dumps(ROWS, indent=2))


def as_json_holder(path: Path) -> None:
    path.write_text(
        json.dumps({"version": [1, 2], "meta": {"list": [{"question": "no"}]}, "rows": ROWS, "after": [{}]})
    )


def as_json_that_is_jsonl(path: Path) -> None:
    as_jsonl(path)


def as_csv(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["other", "question", "answer"])
        writer.writeheader()
        writer.writerows(ROWS)


def as_tsv(path: Path) -> None:
    path.write_text("question\tanswer\n" + "".join(f"{row['question']}\t{row['answer']}\n" for row in ROWS))


def as_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=7)


def as_arrow_file(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=9)


def as_arrow_stream(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=9)


WRITERS: list[tuple[str, Callable[[Path], None]]] = [
    ("a.jsonl", as_jsonl),
    ("a.ndjson", as_jsonl),
    ("a.json", as_json),
    ("a.json", as_json_holder),
    ("a.json", as_json_that_is_jsonl),
    ("a.csv", as_csv),
    ("a.tsv", as_tsv),
    ("a.parquet", as_parquet),
    ("a.arrow", as_arrow_file),
    ("a.arrow", as_arrow_stream),
]


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[write.__name__ for _, write in WRITERS])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    path = tmp_path / name
    write(path)
    assert answers(path) == [(i, None, row["question"], row["answer"]) for i, row in enumerate(ROWS)]


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".zst", zstandard.compress)]
)
@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[write.__name__ for _, write in WRITERS])
def test_every_format_is_read_compressed(
    tmp_path: Path, name: str, write: Callable[[Path], None], suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    plain = tmp_path / name
    write(plain)
    path = tmp_path / (name + suffix)
    path.write_bytes(compress(plain.read_bytes()))
    assert answers(path) == [(i, None, row["question"], row["answer"]) for i, row in enumerate(ROWS)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.jsonl.gz"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
    assert list(read(str(path), QA)) == []


# Bad rows


def test_a_bad_line_is_a_row_with_its_number_and_its_neighbours_are_read(tmp_path: Path) -> None:
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
        (7, "broken_json", None, None),
        (8, None, "q", "4.50"),
        (9, None, "12345678901234567890", "true"),
        (10, None, "q", None),
        (11, None, "q", None),
        (12, None, "q", "a"),
    ]
    assert rows_of(tmp_path / "a.jsonl")[1]["broken"] == '{"question": "q", "answer": "a"'


def test_a_bad_row_of_a_json_array_is_a_row_with_its_number(tmp_path: Path) -> None:
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


def test_a_csv_row_with_too_many_fields_or_bad_bytes_is_a_row_with_its_number(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'question,answer\nq,"a, b\nc ""d"""\nq,a,extra\nq\n\nq,\xff\nq,z\n')
    assert answers(tmp_path / "a.csv") == [
        (0, None, "q", 'a, b\nc "d"'),
        (1, "wrong_columns", None, None),
        (2, "wrong_columns", None, None),
        (3, "invalid_utf8", None, None),
        (4, None, "q", "z"),
    ]


def test_bytes_that_are_no_text_in_parquet_are_a_row_with_its_number(tmp_path: Path) -> None:
    table = pa.table({"question": pa.array([b"q", b"q\xff", None], pa.binary()), "answer": ["a", "a", "a"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert answers(tmp_path / "a.parquet") == [
        (0, None, "q", "a"),
        (1, "invalid_utf8", None, None),
        (2, None, None, "a"),
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
        for _ in range(cutting.ROW_LIMIT // (8 << 20) + 2):
            yield bytearray(8 << 20)
        yield bytearray(b'"}\n{"a": "b"}\n')

    cuts = [(cut.fault, len(cut.starts), cut.row(0)[:10]) for cut in cutting.lines(parts())]
    assert cuts == [("oversize", 1, b'{"a": "\0\0\0'), (None, 1, b'{"a": "b"}')]


# Files that cannot be read


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.jsonl: no such file"):
        next(read(str(tmp_path / "nowhere.jsonl"), QA))


def test_an_unknown_suffix_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "a.jsnl").write_text("")
    with pytest.raises(InputError, match=r"unknown format '\.jsnl'; did you mean '\.json"):
        next(read(str(tmp_path / "a.jsnl"), QA))


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[write.__name__ for _, write in WRITERS])
def test_a_missing_column_is_named_with_those_that_there_are(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    path = tmp_path / name
    write(path)
    with pytest.raises(
        InputError, match=r"a\.\w+: no column 'questions' \(the file has: .*question.*\); did you mean 'question'"
    ):
        next(read(str(path), text("questions", "answer")))
    assert next(read(str(path), text("questions", "answer"), optional=["questions"]))["questions"].null_count > 0


def test_a_column_that_only_later_rows_have_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "q"}\n' * 3 + '{"question": "q", "answer": "a"}\n')
    assert [row[3] for row in answers(tmp_path / "a.jsonl")] == [None, None, None, "a"]


@pytest.mark.parametrize(("suffix", "compress"), [("gz", gzip.compress), ("zst", zstandard.compress)])
def test_a_truncated_stream_gives_the_rows_before_it_and_then_names_the_file(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    rows = (json.dumps({"question": f"q{i}", "answer": hashlib.sha256(b"%d" % i).hexdigest()}) for i in range(40_000))
    whole = compress("\n".join(rows).encode())
    path = tmp_path / f"a.jsonl.{suffix}"
    path.write_bytes(whole[: len(whole) // 2])
    seen = 0
    with pytest.raises(
        InputError, match=rf"a\.jsonl\.{suffix}: truncated or damaged after its first \d{{4,}} rows"
    ) as problem:
        for table in read(str(path), QA):
            seen += table.num_rows
    assert f"first {seen} rows" in str(problem.value) and seen > 5_000


def test_a_damaged_gzip_is_named(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(json.dumps(ROWS).encode()))
    whole[60:80] = b"\0" * 20
    (tmp_path / "a.json.gz").write_bytes(whole)
    with pytest.raises(InputError, match=r"a\.json\.gz: truncated or damaged"):
        list(read(str(tmp_path / "a.json.gz"), QA))


@pytest.mark.parametrize(("name", "write"), WRITERS[-3:], ids=["parquet", "arrow_file", "arrow_stream"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_truncated_parquet_or_arrow_file_is_named(
    tmp_path: Path, name: str, write: Callable[[Path], None], share: float
) -> None:
    path = tmp_path / name
    write(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=rf"{name}: truncated or damaged after its first \d+ rows"):
        list(read(str(path), QA))


@pytest.mark.parametrize("ending", ["", ", ", ', {"question": "q", "answer'])
def test_a_truncated_json_array_gives_its_whole_rows_and_then_names_the_file(tmp_path: Path, ending: str) -> None:
    (tmp_path / "a.json").write_text('[{"question": "q", "answer": "a"}' + ending)
    with pytest.raises(
        InputError, match=r"a\.json: cannot be read beyond its first \d rows: the JSON array does not end"
    ):
        list(read(str(tmp_path / "a.json"), QA))


def test_a_json_file_without_rows_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"question": ["q"], "answer": ["a"]}')
    with pytest.raises(InputError, match=r"a\.json: .*no JSON array of objects"):
        list(read(str(tmp_path / "a.json"), QA))


def test_a_quote_that_is_never_closed_is_an_error_since_it_swallows_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('question,answer\nq,a\nq,"a\nq,a\nq,a\n')
    with pytest.raises(InputError, match=r"a\.csv: cannot be read beyond its first 1 rows: it opens a quote"):
        list(read(str(tmp_path / "a.csv"), QA))


def test_a_column_of_lists_is_no_text(tmp_path: Path) -> None:
    as_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"column 'other' is list<.*>, not text"):
        list(read(str(tmp_path / "a.parquet"), text("other")))


# Ways of writing the same


def test_columns_of_other_types_are_read_as_text(tmp_path: Path) -> None:
    table = pa.table(
        {
            "question": pa.array(["q", "r"], pa.large_string()).dictionary_encode(),
            "answer": pa.array([1, None], pa.int64()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert answers(tmp_path / "a.parquet") == [(0, None, "q", "1"), (1, None, "r", None)]


def test_a_tsv_without_quotes_and_header_keeps_its_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('"q" one\ta "b\nq\n"x\ty\n')
    layout = Layout("\t", quoted=False, names=("question", "answer"))
    assert answers(tmp_path / "a.tsv", layout=layout) == [
        (0, None, '"q" one', 'a "b'),
        (1, "wrong_columns", None, None),
        (2, None, '"x', "y"),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    for name, data in (
        ("a.csv", "question,answer\nq,a\n"),
        ("a.jsonl", '{"question": "q", "answer": "a"}\n'),
        ("a.json", '[{"question": "q", "answer": "a"}]'),
    ):
        (tmp_path / name).write_text(data, encoding="utf-8-sig")
        assert answers(tmp_path / name) == [(0, None, "q", "a")]


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
def test_cutting_a_json_array_anywhere_finds_its_elements(values: list[Any], pieces: int, indent: int | None) -> None:
    data = json.dumps(values, indent=indent, ensure_ascii=False).encode()
    parts = iter([bytearray(data[i : i + pieces]) for i in range(0, len(data), pieces)])
    assert [json.loads(cut.row(i)) for cut in cutting.elements(parts) for i in range(len(cut.starts))] == values


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.text('ab,"\n\t é', max_size=6), min_size=2, max_size=2), min_size=1, max_size=8),
    pieces=st.integers(1, 40),
)
def test_cutting_a_csv_file_anywhere_finds_its_rows(rows: list[list[str]], pieces: int) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerows(rows)
    data = written.getvalue().encode()
    parts = iter([bytearray(data[i : i + pieces]) for i in range(0, len(data), pieces)])
    cuts = list(cutting.delimited(parts, ",", quoted=True))
    found = [
        next(csv.reader(io.StringIO(cut.row(i).decode(), newline=""))) for cut in cuts for i in range(len(cut.starts))
    ]
    assert found == rows
    assert all(count == 2 for cut in cuts if cut.fields is not None for count in cut.fields)


@settings(max_examples=40, deadline=None)
@given(lines=st.lists(st.text("ab \r", max_size=6), max_size=8), pieces=st.integers(1, 20))
def test_cutting_lines_anywhere_finds_them(lines: list[str], pieces: int) -> None:
    data = "\n".join(lines).encode()
    parts = iter([bytearray(data[i : i + pieces]) for i in range(0, len(data), pieces)])
    found = [cut.row(i).decode() for cut in cutting.lines(parts) for i in range(len(cut.starts))]
    assert found == [line.removesuffix("\r") for line in lines if line.removesuffix("\r")]


# Pairs


def test_a_row_that_could_not_be_read_keeps_its_fault_and_comes_once(tmp_path: Path) -> None:
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
    found = exchange(pa.chunked_array([pa.array([conversation], MESSAGES)]))
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
