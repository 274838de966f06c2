"""Winnow from Python: build a corpus, or filter, deduplicate and scan rows in memory.

>>> import winnow
>>> winnow.deduplicate(["The sea is blue today.", "The sea is blue today.", "Snow is white."]).kept.tolist()
[True, False, True]

docs/python.md shows each function. Importing this module is cheap; what a function needs is imported when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from flows.build import BuildAnswer
    from pipelines.errors import WinnowError
    from pipelines.memory.functions import Duplicates, Filtered, Scanned, deduplicate, filter, scan, strip_thinking
    from pipelines.recipe import Recipe

__all__ = [
    "BuildAnswer",
    "Duplicates",
    "Filtered",
    "Scanned",
    "WinnowError",
    "build",
    "deduplicate",
    "filter",
    "scan",
    "strip_thinking",
]

_HOMES = {"BuildAnswer": "flows.build", "WinnowError": "pipelines.errors"}


def build(
    recipe: str | Mapping[str, Any] | Recipe,
    root: str = "./winnow-data",
    *,
    engine: Literal["ray", "local"] = "local",
    workers: int | None = None,
    settings: Sequence[str] = (),
) -> BuildAnswer:
    """Build a corpus from a recipe, as `winnow build` does. Finished steps are reused.

    recipe: path of a YAML file, the name of an installed recipe (`demo`), its content as a mapping, or a recipe.
    Relative paths in a mapping are relative to the working directory. root: folder or object-store URL. workers: shards
    processed at a time, by default one per CPU. settings: overrides, `path.to.key=value`.

    Raises: WinnowError: for a mistake in the recipe or its inputs, or if a step fails.
    """
    from flows import build as builds
    from pipelines.recipe import of_values

    if isinstance(recipe, Mapping):
        recipe, settings = of_values(recipe, settings), ()
    return builds.build(recipe, root, engine, workers, tuple(settings))


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'winnow' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES.get(name, "pipelines.memory.functions")), name)


def __dir__() -> list[str]:
    return __all__
