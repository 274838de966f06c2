"""The names of the configurations, known without importing torch."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.errors import WinnowError, nearest

CONFIG_NAMES = ("tiny", "b", "l", "xl", "xxl", "xxl_wide", "experts")
"""The keys of `training.configs.CONFIGS`: configurations with a shape of their own."""

FINE_TUNING = "sft"
"""The configuration for fine-tuning. It has the shape of the model that it starts from."""

TRAINING_NAMES = (*CONFIG_NAMES, FINE_TUNING)


def check_config(name: str, option: str = "--config", names: Sequence[str] = CONFIG_NAMES) -> None:
    """Raises: WinnowError: if there is no configuration of that name."""
    if name not in names:
        raise WinnowError(f"{option} {name}: {nearest(name, names)}")


def check_training(name: str, start: str | None, option: str = "--config") -> None:
    """Check the name of a configuration to train. start: the model that the training starts from, if any.

    Raises: WinnowError: if there is no configuration of that name, or it needs a model to start from.
    """
    check_config(name, option, TRAINING_NAMES)
    if name == FINE_TUNING and start is None:
        raise WinnowError(
            f"{option} {name}: fine-tuning starts from a trained model; name it with --from: a checkpoint's folder, a "
            "training folder, `latest`, or a transformers folder"
        )
