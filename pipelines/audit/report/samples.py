"""Which rows stand for a step? Some of its rows, spread over its files, read a file at a time.

A large step has more files than a report should read. Those that are read are spread evenly over all of them, until
their size reaches a limit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.storage import TableRef

MAX_BYTES = 64 << 20
"""Bytes of files that are read of a step, compressed: some two seconds."""


LOOKED_AT = 8
"""Files of a step that are opened to tell what reading it takes: a selection is small, and the file behind it not."""


def some_files(files: Sequence[TableRef], max_bytes: int = MAX_BYTES) -> list[TableRef]:
    """Files spread evenly over these, which take about `max_bytes` to read; all of them where that is less."""
    total = sum(file.bytes for file in files)
    if files:
        looked_at = _spread(files, LOOKED_AT)
        rows = max(1, sum(file.rows for file in looked_at))
        total = max(total, sum(map(storage.bytes_to_read, looked_at)) * sum(file.rows for file in files) // rows)
    return list(files) if total <= max_bytes else _spread(files, int(len(files) * max_bytes / total))


def _spread(files: Sequence[TableRef], wanted: int) -> list[TableRef]:
    """So many of the files, one at least, spread evenly."""
    if len(files) <= wanted:
        return list(files)
    return [files[at] for at in np.linspace(0, len(files) - 1, max(1, wanted)).astype(int).tolist()]


def sample(step: Manifest, rows: int, columns: Sequence[str], max_bytes: int = MAX_BYTES) -> pl.DataFrame:
    """Up to `rows` rows that a step kept, spread evenly over the rows of `some_files`, in their order."""
    files = [file for file in some_files(step.shards, max_bytes) if file.rows]
    total = sum(file.rows for file in files)
    if not total:
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    places = np.unique(np.linspace(0, total - 1, min(rows, total)).astype(np.int64))
    found, first = [], 0
    for file in files:
        own = places[(places >= first) & (places < first + file.rows)] - first
        first += file.rows
        if len(own):
            table = pl.DataFrame(storage.read_parquet(file.path, list(columns)))
            found.append(table[own[own < table.height]])
    return pl.concat(found)
