"""A data set for Hugging Face's `datasets`: `data/train-00000-of-00012.parquet` ..., one file per shard.

`datasets.load_dataset(folder)` loads or streams it.
"""

from __future__ import annotations

from pathlib import Path

import datasets

from pipelines.export.export import Exported, export_text
from pipelines.ledger.runs import RecordedRun


def export(run: RecordedRun, out: str) -> Exported:
    """Write the records of a run as Parquet files. Raises: as `export.Export`."""
    return export_text(run, out, _write)


def _write(dataset: datasets.Dataset, folder: Path, name: str) -> None:
    (folder / "data").mkdir(exist_ok=True)
    dataset.to_parquet(folder / "data" / f"{name}.parquet")
