"""Hand-written gradients are the gradients of the definitions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.elementwise import rms_norm, rotate
from training.model import rotation


def norm_by_definition(u: Tensor) -> Tensor:
    return u / torch.sqrt(u.square().mean(-1, keepdim=True) + 1e-6)


def rotate_by_definition(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_norm_follows_its_definition(scale: float) -> None:
    torch.manual_seed(0)
    u = (torch.randn(5, 3, 32) * scale).requires_grad_()
    twin, g = u.detach().double().requires_grad_(), torch.randn(5, 3, 32)
    ours, theirs = rms_norm(u), norm_by_definition(twin)
    ours.backward(g)
    theirs.backward(g.double())
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(u.grad.double() * scale, twin.grad * scale, rtol=1e-4, atol=1e-5)


def test_rotation_follows_its_definition() -> None:
    torch.manual_seed(0)
    turn = rotation(torch.tensor([0, 1, 7, 4000]), 16, 10_000.0)
    x, g = torch.randn(4, 3, 16, requires_grad=True), torch.randn(4, 3, 16)
    twin = x.detach().clone().requires_grad_()
    ours, theirs = rotate(x, *turn), rotate_by_definition(twin, *turn)
    ours.backward(g)
    theirs.backward(g)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(x.grad, twin.grad)
    assert torch.equal(ours[0], x.detach()[0])  # position 0 is not rotated
    torch.testing.assert_close(ours.norm(dim=-1), x.detach().norm(dim=-1))


@pytest.mark.parametrize("operation", ["norm", "rotate"])
def test_bf16_is_computed_in_float32(operation: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 2, 64).bfloat16().requires_grad_()
    turn = rotation(torch.arange(6), 64, 10_000.0)
    out = rms_norm(x) if operation == "norm" else rotate(x, *turn)
    wide = x.detach().float()
    exact = norm_by_definition(wide) if operation == "norm" else rotate_by_definition(wide, *turn)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact, rtol=2**-8, atol=1e-6)  # one rounding, at the end
    out.sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.bfloat16
