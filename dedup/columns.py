"""Arrow columns as single arrays."""

from __future__ import annotations

import pyarrow as pa


def as_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as one array [rows]. Copies only if the column has several chunks."""
    if isinstance(column, pa.Array):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
