"""Training configurations, each a function of the data's vocabulary size and context length.

    CONFIGS["xl"](65536, 4097)  ->  the complete configuration of that run

B, L, XL, XXL and XXL_wide have the published shapes; L and XL have the published recipes (arXiv 2605.20613). `tiny`
trains in about a minute on two CPU cores. `sft` fine-tunes a model of any shape, so it is a function of that model. To
make a variant, use `config.model_copy(update={...})`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.model import ModelConfig
from training.routing import Experts

Precision = Literal["fp32", "bf16"]
Objective = Literal["prefix_lm", "causal", "causal_all"]
"""prefix_lm: P(a|q), question tokens see each other. causal: P(a|q), each token sees the tokens before it. causal_all:
P(x), causal with the question tokens predicted too, as in pretraining on plain text."""

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


class TrainConfig(BaseModel):
    """Configuration of a run. With the pack shards it determines every loss (on one kind of hardware)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model: ModelConfig
    batch_packs: int = Field(ge=1)  # packs of a global batch, summed over all workers
    steps: int | None = Field(default=None, ge=1)  # None: one pass over all packs
    lr: float = Field(gt=0, allow_inf_nan=False)
    warmup_steps: int = Field(default=2000, ge=0)  # linear warm-up, then a cosine to lr_min_ratio * lr
    lr_min_ratio: float = Field(default=1.0, ge=0, le=1)  # 1: constant after the warm-up
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    ema_decay: float = 0.9999
    bp_warmup: float = Field(default=0.2, ge=0, le=1)  # share of the steps over which bp_steps rises from 2 to 5
    objective: Objective = "prefix_lm"
    precision: Precision = "bf16"  # of the forward and backward passes; master weights are fp32
    clip_norm: float | None = Field(default=None, gt=0, allow_inf_nan=False)  # largest norm of a step's gradient
    skip_limit: int = Field(default=10, ge=1)  # steps in a row with a non-finite loss or gradient, then the run stops
    micro_packs: int | None = Field(default=None, ge=1)  # packs computed together; None: as many as fit into memory
    recompute: bool = False  # keep only the inputs of blocks for the backward pass (activation checkpointing)
    seed: int = 0
    start: str | None = None  # initial weights: a checkpoint's folder, or a model folder of transformers
    checkpoint_steps: int = Field(default=1000, ge=1)
    checkpoint_minutes: float | None = Field(
        default=None, gt=0
    )  # also after this many minutes since the last checkpoint
    keep: int = Field(default=3, ge=1)  # checkpoints kept, the latest ones
    validation_steps: int = Field(default=1000, ge=1)  # also after the last step
    validation_packs: int = Field(default=256, ge=1)  # largest number used
    sharded: bool = True  # with several workers: FSDP2, else every worker holds the full model
    # Low-rank updates (training/lora.py): of this rank, scaled by lora_alpha / lora_rank, or by 2. 0: all weights are
    # trained. Both are left out of a checkpoint while they are not given, as of trainings before them.
    lora_rank: int = Field(default=0, ge=0, exclude_if=lambda value: value == 0)
    lora_alpha: float | None = Field(default=None, gt=0, allow_inf_nan=False, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _low_rank(self) -> TrainConfig:
        if self.lora_rank and self.start is None:
            raise ValueError("lora_rank freezes the weights, so they must be trained ones; name them with --from")
        if self.lora_rank and self.model.variant:
            raise ValueError(
                f"lora_rank: a model with {self.model.variant} has no low-rank updates; train all its weights "
                "(lora_rank 0)"
            )
        if self.lora_alpha is not None and not self.lora_rank:
            raise ValueError("lora_alpha scales low-rank updates; set lora_rank too")
        return self

    @property
    def lora_scale(self) -> float:
        """The factor of low-rank updates."""
        return 2.0 if self.lora_alpha is None else self.lora_alpha / self.lora_rank


def learning_rate(config: TrainConfig, step: int, total_steps: int) -> float:
    """The learning rate of `step` (from 1): a linear warm-up, then half a cosine from `lr` to `lr_min_ratio * lr`."""
    if step < config.warmup_steps:
        return config.lr * min(1.0, step / config.warmup_steps)
    if config.lr_min_ratio == 1:
        return config.lr
    progress = min(1.0, (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps))
    return config.lr * (config.lr_min_ratio + (1 - config.lr_min_ratio) * 0.5 * (1 + math.cos(math.pi * progress)))


def bp_steps(config: TrainConfig, step: int, total_steps: int) -> int:
    """Module calls that `step` (from 1) differentiates: 2, 3 and 4 for a third of the warm-up each, then 5."""
    warmup = config.bp_warmup * total_steps
    return 2 + math.floor(min(1.0, step / warmup if warmup else 1.0) * 3)


def feed_forward_width(hidden: int, expansion: float = 4.0) -> int:
    """Width of SwiGLU: two thirds of `expansion * hidden`, rounded up to a multiple of 256."""
    return math.ceil(round(expansion * hidden * 2 / 3) / 256) * 256


def padded_vocabulary(size: int) -> int:
    """Rows of embedding and head for a tokenizer of `size` entries: `size` rounded up to a multiple of 256."""
    return math.ceil(size / 256) * 256


def shape(hidden: int, heads: int, blocks: int, vocab_size: int, context: int) -> ModelConfig:
    """A model for sequences of up to `context` tokens. It reads all but the last one."""
    return ModelConfig(
        vocab_size=padded_vocabulary(vocab_size),
        hidden=hidden,
        heads=heads,
        feed_forward=feed_forward_width(hidden),
        blocks=blocks,
        max_positions=context - 1,
    )


def tiny(vocab_size: int, context: int) -> TrainConfig:
    """1.1 M parameters without the vocabulary, 500 small batches: about a minute on two cores.

    A short run needs other settings than a long one. Upstream's average (decay 0.9999) spans 10,000 steps: after 500
    steps it would still be close to the random initial weights. Decay 0.98 spans 50 steps. Batches are small (about 512
    tokens), because many small steps reach a lower loss here than few large ones. Learning rates tried: 0.5, 1, 2 and
    4e-3 gave a mean loss of 1.60, 1.41, 1.51 and 2.02 over the last fifth of 480 steps on generated problems. All
    recurrent calls are differentiated from the first step (`bp_warmup` 0): in the mean of three seeds this was a little
    better than HRM-Text's warm-up (docs/log.md).
    """
    return TrainConfig(
        name="tiny",
        model=shape(hidden=128, heads=2, blocks=2, vocab_size=vocab_size, context=context),
        batch_packs=2 * batch_of(256, context),
        steps=500,
        lr=1e-3,
        warmup_steps=30,
        ema_decay=0.98,
        bp_warmup=0,
        precision="fp32",
        checkpoint_steps=100,
        keep=2,
        validation_steps=50,
        validation_packs=16 * batch_of(256, context),  # more would take longer than the steps in between
        sharded=False,
    )


def b(vocab_size: int, context: int) -> TrainConfig:
    """300 M parameters at a vocabulary of 65,536. No recipe was published; this is the recipe of L."""
    return l(vocab_size, context).model_copy(
        update={"name": "b", "model": shape(1024, 8, 6, vocab_size, context)},
    )


def l(vocab_size: int, context: int) -> TrainConfig:  # noqa: E743
    """0.69 B parameters; batches of 172,032 tokens."""
    return TrainConfig(
        name="l", model=shape(1280, 10, 12, vocab_size, context), batch_packs=batch_of(172_032, context), lr=2.5e-4
    )


def xl(vocab_size: int, context: int) -> TrainConfig:
    """1.18 B parameters; batches of 196,608 tokens: HRM-Text-1B."""
    return TrainConfig(
        name="xl", model=shape(1536, 12, 16, vocab_size, context), batch_packs=batch_of(196_608, context), lr=2.2e-4
    )


def xxl(vocab_size: int, context: int) -> TrainConfig:
    """3.27 B parameters, deep. No recipe was published; this is the recipe of XL."""
    return xl(vocab_size, context).model_copy(
        update={"name": "xxl", "model": shape(1792, 14, 36, vocab_size, context)},
    )


def xxl_wide(vocab_size: int, context: int) -> TrainConfig:
    """3.08 B parameters, wide. No recipe was published; this is the recipe of XL."""
    return xl(vocab_size, context).model_copy(
        update={"name": "xxl_wide", "model": shape(2560, 20, 16, vocab_size, context)},
    )


def experts(vocab_size: int, context: int) -> TrainConfig:
    """7.05 B parameters, of which a token uses 2.71 B: a shared expert and 6 of 29, each of width 768.

    Not a published model; the recipe is that of XL.
    """
    model = shape(2560, 20, 16, vocab_size, context).model_copy(
        update={"feed_forward": 768, "experts": Experts(count=29, active=6, width=768)}
    )
    return xl(vocab_size, context).model_copy(update={"name": "experts", "model": model})


def sft(model: ModelConfig, context: int, objective: Objective, precision: Precision) -> TrainConfig:
    """Fine-tuning of a trained model on packs of that context: batches of 32,768 tokens, all weights, no warm-up.

    The settings are those of sapientinc/HRM-Text, config/cfg_sft.yaml: it makes 5 epochs of such batches. The moving
    average spans 1,000 steps; a run of fewer steps needs a lower `ema_decay`.
    """
    return TrainConfig(
        name="sft",
        model=model,
        batch_packs=batch_of(32_768, context),
        lr=3e-5,
        warmup_steps=0,
        lr_min_ratio=0.1,
        ema_decay=0.999,
        bp_warmup=0,
        objective=objective,
        precision=precision,
        checkpoint_steps=100,
        validation_steps=100,
    )


def batch_of(tokens: int, context: int) -> int:
    """Number of packs with about `tokens` token slots in total; at least one."""
    return max(1, round(tokens / (context - 1)))


CONFIGS: dict[str, Callable[[int, int], TrainConfig]] = {
    "tiny": tiny,
    "b": b,
    "l": l,
    "xl": xl,
    "xxl": xxl,
    "xxl_wide": xxl_wide,
    "experts": experts,
}
