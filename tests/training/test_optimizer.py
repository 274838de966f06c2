"""Adam-atan2 follows its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from training.optimizer import AdamAtan2

LR, B1, B2, DECAY, EMA = 3e-3, 0.9, 0.95, 0.1, 0.99


def make(values: list[torch.Tensor]) -> AdamAtan2:
    return AdamAtan2(values, lr=LR, betas=(B1, B2), weight_decay=DECAY, ema_decay=EMA)


def test_follows_the_formula_in_float64() -> None:
    rng = np.random.default_rng(0)
    shapes = [(7, 5), (3,), (4, 4)]
    params = [torch.tensor(rng.normal(size=s)).requires_grad_() for s in shapes]
    want = [p.detach().numpy().copy() for p in params]
    m, v = [np.zeros(s) for s in shapes], [np.zeros(s) for s in shapes]
    ema, t = [w.copy() for w in want], [0] * len(shapes)
    optimizer = make(params)
    for step in range(25):
        for i, p in enumerate(params):
            if i == 2 and step < 8:  # like the embedding while bp_steps is 2
                p.grad = None
                continue
            g = rng.normal(size=shapes[i]) * (0 if step == 3 else 1)
            p.grad = torch.tensor(g)
            t[i] += 1
            want[i] *= 1 - LR * DECAY
            m[i] = B1 * m[i] + (1 - B1) * g
            v[i] = B2 * v[i] + (1 - B2) * g * g
            want[i] -= LR / (1 - B1 ** t[i]) * np.arctan2(m[i], np.sqrt(v[i]) / math.sqrt(1 - B2 ** t[i]))
            ema[i] += (1 - EMA) * (want[i] - ema[i])
        optimizer.step()
    for i, p in enumerate(params):
        np.testing.assert_allclose(p.detach().numpy(), want[i], rtol=1e-12)
        np.testing.assert_allclose(optimizer.average(p).numpy(), ema[i], rtol=1e-12)
    assert [optimizer.state[p]["step"] for p in params] == [25, 25, 17]


def test_a_parameter_without_gradient_does_not_change() -> None:
    p = torch.ones(3, requires_grad=True)
    optimizer = make([p])
    optimizer.step()
    assert torch.equal(p.detach(), torch.ones(3))
    assert torch.equal(optimizer.average(p), p)
    assert p not in optimizer.state


@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_scaling_every_gradient_changes_nothing(scale: float) -> None:
    results = []
    for factor in (1.0, scale):
        p = torch.linspace(-1, 1, 9, dtype=torch.float64).requires_grad_()
        optimizer = make([p])
        for step in range(5):
            p.grad = torch.sin(torch.arange(9, dtype=torch.float64) + step) * factor
            optimizer.step()
        results.append(p.detach())
    torch.testing.assert_close(*results, rtol=1e-9, atol=0)


def test_the_first_step_is_close_to_the_learning_rate() -> None:
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = make([p])
    p.grad = torch.ones(1, dtype=torch.float64)
    optimizer.step()
    # atan2(0.1, 1) / 0.1: the bias correction of m is outside
    assert p.item() == pytest.approx(-LR * math.atan2(0.1, 1) / 0.1, rel=1e-12)
    assert -p.item() / LR == pytest.approx(0.9967, abs=1e-4)
