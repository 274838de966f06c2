"""Adam-atan2 with an exponential moving average of the weights: the optimiser of HRM-Text.

    p <- p (1 - lr wd)
    m <- b1 m + (1 - b1) g        v <- b2 v + (1 - b2) g^2        t <- t + 1
    p <- p - lr / (1 - b1^t) * atan2(m, sqrt(v) / sqrt(1 - b2^t))
    ema <- ema + (1 - decay) (p - ema)

atan2 replaces the division of Adam, so there is no epsilon, and multiplying every gradient by one factor changes
nothing (Everett et al., arXiv 2407.05872). The bias correction of m is OUTSIDE the atan2, as in sapientinc/HRM-Text. A
parameter without a gradient is not changed at all: no step, no decay, no averaging. The average starts as a copy of the
weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor


class AdamAtan2(torch.optim.Optimizer):
    """State per parameter: `exp_avg`, `exp_avg_sq` and `param_ema`, of the parameter's shape, and `step`.

    `step` is an int, or a float32 scalar on the GPU where one kernel makes the whole update (training/fused.py).
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, betas: tuple[float, float], weight_decay: float, ema_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "ema_decay": ema_decay})
        self.fused = _on_gpu(self.param_groups)

    @torch.no_grad()
    def step(self, apply: Tensor | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient.

        apply: a boolean scalar on the parameters' device; if it is false nothing is changed. A GPU decides that itself,
        without the CPU waiting for it.
        """
        if apply is not None and not self.fused and not bool(apply):
            return
        for group in self.param_groups:
            params: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params if p.grad is not None]
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for p in params:
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                    state["param_ema"] = p.detach().clone()
            if self.fused:
                self._fused_step(group, params, apply)
                continue
            for p in params:
                self.state[p]["step"] += 1
            steps = [self.state[p]["step"] for p in params]
            m = [self.state[p]["exp_avg"] for p in params]
            v = [self.state[p]["exp_avg_sq"] for p in params]
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
            torch._foreach_lerp_(m, grads, 1 - beta1)
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, grads, grads, 1 - beta2)
            size = torch._foreach_sqrt(v)
            torch._foreach_div_(size, [(1 - beta2**t) ** 0.5 for t in steps])
            for first, second in zip(m, size, strict=True):
                torch.atan2(first, second, out=second)
            torch._foreach_mul_(size, [-lr / (1 - beta1**t) for t in steps])
            torch._foreach_add_(params, size)
            torch._foreach_lerp_([self.state[p]["param_ema"] for p in params], params, 1 - group["ema_decay"])

    def _fused_step(self, group: dict[str, Any], params: list[Tensor], apply: Tensor | None) -> None:
        from training import fused  # imported here: Triton comes only with torch for GPUs

        for p in params:
            step = self.state[p]["step"]
            if not isinstance(step, Tensor):
                self.state[p]["step"] = torch.tensor(float(step), device=p.device)
        allowed = torch.ones((), device=params[0].device) if apply is None else apply
        states = [self.state[p] for p in params]
        fused.update(params, states, allowed, group["lr"], group["betas"], group["weight_decay"], group["ema_decay"])

    def average(self, parameter: Tensor) -> Tensor:
        """The moving average of a parameter; the parameter itself if it was never updated."""
        ema: Tensor = self.state[parameter]["param_ema"] if parameter in self.state else parameter.detach()
        return ema


def _on_gpu(groups: list[dict[str, Any]]) -> bool:
    """Whether all parameters are float32 tensors on a GPU, and Triton is there."""
    params = [p for group in groups for p in group["params"]]
    return all(p.is_cuda and p.dtype == torch.float32 for p in params) and find_spec("triton") is not None
