"""WebInstruct-verified: questions from the web with short, verified answers, `direct`."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipelines.formats.pairs import raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import HUB, Source, on_hub


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text_columns("question", "answer")):
        yield raw(rows, rows["question"], rows["answer"], "direct")


WEBINSTRUCT_VERIFIED = Source(
    name="webinstruct_verified",
    title="WebInstruct-verified, train split",
    home=HUB + "TIGER-Lab/WebInstruct-verified",
    revision="main",
    licence="Apache-2.0",
    conditions=("direct",),
    path=on_hub("TIGER-Lab/WebInstruct-verified", "data/train-*.parquet"),
    part="web",
    read=_read,
)
