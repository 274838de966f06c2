"""Scores that were made outside the build, by a model too large for it or by people."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import pyarrow as pa

from filters.scores.score import Score
from filters.text import TextField


class TableScore(Score):
    """Scores of rows by their ids, from a table that `winnow score` made, or from a file.

    path: of the table's folder, or of a Parquet, JSONL or CSV file with a column `id`. column: in that table, by
    default `score_<name>`, or else the name itself. values: `numbers`, or `names` for a column that names groups. A row
    that the table lacks has no score.
    """

    kind: Literal["table"] = "table"
    path: str
    column: str | None = None
    values: Literal["numbers", "names"] = "numbers"

    MAIN_KEY: ClassVar = "path"

    @property
    def columns(self) -> tuple[pa.Field, ...]:
        """A column of numbers, or of names."""
        return super().columns if self.values == "numbers" else (pa.field(self.name, pa.string()),)

    @property
    def reads(self) -> tuple[TextField, ...]:
        """None: a row is found by its id."""
        return ()

    def parameters(self) -> dict[str, Any]:
        """Without the path: the step's key has the digest of what the table holds."""
        return {key: value for key, value in super().parameters().items() if key != "path"}
