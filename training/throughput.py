"""Peak matrix-multiplication rate of a device: the denominator of model FLOPs utilisation (MFU)."""

from __future__ import annotations

import time

import torch

PEAKS = {"H100": 989e12, "H200": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}
"""Part of a GPU's name -> dense bf16 FLOP/s from the manufacturer's data sheet."""


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Peak FLOP/s of one worker: from the data sheet for known GPUs in bf16, else measured with a matrix product."""
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
        product[0, 0].item()  # waits for the GPU
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
