"""`python -m pipelines.compile`: compile every Numba kernel into its cache, by small builds in temporary folders.

Compiling takes two or three minutes of a core. Done at installation, the workers of the first build do not each pay it.
Two processes share it: the check against benchmarks has half of the code, and few kernels in common with the rest.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from pathlib import Path

from pipelines.curate import SCAN_STEPS, STEPS, curate
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.recipe import load

RECIPE = Path(__file__).parent / "recipes" / "demo.yaml"

ROWS_PER_SOURCE = 60
"""Enough that every kernel processes a row."""


def compile_kernels(scan: bool) -> None:
    """Build the demo's recipe on the first rows of its sources: with `scan`, only the check against benchmarks, else
    all but that."""
    recipe = load(str(RECIPE), ["sampling.epochs=1"])
    update: dict[str, object] = {} if scan else {"contamination": False}
    update["sources"] = tuple(source.model_copy(update={"rows": ROWS_PER_SOURCE}) for source in recipe.sources)
    with tempfile.TemporaryDirectory() as root:
        run = Run(root, LocalEngine(1))
        curate(run, recipe.model_copy(update=update), steps=SCAN_STEPS if scan else STEPS)


def main() -> None:
    """Compile in two processes."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(compile_kernels, (True, False), chunksize=1)


if __name__ == "__main__":
    main()
