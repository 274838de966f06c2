"""Which files does the user name, and how are they opened? Paths, globs and URLs, compressed or not."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import os
import posixpath
import re
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import xxhash

from pipelines.errors import UNREACHED, CheckFailed, InputError, Unreachable
from pipelines.ledger.storage import digest, file_system, is_local, join, read_json, write_json


def mirrored(path: str, mirror: str) -> str:
    """The path of a remote file in a local mirror: the mirror's folder, then the address without scheme and revision.

    `hf://datasets/openai/gsm8k@main/a.parquet` -> `<mirror>/datasets/openai/gsm8k/a.parquet`. Local paths stay.
    """
    if is_local(path):
        return path
    scheme, _, rest = path.partition("://")
    if scheme == "hf":
        rest = re.sub(r"^((?:datasets/)?[^/@]+/[^/@]+)@(refs/\w+/)?[^/]+", r"\1", rest)
    return join(mirror, rest)


def expand(pattern: str) -> list[str]:
    """The files that a path, folder or glob names, sorted. Hidden ones, and those in hidden folders, only if named.

    Raises: InputError: if there is none, or its store refuses. Unreachable: if its store does not answer.
    """
    try:
        return _expand(pattern)
    except Exception as error:
        # Remote file systems raise exceptions of their own, with no common base class.
        if is_local(pattern) or isinstance(error, InputError):
            raise
        what = f"({type(error).__name__}: {' '.join(str(error).split())})"
        if isinstance(error, FileNotFoundError):
            raise InputError(f"{pattern}: no such file {what}") from error
        if getattr(error, "response", None) is not None:  # the store answered, with a refusal
            raise InputError(f"{pattern}: refused {what}") from error
        raise Unreachable(f"{pattern}: {UNREACHED} {what}") from error


def _expand(pattern: str) -> list[str]:
    fs, name = file_system(pattern)
    # For `https://` the name is the whole address, so no prefix is added.
    prefix = "" if is_local(pattern) or "://" in name else pattern.split("://")[0] + "://"
    if any(character in name for character in "*?["):
        folder = name[: min(name.index(character) for character in "*?[" if character in name)].rpartition("/")[0]
        paths = sorted(str(path) for path in fs.glob(name) if not fs.isdir(path))
        if not posixpath.basename(name).startswith("."):
            paths = [path for path in paths if not _is_hidden(path, folder)]
    elif fs.isdir(name):
        paths = sorted(str(path) for path in fs.find(name) if not _is_hidden(str(path), name))
    else:
        paths = [name] if fs.exists(name) else []
    if not paths:
        if not is_local(pattern):
            fs.info(name)  # raises with the cause: no such data set, or a token is needed
        raise InputError(f"{pattern}: no such file (relative paths are relative to the recipe's folder)")
    return [prefix + path for path in paths]


def _is_hidden(path: str, folder: str) -> bool:
    """Whether a file, or a folder between it and `folder`, is hidden."""
    return any(part.startswith(".") for part in path.removeprefix(folder).split("/"))


_CONTENT_KEYS = ("sha256", "lfs", "blob_id", "ETag", "etag", "md5Hash")
"""Fields of a file's metadata that change with its bytes: of the Hugging Face hub, S3, HTTP and Google's store."""


def identity(path: str) -> str:
    """What changes when an input file changes, as 32 hex digits.

    Of a local file the digest of its bytes. Of a remote file a hash of its size and of what its store says of its
    content, so that nothing is downloaded; a store that says nothing is read.
    """
    if not is_local(path):
        fs, name = file_system(path)
        info = fs.info(name)
        content = next((str(info[key]) for key in _CONTENT_KEYS if info.get(key)), None)
        if content:
            return xxhash.xxh3_128(f"{info['size']} {content}".encode()).hexdigest()
    return digest(path)


CACHE = "inputs.json"
"""The file below a root that keeps identities of local files."""

SETTLED_NANOSECONDS = 2_000_000_000
"""A file that changed so shortly before it is read may change again and keep its times, which are coarse."""


def identities(paths: Sequence[str], root: str) -> list[str]:
    """`identity` of each file, many at a time.

    A local file is read once: its identity is kept in `ROOT/inputs.json` with its inode, size, and times of its bytes
    and of its entry. The last one is set by the file system alone, so bytes cannot change without it.
    """
    cache = join(root, CACHE)
    known: dict[str, list[Any]] = {}
    with contextlib.suppress(OSError, CheckFailed):  # none yet, or a damaged one: all files are read
        found = read_json(cache)
        known = found if isinstance(found, dict) else {}

    def look(path: str) -> tuple[list[int] | None, str]:
        state = _state(path)
        if state is not None and isinstance(entry := known.get(path), list) and entry[:-1] == state:
            return state, str(entry[-1])
        return state, identity(path)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # hashing releases the interpreter lock
        looked = list(threads.map(look, paths))
    kept = {path: [*state, name] for path, (state, name) in zip(paths, looked, strict=True) if state is not None}
    if any(known.get(path) != entry for path, entry in kept.items()):
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
            write_json(cache, known | kept)
    return [name for _, name in looked]


def _state(path: str) -> list[int] | None:
    """What tells that a local file is unchanged; None for a remote one, and one that changed just now."""
    if not is_local(path):
        return None
    found = Path(path).stat()
    if time.time_ns() - found.st_ctime_ns < SETTLED_NANOSECONDS:
        return None
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def suffix(path: str) -> str:
    """The format's suffix without compression: `.jsonl` for `a/b.jsonl.gz`."""
    name = posixpath.basename(path)
    stem, extension = posixpath.splitext(name)
    return posixpath.splitext(stem)[1].lower() if extension.lower() in (".gz", ".zst", ".bz2") else extension.lower()


@contextlib.contextmanager
def open_input(path: str) -> Iterator[BinaryIO]:
    """Open a user's file for reading, decompressed by its suffix (.gz .zst .bz2).

    Damage inside a compressed stream raises while it is read: wrap reads in `damage(path)`.

    Raises: InputError: if the file is missing, or is a folder. Unreachable: if this user may not read it.
    """
    fs, name = file_system(path)
    if not fs.exists(name):
        raise InputError(f"{path}: no such file")
    with allowed(path), fs.open(name, "rb") as raw:
        extension = posixpath.splitext(name)[1].lower()
        if extension == ".gz":
            with gzip.open(raw) as file:
                yield cast(BinaryIO, file)
        elif extension == ".bz2":
            with bz2.open(raw) as file:
                yield cast(BinaryIO, file)
        elif extension == ".zst":
            # Arrow's reader reports a truncated frame; zstandard's own reader treats it as the end.
            yield cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(raw), "zstd"))
        else:
            yield cast(BinaryIO, raw)


@contextlib.contextmanager
def allowed(path: str) -> Iterator[None]:
    """Turn the exceptions of a file that may not be opened into an InputError that names it."""
    try:
        yield
    except PermissionError as error:
        raise Unreachable(f"{path}: permission denied; let this user read it") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: a folder, not a file") from error


@contextlib.contextmanager
def damage(path: str) -> Iterator[None]:
    """Turn the exceptions of a damaged file that is being read into an InputError that names the file."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, pa.ArrowInvalid, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: truncated or damaged ({type(error).__name__}: {error}); fetch it again") from error


REMOTE_BLOCK = 4 << 20
"""Bytes of one range request to a remote file that is read at random."""


def open_remote(path: str) -> pa.NativeFile:
    """A remote file for random access. Each read is one range request, so read blocks of REMOTE_BLOCK bytes."""
    fs, name = file_system(path)
    return pa.PythonFile(fs.open(name, "rb", block_size=REMOTE_BLOCK, cache_type="none"), mode="r")
