"""A data set for Hugging Face's `datasets`: `data/train-00000-of-00012.parquet` ..., one file per shard, with its card
(`README.md`) and its description (`croissant.json`).

`datasets.load_dataset(folder)` loads or streams it.
"""

from __future__ import annotations

from pathlib import Path

import datasets

from pipelines.export import card, croissant
from pipelines.export.export import Exported, export_text
from pipelines.export.facts import facts
from pipelines.ledger.runs import RecordedRun


def export(run: RecordedRun, out: str) -> Exported:
    """Write the records of a run as Parquet files, with its documents. Raises: as `export.Export`."""

    def describe(folder: Path) -> None:
        known = facts(run)
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
        (folder / card.NAME).write_text(card.card(known), encoding="utf-8")
        (folder / croissant.NAME).write_text(croissant.croissant(known, folder, files), encoding="utf-8")

    return export_text(run, out, _write, describe)


def _write(dataset: datasets.Dataset, folder: Path, name: str) -> None:
    (folder / "data").mkdir(exist_ok=True)
    dataset.to_parquet(folder / "data" / f"{name}.parquet")
