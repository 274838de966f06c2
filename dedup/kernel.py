"""How kernels are compiled (Numba, cached on disk, without the GIL) and how they read Arrow text."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Compiled = Callable[..., Any]
"""The type of a kernel for the type checker: Numba infers argument types itself, on the first call."""

_KERNELS: list[Any] = []

_FOLDER = Path(__file__).resolve().parents[1]
"""Where Winnow's packages lie."""

_PACKAGES = ("dedup", "filters", "pipelines", "training")

_IMPORT = re.compile(rb"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]+)|import[ \t]+([\w.]+))", re.M)


def kernel(
    function: Compiled, fastmath: bool | set[str] = False, error_model: str = "python", counted: bool = True
) -> Compiled:
    """Compile `function` on its first call. The machine code is cached next to the source file if that is writable.

    fastmath, error_model: as in `numba.njit`. counted: whether references to arrays are counted.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath, "error_model": error_model}
    if not counted:
        options["_nrt"] = False
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba: "no locator available", an installation without any writable folder
        compiled = numba.njit(**options)(function)
    if hasattr(compiled._cache, "_cache_file"):
        # Numba's own stamp is of the file alone that defines the kernel, though kernels and constants of other modules
        # are compiled into it.
        compiled._cache._cache_file._source_stamp = _Stamp(function.__code__.co_filename)
    _KERNELS.append(compiled)
    return cast(Compiled, compiled)


borrowing_kernel = functools.partial(kernel, counted=False)
"""`kernel` for functions that make no arrays, only read and write those that they are given, or slices of them.

Their callers hold the arrays, so no references need counting. Numba counts them with atomic instructions at each call
of a function, which was a quarter of the time of reading text.
"""


class _Stamp:
    """The digest `_stamp` of a source file, made when a kernel is first called: a command that calls none reads no
    source. Numba compares it with the stamp of the machine code on disk, and writes it there, as text."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, path: str) -> None:
        self.path = path

    def __eq__(self, other: object) -> bool:
        return _stamp(self.path) == other

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (_stamp(self.path),)


@functools.cache
def _stamp(path: str) -> str:
    """A digest of a source file and of all files of Winnow's packages that it imports, directly or not."""
    reached, waiting = {path: _source(path)}, [path]
    while waiting:
        for name in _source(waiting.pop())[1]:
            if name not in reached:
                reached[name] = _source(name)
                waiting.append(name)
    return hashlib.blake2b(b"".join(sorted(digest for digest, _ in reached.values())), digest_size=16).hexdigest()


@functools.cache
def _source(path: str) -> tuple[bytes, tuple[str, ...]]:
    """The digest of a source file, and the files of Winnow's packages that it imports."""
    try:
        text = Path(path).read_bytes()
    except OSError:  # a kernel that was typed into a console
        return b"", ()
    files: dict[str, None] = {}
    for module, names, whole in _IMPORT.findall(text):
        for name in (whole or module, *(module + b"." + own for own in re.findall(rb"\w+", names))):
            files |= dict.fromkeys(_files_of(name.decode()))
    return hashlib.blake2b(text, digest_size=16).digest(), tuple(files)


@functools.cache
def _files_of(name: str) -> tuple[str, ...]:
    """The file of a module of Winnow's packages; none for another name."""
    parts = name.split(".")
    if parts[0] not in _PACKAGES:
        return ()
    place = _FOLDER.joinpath(*parts)
    return tuple(str(file) for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())


def share_compiled() -> float:
    """Share of the kernels imported so far, 0 to 1, with machine code on disk that is as new as their source."""
    return sum(map(_is_compiled, _KERNELS)) / max(len(_KERNELS), 1)


def _is_compiled(compiled: Any) -> bool:
    cache = getattr(compiled._cache, "_cache_file", None)  # none without a writable folder
    return bool(cache and cache._load_index())


def buffers(text: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The bytes and row offsets of a string array. The bytes are not copied.

    text: string, large_string, binary or large_binary [rows], without nulls; slices are supported.

    Returns the bytes uint8 and, for each row, where it starts and ends in them: int64 [rows + 1].

    Raises:
        TypeError: if the array has another type.
        ValueError: if a row is null.
    """
    if text.null_count:
        raise ValueError(f"text must not contain nulls, but {text.null_count} rows are null: fill them first")
    if pa.types.is_string(text.type) or pa.types.is_binary(text.type):
        width: type[np.int32] | type[np.int64] = np.int32
    elif pa.types.is_large_string(text.type) or pa.types.is_large_binary(text.type):
        width = np.int64
    else:
        raise TypeError(f"text must be a string array, not {text.type}")
    _, positions, content = text.buffers()
    data = np.empty(0, np.uint8) if content is None else np.frombuffer(content, np.uint8)
    # Whether a buffer of Arrow's may be written to depends on where it comes from. Numba compiles a version for each.
    data.flags.writeable = False
    if len(text) == 0 or positions is None:
        return data, np.zeros(1, np.int64)
    return data, np.frombuffer(positions, width)[text.offset : text.offset + len(text) + 1].astype(np.int64)
