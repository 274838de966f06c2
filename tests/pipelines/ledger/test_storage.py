"""Storage behaves the same on a local file system, in memory and on an object store (an S3 API)."""

from __future__ import annotations

import gzip
import os
import stat
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from pipelines.errors import CheckFailed, InputError
from pipelines.ledger import input_files, object_stores, storage
from tests.object_store import ObjectStore


@pytest.fixture(params=["local", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/root"
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
    assert storage.absolute("s3://bucket/a") == storage.absolute("s3://bucket/a/") == "s3://bucket/a"


@pytest.mark.parametrize(
    ("path", "package", "message"),
    [
        ("s3://bucket/a.parquet", "s3fs", r"s3://bucket/a\.parquet: needs s3fs; pip install 'winnow-corpus\[s3\]'"),
        ("gs://bucket/a.parquet", "gcsfs", r"gs://bucket/a\.parquet: needs gcsfs; pip install 'winnow-corpus\[gcs\]'"),
        ("abfs://bucket/a.parquet", "adlfs", r"abfs://bucket/a\.parquet: Install adlfs"),
    ],
)
def test_the_error_for_a_missing_package_says_how_to_install_it(
    path: str, package: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # so that importing it fails
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, path.partition("://")[0], raising=False)
    object_stores._client.cache_clear()
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


def test_a_file_is_read_back_whole_in_part_and_by_its_digest(root: str) -> None:
    data = bytes(range(256)) * 5
    written = storage.write_bytes(f"{root}/a b/ü.bin", data)
    path = written.path
    assert written.bytes == storage.size(path) == 1280 and written.digest == storage.digest(path)
    assert storage.read_bytes(path) == data and storage.read_range(path, 250, 260) == data[250:260]
    assert storage.exists(path) and storage.exists(f"{root}/a b") and not storage.exists(f"{root}/none")
    assert storage.size(f"{root}/none") == storage.size(f"{root}/a b") == -1
    empty = storage.write_bytes(f"{root}/empty", b"")
    assert storage.read_bytes(empty.path) == b"" and storage.digest(empty.path) == empty.digest
    for read in (storage.read_bytes, storage.digest, input_files.identity):
        with pytest.raises(FileNotFoundError):
            read(f"{root}/none")


def test_a_file_appears_when_its_block_ends_or_not_at_all(root: str) -> None:
    with pytest.raises(RuntimeError), storage.write_file(f"{root}/a") as file:
        file.write(b"1")
        raise RuntimeError
    assert storage.sizes(root) == {}
    for text in (b"1", b"22"):  # the second replaces the first
        with storage.write_file(f"{root}/a") as file:
            file.write(text)
        assert storage.read_bytes(f"{root}/a") == text


def test_json_is_canonical_and_damage_to_it_is_named(root: str) -> None:
    assert storage.write_json(f"{root}/a.json", {"b": 1, "a": "é"}) == storage.write_json(
        f"{root}/a.json", {"a": "é", "b": 1}
    )
    assert storage.read_json(f"{root}/a.json") == {"a": "é", "b": 1}
    storage.write_bytes(f"{root}/a.json", b"{")
    with pytest.raises(CheckFailed, match=r"a\.json: damaged"):
        storage.read_json(f"{root}/a.json")


def test_tables_are_read_back_whole_and_by_columns(root: str) -> None:
    table = pa.table({"id": [1, 2, 3], "text": ["a", "b", None], "source": ["x", "x", "y"]})
    parquet = storage.write_parquet(f"{root}/a.parquet", table)
    arrow = storage.write_arrow(f"{root}/a.arrow", table)
    assert storage.read_parquet(parquet.path).equals(table) and storage.map_arrow(arrow.path).equals(table)
    assert storage.read_parquet(parquet.path, ["text", "id"]).equals(table.select(["text", "id"]))
    assert storage.columns(parquet.path) == ["id", "text", "source"]
    for ref in (parquet, arrow):
        assert (storage.size(ref.path), storage.digest(ref.path)) == (ref.bytes, ref.digest)
    storage.write_bytes(f"{root}/cut", storage.read_bytes(parquet.path)[:-9])
    for read in (storage.read_parquet, storage.columns, storage.map_arrow):
        with pytest.raises(InputError, match="cut: cannot be read"):
            read(f"{root}/cut")


def test_a_folder_is_removed_with_what_is_in_it_and_nothing_beside(root: str) -> None:
    for name in ("in/a", "in/deep/b", "inner/c"):
        storage.write_bytes(f"{root}/{name}", b"1")
    storage.remove(f"{root}/in")
    storage.remove(f"{root}/none")
    assert storage.files_below(root) == ["inner/c"]


def test_inputs_are_found_by_file_folder_and_glob_and_read_decompressed(root: str) -> None:
    for name in ("b.jsonl", "a.jsonl.gz", "inner/c.jsonl", ".hidden/d.jsonl"):
        data = b'{"a": 1}\n'
        storage.write_bytes(f"{root}/{name}", gzip.compress(data) if name.endswith(".gz") else data)
    names = [f"{root}/a.jsonl.gz", f"{root}/b.jsonl", f"{root}/inner/c.jsonl"]
    found = input_files.expand(root)
    assert [name.removeprefix("memory:///") for name in found] == [name.removeprefix("memory://") for name in names]
    assert len(input_files.expand(f"{root}/*.jsonl*")) == 2 and len(input_files.expand(f"{root}/**/c.*")) == 1
    assert len(input_files.expand(names[0])) == 1
    with pytest.raises(InputError, match="no such file"):
        input_files.expand(f"{root}/none")
    for name in found:
        with input_files.open_input(name) as file:
            assert file.read() == data
    before = input_files.identity(names[1])
    assert before == input_files.identity(names[1])
    storage.write_bytes(names[1], b'{"a": 2}\n')
    assert before != input_files.identity(names[1])


def test_ranges_of_a_file_come_in_the_order_asked_for(root: str) -> None:
    data = np.random.default_rng(0).bytes(300_000)
    storage.write_bytes(f"{root}/a", data)
    ranges = [(200_000, 200_010), (5, 9), (0, 3), (7, 100), (299_999, 300_000)]
    assert storage.read_ranges(f"{root}/a", ranges) == [data[start:stop] for start, stop in ranges]
    assert storage.read_ranges(f"{root}/a", []) == []


def test_a_column_of_a_large_table_is_read_without_the_others(s3: str, s3_server: ObjectStore, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = pa.table({name: random.integers(0, 1 << 62, 400_000) for name in ("id", "x.y", "a", "text")})
    table = table.append_column("lists", pa.array([[1], [2, 3]] * 200_000))
    remote, local = (storage.write_parquet(f"{root}/a.parquet", table) for root in (s3, str(tmp_path)))
    assert remote.digest == local.digest and remote.bytes > 12_000_000
    for columns in (["a"], ["lists", "id"], ["x.y"]):
        with s3_server.counted() as counts:
            read = storage.read_parquet(remote.path, columns)
        assert read.equals(storage.read_parquet(local.path, columns)) and read.column_names == columns
        assert counts["bytes"]["GET"] < 3_200_000 * len(columns) + storage.PARQUET_TAIL + 10 * storage.GAP_BYTES
        assert counts["requests"]["GET"] <= 10  # the end, and the chunk of each row group
    with s3_server.counted() as counts:
        assert storage.columns(remote.path) == table.column_names
    assert counts["requests"] == {"HEAD": 1, "GET": 1}
    with s3_server.counted() as counts:
        assert storage.read_parquet(remote.path).equals(table)
    assert counts["requests"] == {"GET": 1}


def test_a_file_on_a_web_server_is_read(s3: str, s3_server: ObjectStore) -> None:
    fs, name = storage.file_system(f"{s3}/a.bin")
    storage.write_bytes(f"{s3}/a.bin", b"0123")
    fs.call_s3("put_object_acl", Bucket=name.split("/")[0], Key="a.bin", ACL="public-read")
    address = f"{s3_server.url}/{name}"
    assert storage.read_bytes(address) == b"0123" and storage.exists(address)
