"""Estimated cost of a training run: floating-point operations, hours, dollars and memory.

A matrix of P parameters costs 2 P operations per token in the forward pass and 4 P in the backward pass. A module call
that is not differentiated has no backward pass. The products within attention and elementwise operations are left out,
as is usual in published figures. Of a variant, training counts what it computes, and a forward pass what it needs
where skipped parts are not computed. For XL and the 60.07 B tokens of HRM-Text this gives 1.05e21 operations, the
paper's "1e21" (arXiv 2605.20613); the published 46 hours on 16 H100 then correspond to 40 % of peak.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from training.batches import check_share
from training.configs import TrainConfig, bp_steps
from training.model import Block, ModelConfig, module_blocks, schedule, slots

H100_PEAK = 989e12
"""Dense bf16 FLOP/s of an H100 SXM (NVIDIA data sheet)."""
H100_MEMORY = 80e9
"""Bytes."""

PUBLISHED_MFU = 0.40
"""Model FLOPs utilisation of HRM-Text's runs (L on 8 and XL on 16 H100), derived from their tokens and hours."""

PUBLISHED_TOKENS = 60_070_000_000
"""Training tokens of the published models: 4 epochs of 15.02 B."""

KEPT_ACTIVATIONS = (11, 4)
"""Activations that a differentiated block keeps per token for its backward pass: 11 of width `hidden` and 4 of width
`feed_forward`."""

KEPT_BY_SELECTIVE_HEADS = 3
"""As many more of width `hidden`, of a block with a router of heads: its input in float32, which counts twice in bf16,
and the results of the heads before they are weighted."""


HEAD_ROWS = 1024
"""Rows whose logits a GPU has in float32 together (training/losses.py)."""


KEPT_BY_EXPERTS = (2, 4, 32)
"""As many more for each expert that a token uses: of width `hidden`, of the width of an expert, and bytes of indices.
And the router's input in float32."""


class Memory(NamedTuple):
    """Bytes that a worker needs. The compiler's and the libraries' own memory is not counted."""

    state: int  # weights, two moments and average in float32, and gradients
    weights: int  # gathered or rounded to bf16
    activations: int
    logits: int


class Cost(NamedTuple):
    """The cost of a run. Bytes are per GPU, with `micro_packs` packs computed together; `memory_bytes` is the sum of
    the four sizes before it. fits: whether that is within H100_MEMORY.

    active_parameters: those that a token uses in a forward pass.
    """

    parameters: int
    active_parameters: int
    tokens: int
    flops: float
    hours: float
    gpu_hours: float
    dollars: float
    state_bytes: int  # fp32 weights, two moments and average, sharded, and the gradients, complete
    weights_bytes: int  # gathered bf16 weights
    activation_bytes: int
    logit_bytes: int
    memory_bytes: int
    micro_packs: int
    fits: bool


def cost_lines(
    config: TrainConfig, estimate: Cost, gpus: int, price: float, mfu: float, peak: float = H100_PEAK
) -> list[str]:
    """The cost as lines of text."""
    batch = config.batch_packs * config.model.max_positions
    gigabytes = {name: size / 1e9 for name, size in estimate._asdict().items() if name.endswith("_bytes")}
    active = f" ({estimate.active_parameters:,} active)" if config.model.variant else ""
    together = f"{estimate.micro_packs} of the {math.ceil(config.batch_packs / gpus)} packs of a GPU computed together"
    lines = [
        f"train {config.name}: {estimate.parameters:,} parameters{active} on {estimate.tokens / 1e9:,.4g} B tokens,"
        f" {estimate.tokens // batch:,} steps of {batch:,}",
        f"{estimate.flops:.3g} FLOPs, {estimate.flops / estimate.tokens / 1e9:.4g} G a token,"
        f" at {mfu:.0%} of {gpus} x {peak / 1e12:,.0f} TFLOP/s",
        f"{estimate.hours:,.1f} hours, {estimate.gpu_hours:,.1f} GPU-hours,"
        f" ${estimate.dollars:,.0f} at ${price:,.2f} each",
        "{memory_bytes:,.1f} GB of memory per GPU: weights {weights_bytes:,.1f}, optimiser {state_bytes:,.1f}, "
        "activations {activation_bytes:,.1f}, logits {logit_bytes:,.1f}".format(**gigabytes)
        + f" ({together})",
    ]
    if not estimate.fits:
        mends = [
            *(["micro_packs=1"] if estimate.micro_packs > 1 else []),
            *([] if config.recompute else ["recompute=true"]),
            *(["more GPUs"] if config.sharded else ["sharded=true"]),
        ]
        lines.append(f"more than the {H100_MEMORY / 1e9:.0f} GB of an H100; use {' or '.join(mends)}")
    return lines


Part = Literal["all", "used", "trained"]
"""Of a block's parameters: all, those that a token uses in a forward pass, or those that it is multiplied with in
training. They differ in variants (`Matrix`)."""


def block_parameters(config: ModelConfig, part: Part = "all") -> float:
    """Parameters of one block."""
    return math.fsum(
        matrix.rows * matrix.columns * {"all": 1.0, "used": matrix.used, "trained": matrix.trained}[part]
        for matrix in Block.matrices(config)
    )


def parameters(config: ModelConfig, part: Part = "all") -> int:
    """All trained parameters, embedding and head included; a token's row of the embedding counts as all of it."""
    modules = {call.module for call in schedule(config)}
    core = len(modules) * module_blocks(config) * block_parameters(config, part)
    return round(core) + 2 * config.vocab_size * config.hidden


def lora_parameters(config: ModelConfig, rank: int) -> int:
    """Parameters of the factors of one block (training/lora.py)."""
    return rank * sum(matrix.rows + matrix.columns for matrix in Block.matrices(config))


def flops_per_token(config: ModelConfig, bp_steps: int = 5, lora_rank: int = 0) -> float:
    """FLOPs of the forward and backward pass per token.

    lora_rank: of low-rank updates. Frozen matrices have no gradient, so their backward pass costs 2 P instead of 4 P.
    """
    calls = schedule(config, bp_steps)
    passes = sum(3 if call.learns else 1 for call in calls)
    if not lora_rank:
        block = block_parameters(config, "trained")
        return 2.0 * module_blocks(config) * block * passes + 6.0 * config.vocab_size * config.hidden
    frozen = sum(2 if call.learns else 1 for call in calls)
    block = block_parameters(config) * frozen + lora_parameters(config, lora_rank) * passes
    return 2.0 * module_blocks(config) * block + 4.0 * config.vocab_size * config.hidden


def forward_flops_per_token(config: ModelConfig) -> float:
    """FLOPs of a forward pass per token with logits, without those of skipped parts."""
    blocks = slots(config) * block_parameters(config, "used")
    return 2.0 * (blocks + config.vocab_size * config.hidden)


def mean_flops_per_token(config: TrainConfig) -> float:
    """Mean FLOPs per token over a run, in which `bp_steps` rises during the warm-up."""
    total = 3_000_000
    depths = [bp_steps(config, step, total) for step in range(1, total, 1000)]
    per_step = [flops_per_token(config.model, depth, config.lora_rank) for depth in depths]
    return math.fsum(per_step) / len(per_step)


def cost(
    config: TrainConfig, tokens: int, gpus: int, price: float, mfu: float = PUBLISHED_MFU, peak: float = H100_PEAK
) -> Cost:
    """The cost of training on `tokens` tokens with `gpus` GPUs.

    Args:
        price: dollars per GPU-hour.
        mfu: model FLOPs utilisation, the share of `peak` that is used.
        peak: FLOP/s of one GPU.

    Memory is that of FSDP2 with compiled blocks and bf16 weights kept gathered, for as many packs together as the
    training takes: `config.micro_packs`, or as many of a GPU's share as fit into an H100.

    Raises:
        WinnowError: if there are more GPUs than packs in a batch.
    """
    model = config.model
    flops = mean_flops_per_token(config) * tokens
    gpu_hours = flops / (peak * mfu) / 3600
    check_share(config.batch_packs, gpus)
    share = math.ceil(config.batch_packs / gpus)
    chosen = [min(config.micro_packs, share)] if config.micro_packs else range(share, 0, -1)
    sizes = {packs: memory(config, gpus, packs, True) for packs in chosen}
    packs = next((packs for packs, size in sizes.items() if sum(size) <= H100_MEMORY), min(sizes))
    size = sizes[packs]
    return Cost(
        parameters=parameters(model),
        active_parameters=parameters(model, "used"),
        tokens=tokens,
        flops=flops,
        hours=gpu_hours / gpus,
        gpu_hours=gpu_hours,
        dollars=gpu_hours * price,
        state_bytes=size.state,
        weights_bytes=size.weights,
        activation_bytes=size.activations,
        logit_bytes=size.logits,
        memory_bytes=sum(size),
        micro_packs=packs,
        fits=sum(size) <= H100_MEMORY,
    )


def memory(config: TrainConfig, workers: int, micro_packs: int, gpu: bool) -> Memory:
    """The memory of each of `workers` workers that compute `micro_packs` packs together.

    gpu: the logits are kept in one tensor (training/losses.py).
    """
    model, size, tokens = config.model, parameters(config.model), micro_packs * config.model.max_positions
    half = config.precision == "bf16"
    width = 2 if half else 4
    sharded = config.sharded and workers > 1
    differentiated = sum(call.learns for call in schedule(model)) * module_blocks(model)
    hidden_values, feed_forward_values = KEPT_ACTIVATIONS
    if model.selective.active:
        hidden_values += KEPT_BY_SELECTIVE_HEADS
    block = width * (hidden_values * model.hidden + feed_forward_values * model.feed_forward)
    if model.experts.count:
        of_hidden, of_width, indices = KEPT_BY_EXPERTS
        block += (
            model.experts.active * (width * (of_hidden * model.hidden + of_width * model.experts.width) + indices)
            + 4 * model.hidden
        )
    # With activation checkpointing a block keeps its input, and one block at a time has everything.
    kept = width * model.hidden * differentiated + block if config.recompute else block * differentiated
    rows = HEAD_ROWS if gpu else tokens
    trained, frozen = size, 0
    if config.lora_rank:
        modules = len({call.module for call in schedule(model)})
        trained, frozen = modules * module_blocks(model) * lora_parameters(model, config.lora_rank), size
    split = workers if sharded else 1
    return Memory(
        state=math.ceil((20 * trained + 4 * frozen) / split) + (4 * trained if sharded else 0),
        weights=2 * size if half else 4 * size if sharded else 0,
        activations=kept * tokens,
        logits=model.vocab_size * (width * tokens + (12 if gpu else 8) * rows),
    )
