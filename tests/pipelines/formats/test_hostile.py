"""Files made to do harm: the answer is rows or an InputError that names the file, in little memory and soon."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.errors import InputError
from pipelines.formats.read import column_names, first_rows, read
from tests.pipelines.formats.files import QA, as_csv, as_jsonl, as_parquet

NAMED = "an error that names the file"


@pytest.mark.fault("thousands of faulty objects on one JSON line", "each is a row with its own text")
def test_the_text_of_a_faulty_object_is_its_own_not_that_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    objects = 20_000
    path.write_text('{"question": ["\\ud83d\\ude00", 1], "answer": "b"}' * objects + "\n")
    tables = list(read(str(path), QA))
    assert sum(table.num_rows for table in tables) == objects
    assert max(table.nbytes for table in tables) < 100 * objects
    assert set(tables[0]["fault"].to_pylist()) == {"wrong_type"}


@pytest.mark.fault("a JSON object with a hundred thousand keys, each twice", "a row with `repeated_key`")
def test_keys_that_are_there_twice_are_found_in_one_pass(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    keys = ", ".join(f'"{index}": 0' for index in range(100_000))
    path.write_text(
        '{"question": "q", "answer": "a"}\n' + f'{{"question": 1, "question": 2, "answer": 3, {keys}, {keys}}}\n'
    )
    assert [row for table in read(str(path), QA) for row in table["fault"].to_pylist()] == [None, "repeated_key"]


@pytest.mark.fault("JSON nested 900 deep", NAMED)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_deep_nesting_is_an_error_or_a_row(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text('{"question": "\\ud83d", "answer": ' + '{"a":' * 900 + "1" + "}" * 900 + "}")
    for call in (lambda: list(read(str(path), QA)), lambda: first_rows(str(path)), lambda: column_names(str(path))):
        try:
            call()
        except InputError as error:
            assert name in str(error)


@pytest.mark.fault("an input that this user may not read", "permission denied, and not: fetch it again")
@pytest.mark.parametrize("write", [as_jsonl, as_csv, as_parquet])
def test_permission_denied_is_said_so(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / f"a.{write.__name__.removeprefix('as_')}"
    write(path)
    path.chmod(0)
    with ordinary_user(tmp_path), pytest.raises(InputError, match=f"{path}: permission denied; let this") as raised:
        list(read(str(path), QA))
    assert "fetch" not in str(raised.value)


@contextlib.contextmanager
def ordinary_user(folder: Path) -> Iterator[None]:
    """Be a user who may not read all files, but may enter this folder."""
    if os.geteuid():
        yield
        return
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
