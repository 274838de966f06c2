"""What would training on a recipe's tokens cost? The recipe gives the tokens, `training.cost` the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from flows.configure import with_settings
from pipelines.errors import WinnowError
from pipelines.plan import Plan
from pipelines.recipe import Recipe
from training.configs import CONFIGS, TrainConfig, sft
from training.cost import H100_PEAK, PUBLISHED_MFU, PUBLISHED_TOKENS, Cost, cost
from training.names import CONFIG_NAMES, check_training

HRM_TEXT_VOCABULARY, HRM_TEXT_CONTEXT = 65_536, 4097
"""Vocabulary and context (tokens) of HRM-Text, for a cost without a recipe."""


class TrainingCost(BaseModel):
    """The cost of a training.

    price: dollars per GPU-hour. mfu: share of the peak that is used. peak_flops: of one GPU, dense bf16, per second.
    active_parameters: that a token uses in a forward pass. flops: of the whole training. state_bytes ... memory_bytes:
    per GPU, with `micro_packs` packs computed together; `memory_bytes` is the sum of the four others. fits: whether
    that is within the memory of an H100.
    """

    model_config = ConfigDict(frozen=True)

    config: str
    gpus: int
    price: float
    mfu: float
    peak_flops: float
    parameters: int
    active_parameters: int
    tokens: int
    flops: float
    hours: float
    gpu_hours: float
    dollars: float
    state_bytes: int
    weights_bytes: int
    activation_bytes: int
    logit_bytes: int
    memory_bytes: int
    micro_packs: int
    fits: bool

    @property
    def cost(self) -> Cost:
        """The part that `training.cost` computes."""
        return Cost(*(getattr(self, name) for name in Cost._fields))


class BuildPlan(Plan):
    """The plan of a build, and of a training on its tokens if one is asked for. `winnow plan --json` prints it."""

    training: TrainingCost | None = Field(default=None, exclude_if=lambda value: value is None)


class TrainingPlan(BaseModel):
    """The plan of a training without a recipe. `winnow plan --train NAME --json` prints it."""

    model_config = ConfigDict(frozen=True)

    training: TrainingCost


def training_config(
    name: str, recipe: Recipe | None, start: str | None = None, settings: Sequence[str] = ()
) -> TrainConfig:
    """The configuration of that name, for the vocabulary and context of the recipe, or else of HRM-Text.

    start: folder of the model to start from; `sft` has its shape, and without a recipe its context. settings:
    `key=value`, overriding the configuration.

    Raises: WinnowError: for an unknown configuration, or `sft` without a model to start from.
    """
    check_training(name, start, "--train")
    if name not in CONFIG_NAMES:
        from training.initial import read_base

        base = read_base(start or "")
        context = recipe.sampling.context if recipe else base.model.max_positions + 1
        config = sft(base.model, context, base.objective, base.precision)
    else:
        vocabulary = recipe.tokenizer.vocab_size if recipe else HRM_TEXT_VOCABULARY
        config = CONFIGS[name](vocabulary, recipe.sampling.context if recipe else HRM_TEXT_CONTEXT)
    return with_settings(config, settings, start)


def training_cost(
    name: str,
    recipe: Recipe | None,
    recipe_tokens: int | None,
    tokens: float | None,
    gpus: int,
    price: float,
    mfu: float | None,
    peak_tflops: float | None,
    start: str | None = None,
    settings: Sequence[str] = (),
) -> TrainingCost:
    """The cost of training the configuration `name`.

    recipe_tokens: of one epoch of the recipe, as `pipelines.plan` estimates them. tokens: to train on, by default those
    of all epochs of the recipe, or without a recipe those that HRM-Text was trained on. price: dollars per GPU-hour.
    mfu: by default that of HRM-Text's published runs. peak_tflops: of one GPU, by default of an H100. start,
    settings: as `training_config`.

    Raises: WinnowError: for an unknown configuration, or if the number of tokens is unknown.
    """
    config = training_config(name, recipe, start, settings)
    if tokens is None and recipe:
        tokens = (recipe_tokens or 0) * recipe.sampling.epochs
    total = PUBLISHED_TOKENS if tokens is None else int(tokens)
    if not total:
        raise WinnowError("--train: the size of the recipe's sources is unknown; give the tokens: --tokens 1e9")
    utilisation, peak = mfu or PUBLISHED_MFU, (peak_tflops * 1e12 if peak_tflops else H100_PEAK)
    result = cost(config, total, gpus, price, utilisation, peak)
    return TrainingCost(
        config=name, gpus=gpus, price=price, mfu=utilisation, peak_flops=peak, **result._asdict()
    )  # fmt: skip
