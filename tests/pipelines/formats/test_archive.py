"""Tar archives: members in order, and an error for an archive that is damaged."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from pipelines.errors import InputError
from pipelines.formats.archive import read_members, read_small_members
from pipelines.formats.read import read_lines

MEMBERS = {"b/2.txt": b"two\nlines\n", "a/1.txt": b"one\n", "a/1.json": b"{}"}


def write(path: Path) -> str:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in MEMBERS.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


def test_the_members_with_a_suffix_are_read_in_the_order_of_the_archive(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar.gz")
    assert list(read_small_members(path, ".txt")) == [("b/2.txt", b"two\nlines\n"), ("a/1.txt", b"one\n")]
    lines = {}
    for name, file in read_members(path, ".txt"):
        lines[name] = [line for table in read_lines(name, file) for line in table["line"].to_pylist()]
    assert lines == {"b/2.txt": ["two", "lines"], "a/1.txt": ["one"]}


@pytest.mark.fault("a damaged archive", "an error names it")
def test_the_error_for_a_damaged_archive_names_it(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.tar.gz"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"a\.tar\.gz: truncated or damaged"):
        list(read_small_members(str(path), ".txt"))
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"a\.tar\.gz: truncated or damaged, or no tar archive"):
        list(read_small_members(str(path), ".txt"))
