"""Principia: problems of physics and mathematics with answers, both made by models, `synth,direct`. All splits."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipelines.formats.pairs import raw
from pipelines.formats.reading import read, text
from pipelines.sources.source import HUB, Source, on_hub


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text("problem_statement", "answer")):
        yield raw(rows, rows["problem_statement"], rows["answer"], "synth,direct")


PRINCIPIA = Source(
    name="principia",
    title="Principia collection",
    home=HUB + "facebook/principia-collection",
    revision="main",
    licence="unknown",
    conditions=("synth,direct",),
    path=on_hub("facebook/principia-collection", "**/*.parquet"),
    part="mathematics",
    read=_read,
)
