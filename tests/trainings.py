"""A training made for tests, on a corpus that a recipe builds."""

from __future__ import annotations

from pathlib import Path

import torch

from flows.configure import configure
from pipelines.curate import curate
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.recipe import load
from tests.steps import record_run
from training import loop
from training.provenance import find_packs


def train_on(root: Path, text: str, steps: int = 3, checkpoint_steps: int = 2) -> str:
    """Build the recipe `text` in `root` and train `tiny` on its packs: three steps, checkpoints after 2 and 3.

    Returns the training folder, `<root>/training/one`.
    """
    torch.set_num_threads(1)
    (root / "recipe.yaml").write_text(text)
    recipe = load(str(root / "recipe.yaml"))
    run = Run(str(root), LocalEngine(1))
    record_run(run, recipe, curate(run, recipe), text)
    packs = find_packs("latest", str(root))
    config = configure("tiny", packs.shards, steps, [f"checkpoint_steps={checkpoint_steps}"])
    out = str(root / "training" / "one")
    loop.train(packs.shards, packs.tokenizer, config, out, packs.key)
    return out
