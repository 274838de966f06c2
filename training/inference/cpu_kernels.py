"""The compiled kernels of the CPU decoder: matrix products on packed weights, attention over the cache, the full step.

General matrix products are optimised for many rows. With one row they reach a third of the memory bandwidth, with eight
a quarter of the peak FLOP/s, and the thirty small tensor operations of a block take as long again. The kernels here
read the weights in panels of 16 rows, strictly in order; each panel is multiplied with up to eight rows at a time in
registers, and everything between the products is in the same compiled function. All sums are float32.

A row's result does not depend on the other rows of the batch: every row is summed in the same order, whatever kernel
variant it goes through. Batching and refilling therefore never change a token.

Shape suffixes: N new tokens (one per sequence, or whole prompts), M of them with logits, D hidden, H heads, K head
width, F feed-forward width, T cached positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from dedup.kernel import kernel
from training.elementwise import EPSILON
from training.int4 import GROUP, LOWEST

PANEL_ROWS = 16
"""Matrix rows in a panel: the float32 values of a 512-bit register. Narrower processors use several registers."""

PREFETCH_DISTANCE = 256
"""Weights (float32 values) by which a product prefetches, per row it computes. More rows take longer per weight, so the
time ahead stays about the same."""

ROWS_PER_PASS = 128
"""Rows of x that are multiplied with a whole matrix before the next ones. They stay in the second-level cache."""

FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
"""LLVM flags: sums may be reordered and fused; infinities and NaN keep their meaning."""

INT4_BLOCK = 4 * PANEL_ROWS + PANEL_ROWS * GROUP // 2
"""Bytes of a group of columns of a panel in four bits: 16 scales in float32, and the codes."""

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

decoder_kernel = partial(kernel, fastmath=FASTMATH, error_model="numpy")
"""Compiles a function on its first call. All kernels here take half a minute."""


def _prefetch(builder: ir.IRBuilder, address: Any) -> None:
    """Emit a prefetch into the second-level cache; the first level has room for too few outstanding requests."""
    byte_pointer, int32 = ir.IntType(8).as_pointer(), ir.IntType(32)
    prefetch = builder.module.declare_intrinsic(
        "llvm.prefetch.p0", (), ir.FunctionType(ir.VoidType(), [byte_pointer, int32, int32, int32])
    )
    builder.call(prefetch, [builder.bitcast(address, byte_pointer), int32(0), int32(2), int32(1)])


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch_at(typing: Any, array: Any, index: Any) -> Any:
    """Prefetch element `index` of a flat float32 array. An index past the end has no effect."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        _prefetch(builder, builder.gep(data, [values[1]], source_etype=ir.FloatType()))
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


_VECTOR = ir.VectorType(ir.FloatType(), PANEL_ROWS)


def _fma(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """`a * b + c` of vectors of PANEL_ROWS."""
    fma = builder.module.declare_intrinsic(f"llvm.fma.v{PANEL_ROWS}f32", (), ir.FunctionType(_VECTOR, [_VECTOR] * 3))
    return builder.call(fma, [a, b, c])


def _add_product(builder: ir.IRBuilder, weights: Any, value: Any, total: Any) -> Any:
    """`total + weights * value`: vectors of PANEL_ROWS, and one float32 of x."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    lane_zero = ir.Constant(ir.VectorType(ir.IntType(32), PANEL_ROWS), [0] * PANEL_ROWS)
    first = builder.insert_element(undefined, value, ir.IntType(32)(0))
    return _fma(builder, weights, builder.shuffle_vector(first, undefined, lane_zero), total)


def _summed(builder: ir.IRBuilder, rows: int, steps: Any, add: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """Emit a loop that keeps a sum, a vector of PANEL_ROWS, for each of `rows` rows in registers; returns the sums.

    steps: of the loop, at least one. add: emits one step: (step, sums before it) -> sums after it.
    """
    int64 = steps.type
    before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(int64)
    sums = [builder.phi(_VECTOR) for _ in range(rows)]
    new_sums = add(step, sums)
    following = builder.add(step, int64(1))
    step.add_incoming(int64(0), before)
    step.add_incoming(following, loop)
    for total, new_sum in zip(sums, new_sums, strict=True):
        total.add_incoming(ir.Constant(_VECTOR, [0.0] * PANEL_ROWS), before)
        total.add_incoming(new_sum, loop)
    builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
    builder.position_at_end(after)
    return new_sums


def _panel_product(rows: int) -> Any:
    """An intrinsic that multiplies one panel of weights with `rows` rows of x.

    (packed, at, x, x_at, x_stride, out, out_at, out_stride, k): the panel begins at `packed[at]`; row r of x begins at
    `x[x_at + r * x_stride]`, and its 16 results go to `out[out_at + r * out_stride]`. All arrays are flat.

    Written in LLVM IR because the sums, 16 values per row, must stay in registers for the whole length of k.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def product(
        typing: Any,
        packed: Any,
        at: Any,
        x: Any,
        x_at: Any,
        x_stride: Any,
        out: Any,
        out_at: Any,
        out_stride: Any,
        k: Any,
    ) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
            packed_data, x_data, out_data = (
                context.make_array(signature.args[i])(context, builder, values[i]).data for i in (0, 2, 5)
            )
            at, x_at, x_stride, out_at, out_stride, k = (values[i] for i in (1, 3, 4, 6, 7, 8))
            float32, int64 = ir.FloatType(), k.type

            def address(data: Any, index: Any) -> Any:
                return builder.gep(data, [index], source_etype=float32)

            row_starts = [builder.add(x_at, builder.mul(int64(row), x_stride)) for row in range(rows)]

            def add(step: Any, sums: list[Any]) -> list[Any]:  # sums[row] += panel[step] * x[row, step]
                panel_step = address(packed_data, builder.add(at, builder.mul(step, int64(PANEL_ROWS))))
                _prefetch(builder, builder.gep(panel_step, [int64(PREFETCH_DISTANCE * rows)], source_etype=float32))
                weights = builder.load(builder.bitcast(panel_step, _VECTOR.as_pointer()), align=4, typ=_VECTOR)
                values = [builder.load(address(x_data, builder.add(row, step)), typ=float32) for row in row_starts]
                return [_add_product(builder, weights, *pair) for pair in zip(values, sums, strict=True)]

            for row, total in enumerate(_summed(builder, rows, k, add)):
                target = address(out_data, builder.add(out_at, builder.mul(int64(row), out_stride)))
                builder.store(total, builder.bitcast(target, _VECTOR.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(packed, at, x, x_at, x_stride, out, out_at, out_stride, k), generate

    return product


_product_1, _product_2, _product_4, _product_8 = (_panel_product(rows) for rows in (1, 2, 4, 8))


@decoder_kernel
def _multiply(packed: Floats, x_NK: Floats, out: Floats) -> None:
    """out[n, i] = sum over k of matrix[i, k] x[n, k].

    packed: the matrix, [panels, k, 16]. out: [N, panels * 16]. All arrays contiguous.
    """
    panels, k, rows, stride = packed.shape[0], packed.shape[1], x_NK.shape[0], out.shape[1]
    weights, x, to = packed.reshape(-1), x_NK.reshape(-1), out.reshape(-1)
    # With many rows, a pass over the matrix takes ROWS_PER_PASS of them, so that they stay in the second-level cache.
    for begin in range(0, rows, ROWS_PER_PASS):
        end = min(begin + ROWS_PER_PASS, rows)
        for panel in range(panels):
            at, column, row = panel * k * PANEL_ROWS, panel * PANEL_ROWS, begin
            # Eight rows at a time fill the registers; the remainder takes four, two and one.
            while end - row >= 8:
                _product_8(weights, at, x, row * k, k, to, row * stride + column, stride, k)
                row += 8
            if end - row >= 4:
                _product_4(weights, at, x, row * k, k, to, row * stride + column, stride, k)
                row += 4
            if end - row >= 2:
                _product_2(weights, at, x, row * k, k, to, row * stride + column, stride, k)
                row += 2
            if end - row >= 1:
                _product_1(weights, at, x, row * k, k, to, row * stride + column, stride, k)


def _int4_panel_product(rows: int) -> Any:
    """An intrinsic that multiplies one group of columns of a panel in four bits with `rows` rows of x.

    (packed, at, x, x_at, x_stride, out, out_at, out_stride): the group's block begins at byte `packed[at]`; its results
    are added to `out`. The other arguments are those of `_panel_product`.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def product(
        typing: Any, packed: Any, at: Any, x: Any, x_at: Any, x_stride: Any, out: Any, out_at: Any, out_stride: Any
    ) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
            packed_data, x_data, out_data = (
                context.make_array(signature.args[i])(context, builder, values[i]).data for i in (0, 2, 5)
            )
            at, x_at, x_stride, out_at, out_stride = (values[i] for i in (1, 3, 4, 6, 7))
            byte, float32, int64 = ir.IntType(8), ir.FloatType(), at.type
            integers, codes = (ir.VectorType(kind, PANEL_ROWS) for kind in (ir.IntType(32), byte))

            def address(data: Any, index: Any, kind: Any = float32) -> Any:
                return builder.gep(data, [index], source_etype=kind)

            def constant(value: int) -> Any:
                return ir.Constant(integers, [value] * PANEL_ROWS)

            row_starts = [builder.add(x_at, builder.mul(int64(row), x_stride)) for row in range(rows)]
            block = address(packed_data, at, byte)
            first_codes = address(block, int64(4 * PANEL_ROWS), byte)

            def add(pair: Any, sums: list[Any]) -> list[Any]:  # of the columns 2 pair and 2 pair + 1
                place = address(first_codes, builder.mul(pair, int64(PANEL_ROWS)), byte)
                _prefetch(builder, address(place, int64(PREFETCH_DISTANCE * rows), byte))
                loaded = builder.load(builder.bitcast(place, codes.as_pointer()), align=1, typ=codes)
                both = builder.zext(loaded, integers)
                for odd, code in enumerate((builder.and_(both, constant(15)), builder.lshr(both, constant(4)))):
                    weights = builder.sitofp(builder.add(code, constant(LOWEST)), _VECTOR)
                    column = builder.add(builder.mul(pair, int64(2)), int64(odd))
                    values = [
                        builder.load(address(x_data, builder.add(row, column)), typ=float32) for row in row_starts
                    ]
                    sums = [_add_product(builder, weights, *pair) for pair in zip(values, sums, strict=True)]
                return sums

            sums = _summed(builder, rows, int64(GROUP // 2), add)
            scales = builder.load(builder.bitcast(block, _VECTOR.as_pointer()), align=1, typ=_VECTOR)
            for row, total in enumerate(sums):
                target = address(out_data, builder.add(out_at, builder.mul(int64(row), out_stride)))
                so_far = builder.load(builder.bitcast(target, _VECTOR.as_pointer()), align=4, typ=_VECTOR)
                builder.store(
                    _fma(builder, scales, total, so_far), builder.bitcast(target, _VECTOR.as_pointer()), align=4
                )
            return context.get_dummy_value()

        return types.void(packed, at, x, x_at, x_stride, out, out_at, out_stride), generate

    return product


_int4_product_1, _int4_product_2, _int4_product_4, _int4_product_8 = (
    _int4_panel_product(rows) for rows in (1, 2, 4, 8)
)


@decoder_kernel
def _multiply_int4(packed: Bytes, x_NK: Floats, out: Floats) -> None:
    """`_multiply` of a matrix in four bits: [panels, groups, INT4_BLOCK]."""
    panels, groups, rows, stride = packed.shape[0], packed.shape[1], x_NK.shape[0], out.shape[1]
    k = groups * GROUP
    weights, x, to = packed.reshape(-1), x_NK.reshape(-1), out.reshape(-1)
    out[:] = 0
    for begin in range(0, rows, ROWS_PER_PASS):
        end = min(begin + ROWS_PER_PASS, rows)
        for panel in range(panels):
            column, row = panel * PANEL_ROWS, begin
            while row < end:
                count = end - row
                for group in range(groups):
                    at, x_at = (panel * groups + group) * INT4_BLOCK, row * k + group * GROUP
                    if count >= 8:
                        _int4_product_8(weights, at, x, x_at, k, to, row * stride + column, stride)
                    elif count >= 4:
                        _int4_product_4(weights, at, x, x_at, k, to, row * stride + column, stride)
                    elif count >= 2:
                        _int4_product_2(weights, at, x, x_at, k, to, row * stride + column, stride)
                    else:
                        _int4_product_1(weights, at, x, x_at, k, to, row * stride + column, stride)
                row += 8 if count >= 8 else 4 if count >= 4 else 2 if count >= 2 else 1


def multiply(packed: Floats | Bytes, x_NK: Floats, out: Floats) -> None:
    """The product for the type of the packed matrix: `_multiply` or `_multiply_int4`. Only for compiled callers."""
    raise TypeError("called by compiled kernels only")


@overload(multiply)
def _multiply_by_type(packed, x_NK, out):  # type: ignore[no-untyped-def]  # Numba compares the names with annotations
    if packed.dtype == types.uint8:
        return lambda packed, x_NK, out: _multiply_int4(packed, x_NK, out)
    return lambda packed, x_NK, out: _multiply(packed, x_NK, out)


@intrinsic  # type: ignore[untyped-decorator]
def _as_float(typing: Any, bits: Any) -> Any:
    """The float32 with these 32 bits."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.FloatType())

    return types.float32(types.int32), generate


@decoder_kernel
def _exp(x: Any) -> Any:
    """e^x with relative error 1e-7. Unlike the library function, it can be vectorised in a loop.

    e^x = 2^n e^r with |r| <= ln 2 / 2: 2^n by its exponent bits, e^r by its Taylor series to the seventh power.
    """
    x = min(max(x, np.float32(-87)), np.float32(87))
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    # ln 2 in two parts, so that n ln 2 is subtracted without rounding error.
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    series = np.float32(1 / 5040)
    series = series * r + np.float32(1 / 720)
    series = series * r + np.float32(1 / 120)
    series = series * r + np.float32(1 / 24)
    series = series * r + np.float32(1 / 6)
    series = series * r + np.float32(1 / 2)
    series = series * r + np.float32(1)
    series = series * r + np.float32(1)
    return series * _as_float((np.int32(n) + np.int32(127)) << np.int32(23))


@decoder_kernel
def _norm(u_ND: Floats, out_ND: Floats) -> None:
    """Divide each row by its root mean square, as `elementwise.rms_norm`. `out_ND` may be `u_ND`."""
    rows, width = u_ND.shape
    for n in range(rows):
        total = np.float32(0)
        for i in range(width):
            total += u_ND[n, i] * u_ND[n, i]
        scale = np.float32(1 / np.sqrt(total / width + EPSILON))
        for i in range(width):
            out_ND[n, i] = u_ND[n, i] * scale


@decoder_kernel
def _scores(query_K: Floats, keys_TK: Floats, count: int, scores_T: Floats, upcoming: Floats, at: int) -> None:
    """Dot products of a query with the first `count` keys. Prefetches as many rows of the flat `upcoming` from `at`."""
    K = len(query_K)
    # Four keys at a time: four independent sums hide the latency of the additions.
    for t in range(0, count, 4):
        for j in range(0, min(4, count - t) * K, PANEL_ROWS):
            _prefetch_at(upcoming, at + t * K + j)
        if t + 4 <= count:
            sum_0, sum_1, sum_2, sum_3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for j in range(K):
                sum_0 += query_K[j] * keys_TK[t, j]
                sum_1 += query_K[j] * keys_TK[t + 1, j]
                sum_2 += query_K[j] * keys_TK[t + 2, j]
                sum_3 += query_K[j] * keys_TK[t + 3, j]
            scores_T[t], scores_T[t + 1], scores_T[t + 2], scores_T[t + 3] = sum_0, sum_1, sum_2, sum_3
        else:
            for rest in range(t, count):
                total = np.float32(0)
                for j in range(K):
                    total += query_K[j] * keys_TK[rest, j]
                scores_T[rest] = total


@decoder_kernel
def _weighted_sum(weights_T: Floats, values_TK: Floats, count: int, sums_K: Floats, upcoming: Floats, at: int) -> None:
    """The sum of the first `count` values, each times its weight. Prefetches `upcoming` as `_scores` does."""
    K = len(sums_K)
    sums_K[:] = 0
    # Four values at a time: the sums are loaded and stored a quarter as often.
    for t in range(0, count, 4):
        for j in range(0, min(4, count - t) * K, PANEL_ROWS):
            _prefetch_at(upcoming, at + t * K + j)
        if t + 4 <= count:
            weight_0, weight_1, weight_2, weight_3 = (
                weights_T[t], weights_T[t + 1], weights_T[t + 2], weights_T[t + 3],
            )  # fmt: skip
            for j in range(K):
                pair = weight_0 * values_TK[t, j] + weight_1 * values_TK[t + 1, j]
                sums_K[j] += pair + (weight_2 * values_TK[t + 2, j] + weight_3 * values_TK[t + 3, j])
        else:
            for rest in range(t, count):
                for j in range(K):
                    sums_K[j] += weights_T[rest] * values_TK[rest, j]


@decoder_kernel
def _attend(
    gqkv: Floats,
    keys: Floats,
    values: Floats,
    slot: int,
    sequences_N: Integers,
    positions_N: Integers,
    visible_N: Integers,
    cos: Floats,
    sin: Floats,
    out_ND: Floats,
) -> None:
    """Store the keys and values of new tokens, then compute gated attention of each to the positions it sees.

    gqkv: gate, query, key and value of each token, [N, 4 D]. keys, values: the cache, [slots, rows, H, T, K].
    sequences_N: the cache row of each token. visible_N: a token sees the first `visible` positions of its row.
    """
    rows, D = out_ND.shape
    heads, K = keys.shape[2], keys.shape[4]
    flat_keys, flat_values, head_size = keys.reshape(-1), values.reshape(-1), keys.shape[3] * K
    half, scale = K // 2, np.float32(1 / np.sqrt(K))
    query, sums = np.empty(K, np.float32), np.empty(K, np.float32)
    scores = np.empty(keys.shape[3], np.float32)
    # All keys and values first: the tokens of a bidirectional prompt see those after them.
    for n in range(rows):
        position = positions_N[n]
        for head in range(heads):
            own_keys, own_values = keys[slot, sequences_N[n], head], values[slot, sequences_N[n], head]
            at = head * K
            for j in range(half):  # RoPE turns the pairs (j, j + K/2)
                c, s = cos[n, j], sin[n, j]
                first, second = gqkv[n, 2 * D + at + j], gqkv[n, 2 * D + at + half + j]
                own_keys[position, j], own_keys[position, half + j] = first * c - second * s, second * c + first * s
            for j in range(K):
                own_values[position, j] = gqkv[n, 3 * D + at + j]
    for n in range(rows):
        count = visible_N[n]
        for head in range(heads):
            own_keys, own_values = keys[slot, sequences_N[n], head], values[slot, sequences_N[n], head]
            at, head_start = head * K, ((slot * keys.shape[1] + sequences_N[n]) * heads + head) * head_size
            for j in range(half):
                c, s = cos[n, j], sin[n, j]
                first, second = gqkv[n, D + at + j], gqkv[n, D + at + half + j]
                query[j], query[half + j] = (first * c - second * s) * scale, (second * c + first * s) * scale
            # While the keys of a head are read, its values are prefetched; then the next head's keys.
            _scores(query, own_keys, count, scores, flat_values, head_start)
            largest, total = np.float32(-np.inf), np.float32(0)
            for t in range(count):
                largest = max(largest, scores[t])
            for t in range(count):  # softmax; its division is done once per output, below
                scores[t] = _exp(scores[t] - largest)
                total += scores[t]
            _weighted_sum(scores, own_values, count, sums, flat_keys, head_start + head_size)
            for j in range(K):  # sigmoid(gate) * attention
                out_ND[n, at + j] = sums[j] / (total * (np.float32(1) + _exp(-gqkv[n, at + j])))


NORM_MAGIC, NORM_PRE, NORM_POST = 0, 1, 2
"""`ModelConfig.norm` as a kernel argument."""

CALL_MODULE, CALL_INTO, CALL_READS_H, CALL_READS_L = 0, 1, 2, 3
"""Columns of `calls`: index of the module, of the state it writes (0 H, 1 L), and whether H and L are its input."""


@decoder_kernel
def forward(
    calls: Integers,
    norm: int,
    blocks: int,
    embedded_ND: Floats,
    start_D: Floats,
    gqkv: Floats | Bytes,
    output: Floats | Bytes,
    gate_up: Floats | Bytes,
    down: Floats | Bytes,
    head: Floats | Bytes,
    F: int,
    keys: Floats,
    values: Floats,
    sequences_N: Integers,
    positions_N: Integers,
    visible_N: Integers,
    cos: Floats,
    sin: Floats,
    ends_M: Integers,
    logits_MV: Floats,
) -> None:
    """`HrmText.forward` for new tokens, each at its position of its cache row.

    Writes the tokens' keys and values into the cache, and the logits after the tokens `ends_M`.
    """
    N, D = embedded_ND.shape
    states, root = np.empty((2, N, D), np.float32), np.float32(np.sqrt(D))
    for n in range(N):
        for i in range(D):
            states[0, n, i] = embedded_ND[n, i] * root
            states[1, n, i] = start_D[i]
    u_ND, x_ND, a_ND = np.empty((N, D), np.float32), np.empty((N, D), np.float32), np.empty((N, D), np.float32)
    inner_NF = np.empty((N, F), np.float32)
    # Results of the products, as wide as the padded panels.
    projected = np.empty((N, gqkv.shape[1] * PANEL_ROWS), np.float32)
    expanded = np.empty((N, gate_up.shape[1] * PANEL_ROWS), np.float32)
    residual = np.empty((N, output.shape[1] * PANEL_ROWS), np.float32)
    post = norm == NORM_POST
    for call in range(len(calls)):
        module, into = calls[call, CALL_MODULE], calls[call, CALL_INTO]
        reads_H, reads_L = calls[call, CALL_READS_H], calls[call, CALL_READS_L]
        for n in range(N):
            for i in range(D):
                u_ND[n, i] = reads_H * states[0, n, i] + reads_L * states[1, n, i]
        for block in range(blocks):
            matrix, slot = module * blocks + block, call * blocks + block
            # u += attention(norm(u)); with post norm, u = norm(u + attention(u))
            if post:
                x_ND[:] = u_ND
            else:
                _norm(u_ND, x_ND)
            multiply(gqkv[matrix], x_ND, projected)
            _attend(projected, keys, values, slot, sequences_N, positions_N, visible_N, cos, sin, a_ND)
            multiply(output[matrix], a_ND, residual)
            for n in range(N):
                for i in range(D):
                    u_ND[n, i] += residual[n, i]
            # u += feed_forward(norm(u)), likewise
            if post:
                _norm(u_ND, u_ND)
                x_ND[:] = u_ND
            else:
                _norm(u_ND, x_ND)
            multiply(gate_up[matrix], x_ND, expanded)
            for n in range(N):
                for i in range(F):  # silu(gate) * up
                    gate = expanded[n, i]
                    inner_NF[n, i] = gate / (np.float32(1) + _exp(-gate)) * expanded[n, F + i]
            multiply(down[matrix], inner_NF, residual)
            for n in range(N):
                for i in range(D):
                    u_ND[n, i] += residual[n, i]
            if post:
                _norm(u_ND, u_ND)
        if norm == NORM_MAGIC:
            _norm(u_ND, u_ND)
        states[into] = u_ND
    last_MD = u_ND[ends_M]
    if norm == NORM_PRE:
        _norm(last_MD, last_MD)
    multiply(head, last_MD, logits_MV)
