"""JSON lines: `train-00000-of-00012.jsonl` ..., one file per shard and one object per record.

The keys `condition`, `instruction` and `response` are those that HRM-Text reads.
"""

from __future__ import annotations

from pathlib import Path

import datasets

from pipelines.export.export import Exported, export_text
from pipelines.ledger.runs import RecordedRun


def export(run: RecordedRun, out: str) -> Exported:
    """Write the records of a run as JSON lines. Raises: as `export.Export`."""
    return export_text(run, out, _write)


def _write(dataset: datasets.Dataset, folder: Path, name: str) -> None:
    dataset.to_json(folder / f"{name}.jsonl", lines=True, force_ascii=False)
