"""`python -m pipelines.compile`: compile every Numba kernel into its cache, by a small build in a temporary folder.

Compiling takes about a minute in total. Done at installation, the workers of the first build do not each pay it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipelines.curate import curate
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.recipe import load

RECIPE = Path(__file__).parent / "recipes" / "demo.yaml"

ROWS_PER_SOURCE = 60
"""Enough that every kernel processes a row."""


def main() -> None:
    """Build the demo's recipe on the first rows of its sources."""
    recipe = load(str(RECIPE), ["sampling.epochs=1"])
    sources = tuple(source.model_copy(update={"rows": ROWS_PER_SOURCE}) for source in recipe.sources)
    with tempfile.TemporaryDirectory() as root, LocalEngine() as engine:
        curate(Run(root, engine), recipe.model_copy(update={"sources": sources}))


if __name__ == "__main__":
    main()
