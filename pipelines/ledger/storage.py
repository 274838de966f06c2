"""How are files written and read? The only module that touches a file system: local or an object store, by fsspec.

A path that exists is a finished file: local files are written beside their place and renamed, and an object store's put
is atomic. The same table gives the same bytes: the settings of the Parquet and Arrow writers are fixed here.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import io
import itertools
import json
import mmap
import os
import posixpath
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple, TypeVar, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines import credentials
from pipelines.errors import RESUME, CheckFailed, Damaged, InputError
from pipelines.ledger import object_stores


@dataclass(frozen=True, slots=True)
class FileRef:
    """A finished file: its path, its size in bytes and the digest (xxh3-128, hex) of its bytes.

    A build of 100,000 shards holds millions of these: a third of the memory of a pydantic model, and faster to send.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    path: str
    bytes: int
    digest: str

    def __reduce__(self) -> tuple[type[FileRef], tuple[str, int, str]]:
        return FileRef, (self.path, self.bytes, self.digest)


@dataclass(frozen=True, slots=True)
class TableRef(FileRef):
    """A finished file that holds a table of `rows` rows."""

    rows: int

    def __reduce__(self) -> tuple[type[TableRef], tuple[str, int, str, int]]:  # type: ignore[override]
        return TableRef, (self.path, self.bytes, self.digest, self.rows)


def is_local(path: str) -> bool:
    """Whether the path is on a file system of this machine, not a URL of an object store."""
    return "://" not in path or path.startswith("file://")


def join(root: str, *parts: str) -> str:
    """A path below `root`."""
    return posixpath.join(root, *parts)


REMOVE_SECONDS = 30.0
"""How long a folder is removed again when files in it come or go meanwhile."""

_READ_ONLY = ("hf", "http", "https")
"""Schemes that only inputs have. Listings of the Hugging Face hub are kept: they save a request for each file."""


def file_system(path: str) -> tuple[Any, str]:
    """The file system of a path and the path on it. Raises: InputError: if the package for its scheme is missing.

    Listings of remote file systems are not cached, since other processes write there.
    """
    scheme = object_stores.scheme_of(path)
    try:
        if scheme in object_stores.PACKAGES:
            return object_stores.file_system(path)
        path = credentials.whole(path)
        options = {} if is_local(path) or scheme in _READ_ONLY else {"use_listings_cache": False}
        return cast(tuple[Any, str], fsspec.core.url_to_fs(path, **options))
    except ImportError as error:
        package, extra = object_stores.PACKAGES.get(scheme, ("", ""))
        hint = f"needs {package}; pip install 'winnow-corpus[{extra}]'" if package else str(error)
        raise InputError(f"{path}: {hint}") from error
    except ValueError as error:  # fsspec: a scheme that it does not know, a malformed URL
        raise InputError(credentials.masked(f"{path}: {error}; a path, or a URL such as s3://bucket/file")) from error


def exists(path: str) -> bool:
    """Whether a finished file or a folder lies there."""
    fs, name = file_system(path)
    return bool(fs.exists(name))


def size(path: str) -> int:
    """The file's bytes; -1 where there is none."""
    fs, name = file_system(path)
    try:
        info = fs.info(name)
    except FileNotFoundError:
        return -1
    return int(info["size"]) if info["type"] == "file" else -1


def write_bytes(path: str, data: bytes | memoryview) -> FileRef:
    """Write a file, completely or not at all."""
    with write_file(path) as file:
        file.write(data)
    return FileRef(path=path, bytes=len(data), digest=digest_of(data))


_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What the operating system says where a file system has no hard links (exFAT, some network and FUSE mounts)."""


def create(path: str, data: bytes) -> bool:
    """Write a file unless there is one at `path`, completely or not at all; of several processes that do, one does.

    A local file is written beside its place and linked, which NFS does atomically too; a remote one is sent with the
    condition that there is none (S3: `If-None-Match`).

    Returns: whether the file at `path` is this one: also where it has the same bytes, since the reply to a request that
    succeeded may be lost. Data that tells two writers apart holds a unique value.
    """
    fs, name = file_system(path)
    if is_local(path):
        target = Path(name)
        aside = _aside(target)
        try:
            with _with_mend(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                with _flushed(aside) as file:
                    file.write(data)
            try:
                os.link(aside, target)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                with target.open("xb") as file:  # exclusive still, but a kill now leaves a part of the file
                    file.write(data)
            return True
        except FileExistsError:
            try:
                return target.read_bytes() == data
            except FileNotFoundError:  # another process made it, and has removed it since
                return False
        finally:
            with contextlib.suppress(OSError):
                aside.unlink()
    try:
        fs.pipe_file(name, data, mode="create")
        return True
    except OSError as error:  # stores differ in how they refuse
        try:
            return bool(fs.cat_file(name) == data)
        except FileNotFoundError:
            if isinstance(error, FileExistsError):  # another process made it, and has removed it since
                return False
            raise error from None


@contextlib.contextmanager
def write_file(path: str) -> Iterator[BinaryIO]:
    """Open a file for writing. It appears at `path` when the block ends, complete; if the block fails it does not.

    A local file is written beside its place, flushed to disk and renamed. A remote one is sent in one request.
    """
    fs, name = file_system(path)
    if not is_local(path):
        buffer = io.BytesIO()
        yield buffer
        fs.pipe_file(name, buffer.getvalue())
        return
    target = Path(name)
    aside = _aside(target)
    try:
        with _with_mend(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with _flushed(aside) as file:
                yield file
            aside.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


_MENDS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), f"make room, and {RESUME}"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "let this user write there"),
}
"""What the operating system says of a file that cannot be written -> what to do."""


@contextlib.contextmanager
def _with_mend(target: Path) -> Iterator[None]:
    """Add the target and what to do about it to errors of writing it. Those of other files stay as they are."""
    try:
        yield
    except OSError as error:
        mend, at = _MENDS.get(error.errno or 0), error.filename
        if mend and (at is None or Path(str(at)) in target.parents or Path(str(at)).parent == target.parent):
            raise OSError(error.errno, f"{error.strerror}; {mend}", str(target)) from error
        raise


@contextlib.contextmanager
def _flushed(path: Path) -> Iterator[BinaryIO]:
    """Open a local file for writing. What is written in the block is on the disk when it ends."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def write_folder(path: str, last: str | None = None) -> Iterator[Path]:
    """A new local folder to write into. It appears at `path` when the block ends, complete; if the block fails it does
    not.

    What was at `path` before is replaced. Every file is flushed to disk before the rename, and has the mode that the
    umask gives new files. On an object store the files are uploaded one by one, and the file named `last` after all
    others: a reader that finds it finds the rest.
    """
    remote = not is_local(path)
    target = Path(tempfile.mkdtemp(), "folder") if remote else Path(file_system(path)[1])
    aside = _aside(target)
    try:
        with _with_mend(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            aside.mkdir()
        yield aside
        files = sorted(item for item in aside.rglob("*") if item.is_file())
        for file in files:  # some writers (safetensors) make files that only their owner can read
            file.chmod(aside.stat().st_mode & 0o666)
        if remote:
            names = [file.relative_to(aside).as_posix() for file in files]
            before = sizes(path)
            if last in before:  # what it vouches for is about to change
                remove(join(path, last))
            for name in sorted(names, key=lambda name: name == last):
                write_bytes(join(path, name), (aside / name).read_bytes())
            for name in before.keys() - set(names) - {last}:
                remove(join(path, name))
            return
        for item in [*files, *(item for item in aside.rglob("*") if item.is_dir()), aside]:
            _flush(item)
        if target.is_dir():
            shutil.rmtree(target)
        aside.rename(target)
        _flush(target.parent)
    finally:
        shutil.rmtree(target.parent if remote else aside, ignore_errors=True)


def _aside(target: Path) -> Path:
    """A name beside a target for what is being written; `sweep` removes what killed writers leave under such names."""
    return target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"


def _is_aside(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def _flush(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(folder: str) -> None:
    """Create a folder and write a file into it, to fail before any compute. Raises: InputError: if that fails."""
    try:
        if object_stores.scheme_of(folder) in object_stores.PACKAGES:
            file_system(folder)  # for its error where the package is missing
            object_stores.check_writable(folder)
        elif is_local(folder):
            write_bytes(join(folder, ".winnow"), b"")
            Path(file_system(folder)[1], ".winnow").unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written to ({error.strerror}); name another place with --root"
        ) from error


def check_reachable(folder: str) -> None:
    """Ask the object store of a folder whether it answers; nothing for others. Raises: InputError: if it does not."""
    if object_stores.scheme_of(folder) in object_stores.PACKAGES:
        file_system(folder)
        object_stores.check_reachable(folder)


_expected: dict[str, FileRef] = {}
"""Files that are checked when they are read."""


@contextlib.contextmanager
def verified(files: Iterable[FileRef]) -> Iterator[None]:
    """Within the block, the digest of each of these files is checked before its first use.

    A local file is hashed when it is opened, which reads its bytes once more from memory, at some 10 GB/s. A remote one
    is hashed if it is read whole; ranges of one are not checked.

    Raises: CheckFailed: by the functions that read, naming the file, if its bytes are not those that were written.
    """
    before = dict(_expected)
    _expected.update((file.path, file) for file in files)
    try:
        yield
    finally:
        _expected.clear()
        _expected.update(before)


def check_digest(path: str, data: bytes | None = None) -> None:
    """Check the digest of a file of `verified`. data: its bytes, where they were read. Raises: CheckFailed: as it."""
    file = _expected.pop(path, None)
    if file is None:
        return
    if (digest(path) if data is None else digest_of(data)) != file.digest:
        folder = path.rpartition("/steps/")[2].partition("/")[0]
        raise CheckFailed(
            f"{path}: changed since it was written (its digest is not that of the manifest of its step); remove the "
            f"folder {folder}, and {RESUME}"
        )


def read_bytes(path: str) -> bytes:
    """The content of a file."""
    fs, name = file_system(path)
    # Without concurrency s3fs does not ask for the size first: one request.
    options = {"max_concurrency": 1} if object_stores.is_s3(path) else {}
    data = cast(bytes, fs.cat_file(name, **options))
    check_digest(path, data)
    return data


def read_all(paths: Sequence[str]) -> list[bytes]:
    """The contents of files, in order. An object store is asked for many at a time. Raises: as `read_bytes`."""
    if not paths or is_local(paths[0]):
        return [read_bytes(path) for path in paths]
    with ThreadPoolExecutor(REQUESTS_AT_A_TIME) as threads:
        return list(threads.map(read_bytes, paths))


REQUESTS_AT_A_TIME = 32
"""To an object store. A request takes tens of milliseconds, nearly all of them waiting."""


def read_range(path: str, start: int, end: int) -> bytes:
    """The bytes of a file from `start` up to `end`."""
    fs, name = file_system(path)
    return cast(bytes, fs.cat_file(name, start=start, end=end))


GAP_BYTES = 1 << 16
"""Ranges with fewer bytes between them are read by one request."""


def read_ranges(path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """The bytes of a file in each range, from its first byte up to the byte after its last; several requests at once.

    Raises: OSError: if a range cannot be read.
    """
    if not ranges:
        return []
    fs, name = file_system(path)
    joined: list[list[int]] = []
    for start, stop in sorted(ranges):
        if joined and start - joined[-1][1] < GAP_BYTES:
            joined[-1][1] = max(stop, joined[-1][1])
        else:
            joined.append([start, stop])
    starts, stops = [start for start, _ in joined], [stop for _, stop in joined]
    blocks = fs.cat_ranges([name] * len(joined), starts, stops, on_error="raise")
    places = [(bisect.bisect_right(starts, start) - 1, start, stop) for start, stop in ranges]
    return [blocks[at][start - starts[at] : stop - starts[at]] for at, start, stop in places]


def read_tail(path: str, count: int) -> bytes:
    """The last `count` bytes of a file, or all of them if it has fewer; empty if there is no file."""
    fs, name = file_system(path)
    try:
        if object_stores.scheme_of(path) not in object_stores.PACKAGES:
            return cast(bytes, fs.tail(name, count))
        return cast(bytes, fs.cat_file(name, start=-count))
    except FileNotFoundError:
        return b""
    except OSError:
        if size(path) != 0:  # a range of no bytes is an error
            raise
        return b""


def read_json(path: str, mend: str = "", digest: str | None = None) -> Any:
    """The JSON value in a file that `write_json` wrote.

    mend: what to do about a damaged file, the end of the message. digest: xxh3-128 that the file must have, if it is
    known.

    Raises: Damaged: if it is no JSON, has another digest, or may not be read. FileNotFoundError: if there is none.
    """
    try:
        data = read_bytes(path)
        value = json.loads(data.decode())
    except (PermissionError, IsADirectoryError) as error:
        raise Damaged(f"{path}: cannot be read ({error.strerror or error}); let this user read it") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckFailed):
            raise
        what = "empty" if not size(path) else f"no JSON: {str(error)[:200]}"
        raise damaged(path, what, mend) from error
    if digest is not None and digest_of(data) != digest:
        raise damaged(path, NOT_RECORDED, mend)
    return value


NOT_RECORDED = "its digest is not the one recorded"


def damaged(path: str, what: str, mend: str) -> Damaged:
    """The exception for a file of a root that is not as it was written. what: is wrong with it. mend: what to do."""
    return Damaged(f"{path}: damaged since it was written ({what}){mend and f'; {mend}'}")


Document = TypeVar("Document", bound=BaseModel)


def read_document(path: str, model: type[Document], mend: str, value: Any = None) -> Document:
    """A file that `write_json` wrote, as a pydantic model. value: its JSON value, where it was read.

    Raises: Damaged: if it is no JSON, or not as the model says; naming the first key that is wrong, and `mend`.
    """
    try:
        return model.model_validate(read_json(path, mend) if value is None else value)
    except ValidationError as error:
        raise damaged(path, first_problem(error), mend) from error


def first_problem(error: ValidationError) -> str:
    """What is wrong with the first key that is, in a line: `steps.2.folder: field required`."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    key = ".".join(str(part) for part in problem["loc"] if part != "function-before")
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{key}: {message}" if key else message


def write_json(path: str, value: Any) -> FileRef:
    """Write canonical JSON: sorted keys and two spaces, so that the same value gives the same bytes."""
    return write_bytes(path, json_text(value).encode())


def json_text(value: Any) -> str:
    """The canonical JSON that `write_json` writes, with a line break at its end."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """A path on this machine with the bytes of a file, for readers that need one (memory maps, other libraries).

    A local file is yielded itself. A remote file is downloaded into a temporary folder that is removed when the block
    ends; a mapping made within the block stays valid.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    fs, name = file_system(path)
    if is_local(path):
        check_digest(path)
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        target = posixpath.join(folder, posixpath.basename(name))
        fs.get_file(name, target)
        if path in _expected:
            check_digest(path, Path(target).read_bytes())
        yield target


def is_folder(path: str) -> bool:
    """Whether a folder is at that path. An object store has a folder where it has files below the path."""
    fs, name = file_system(path)
    return bool(fs.isdir(name))


def modified(path: str) -> float:
    """When the file was last written, in seconds since 1970."""
    fs, name = file_system(path)
    return float(fs.modified(name).timestamp())


def absolute(path: str) -> str:
    """A local path made absolute; a URL without a slash at its end. For paths that other processes read from other
    folders."""
    return str(Path(path.removeprefix("file://")).resolve()) if is_local(path) else path.rstrip("/")


def remove(path: str) -> None:
    """Remove a file, or a folder and everything in it. Nothing happens if there is none, and several processes may
    remove the same folder at once."""
    fs, name = file_system(path)
    deadline = time.monotonic() + REMOVE_SECONDS
    while fs.exists(name):
        try:
            fs.rm(name, recursive=True)
        except OSError as error:  # a part of it was gone already, or another process added a file
            meanwhile = isinstance(error, FileNotFoundError) or error.errno == errno.ENOTEMPTY
            if not meanwhile or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def remove_empty(folder: str) -> None:
    """Remove a local folder if nothing is in it. An object store has no empty folders."""
    if is_local(folder):
        with contextlib.suppress(OSError):
            Path(file_system(folder)[1]).rmdir()


def sweep(folder: str) -> None:
    """Remove the unfinished files and folders that killed writers left below a local folder."""
    if not is_local(folder):
        return
    for place, folders, files in os.walk(file_system(folder)[1]):
        for name in [name for name in folders if _is_aside(name)]:
            folders.remove(name)
            shutil.rmtree(join(place, name), ignore_errors=True)
        for name in filter(_is_aside, files):
            Path(place, name).unlink(missing_ok=True)


def folders(path: str) -> list[str]:
    """The names of the folders right below a path, sorted."""
    return _entries(path, "directory")


def files(path: str) -> list[str]:
    """The names of the files right below a path, sorted."""
    return _entries(path, "file")


def files_below(path: str) -> list[str]:
    """The paths of all files below a folder, relative to it, sorted."""
    return sorted(sizes(path))


def sizes(folder: str) -> dict[str, int]:
    """The paths of all files below a folder, relative to it -> bytes. Empty where there is no such folder.

    One listing, which an object store sends in pages of 1,000: not a request for each file.
    """
    if is_local(folder):
        return _local_sizes(file_system(folder)[1], "")
    fs, name = file_system(folder)
    below = name.rstrip("/") + "/"
    entries = fs.find(name, detail=True).values()
    return {
        entry["name"].removeprefix(below): int(entry["size"] or 0)
        for entry in entries
        if entry["name"].startswith(below) and not entry["name"].endswith("/")
    }


def sizes_of(paths: Iterable[str]) -> dict[str, int]:
    """Path -> bytes of those of these files that are there, by one listing of each folder that they lie in."""
    folders = sorted({path.rpartition("/")[0] for path in paths})
    return {join(folder, name): size for folder in folders for name, size in sizes(folder).items()}


def _local_sizes(folder: str, prefix: str) -> dict[str, int]:
    found: dict[str, int] = {}
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):  # also of a file that vanished since its folder was listed
        return found
    with entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    found.update(_local_sizes(entry.path, f"{prefix}{entry.name}/"))
                else:
                    found[prefix + entry.name] = entry.stat().st_size
    return found


def _entries(path: str, kind: str) -> list[str]:
    """The names right below a path of one kind, `file` or `directory`. Other processes may add and remove some
    meanwhile."""
    fs, name = file_system(path)
    try:
        if is_local(path):  # fsspec fails on an entry that is removed while it lists
            with os.scandir(name) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir() == (kind == "directory"))
        entries_found = fs.ls(name, detail=True) if fs.isdir(name) else []
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(posixpath.basename(entry["name"].rstrip("/")) for entry in entries_found if entry["type"] == kind)


def digest_of(data: bytes | memoryview) -> str:
    """xxh3-128 of bytes, as 32 hex digits."""
    return xxhash.xxh3_128(data).hexdigest()


def digest(path: str) -> str:
    """xxh3-128 of the file's bytes, as 32 hex digits."""
    state = xxhash.xxh3_128()
    fs, name = file_system(path)
    if is_local(path):
        if size(path):  # mapped, not copied; an empty file cannot be mapped
            with memory_mapped(name) as mapped:
                state.update(mapped)
        return state.hexdigest()
    if object_stores.scheme_of(path) not in object_stores.PACKAGES:
        with fs.open(name, "rb") as file:
            while block := file.read(8 << 20):
                state.update(block)
        return state.hexdigest()
    start = 0
    while start == 0 or len(block) == DIGEST_BLOCK:  # one request for a file that is smaller
        try:
            block = read_range(path, start, start + DIGEST_BLOCK)
        except OSError:
            if size(path) != start:
                raise
            break  # a range of no bytes is an error
        state.update(block)
        start += len(block)
    return state.hexdigest()


DIGEST_BLOCK = 32 << 20
"""Bytes of a remote file that are read at a time."""


def write_parquet(path: str, table: pa.Table) -> TableRef:
    """Write a table as one Parquet file: zstd, row groups of 65,536 rows, dictionaries where values repeat."""
    repeated = [name for name in ("source", "condition", "stage", "reason", "split") if name in table.column_names]
    with write_file(path) as file:
        sink = _Sink(file)
        # The bytes would depend on the chunks of the table, that is on how it was put together. So write one chunk.
        pq.write_table(
            table.combine_chunks(),
            pa.PythonFile(sink, mode="w"),
            compression="zstd",
            compression_level=1,
            row_group_size=65536,
            use_dictionary=repeated,
            write_statistics=False,
        )
    return sink.finished(path, table.num_rows)


def write_arrow(path: str, table: pa.Table) -> TableRef:
    """Write a table as one Arrow IPC file, uncompressed, so that it can be memory-mapped."""
    return write_arrow_batches(path, table.schema, [table])


def write_arrow_batches(path: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> TableRef:
    """As `write_arrow`, with a batch for each table as it comes, so that one is in memory at a time."""
    rows = 0
    with write_file(path) as file:
        sink = _Sink(file)
        with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), schema) as writer:
            for table in tables:
                writer.write_table(table.combine_chunks())
                rows += table.num_rows
    return sink.finished(path, rows)


class _Sink:
    """A file for Arrow's writers that counts and digests the bytes as they are written.

    Collecting the file in memory first costs more than writing it, since every page is then touched for the first time.
    """

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.bytes, self.digest = file, 0, xxhash.xxh3_128()

    def write(self, data: bytes | memoryview) -> None:
        self.bytes += len(data)
        self.digest.update(data)
        self.file.write(data)

    def flush(self) -> None:
        """Does nothing: `write_file` flushes the file at its end."""

    def close(self) -> None:
        """Does nothing: `write_file` closes the file."""

    def finished(self, path: str, rows: int) -> TableRef:
        return TableRef(path=path, rows=rows, bytes=self.bytes, digest=self.digest.hexdigest())


SELECTION_OF = b"winnow.selection_of"
"""Metadata of a Parquet file that holds a selection: JSON of the file of which it has rows (path below the root,
bytes, digest, rows) and `replaced`, the columns that some rows have anew."""

STEPS = "/steps/"
"""Between a root and the folders of steps: what a selection and the file it selects from have in common."""

POSITION, CHANGED = "_position", "_changed"
"""Columns of a selection: uint32, ascending, the rows of that file; bool, whether the row has the columns `replaced`
anew."""


class _Selection(NamedTuple):
    """What a selection says of itself. of: the file whose rows it has. own: the columns that it holds of all rows.
    replaced: those that it holds of the rows that are `CHANGED`; null in the others."""

    of: TableRef
    own: tuple[str, ...]
    replaced: tuple[str, ...]


def write_selection(
    path: str, of: TableRef, positions: pa.Array, own: pa.Table, replaced: Changes | None = None
) -> TableRef:
    """Write a Parquet file that holds rows of another one below the same root, without their columns.

    `read_parquet`, `read_row` and `schema` read it as the table that it stands for. of: a file of records; it may be a
    selection. positions: rows of `of`, ascending. own: columns that the file holds itself, beside or instead of those
    of `of` [len(positions) rows]. replaced: columns that some rows have anew.
    """
    import pyarrow.compute as pc  # here and below: commands that read no such file start faster without it

    base, rows = of, positions
    with _opened(of.path, [POSITION]) as file:
        earlier = _selection_of(of.path, file)
        # Of a selection that adds nothing, the rows are those of the file behind it: one file less to read.
        if earlier is not None and not {*earlier.own, *earlier.replaced} - {*own.column_names}:
            base, rows = earlier.of, _read(file, [POSITION])[POSITION].take(positions)
    below = STEPS + base.path.rpartition(STEPS)[2]
    names = replaced.columns.column_names if replaced else []
    named = {"path": below, "bytes": base.bytes, "digest": base.digest, "rows": base.rows, "replaced": names}
    table = own.append_column(POSITION, rows.cast(pa.uint32()))
    if replaced:
        table = table.append_column(CHANGED, replaced.rows)
        for name in names:
            anew = pc.if_else(replaced.rows, replaced.columns[name], pa.scalar(None, replaced.columns[name].type))
            table = table.append_column(name, anew)
    return write_parquet(path, table.replace_schema_metadata({SELECTION_OF: json.dumps(named)}))


class Changes(NamedTuple):
    """rows: bool [rows], which rows have values of their own in `columns`, whose values in other rows are ignored."""

    rows: pa.Array
    columns: pa.Table


def _selection_of(path: str, file: pq.ParquetFile) -> _Selection | None:
    """What a Parquet file says of the rows it selects; None for one that holds its rows itself."""
    schema = file.schema_arrow
    named = (schema.metadata or {}).get(SELECTION_OF)
    if named is None or STEPS not in path:
        return None
    value = json.loads(named)
    if not value["path"].startswith(STEPS) or ".." in value["path"].split("/"):
        raise InputError(f"{path}: selects rows of {value['path']}, which is no file of a step; build again")
    replaced = tuple(value.pop("replaced"))
    of = TableRef(**value | {"path": path.rpartition(STEPS)[0] + value["path"]})
    own = tuple(name for name in schema.names if name not in (POSITION, CHANGED, *replaced))
    return _Selection(of, own, replaced)


def read_parquet(path: str, columns: list[str] | None = None, rows: pa.Array | None = None) -> pa.Table:
    """A Parquet file as a table; a selection as the rows that it stands for. Of a remote file only the columns asked
    for are read.

    rows: the numbers of the rows to return, in their order; None for all. Others are decoded, but not copied.

    Raises: InputError: naming the file, if it is truncated or not Parquet.
    """
    checked = path in _expected
    with _opened(path, None if columns is None else [*columns, POSITION, CHANGED]) as file:
        selection = _selection_of(path, file)
        if selection is None:
            table = _read(file, columns)
            return table if rows is None else table.take(rows)
        behind = None if columns is None else [name for name in columns if name not in selection.own]
        there = [name for name in (*selection.own, *selection.replaced) if columns is None or name in columns]
        changed = [CHANGED] if any(name in selection.replaced for name in there) else []
        own = _read(file, [*([] if behind == [] else [POSITION]), *changed, *there])
    own = own if rows is None else own.take(rows)
    if behind == []:
        return own.select(columns)
    with verified([selection.of] if checked else []):
        other = read_parquet(selection.of.path, behind, own[POSITION].combine_chunks())
    names = columns or [*other.column_names, *(name for name in selection.own if name not in other.column_names)]

    import pyarrow.compute as pc

    def column(name: str) -> pa.ChunkedArray:
        if name in selection.replaced:
            return pc.if_else(own[CHANGED], own[name], other[name])
        return own[name] if name in selection.own else other[name]

    fields = [(own if name in selection.own else other).schema.field(name) for name in names]
    return pa.table([column(name) for name in names], schema=pa.schema(fields))


def _selected_from(file: TableRef) -> TableRef | None:
    """The file that a selection has rows of; None for a file that holds its rows itself."""
    with _opened(file.path, [POSITION]) as opened:
        selection = _selection_of(file.path, opened)
    return None if selection is None else selection.of


def is_selection(file: TableRef) -> bool:
    """Whether a Parquet file selects rows of another one. Raises: InputError: as `read_parquet`."""
    return _selected_from(file) is not None


def bytes_to_read(file: TableRef) -> int:
    """Bytes that are read for the rows of a Parquet file: of a selection also those of the files behind it.

    Raises: InputError: as `read_parquet`.
    """
    behind = _selected_from(file)
    return file.bytes + (bytes_to_read(behind) if behind is not None else 0)


ROWS_AT_A_TIME = 1024
"""Rows that are decoded at a time on the way to one."""


def read_row(path: str, row: int, columns: list[str] | None = None) -> dict[str, Any]:
    """One row of a Parquet file, by column. Of its row group the pages up to the row are read, and none is kept.

    Raises: InputError: as `read_parquet`. IndexError: if the file has no such row.
    """
    with _opened(path, None if columns is None else [*columns, POSITION, CHANGED]) as file:
        selection = _selection_of(path, file)
        if selection is None:
            return _read_row(file, path, row, columns)
        here = [name for name in file.schema_arrow.names if columns is None or name in (*columns, POSITION, CHANGED)]
        own = _read_row(file, path, row, here)
    held = (*selection.own, *(selection.replaced if own.get(CHANGED) else ()))
    there = [name for name in held if name in own]
    behind = None if columns is None else [name for name in columns if name not in there]
    other = {} if behind == [] else read_row(selection.of.path, own[POSITION], behind)
    found = other | {name: own[name] for name in there}
    return found if columns is None else {name: found[name] for name in columns}


def _read_row(file: pq.ParquetFile, path: str, row: int, columns: list[str] | None) -> dict[str, Any]:
    first = 0
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if row < first + rows:
            batches = file.iter_batches(ROWS_AT_A_TIME, [group], columns, use_threads=False)
            skipped, index = divmod(row - first, ROWS_AT_A_TIME)
            batch = next(itertools.islice(batches, skipped, None))
            return cast(dict[str, Any], batch.slice(index, 1).to_pylist()[0])
        first += rows
    raise IndexError(f"{path} has no row {row}")


def columns(path: str) -> list[str]:
    """The column names of a Parquet file. Reads the schema only. Raises: as `read_parquet`."""
    return list(schema(path).names)


def schema(path: str) -> pa.Schema:
    """The schema of a Parquet file; of a selection that of the rows it stands for. Raises: as `read_parquet`."""
    return shape(path)[0]


def shape(path: str) -> tuple[pa.Schema, int]:
    """The schema of a Parquet file, as `schema`, and its rows. Reads footers only. Raises: as `read_parquet`."""
    with _opened(path, []) as file:
        selection, written, rows = _selection_of(path, file), file.schema_arrow, int(file.metadata.num_rows)
    if selection is None:
        return written, rows
    found = schema(selection.of.path)
    for name in selection.own:
        field, place = written.field(name), found.get_field_index(name)
        found = found.append(field) if place < 0 else found.set(place, field)
    return found, rows


@contextlib.contextmanager
def _opened(path: str, columns: list[str] | None) -> Iterator[pq.ParquetFile]:
    """As `_open_parquet`. Raises: InputError: naming the file, if it is truncated or not Parquet."""
    try:
        with _open_parquet(path, columns) as file:
            yield file
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error})") from error


def _read(file: pq.ParquetFile, columns: list[str] | None) -> pa.Table:
    # Without threads: a worker has one core, and the order of allocations should not vary. `pq.read_table` would
    # import pandas (0.4 s).
    table = file.read(columns, use_threads=False)
    return table if columns is None else table.select(columns)


PARQUET_TAIL = 1 << 19
"""Bytes of the end of a remote Parquet file that are read first: the footer, and all of a file that is not larger."""


def _open_parquet(path: str, columns: list[str] | None) -> pq.ParquetFile:
    """A Parquet file of which `columns` can be read: a remote one as memory that holds the bytes of these.

    A file of which all columns are wanted takes one request, as does a small one; another two, and one for each range.
    """
    if is_local(path):
        check_digest(path)
        return pq.ParquetFile(file_system(path)[1])
    if columns is None:
        return pq.ParquetFile(pa.BufferReader(read_bytes(path)))
    tail = read_tail(path, PARQUET_TAIL)
    if not tail:
        raise FileNotFoundError(f"{path}: no such file, or an empty one")
    if len(tail) < PARQUET_TAIL:
        check_digest(path, tail)
        return pq.ParquetFile(pa.BufferReader(tail))
    end = size(path)
    start = end - PARQUET_TAIL
    footer = int.from_bytes(tail[-8:-4], "little") + 8
    if footer > len(tail):
        start = max(end - footer, 0)
        tail = read_range(path, start, end)
    memory = mmap.mmap(-1, end, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[start:] = tail
    file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(memory)))
    groups = (file.metadata.row_group(index) for index in range(file.metadata.num_row_groups))
    chunks = (group.column(index) for group in groups for index in range(group.num_columns))
    wanted = [
        (first, first + chunk.total_compressed_size)
        for chunk in chunks
        if any(f"{chunk.path_in_schema}.".startswith(f"{name}.") for name in columns)
        for first in [chunk.data_page_offset if not chunk.has_dictionary_page else chunk.dictionary_page_offset]
        if first < start
    ]
    for (first, _), data in zip(wanted, read_ranges(path, wanted), strict=True):
        memory[first : first + len(data)] = data
    return file


def map_arrow(path: str) -> pa.Table:
    """An Arrow IPC file as a table. A local file is memory-mapped, a remote one read whole: `ArrowFile` reads a part.

    Raises: InputError: naming the file, if it is not an Arrow file.
    """
    # Tasks over ranges map thousands of files, so local paths skip the file system object.
    if is_local(path):
        check_digest(path)
    source = pa.memory_map(path.removeprefix("file://")) if is_local(path) else pa.BufferReader(read_bytes(path))
    try:
        return pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: cannot be read as an Arrow file ({error})") from error


def memory_mapped(path: str) -> mmap.mmap:
    """A local file mapped read-only."""
    with Path(path).open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
