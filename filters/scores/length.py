"""The length of a text as a score: the control that any other score has to beat."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from filters.scores.score import Score
from filters.text import On, TextField, fields


class LengthScore(Score):
    """How long a record is, in bytes.

    on: `instruction`, `response` or `both`.
    """

    kind: Literal["length"] = "length"
    on: On = "response"

    @property
    def reads(self) -> tuple[TextField, ...]:
        """The fields of `on`."""
        return fields(self.on)

    def measure(self, records: pa.Table, model: str | None = None) -> pa.Table:
        """Bytes [rows]."""
        sizes = [pc.binary_length(records[name]).cast(pa.int64()) for name in self.reads]
        total = sizes[0] if len(sizes) == 1 else pc.add(*sizes)
        return pa.table([total.cast(pa.float32())], schema=pa.schema(self.columns))
