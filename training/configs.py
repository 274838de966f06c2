"""Complete training configurations, each a function of the data's vocabulary and context.

    CONFIGS["xl"](65536, 4097)  ->  everything there is to say about that run

B, L, XL, XXL and XXL_wide have the published shapes, L and XL the published recipes (arXiv 2605.20613). `tiny` learns
something in a minute on two CPU cores. A variant is `config.model_copy(update={...})`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from training.model import ModelConfig

Precision = Literal["fp32", "bf16"]
Objective = Literal["prefix_lm", "causal", "causal_all"]
"""prefix_lm: P(a|q), the tokens of the question all seeing each other. causal: P(a|q), each token seeing what went
before it. causal_all: P(x), causal with the question predicted as well, as pretraining on plain text has it."""
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


class TrainConfig(BaseModel):
    """What a run does with its data. Together with the shards it determines every loss (on one kind of hardware)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model: ModelConfig
    batch_packs: int = Field(ge=1)  # packs in a global batch, whatever the number of workers
    steps: int | None = Field(default=None, ge=1)  # None: all the packs there are; else stop there
    lr: float = Field(gt=0)
    warmup_steps: int = Field(default=2000, ge=0)  # the rate climbs linearly, then stays
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    ema_decay: float = 0.9999
    bp_warmup: float = Field(default=0.2, ge=0, le=1)  # share of the steps over which bp_steps climbs from 2 to 5
    objective: Objective = "prefix_lm"
    precision: Precision = "bf16"  # of the forward and backward pass; master weights are fp32
    seed: int = 0
    start: str | None = None  # a checkpoint or a model folder of transformers, with whose weights it begins
    checkpoint_steps: int = Field(default=1000, ge=1)
    checkpoint_minutes: float | None = Field(default=None, gt=0)  # and whenever so much time has passed
    keep: int = Field(default=3, ge=1)
    validation_steps: int = Field(default=1000, ge=1)  # and after the last step
    validation_packs: int = Field(default=256, ge=1)  # at most
    sharded: bool = True  # of several workers each holds a piece of the model (FSDP2), not all of it


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate of `step`, counted from 1."""
    return config.lr * min(1.0, step / config.warmup_steps) if config.warmup_steps else config.lr


def bp_steps(config: TrainConfig, step: int, total_steps: int) -> int:
    """How many module calls `step` (from 1) differentiates: 2, 3, 4 for a third of the warm-up each, then 5."""
    warmup = config.bp_warmup * total_steps
    return 2 + math.floor(min(1.0, step / warmup if warmup else 1.0) * 3)


def feed_forward_width(hidden: int, expansion: float = 4.0) -> int:
    """SwiGLU's width: two thirds of `expansion * hidden`, rounded up to a multiple of 256."""
    return math.ceil(round(expansion * hidden * 2 / 3) / 256) * 256


def padded_vocabulary(size: int) -> int:
    """The rows of embedding and head for a tokenizer of `size` entries: a multiple of 256."""
    return math.ceil(size / 256) * 256


def shape(hidden: int, heads: int, blocks: int, vocab_size: int, context: int) -> ModelConfig:
    """A model for sequences of up to `context` tokens, of which it reads all but the last."""
    return ModelConfig(
        vocab_size=padded_vocabulary(vocab_size),
        hidden=hidden,
        heads=heads,
        feed_forward=feed_forward_width(hidden),
        blocks=blocks,
        max_positions=context - 1,
    )


def tiny(vocab_size: int, context: int) -> TrainConfig:
    """1.1 M parameters beside the vocabulary, 500 small batches: about a minute on two cores.

    A short run wants other numbers than a long one. The average of upstream (decay 0.9999) looks back over 10,000
    steps: after 500 it would still be the random initial weights, so 0.98 looks back over 50. Steps teach more than
    large batches here, hence some 512 tokens in each. Of the rates 0.5, 1, 2 and 4e-3 the second learnt most (mean loss
    of the last fifth of 480 steps on generated problems: 1.60, 1.41, 1.51, 2.02).
    """
    return TrainConfig(
        name="tiny",
        model=shape(hidden=128, heads=2, blocks=2, vocab_size=vocab_size, context=context),
        batch_packs=2 * batch_of(256, context),
        steps=500,
        lr=1e-3,
        warmup_steps=30,
        ema_decay=0.98,
        precision="fp32",
        checkpoint_steps=100,
        keep=2,
        validation_steps=50,
        validation_packs=16 * batch_of(256, context),  # more would take longer than the steps between
        sharded=False,
    )


def b(vocab_size: int, context: int) -> TrainConfig:
    """300 M parameters at a vocabulary of 65,536. No recipe was published for it: this is L's."""
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
    """3.27 B parameters, deep. No recipe was published for it: this is XL's."""
    return xl(vocab_size, context).model_copy(
        update={"name": "xxl", "model": shape(1792, 14, 36, vocab_size, context)},
    )


def xxl_wide(vocab_size: int, context: int) -> TrainConfig:
    """3.08 B parameters, wide. No recipe was published for it: this is XL's."""
    return xl(vocab_size, context).model_copy(
        update={"name": "xxl_wide", "model": shape(2560, 20, 16, vocab_size, context)},
    )


def batch_of(tokens: int, context: int) -> int:
    """Packs that hold `tokens` token slots; at least one."""
    return max(1, round(tokens / (context - 1)))


CONFIGS: dict[str, Callable[[int, int], TrainConfig]] = {
    "tiny": tiny,
    "b": b,
    "l": l,
    "xl": xl,
    "xxl": xxl,
    "xxl_wide": xxl_wide,
}
