"""What does the corpus hold about given rows? Their source and scores."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from pipelines.ledger import storage
from pipelines.ledger.runs import RecordedRun


def scores(run: RecordedRun, rows: Sequence[str]) -> pa.Table:
    """What the corpus holds about rows, one line for each of `rows`: id, source, and its `score_*` columns.

    A row that the corpus does not hold has nulls. Only those columns of the corpus are read, a shard at a time.
    """
    wanted = pl.DataFrame({"id": list(rows)}, schema={"id": pl.String})
    matches = [wanted.clear().with_columns(source=pl.lit(None, pl.String))]
    for shard in run.records.shards:
        names = [name for name in storage.columns(shard.path) if name in ("id", "source") or name.startswith("score_")]
        table = pl.DataFrame(storage.read_parquet(shard.path, names))
        matches.append(table.join(wanted, on="id", how="semi"))
    return wanted.join(pl.concat(matches, how="diagonal"), on="id", how="left", maintain_order="left").to_arrow()
