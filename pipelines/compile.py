"""`python -m pipelines.compile`: compile every Numba kernel into its cache, by a small build in a folder that goes.

Kernels compile on first use, about a minute in all. Each worker of a first build would pay it; an install pays once.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipelines.curate import curate
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.recipe import load

RECIPE = Path(__file__).parent / "recipes" / "demo.yaml"
ROWS = 60
"""Of each source: enough that every kernel sees a row."""


def main() -> None:
    """Build the demo's recipe on its first rows."""
    recipe = load(str(RECIPE), ["sampling.epochs=1"])
    few = recipe.model_copy(update={"sources": tuple(one.model_copy(update={"rows": ROWS}) for one in recipe.sources)})
    with tempfile.TemporaryDirectory() as root, LocalEngine() as engine:
        curate(Run(root, engine), few)


if __name__ == "__main__":
    main()
