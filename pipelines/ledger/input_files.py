"""Which files does the user name, and how are they opened? Paths, globs and URLs, compressed or not."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import os
import posixpath
import re
import time
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import pyarrow as pa
import xxhash

from pipelines import credentials
from pipelines.errors import UNREACHED, CheckFailed, DamageWarning, InputError, Unreachable
from pipelines.ledger.storage import damaged, digest, digest_of, file_system, is_local, join, read_json, write_json


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
        what = credentials.masked(f"({type(error).__name__}: {' '.join(str(error).split())})")
        if isinstance(error, FileNotFoundError):
            raise InputError(f"{pattern}: no such file {what}") from error
        if getattr(error, "response", None) is not None:  # the store answered, with a refusal
            raise InputError(f"{pattern}: refused {what}") from error
        raise Unreachable(f"{pattern}: {UNREACHED} {what}") from error


def _expand(pattern: str) -> list[str]:
    fs, name = file_system(pattern)
    if credentials.is_public(pattern):  # of one file: its whole address is known to `file_system` alone
        if not fs.exists(name):
            fs.info(name)  # raises with the cause
        return [pattern]
    # For `https://` the name is the whole address, so no prefix is added.
    prefix = "" if is_local(pattern) or "://" in name else pattern.split("://")[0] + "://"
    # A local file called `data[1].csv` is meant by its name.
    if any(character in name for character in "*?[") and not (is_local(pattern) and fs.exists(name)):
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
    return _digest_local(file_system(path)[1]) if is_local(path) else _remote_digest(path, *_metadata(path))


def _remote_digest(path: str, size: int, content: str) -> str:
    return digest_of(f"{size} {content}".encode()) if content else digest(path)


def _digest_local(name: str) -> str:
    # Read, not mapped: a mapped file that becomes shorter ends the process that reads it.
    state, buffer = xxhash.xxh3_128(), memoryview(bytearray(_DIGEST_BLOCK))
    with Path(name).open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            state.update(buffer[:count])
    return state.hexdigest()


_DIGEST_BLOCK = 1 << 20


def _metadata(path: str, refresh: bool = False) -> tuple[int, str]:
    """The size of a remote file, and what its store says of its content; "" if it says nothing. refresh: ask the hub
    again, whose listings are kept."""
    fs, name = file_system(path)
    info = fs.info(name, refresh=True) if refresh and path.startswith("hf://") else fs.info(name)
    return int(info["size"] or 0), next((str(info[key]) for key in _CONTENT_KEYS if info.get(key)), "")


CACHE = "inputs.json"
"""The file below a root that keeps identities of local files."""

SETTLED_NANOSECONDS = 2_000_000_000
"""A file that changed so shortly before it is read may change again and keep its times, which are coarse."""

State = tuple[int | str, ...]
"""What tells that a file is unchanged. Of a local one: device, inode, size, times of its bytes and of its entry. Of a
remote one: size, and what the store says of the content."""


class Identity(NamedTuple):
    """An input file as it was when the build began.

    digest: its `identity`. size: bytes. state: when its `identity` was found. settled: whether an equal state proves
    equal bytes; else the digest is found again.
    """

    digest: str
    size: int
    state: State
    settled: bool


def identities(paths: Sequence[str], root: str) -> list[Identity]:
    """The `Identity` of each file, many at a time.

    A local file is read once: its identity is kept in `ROOT/inputs.json` with its device, inode, size, and times of its
    bytes and of its entry. The last one is set by the file system alone, so bytes cannot change without it.

    Raises: InputError: naming a file that changes while it is read.
    """
    cache = join(root, CACHE)
    known = _read_cache(cache)

    def look(path: str) -> Identity:
        state, settled = _state(path)
        if settled and isinstance(entry := known.get(path), list) and entry[:-1] == list(state):
            return Identity(str(entry[-1]), int(state[2]), state, settled)
        if not is_local(path):
            size, content = int(state[0]), str(state[1])
            return Identity(_remote_digest(path, size, content), size, state, settled)
        found = Identity(identity(path), int(state[2]), state, settled)
        if _state(path)[0] != state:
            raise _changed(path)
        return found

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # hashing releases the interpreter lock
        looked = list(threads.map(look, paths))
    kept = {
        path: [*one.state, one.digest]
        for path, one in zip(paths, looked, strict=True)
        if one.settled and is_local(path)
    }
    if any(known.get(path) != entry for path, entry in kept.items()):
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
            write_json(cache, {"digest": _digest_of(known | kept), "files": known | kept})
    return looked


def _read_cache(path: str) -> dict[str, list[Any]]:
    """The files that a cache knows. None of a damaged one, which is told and written again: a wrong digest in it would
    be the identity of a file."""
    mend = "its files are read again"
    try:
        value = read_json(path, mend)
        files = value.get("files") if isinstance(value, dict) else None
        if not isinstance(files, dict) or not all(isinstance(entry, list) for entry in files.values()):
            if isinstance(value, dict) and "files" not in value and "digest" not in value:
                return {}  # of a former version
            raise damaged(path, "no object of files", mend)
        if value.get("digest") != _digest_of(files):
            raise damaged(path, "its digest is that of other entries", mend)
    except CheckFailed as error:
        warnings.warn(str(error), DamageWarning, stacklevel=4)
        return {}
    except OSError:  # none yet
        return {}
    return files


def _digest_of(files: dict[str, list[Any]]) -> str:
    return digest_of(json.dumps(files, sort_keys=True).encode())


@contextlib.contextmanager
def unchanged(path: str, begun: Identity) -> Iterator[None]:
    """Read a file within the block: it has the bytes of `begun` before it and after it.

    An equal state proves that, at the cost of one call, if it is settled. Else the digest decides: a file with other
    times, or on another node, may have the same bytes.

    Raises: InputError: naming the file, if it changed.
    """
    before = _state(path)[0]
    if before != begun.state and identity(path) != begun.digest:
        raise _changed(path)
    try:
        yield
    except Exception as error:
        same = True
        with contextlib.suppress(Exception):  # the store may not answer any more
            same = _is_same(path, begun, before)
        if same:
            raise
        raise _changed(path) from error
    if not _is_same(path, begun, before):
        raise _changed(path)


def _is_same(path: str, begun: Identity, before: State) -> bool:
    try:
        if _state(path, refresh=True)[0] != before:
            return identity(path) == begun.digest
        return begun.settled or identity(path) == begun.digest
    except (FileNotFoundError, InputError):  # it is gone
        return False


def _changed(path: str) -> InputError:
    return InputError(f"{path}: it changed while it was read; build again once nothing writes to it")


def _state(path: str, refresh: bool = False) -> tuple[State, bool]:
    """The state of a file, and whether an equal one later proves equal bytes.

    Raises: InputError: if the file is gone.
    """
    try:
        if not is_local(path):
            size, content = _metadata(path, refresh)
            return (size, content), bool(content)
        found = Path(file_system(path)[1]).stat()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file any more; bring it back, and build again") from error
    settled = time.time_ns() - found.st_ctime_ns >= SETTLED_NANOSECONDS
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns), settled


def suffix(path: str) -> str:
    """The format's suffix without compression: `.jsonl` for `a/b.jsonl.gz`."""
    name = posixpath.basename(path)
    stem, extension = posixpath.splitext(name)
    return posixpath.splitext(stem)[1].lower() if is_compressed(name) else extension.lower()


def is_compressed(path: str) -> bool:
    """Whether a file is compressed as a whole, by its suffix."""
    return posixpath.splitext(path)[1].lower() in (".gz", ".zst", ".bz2")


@contextlib.contextmanager
def open_input(path: str) -> Iterator[BinaryIO]:
    """Open a user's file for reading, decompressed by its suffix (.gz .zst .bz2).

    Damage inside a compressed stream raises while it is read: wrap reads in `damage(path)`.

    Raises: InputError: if the file is missing, or is a folder. Unreachable: if this user may not read it.
    """
    fs, name = file_system(path)
    if not fs.exists(name):
        raise InputError(f"{path}: no such file")
    if is_local(path) and fs.info(name)["type"] == "other":  # opening a pipe would wait for its writer
        raise InputError(f"{path}: not a file that can be read (a pipe, a socket or a device)")
    with allowed(path), fs.open(name, "rb") as raw:
        extension = posixpath.splitext(path)[1].lower()
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
        why = credentials.masked(f"{type(error).__name__}: {error}")
        raise InputError(f"{path}: truncated or damaged ({why}); fetch it again") from error
    except Exception as error:
        if not credentials.is_public(path):
            raise
        # Clients of HTTP quote the whole address.
        raise InputError(credentials.masked(f"{path}: {type(error).__name__}: {error}")) from None


REMOTE_BLOCK = 4 << 20
"""Bytes of one range request to a remote file that is read at random."""


def open_remote(path: str) -> pa.NativeFile:
    """A remote file for random access. Each read is one range request, so read blocks of REMOTE_BLOCK bytes."""
    fs, name = file_system(path)
    return pa.PythonFile(fs.open(name, "rb", block_size=REMOTE_BLOCK, cache_type="none"), mode="r")
