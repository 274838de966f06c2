"""Machine instructions that kernels cannot express in Python: unaligned loads and stores, bit counts, vectors."""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8
"""Values that `count_matches` compares at a time: 32-bit lanes of a 256-bit vector."""


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, at: Any, kind: Any) -> Any:
    """A pointer to index `at` of an array, as a pointer to one value of the LLVM type `kind`."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(cgutils.gep_inbounds(builder, data, at), kind.as_pointer())


@intrinsic
def load_uint64(typingctx, data, at):  # type: ignore[no-untyped-def]
    """The eight bytes of a uint8 array from index `at`, little-endian, at any alignment. The index is not checked."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array, at = arguments
        return builder.load(_pointer(context, builder, signature.args[0], array, at, ir.IntType(64)), align=1)

    return numba.uint64(data, numba.int64), generate


@intrinsic
def store_uint64(typingctx, data, at, value):  # type: ignore[no-untyped-def]
    """Write a uint64 to the eight bytes of a uint8 array from index `at`, little-endian. The index is not checked."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array, at, value = arguments
        builder.store(value, _pointer(context, builder, signature.args[0], array, at, ir.IntType(64)), align=1)
        return context.get_dummy_value()

    return numba.void(data, numba.int64, numba.uint64), generate


@intrinsic
def trailing_zeros(typingctx, value):  # type: ignore[no-untyped-def]
    """The number of zero bits below the lowest set bit of a uint64; 64 for 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return numba.uint64(numba.uint64), generate


@intrinsic
def count_matches(typingctx, values, i, j):  # type: ignore[no-untyped-def]
    """How many of values[i : i + LANES] are in values[j : j + LANES]: int64.

    values: uint32, distinct within each of the two runs. All LANES**2 comparisons are done as LANES vector comparisons,
    without a branch. The indices are not checked.
    """
    lanes = ir.VectorType(ir.IntType(32), LANES)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array, *indices = arguments
        first, second = (
            builder.load(_pointer(context, builder, signature.args[0], array, at, lanes), align=4) for at in indices
        )
        matched = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [0] * LANES)
        for lane in range(LANES):
            repeated = builder.shuffle_vector(second, second, ir.Constant(lanes, [lane] * LANES))
            matched = builder.or_(matched, builder.icmp_unsigned("==", first, repeated))
        bits = builder.ctpop(builder.bitcast(matched, ir.IntType(LANES)))
        return builder.zext(bits, ir.IntType(64))

    return numba.int64(values, numba.int64, numba.int64), generate
