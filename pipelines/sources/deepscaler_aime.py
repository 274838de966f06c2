"""AIME 1983 to 2023 from DeepScaleR: each problem with the wiki's solution (`noisy,cot`) and the answer (`direct`)."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipelines.formats.pairs import interleave, raw
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import Source


def _read(path: str) -> Iterator[pa.Table]:
    for rows in read(path, text_columns("problem", "solution", "answer")):
        solved = raw(rows, rows["problem"], rows["solution"], "noisy,cot")
        yield interleave([solved, raw(rows, rows["problem"], rows["answer"], "direct", "direct")])


DEEPSCALER_AIME = Source(
    name="deepscaler_aime",
    title="AIME 1983-2023 (DeepScaleR)",
    home="https://github.com/agentica-project/deepscaler",
    revision="unknown",
    licence="MIT",
    generators=(),
    conditions=("noisy,cot", "direct"),
    overlaps=("aime/train", "math/test", "math/train"),
    read=_read,
)
