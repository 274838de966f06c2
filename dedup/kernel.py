"""How this room compiles: Numba kernels over Arrow buffers, cached on disk, without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Compiled = Callable[..., Any]
"""What a kernel is to the type checker: numba infers the types of arguments itself, at the first call."""


def kernel(function: Compiled) -> Compiled:
    """Compile `function` on its first call; the machine code is kept beside the source where that is writable."""
    try:
        return cast(Compiled, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # numba: "no locator available", an installation without any writable folder
        return cast(Compiled, numba.njit(nogil=True)(function))


def buffers(text: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The bytes and row offsets of a string array, without copying the bytes.

    text: string, large_string, binary or large_binary [rows], sliced or not, free of nulls.
    Returns bytes uint8 and offsets int64 [rows + 1] into them.
    Raises TypeError for another type, ValueError where a row is null.
    """
    if text.null_count:
        raise ValueError(f"{text.null_count} null rows: fill them before asking what they repeat")
    if pa.types.is_string(text.type) or pa.types.is_binary(text.type):
        width: type[np.int32] | type[np.int64] = np.int32
    elif pa.types.is_large_string(text.type) or pa.types.is_large_binary(text.type):
        width = np.int64
    else:
        raise TypeError(f"text must be a string array, not {text.type}")
    _, positions, content = text.buffers()
    data = np.empty(0, np.uint8) if content is None else np.frombuffer(content, np.uint8)
    if len(text) == 0 or positions is None:
        return data, np.zeros(1, np.int64)
    return data, np.frombuffer(positions, width)[text.offset : text.offset + len(text) + 1].astype(np.int64)
