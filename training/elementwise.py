"""The model's two elementwise operations, with hand-written gradients.

With autograd, each would be a chain of small operations that reads and writes its tensor a dozen times. Tests compare
results and gradients with the definitions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-6
"""Added to the mean square before its root, as in HRM-Text."""


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(u, dim=-1, keepdim=True, dtype=torch.float32)
        scale = (norm.square_().div_(u.shape[-1]).add_(EPSILON)).rsqrt_()
        out: Tensor = (u * scale).to(u.dtype)
        ctx.save_for_backward(out, scale)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        out, scale = ctx.saved_tensors
        # The gradient of u s(u) is s (g - out <g, out> / D); out already contains the factor s.
        along = torch.linalg.vecdot(gradient, out, dim=-1)[..., None].float().div_(-out.shape[-1])
        return torch.addcmul(gradient.float(), out.float(), along).mul_(scale).to(gradient.dtype)


def rms_norm(u: Tensor) -> Tensor:
    """u / sqrt(mean(u^2) + 1e-6) over the last dimension, computed in float32, in the dtype of `u`. No scale."""
    if torch.compiler.is_compiling():  # the compiler fuses the definition and its gradient
        wide = u.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPSILON)).to(u.dtype)
    out: Tensor = _RmsNorm.apply(u)  # type: ignore[no-untyped-call]
    return out


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate_pairs(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotate_pairs(gradients[0], cos, sin, -1), None, None  # the transpose is the inverse rotation


def _rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    a, b = x.float().chunk(2, -1)
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    left, right = out.chunk(2, -1)
    torch.mul(a, cos, out=left)
    left.addcmul_(b, sin, value=-direction)
    torch.mul(b, cos, out=right)
    right.addcmul_(a, sin, value=direction)
    return out.to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (j, j + K/2) of the last dimension K (RoPE).

    cos, sin: of the angles, float32 [..., K/2]. Computes in float32; returns the dtype of `x`.
    """
    if torch.compiler.is_compiling():
        a, b = x.float().chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)
    out: Tensor = _Rotate.apply(x, cos, sin)  # type: ignore[no-untyped-call]
    return out
