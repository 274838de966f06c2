"""How many rows of each source are in files? Only that column is read."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.ledger import storage
from pipelines.ledger.storage import TableRef


def by_source(files: tuple[TableRef, ...]) -> Counter[str]:
    """Source -> rows in these files."""
    total: Counter[str] = Counter()
    for file in files:
        values = pc.value_counts(storage.read_parquet(file.path, ["source"])["source"])
        if isinstance(values, pa.StructArray):
            total.update(dict(zip(values.field("values").to_pylist(), values.field("counts").to_pylist(), strict=True)))
    return total
