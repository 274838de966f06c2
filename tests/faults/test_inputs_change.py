"""An input that changes after a build has named it: the build ends with a message, and nothing is kept of it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import InputError
from pipelines.formats.read import read, text_columns
from pipelines.ledger import input_files, storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import Progress, Run
from pipelines.recipe import Recipe
from pipelines.steps.ingest import ingest

ROWS = 3_000


def rows(letter: str, count: int = ROWS) -> list[dict[str, str]]:
    return [{"q": f"question {i:06d} {letter * 50}", "a": f"answer {i:06d}"} for i in range(count)]


def jsonl(letter: str, count: int = ROWS) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows(letter, count)).encode()


def parquet(path: Path, letter: str, count: int = ROWS) -> None:
    table = pa.Table.from_pylist(rows(letter, count))
    pq.write_table(table, path, compression="none", use_dictionary=False, row_group_size=500)


def recipe(path: Path | str) -> Recipe:
    source = {
        "name": "mine",
        "path": str(path),
        "columns": {"instruction": "q", "response": "a"},
        "condition": "direct",
    }
    return Recipe.model_validate({"name": "test", "sources": [source]})


def ingest_while(path: Path | str, root: Path, change: Callable[[], None], workers: int) -> Manifest:
    """Ingest a file that is changed once its identity was found: the first report of a phase comes after it."""
    changed = False

    def watch(progress: Progress) -> None:
        nonlocal changed
        if not changed:
            changed = True
            change()

    with LocalEngine(workers) as engine:
        return ingest(Run(str(root), engine, watch=watch), recipe(path))


def settle() -> None:
    time.sleep(input_files.SETTLED_NANOSECONDS / 1e9 + 0.1)


def rewritten(path: Path) -> None:
    """Other bytes of the same number, with the time of the file set back."""
    was, data = path.stat(), path.read_bytes()
    with path.open("r+b") as file:
        file.write(data.replace(b"x" * 50, b"y" * 50))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes().replace(b"x" * 50, b"y" * 50))
    was = path.stat()
    os.utime(other, ns=(was.st_atime_ns, was.st_mtime_ns))
    other.replace(path)


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(jsonl("z", 10))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def removed(path: Path) -> None:
    path.unlink()


CHANGES = (rewritten, replaced, appended, cut, removed)


@pytest.mark.fault("an input changes between its digest and its reading", "exit with the file's name, nothing kept")
@pytest.mark.parametrize(("kind", "settled"), [("jsonl", True), ("jsonl", False), ("parquet", False)])
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_before_it_is_read_ends_the_build(
    tmp_path: Path, change: Callable[[Path], None], kind: str, settled: bool
) -> None:
    path = tmp_path / f"data.{kind}"
    path.write_bytes(jsonl("x")) if kind == "jsonl" else parquet(path, "x")
    if settled:
        settle()
    with pytest.raises(InputError, match=r"data\.\w+: .*(changed|no such file).*build again"):
        ingest_while(path, tmp_path / "root", lambda: change(path), 1)
    assert not list((tmp_path / "root").rglob("manifest.json"))


@pytest.mark.fault("an input changes while it is read", "exit with the file's name, nothing kept")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_file_that_changes_while_it_is_read_ends_the_build(
    tmp_path: Path, change: Callable[[Path], None], kind: str
) -> None:
    path = tmp_path / f"data.{kind}"
    path.write_bytes(jsonl("x", 20 * ROWS)) if kind == "jsonl" else parquet(path, "x", 20 * ROWS)
    (begun,) = input_files.identities([str(path)], str(tmp_path / "root"))
    tables = read(str(path), text_columns("q"))
    with pytest.raises(InputError, match="changed while it was read"), input_files.unchanged(str(path), begun):
        assert next(tables)["q"][0].as_py().endswith("x")
        change(path)
        assert sum(table.num_rows for table in tables)


@pytest.mark.fault("an input is written to without pause", "exit with the file's name, or rows of the bytes it names")
def test_the_rows_of_a_file_that_is_written_to_are_those_of_its_digest(tmp_path: Path) -> None:
    path, check = tmp_path / "data.jsonl", tmp_path / "check.jsonl"
    path.write_bytes(jsonl("0"))
    stop = threading.Event()

    def write() -> None:
        for number in range(1, 10**9):
            if stop.is_set():
                return
            with path.open("r+b") as file:
                file.write(jsonl("0").replace(b"0" * 50, f"{number:050d}".encode()))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for attempt in range(10):
            try:
                manifest = ingest_while(path, tmp_path / str(attempt), lambda: None, 1)
            except InputError as error:
                assert "changed" in str(error)
                continue
            ((_, _, digest),) = manifest.parameters["sources"][0]["files"]
            records = [{"q": row["instruction"], "a": row["response"]} for row in _records(manifest)]
            check.write_bytes("".join(json.dumps(row) + "\n" for row in records).encode())
            assert input_files.identity(str(check)) == digest
    finally:
        stop.set()
        writer.join()


@pytest.mark.fault("a remote input changes between its identity and its reading", "exit with the file's address")
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_an_object_that_changes_before_it_is_read_ends_the_build(s3: str, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"data.{kind}"

    def put(letter: str) -> None:
        path.write_bytes(jsonl(letter)) if kind == "jsonl" else parquet(path, letter)
        storage.write_bytes(f"{s3}/{path.name}", path.read_bytes())

    put("x")
    with pytest.raises(InputError, match=rf"{s3}/data\.\w+: it changed while it was read; build again"):
        ingest_while(f"{s3}/{path.name}", tmp_path / "root", lambda: put("y"), 1)
    assert not list((tmp_path / "root").rglob("manifest.json"))


def test_a_file_whose_times_alone_change_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(jsonl("x"))
    settle()
    assert ingest_while(path, tmp_path / "root", path.touch, 1).rows_kept == ROWS


def _records(manifest: Manifest) -> Iterator[dict[str, Any]]:
    for shard in manifest.shards:
        yield from pq.read_table(shard.path).to_pylist()
