"""Scores that were made outside the build, by a model too large for it or by people."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from filters.scores.score import Score


class TableScore(Score):
    """Scores of rows by their ids, from a table that `winnow score` made, or from a file.

    path: of the table's folder, or of a Parquet, JSONL or CSV file with a column `id`. column: in that table, by
    default `score_<name>`, or else the name itself. A row that the table lacks has no score.
    """

    kind: Literal["table"] = "table"
    path: str
    column: str | None = None

    MAIN_KEY: ClassVar = "path"

    def parameters(self) -> dict[str, Any]:
        """Without the path: the step's key has the digest of what the table holds."""
        return {key: value for key, value in super().parameters().items() if key != "path"}
