"""A file is created once, however many try: on a local disk, in memory, and on an S3 API."""

from __future__ import annotations

import errno
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.ledger import storage


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    name = uuid.uuid4().hex
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/{name}"
    return str(tmp_path / name) if request.param == "local" else f"memory://{name}"


def test_a_file_is_created_where_there_is_none_and_left_alone_where_there_is_one(folder: str) -> None:
    path = f"{folder}/a/b.json"
    assert storage.create(path, b"first")
    assert not storage.create(path, b"second")
    assert storage.read_bytes(path) == b"first"
    assert storage.files(f"{folder}/a") == ["b.json"]


def test_creating_the_same_bytes_again_counts_as_created(folder: str) -> None:
    """The reply to a request that succeeded may be lost; the request is then sent again."""
    assert storage.create(f"{folder}/a", b"first") and storage.create(f"{folder}/a", b"first")


def test_of_many_that_create_a_file_at_once_one_does(folder: str) -> None:
    writers = [uuid.uuid4().bytes for _ in range(16)]
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda data: storage.create(f"{folder}/a", data), writers))
    assert created.count(True) == 1
    assert storage.read_bytes(f"{folder}/a") == writers[created.index(True)]


def test_a_file_system_without_hard_links_does_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    assert storage.create(f"{tmp_path}/a", b"first") and not storage.create(f"{tmp_path}/a", b"second")
    assert storage.read_bytes(f"{tmp_path}/a") == b"first" and storage.files(str(tmp_path)) == ["a"]


def test_a_file_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        storage.create(f"{tmp_path}/file/a", b"")
