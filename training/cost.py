"""What a training run comes to: floating-point operations, hours, dollars and memory, by arithmetic alone.

A matrix of P parameters costs 2 P operations per token forwards and 4 P backwards; a module call that is not
differentiated has no backward part. Attention's own products and everything elementwise are left out, as is usual in
published figures. For XL and the 60.07 B tokens of HRM-Text this gives 1.05e21, the paper's "1e21"
(arXiv 2605.20613), and the published 46 hours on 16 H100 then mean that 40 % of their peak was used.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from training.configs import TrainConfig, bp_steps
from training.model import ModelConfig, module_blocks, schedule

H100_PEAK = 989e12
"""Dense bf16 operations per second of an H100 SXM (NVIDIA's data sheet)."""

PUBLISHED_MFU = 0.40
"""Model FLOPs utilisation of HRM-Text's own runs: L on 8 and XL on 16 H100, reckoned from their tokens and hours."""

PUBLISHED_TOKENS = 60_070_000_000
"""Tokens that the published models were trained on: 4 epochs of 15.02 B."""

KEPT_VALUES = (11, 4)
"""Values that a differentiated block keeps per token for its backward pass: 11 of `hidden`, 4 of `feed_forward`."""


class Cost(NamedTuple):
    """What a run takes. Bytes are per GPU; `memory_bytes` is the sum of the four before it."""

    parameters: int
    tokens: int
    flops: float
    hours: float
    gpu_hours: float
    dollars: float
    state_bytes: int  # sharded: fp32 weights, both moments, average, gradient
    weights_bytes: int  # bf16, gathered and kept
    activation_bytes: int
    logit_bytes: int
    memory_bytes: int


def words(config: TrainConfig, made: Cost, gpus: int, price: float, mfu: float, peak: float = H100_PEAK) -> list[str]:
    """The same in lines for a person."""
    batch = config.batch_packs * config.model.max_positions
    gigabytes = {name: size / 1e9 for name, size in made._asdict().items() if name.endswith("_bytes")}
    return [
        f"train {config.name}: {made.parameters:,} parameters on {made.tokens / 1e9:,.4g} B tokens,"
        f" {made.tokens // batch:,} steps of {batch:,}",
        f"{made.flops:.3g} FLOPs, {made.flops / made.tokens / 1e9:.4g} G a token,"
        f" at {mfu:.0%} of {gpus} x {peak / 1e12:,.0f} TFLOP/s",
        f"{made.hours:,.1f} hours, {made.gpu_hours:,.1f} GPU-hours, ${made.dollars:,.0f} at ${price:,.2f} each",
        "{memory_bytes:,.1f} GB of memory per GPU: weights {weights_bytes:,.1f}, optimiser {state_bytes:,.1f}, "
        "activations {activation_bytes:,.1f}, logits {logit_bytes:,.1f}".format(**gigabytes),
    ]


def block_parameters(config: ModelConfig) -> int:
    """Of one block: gate, q, k, v and output, and the three matrices of SwiGLU."""
    return 5 * config.hidden**2 + 3 * config.hidden * config.feed_forward


def parameters(config: ModelConfig) -> int:
    """All that is trained, embedding and head included."""
    modules = {call.module for call in schedule(config)}
    core = len(modules) * module_blocks(config) * block_parameters(config)
    return core + 2 * config.vocab_size * config.hidden


def flops_per_token(config: ModelConfig, bp_steps: int = 5) -> float:
    """Operations of one token's forward and backward pass."""
    module = module_blocks(config) * block_parameters(config)
    passes = sum(3 if call.learns else 1 for call in schedule(config, bp_steps))
    return 2.0 * module * passes + 6.0 * config.vocab_size * config.hidden


def mean_flops_per_token(config: TrainConfig) -> float:
    """The same over a whole run, in which bp_steps climbs: a third of the warm-up each with 2, 3 and 4."""
    total = 3_000_000
    climb = [flops_per_token(config.model, bp_steps(config, step, total)) for step in range(1, total, 1000)]
    return math.fsum(climb) / len(climb)


def cost(
    config: TrainConfig, tokens: int, gpus: int, price: float, mfu: float = PUBLISHED_MFU, peak: float = H100_PEAK
) -> Cost:
    """What training on `tokens` tokens takes on `gpus` GPUs of `peak` FLOP/s at `price` dollars an hour each.

    mfu: the share of the peak that is put to use. Memory is that of FSDP2 with bf16 weights gathered throughout and no
    activation checkpointing, as upstream trains; a compiled model keeps less than `activation_bytes`.
    """
    model = config.model
    flops = mean_flops_per_token(config) * tokens
    gpu_hours = flops / (peak * mfu) / 3600
    trained = parameters(model)
    local_tokens = math.ceil(config.batch_packs * model.max_positions / gpus)
    differentiated = sum(call.learns for call in schedule(model)) * module_blocks(model)
    of_hidden, of_feed_forward = KEPT_VALUES
    kept = of_hidden * model.hidden + of_feed_forward * model.feed_forward
    memory = {
        "state_bytes": math.ceil(20 * trained / gpus),
        "weights_bytes": 2 * trained,
        "activation_bytes": 2 * kept * differentiated * local_tokens,
        "logit_bytes": (2 + 4) * local_tokens * model.vocab_size,
    }
    return Cost(
        parameters=trained,
        tokens=tokens,
        flops=flops,
        hours=gpu_hours / gpus,
        gpu_hours=gpu_hours,
        dollars=gpu_hours * price,
        memory_bytes=sum(memory.values()),
        **memory,
    )
