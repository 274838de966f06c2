"""Adam-atan2 as one Triton kernel per parameter: each tensor is read and written once. Needs a GPU.

The plain operations of training/optimizer.py pass over the weights, moments and average about 25 times.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

BLOCK = 2048
"""Elements of a program."""


@triton.jit  # type: ignore[untyped-decorator]
def _update(  # type: ignore[no-untyped-def] # Triton reads annotations
    weight, gradient, moment, square, average, count, apply, rate, decay, beta1, beta2, log1, log2, mix, size,
    block: tl.constexpr,
):  # fmt: skip
    if tl.load(apply) != 0:
        at = tl.program_id(0) * block + tl.arange(0, block)
        inside = at < size
        t = tl.load(count)  # includes this step
        p = tl.load(weight + at, mask=inside, other=0.0) * decay
        g = tl.load(gradient + at, mask=inside, other=0.0)
        m = tl.load(moment + at, mask=inside, other=0.0)
        m += (g - m) * (1.0 - beta1)
        v = tl.load(square + at, mask=inside, other=0.0) * beta2 + g * g * (1.0 - beta2)
        bias1 = 1.0 - libdevice.exp(log1 * t)
        bias2 = 1.0 - libdevice.exp(log2 * t)
        p -= rate / bias1 * libdevice.atan2(m, tl.sqrt(v / bias2))
        e = tl.load(average + at, mask=inside, other=0.0)
        e += (p - e) * mix
        tl.store(weight + at, p, mask=inside)
        tl.store(moment + at, m, mask=inside)
        tl.store(square + at, v, mask=inside)
        tl.store(average + at, e, mask=inside)


def update(
    weights: list[Tensor],
    states: list[dict[str, Any]],
    apply: Tensor,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    ema_decay: float,
) -> None:
    """One step of Adam-atan2 on float32 GPU tensors whose `.grad` is set. Does not wait for the GPU.

    states: of each weight, `exp_avg`, `exp_avg_sq`, `param_ema` and `step`, here a float32 scalar on the GPU. apply: a
    scalar on the GPU; if it is 0 nothing is changed.
    """
    applied = apply.float()
    torch._foreach_add_([state["step"] for state in states], applied)
    for weight, state in zip(weights, states, strict=True):
        assert weight.grad is not None
        size = weight.numel()
        _update[(triton.cdiv(size, BLOCK),)](
            weight, weight.grad.contiguous(), state["exp_avg"], state["exp_avg_sq"], state["param_ema"], state["step"],
            applied, lr, 1.0 - lr * weight_decay, betas[0], betas[1], math.log(betas[0]), math.log(betas[1]),
            1.0 - ema_decay, size, block=BLOCK,
        )  # fmt: skip
