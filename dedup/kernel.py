"""How this room compiles: Numba kernels over Arrow buffers, cached on disk, without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils
from numba.extending import intrinsic

Compiled = Callable[..., Any]
"""What a kernel is to the type checker: numba infers the types of arguments itself, at the first call."""


def kernel(function: Compiled, fastmath: bool | set[str] = False, error_model: str = "python") -> Compiled:
    """Compile `function` on its first call; the machine code is kept beside the source where that is writable.

    fastmath, error_model: as in `numba.njit`.
    """
    options = {"nogil": True, "fastmath": fastmath, "error_model": error_model}
    try:
        return cast(Compiled, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # numba: "no locator available", an installation without any writable folder
        return cast(Compiled, numba.njit(**options)(function))


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


def _place(context: Any, builder: Any, array_type: Any, array: Any, at: Any, kind: Any) -> Any:
    """A pointer to what lies in an array from index `at`, read as one value of the type `kind`."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(cgutils.gep_inbounds(builder, data, at), kind.as_pointer())


@intrinsic
def load(typingctx, data, at):  # type: ignore[no-untyped-def]
    """The eight bytes of a uint8 array from index `at`, little-endian, at any alignment. Nothing checks the index."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array, at = arguments
        return builder.load(_place(context, builder, signature.args[0], array, at, ir.IntType(64)), align=1)

    return numba.uint64(data, numba.int64), code


@intrinsic
def store(typingctx, data, at, value):  # type: ignore[no-untyped-def]
    """Write a uint64 as the eight bytes of a uint8 array from index `at`, as `load` reads it."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array, at, value = arguments
        builder.store(value, _place(context, builder, signature.args[0], array, at, ir.IntType(64)), align=1)
        return context.get_dummy_value()

    return numba.void(data, numba.int64, numba.uint64), code


@intrinsic
def trailing_zeros(typingctx, value):  # type: ignore[no-untyped-def]
    """How many bits below the lowest that is set, uint64; 64 where none is."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return numba.uint64(numba.uint64), code


TOGETHER = 8  # values that `matches` takes of each run: a vector of 256 bits


@intrinsic
def matches(typingctx, values, i, j):  # type: ignore[no-untyped-def]
    """How many of the eight values from index `i` of a uint32 array are among the eight from index `j`, where either
    eight are distinct: all 64 comparisons as eight of vectors, without a branch."""
    lanes = ir.VectorType(ir.IntType(32), TOGETHER)

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array, *places = arguments
        one, other = (
            builder.load(_place(context, builder, signature.args[0], array, at, lanes), align=4) for at in places
        )
        found = ir.Constant(ir.VectorType(ir.IntType(1), TOGETHER), [0] * TOGETHER)
        for lane in range(TOGETHER):
            everywhere = builder.shuffle_vector(other, other, ir.Constant(lanes, [lane] * TOGETHER))
            found = builder.or_(found, builder.icmp_unsigned("==", one, everywhere))
        bits = builder.ctpop(builder.bitcast(found, ir.IntType(TOGETHER)))
        return builder.zext(bits, ir.IntType(64))

    return numba.int64(values, numba.int64, numba.int64), code
