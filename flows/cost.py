"""What training on a recipe's tokens would cost: the recipe says how many, `training.cost` does the arithmetic."""

from __future__ import annotations

from typing import Any

from pipelines.errors import WinnowError, nearest
from pipelines.recipe import Recipe
from training.configs import CONFIGS
from training.cost import H100_PEAK, PUBLISHED_MFU, PUBLISHED_TOKENS, cost, cost_lines


def training_cost(
    name: str,
    recipe: Recipe | None,
    recipe_tokens: int | None,
    tokens: float | None,
    gpus: int,
    price: float,
    mfu: float | None,
    peak_tflops: float | None,
) -> tuple[dict[str, Any], list[str]]:
    """The cost of training the configuration `name`, as a JSON object and in lines.

    recipe: gives vocabulary and context (HRM-Text's without one). recipe_tokens: of one epoch, as the plan reckons
    them; `tokens` overrides them. price: dollars per GPU-hour. Raises WinnowError for an unknown configuration, or
    where nobody knows how many tokens there are.
    """
    if name not in CONFIGS:
        raise WinnowError(f"--train {name}: {nearest(name, CONFIGS)}")
    vocabulary, context = (recipe.tokenizer.vocab_size, recipe.sampling.context) if recipe else (65_536, 4097)
    if tokens is None and recipe:
        tokens = (recipe_tokens or 0) * recipe.sampling.epochs
    count = PUBLISHED_TOKENS if tokens is None else int(tokens)
    if not count:
        raise WinnowError("--train: the recipe's sources hold no text that can be measured; say how many --tokens")
    config = CONFIGS[name](vocabulary, context)
    share, peak = mfu or PUBLISHED_MFU, (peak_tflops * 1e12 if peak_tflops else H100_PEAK)
    made = cost(config, count, gpus, price, share, peak)
    answer = {"config": name, "gpus": gpus, "price": price, "mfu": share, "peak_flops": peak, **made._asdict()}
    return answer, cost_lines(config, made, gpus, price, share, peak)
