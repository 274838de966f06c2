"""Storage behaves the same on a local file system and on an object store."""

from __future__ import annotations

import os
import stat
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipelines.errors import InputError
from pipelines.ledger import input_files, storage


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path: Path) -> str:
    return str(tmp_path / "root") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def test_a_local_copy_has_the_bytes_of_the_file(root: str) -> None:
    storage.write_bytes(f"{root}/a/b.bin", b"123")
    with storage.local_copy(f"{root}/a/b.bin") as path:
        assert Path(path).read_bytes() == b"123" and Path(path).name == "b.bin"
        assert (path == f"{root}/a/b.bin") == storage.is_local(root)
    assert Path(path).exists() == storage.is_local(root)


def test_a_local_copy_of_nothing_is_an_error(root: str) -> None:
    with pytest.raises(FileNotFoundError), storage.local_copy(f"{root}/none") as path:
        Path(path).read_bytes()


def test_files_and_folders_are_listed_apart(root: str) -> None:
    assert storage.files(root) == storage.folders(root) == []
    for name in ("b.txt", "a.txt", "inner/c.txt"):
        storage.write_bytes(f"{root}/{name}", b"")
    assert storage.files(root) == ["a.txt", "b.txt"] and storage.folders(root) == ["inner"]
    assert storage.is_folder(f"{root}/inner") and not storage.is_folder(f"{root}/a.txt")


def test_the_end_of_a_file_is_read_without_the_rest(root: str) -> None:
    storage.write_bytes(f"{root}/a", b"0123456789")
    assert storage.read_tail(f"{root}/a", 3) == b"789" and storage.read_tail(f"{root}/a", 99) == b"0123456789"
    assert storage.read_tail(f"{root}/none", 3) == b""


def test_the_time_of_writing_is_known(root: str) -> None:
    before = time.time()
    storage.write_bytes(f"{root}/a", b"")
    assert before - 2 < storage.modified(f"{root}/a") < time.time() + 2


def test_a_folder_appears_complete_or_not_at_all(root: str) -> None:
    with pytest.raises(RuntimeError), storage.write_folder(f"{root}/out", last="z") as aside:
        (aside / "a").write_text("1")
        raise RuntimeError
    assert storage.files(f"{root}/out") == [] and storage.folders(root) == []
    for text in ("1", "2"):  # the second replaces the first
        with storage.write_folder(f"{root}/out", last="z") as aside:
            (aside / "z").write_text(text)
            (aside / "inner").mkdir()
            (aside / "inner" / "a").write_text(text)
    assert storage.read_bytes(f"{root}/out/z") == storage.read_bytes(f"{root}/out/inner/a") == b"2"


def test_files_have_the_mode_that_the_umask_gives_whatever_wrote_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with storage.write_folder(f"{tmp_path}/out") as aside:
            (aside / "inner").mkdir()
            save_file({"a": np.zeros(1)}, aside / "inner" / "private")  # safetensors makes it 0600
        storage.write_bytes(f"{tmp_path}/out/bytes", b"")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").rglob("*") if path.is_file()} == {0o640}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out", tmp_path / "out" / "inner")} == {0o750}


def test_local_paths_are_made_absolute_and_urls_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("a/b") == storage.absolute(f"file://{tmp_path}/a/b") == str(tmp_path.resolve() / "a/b")
    assert storage.absolute("s3://bucket/a") == "s3://bucket/a"


@pytest.mark.parametrize(
    ("path", "package", "message"),
    [
        ("s3://bucket/a.parquet", "s3fs", r"s3://bucket/a\.parquet: needs s3fs; pip install 'winnow\[s3\]'"),
        ("gs://bucket/a.parquet", "gcsfs", r"gs://bucket/a\.parquet: needs gcsfs; pip install 'winnow\[gcs\]'"),
        ("abfs://bucket/a.parquet", "adlfs", r"abfs://bucket/a\.parquet: Install adlfs"),
    ],
)
def test_the_error_for_a_missing_package_says_how_to_install_it(
    path: str, package: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # so that importing it fails
    for read in (storage.exists, input_files.expand):
        with pytest.raises(InputError, match=message):
            read(path)


def test_the_sizes_of_all_files_below_a_folder_come_by_their_relative_paths(root: str) -> None:
    assert storage.sizes(f"{root}/none") == {}
    for name in ("b.bin", "inner/a.bin", "inner/deeper/c.bin"):
        storage.write_bytes(f"{root}/{name}", name.encode())
    storage.write_bytes(f"{root}-beside/d.bin", b"1")
    expected = {"b.bin": 5, "inner/a.bin": 11, "inner/deeper/c.bin": 18}
    assert storage.sizes(root) == storage.sizes(f"{root}/") == expected
    assert storage.files_below(root) == sorted(expected)
    assert storage.sizes(f"{root}/b.bin") == {}
    storage.write_bytes(f"{root}/inner/a.bin", b"")  # a listing is not remembered
    assert storage.sizes(f"{root}/inner") == {"a.bin": 0, "deeper/c.bin": 18}
