"""Which rows of a run's corpus are similar to a text? The index is made with a pool of local processes."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict

from flows.console import current_console
from pipelines.audit.similar import SimilarRow, found_share, settings_of
from pipelines.audit.similar import similar as find_similar
from pipelines.errors import WinnowError
from pipelines.ledger import storage
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.run import Run
from pipelines.ledger.runs import open_run

CURVE_PERCENT = (50, 60, 70, 80, 90)
"""Jaccard similarities in percent for which the answer gives the share of rows that are found."""


class SimilarAnswer(BaseModel):
    """The rows of a corpus that are similar to a text. `winnow similar --json` prints it.

    rows: of the corpus. candidates: rows that the index returned. fields, ngram, unit: how texts are compared.
    found_share: Jaccard -> share of the rows with it that the search finds. matches: the highest Jaccard first.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    rows: int
    candidates: int
    fields: tuple[str, ...]
    ngram: int
    unit: str
    found_share: dict[str, float]
    matches: tuple[SimilarRow, ...]


def similar(
    run: str,
    text: str,
    on: Literal["instruction", "response", "both"] | None = None,
    top: int = 5,
    root: str = "./winnow-data",
) -> SimilarAnswer:
    """The `top` rows of a run's corpus that are most similar to a text. The first call for a corpus makes an index.

    on: which fields of the rows are compared, by default those that the recipe's near duplicates compare.

    Raises: WinnowError: if there is no such run, or the text is too short.
    """
    recorded = open_run(root, run)
    fields, ngram, unit = settings_of(recorded, on)
    workers = max(1, min(len(recorded.records.shards), os.cpu_count() or 1))
    with LocalEngine(workers) as engine, current_console() as console:
        steps = Run(root, engine, watch=console.watch)
        result = find_similar(steps, recorded.records, text, fields, ngram, unit, top)
    return SimilarAnswer(
        run=recorded.id,
        rows=result.rows,
        candidates=result.candidates,
        fields=fields,
        ngram=ngram,
        unit=unit,
        found_share={f"{percent / 100:.1f}": round(found_share(percent / 100), 4) for percent in CURVE_PERCENT},
        matches=tuple(match.model_copy(update={"jaccard": round(match.jaccard, 4)}) for match in result.matches),
    )


def read_text(path: str) -> str:
    """The text of a UTF-8 file.

    Raises: WinnowError: if there is no such file, or it is not UTF-8.
    """
    if not storage.exists(path):
        raise WinnowError(f"--file {path}: no such file")
    try:
        return storage.read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise WinnowError(f"--file {path}: not UTF-8 ({error})") from error
