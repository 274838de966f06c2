"""Every format returns the same rows; a file that cannot be read is an error that names it."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from pipelines.errors import InputError
from pipelines.formats.read import FORMATS, column_names, read, text_columns
from tests.pipelines.formats.files import QA, ROWS, WRITERS, answers


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


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    for name, data in (
        ("a.csv", "question,answer\nq,a\n"),
        ("a.jsonl", '{"question": "q", "answer": "a"}\n'),
        ("a.json", '[{"question": "q", "answer": "a"}]'),
    ):
        (tmp_path / name).write_text(data, encoding="utf-8-sig")
        assert answers(tmp_path / name) == [(0, None, "q", "a")]


def test_the_error_for_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.jsonl: no such file"):
        next(read(str(tmp_path / "nowhere.jsonl"), QA))


def test_an_unknown_suffix_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "a.jsnl").write_text("")
    with pytest.raises(InputError, match=r"unknown format '\.jsnl'; did you mean '\.json"):
        next(read(str(tmp_path / "a.jsnl"), QA))


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[write.__name__ for _, write in WRITERS])
def test_the_error_for_a_missing_column_names_it_and_the_columns_of_the_file(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    path = tmp_path / name
    write(path)
    with pytest.raises(
        InputError, match=r"a\.\w+: no column 'questions' \(the file has: .*question.*\); did you mean 'question'"
    ):
        next(read(str(path), text_columns("questions", "answer")))
    assert (
        next(read(str(path), text_columns("questions", "answer"), optional=["questions"]))["questions"].null_count > 0
    )


@pytest.mark.parametrize(("suffix", "compress"), [("gz", gzip.compress), ("zst", zstandard.compress)])
@pytest.mark.fault("a truncated compressed file", "the rows before, then an error")
def test_a_truncated_stream_returns_the_rows_before_the_damage_and_then_an_error(
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


def test_the_error_for_a_damaged_gzip_names_the_file(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(json.dumps(ROWS).encode()))
    whole[60:80] = b"\0" * 20
    (tmp_path / "a.json.gz").write_bytes(whole)
    with pytest.raises(InputError, match=r"a\.json\.gz: truncated or damaged"):
        list(read(str(tmp_path / "a.json.gz"), QA))


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[write.__name__ for _, write in WRITERS])
def test_the_columns_of_every_format_are_found(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    path = tmp_path / name
    write(path)
    assert {"question", "answer"} <= set(column_names(str(path))) <= {"question", "answer", "other"}


def test_every_suffix_is_tested() -> None:
    # `.ipc` and `.feather` are further names for Arrow files.
    assert {f".{name.split('.')[1]}" for name, _ in WRITERS} == FORMATS.keys() - {".ipc", ".feather"}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet", ".arrow"])
def test_a_compressed_file_without_its_suffix_is_named_as_such(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    rows = "".join(f'{{"q": "What is {row} and {row * row}?", "a": "{row}"}}\n' for row in range(99))
    path.write_bytes(gzip.compress(rows.encode()))
    with pytest.raises(InputError, match=rf"a\{suffix}: it is compressed with gzip: rename it to a\{suffix}\.gz"):
        list(read(str(path), text_columns("q", "a")))
