"""The names of the configurations, known without importing torch."""

from __future__ import annotations

from pipelines.errors import WinnowError, nearest

CONFIG_NAMES = ("tiny", "b", "l", "xl", "xxl", "xxl_wide")
"""The keys of `training.configs.CONFIGS`."""


def check_config(name: str, option: str = "--config") -> None:
    """Raises: WinnowError: if there is no configuration of that name."""
    if name not in CONFIG_NAMES:
        raise WinnowError(f"{option} {name}: {nearest(name, CONFIG_NAMES)}")
