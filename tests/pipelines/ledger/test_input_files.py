"""Identities of input files: what is read again, and what is not."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path

import pytest

from pipelines.errors import DamageWarning
from pipelines.ledger import input_files
from pipelines.ledger.input_files import CACHE, identity

MEGABYTE = 1 << 20


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three files of a megabyte, settled long enough to be remembered."""
    paths = [tmp_path / f"{name}.jsonl" for name in "abc"]
    for path in paths:
        path.write_bytes(path.name.encode() * (MEGABYTE // 7))
    time.sleep(input_files.SETTLED_NANOSECONDS / 1e9 + 0.1)
    return [str(path) for path in paths]


def bytes_read() -> int:
    """What this process has read so far, from files and pipes."""
    return int(Path("/proc/self/io").read_text().split()[1])


def identities(paths: list[str], root: str) -> list[str]:
    return [one.digest for one in input_files.identities(paths, root)]


def test_an_unchanged_local_file_is_read_once(files: list[str], tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    first = identities(files, root)
    assert first == [identity(path) for path in files]
    before = bytes_read()
    assert identities(files, root) == first
    assert bytes_read() - before < MEGABYTE // 2


def test_a_file_changed_in_place_is_read_again_though_its_size_and_time_are_set_back(
    files: list[str], tmp_path: Path
) -> None:
    root = str(tmp_path / "root")
    first = identities(files, root)
    was = Path(files[1]).stat()
    with Path(files[1]).open("r+b") as file:
        file.write(b"X")
    os.utime(files[1], ns=(was.st_atime_ns, was.st_mtime_ns))
    second = identities(files, root)
    assert second == [identity(path) for path in files]
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, False, True]


def test_a_file_that_changed_just_now_is_not_remembered(tmp_path: Path) -> None:
    path, root = tmp_path / "new.jsonl", str(tmp_path / "root")
    for text in (b"one", b"two"):
        path.write_bytes(text)
        assert identities([str(path)], root) == [identity(str(path))]
    assert not Path(root, CACHE).exists()


def test_files_of_other_recipes_stay_remembered(files: list[str], tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    first = identities(files[:1], root)
    identities(files[1:], root)
    before = bytes_read()
    assert identities(files[:1], root) == first
    assert bytes_read() - before < MEGABYTE // 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"x": 1}'])
@pytest.mark.fault("a damaged cache of identities (inputs.json)", "the files are read again")
def test_a_damaged_cache_costs_reading_and_nothing_else(files: list[str], tmp_path: Path, content: bytes) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / CACHE).write_bytes(content.replace(b"x", files[0].encode()))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert identities(files, str(root)) == [identity(path) for path in files]
    assert all(str(root / CACHE) in str(warning.message) for warning in told)
    assert identities(files, str(root)) == [identity(path) for path in files]


@pytest.mark.fault("a digest in inputs.json changes", "the cache is told to be damaged, and the files are read again")
def test_a_cache_with_another_digest_is_not_believed(files: list[str], tmp_path: Path) -> None:
    root = tmp_path / "root"
    first = identities(files, str(root))
    text = (root / CACHE).read_text()
    (root / CACHE).write_text(text.replace(first[0][:6], "abcdef"))
    assert (root / CACHE).read_text() != text
    with pytest.warns(DamageWarning, match=CACHE):
        assert identities(files, str(root)) == first
    assert (root / CACHE).read_text() == text


def test_a_root_that_cannot_be_written_costs_reading_and_nothing_else(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert identities(files, str(tmp_path / "file" / "root")) == [identity(path) for path in files]
