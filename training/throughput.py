"""How fast a processor multiplies matrices at best: what model FLOPs utilisation (MFU) is a share of."""

from __future__ import annotations

import time

import torch

PEAKS = {"H100": 989e12, "H200": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}
"""bf16 FLOP/s without sparsity, from the makers' data sheets, by a part of the GPU's name."""


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one worker at best: a GPU's by name, else what a square matrix product reaches here and now."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        known = [peak for part, peak in PEAKS.items() if part in name]
        if known and dtype == torch.bfloat16:
            return known[0]
    size = 512 if device.type == "cpu" else 8192
    a, b = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        product = a @ b
        product[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
