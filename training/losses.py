"""The head and its cross-entropy in one operation, for GPUs.

Logits of a pack of 4,096 tokens over a vocabulary of 65,536 take 1 GB in float32, and the plain operations keep three
such tensors. Here one tensor in the dtype of the weights is kept: it holds the logits and then, in place, their
gradient. What is computed in float32 is computed for some rows at a time.

Shape suffixes: M rows to predict from, V vocabulary, D hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_ROWS = 1024
"""Rows whose logits are in float32 together: 268 MB at a vocabulary of 65,536."""


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z_MD: Tensor, weight_VD: Tensor, labels_M: Tensor) -> tuple[Tensor, Tensor]:
        rows = len(labels_M)
        keep = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        gradient_MV = z_MD.new_empty(rows, len(weight_VD)) if keep else None
        loss_M = torch.empty(rows, dtype=torch.float32, device=z_MD.device)
        correct_M = torch.empty(rows, dtype=torch.bool, device=z_MD.device)
        for start in range(0, rows, CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            label = labels_M[part]
            wide = (z_MD[part] @ weight_VD.T).float()
            correct_M[part] = wide.argmax(-1) == label
            total = wide.logsumexp(-1, keepdim=True)
            loss_M[part] = (total - wide.gather(1, label[:, None]))[:, 0]
            if gradient_MV is not None:
                wide.sub_(total).exp_()
                wide.scatter_add_(1, label[:, None], torch.full_like(total, -1.0))
                gradient_MV[part] = wide
        ctx.save_for_backward(z_MD, weight_VD)
        ctx.gradient_MV = gradient_MV
        ctx.mark_non_differentiable(correct_M)
        return loss_M, correct_M

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        z_MD, weight_VD = ctx.saved_tensors
        gradient_MV, ctx.gradient_MV = ctx.gradient_MV, None
        gradient_MV.mul_(gradients[0][:, None].to(gradient_MV.dtype))
        return gradient_MV @ weight_VD, gradient_MV.T @ z_MD, None


def linear_cross_entropy(z_MD: Tensor, weight_VD: Tensor, labels_M: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of `z_MD @ weight_VD.T`: the loss of each label, float32 [M], and whether it is the most likely
    token, bool [M].

    The backward pass can run once. Rounds the gradient of the logits to the dtype of the weights, as the products do.
    """
    loss_M, correct_M = _LinearCrossEntropy.apply(z_MD, weight_VD, labels_M)  # type: ignore[no-untyped-call]
    return loss_M, correct_M
