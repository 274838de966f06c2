"""A recorded run whose corpus had many duplicates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pipelines.curate import curate
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import RecordedRun
from pipelines.recipe import load
from tests.pipelines.steps.duplicates.corpora import word
from tests.steps import record_run

RECIPE = """
name: twins
sources: [{name: s, path: part-*.jsonl, condition: direct}]
tokenizer: {vocab_size: 512}
sampling: {epochs: 1, context: 257}
"""


def drifting(rows: int) -> list[str]:
    """Texts most of which are an earlier one, with one of the first words changed, or in capitals, or as it is."""
    rng = np.random.default_rng(0)
    texts: list[list[str]] = []
    for _ in range(rows):
        kind = rng.random()
        if not texts or kind < 0.2:
            texts.append([word(number) for number in rng.integers(0, 50_000, 60).tolist()])
            continue
        words = list(texts[rng.integers(max(0, len(texts) - 40), len(texts))])
        if 0.28 <= kind < 0.35:
            words = [text.upper() for text in words]
        elif kind >= 0.35:
            words[rng.integers(20)] = word(int(rng.integers(0, 50_000)))
        texts.append(words)
    return [" ".join(words) for words in texts]


def build(folder: Path) -> RecordedRun:
    """Build and record a run over three files of such texts below `folder`."""
    texts = drifting(600)
    for part in range(3):
        lines = [json.dumps({"instruction": text, "response": "Yes."}) for text in texts[part::3]]
        (folder / f"part-{part}.jsonl").write_text("\n".join(lines))
    (folder / "twins.yaml").write_text(RECIPE)
    recipe = load(str(folder / "twins.yaml"))
    run = Run(str(folder / "root"), LocalEngine(1))
    return record_run(run, recipe, curate(run, recipe), RECIPE)
