"""Reading prompts and taking decoding steps on a CPU, for a batch of sequences, as one compiled function.

A step multiplies a few rows with every matrix of the model, module call by module call: HRM reads its weights four
times per token. General matrix products are made for many rows: with one row they reach a third of the memory's
bandwidth, with eight a quarter of the processor's speed; and the thirty small tensor operations of a block cost as much
again. So here the weights are laid out in panels of 16 rows, k by k, to be read from beginning to end; each panel meets
up to eight rows of the batch in registers; and everything between the products is in the same function. All sums are
float32, whatever the dtype of the model's weights.

It computes what `HrmText.forward` does with `Cache.read` and `Cache.extend`, and tests hold it against that.

Shape suffixes: B sequences, N new tokens (one of each sequence, or whole prompts), M of them with logits, D hidden,
H heads, K head width, F feed-forward width, T cached positions, V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numba
import numpy as np
import torch
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor, nn

from dedup.kernel import Compiled
from training.elementwise import EPSILON
from training.model import Block, HrmText, rotation, schedule

WIDE = 16
"""Rows of a matrix in a panel: what a 512-bit register holds. Narrower processors take several registers."""

AHEAD = 256
"""Numbers by which weights are asked of the memory before they are needed, for each row of the batch that they meet:
so a while ahead that is about as long for any number of rows."""

SOME = 128
"""Rows that are multiplied with a whole matrix before the next ones."""

TOGETHER = 512
"""Tokens of prompts that are read together: of several sequences, or more of one."""

FAST = {"reassoc", "contract", "arcp", "nsz"}
"""Sums may be reordered and fused; infinities and NaN keep their meaning."""


def _compiled(function: Compiled) -> Compiled:
    """Compile `function` on its first call, half a minute for all of this; kept beside the source where that can be."""
    options = {"nogil": True, "fastmath": FAST, "error_model": "numpy"}
    try:
        return cast(Compiled, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # an installation without any writable folder
        return cast(Compiled, numba.njit(**options)(function))


Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class Packed(NamedTuple):
    """A model's weights as the compiled step reads them: a second copy, in float32. Matrices are [panels, k, 16], of
    all blocks of H, then of all blocks of L."""

    calls: Integers  # [calls, 4]: module, state that is written, whether H and whether L is added up for its input
    norm: int  # 0 magic, 1 pre, 2 post
    blocks: int  # of a module
    embedding_VD: Floats
    start_D: Floats  # z_L_init
    gqkv: Floats
    output: Floats
    gate_up: Floats
    down: Floats
    head: Floats  # [panels, D, 16]
    heads: int
    feed_forward: int
    theta: float


def pack(model: HrmText) -> Packed:
    """Lay out the weights of a model on a CPU for `step`."""
    config = model.config
    calls = schedule(config)
    names = sorted({call.module for call in calls})
    blocks: list[Block] = []
    for name in names:
        layers = model.get_submodule(f"{name}_module.layers")
        assert isinstance(layers, nn.ModuleList)
        blocks += [block for block in layers if isinstance(block, Block)]
    described = [(names.index(c.module), "HL".index(c.into), "H" in c.of, "L" in c.of) for c in calls]
    return Packed(
        calls=np.array(described, dtype=np.int64),
        norm=["magic", "pre", "post"].index(config.norm),
        blocks=len(blocks) // len(names),
        embedding_VD=model.embed_tokens.weight.detach().float().contiguous().numpy(),
        start_D=model.z_L_init.float().contiguous().numpy(),
        gqkv=_panels([block.attn.gqkv_proj.weight for block in blocks]),
        output=_panels([block.attn.o_proj.weight for block in blocks]),
        gate_up=_panels([block.mlp.gate_up_proj.weight for block in blocks]),
        down=_panels([block.mlp.down_proj.weight for block in blocks]),
        head=_panels([model.lm_head.weight])[0],
        heads=config.heads,
        feed_forward=config.feed_forward,
        theta=config.rope_theta,
    )


def _panels(matrices: list[Tensor]) -> Floats:
    """[M, panels, k, 16] from M matrices [rows, k]; rows that are missing in the last panel are 0."""
    rows, k = matrices[0].shape
    panels = -(-rows // WIDE)
    packed = room(len(matrices), panels, k, WIDE)
    for into, matrix in zip(packed, matrices, strict=True):
        whole = torch.zeros(panels * WIDE, k)
        whole[:rows] = matrix.detach()
        into.copy_(whole.view(panels, WIDE, k).transpose(1, 2))
    return packed.numpy()


def room(*shape: int) -> Tensor:
    """A float32 tensor of that shape, not filled. NumPy asks the system for large pages, torch does not; read from
    beginning to end in small ones, weights came a quarter slower."""
    return torch.from_numpy(np.empty(shape, np.float32))


def _ask(builder: ir.IRBuilder, place: Any) -> None:
    """Ask the memory for what lies at a place, into the second-level cache: the first has room for too few askings."""
    bytes_at, short = ir.IntType(8).as_pointer(), ir.IntType(32)
    prefetch = builder.module.declare_intrinsic(
        "llvm.prefetch.p0", (), ir.FunctionType(ir.VoidType(), [bytes_at, short, short, short])
    )
    builder.call(prefetch, [builder.bitcast(place, bytes_at), short(0), short(2), short(1)])


@intrinsic  # type: ignore[untyped-decorator]
def _soon(typing: Any, array: Any, at: Any) -> Any:
    """Ask for the numbers of a flat array from `at` on, which may lie past its end: then nothing happens."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        _ask(builder, builder.gep(data, [values[1]], source_etype=ir.FloatType()))
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


def _panel_product(rows: int) -> Any:
    """(packed, at, x, x_at, x_stride, out, out_at, out_stride, k): the product of a panel of `packed`, which begins at
    `at`, with `rows` rows of x, written to as many rows of `out`. All arrays flat, all positions in numbers.

    In LLVM's own terms, because the sums, 16 numbers for each row, must stay in registers for the whole length of k.
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
            arrays = [context.make_array(signature.args[i])(context, builder, values[i]).data for i in (0, 2, 5)]
            at, x_at, x_stride, out_at, out_stride, k = (values[i] for i in (1, 3, 4, 6, 7, 8))
            number, integer, short = ir.FloatType(), k.type, ir.IntType(32)
            vector = ir.VectorType(number, WIDE)
            nothing, everywhere = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(short, WIDE), [0] * WIDE)
            fma = builder.module.declare_intrinsic(f"llvm.fma.v{WIDE}f32", (), ir.FunctionType(vector, [vector] * 3))

            def place(array: Any, index: Any) -> Any:
                return builder.gep(array, [index], source_etype=number)

            begins = [builder.add(x_at, builder.mul(integer(row), x_stride)) for row in range(rows)]
            before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
            builder.branch(loop)
            builder.position_at_end(loop)
            step = builder.phi(integer)
            sums = [builder.phi(vector) for _ in range(rows)]
            where = place(arrays[0], builder.add(at, builder.mul(step, integer(WIDE))))
            _ask(builder, builder.gep(where, [integer(AHEAD * rows)], source_etype=number))
            weights = builder.load(builder.bitcast(where, vector.as_pointer()), align=4, typ=vector)
            totals = []
            for begin, total in zip(begins, sums, strict=True):
                value = builder.load(place(arrays[1], builder.add(begin, step)), typ=number)
                spread = builder.shuffle_vector(builder.insert_element(nothing, value, short(0)), nothing, everywhere)
                totals.append(builder.call(fma, [weights, spread, total]))
            following = builder.add(step, integer(1))
            step.add_incoming(integer(0), before)
            step.add_incoming(following, loop)
            for total, summed in zip(sums, totals, strict=True):
                total.add_incoming(ir.Constant(vector, [0.0] * WIDE), before)
                total.add_incoming(summed, loop)
            builder.cbranch(builder.icmp_signed("<", following, k), loop, after)
            builder.position_at_end(after)
            for row, summed in enumerate(totals):
                where = place(arrays[2], builder.add(out_at, builder.mul(integer(row), out_stride)))
                builder.store(summed, builder.bitcast(where, vector.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(packed, at, x, x_at, x_stride, out, out_at, out_stride, k), generate

    return product


_one, _two, _four, _eight = (_panel_product(rows) for rows in (1, 2, 4, 8))


@_compiled
def _multiply(packed: Floats, x_NK: Floats, out: Floats) -> None:
    """out[n, i] = sum over k of matrix[i, k] x[n, k]; all contiguous, `out` as wide as the panels. Of many rows some at
    a time, so that they stay in the second-level cache while the panels pass."""
    panels, k, rows, stride = packed.shape[0], packed.shape[1], x_NK.shape[0], out.shape[1]
    weights, x, to = packed.reshape(-1), x_NK.reshape(-1), out.reshape(-1)
    for begin in range(0, rows, SOME):
        end = min(begin + SOME, rows)
        for panel in range(panels):
            at, column, row = panel * k * WIDE, panel * WIDE, begin
            while end - row >= 8:
                _eight(weights, at, x, row * k, k, to, row * stride + column, stride, k)
                row += 8
            if end - row >= 4:
                _four(weights, at, x, row * k, k, to, row * stride + column, stride, k)
                row += 4
            if end - row >= 2:
                _two(weights, at, x, row * k, k, to, row * stride + column, stride, k)
                row += 2
            if end - row >= 1:
                _one(weights, at, x, row * k, k, to, row * stride + column, stride, k)


@intrinsic  # type: ignore[untyped-decorator]
def _as_float(typing: Any, bits: Any) -> Any:
    """The float32 of these 32 bits."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.FloatType())

    return types.float32(types.int32), generate


@_compiled
def _exp(x: Any) -> Any:
    """e^x to 1e-7, in steps that a loop can take for many numbers at a time, as the library's cannot: 2^n by its
    bits and e^r by Taylor's series to the seventh power, |r| <= ln 2 / 2."""
    x = min(max(x, np.float32(-87)), np.float32(87))
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
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


@_compiled
def _norm(u_ND: Floats, out_ND: Floats) -> None:
    """Each row over its root mean square, as elementwise.rms_norm; `out_ND` may be `u_ND`."""
    rows, width = u_ND.shape
    for n in range(rows):
        total = np.float32(0)
        for i in range(width):
            total += u_ND[n, i] * u_ND[n, i]
        scale = np.float32(1 / np.sqrt(total / width + EPSILON))
        for i in range(width):
            out_ND[n, i] = u_ND[n, i] * scale


@_compiled
def _dots(query_K: Floats, keys_TK: Floats, count: int, scores_T: Floats, then: Floats, at: int) -> None:
    """The products of the first `count` keys with a query, four at a time; meanwhile as many rows of the flat array
    `then`, from `at` on, are asked for."""
    K = len(query_K)
    for t in range(0, count, 4):
        for j in range(0, min(4, count - t) * K, WIDE):
            _soon(then, at + t * K + j)
        if t + 4 <= count:
            one, two, three, four = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for j in range(K):
                one += query_K[j] * keys_TK[t, j]
                two += query_K[j] * keys_TK[t + 1, j]
                three += query_K[j] * keys_TK[t + 2, j]
                four += query_K[j] * keys_TK[t + 3, j]
            scores_T[t], scores_T[t + 1], scores_T[t + 2], scores_T[t + 3] = one, two, three, four
        else:
            for left in range(t, count):
                one = np.float32(0)
                for j in range(K):
                    one += query_K[j] * keys_TK[left, j]
                scores_T[left] = one


@_compiled
def _weighted(scores_T: Floats, values_TK: Floats, count: int, sums_K: Floats, then: Floats, at: int) -> None:
    """The sum of the first `count` values, each times its score; asks for rows as `_dots` does."""
    K = len(sums_K)
    sums_K[:] = 0
    for t in range(0, count, 4):
        for j in range(0, min(4, count - t) * K, WIDE):
            _soon(then, at + t * K + j)
        if t + 4 <= count:
            one, two, three, four = scores_T[t], scores_T[t + 1], scores_T[t + 2], scores_T[t + 3]
            for j in range(K):
                pair = one * values_TK[t, j] + two * values_TK[t + 1, j]
                sums_K[j] += pair + (three * values_TK[t + 2, j] + four * values_TK[t + 3, j])
        else:
            for left in range(t, count):
                for j in range(K):
                    sums_K[j] += scores_T[left] * values_TK[left, j]


@_compiled
def _attend(
    gqkv: Floats,
    keys: Floats,
    values: Floats,
    slot: int,
    sequences_N: Integers,
    positions_N: Integers,
    seen_N: Integers,
    cos: Floats,
    sin: Floats,
    out_ND: Floats,
) -> None:
    """Cache the new tokens' keys and values; gated attention of each query to the first `seen` of its sequence. While a
    head's keys are read, its values are asked for, and then the next head's keys."""
    rows, D = out_ND.shape
    heads, K = keys.shape[2], keys.shape[4]
    all_keys, all_values, size = keys.reshape(-1), values.reshape(-1), keys.shape[3] * K
    half, shrink = K // 2, np.float32(1 / np.sqrt(K))
    query, sums = np.empty(K, np.float32), np.empty(K, np.float32)
    scores = np.empty(keys.shape[3], np.float32)
    for n in range(rows):
        position = positions_N[n]
        for head in range(heads):
            own_keys, own_values = keys[slot, sequences_N[n], head], values[slot, sequences_N[n], head]
            at = head * K
            for j in range(half):
                c, s = cos[n, j], sin[n, j]
                left, right = gqkv[n, 2 * D + at + j], gqkv[n, 2 * D + at + half + j]
                own_keys[position, j], own_keys[position, half + j] = left * c - right * s, right * c + left * s
            for j in range(K):
                own_values[position, j] = gqkv[n, 3 * D + at + j]
    for n in range(rows):
        count = seen_N[n]
        for head in range(heads):
            own_keys, own_values = keys[slot, sequences_N[n], head], values[slot, sequences_N[n], head]
            at, begins = head * K, ((slot * keys.shape[1] + sequences_N[n]) * heads + head) * size
            for j in range(half):
                c, s = cos[n, j], sin[n, j]
                left, right = gqkv[n, D + at + j], gqkv[n, D + at + half + j]
                query[j], query[half + j] = (left * c - right * s) * shrink, (right * c + left * s) * shrink
            _dots(query, own_keys, count, scores, all_values, begins)
            most, total = np.float32(-np.inf), np.float32(0)
            for t in range(count):
                most = max(most, scores[t])
            for t in range(count):
                scores[t] = _exp(scores[t] - most)
                total += scores[t]
            _weighted(scores, own_values, count, sums, all_keys, begins + size)
            for j in range(K):
                out_ND[n, at + j] = sums[j] / (total * (np.float32(1) + _exp(-gqkv[n, at + j])))


@_compiled
def _step(
    calls: Integers,
    norm: int,
    blocks: int,
    embedding_VD: Floats,
    start_D: Floats,
    gqkv: Floats,
    output: Floats,
    gate_up: Floats,
    down: Floats,
    head: Floats,
    F: int,
    keys: Floats,
    values: Floats,
    tokens_N: Integers,
    sequences_N: Integers,
    positions_N: Integers,
    seen_N: Integers,
    cos: Floats,
    sin: Floats,
    ends_M: Integers,
    logits_MV: Floats,
) -> None:
    """New tokens, each at its position of its sequence. Writes keys and values, and the logits after some of them."""
    N, D = len(tokens_N), embedding_VD.shape[1]
    states, root = np.empty((2, N, D), np.float32), np.float32(np.sqrt(D))
    for n in range(N):
        for i in range(D):
            states[0, n, i] = embedding_VD[tokens_N[n], i] * root
            states[1, n, i] = start_D[i]
    u_ND, x_ND, a_ND = np.empty((N, D), np.float32), np.empty((N, D), np.float32), np.empty((N, D), np.float32)
    inner_NF = np.empty((N, F), np.float32)
    projected = np.empty((N, gqkv.shape[1] * WIDE), np.float32)
    spread = np.empty((N, gate_up.shape[1] * WIDE), np.float32)
    back = np.empty((N, output.shape[1] * WIDE), np.float32)
    post = norm == 2
    for call in range(len(calls)):
        module, into, of_H, of_L = calls[call]
        for n in range(N):
            for i in range(D):
                u_ND[n, i] = of_H * states[0, n, i] + of_L * states[1, n, i]
        for block in range(blocks):
            matrix, slot = module * blocks + block, call * blocks + block
            if post:
                x_ND[:] = u_ND
            else:
                _norm(u_ND, x_ND)
            _multiply(gqkv[matrix], x_ND, projected)
            _attend(projected, keys, values, slot, sequences_N, positions_N, seen_N, cos, sin, a_ND)
            _multiply(output[matrix], a_ND, back)
            for n in range(N):
                for i in range(D):
                    u_ND[n, i] += back[n, i]
            if post:
                _norm(u_ND, u_ND)
                x_ND[:] = u_ND
            else:
                _norm(u_ND, x_ND)
            _multiply(gate_up[matrix], x_ND, spread)
            for n in range(N):
                for i in range(F):
                    gate = spread[n, i]
                    inner_NF[n, i] = gate / (np.float32(1) + _exp(-gate)) * spread[n, F + i]
            _multiply(down[matrix], inner_NF, back)
            for n in range(N):
                for i in range(D):
                    u_ND[n, i] += back[n, i]
            if post:
                _norm(u_ND, u_ND)
        if norm == 0:
            _norm(u_ND, u_ND)
        states[into] = u_ND
    last_MD = u_ND[ends_M]
    if norm == 1:
        _norm(last_MD, last_MD)
    _multiply(head, last_MD, logits_MV)


class _Work(NamedTuple):
    """New tokens of some sequences, which no other thread works on."""

    tokens_N: Integers
    sequences_N: Integers
    positions_N: Integers
    seen_N: Integers  # cached positions that each token sees, from the first on
    ends_M: Integers  # those with logits


def step(packed: Packed, keys: Tensor, values: Tensor, tokens_B: Tensor, positions_B: Tensor) -> Tensor:
    """Logits [B, V] after one more token per sequence, at `positions_B`; its keys and values are put there.

    keys, values: [slots, B, H, T, K], float32 and contiguous. Threads, as many as torch is set to, share the batch.
    """
    batch = len(tokens_B)
    parts = min(torch.get_num_threads(), -(-batch // 8))
    bounds = [batch * part // parts for part in range(parts + 1)]
    tokens, positions = tokens_B.numpy(), positions_B.numpy()
    shares = [
        _Work(tokens[a:b], np.arange(a, b), positions[a:b], positions[a:b] + 1, np.arange(b - a))
        for a, b in pairwise(bounds)
    ]
    return _all(packed, keys, values, shares)


def read(packed: Packed, keys: Tensor, values: Tensor, prompts: Sequence[Sequence[int]], causal: bool) -> Tensor:
    """Logits [B, V] after each of B non-empty prompts; the keys and values of their tokens are put from position 0 on.

    A token sees all of its prompt, or, where `causal`, what went before it.
    """
    shares, first = [], 0
    while first < len(prompts):
        after, count = first + 1, len(prompts[first])
        while after < len(prompts) and count + len(prompts[after]) <= TOGETHER:
            count += len(prompts[after])
            after += 1
        lengths = np.array([len(ids) for ids in prompts[first:after]])
        ends = np.cumsum(lengths)
        positions = np.arange(count) - np.repeat(ends - lengths, lengths)
        shares.append(
            _Work(
                np.fromiter(itertools.chain.from_iterable(prompts[first:after]), np.int64, count),
                np.repeat(np.arange(first, after), lengths),
                positions,
                positions + 1 if causal else np.repeat(lengths, lengths),
                ends - 1,
            )
        )
        first = after
    return _all(packed, keys, values, shares)


def _all(packed: Packed, keys: Tensor, values: Tensor, shares: Sequence[_Work]) -> Tensor:
    """The logits of all shares, one after another, worked on by as many threads as torch is set to."""

    def work(share: _Work) -> Floats:
        cos, sin = (
            x[:, 0].numpy() for x in rotation(torch.from_numpy(share.positions_N), keys.shape[-1], packed.theta)
        )
        logits_MV = np.empty((len(share.ends_M), packed.head.shape[0] * WIDE), np.float32)
        _step(
            packed.calls, packed.norm, packed.blocks, packed.embedding_VD, packed.start_D, packed.gqkv, packed.output,
            packed.gate_up, packed.down, packed.head, packed.feed_forward, keys.numpy(), values.numpy(), share.tokens_N,
            share.sequences_N, share.positions_N, share.seen_N, cos, sin, share.ends_M, logits_MV,
        )  # fmt: skip
        return logits_MV

    threads = min(torch.get_num_threads(), len(shares))
    if threads == 1:
        made = [work(share) for share in shares]
    else:
        with ThreadPoolExecutor(threads) as pool:
            made = list(pool.map(work, shares))
    return torch.from_numpy(np.concatenate(made))[:, : len(packed.embedding_VD)]
