"""The run as OpenLineage events, `lineage.jsonl`: those that were recorded when its steps were made."""

from __future__ import annotations

from pipelines.errors import CheckFailed
from pipelines.export.export import Exported, check_rows, exported, new_folder
from pipelines.ledger import storage
from pipelines.ledger.runs import LINEAGE, RecordedRun


def export(run: RecordedRun, out: str) -> Exported:
    """Write the events of a run. Raises: as `export.Export`."""
    check_rows(run)
    path = storage.join(run.folder, LINEAGE)
    if not storage.exists(path):
        raise CheckFailed(f"{path}: missing; build the recipe again")
    with new_folder(out) as folder:
        (folder / LINEAGE).write_bytes(storage.read_bytes(path))
    return exported(out, run.records.rows_kept or 0)
